//! OBX-11 and OBX-8: how far a value can be trusted, and why there is none.

use super::{Origin, Output, Semantics, TranslateError, Translation, Unmapped, bundle::Write, refuse};
use crate::{
    fhir::{CodeableConcept, Coding, systems},
    pcd::Row,
};

/// What OBX-8 and OBX-11 say of a row.
#[derive(Default)]
pub(super) struct Outcome<'a> {
    pub(super) interpretation: Vec<CodeableConcept<'a>>,
    pub(super) security: Vec<Coding<'static>>,
    /// `<` or `>`: the value is the end of the instrument's scale.
    pub(super) comparator: Option<&'static str>,
    /// Why there is no value, as a data-absent-reason.
    absent: Option<&'static str>,
    /// The sender says that what stands in OBX-5 is no value.
    pub(super) withheld: bool,
    /// A measurement is under way: a reason for no value, but no ground to drop one.
    busy: bool,
}

/// Status of the resource, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: &'static str,
    pub(super) write: Write,
}

/// One OBX-8 code of a device (HL7 uv-pocd, 11073 measurement status).
struct Flag {
    code: &'static str,
    security: Option<(&'static str, &'static str)>,
    absent: Option<&'static str>,
    interpretation: Option<&'static str>,
}

const fn flag(
    code: &'static str,
    security: Option<(&'static str, &'static str)>,
    absent: Option<&'static str>,
    interpretation: Option<&'static str>,
) -> Flag {
    Flag { code, security, absent, interpretation }
}

const UNRELIABLE: Option<(&str, &str)> = Some((systems::OBSERVATION_VALUE, "UNRELIABLE"));
const UNCERTAIN: Option<(&str, &str)> = Some((systems::OBSERVATION_VALUE, "UNCERTREL"));
const RELIABLE: Option<(&str, &str)> = Some((systems::OBSERVATION_VALUE, "HRELIABLE"));
const TEST: Option<(&str, &str)> = Some((systems::ACT_REASON, "HTEST"));

const FLAGS: &[Flag] = &[
    flag("INV", UNRELIABLE, Some("error"), None),
    flag("QUES", UNCERTAIN, None, Some("questionable")),
    flag("CAL", UNCERTAIN, None, Some("calibration-ongoing")),
    flag("TEST", TEST, None, None),
    flag("DEMO", TEST, None, None),
    flag("VAL", RELIABLE, None, Some("validated-data")),
    flag("EARLY", None, None, Some("early-indication")),
    flag("ALACT", None, None, Some("in-alarm")),
    flag("ALINH", None, None, Some("alarm-inhibited")),
    flag("NI", None, Some("unknown"), None),
    flag("NAV", None, Some("temp-unknown"), None),
    flag("NA", None, Some("not-applicable"), None),
    flag("OFF", None, Some("not-performed"), None),
    flag("MSK", None, Some("masked"), None),
    flag("NAN", None, Some("not-a-number"), None),
    flag("PINF", None, Some("positive-infinity"), None),
    flag("NINF", None, Some("negative-infinity"), None),
];

/// OBX-8 codes that FHIR's own interpretations have by the same name.
pub(super) const SAME: &[&str] = &["N", "L", "LL", "H", "HH", "A", "AA", "HU", "LU", "U", "D", "B", "W", "<", ">"];

/// Those that only results have: susceptibility, detection, reactivity, expectation (v3-ObservationInterpretation, R4).
const SAME_OF_RESULTS: &[&str] = &[
    "S", "I", "R", "MS", "VS", "NS", "SDD", "SYN-S", "SYN-R", "NCL", "POS", "NEG", "IND", "DET", "ND", "E", "RR", "WR",
    "NR", "HX", "LX", "H>", "L<", "AC", "IE", "QCF", "TOX", "EXP", "UNE",
];

/// Reads OBX-8. A code that is none of the device ones is kept in words.
pub(super) fn flags<'a>(translation: &Translation<'a>, row: &Row<'a>, output: &mut Output<'a>) -> Outcome<'a> {
    let mut outcome = Outcome::default();
    let results = if translation.settings.semantics == Semantics::Results { SAME_OF_RESULTS } else { &[] };
    if row.obx.raw(8).is_empty() {
        return outcome;
    }
    for repetition in row.obx.field(8).repetitions() {
        let code = translation.text(repetition.component(1).raw());
        if let Some(same) = SAME.iter().chain(results).find(|same| **same == code) {
            outcome.interpretation.push(Coding::of(systems::INTERPRETATION, same).into());
            outcome.comparator = Some(*same).filter(|same| matches!(*same, "<" | ">")).or(outcome.comparator);
        } else if let Some(flag) = FLAGS.iter().find(|flag| flag.code == code) {
            outcome.take(flag);
        } else if code == "BUSY" {
            outcome.busy = true;
        } else if !code.is_empty() {
            if !KEPT_IN_WORDS.contains(&&*code) {
                // Some write words here, which may be about the patient: told only where it is a code that everybody knows.
                let listed = SAME_OF_RESULTS.contains(&&*code);
                output.unmapped(Unmapped { listed, ..Unmapped::new("obx-8", &code, "", "") });
            }
            outcome.interpretation.push(CodeableConcept::text(code));
        }
    }
    outcome
}

