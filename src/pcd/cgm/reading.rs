//! Glucose readings out of a message.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::super::{Coded, Nomenclature, Report, Row, Timing, device_keys};
use crate::hl7::{Message, Time};

/// MDC_CONC_GLU_ISF; LOINC has a code for each of the two units.
pub(super) const GLUCOSE_ISF: u32 = 160_212;
pub(super) const LOINC: [&[u8]; 2] = [b"99504-3", b"105272-9"];
/// mg/dL of glucose for one mmol/L: 180.156 g/mol (LOINC group LG7967-5).
pub const MG_DL_PER_MMOL_L: f64 = 18.0156;
/// No sensor measures more, in mg/dL and mmol/L: what says so is a fault or of another unit.
const MEASURABLE_MAX: (f64, f64) = (1000.0, 55.5);
/// The ends of the scale of the sensors in use, for a sensor that says LOW or HIGH without a number.
const SCALE: (f64, f64) = (40.0, 400.0);

/// A unit that glucose is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
pub enum GlucoseUnit {
    /// Mass concentration.
    #[serde(rename = "mg/dL")]
    MgPerDl,
    /// Substance concentration.
    #[serde(rename = "mmol/L")]
    MmolPerL,
}

impl GlucoseUnit {
    fn is_measurable(self, value: f64) -> bool {
        let max = match self {
            GlucoseUnit::MgPerDl => MEASURABLE_MAX.0,
            GlucoseUnit::MmolPerL => MEASURABLE_MAX.1,
        };
        value > 0.0 && value <= max
    }
}

/// Beyond the end of the sensor's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// LOW, `<`.
    Below,
    /// HIGH, `>`.
    Above,
}

/// A value as the sensor told it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Glucose {
    /// In `unit`; the end of the scale where it is beyond that.
    pub value: f64,
    /// Its unit.
    pub unit: GlucoseUnit,
    /// Beyond which end of the scale.
    pub bound: Option<Bound>,
}

impl Glucose {
    /// In mg/dL.
    pub fn mg_per_dl(&self) -> f64 {
        match self.unit {
            GlucoseUnit::MgPerDl => self.value,
            GlucoseUnit::MmolPerL => self.value * MG_DL_PER_MMOL_L,
        }
    }
}

/// One reading of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When it was measured.
    pub at: Timestamp,
    /// Which sensor.
    pub device: String,
    /// What it read; none where its sender took it back, or told last that there is none to count.
    pub glucose: Option<Glucose>,
}

/// Rows of glucose that are no reading to count, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// No value, or one that the sensor calls invalid, is calibrating by (OBX-8) or could not obtain (OBX-11 X).
    pub without_value: u64,
    /// A unit that is neither mg/dL nor mmol/L.
    pub unit: u64,
    /// Zero, less, or more than a sensor can measure.
    pub not_measurable: u64,
    /// No time with a zone.
    pub time: u64,
    /// A test or a demonstration (MSH-11, OBX-8).
    pub test: u64,
}

/// Whose readings.
#[derive(Debug, Clone)]
pub struct PatientNamed<'q> {
    /// PID-3.1.
    pub id: &'q str,
    /// PID-3.4, any part of it; any authority where there is none.
    pub authority: Option<&'q str>,
}

/// Adds the readings of that patient in the message, in the order sent; notes under which authorities the patient was named.
pub fn read(
    message: &Message,
    nomenclature: &Nomenclature,
    patient: &PatientNamed<'_>,
    authorities: &mut BTreeSet<String>,
    left_out: &mut LeftOut,
) -> Vec<Reading> {
    let report = Report::read(message, nomenclature);
    let device = device_keys(message).into_iter().next().unwrap_or_default();
    let production = matches!(message.msh().field(11).component(1).raw(), b"" | b"P");
    let mut readings = Vec::new();
    for row in report.rows.iter().filter(|row| is_glucose(row)) {
        let Some(authority) = named_by(&report, row, patient) else { continue };
        authorities.insert(authority);
        let flagged =
            |flags: &[&[u8]]| row.obx.field(8).repetitions().any(|flag| flags.contains(&flag.component(1).raw()));
        if !production || flagged(TEST) {
            left_out.test += 1;
            continue;
        }
        if row.obx.raw(11) == b"N" {
            continue;
        }
        let Some(at) = time(&report, row) else {
            left_out.time += 1;
            continue;
        };
        let glucose = match row.obx.raw(11) {
            b"D" | b"W" => None,
            status => glucose(&report, row, status == b"X" || flagged(NO_VALUE), nomenclature, left_out),
        };
        // Also without a value: it takes the place of what was told of that moment before.
        readings.push(Reading { at, device: device.clone(), glucose });
    }
    readings
}

