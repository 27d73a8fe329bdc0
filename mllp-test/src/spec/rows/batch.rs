//! Batches (HL7 v2.6 ch. 2.10.3): refused whole where they are not taken, and where their counts are wrong; never in part.

use super::super::case::Expected::{Accept, Error, Reject};
use super::super::case::{Case, Due, Expected, Listener, Sent};
use super::super::message::Draft;
use crate::frame::framed;

/// BTS-1 and FTS-1 of a batch of two messages in a file of one batch.
const RIGHT: (u32, u32) = (2, 1);

pub(super) fn rows() -> Vec<Case> {
    let taken = |what, expected, counts| batch(what, expected, true, counts).on(Listener::Batch);
    vec![
        batch("a file of a batch of two messages", Reject(200), true, RIGHT),
        batch("a batch of two messages", Reject(200), false, RIGHT),
        batch("a batch with a wrong count", Reject(200), false, (3, 1)),
        taken("batches on: a file of a batch of two messages", Accept, RIGHT),
        batch("batches on: a batch of two messages", Accept, false, RIGHT).on(Listener::Batch),
        taken("batches on: BTS-1 is one too many", Error(102), (3, 1)),
        taken("batches on: BTS-1 is one too few", Error(102), (1, 1)),
        taken("batches on: FTS-1 is one too many", Error(102), (2, 2)),
    ]
}

fn batch(what: &'static str, expected: Expected, in_file: bool, counts: (u32, u32)) -> Case {
    Case::wire(66, what, move |draft| {
        // The control id is the batch's, or in a batch ACK the first message's: a receiver's choice.
        let members = (expected == Accept).then_some(2);
        let due = Due { expected, control_id: None, mode: None, members, separators: None };
        Sent { due: vec![due], ..Sent::silently(framed(text(draft, in_file, counts).as_bytes())) }
    })
    .in_one_mode()
}

fn text(draft: &Draft, in_file: bool, (messages, batches): (u32, u32)) -> String {
    let id = &draft.id;
    let members = draft.renamed(&format!("{id}.1")) + &draft.renamed(&format!("{id}.2"));
    let head = |segment, id: &str| format!("{segment}|^~\\&|PUMP_GATEWAY|MLLP TEST|||20260102030405+0000||||{id}\r");
    let batch = format!("{}{members}BTS|{messages}\r", head("BHS", id));
    if !in_file {
        return batch;
    }
    format!("{}{batch}FTS|{batches}\r", head("FHS", &format!("{id}.F")))
}
