//! Which acknowledgements a sender asked for, and what they say (HL7 v2.6 ch. 2.9.2, 2.9.3; table 0155).
//!
//! A positive one is made from [`Stored`] alone, which only a store makes: no other code here may write CA or AA.

use bytes::Bytes;
use jiff::Timestamp;

use super::refusal::{Refusal, Severity};
use crate::{
    hl7::{
        Header,
        ack::{self, Code},
    },
    mllp::server::Answer,
    store::Stored,
};

/// When an acknowledgement is wanted, table 0155.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// AL
    Always,
    /// NE, and in enhanced mode an empty field.
    Never,
    /// ER
    OnError,
    /// SU
    OnSuccess,
}

impl Condition {
    fn parse(raw: &[u8]) -> Option<Condition> {
        match raw.trim_ascii() {
            b"AL" => Some(Condition::Always),
            b"NE" | b"" | b"\"\"" => Some(Condition::Never),
            b"ER" => Some(Condition::OnError),
            b"SU" => Some(Condition::OnSuccess),
            _ => None,
        }
    }

    fn on_success(self) -> bool {
        matches!(self, Condition::Always | Condition::OnSuccess)
    }

    fn on_error(self) -> bool {
        matches!(self, Condition::Always | Condition::OnError)
    }
}

/// What MSH-15 and MSH-16 ask for. Both empty is original mode: one application ACK, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    accept: Condition,
    application: Condition,
}

impl Asked {
    /// Reads MSH-15 and MSH-16. A value that is not in the table is answered as if an answer was always wanted there, since
    /// a refusal that nobody hears would be a lost message; the refusal for it comes along.
    pub(super) fn of(header: &Header<'_>) -> (Asked, Option<Refusal>) {
        let fields = [header.field(15), header.field(16)];
        if fields.iter().all(|raw| matches!(raw.trim_ascii(), b"" | b"\"\"")) {
            let asked = Asked { accept: Condition::Never, application: Condition::Always };
            return (asked, None);
        }
        let [accept, application] = fields.map(Condition::parse);
        let unknown = |n: u8| {
            Refusal::error("ack_condition", 103, format!("MSH^1^{n}"), "send AL, NE, ER or SU, or leave it empty")
        };
        let refusal = match (accept, application) {
            (None, _) => Some(unknown(15)),
            (_, None) => Some(unknown(16)),
            _ => None,
        };
        let always = Condition::Always;
        let asked = Asked { accept: accept.unwrap_or(always), application: application.unwrap_or(always) };
        (asked, refusal)
    }

    /// MSA-1 of each answer to a message that is stored, in the order sent.
    pub(super) fn positive_codes(&self) -> impl Iterator<Item = Code> + use<> {
        let accept = self.accept.on_success().then_some(Code::CA);
        let application = self.application.on_success().then_some(Code::AA);
        accept.into_iter().chain(application)
    }

    /// The same without the application ACK.
    pub(super) fn accept_only(&self) -> Asked {
        Asked { application: Condition::Never, ..*self }
    }

    /// Whether an application ACK is wanted in any case.
    pub(super) fn wants_application(&self) -> bool {
        self.application != Condition::Never
    }

    /// Whether the application ACK is all the answer that a good message gets, so that its sender waits for it.
    pub(super) fn waits_for_application(&self) -> bool {
        self.application.on_success() && !self.accept.on_success()
    }

    /// MSA-1 of the application ACK to a stored message, once its deliveries have ended; `None` where none is wanted.
    pub(super) fn application_code(&self, outcome: &Result<(), Refusal>) -> Option<Code> {
        match outcome.as_ref().map_err(|refusal| refusal.severity) {
            Ok(()) => self.application.on_success().then_some(Code::AA),
            Err(Severity::Error) => self.application.on_error().then_some(Code::AE),
            Err(Severity::Reject) => self.application.on_error().then_some(Code::AR),
        }
    }

    /// MSA-1 of the one answer to a message that is refused: it never reached an application, so the accept ACK says it
    /// where one is wanted, and the application ACK where that alone is.
    pub(super) fn negative_code(&self, severity: Severity) -> Option<Code> {
        match (self.accept.on_error(), self.application.on_error(), severity) {
            (true, _, Severity::Error) => Some(Code::CE),
            (true, _, Severity::Reject) => Some(Code::CR),
            (false, true, Severity::Error) => Some(Code::AE),
            (false, true, Severity::Reject) => Some(Code::AR),
            (false, false, _) => None,
        }
    }
}

/// The answer to a stored message. It follows from the message and `stored` alone, so a repeat gets the first answer to
/// the byte.
pub(super) fn positive(stored: &Stored, header: &Header<'_>, asked: &Asked) -> Answer {
    let codes: Vec<Code> = asked.positive_codes().collect();
    let message = |code: &Code| {
        let own_control_id = format!("{}{}", code.as_str(), stored.sequence().as_u64());
        ack::build(header, *code, &[], stored.at(), &own_control_id)
    };
    Answer { messages: codes.iter().map(message).collect(), codes, ..Answer::default() }
}