/// OBX-8 that says there is no value, or none that counts (HL7 uv-pocd, measurement status).
const NO_VALUE: &[&[u8]] = &[b"INV", b"CAL", b"NI", b"NAV", b"NA", b"OFF", b"MSK", b"NAN", b"PINF", b"NINF", b"BUSY"];
const TEST: &[&[u8]] = &[b"TEST", b"DEMO"];

fn is_glucose(row: &Row<'_>) -> bool {
    row.term.code == Some(GLUCOSE_ISF) || row.code.triplets().any(|triplet| LOINC.contains(&triplet.code))
}

/// PID-3.4 under which the row's patient is the one asked for.
fn named_by(report: &Report<'_>, row: &Row<'_>, patient: &PatientNamed<'_>) -> Option<String> {
    let pid = report.group(row).patient?;
    pid.field(3).repetitions().find_map(|named| {
        let text = |raw| report.message.text(raw).trim().to_owned();
        let authority = named.component(4);
        let parts = [1, 2].map(|n| text(authority.subcomponent(n)));
        let fits = patient.authority.is_none_or(|asked| parts.iter().any(|part| part == asked));
        // Of a visit or an account, which another patient's record number may equal.
        let is_patient = !matches!(text(named.component(5).raw()).as_str(), "VN" | "AN");
        (text(named.component(1).raw()) == patient.id && fits && is_patient).then(|| text(authority.raw()))
    })
}

fn time(report: &Report<'_>, row: &Row<'_>) -> Option<Timestamp> {
    let (Timing::At(stamp) | Timing::Over(stamp, _)) = report.timing(row)?;
    let text = |raw| report.message.text(raw).trim().to_owned();
    let zone =
        Time::parse(&text(report.message.msh().field(7).component(1).raw())).ok().and_then(|t| t.offset_minutes());
    Time::parse(&text(stamp.raw)).ok()?.timestamp(zone)
}

fn glucose(
    report: &Report<'_>,
    row: &Row<'_>,
    no_value: bool,
    nomenclature: &Nomenclature,
    left_out: &mut LeftOut,
) -> Option<Glucose> {
    let told = if no_value { None } else { told(report, row) };
    let Some(told) = told else {
        left_out.without_value += 1;
        return None;
    };
    let unit = unit(report, row, nomenclature);
    match (told, unit) {
        // The ends of the scale are known in mg/dL.
        ((None, Some(bound)), _) => {
            let value = if bound == Bound::Below { SCALE.0 } else { SCALE.1 };
            Some(Glucose { value, unit: GlucoseUnit::MgPerDl, bound: Some(bound) })
        }
        ((Some(value), bound), Some(unit)) if unit.is_measurable(value) => Some(Glucose { value, unit, bound }),
        ((Some(_), _), Some(_)) => {
            left_out.not_measurable += 1;
            None
        }
        _ => {
            left_out.unit += 1;
            None
        }
    }
}

/// The number, and beyond which end of the scale it is.
fn told(report: &Report<'_>, row: &Row<'_>) -> Option<(Option<f64>, Option<Bound>)> {
    let value = row.obx.field(5).first();
    let text = |raw| report.message.text(raw).trim().to_owned();
    let flag = |flag: &[u8]| row.obx.field(8).repetitions().any(|sent| sent.component(1).raw() == flag);
    let flagged = if flag(b"<") {
        Some(Bound::Below)
    } else if flag(b">") {
        Some(Bound::Above)
    } else {
        None
    };
    match row.obx.raw(2) {
        b"SN" => {
            let comparator = match value.component(1).raw() {
                b"" | b"=" => None,
                b"<" | b"<=" => Some(Bound::Below),
                b">" | b">=" => Some(Bound::Above),
                _ => return None,
            };
            let whole = value.component(3).is_empty();
            Some((Some(number(&text(value.component(2).raw()))?), comparator.or(flagged))).filter(|_| whole)
        }
        b"NM" => {
            let (bound, number) = compared(&text(value.raw()))?;
            Some((Some(number), bound.or(flagged)))
        }
        _ => match text(value.component(1).raw()).to_ascii_uppercase().as_str() {
            "LOW" | "LO" => Some((None, Some(Bound::Below))),
            "HIGH" | "HI" => Some((None, Some(Bound::Above))),
            // A number in a text stays one, but for the end of the scale.
            sent => compared(sent).filter(|(bound, _)| bound.is_some()).map(|(bound, number)| (Some(number), bound)),
        },
    }
}

