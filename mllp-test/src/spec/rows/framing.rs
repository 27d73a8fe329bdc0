//! Where a frame begins and ends. No frame may be lost, merged with the next or answered twice, whatever stands between.

use super::super::case::Expected::{Accept, Error};
use super::super::case::{Case, Sent, Then, answered, due};
use super::super::message::Draft;
use crate::frame::framed;

/// The most noise that is skipped.
const NOISE_BYTES_MAX: usize = 4096;

pub(super) fn rows() -> Vec<Case> {
    let mut rows = noise();
    rows.extend(ends());
    rows.extend([
        Case::wire(10, "a frame cut off by the next one's start", |draft| {
            Sent::silently([b"\x0b", &draft.text().as_bytes()[..60]].concat())
        }),
        Case::frame(11, "1C inside the message", Error(102), |draft| draft.with("2 West", "2\x1cWest")),
        Case::silent(12, "an empty frame", |_| "").in_one_mode(),
        Case::silent(13, "a frame of blanks", |_| " \r\r ").in_one_mode(),
        Case::silent(13, "a frame with only a CR", |_| "\r").in_one_mode(),
    ]);
    rows
}

fn noise() -> Vec<Case> {
    let blank = |length: usize| b"\r\n\0 ".iter().copied().cycle().take(length).collect::<Vec<u8>>();
    vec![
        Case::wire(1, "noise before the first frame", |_| Sent::silently(*b"\r\n\0 \0\r")).in_one_mode(),
        Case::wire(1, "noise between two frames", |draft| followed(draft, b"\r\n\0 \0\r")),
        Case::wire(1, "4,096 bytes of noise", move |_| Sent::silently(blank(NOISE_BYTES_MAX))).in_one_mode(),
        Case::wire(2, "4,097 bytes of noise", move |_| Sent::silently(blank(NOISE_BYTES_MAX + 1)).then(Then::Closed))
            .in_one_mode(),
        Case::wire(3, "a message without VT", |draft| Sent::silently([draft.text().as_bytes(), b"\x1c\r"].concat())),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        Case::wire(5, "FS without CR, the next frame behind it", |draft| {
            let mut sent = answered(draft.text().as_bytes(), draft, Accept);
            sent.bytes.pop();
            sent
        }),
        Case::wire(6, "FS without CR, then silence", |draft| {
            let mut sent = answered(draft.text().as_bytes(), draft, Accept);
            sent.bytes.pop();
            sent.then(Then::GoodAfterAnswer)
        }),
        // The ways of sending do the rest: byte by byte, and with FS and CR apart.
        Case::wire(7, "a frame, the next only after its answer", |draft| {
            answered(draft.text().as_bytes(), draft, Accept).then(Then::GoodAfterAnswer)
        }),
        Case::wire(8, "2 frames at once", |draft| several(draft, 2)),
        Case::wire(8, "100 frames at once", |draft| several(draft, 100)),
        Case::wire(9, "LF after the end of the frame, then the next", |draft| followed(draft, b"\n")),
    ]
}

fn followed(draft: &Draft, by: &[u8]) -> Sent {
    let mut sent = answered(draft.text().as_bytes(), draft, Accept);
    sent.bytes.extend_from_slice(by);
    sent
}

fn several(draft: &Draft, count: u32) -> Sent {
    let drafts = (0..count).map(|number| Draft { id: format!("{}.{number}", draft.id), mode: draft.mode });
    let mut sent = Sent::silently(Vec::new());
    for draft in drafts {
        sent.bytes.extend_from_slice(&framed(draft.text().as_bytes()));
        sent.due.push(due(&draft, Accept));
    }
    sent
}
