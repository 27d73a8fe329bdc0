//! A row of the table as something to send and the answers that are due. A due answer that does not come, one that is
//! not due, and a good message behind it that is not taken each make the row fail.

use super::message::{Draft, Mode};
use crate::frame::framed;
use crate::v2::{self, Ack};
use bytes::Bytes;
use std::fmt;

/// A part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Where a frame begins and ends.
    Framing,
    /// MSH.
    Header,
    /// Segments, fields and values.
    Content,
    /// Which answer, whether one at all, and repeats.
    Acknowledgement,
    /// FHS, BHS, BTS, FTS.
    Batch,
    /// Sizes and times.
    Limits,
    /// The TCP connection and other protocols on it.
    Connection,
    /// TLS.
    Tls,
    /// What a sender does with the answers it gets.
    Outbound,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Area::Framing => "Framing",
            Area::Header => "Header",
            Area::Content => "Content",
            Area::Acknowledgement => "Acknowledgement",
            Area::Batch => "Batch",
            Area::Limits => "Limits",
            Area::Connection => "Connection",
            Area::Tls => "TLS",
            Area::Outbound => "Outbound",
        })
    }
}

/// What a receiver should do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// AA or CA.
    Accept,
    /// AE or CE with this ERR-3, 0 for any.
    Error(u16),
    /// AR or CR with this ERR-3.
    Reject(u16),
    /// AA or CA, or over a limit of the receiver's AE or CE with ERR-3 104 or 198.
    AcceptOrTooLarge,
}

impl Expected {
    fn codes(self) -> [&'static str; 2] {
        match self {
            Expected::Accept | Expected::AcceptOrTooLarge => ["AA", "CA"],
            Expected::Error(_) => ["AE", "CE"],
            Expected::Reject(_) => ["AR", "CR"],
        }
    }
}

/// An answer that must come.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) expected: Expected,
    /// MSA-2; `None` where the message has none to tell.
    pub(super) control_id: Option<Vec<u8>>,
    /// `None` where the header cannot be read, so that either mode will do.
    pub(super) mode: Option<Mode>,
    /// For a batch, how many acknowledgements the answer holds, each as expected.
    pub(super) members: Option<usize>,
    /// The separators the answer must use, MSH-1 and MSH-2.
    pub(super) separators: Option<&'static [u8]>,
}

impl Due {
    /// What is wrong with the answer.
    pub(super) fn judge(&self, answer: &[u8]) -> Result<(), String> {
        let ack = Ack::read(answer).ok_or("the answer has no MSA segment")?;
        let condition = condition(answer);
        let too_large = self.expected == Expected::AcceptOrTooLarge && matches!(condition, 104 | 198);
        let expected = if too_large { Expected::Error(condition) } else { self.expected };
        let codes = self.allowed(expected);
        if !codes.contains(&ack.code.as_str()) {
            return Err(format!("answered {} where {} is due", ack.code, codes.join(" or ")));
        }
        self.judge_members(answer, &codes)?;
        let id = self.control_id.as_deref();
        if id.is_some_and(|id| id != ack.control_id) {
            let (is, due) = (ack.control_id.len(), id.unwrap_or_default().len());
            return Err(format!("MSA-2 is not the control id sent ({is} bytes instead of {due})"));
        }
        if let Expected::Error(wanted) | Expected::Reject(wanted) = expected
            && wanted != 0
            && condition != wanted
        {
            return Err(format!("ERR-3 is {condition} where {wanted} is due"));
        }
        match self.separators {
            Some(due) if !answer.get(3..).is_some_and(|rest| rest.starts_with(due)) => {
                Err("the answer does not use the sender's separators".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn judge_members(&self, answer: &[u8], codes: &[&str]) -> Result<(), String> {
        let Some(due) = self.members else { return Ok(()) };
        let segments = answer.split(|byte| *byte == b'\r').filter(|segment| segment.starts_with(b"MSA"));
        let as_due = |msa: &[u8]| msa.get(4..6).is_some_and(|code| codes.iter().any(|due| due.as_bytes() == code));
        match segments.filter(|msa| as_due(msa)).count() {
            count if count == due => Ok(()),
            count => Err(format!("{count} acknowledgements with {} where {due} are due", codes.join(" or "))),
        }
    }

    fn allowed(&self, expected: Expected) -> Vec<&'static str> {
        let [original, enhanced] = expected.codes();
        match self.mode {
            Some(Mode::Original) => vec![original],
            Some(Mode::Enhanced) => vec![enhanced],
            None => vec![original, enhanced],
        }
    }
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.allowed(self.expected).join(" or "))?;
        match self.expected {
            Expected::Error(code) | Expected::Reject(code) if code != 0 => write!(f, " with ERR-3 {code}")?,
            Expected::AcceptOrTooLarge => f.write_str(", or too large: an error with ERR-3 104 or 198")?,
            _ => {}
        }
        match self.control_id.as_deref() {
            Some(b"") => f.write_str(", MSA-2 empty")?,
            Some(_) => f.write_str(", MSA-2 as sent")?,
            None => {}
        }
        if let Some(members) = self.members {
            write!(f, ", for each of {members} messages")?;
        }
        if self.separators.is_some() { f.write_str(", the sender's separators") } else { Ok(()) }
    }
}

fn condition(answer: &[u8]) -> u16 {
    let field = v2::field(answer, "ERR", 3).map(|field| v2::component(answer, field, 1)).unwrap_or_default();
    std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What follows a row's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// A good message in the same write, which must be answered next.
    Good,
    /// The same once the due answers are there.
    GoodAfterAnswer,
    /// The receiver must close the connection; a good message over another one must be taken.
    Closed,
}

/// Bytes for the wire and what must come back.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) due: Vec<Due>,
    pub(super) then: Then,
}

