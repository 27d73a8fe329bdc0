//! Names of segments and fields (HL7 v2.6, PRT from v2.7), for explanations. A field or segment that is not here has
//! no name, which stops nothing.

/// The name of a segment.
pub(super) fn segment_name(id: &str) -> Option<&'static str> {
    SEGMENTS.iter().find(|segment| segment.0 == id).map(|segment| segment.1)
}

/// The name of field `n` of a segment.
pub(super) fn field_name(id: &str, n: usize) -> Option<&'static str> {
    let names = SEGMENTS.iter().find(|segment| segment.0 == id)?.2;
    names.get(n.checked_sub(1)?).copied().filter(|name| !name.is_empty())
}

type Segment = (&'static str, &'static str, &'static [&'static str]);

const SEGMENTS: &[Segment] = &[
    ("MSH", "Message Header", MSH),
    ("MSA", "Message Acknowledgment", MSA),
    ("ERR", "Error", ERR),
    ("PID", "Patient Identification", PID),
    ("PV1", "Patient Visit", PV1),
    ("ORC", "Common Order", ORC),
    ("OBR", "Observation Request", OBR),
    ("OBX", "Observation/Result", OBX),
    (
        "NTE",
        "Notes and Comments",
        &["Set ID", "Source of Comment", "Comment", "Comment Type", "Entered By", "Entered Date/Time"],
    ),
    ("PRT", "Participation Information", PRT),
    ("TQ1", "Timing/Quantity", TQ1),
    ("RXG", "Pharmacy/Treatment Give", RXG),
    (
        "RXR",
        "Pharmacy/Treatment Route",
        &["Route", "Administration Site", "Administration Device", "Administration Method"],
    ),
    (
        "UAC",
        "User Authentication Credential",
        &["User Authentication Credential Type Code", "User Authentication Credential"],
    ),
    ("PD1", "Patient Additional Demographic", &[]),
    ("NK1", "Next of Kin", &[]),
    (
        "SFT",
        "Software",
        &["Software Vendor Organization", "Software Certified Version", "Software Product Name", "Software Binary ID"],
    ),
];

const MSH: &[&str] = &[
    "Field Separator",
    "Encoding Characters",
    "Sending Application",
    "Sending Facility",
    "Receiving Application",
    "Receiving Facility",
    "Date/Time of Message",
    "Security",
    "Message Type",
    "Message Control ID",
    "Processing ID",
    "Version ID",
    "Sequence Number",
    "Continuation Pointer",
    "Accept Acknowledgment Type",
    "Application Acknowledgment Type",
    "Country Code",
    "Character Set",
    "Principal Language of Message",
    "Alternate Character Set Handling Scheme",
    "Message Profile Identifier",
    "Sending Responsible Organization",
    "Receiving Responsible Organization",
    "Sending Network Address",
    "Receiving Network Address",
];
const MSA: &[&str] =
    &["Acknowledgment Code", "Message Control ID", "Text Message", "Expected Sequence Number", "", "Error Condition"];