/// Alert priorities and types, and the null flavour that says nothing.
const KEPT_IN_WORDS: &[&str] = &["PN", "PL", "PM", "PH", "SP", "ST", "SA", "OTH"];

impl Outcome<'_> {
    fn take(&mut self, flag: &Flag) {
        let security = flag.security.map(|(system, code)| Coding::of(system, code));
        self.security.extend(security.filter(|coding| !self.security.contains(coding)));
        let interpretation = flag.interpretation.map(|code| Coding::of(systems::MEASUREMENT_STATUS, code).into());
        self.interpretation.extend(interpretation);
        if let Some(absent) = flag.absent {
            self.withheld = true;
            self.absent = self.absent.or(Some(absent));
        }
    }

    /// A measurement under way explains a missing value; beside a value it is only an interpretation.
    pub(super) fn settle(&mut self, has_value: bool) -> Option<CodeableConcept<'static>> {
        if self.busy {
            self.interpretation.push(Coding::of(systems::MEASUREMENT_STATUS, "msmt-ongoing").into());
        }
        let busy = self.busy.then_some("temp-unknown");
        (!has_value).then(|| self.absent.or(busy).unwrap_or("unknown")).map(reason)
    }

    /// Where the reason for no value was told; nowhere, where it is only that there is none.
    pub(super) fn absent_origin(&self, row: &Row<'_>) -> Origin {
        if self.absent.is_some() || self.busy { row.place_of(8).into() } else { Origin::Constant }
    }
}

/// A data-absent-reason.
pub(super) fn reason(code: &'static str) -> CodeableConcept<'static> {
    Coding::of(systems::DATA_ABSENT_REASON, code).into()
}

/// OBX-11 (table 0085). `None` for N, which says that nothing was asked for.
pub(super) fn status(
    translation: &Translation<'_>,
    row: &Row<'_>,
    has_value: bool,
) -> Result<Option<Status>, TranslateError> {
    let code = row.obx.field(11).component(1).raw();
    if code == b"U" && !has_value {
        let what = "U makes final a value it does not repeat; ask the sender to send the value with it";
        return Err(refuse(row.place_of(11), what));
    }
    status_of(code, translation.settings.unverified_final, has_value)
        .ok_or_else(|| refuse(row.place_of(11), "is no result status of table 0085; ask the sender to mend it"))
}

/// What a result status becomes; `None` for what is none of table 0085.
///
/// X means that there is no result, yet gateways are met that send it on every row, values and all: then the value
/// stands, with a status that claims nothing.
fn status_of(code: &[u8], unverified_final: bool, has_value: bool) -> Option<Option<Status>> {
    let (code, write) = match code {
        b"F" => ("final", Write::Create),
        b"R" if unverified_final => ("final", Write::Create),
        b"R" | b"P" | b"S" => ("preliminary", Write::Create),
        b"C" => ("corrected", Write::Replace),
        b"A" | b"B" => ("amended", Write::Replace),
        b"D" | b"W" => ("entered-in-error", Write::Replace),
        b"V" | b"U" => ("final", Write::Replace),
        b"I" | b"O" => ("registered", Write::Create),
        b"N" => return Some(None),
        b"X" if !has_value => ("cancelled", Write::Create),
        b"X" | b"" => ("unknown", Write::Create),
        _ => return None,
    };
    Some(Some(Status { code, write }))
}

/// Table 0085 as it is written: code, status, and whether it takes the place of what was sent before.
pub(in crate::translate) fn status_rows(
    unverified_final: bool,
) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let codes = ["F", "R", "P", "S", "C", "A", "B", "D", "W", "V", "U", "I", "O", "X", ""];
    codes.into_iter().filter_map(move |code| {
        let status = status_of(code.as_bytes(), unverified_final, code != "X")??;
        Some((code, status.code, status.write == Write::Replace))
    })
}

/// OBX-8 as it is written: code, then interpretation, data-absent-reason and security label, each where it has one.
pub(in crate::translate) fn flag_rows() -> impl Iterator<Item = (&'static str, [Option<&'static str>; 3])> {
    let same = SAME.iter().chain(SAME_OF_RESULTS).map(|code| (*code, [Some(*code), None, None]));
    let own =
        FLAGS.iter().map(|flag| (flag.code, [flag.interpretation, flag.absent, flag.security.map(|(_, code)| code)]));
    same.chain(own).chain([("BUSY", [Some("msmt-ongoing"), Some("temp-unknown"), None])])
}