/// `104`, or `<40` of a value beyond the scale.
fn compared(text: &str) -> Option<(Option<Bound>, f64)> {
    let beyond = |sign, bound| text.strip_prefix(sign).map(|rest| (Some(bound), rest.trim_start_matches('=').trim()));
    let (bound, digits) = beyond('<', Bound::Below).or_else(|| beyond('>', Bound::Above)).unwrap_or((None, text));
    Some((bound, number(digits)?))
}

/// A plain decimal: neither an exponent nor an infinity is glucose.
fn number(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-'));
    plain.then(|| text.parse().ok()).flatten().filter(|value: &f64| value.is_finite())
}

fn unit(report: &Report<'_>, row: &Row<'_>, nomenclature: &Nomenclature) -> Option<GlucoseUnit> {
    let text = |raw| report.message.text(raw).trim().to_owned();
    Coded::read(row.obx.field(6).first()).triplets().find_map(|triplet| {
        let (code, words) = (text(triplet.code), text(triplet.text));
        let known = nomenclature.unit(&code, &words).or_else(|| nomenclature.unit_alias(&code));
        match known.map_or(code.as_str(), |ucum| ucum) {
            "mg/dL" | "mg/dl" => Some(GlucoseUnit::MgPerDl),
            "mmol/L" | "mmol/l" => Some(GlucoseUnit::MmolPerL),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(processing: &str, rows: &[&str]) -> Message {
        let mut text = format!(
            "MSH|^~\\&|CGM^ACDE480000000001^EUI-64||||20260301120000+0100||ORU^R01^ORU_R01|1|{processing}|2.6\rPID|||4711^^^H^MR~55^^^I&1.2.3&ISO^PI\rOBR|1||F1|528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|||20260301115900\rOBX|1||528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|1.0.0.0|||||||X|||||||^^ACDE480000003001^EUI-64\r"
        );
        rows.iter().for_each(|row| text.extend([*row, "\r"]));
        Message::parse(text.into_bytes()).unwrap()
    }

    fn row(kind: &str, value: &str, unit: &str, flags: &str, status: &str) -> String {
        format!(
            "OBX|2|{kind}|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.1|{value}|{unit}||{flags}|||{status}|||20260301115500+0100"
        )
    }

    fn found(message: &Message, id: &str, authority: Option<&str>) -> (Vec<Reading>, LeftOut, BTreeSet<String>) {
        let (mut names, mut left_out) = (BTreeSet::new(), LeftOut::default());
        let asked = PatientNamed { id, authority };
        let readings = read(message, &Nomenclature::built_in(), &asked, &mut names, &mut left_out);
        (readings, left_out, names)
    }

    const MG: &str = "264274^MDC_DIM_MILLI_G_PER_DL^MDC";

    #[test]
    fn a_reading_is_told_with_its_unit_and_the_end_of_the_scale_it_is_beyond() {
        let of = |kind, value, unit, flags| {
            let text = row(kind, value, unit, flags, "R");
            found(&message("P", &[&text]), "4711", None).0.pop().and_then(|reading| reading.glucose)
        };
        let glucose = |value, unit, bound| Some(Glucose { value, unit, bound });
        let (mg, mmol) = (GlucoseUnit::MgPerDl, GlucoseUnit::MmolPerL);
        assert_eq!(of("NM", "104", MG, ""), glucose(104.0, mg, None));
        assert_eq!(of("NM", "5.80", "266866^MDC_DIM_MILLI_MOLE_PER_L^MDC", ""), glucose(5.8, mmol, None));
        assert_eq!(of("NM", "104", "mg/dL^mg/dL^UCUM", ""), glucose(104.0, mg, None));
        assert_eq!(of("NM", "40", MG, "<"), glucose(40.0, mg, Some(Bound::Below)));
        assert_eq!(of("SN", ">^400", MG, ""), glucose(400.0, mg, Some(Bound::Above)));
        assert_eq!(of("NM", "<40", MG, ""), glucose(40.0, mg, Some(Bound::Below)));
        assert_eq!(of("NM", ">= 400", MG, ""), glucose(400.0, mg, Some(Bound::Above)));
        assert_eq!(of("ST", "<2.2", "mmol/L^mmol/L^UCUM", ""), glucose(2.2, mmol, Some(Bound::Below)));
        assert_eq!(of("ST", "Low", "", ""), glucose(40.0, mg, Some(Bound::Below)));
        assert_eq!(of("ST", "HIGH", MG, ""), glucose(400.0, mg, Some(Bound::Above)));
        for (kind, value, unit, flags) in [
            ("NM", "104", "mg/L^mg/L^UCUM", ""),
            ("NM", "104", "", ""),
            ("NM", "", MG, ""),
            ("NM", "104", MG, "INV"),
            ("NM", "-5", MG, ""),
            ("NM", "1e2", MG, ""),
            ("NM", "=100", MG, ""),
            ("NM", "<", MG, ""),
            ("ST", "104", MG, ""),
            ("NM", "inf", MG, ""),
            ("SN", "^100^-^120", MG, ""),
            ("ST", "calibrating", MG, ""),
        ] {
            assert_eq!(of(kind, value, unit, flags), None, "{kind} {value} {unit} {flags}");
        }
    }

    #[test]
    fn what_does_not_count_is_counted_by_reason() {
        let test = row("NM", "100", MG, "TEST", "R");
        let no_unit = row("NM", "100", "", "", "R");
        let empty = row("NM", "", MG, "", "X");
        let timeless = row("NM", "100", MG, "", "R").replace("20260301115500+0100", "2026");
        let message = message("P", &[&test, &no_unit, &empty, &timeless]);
        let (readings, left_out, _) = found(&message, "4711", None);
        assert!(readings.iter().all(|reading| reading.glucose.is_none()));
        assert_eq!(left_out, LeftOut { without_value: 1, unit: 1, time: 1, test: 1, not_measurable: 0 });
    }

    #[test]
    fn what_no_sensor_can_measure_is_left_out_and_told() {
        let mmol = "266866^MDC_DIM_MILLI_MOLE_PER_L^MDC";
        let of = |value, unit| {
            let (readings, left_out, _) = found(&message("P", &[&row("NM", value, unit, "", "R")]), "4711", None);
            (readings[0].glucose.is_some(), left_out.not_measurable)
        };
        for (value, unit) in [("1000", MG), ("55.5", mmol), ("0.1", MG)] {
            assert_eq!(of(value, unit), (true, 0), "{value}");
        }
        for (value, unit) in [("1000.1", MG), ("55.6", mmol), ("0", MG), ("-5", MG), (">9999", MG)] {
            assert_eq!(of(value, unit), (false, 1), "{value}");
        }
    }

    #[test]
    fn a_value_of_a_result_that_could_not_be_obtained_does_not_count() {
        let (readings, left_out, _) = found(&message("P", &[&row("NM", "400", MG, "", "X")]), "4711", None);
        assert_eq!((readings[0].glucose, left_out.without_value), (None, 1));
    }

    #[test]
    fn a_correction_without_a_value_takes_the_reading_away() {
        let rows = [row("NM", "104", MG, "", "R"), row("NM", "", MG, "INV", "C")];
        let (readings, ..) = found(&message("P", &[&rows[0], &rows[1]]), "4711", None);
        let day = ("2026-03-01T00:00:00Z".parse().unwrap(), "2026-03-02T00:00:00Z".parse().unwrap());
        assert_eq!(super::super::CgmSummary::of(readings, day, None).readings, 0);
    }

    #[test]
    fn only_the_patient_asked_for_is_read_by_any_identifier_and_the_authority_told() {
        let good = row("NM", "104", MG, "", "R");
        let message_of = message("P", &[&good]);
        let names = |id, authority| {
            let (readings, _, names) = found(&message_of, id, authority);
            (readings.len(), names.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(names("4711", None), (1, vec!["H".to_owned()]));
        assert_eq!(names("55", Some("1.2.3")), (1, vec!["I&1.2.3&ISO".to_owned()]));
        assert_eq!(names("4711", Some("I")), (0, vec![]));
        assert_eq!(names("471", None), (0, vec![]));
        assert_eq!(found(&message("T", &[&good]), "4711", None).1, LeftOut { test: 1, ..LeftOut::default() });
    }

    #[test]
    fn a_reading_taken_back_is_told_as_one() {
        let back = row("NM", "104", MG, "", "W");
        let (readings, _, _) = found(&message("P", &[&back]), "4711", None);
        assert_eq!(readings[0].glucose, None);
        assert_eq!(
            (readings[0].at.to_string(), &*readings[0].device),
            ("2026-03-01T10:55:00Z".into(), "ACDE480000003001")
        );
    }
}
