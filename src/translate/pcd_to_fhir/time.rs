//! When an observation was made. A zone is never assumed: it is the time's own, else MSH-7's, which HL7 makes the
//! default of the whole message (v2.6 ch. 2.15.9.7), else the one configured for this destination.

use std::cell::Cell;

use super::{Trace, TranslateError, Translation, refuse};
use crate::{
    fhir::Period,
    hl7::{Message, Precision, Time},
    pcd::{Nth, Place, Row, Stamp, Timing},
};

/// `effective[x]`, and the same as part of an observation's identity: the instant, and how precisely it was sent.
pub(super) struct Effective {
    pub(super) date_time: Option<String>,
    pub(super) period: Option<Period>,
    pub(super) key: String,
    pub(super) place: Place,
    /// Where its end was sent.
    pub(super) end: Option<Place>,
    /// It is only when the message was made.
    pub(super) of_message: bool,
    /// Milliseconds from start to end, where both are known.
    pub(super) length: Option<jiff::SignedDuration>,
}

/// The time read last: most rows of a message are of one.
pub(super) type Read = Cell<Option<Last>>;

pub(super) struct Last {
    raw: Vec<u8>,
    date_time: String,
    key: String,
}

impl Effective {
    pub(super) fn note(&self, trace: &mut Trace) {
        if self.period.is_none() {
            return trace.note("effectiveDateTime", self.place);
        }
        trace.note("effectivePeriod.start", self.place);
        trace.note("effectivePeriod.end", self.end.unwrap_or(self.place));
    }
}

pub(super) fn effective(translation: &Translation<'_>, row: &Row<'_>) -> Result<Effective, TranslateError> {
    match translation.report.timing(row) {
        None => Err(refuse(row.place_of(14), "no time in OBX-14, OBR-7 or MSH-7; ask the sender to fill one of them")),
        Some(Timing::At(stamp)) => {
            let of_message = stamp.place == translation.msh.place(7);
            at(translation, stamp).map(|effective| Effective { of_message, ..effective })
        }
        Some(Timing::Over(start, end)) => over(translation, start, end),
    }
}

/// Field `n` as an `instant`; `None` where it is not precise enough or has no zone.
pub(super) fn instant(translation: &Translation<'_>, nth: Nth<'_>, n: usize) -> Option<String> {
    let time = Time::parse(&translation.message.text(nth.field(n).component(1).raw())).ok()?;
    (time.precision() >= Precision::Second).then(|| time.fhir_date_time(translation.offset)).flatten()
}

/// A value that is a time, as a `dateTime`.
pub(super) fn date_time(translation: &Translation<'_>, raw: &[u8], place: Place) -> Result<String, TranslateError> {
    let time = parse(translation, raw, place)?;
    written(translation, &time, place)
}

/// A time beside the observation, as a `dateTime`; one that cannot be written is left out.
pub(super) fn remark(translation: &Translation<'_>, raw: &[u8]) -> Option<String> {
    Time::parse(translation.message.text(raw).trim()).ok()?.fhir_date_time(translation.offset)
}

/// Its day, as a `date`.
pub(super) fn day(translation: &Translation<'_>, raw: &[u8]) -> Option<String> {
    let date_time = remark(translation, raw)?;
    Some(date_time.split('T').next().unwrap_or_default().to_owned())
}

/// The zone of MSH-7.
pub(super) fn offset(message: &Message, msh: Nth<'_>) -> Option<i16> {
    Time::parse(&message.text(msh.field(7).component(1).raw())).ok()?.offset_minutes()
}

fn at(translation: &Translation<'_>, stamp: Stamp<'_>) -> Result<Effective, TranslateError> {
    let last = translation.times.take().filter(|last| last.raw == stamp.raw);
    let last = match last {
        Some(last) => last,
        None => {
            let time = parse(translation, stamp.raw, stamp.place)?;
            let date_time = written(translation, &time, stamp.place)?;
            Last { raw: stamp.raw.to_vec(), date_time, key: key(translation, &time) }
        }
    };
    let (date_time, key, place) = (Some(last.date_time.clone()), last.key.clone(), stamp.place);
    translation.times.set(Some(last));
    Ok(Effective { date_time, period: None, key, place, end: None, of_message: false, length: None })
}

/// An interval whose end is not after its start is no interval: then its start is when it was (per-1).
fn over(translation: &Translation<'_>, start: Stamp<'_>, end: Stamp<'_>) -> Result<Effective, TranslateError> {
    let (first, last) = (parse(translation, start.raw, start.place)?, parse(translation, end.raw, end.place)?);
    let instants = (first.timestamp(translation.offset), last.timestamp(translation.offset));
    let length = match instants {
        (Some(first), Some(last)) if last > first => Some(last.duration_since(first)),
        _ => return at(translation, start),
    };
    let period = Period {
        start: Some(written(translation, &first, start.place)?),
        end: Some(written(translation, &last, end.place)?),
    };
    let key = format!("{}/{}", key(translation, &first), key(translation, &last));
    let (place, end) = (start.place, Some(end.place));
    Ok(Effective { date_time: None, period: Some(period), key, place, end, of_message: false, length })
}

fn parse(translation: &Translation<'_>, raw: &[u8], place: Place) -> Result<Time, TranslateError> {
    Time::parse(translation.message.text(raw).trim())
        .map_err(|error| refuse(place, format!("{error}; ask the sender to mend it")))
}

fn written(translation: &Translation<'_>, time: &Time, place: Place) -> Result<String, TranslateError> {
    time.fhir_date_time(translation.offset).ok_or_else(|| {
        refuse(
            place,
            "the time has no zone and MSH-7 has none either; set `zone` in [tolerance] of the channel to the sender's",
        )
    })
}

fn key(translation: &Translation<'_>, time: &Time) -> String {
    match time.timestamp(translation.offset) {
        Some(instant) => format!("{}~{:?}", instant.as_nanosecond(), time.precision()),
        None => time.as_str().to_owned(),
    }
}
