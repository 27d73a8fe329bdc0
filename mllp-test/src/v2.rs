//! The few things the witness must read from a v2 message, and the acknowledgements it answers with. Plain splitting,
//! no grammar: what is looked at here are MSH and MSA, whose shape is fixed.

use crate::id::{Kind, MessageId};
use std::borrow::Cow;

/// Field `number` of the first `segment`, numbered as HL7 does (MSH-1 is the separator itself and is not given).
pub fn field<'m>(message: &'m [u8], segment: &str, number: usize) -> Option<&'m [u8]> {
    let separator = *message.get(3)?;
    let line =
        message.split(|&byte| byte == b'\r' || byte == b'\n').find(|line| line.starts_with(segment.as_bytes()))?;
    let skipped = if segment == "MSH" { number.checked_sub(1)? } else { number };
    line.split(|&byte| byte == separator).nth(skipped)
}

/// Component `number` (1 is the first) of a field, by the message's own component separator.
pub fn component<'m>(message: &[u8], field: &'m [u8], number: usize) -> &'m [u8] {
    let separator = message.get(4).copied().unwrap_or(b'^');
    field.split(|&byte| byte == separator).nth(number - 1).unwrap_or_default()
}

/// The [`MessageId`] in MSH-10, or in OBR-3 where the engine gave the message a control id of its own.
pub fn message_id(message: &[u8]) -> Option<MessageId> {
    let in_order = || MessageId::parse(component(message, field(message, "OBR", 3)?, 1));
    MessageId::parse(field(message, "MSH", 10)?).or_else(in_order)
}

/// The kind of message, by MSH-9.2.
pub fn kind(message: &[u8]) -> Kind {
    let trigger = field(message, "MSH", 9).map(|type_| component(message, type_, 2)).unwrap_or_default();
    std::str::from_utf8(trigger).map_or(Kind::Other, Kind::parse)
}

/// FNV-1a over the bytes of a message: says whether a destination got what was sent.
pub fn hash(message: &[u8]) -> u64 {
    message.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What an ACK says: MSA-1 and MSA-2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// MSA-1 as text: AA, CA, AE …
    pub code: String,
    /// MSA-2, the control id that is answered.
    pub control_id: Vec<u8>,
    /// Each ERR: place (ERR-2), condition (ERR-3), what to do (ERR-7, ERR-8), as sent.
    pub errors: Vec<String>,
}

impl Ack {
    /// Reads an ACK; `None` where there is no MSA segment with a code.
    pub fn read(message: &[u8]) -> Option<Ack> {
        let code = field(message, "MSA", 1).filter(|code| !code.is_empty())?;
        let control_id = field(message, "MSA", 2).unwrap_or_default().to_vec();
        Some(Ack { code: String::from_utf8_lossy(code).into_owned(), control_id, errors: errors(message) })
    }

    /// Reads the ACKs of a batch, or the one that stands alone.
    pub fn read_all(answer: &[u8]) -> Vec<Ack> {
        let begins =
            |at: &usize| answer[*at..].starts_with(b"MSH") && (*at == 0 || matches!(answer[at - 1], b'\r' | b'\n'));
        let starts: Vec<usize> = (0..answer.len()).filter(begins).chain([answer.len()]).collect();
        starts.windows(2).filter_map(|pair| Ack::read(&answer[pair[0]..pair[1]])).collect()
    }

    /// Whether the message was taken over: AA or CA.
    pub fn is_positive(&self) -> bool {
        matches!(self.code.as_str(), "AA" | "CA")
    }
}

/// What the ERR segments say.
fn errors(message: &[u8]) -> Vec<String> {
    let separator = message.get(3).copied().unwrap_or(b'|');
    let lines = message.split(|b| matches!(b, b'\r' | b'\n')).filter(|line| line.starts_with(b"ERR"));
    let told = lines.map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == separator).collect();
        let told = [2, 3, 7, 8].into_iter().filter_map(|n| fields.get(n)).filter(|field| !field.is_empty());
        told.map(|field| String::from_utf8_lossy(field)).collect::<Vec<_>>().join("  ")
    });
    told.collect()
}

/// How a receiver decided about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// AA or CA.
    Accept,
    /// AE or CE.
    Error,
    /// AR or CR.
    Reject,
}

/// Which acknowledgement mode a sink answers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// As MSH-15 and MSH-16 of each message ask (HL7 v2.6 ch. 2.9.2).
    #[default]
    AsAsked,
    /// Always AA/AE/AR.
    Original,
    /// Always CA/CE/CR.
    Enhanced,
}

/// MSA-1 for the outcome, or `None` where the sender asked for no answer.
pub fn ack_code(message: &[u8], outcome: Outcome, mode: AckMode) -> Option<&'static str> {
    let wants = |number| match field(message, "MSH", number).unwrap_or_default() {
        b"AL" => true,
        b"ER" => outcome != Outcome::Accept,
        b"SU" => outcome == Outcome::Accept,
        _ => false,
    };
    let is_empty = |number| field(message, "MSH", number).unwrap_or_default().is_empty();
    let enhanced = match mode {
        AckMode::Original => false,
        AckMode::Enhanced => true,
        AckMode::AsAsked if is_empty(15) && is_empty(16) => false,
        AckMode::AsAsked if wants(15) => true,
        AckMode::AsAsked if wants(16) => false,
        AckMode::AsAsked => return None,
    };
    Some(match (outcome, enhanced) {
        (Outcome::Accept, false) => "AA",
        (Outcome::Accept, true) => "CA",
        (Outcome::Error, false) => "AE",
        (Outcome::Error, true) => "CE",
        (Outcome::Reject, false) => "AR",
        (Outcome::Reject, true) => "CR",
    })
}

