//! What one message says of its device: whether it observes, when it did by its own clock, and its number.

use jiff::Timestamp;

use super::sequence::{Number, fnv};
use crate::hl7::{Message, Segment, Time};

/// MDC_ATTR_TIME_ABS: the device's own time in OBX-5 and the gateway's in OBX-14 (IHE PCD TF-2 B.8.7).
const TIME_ABS: (&[u8], &[u8]) = (b"67975", b"MDC_ATTR_TIME_ABS");
/// OBX looked at for the device's time; it stands with the device, before what it measures.
const ROWS_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Tells the device's state as it does at each interval. Alerts and events come when they come.
    pub(super) is_observation: bool,
    /// By the device's clock, milliseconds; a time without any zone is read as UTC.
    pub(super) observed: Option<i64>,
    /// A zone was sent, so that the clock's error is known and not just its pace.
    pub(super) has_zone: bool,
    /// How far the device says its clock is ahead of the gateway's, milliseconds.
    pub(super) disclosed_skew: Option<i64>,
    /// MSH-7, milliseconds.
    pub(super) sent: Option<i64>,
    pub(super) number: Option<Number>,
    /// Hash of MSH-3.
    pub(super) sender: u64,
}

impl Reading {
    pub(super) fn of(message: &Message) -> Reading {
        let msh = message.msh();
        let sent = time(msh, 7);
        let zone = sent.as_ref().and_then(Time::offset_minutes);
        let millis = |time: &Time| time.timestamp(Some(zone.unwrap_or(0))).map(Timestamp::as_millisecond);
        let Rows { own, gateways, observed } = Rows::of(message);
        let shown = own.as_ref().or(observed.as_ref());
        // The same time in both is one time written twice, which says nothing of the clock.
        let disclosed = own.as_ref().zip(gateways.as_ref()).filter(|(own, gateways)| own != gateways);
        let skew = disclosed.and_then(|(own, gateways)| Some(millis(own)? - millis(gateways)?));
        Reading {
            is_observation: is_observation(msh) && message.segment("OBX").is_some(),
            observed: shown.and_then(millis),
            has_zone: zone.is_some() || shown.is_some_and(|time| time.offset_minutes().is_some()),
            disclosed_skew: skew,
            sent: sent.as_ref().and_then(millis),
            number: Number::of(message),
            sender: fnv(msh.field(3).raw()),
        }
    }
}

/// The times in OBR and OBX.
#[derive(Default)]
struct Rows {
    /// Of MDC_ATTR_TIME_ABS.
    own: Option<Time>,
    gateways: Option<Time>,
    /// OBR-8, OBR-7 or the first OBX-14, the first there is.
    observed: Option<Time>,
}

impl Rows {
    fn of(message: &Message) -> Rows {
        let mut rows = Rows::default();
        let relevant = message.segments().filter(|segment| matches!(segment.id(), "OBR" | "OBX"));
        for segment in relevant.take(ROWS_MAX) {
            if segment.id() == "OBR" {
                rows.observed = rows.observed.or_else(|| time(segment, 8)).or_else(|| time(segment, 7));
            } else if is_own_time(segment) {
                return Rows { own: time(segment, 5), gateways: time(segment, 14), ..rows };
            } else if rows.observed.is_none() {
                rows.observed = time(segment, 14);
            }
        }
        rows
    }
}

fn is_own_time(obx: Segment<'_>) -> bool {
    let code = obx.field(3);
    code.component(1).raw() == TIME_ABS.0 || code.component(2).raw() == TIME_ABS.1
}

fn time(segment: Segment<'_>, field: usize) -> Option<Time> {
    let raw = segment.field(field).component(1).raw().trim_ascii();
    if raw.is_empty() { None } else { Time::parse(std::str::from_utf8(raw).ok()?).ok() }
}

/// ORU but for alerts (R40) and pump events (R42).
fn is_observation(msh: Segment<'_>) -> bool {
    let (kind, event) = (msh.field(9).component(1).raw(), msh.field(9).component(2).raw());
    kind == b"ORU" && !matches!(event, b"R40" | b"R41" | b"R42")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn reading(event: &str, rows: &[&str]) -> Reading {
        let mut text = format!("MSH|^~\\&|GW||||20260301120000+0100||ORU^{event}|GW-17|P|2.6\r");
        rows.iter().for_each(|row| text.extend([row, "\r"]));
        Reading::of(&Message::parse(text.into_bytes()).unwrap())
    }

    fn at(text: &str) -> Option<i64> {
        Some(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    const OBR: &str = "OBR|1||F1|1^X^MDC|||20260301115900+0100|20260301115930+0100";
    const VALUE: &str = "OBX|1|NM|149530^MDC_PULS_OXIM_PULS_RATE^MDC|1.1.1.1|60||||||R|||20260301110000+0100";

    #[test]
    fn the_device_s_own_time_comes_first_then_the_end_of_the_request_then_a_row() {
        let own = "OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20260301105500+0100||||||R|||20260301120000+0100";
        let found = reading("R01", &[OBR, VALUE, own]);
        assert_eq!((found.observed, found.disclosed_skew), (at("2026-03-01T09:55:00Z"), Some(-65 * 60_000)));
        assert_eq!(reading("R01", &[OBR, VALUE]).observed, at("2026-03-01T10:59:30Z"));
        assert_eq!(reading("R01", &[VALUE]).observed, at("2026-03-01T10:00:00Z"));
        assert_eq!(reading("R01", &[]).observed, None);
    }

    #[test]
    fn one_time_written_twice_discloses_no_skew() {
        let own = "OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20260301120000+0100||||||R|||20260301120000+0100";
        assert_eq!(reading("R01", &[own]).disclosed_skew, None);
    }

    #[test]
    fn only_observations_are_part_of_the_interval() {
        let is = |event| reading(event, &[OBR, VALUE]).is_observation;
        assert_eq!(["R01", "R30", "R40", "R42"].map(is), [true, true, false, false]);
        assert!(!reading("R01", &[OBR]).is_observation);
    }

    #[test]
    fn a_time_without_zone_takes_that_of_msh_7() {
        let found = reading("R01", &["OBR|1||F1|1^X^MDC|||20260301115900"]);
        assert_eq!((found.observed, found.has_zone), (at("2026-03-01T10:59:00Z"), true));
    }

    #[test]
    fn a_sequence_number_counts_before_the_control_id() {
        let text = "MSH|^~\\&|GW||||20260301120000+0100||ORU^R01|GW-17|P|2.6|4\r";
        assert_eq!(Reading::of(&Message::parse(text.as_bytes().to_vec()).unwrap()).number.unwrap().value, 4);
        assert_eq!(reading("R01", &[]).number.unwrap().value, 17);
    }
}
