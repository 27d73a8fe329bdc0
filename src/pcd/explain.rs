//! A message told to a person: fields by name, and what each row is in IHE PCD.
//!
//! The one place where the engine shows content, because an authorised reader asked for it. It must never reach a log.

use std::{borrow::Cow, fmt};

use serde::Serialize;

use super::{
    Alert, Coded, Fit, InfusionOrder, Level, Nomenclature, Place, PumpEvent, Recognised, Reply, Report, Role, Row,
    Timing, Transaction,
    conformance::{self, Finding},
    event::Reading,
    facts,
    fields::{field_name, segment_name},
    headline, loinc_digit_holds, recognise,
    report::Nth,
    tolerance::{self, Note},
};
use crate::hl7::{Message, Segment};

/// The explanation of one message.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What the message says, in a sentence or two.
    pub headline: String,
    /// Which transaction it is and what told it.
    #[serde(flatten)]
    pub recognised: Recognised,
    /// What it tells of, where it is more than observations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<TypedReport>,
    /// What the message is, such as `PCD-01 device observation report`.
    pub kind: String,
    /// MSH-9 as sent.
    pub message_type: String,
    /// In the order sent.
    pub segments: Vec<ExplainedSegment>,
    /// What the message breaks of IHE PCD and HL7.
    pub findings: Vec<Finding>,
    /// Quirks of its sender that it has.
    pub quirks: Vec<Note>,
    /// Where each element of the FHIR it becomes comes from; only where the channel is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fhir: Vec<FhirElements>,
}

/// Where the FHIR elements for one destination come from.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct FhirElements {
    /// Its name.
    pub destination: String,
    /// In the order of the Bundle; none where nothing is sent.
    pub elements: Vec<FhirElement>,
    /// Why nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent: Option<String>,
    /// Why it would be a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One element, with all that is inside it and has no origin of its own.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct FhirElement {
    /// Such as `entry[3].resource.valueQuantity`.
    pub element: String,
    /// Such as `OBX[7]-5`.
    pub from: String,
}

/// What a message of one of the transactions tells of.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TypedReport {
    /// PCD-04: one, or more where a sender breaks the framework.
    Alerts(Vec<Alert>),
    /// PCD-10.
    PumpEvent(Box<PumpEvent>),
    /// PCD-03.
    InfusionOrder(Box<InfusionOrder>),
    /// PCD-05, the answer to PCD-03, and acknowledgements.
    Reply(Box<Reply>),
}

impl TypedReport {
    fn read(reading: Reading<'_, '_>, transaction: Transaction) -> Option<TypedReport> {
        let alerts = || Some(Alert::all(reading)).filter(|all| !all.is_empty()).map(TypedReport::Alerts);
        let event = || PumpEvent::read(reading).map(Box::new).map(TypedReport::PumpEvent);
        match transaction {
            Transaction::Pcd04 => alerts(),
            // An alert or event that came under another profile is one all the same.
            Transaction::Pcd10 => event().or_else(|| reading.report.is_alert().then(alerts)?),
            Transaction::Pcd01 | Transaction::Pcd15 | Transaction::Observation if reading.report.is_alert() => alerts(),
            Transaction::Pcd01 | Transaction::Pcd15 | Transaction::Observation => event(),
            Transaction::Pcd03 => InfusionOrder::read(reading).map(Box::new).map(TypedReport::InfusionOrder),
            Transaction::Pcd05 | Transaction::Pcd03Answer | Transaction::Acknowledgement => {
                Reply::read(reading).map(Box::new).map(TypedReport::Reply)
            }
            _ => None,
        }
    }
}

/// One segment.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedSegment {
    /// Such as `OBX[3]`.
    pub segment: String,
    /// Its name in the standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// How deep it is in the containment tree.
    pub depth: usize,
    /// What an OBX is in IHE PCD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<Meaning>,
    /// The fields that were sent.
    pub fields: Vec<ExplainedField>,
}

/// What an OBX is.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Meaning {
    /// `mds`, `vmd`, `channel`, `attribute`, `metric` or `facet`.
    pub role: &'static str,
    /// The MDC term of OBX-3 as the tables know it: `147842 MDC_ECG_CARD_BEAT_RATE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// OBX-3's number and name are not of the same term.
    pub mismatch: bool,
    /// How OBX-3 fits the tables, where it is not all right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_fit: Option<&'static str>,
    /// The row it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// UCUM of OBX-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The field that says when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_from: Option<String>,
}

/// One field.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedField {
    /// Such as `OBX[3]-5`.
    pub place: String,
    /// Its name in the standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// The repetitions, each its components: decoded, unescaped, empty ones kept so that they can be counted.
    pub repetitions: Vec<Vec<String>>,
}

