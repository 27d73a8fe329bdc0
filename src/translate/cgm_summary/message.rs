//! A summary as an ORU^R01 of the engine's own, by which it takes the way of every message: kept, sent, sent again, searched.
//!
//! Its PID is that of the readings, byte for byte, and so are the delimiters, version and character set it is written in:
//! whose summary it is is decided where it is sent, by the rules for the readings.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{Values, figures::SUMMARY};
use crate::{
    hl7::{Message, Segment, escape},
    pcd::cgm::CgmSummary,
};

/// MSH-3 of what the engine itself makes.
const SENDER: &str = "CANNULA";

/// What a summary's message has beside its figures.
pub struct SummaryHead<'m> {
    /// PID of a message of the readings.
    pub pid: Segment<'m>,
    /// MSH-10.
    pub control_id: &'m str,
    /// OBR-20: the channel whose readings it is of.
    pub channel: &'m str,
    /// MSH-7: when it was due.
    pub due: &'m Zoned,
}

/// The message; `None` where there are too few readings for one of the figures.
pub fn summary_message(summary: &CgmSummary, head: &SummaryHead<'_>) -> Option<Vec<u8>> {
    let values = Values::of(summary)?;
    let source = head.pid.message();
    let delimiters = source.delimiters();
    let zone = head.due.time_zone();
    let (from, to) = (local(summary.from, zone), local(summary.to, zone));
    let due = head.due.strftime(TIME).to_string();
    let component = char::from(delimiters.component);
    let text = |parts: &[&str]| {
        let parts: Vec<_> = parts.iter().map(|part| escape(part, &delimiters)).collect();
        parts.join(&component.to_string()).into_bytes()
    };
    let code = |code: &str, words: &str, system: &str| text(&[code, words, system]);
    let mut written = Vec::with_capacity(2048);
    let mut line = |id: &[u8], fields: &[(usize, Vec<u8>)]| segment(&mut written, delimiters.field, id, fields);
    let mut msh = b"MSH".to_vec();
    msh.push(delimiters.field);
    msh.extend(delimiters.encoding_characters());
    // MSH-2 is written with the segment's name: the field after it is the third.
    line(
        &msh,
        &[
            (1, text(&[SENDER])),
            (2, sender(source)),
            (5, due.clone().into_bytes()),
            (7, text(&["ORU", "R01", "ORU_R01"])),
            (8, head.control_id.as_bytes().to_vec()),
            (9, b"P".to_vec()),
            (10, source.msh().raw_field(12).to_vec()),
            (13, b"NE".to_vec()),
            (14, b"NE".to_vec()),
            (16, source.msh().raw_field(18).to_vec()),
        ],
    );
    line(head.pid.raw(), &[]);
    let observed = [
        (7, from.into_bytes()),
        (8, to.clone().into_bytes()),
        (20, text(&[head.channel])),
        (22, due.into_bytes()),
        (25, b"F".to_vec()),
    ];
    let order =
        [(1, b"1".to_vec()), (3, text(&[head.control_id, SENDER])), (4, code(SUMMARY.loinc, SUMMARY.text, "LN"))];
    line(b"OBR", &order.into_iter().chain(observed).collect::<Vec<_>>());
    for (n, (figure, value)) in values.all().enumerate() {
        let fields = [
            (1, (n + 1).to_string().into_bytes()),
            (2, b"NM".to_vec()),
            (3, code(figure.loinc, figure.text, "LN")),
            (5, value.as_bytes().to_vec()),
            (6, code(figure.unit.1, figure.unit.0, "UCUM")),
            (11, b"F".to_vec()),
            (14, to.clone().into_bytes()),
        ];
        line(b"OBX", &fields);
    }
    Some(written)
}

/// Whether a message is such a summary.
pub fn is_cgm_summary(message: &Message) -> bool {
    let obr = message.segment("OBR").map(|obr| obr.field(4));
    let code = |n| obr.map_or(&b""[..], |obr| obr.component(n).raw());
    message.msh().field(3).component(1).raw() == SENDER.as_bytes()
        && (code(1), code(3)) == (SUMMARY.loinc.as_bytes(), b"LN")
}

const TIME: &str = "%Y%m%d%H%M%S%z";

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime(TIME).to_string()
}

/// MSH-4, else MSH-3: it scopes identifiers that name no assigning authority.
fn sender(source: &Message) -> Vec<u8> {
    let names = [4, 3].map(|field| source.msh().raw_field(field));
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default().to_vec()
}

