//! What an MLLP receiver is asked for: an answer. A lane goes on when its receiver has answered, whatever the device's
//! gateway wanted to hear of us.
//!
//! What must never happen: a message that asks for no answer, or for one to success or failure alone, is passed on so; a
//! receiver that keeps to the standard would then be silent, and the lane would wait behind that message for ever. Nor is
//! one whose application ACK settles it, where that would come to failure or success alone: silence would be taken for the other.

use bytes::Bytes;

use crate::{
    hl7::{Charset, Header, Message, Path, edit},
    translate::TranslateError,
};

/// The body, with MSH-15 `AL` where it would otherwise not be answered in every case, and MSH-16 `AL` where the
/// `application` settles it and would answer some cases.
pub(super) fn answerable(body: Bytes, application: bool) -> Result<Bytes, TranslateError> {
    let asking = asks(&Header::read(&body).0, application);
    if asking.is_empty() {
        return Ok(body);
    }
    let unwritten = |why: String| TranslateError::new("MSH-15", format!("cannot ask the receiver for an ACK: {why}"));
    let message = Message::parse(body).map_err(|fault| unwritten(fault.to_string()))?;
    // Where MSH-18 names no known set the listener has one; what is written here is the same in all of them.
    let known = if message.charset().is_ok() { None } else { Some(Charset::UTF_8) };
    let mut message = message.read_as(known, Charset::UTF_8).map_err(|fault| unwritten(fault.to_string()))?;
    for field in asking {
        let path = Path::parse(field).map_err(|fault| unwritten(fault.to_string()))?;
        message = edit::set(&message, &path, "AL").map_err(|fault| unwritten(fault.to_string()))?;
    }
    Ok(message.bytes())
}

/// The same of a message that goes out as received and is read otherwise. What of MSH is not what it is read as cannot be
/// written: another field may stand there.
pub(super) fn answerable_as_received(read: &Message, application: bool) -> Result<Bytes, TranslateError> {
    let (bytes, received) = (read.bytes(), read.received());
    let (as_read, as_sent) = (Header::read(&bytes).0, Header::read(&received).0);
    if [10, 15, 16].iter().all(|n| as_read.field(*n) == as_sent.field(*n)) {
        return answerable(received, application);
    }
    if asks(&as_read, application).is_empty() {
        return Ok(received);
    }
    let what = "cannot ask the receiver for an ACK in a header that only repair makes readable: send what is read, by translate = \"repaired\"";
    Err(TranslateError::new("MSH-15", what))
}

/// The fields that must be `AL`, and are not.
fn asks(header: &Header<'_>, application: bool) -> Vec<&'static str> {
    let accept = (!is_answered(header)).then_some("MSH-15");
    let some = application && matches!(header.field(16), b"ER" | b"SU");
    accept.into_iter().chain(some.then_some("MSH-16")).collect()
}

/// In original mode always; in enhanced mode where either acknowledgement is asked for always (HL7 v2.6 ch. 2.9.2 and
/// 2.9.3, table 0155). `ER` and `SU` together leave a commit accepted and the application's error unanswered.
fn is_answered(header: &Header<'_>) -> bool {
    let asked = [header.field(15), header.field(16)];
    asked == [b"", b""] || asked.contains(&b"AL".as_slice())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_stands_where_msh_15_would_be_in_a_header_without_an_end_is_not_written_over() {
        let glued = |asked: &str| {
            let frame = Bytes::from(format!("MSH|^~\\&|GW||||2026||ORU^R01|7|P|2.6|||{asked}|NEPID|1||42^^^H\r"));
            let short = Bytes::from_static(b"MSH|^~\\&|GW||||2026||ORU^R01|7|P|2.6PID|1||42^^^H\r");
            let frame = if asked.is_empty() { short } else { frame };
            let wanted = crate::hl7::repair::Misframed { glued: true, doubled: false };
            crate::hl7::repair::mend(&frame, wanted, None).unwrap().unwrap()
        };
        for asked in ["", "AL"] {
            let message = glued(asked);
            assert_eq!(answerable_as_received(&message, false), Ok(message.received()), "{asked}");
        }
        assert!(answerable_as_received(&glued("ER"), false).is_err());
    }

    #[test]
    fn only_a_message_that_might_not_be_answered_is_changed_and_only_in_msh_15() {
        let body = |accept: &str, application: &str| {
            Bytes::from(format!("MSH|^~\\&|GW|W|||20260115||ORU^R01|7|P|2.6|||{accept}|{application}||UTF-8\rPID|1\r"))
        };
        let asked = |accept, application| answerable(body(accept, application), false).unwrap();
        for (accept, application) in [("AL", "NE"), ("NE", "AL"), ("", ""), ("AL", "")] {
            assert_eq!(asked(accept, application), body(accept, application));
        }
        for (accept, application) in
            [("NE", "NE"), ("ER", "NE"), ("SU", "SU"), ("SU", "ER"), ("ER", "SU"), ("NE", ""), ("", "ER"), ("", "NE")]
        {
            assert_eq!(asked(accept, application), body("AL", application), "{accept} {application}");
        }
    }

    #[test]
    fn an_application_that_settles_is_asked_for_its_answer_in_every_case() {
        let body = |accept: &str, application: &str| {
            Bytes::from(format!("MSH|^~\\&|GW|W|||20260115||RGV^O15|7|P|2.6|||{accept}|{application}||UTF-8\rPID|1\r"))
        };
        let asked = |accept, application| answerable(body(accept, application), true).unwrap();
        for (accept, application) in [("AL", "NE"), ("AL", "AL"), ("", ""), ("AL", "")] {
            assert_eq!(asked(accept, application), body(accept, application), "{accept} {application}");
        }
        for (accept, application) in [("AL", "ER"), ("AL", "SU"), ("NE", "ER"), ("ER", "SU")] {
            assert_eq!(asked(accept, application), body("AL", "AL"), "{accept} {application}");
        }
    }
}