/// Explains a message. Any HL7 v2 message can be; what is not IHE PCD has names only.
pub fn explain(message: &Message, nomenclature: &Nomenclature) -> Explanation {
    let report = Report::read(message, nomenclature);
    let recognised = recognise(message, nomenclature);
    let reading = Reading { report: &report, codes: nomenclature };
    let typed = TypedReport::read(reading, recognised.transaction);
    let mut rows = report.rows.iter();
    let mut counts = std::collections::HashMap::new();
    let segments = message.segments().map(|segment| {
        let count = counts.entry(segment.id()).or_insert(0);
        *count += 1;
        let row = if segment.id() == "OBX" { rows.next() } else { None };
        explain_segment(&report, nomenclature, Nth { segment, nth: *count }, row)
    });
    let segments = segments.collect();
    let message_type = message.text(message.msh().field(9).raw()).into_owned();
    let kind = recognised.transaction.title().to_owned();
    let findings = conformance::check(message, nomenclature);
    let against_itself = findings.iter().filter(|finding| finding.rule.is_contradiction());
    let against_itself: String = against_itself.map(|finding| format!(" CAUTION: {}.", finding.text)).collect();
    let headline = headline::of(reading, recognised.transaction, typed.as_ref()) + against_itself.as_str();
    let quirks = tolerance::Rules::default().notes(message);
    let fhir = Vec::new();
    Explanation { headline, recognised, report: typed, kind, message_type, segments, findings, quirks, fhir }
}

fn explain_segment(
    report: &Report<'_>,
    nomenclature: &Nomenclature,
    nth: Nth<'_>,
    row: Option<&Row<'_>>,
) -> ExplainedSegment {
    let segment = nth.segment;
    let fields = (1..=segment.field_count()).filter(|n| !segment.field(*n).is_empty());
    let fields = fields.map(|n| explain_field(report.message, segment, nth.place(n), n)).collect();
    let depth = row.map_or(0, |row| report.above(row).count());
    let meaning = row.map(|row| meaning(report, nomenclature, row));
    let name = segment_name(segment.id());
    let segment = if segment.id() == "MSH" { "MSH".to_owned() } else { format!("{}[{}]", segment.id(), nth.nth) };
    ExplainedSegment { segment, name, depth, meaning, fields }
}

fn explain_field(message: &Message, segment: Segment<'_>, place: Place, n: usize) -> ExplainedField {
    let field = segment.field(n);
    // MSH-1 and MSH-2 are the delimiters themselves.
    let repetitions = if segment.id() == "MSH" && n <= 2 {
        vec![vec![String::from_utf8_lossy(field.raw()).into_owned()]]
    } else {
        let text = |raw| message.text(raw).into_owned();
        field.repetitions().map(|one| one.components().map(|part| text(part.raw())).collect()).collect()
    };
    ExplainedField { place: place.to_string(), name: field_name(segment.id(), n), repetitions }
}

fn meaning(report: &Report<'_>, nomenclature: &Nomenclature, row: &Row<'_>) -> Meaning {
    let role = match row.role {
        Role::Device(Level::Mds) => "mds",
        Role::Device(Level::Vmd) => "vmd",
        Role::Device(_) => "channel",
        Role::Attribute => "attribute",
        Role::Metric => "metric",
        Role::Facet => "facet",
    };
    let observed = matches!(row.role, Role::Metric | Role::Facet);
    let timing = observed.then(|| report.timing(row)).flatten().map(|timing| match timing {
        Timing::At(stamp) => stamp.place.to_string(),
        Timing::Over(start, end) => format!("{} to {}", start.place, end.place),
    });
    let coded = row.code.mdc_or_alike().is_some();
    let fit = Some(row.term.fit).filter(|fit| coded && (fit.is_warned() || fit.is_unmapped())).map(Fit::words);
    let fit = fit.or_else(|| has_wrong_loinc(row).then_some("a LOINC code whose check digit is wrong"));
    Meaning {
        role,
        term: row.term.term.map(|term| format!("{} {}", term.code, term.refid)),
        mismatch: row.term.mismatch,
        code_fit: fit,
        inside: row.parent.map(|parent| format!("OBX[{}]", report.rows[parent].obx.nth)),
        unit: unit(report.message, nomenclature, row),
        time_from: timing,
    }
}

fn has_wrong_loinc(row: &Row<'_>) -> bool {
    let is_wrong = |code: &[u8]| std::str::from_utf8(code).is_ok_and(|code| !loinc_digit_holds(code.trim()));
    row.code.triplets().any(|triplet| matches!(triplet.system.trim_ascii(), b"LN" | b"LOINC") && is_wrong(triplet.code))
}

fn unit(message: &Message, nomenclature: &Nomenclature, row: &Row<'_>) -> Option<String> {
    Coded::read(row.obx.field(6).first()).triplets().find_map(|triplet| {
        let (code, text) = (message.text(triplet.code), message.text(triplet.text));
        match triplet.system {
            b"UCUM" => Some(code.into_owned()).filter(|code| !code.is_empty()),
            b"MDC" => nomenclature.unit(&code, &text).map(|unit| unit.to_string()),
            _ => nomenclature.unit_alias(&code).map(|unit| unit.to_string()),
        }
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", printable(&self.headline))?;
        writeln!(f, "{} ({})", self.kind, printable(&self.message_type))?;
        for (what, value) in facts::of(self) {
            writeln!(f, "  {what:<18} {}", printable(&value))?;
        }
        writeln!(f)?;
        self.segments.iter().try_for_each(|segment| segment.fmt(f))?;
        conformance::write_all(f, &self.findings)?;
        tolerance::write_all(f, &self.quirks)?;
        self.fhir.iter().try_for_each(|of| of.fmt(f))
    }
}

impl fmt::Display for FhirElements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (&self.refused, &self.unsent) {
            (Some(refused), _) => format!("would become a dead letter: {refused}"),
            (None, Some(why)) => format!("nothing to send: {why}"),
            (None, None) => "where each element comes from".to_owned(),
        };
        writeln!(f, "FHIR for destination {}, of this message alone: {}", self.destination, printable(&outcome))?;
        let mut elements = self.elements.iter();
        elements.try_for_each(|one| writeln!(f, "  {} <- {}", one.element, printable(&one.from)))
    }
}

