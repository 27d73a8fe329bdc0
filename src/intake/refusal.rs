//! Why a message is refused, as its sender is told: severity, place and table 0357 code, never a value.

use crate::{
    hl7::{CharsetError, Message, ParseError, ParseErrorKind, ack::Fault},
    pcd::tolerance::{Quirk, of_text},
};

/// Which negative answer is due (HL7 v2.6 ch. 2.9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// AE / CE: the sender must change the message.
    Error,
    /// AR / CR: not for this listener, by MSH-9, 11 or 12; or nothing is wrong with the message, and it cannot be stored
    /// now.
    Reject,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) severity: Severity,
    /// For the count of bad frames.
    pub(super) reason: &'static str,
    pub(super) fault: Fault,
    /// The quirk it is for, which its channel can be set to accept.
    pub(super) quirk: Option<Quirk>,
}

impl Refusal {
    pub(super) fn error(reason: &'static str, code: u16, location: impl Into<String>, text: &str) -> Refusal {
        Refusal::new(Severity::Error, reason, code, location, text)
    }

    pub(super) fn reject(reason: &'static str, code: u16, location: impl Into<String>, text: &str) -> Refusal {
        Refusal::new(Severity::Reject, reason, code, location, text)
    }

    fn new(severity: Severity, reason: &'static str, code: u16, location: impl Into<String>, text: &str) -> Refusal {
        let fault = Fault { location: location.into(), code, text: text.to_owned(), ..Fault::default() };
        Refusal { severity, reason, fault, quirk: None }
    }

    /// More than its listener takes, told as soon as that is known.
    pub(super) fn oversized() -> Refusal {
        Refusal::error("oversized", 104, "", "the message is over the listener's max_message; split it")
    }

    pub(super) fn for_quirk(self, quirk: Quirk) -> Refusal {
        Refusal { quirk: Some(quirk), ..self }
    }

    /// The bytes are not one HL7 v2 message.
    pub(super) fn unparsed(error: ParseError) -> Refusal {
        use ParseErrorKind as Kind;
        let (code, location) = match error.kind {
            Kind::HeaderTooShort => (101, "MSH^1^2"),
            Kind::FieldSeparator => (102, "MSH^1^1"),
            Kind::EncodingCharacters => (102, "MSH^1^2"),
            Kind::Batch => {
                return Refusal::reject(
                    "batch",
                    200,
                    "",
                    "batches are not taken: send each message in a frame of its own, or have the channel set `batch`",
                );
            }
            Kind::OutsideBatch => {
                let text = format!("{error}, segment {}: send the batch whole, from its FHS or BHS on", error.segment);
                return Refusal::error("batch", 100, "", &text);
            }
            Kind::SecondMsh => (100, "MSH^2"),
            Kind::TooLong => (104, ""),
            Kind::Empty | Kind::NotMsh | Kind::SegmentId => (100, ""),
        };
        let reason = match error.kind {
            Kind::FieldSeparator | Kind::EncodingCharacters | Kind::HeaderTooShort => "delimiters",
            Kind::Empty | Kind::NotMsh => "not_msh",
            _ => "structure",
        };
        Refusal::error(reason, code, location, &format!("{error}, segment {}", error.segment))
    }

    /// The text is not what MSH-18 or the channel says it is.
    pub(super) fn charset(error: CharsetError, message: &Message) -> Refusal {
        let (code, place) = match error {
            CharsetError::Unknown => (103, "MSH^1^18".to_owned()),
            CharsetError::Illegal { offset } => (102, location(message, offset)),
        };
        Refusal::error("charset", code, place, &error.to_string()).for_quirk(of_text(error))
    }
}

/// The ERL (segment, its number among those of its id, field) of the byte at `offset`.
pub(super) fn location(message: &Message, offset: usize) -> String {
    let Some(segment) = message.segments().find(|segment| segment.range().end > offset) else { return String::new() };
    let number = message.segments().take(segment.number() + 1).filter(|other| other.id() == segment.id()).count();
    let within = (1..=segment.field_count()).find(|n| segment.field_range(*n).is_some_and(|range| range.end >= offset));
    match within {
        Some(field) => format!("{}^{number}^{field}", segment.id()),
        None => format!("{}^{number}", segment.id()),
    }
}