/// The application ACK to a stored message, by what its destinations made of it; `None` where none is wanted for that.
pub(super) fn application(
    stored: &Stored,
    outcome: &Result<(), Refusal>,
    header: &Header<'_>,
    asked: &Asked,
    at: Timestamp,
) -> Option<(Bytes, Code)> {
    let code = asked.application_code(outcome)?;
    let own_control_id = format!("{}{}", code.as_str(), stored.sequence().as_u64());
    let faults = outcome.as_ref().err().map(|refusal| refusal.fault.clone());
    Some((ack::build(header, code, faults.as_slice(), at, &own_control_id), code))
}

/// The same for another control id, one character off: never sent by an engine that keeps its promises.
pub(super) fn for_another(answer: Answer) -> Answer {
    let another = |message: &Bytes| {
        let mut bytes = message.to_vec();
        let end = bytes.windows(5).position(|window| window == b"\rMSA|").map(|msa| msa + 8);
        let id = end.map_or(&mut [][..], |start| &mut bytes[start..]);
        let length = id.iter().position(|byte| matches!(byte, b'|' | b'\r')).unwrap_or(id.len());
        id[..length].iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
        bytes.into()
    };
    Answer { messages: answer.messages.iter().map(another).collect(), ..answer }
}

/// The answer to a refused message.
pub(super) fn negative(
    refusal: &Refusal,
    header: &Header<'_>,
    asked: &Asked,
    at: Timestamp,
    own_control_id: &str,
) -> Answer {
    let Some(code) = asked.negative_code(refusal.severity) else { return Answer::default() };
    let message: Bytes = ack::build(header, code, std::slice::from_ref(&refusal.fault), at, own_control_id);
    Answer { messages: vec![message], codes: vec![code], ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &str, application: &str) -> Asked {
        let message = format!("MSH|^~\\&|||||||ORU^R01|1|P|2.6|||{accept}|{application}\r");
        Asked::of(&Header::read(message.as_bytes()).0).0
    }

    fn codes(asked: Asked) -> String {
        let positive: Vec<_> = asked.positive_codes().map(Code::as_str).collect();
        let negative = |severity| asked.negative_code(severity).map_or("-", Code::as_str);
        let positive = if positive.is_empty() { "-".to_owned() } else { positive.join("+") };
        format!("{positive} {} {}", negative(Severity::Error), negative(Severity::Reject))
    }

    /// MSH-15, MSH-16: answers to a good, an erroneous and a rejected message.
    const TABLE: [(&str, &str, &str); 25] = [
        ("", "", "AA AE AR"),
        ("", "AL", "AA AE AR"),
        ("", "NE", "- - -"),
        ("", "ER", "- AE AR"),
        ("", "SU", "AA - -"),
        ("AL", "", "CA CE CR"),
        ("AL", "AL", "CA+AA CE CR"),
        ("AL", "NE", "CA CE CR"),
        ("AL", "ER", "CA CE CR"),
        ("AL", "SU", "CA+AA CE CR"),
        ("NE", "", "- - -"),
        ("NE", "AL", "AA AE AR"),
        ("NE", "NE", "- - -"),
        ("NE", "ER", "- AE AR"),
        ("NE", "SU", "AA - -"),
        ("ER", "", "- CE CR"),
        ("ER", "AL", "AA CE CR"),
        ("ER", "NE", "- CE CR"),
        ("ER", "ER", "- CE CR"),
        ("ER", "SU", "AA CE CR"),
        ("SU", "", "CA - -"),
        ("SU", "AL", "CA+AA AE AR"),
        ("SU", "NE", "CA - -"),
        ("SU", "ER", "CA AE AR"),
        ("SU", "SU", "CA+AA - -"),
    ];

    #[test]
    fn every_pair_of_msh_15_and_16_gets_the_answers_it_asks_for() {
        for (accept, application, expected) in TABLE {
            assert_eq!(codes(asked(accept, application)), expected, "MSH-15 `{accept}`, MSH-16 `{application}`");
        }
    }

    #[test]
    fn a_condition_not_in_the_table_is_refused_where_it_stands() {
        for (accept, application, location, code) in [
            ("QQ", "", "MSH^1^15", Code::CE),
            ("QQ", "AL", "MSH^1^15", Code::CE),
            ("", "QQ", "MSH^1^16", Code::AE),
            ("AL", "QQ", "MSH^1^16", Code::CE),
        ] {
            let message = format!("MSH|^~\\&|||||||ORU^R01|1|P|2.6|||{accept}|{application}\r");
            let (asked, refusal) = Asked::of(&Header::read(message.as_bytes()).0);
            assert_eq!(refusal.map(|refusal| refusal.fault.location), Some(location.to_owned()));
            assert_eq!(asked.negative_code(Severity::Error), Some(code));
        }
    }
}