/// Adds a segment of these fields, in the order of their numbers.
fn segment(written: &mut Vec<u8>, separator: u8, id: &[u8], fields: &[(usize, Vec<u8>)]) {
    written.extend_from_slice(id);
    let mut at = 0;
    for (number, value) in fields {
        written.extend(std::iter::repeat_n(separator, number - at));
        written.extend_from_slice(value);
        at = *number;
    }
    written.push(b'\r');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;
    use crate::{
        pcd::{
            Nomenclature,
            cgm::{Glucose, GlucoseUnit, Reading},
        },
        translate::{Context, PcdToFhir, Plan, cgm_summary, nothing_remembered},
    };

    fn summary() -> CgmSummary {
        let from: Timestamp = "2026-03-01T23:00:00Z".parse().unwrap();
        let hour = jiff::SignedDuration::from_hours(1);
        let glucose = |value| Some(Glucose { value, unit: GlucoseUnit::MmolPerL, bound: None });
        let reading = |(n, value)| Reading { at: from + hour * n, device: "A".into(), glucose: glucose(value) };
        CgmSummary::of([(1, 5.5), (2, 9.75)].map(reading).into(), (from, from + hour * 24), None)
    }

    /// From a sender with delimiters and a character set of its own.
    fn message() -> Message {
        message_of("cgm")
    }

    fn message_of(channel: &str) -> Message {
        let source =
            b"MSH$%~\\&$CGM$$$$20260302120000+0100$$ORU%R01$1$P$2.5.1$$$$$$8859/1\rPID$$$4711%%%H%MR$$M\xfcller%A\r";
        let source = Message::parse(&source[..]).unwrap();
        let due = "2026-03-03T06:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let pid = source.segment("PID").unwrap();
        let written =
            summary_message(&summary(), &SummaryHead { pid, control_id: "CGM1", channel, due: &due }).unwrap();
        Message::parse(written).unwrap()
    }

    fn resources(body: &[u8]) -> Vec<Value> {
        let bundle: Value = serde_json::from_slice(body).unwrap();
        let mut entries = bundle["entry"].as_array().unwrap().clone();
        entries.retain(|entry| entry["resource"]["resourceType"] == "Observation");
        entries.iter_mut().for_each(|entry| entry["resource"]["meta"] = Value::Null);
        entries
    }

    fn sent(message: &Message) -> Vec<Value> {
        let mut settings = PcdToFhir::new(Nomenclature::built_in());
        settings.identifier_systems.insert("H".into(), "urn:oid:2.999".into());
        let context = Context { id: 1, received_at: Timestamp::UNIX_EPOCH, origins: false };
        resources(&Plan::PcdToFhir(settings).apply(message, context, &nothing_remembered).unwrap().body)
    }

    #[test]
    fn a_scheduled_summary_becomes_the_resources_that_the_command_prints() {
        let printed = cgm_summary(&summary(), "cgm", ("urn:oid:2.999", "4711"), Timestamp::UNIX_EPOCH).unwrap();
        let (sent, printed) = (sent(&message()), resources(&printed));
        assert_eq!(printed.len(), 7);
        assert_eq!(sent, printed);
    }

    #[test]
    fn summaries_of_two_channels_stand_side_by_side() {
        let urls = |channel| -> Vec<String> {
            sent(&message_of(channel)).iter().map(|entry| entry["request"]["url"].to_string()).collect()
        };
        let (ward, clinic) = (urls("ward"), urls("clinic"));
        assert_eq!(ward, urls("ward"));
        assert!(ward.iter().all(|url| !clinic.contains(url)), "{ward:?}");
    }

    #[test]
    fn a_summary_is_written_as_its_readings_are() {
        let message = message();
        assert!(is_cgm_summary(&message));
        assert!(
            message
                .as_bytes()
                .starts_with(b"MSH$%~\\&$CANNULA$CGM$$$20260303060000+0100$$ORU%R01%ORU_R01$CGM1$P$2.5.1$")
        );
        let pid = message.segment("PID").unwrap();
        assert_eq!(message.text(pid.field(5).component(1).raw()), "Müller");
        let obr = message.segment("OBR").unwrap();
        assert_eq!([7, 8].map(|n| obr.raw_field(n)), [&b"20260302000000+0100"[..], b"20260303000000+0100"]);
    }

    #[test]
    fn a_summary_that_lacks_a_figure_is_refused() {
        let rows = message();
        let rows = crate::hl7::edit::remove_segments(&rows, &|segment| segment.field(1).raw() != b"4").unwrap();
        let plan = Plan::PcdToFhir(PcdToFhir::new(Nomenclature::built_in()));
        let context = Context { id: 1, received_at: Timestamp::UNIX_EPOCH, origins: false };
        let refused = plan.apply(&rows, context, &nothing_remembered).unwrap_err().to_string();
        assert!(refused.contains("lacks one of its ten figures"), "{refused}");
    }
}
