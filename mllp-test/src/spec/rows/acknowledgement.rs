//! Which answer, and whether one at all. A repeat gets the first answer again; an ACK is never acknowledged.

use super::super::case::Expected::{Accept, Error, Reject};
use super::super::case::{Case, Due, Expected, Sent, answered, due};
use super::super::message::{Draft, Mode};
use crate::frame::framed;

pub(super) fn rows() -> Vec<Case> {
    let mut rows = vec![
        Case::silent(45, "an acknowledgement", |draft| {
            format!("MSH|^~\\&|A|B|C|D|20260102030405+0000||ACK^R01^ACK|{}|P|2.6\rMSA|CA|1\r", draft.id)
        })
        .in_one_mode(),
        Case::wire(48, "a message and the same again", |draft| twice(draft, &draft.text())),
        Case::wire(49, "a control id used again for other content", |draft| {
            twice(draft, &draft.with("12.50", "13.75"))
        }),
        quiet(58, "no answer wanted", "NE", "NE", good),
        quiet(58, "no answer wanted, and the message is bad", "NE", "NE", unknown_version),
        quiet(59, "an answer wanted only for errors", "ER", "NE", good),
        told(59, "a bad message, an answer wanted only for errors", "ER", unknown_version, Reject(203)),
        told(59, "an answer wanted only for success", "SU", good, Accept),
        quiet(59, "a bad message, an answer wanted only for success", "SU", "NE", unknown_version),
    ];
    rows.push(told(60, "MSH-15 that is not in table 0155", "QQ", good, Error(103)));
    rows
}

fn twice(draft: &Draft, second: &str) -> Sent {
    let first = answered(draft.text().as_bytes(), draft, Accept);
    let bytes = [&first.bytes[..], &framed(second.as_bytes())].concat();
    Sent { due: vec![due(draft, Accept), due(draft, Accept)], ..Sent::silently(bytes) }
}

type Change = fn(String) -> String;

fn good(message: String) -> String {
    message
}

fn unknown_version(message: String) -> String {
    message.replacen("|P|2.6|", "|P|9.9|", 1)
}

/// MSH-15 and MSH-16 are such that nothing may come.
fn quiet(row: u8, what: &'static str, msh_15: &'static str, msh_16: &'static str, change: Change) -> Case {
    Case::silent(row, what, move |draft| change(draft.asking(msh_15, msh_16))).in_one_mode()
}

/// MSH-15 asks for an accept ACK.
fn told(row: u8, what: &'static str, msh_15: &'static str, change: Change, expected: Expected) -> Case {
    Case::wire(row, what, move |draft| {
        let due = Due { mode: Some(Mode::Enhanced), ..due(draft, expected) };
        Sent { due: vec![due], ..Sent::silently(framed(change(draft.asking(msh_15, "NE")).as_bytes())) }
    })
    .in_one_mode()
}