impl Sent {
    /// Any bytes, without an answer.
    pub(super) fn silently(bytes: impl Into<Vec<u8>>) -> Sent {
        Sent { bytes: bytes.into(), due: Vec::new(), then: Then::Good }
    }

    pub(super) fn then(self, then: Then) -> Sent {
        Sent { then, ..self }
    }

    /// What a reader of the report must know is due.
    pub(super) fn expectation(&self) -> String {
        let due = match self.due.as_slice() {
            [] => "no answer".to_owned(),
            [one] => one.to_string(),
            [first, ..] => format!("{} answers in order, each {first}", self.due.len()),
        };
        match self.then {
            Then::Closed => format!("{due}; the connection closed; a good message over a new one taken"),
            _ => format!("{due}; the good message behind it taken"),
        }
    }
}

/// Which of the receiver's addresses a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    Usual,
    /// Content is checked before the answer.
    Strict,
    /// Batches are taken.
    Batch,
}

type Make = Box<dyn Fn(&Draft) -> Sent + Send + Sync>;

/// One input of a row.
pub(super) struct Case {
    pub(super) row: u8,
    pub(super) what: &'static str,
    pub(super) listener: Listener,
    /// Whether the two modes differ in what is sent.
    pub(super) has_modes: bool,
    pub(super) make: Make,
}

impl Case {
    /// Bytes made at will.
    pub(super) fn wire(row: u8, what: &'static str, make: impl Fn(&Draft) -> Sent + Send + Sync + 'static) -> Case {
        Case { row, what, listener: Listener::Usual, has_modes: true, make: Box::new(make) }
    }

    /// A frame around what is made of the draft, whose MSH-10 the answer must carry.
    pub(super) fn frame<B: AsRef<[u8]>>(
        row: u8,
        what: &'static str,
        expected: Expected,
        make: impl Fn(&Draft) -> B + Send + Sync + 'static,
    ) -> Case {
        let sent = move |draft: &Draft| answered(make(draft).as_ref(), draft, expected);
        Case::wire(row, what, sent)
    }

    /// The good message with the first `from` replaced.
    pub(super) fn edit(
        row: u8,
        what: &'static str,
        from: &'static str,
        to: impl Into<String>,
        expected: Expected,
    ) -> Case {
        let to = to.into();
        Case::frame(row, what, expected, move |draft| draft.with(from, &to))
    }

    /// A frame around bytes in which no header can be read: an answer without control id, in either mode.
    pub(super) fn unreadable(row: u8, what: &'static str, content: impl Into<Vec<u8>>, expected: Expected) -> Case {
        let content = content.into();
        Case::wire(row, what, move |_| {
            let due = Due { expected, control_id: Some(Vec::new()), mode: None, members: None, separators: None };
            Sent { due: vec![due], ..Sent::silently(framed(&content)) }
        })
        .in_one_mode()
    }

    /// A frame that no answer is due to.
    pub(super) fn silent<B: AsRef<[u8]>>(
        row: u8,
        what: &'static str,
        make: impl Fn(&Draft) -> B + Send + Sync + 'static,
    ) -> Case {
        Case::wire(row, what, move |draft| Sent::silently(framed(make(draft).as_ref())))
    }

    /// For a row that writes MSH-15 and MSH-16 itself, or has none.
    pub(super) fn in_one_mode(self) -> Case {
        Case { has_modes: false, ..self }
    }

    pub(super) fn on(self, listener: Listener) -> Case {
        Case { listener, ..self }
    }

    pub(super) fn area(&self) -> Area {
        area(self.row)
    }
}

/// A frame around `content`, answered under the draft's id.
pub(super) fn answered(content: &[u8], draft: &Draft, expected: Expected) -> Sent {
    Sent { due: vec![due(draft, expected)], ..Sent::silently(framed(content)) }
}

/// An answer under the draft's id, in its mode.
pub(super) fn due(draft: &Draft, expected: Expected) -> Due {
    Due {
        expected,
        control_id: Some(draft.id.clone().into_bytes()),
        mode: Some(draft.mode),
        members: None,
        separators: None,
    }
}

/// The part of the table a row is in.
pub(super) fn area(row: u8) -> Area {
    match row {
        1..=13 => Area::Framing,
        14..=17 | 20 | 22 | 82 => Area::Limits,
        18..=26 => Area::Connection,
        27..=30 => Area::Tls,
        45 | 48 | 49 | 58..=60 | 84 => Area::Acknowledgement,
        31..=57 => Area::Header,
        66 => Area::Batch,
        _ => Area::Content,
    }
}

/// Answers as a report shows them.
pub(super) fn shown_answers(answers: &[Bytes]) -> String {
    match answers {
        [] => "none".to_owned(),
        some => some.iter().map(|answer| super::escaped::escaped(answer)).collect::<Vec<_>>().join(" and "),
    }
}
