//! Very much of something: taken, or refused as too large, in a time that grows with the size alone.

use super::super::case::Case;
use super::super::case::Expected::AcceptOrTooLarge;

pub(super) fn rows() -> Vec<Case> {
    vec![
        Case::frame(82, "100,000 OBX", AcceptOrTooLarge, |draft| draft.text() + &"OBX|9\r".repeat(100_000)),
        Case::frame(82, "a million repetition separators", AcceptOrTooLarge, |draft| {
            draft.with("2 West", &"~".repeat(1_000_000))
        }),
        Case::frame(82, "a million component separators", AcceptOrTooLarge, |draft| {
            draft.with("2 West", &"^".repeat(1_000_000))
        }),
        Case::frame(82, "OBX-4 a thousand levels deep", AcceptOrTooLarge, |draft| {
            draft.with("|1.1.1.1|", &format!("|{}1|", "1.".repeat(999)))
        }),
        Case::frame(82, "a field of 10 MB", AcceptOrTooLarge, |draft| draft.with("2 West", &"x".repeat(10_000_000))),
    ]
}
