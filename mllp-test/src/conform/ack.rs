//! Acknowledgements: D01, for one found in a file and for one that answers what was just sent.

use super::{Notes, Transaction, message::Message};

const CODES: &[&str] = &["AA", "AE", "AR", "CA", "CE", "CR"];

pub(super) fn check(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let Some(msa) = message.first("MSA") else {
        // That a report on an alert has one is B09's to say.
        if notes.transaction != Transaction::Pcd05 {
            notes.breach("D01", msh, 0, "there is no MSA");
        }
        return;
    };
    if !CODES.contains(&msa.field(1)) {
        notes.breach("D01", msa, 1, "no acknowledgement code");
    }
    if msa.field(2).is_empty() {
        notes.breach("D01", msa, 2, "which message is answered is not told");
    }
    for field in [3, 6] {
        if !msa.field(field).is_empty() {
            notes.breach("D01", msa, field, "the field is not to be used");
        }
    }
    if matches!(msa.field(1), "AE" | "AR" | "CE" | "CR") && message.first("ERR").is_none() {
        notes.breach("D01", msa, 1, "what was wrong is not told");
    }
    for err in message.all("ERR") {
        if !err.field(1).is_empty() {
            notes.breach("D01", err, 1, "the field is not to be used");
        }
        for field in [3, 4] {
            if err.part(field, 1).is_empty() {
                notes.breach("D01", err, field, "the kind or severity of the error is not told");
            }
        }
    }
}

/// What is wrong with an ACK as the answer to `sent`, beside what a look at it alone shows.
pub(super) fn answers(sent: &Message, ack: &Message, good: bool) -> Vec<&'static str> {
    let accept_asked = !sent.header(15).is_empty() || !sent.header(16).is_empty();
    let accept_wanted = !matches!(sent.header(15), "" | "NE");
    let wanted = match (accept_asked && accept_wanted, good) {
        (true, true) => &["CA"][..],
        (true, false) => &["CE", "CR"],
        (false, true) => &["AA"],
        (false, false) => &["AE", "AR"],
    };
    let msa = |field| ack.first("MSA").map_or("", |msa| msa.field(field));
    let mut wrong = Vec::new();
    let mut must = |holds: bool, words| wrong.extend((!holds).then_some(words));
    must(wanted.contains(&msa(1)), "MSA-1 is not what MSH-15 and MSH-16 ask for");
    must(msa(2) == sent.header(10), "MSA-2 is not the control id that was sent");
    must(ack.header_part(9, 1) == "ACK" && ack.header_part(9, 3) == "ACK", "MSH-9 is not ACK with the structure ACK");
    must(ack.header_part(9, 2) == sent.header_part(9, 2), "MSH-9.2 is not the event that was sent");
    must(ack.marks == sent.marks && ack.separator == sent.separator, "not the sender's delimiters");
    must(ack.header_part(12, 1) == sent.header_part(12, 1), "not the sender's version");
    wrong
}