impl fmt::Display for ExplainedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = "  ".repeat(self.depth.min(8));
        write!(f, "{indent}{}  {}", self.segment, self.name.unwrap_or("no name known"))?;
        match &self.meaning {
            Some(meaning) => writeln!(f, ": {meaning}")?,
            None => writeln!(f)?,
        }
        for field in &self.fields {
            let name = field.name.unwrap_or("");
            let repetitions = field.repetitions.iter().map(|components| components.join(" ^ ")).collect::<Vec<_>>();
            writeln!(f, "{indent}  {:<12} {name:<34} {}", field.place, printable(&repetitions.join(" ~ ")))?;
        }
        Ok(())
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        if let Some(term) = &self.term {
            write!(f, " {term}")?;
        }
        if let Some(fit) = self.code_fit {
            write!(f, " ({fit})")?;
        }
        for (word, part) in [("in", &self.inside), ("unit", &self.unit), ("time from", &self.time_from)] {
            if let Some(part) = part {
                write!(f, ", {word} {}", printable(part))?;
            }
        }
        Ok(())
    }
}

/// For a terminal: a control character that a sender put into a field is told, as `\\x1b`, and is no command.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let told = |c: char| if c.is_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(told).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REPORT: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64||||20260301120000+0100||ORU^R01^ORU_R01|C1|P|2.6|||AL|NE|||||X^Y^ 1.3.6.1.4.1.19376.1.6.1.1.1^ISO\rPID|||4711^^^H^MR\rOBR|1||F1|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260301115900+0100\rOBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X\rOBX|2|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R\rZZZ|a\\X1B\\[2J\r";

    fn explained() -> Explanation {
        explain(&Message::parse(REPORT).unwrap(), &Nomenclature::built_in())
    }

    #[test]
    fn every_field_sent_is_named_and_every_row_says_what_it_is() {
        let text = explained().to_string();
        for line in [
            "PCD-01 device observation report (ORU^R01^ORU_R01)",
            "OBX[1]  Observation/Result: mds 69965 MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS",
            "  OBX[2]  Observation/Result: metric 147842 MDC_ECG_CARD_BEAT_RATE, in OBX[1], unit {beat}/min, time from OBR[1]-7",
            "  PID[1]-3     Patient Identifier List            4711 ^  ^  ^ H ^ MR",
            "ZZZ[1]  no name known",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_merge_is_named_field_by_field() {
        let merge = "MSH|^~\\&|ADT|H|||20260301120000+0100||ADT^A40^ADT_A39|C1|P|2.6\rEVN|A40|20260301120000+0100|||OP\rPID|||2^^^H^MR\rMRG|1^^^H^MR||||V1\rZZZ|1\r";
        let text = explain(&Message::parse(merge).unwrap(), &Nomenclature::built_in()).to_string();
        for line in [
            "EVN[1]  Event Type",
            "  EVN[1]-2     Recorded Date/Time                 20260301120000+0100",
            "MRG[1]  Merge Patient Information",
            "  MRG[1]-1     Prior Patient Identifier List      1 ^  ^  ^ H ^ MR",
            "  MRG[1]-5     Prior Visit Number                 V1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_loinc_code_with_a_wrong_check_digit_is_told() {
        for (code, is_wrong) in [("8867-4", false), ("8867-5", true)] {
            let sent = REPORT.replace("147842^MDC_ECG_CARD_BEAT_RATE^MDC", &format!("{code}^Heart rate^LN"));
            let text = explain(&Message::parse(sent).unwrap(), &Nomenclature::built_in()).to_string();
            assert_eq!(text.contains("(a LOINC code whose check digit is wrong)"), is_wrong, "{text}");
        }
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let text = explained().to_string();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(text.contains("a\\x1b[2J"), "it is told: {text}");
    }

    #[test]
    fn the_same_is_had_as_json() {
        let json = serde_json::to_value(explained()).unwrap();
        let row = json["segments"].as_array().unwrap().iter().find(|segment| segment["segment"] == "OBX[2]").unwrap();
        assert_eq!(row["meaning"]["role"], "metric");
        assert_eq!(row["meaning"]["unit"], "{beat}/min");
        assert_eq!(row["fields"][4]["repetitions"][0][0], "80");
        let finding = &json["findings"][0];
        assert_eq!((finding["rule"].as_str(), finding["place"].as_str()), (Some("A14"), Some("PID^1^5")));
    }
}