/// An ACK for `message` that answers `control_id`; `number` makes the ACK's own control id.
pub fn ack(message: &[u8], code: &str, control_id: &[u8], number: u64) -> Vec<u8> {
    let text = |number| String::from_utf8_lossy(field(message, "MSH", number).unwrap_or_default());
    let (s, marks) = (char::from(message.get(3).copied().unwrap_or(b'|')), text(2));
    let marks = if marks.is_empty() { Cow::Borrowed("^~\\&") } else { marks };
    let c = marks.chars().next().unwrap_or('^');
    let trigger = field(message, "MSH", 9).map(|type_| component(message, type_, 2)).unwrap_or_default();
    let mut ack = format!(
        "MSH{s}{marks}{s}{}{s}{}{s}{}{s}{}{s}{}{s}{s}ACK{c}{}{c}ACK{s}A{number}{s}{}{s}{}\rMSA{s}{code}{s}",
        text(5),
        text(6),
        text(3),
        text(4),
        text(7),
        String::from_utf8_lossy(trigger),
        text(11),
        text(12)
    )
    .into_bytes();
    ack.extend_from_slice(control_id);
    ack.push(b'\r');
    if code.ends_with(['E', 'R']) {
        let condition = if code.ends_with('E') { "102" } else { "207" };
        ack.extend_from_slice(format!("ERR{s}{s}{s}{condition}{s}E\r").as_bytes());
    }
    ack
}

/// The messages in a text file: segments may end in CR, LF or CRLF, each MSH begins a message, MLLP marks and blank
/// lines are dropped.
pub fn messages_in(text: &[u8]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in text.split(|&byte| matches!(byte, b'\r' | b'\n' | 0x0B | 0x1C)).filter(|line| !line.is_empty()) {
        if line.starts_with(b"MSH") || messages.is_empty() {
            messages.push(Vec::new());
        }
        if let Some(message) = messages.last_mut() {
            message.extend_from_slice(line);
            message.push(b'\r');
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn message(msh_15: &str, msh_16: &str) -> Vec<u8> {
        format!("MSH|^~\\&|PUMPS|ICU|EHR|H|20260102030405+0000||ORU^R40^ORU_R40|0000000a.1.2|P|2.6|||{msh_15}|{msh_16}\rPID|||1\r")
            .into_bytes()
    }

    #[test]
    fn fields_are_numbered_as_hl7_numbers_them() {
        let message = message("AL", "NE");
        assert_eq!(field(&message, "MSH", 3), Some(&b"PUMPS"[..]));
        assert_eq!(field(&message, "PID", 3), Some(&b"1"[..]));
        assert_eq!(field(&message, "OBX", 1), None);
        assert_eq!(message_id(&message), Some(MessageId { run: 10, sender: 1, seq: 2 }));
        assert_eq!(kind(&message), Kind::R40);
        let renamed = b"MSH|^~\\&|||||||ORU^R01|E1|P|2.6\rOBR|1||0000000a.1.2^GW\r";
        assert_eq!(message_id(renamed), Some(MessageId { run: 10, sender: 1, seq: 2 }));
    }

    #[test]
    fn the_ack_mode_is_the_one_the_sender_asked_for() {
        use Outcome::*;
        for (msh_15, msh_16, accept, error) in [
            ("", "", Some("AA"), Some("AE")),
            ("AL", "NE", Some("CA"), Some("CE")),
            ("NE", "AL", Some("AA"), Some("AE")),
            ("NE", "NE", None, None),
            ("ER", "NE", None, Some("CE")),
            ("SU", "ER", Some("CA"), Some("AE")),
        ] {
            let message = message(msh_15, msh_16);
            assert_eq!(ack_code(&message, Accept, AckMode::AsAsked), accept, "{msh_15}/{msh_16}");
            assert_eq!(ack_code(&message, Error, AckMode::AsAsked), error, "{msh_15}/{msh_16}");
        }
        assert_eq!(ack_code(&message("NE", "NE"), Reject, AckMode::Enhanced), Some("CR"));
        assert_eq!(ack_code(&message("AL", "NE"), Accept, AckMode::Original), Some("AA"));
    }

    #[test]
    fn an_ack_echoes_the_control_id_and_names_the_trigger_event() {
        let ack = ack(&message("AL", "NE"), "CE", b"0000000a.1.2", 9);
        assert_eq!(
            Ack::read(&ack),
            Some(Ack { code: "CE".into(), control_id: b"0000000a.1.2".to_vec(), errors: vec!["102".into()] })
        );
        assert_eq!(field(&ack, "MSH", 9), Some(&b"ACK^R40^ACK"[..]));
        assert_eq!(field(&ack, "MSH", 5), Some(&b"PUMPS"[..]));
        assert_eq!(field(&ack, "ERR", 3), Some(&b"102"[..]));
    }

    #[test]
    fn a_file_gives_its_messages_whatever_ends_its_lines() {
        let expected = vec![b"MSH|1\rPID|a\r".to_vec(), b"MSH|2\r".to_vec()];
        for file in
            ["MSH|1\rPID|a\rMSH|2", "MSH|1\nPID|a\n\nMSH|2\n", "\x0bMSH|1\r\nPID|a\r\n\x1c\r\x0bMSH|2\r\n\x1c\r"]
        {
            assert_eq!(messages_in(file.as_bytes()), expected, "{file:?}");
        }
    }
}
