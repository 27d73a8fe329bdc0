//! MSH. What cannot be read is answered without a control id, what can be read is echoed to the byte, and only the type,
//! event, processing id and version of a message are reasons to reject it.

use super::super::case::Expected::{self, Accept, Error, Reject};
use super::super::case::{Case, Due, Sent, due};
use super::super::message::{Draft, Mode};
use crate::frame::framed;

pub(super) fn rows() -> Vec<Case> {
    let areas = [beginning(), delimiters(), routing(), control_id(), processing(), charset()];
    areas.into_iter().flatten().collect()
}

fn beginning() -> Vec<Case> {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| {
        let draft = Draft { id: "UTF16".to_owned(), mode: Mode::Enhanced };
        let units: Vec<u16> = std::iter::once(0xFEFF).chain(draft.text().encode_utf16()).collect();
        units.into_iter().flat_map(bytes).collect::<Vec<u8>>()
    };
    let mut rows = vec![
        Case::edit(31, "a byte order mark before MSH", "MSH", "\u{feff}MSH", Accept),
        Case::unreadable(32, "UTF-16, low byte first", utf16(u16::to_le_bytes), Error(100)),
        Case::unreadable(32, "UTF-16, high byte first", utf16(u16::to_be_bytes), Error(100)),
    ];
    for (number, what, content) in [
        (33, "PID at the start", &b"PID|||1\rOBX|1\r"[..]),
        (33, "EVN at the start", b"EVN|R01\rPID|||1\r"),
        (33, "plain text", b"hello"),
        (34, "lower-case msh", b"msh|^~\\&|A|B\r"),
        (35, "JSON", b"{\"resourceType\":\"Bundle\"}"),
        (35, "v2 XML", b"<?xml version=\"1.0\"?><ORU_R01 xmlns=\"urn:hl7-org:v2xml\"/>"),
        (35, "CDA", b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>"),
    ] {
        rows.push(Case::unreadable(number, what, content, Error(100)));
    }
    let dicom = [&[0; 128][..], b"DICM\x02\0\0\0UL"].concat();
    rows.push(Case::unreadable(35, "DICOM", dicom, Error(100)));
    for (what, content) in
        [("only MSH", "MSH"), ("MSH and a separator", "MSH|"), ("MSH and one encoding character", "MSH|^")]
    {
        rows.push(Case::unreadable(36, what, content, Error(101)));
    }
    rows
}

fn delimiters() -> Vec<Case> {
    let mut rows: Vec<Case> = [
        (37, "three encoding characters", "|~\\&|"),
        (37, "no encoding characters", "||"),
        (38, "the component separator twice", "|^^\\&|"),
        (38, "the component separator twice, apart", "|^~^&|"),
    ]
    .into_iter()
    .map(|(number, what, to)| Case::edit(number, what, "|^~\\&|", to, Error(102)))
    .collect();
    rows.push(Case::wire(38, "the field separator among the encoding characters", |draft| {
        // Every field behind it is read one too far, MSH-10 and MSH-15 with them.
        let due = Due { control_id: None, mode: None, ..due(draft, Error(102)) };
        Sent { due: vec![due], ..Sent::silently(framed(draft.with("|^~\\&|", "|^~\\||").as_bytes())) }
    }));
    rows.push(Case::wire(39, "other delimiters", |draft| {
        let due = Due { separators: Some(b"$%*#@"), ..due(draft, Accept) };
        Sent { due: vec![due], ..Sent::silently(framed(other_delimiters(&draft.text()).as_bytes())) }
    }));
    rows.push(Case::frame(40, "five encoding characters of 2.7", Accept, |draft| {
        draft.with("^~\\&|", "^~\\&#|").replacen("|P|2.6|", "|P|2.7|", 1)
    }));
    for (what, separator) in [
        ("a letter as field separator", b'A'),
        ("a digit as field separator", b'1'),
        ("CR as field separator", b'\r'),
        ("NUL as field separator", 0),
        ("a byte over 7F as field separator", 0xE9),
    ] {
        let other = |byte| if byte == b'|' { separator } else { byte };
        let content: Vec<u8> = draft_text().bytes().map(other).collect();
        rows.push(Case::unreadable(41, what, content, Error(102)));
    }
    rows
}

fn draft_text() -> String {
    Draft { id: "SEPARATOR".to_owned(), mode: Mode::Enhanced }.text()
}

fn other_delimiters(message: &str) -> String {
    let other = |c| match c {
        '|' => '$',
        '^' => '%',
        '~' => '*',
        '\\' => '#',
        '&' => '@',
        other => other,
    };
    message.chars().map(other).collect()
}

fn routing() -> Vec<Case> {
    let of = |row, what, to: &str, expected| Case::edit(row, what, "ORU^R01^ORU_R01", to, expected);
    vec![
        of(42, "MSH-9 empty", "", Reject(200)),
        of(43, "MSH-9 of a type that nobody takes", "ZZZ^Z99", Reject(200)),
        of(44, "ORU with an unknown event", "ORU^R99^ORU_R99", Reject(201)),
    ]
}

/// A frame whose MSH-10 is `id`, behind which comes the draft's own to keep it unlike every other.
fn named(row: u8, what: &'static str, expected: Expected, id: fn(&Draft) -> Vec<u8>) -> Case {
    Case::wire(row, what, move |draft| {
        let id = id(draft);
        let text = draft.renamed("THE-ID");
        let (before, behind) = text.split_once("THE-ID").unwrap_or_default();
        let due = Due { control_id: Some(id.clone()), ..due(draft, expected) };
        let content = [before.as_bytes(), &id, behind.as_bytes()].concat();
        Sent { due: vec![due], ..Sent::silently(framed(&content)) }
    })
}

fn control_id() -> Vec<Case> {
    vec![
        named(46, "MSH-10 empty", Error(101), |_| Vec::new()),
        named(47, "MSH-10 of 200 characters", Error(104), |draft| format!("{:L>200}", draft.id).into_bytes()),
        named(50, "MSH-10 with delimiters", Accept, |draft| format!("{}^&\\", draft.id).into_bytes()),
        named(50, "MSH-10 with what other programs would run", Accept, |draft| {
            format!("{}<script>';%s", draft.id).into_bytes()
        }),
        named(50, "MSH-10 with a byte over 7F", Accept, |draft| [draft.id.as_bytes(), b"\xE9"].concat()),
    ]
}

fn processing() -> Vec<Case> {
    let mut rows: Vec<Case> = [
        (51, "MSH-11 empty", "||2.6|", 202),
        (51, "MSH-11 unknown", "|X|2.6|", 202),
        (52, "MSH-11 T where production is", "|T|2.6|", 202),
        (52, "MSH-11 D where production is", "|D|2.6|", 202),
        (53, "MSH-12 empty", "|P||", 203),
        (53, "MSH-12 unknown", "|P|9.9|", 203),
        (53, "MSH-12 no number", "|P|two|", 203),
    ]
    .into_iter()
    .map(|(number, what, to, code)| Case::edit(number, what, "|P|2.6|", to, Reject(code)))
    .collect();
    rows.push(Case::edit(54, "MSH-7 that is no time", "20260102030405+0000", "yesterday", Accept));
    rows
}

fn charset() -> Vec<Case> {
    // MSH-18 is two fields behind MSH-16.
    let in_msh_18 = |draft: &Draft, name: &str| {
        let asked = if draft.mode == Mode::Enhanced { "AL|NE" } else { "|" };
        draft.with(&format!("|2.6|||{asked}||"), &format!("|2.6|||{asked}||{name}"))
    };
    let latin = |text: String| {
        let (before, behind) = text.split_once("Spec^Test").unwrap_or_default();
        [before.as_bytes(), b"M\xFCller^Test", behind.as_bytes()].concat()
    };
    vec![
        Case::frame(55, "MSH-18 unknown", Error(103), move |draft| in_msh_18(draft, "KLINGON")),
        Case::frame(56, "MSH-18 UTF-8 and Latin-1 bytes", Error(102), move |draft| {
            latin(in_msh_18(draft, "UNICODE UTF-8"))
        }),
        Case::frame(57, "no MSH-18 and bytes over 7F", Accept, move |draft| latin(draft.text())),
    ]
}