const ERR: &[&str] = &[
    "Error Code and Location",
    "Error Location",
    "HL7 Error Code",
    "Severity",
    "Application Error Code",
    "Application Error Parameter",
    "Diagnostic Information",
    "User Message",
];
const PID: &[&str] = &[
    "Set ID",
    "Patient ID",
    "Patient Identifier List",
    "Alternate Patient ID",
    "Patient Name",
    "Mother's Maiden Name",
    "Date/Time of Birth",
    "Administrative Sex",
    "Patient Alias",
    "Race",
    "Patient Address",
    "County Code",
    "Phone Number - Home",
    "Phone Number - Business",
    "Primary Language",
    "Marital Status",
    "Religion",
    "Patient Account Number",
    "SSN Number",
    "Driver's License Number",
    "Mother's Identifier",
    "Ethnic Group",
    "Birth Place",
    "Multiple Birth Indicator",
    "Birth Order",
    "Citizenship",
    "Veterans Military Status",
    "Nationality",
    "Patient Death Date and Time",
    "Patient Death Indicator",
    "Identity Unknown Indicator",
];
const PV1: &[&str] = &[
    "Set ID",
    "Patient Class",
    "Assigned Patient Location",
    "Admission Type",
    "Preadmit Number",
    "Prior Patient Location",
    "Attending Doctor",
    "Referring Doctor",
    "Consulting Doctor",
    "Hospital Service",
    "Temporary Location",
    "Preadmit Test Indicator",
    "Re-admission Indicator",
    "Admit Source",
    "Ambulatory Status",
    "VIP Indicator",
    "Admitting Doctor",
    "Patient Type",
    "Visit Number",
];
const ORC: &[&str] = &[
    "Order Control",
    "Placer Order Number",
    "Filler Order Number",
    "Placer Group Number",
    "Order Status",
    "Response Flag",
    "Quantity/Timing",
    "Parent Order",
    "Date/Time of Transaction",
    "Entered By",
    "Verified By",
    "Ordering Provider",
    "Enterer's Location",
    "Call Back Phone Number",
    "Order Effective Date/Time",
    "Order Control Code Reason",
    "Entering Organization",
    "Entering Device",
    "Action By",
];
const OBR: &[&str] = &[
    "Set ID",
    "Placer Order Number",
    "Filler Order Number",
    "Universal Service Identifier",
    "Priority",
    "Requested Date/Time",
    "Observation Date/Time",
    "Observation End Date/Time",
    "Collection Volume",
    "Collector Identifier",
    "Specimen Action Code",
    "Danger Code",
    "Relevant Clinical Information",
    "Specimen Received Date/Time",
    "Specimen Source",
    "Ordering Provider",
    "Order Callback Phone Number",
    "Placer Field 1",
    "Placer Field 2",
    "Filler Field 1",
    "Filler Field 2",
    "Results Rpt/Status Chng - Date/Time",
    "Charge to Practice",
    "Diagnostic Serv Sect ID",
    "Result Status",
    "Parent Result",
    "Quantity/Timing",
    "Result Copies To",
    "Parent",
];
const OBX: &[&str] = &[
    "Set ID",
    "Value Type",
    "Observation Identifier",
    "Observation Sub-ID",
    "Observation Value",
    "Units",
    "References Range",
    "Abnormal Flags",
    "Probability",
    "Nature of Abnormal Test",
    "Observation Result Status",
    "Effective Date of Reference Range",
    "User Defined Access Checks",
    "Date/Time of the Observation",
    "Producer's ID",
    "Responsible Observer",
    "Observation Method",
    "Equipment Instance Identifier",
    "Date/Time of the Analysis",
    "Observation Site",
    "Observation Instance Identifier",
    "Mood Code",
    "Performing Organization Name",
    "Performing Organization Address",
    "Performing Organization Medical Director",
];
const PRT: &[&str] = &[
    "Participation Instance ID",
    "Action Code",
    "Action Reason",
    "Participation",
    "Participation Person",
    "Participation Person Provider Type",
    "Participant Organization Unit Type",
    "Participation Organization",
    "Participant Location",
    "Participation Device",
    "Participation Begin Date/Time",
    "Participation End Date/Time",
    "Participation Qualitative Duration",
    "Participation Address",
    "Participant Telecommunication Address",
];
const TQ1: &[&str] = &[
    "Set ID",
    "Quantity",
    "Repeat Pattern",
    "Explicit Time",
    "Relative Time and Units",
    "Service Duration",
    "Start Date/Time",
    "End Date/Time",
    "Priority",
];
const RXG: &[&str] = &[
    "Give Sub-ID Counter",
    "Dispense Sub-ID Counter",
    "Quantity/Timing",
    "Give Code",
    "Give Amount - Minimum",
    "Give Amount - Maximum",
    "Give Units",
    "Give Dosage Form",
    "Administration Notes",
    "Substitution Status",
    "Dispense-to Location",
    "Needs Human Review",
    "Special Administration Instructions",
    "Give Per (Time Unit)",
    "Give Rate Amount",
    "Give Rate Units",
    "Give Strength",
    "Give Strength Units",
    "Substance Lot Number",
    "Substance Expiration Date",
    "Substance Manufacturer Name",
    "Indication",
    "Give Drug Strength Volume",
    "Give Drug Strength Volume Units",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_by_their_number_in_the_standard() {
        let named = [
            ("MSH", 21, "Message Profile Identifier"),
            ("MSH", 25, "Receiving Network Address"),
            ("PID", 31, "Identity Unknown Indicator"),
            ("PV1", 19, "Visit Number"),
            ("OBR", 29, "Parent"),
            ("OBX", 18, "Equipment Instance Identifier"),
            ("PRT", 10, "Participation Device"),
            ("RXG", 15, "Give Rate Amount"),
        ];
        for (id, n, name) in named {
            assert_eq!(field_name(id, n), Some(name));
        }
        assert_eq!((field_name("OBX", 0), field_name("OBX", 99), field_name("ZZZ", 1)), (None, None, None));
    }
}
