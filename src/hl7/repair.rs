//! A frame as its sender meant it, where its segments or its escape characters are not what they should be.
//!
//! Each repair is a guess and is made only where it is asked for. What must never happen: the half of a wide character is
//! taken for a letter or an escape character, or the frame as received is lost: [`Message::received`] keeps it.

use bytes::Bytes;

use super::{Charset, Header, Message, ParseError, Segment};

/// What is not as it should be in the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Misframed {
    /// A segment begins in the middle of a line.
    pub glued: bool,
    /// The escape character stands twice.
    pub doubled: bool,
}

impl Misframed {
    /// What of both `self` and `other` have.
    pub fn and(self, other: Misframed) -> Misframed {
        Misframed { glued: self.glued && other.glued, doubled: self.doubled && other.doubled }
    }
}

/// What a message has of these.
pub fn misframed(message: &Message) -> Misframed {
    let (glued, doubled) = first_places(message);
    Misframed { glued: glued.is_some(), doubled: doubled.is_some() }
}

/// Where in its bytes a message that was not mended has these first: a segment within a line, a second escape character.
pub fn first_places(message: &Message) -> (Option<usize>, Option<usize>) {
    let (bytes, escape) = (message.as_bytes(), message.delimiters().escape);
    let has_pair = pair(bytes, escape, body(message)).is_some();
    (glued(message).next(), if has_pair { doubled(message).next() } else { None })
}

/// Where in its bytes a message was mended of these first.
pub fn mended_places(message: &Message) -> (Option<usize>, Option<usize>) {
    let (sent, read, escape) = (message.received(), message.as_bytes(), message.delimiters().escape);
    let (mut parted, mut single) = (None, None);
    let (mut from, mut at) = (0, 0);
    while let (Some(byte), Some(other)) = (sent.get(from), read.get(at)) {
        match (byte, other) {
            (byte, other) if byte == other => (from, at) = (from + 1, at + 1),
            (_, b'\r') => {
                parted = parted.or(Some(at));
                at += 1;
            }
            (byte, _) if *byte == escape => {
                single = single.or(Some(at));
                from += 1;
            }
            // What else is read otherwise than sent stands in fields.
            _ => break,
        }
    }
    (parted, single)
}

/// What a frame has of these that may be no message for them.
pub fn misframed_as_sent(frame: &Bytes, charset: Option<Charset>) -> Misframed {
    let header = single_header(frame);
    let parsed = Message::parse(header.clone().unwrap_or_else(|| frame.clone()));
    let parsed = parsed.and_then(|message| message.read_as(charset, Charset::UTF_8));
    let found = parsed.map_or_else(|_| Misframed::default(), |message| misframed(&message));
    Misframed { doubled: found.doubled || header.is_some(), ..found }
}

/// The message with `wanted` mended; `None` where there is nothing to mend. Text is read in `fixed`, else as MSH-18 says.
pub fn mend(frame: &Bytes, wanted: Misframed, fixed: Option<Charset>) -> Option<Result<Message, ParseError>> {
    let header = if wanted.doubled { single_header(frame) } else { None };
    let parsed = Message::parse(header.clone().unwrap_or_else(|| frame.clone()));
    let parsed = match (parsed.and_then(|message| message.read_as(fixed, Charset::UTF_8)), &header) {
        (Ok(parsed), _) => parsed,
        (Err(error), Some(_)) => return Some(Err(error)),
        (Err(_), None) => return None,
    };
    let found = misframed(&parsed).and(wanted);
    if header.is_none() && found == Misframed::default() {
        return None;
    }
    let mut changes: Vec<(usize, Change)> = Vec::new();
    if found.glued {
        changes.extend(glued(&parsed).map(|at| (at, Change::Part)));
    }
    if found.doubled {
        changes.extend(doubled(&parsed).map(|at| (at, Change::Drop)));
    }
    changes.sort_by_key(|(at, _)| *at);
    let mended = Message::parse(changed(parsed.as_bytes(), &changes));
    Some(mended.map(|message| message.repaired_from(frame.clone())))
}

enum Change {
    /// A segment ends before this byte.
    Part,
    /// This byte is left out.
    Drop,
}

fn changed(bytes: &[u8], changes: &[(usize, Change)]) -> Vec<u8> {
    let mut new = Vec::with_capacity(bytes.len() + changes.len());
    let mut copied = 0;
    for (at, change) in changes {
        new.extend_from_slice(&bytes[copied..*at]);
        copied = match change {
            Change::Part => {
                new.push(b'\r');
                *at
            }
            Change::Drop => *at + 1,
        };
    }
    new.extend_from_slice(&bytes[copied..]);
    new
}

/// The frame with one escape character in MSH-2, where it has two (`^~\\&`) and is no message for it.
fn single_header(frame: &Bytes) -> Option<Bytes> {
    let start = frame.windows(3).take(64).position(|id| id == b"MSH")?;
    let msh = &frame[start..];
    match *msh.get(3..10)? {
        [field, _, _, escape, second, _, end] if escape == second && end == field => {}
        _ => return None,
    }
    Header::read(frame).1?;
    Some([&frame[..start + 6], &frame[start + 7..]].concat().into())
}

/// Where a segment begins in the middle of a line. Each message is looked at here, and most have hundreds of fields: so little
/// is done for one whose end is no segment's id.
fn glued(message: &Message) -> impl Iterator<Item = usize> + '_ {
    let (structure, delimiters) = (message.structure(), message.delimiters());
    let inside = [Some(delimiters.component), Some(delimiters.repetition), delimiters.subcomponent];
    message.separators().windows(2).filter_map(move |pair| {
        let (end, next) = (pair[0] as usize, pair[1] as usize);
        let &[before, a, b, c] = structure[..end].last_chunk()?;
        if !is_numbered([a, b, c]) || matches!(before, b'\r' | b'\n') || inside.contains(&Some(before)) {
            return None;
        }
        structure[end + 1..next].iter().all(u8::is_ascii_digit).then_some(end - 3)
    })
}

/// The segment in whose line another surely begins, so that what that tells is in no segment of its own: it has a set id
/// there, or what follows its empty one is that segment's and not that of the fields it stands in.
pub fn surely_glued(message: &Message) -> Option<Segment<'_>> {
    let at = glued(message).find(|&at| {
        let structure = message.structure();
        let follows_letter = structure[..at].last().is_some_and(u8::is_ascii_alphabetic);
        let is_numbered = structure.get(at + 4).is_some_and(u8::is_ascii_digit);
        is_numbered && !follows_letter || reads_as_segment(message, at)
    })?;
    message.segments().find(|segment| segment.range().contains(&at)).or_else(|| Some(message.msh()))
}

/// Whether the rest of a line is the segment whose id stands at `at`. `LIPID||` and `seen for PID||` end a text and an empty
/// field follows: behind a segment that holds text, only a field that no other segment has there is proof.
fn reads_as_segment(message: &Message, at: usize) -> bool {
    let (structure, delimiters) = (message.structure(), message.delimiters());
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = structure[..at].iter().rposition(is_end).map_or(0, |end| end + 1);
    let end = structure[at..].iter().position(is_end).map_or(structure.len(), |end| at + end);
    let before = structure[start..at].iter().filter(|byte| **byte == delimiters.field).count();
    let fields: Vec<&[u8]> = structure[at..end].split(|byte| *byte == delimiters.field).collect();
    let filled = |n: usize| fields.get(n).is_some_and(|field| !field.is_empty());
    let composed = |n: usize| fields.get(n).is_some_and(|field| field.contains(&delimiters.component));
    let follows_letter = structure[..at].last().is_some_and(u8::is_ascii_alphabetic);
    match fields[0] {
        // MSH-1 is the first separator itself, and no text stands from MSH-12 on.
        _ if structure[start..].starts_with(b"MSH") => before + 1 >= 12 && (2..fields.len()).any(filled),
        b"OBX" => {
            filled(3) && fields.get(2).is_some_and(|kind| is_value_type(kind))
                || composed(3) && fields.get(4).is_some_and(|place| is_place(place))
        }
        b"PID" => composed(3) || composed(5),
        b"PV1" => composed(3) || fields.get(2).is_some_and(|class| class.len() == 1) && (filled(3) || !follows_letter),
        b"NTE" if follows_letter => filled(1) && is_note(&fields),
        b"NTE" | b"PRT" => !follows_letter && before >= 5 && (2..fields.len()).any(filled),
        _ => (2..=5).any(composed),
    }
}

/// As a comment is written: its source (table 0105), or words. `VICENTE|1|V77` is a physician and a number of the visit.
fn is_note(fields: &[&[u8]]) -> bool {
    match fields.get(2..4) {
        Some([b"L" | b"P" | b"O", _]) => true,
        Some([b"", words]) => words.contains(&b' '),
        _ => false,
    }
}

/// As OBX-4 of a device is written, which has no value: `1.1.0.0`.
fn is_place(place: &[u8]) -> bool {
    place.contains(&b'.') && place.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// As OBX-2 is written: two or three letters of table 0125.
fn is_value_type(kind: &[u8]) -> bool {
    matches!(kind.len(), 2 | 3) && kind.iter().all(u8::is_ascii_uppercase)
}

/// The id of a segment whose first field is a set id or empty, by which it is known in the middle of a line.
fn is_numbered(id: [u8; 3]) -> bool {
    matches!(&id, b"PID" | b"PV1" | b"PV2" | b"OBR" | b"OBX" | b"NTE" | b"PRT" | b"AL1" | b"DG1" | b"IN1")
}

/// The second of each pair of escape characters behind MSH-2.
fn doubled(message: &Message) -> impl Iterator<Item = usize> + '_ {
    let (structure, escape) = (message.structure(), message.delimiters().escape);
    let mut from = body(message);
    std::iter::from_fn(move || {
        let at = pair(structure, escape, from)?;
        from = at + 2;
        Some(at + 1)
    })
}

fn pair(bytes: &[u8], escape: u8, from: usize) -> Option<usize> {
    let rest = &bytes[from..];
    memchr::memchr_iter(escape, rest).find(|at| rest.get(at + 1) == Some(&escape)).map(|at| from + at)
}

/// Behind MSH-2.
fn body(message: &Message) -> usize {
    message.msh().field_range(2).map_or(0, |range| range.end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BOTH: Misframed = Misframed { glued: true, doubled: true };

    fn mended(frame: &[u8]) -> Option<Vec<u8>> {
        let frame = Bytes::copy_from_slice(frame);
        let message = mend(&frame, BOTH, None)?.unwrap();
        assert_eq!(message.received(), frame, "as received it is kept");
        Some(message.as_bytes().to_vec())
    }

    #[test]
    fn a_segment_in_the_middle_of_a_line_is_parted_from_what_is_before_it() {
        let frame = b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6PID|1||42^^^H\rPV1||I\rOBR|1||7OBX|1|NM|158^A^MDC||80OBX|2|NM|159^B^MDC||81\r";
        let text = String::from_utf8(mended(frame).unwrap()).unwrap();
        let ids: Vec<&str> = text.split_terminator('\r').map(|segment| &segment[..3]).collect();
        assert_eq!(ids, ["MSH", "PID", "PV1", "OBR", "OBX", "OBX"]);
        assert!(text.contains("|P|2.6\rPID|1||42^^^H\r"), "{text}");
    }

    #[test]
    fn what_only_looks_like_a_segment_is_left() {
        for frame in [
            "MSH|^~\\&|A||||||ORU|1|P|2.6\rOBX|1|CWE|1^OBX|1|x^PID|A|PID\rNTE|1||OBX\r",
            "MSH|^~\\&|A||||||ORU|1|P|2.6\rERR||OBX^1^5|102|E\rZPX|PID|x1|2\r",
            "MSH|^~\\&|A||||||ORU|1|P|2.6\rNTE|1||a\\F\\b\\.br\\c\r",
        ] {
            assert_eq!(mended(frame.as_bytes()), None, "{frame}");
        }
    }

    #[test]
    fn a_segment_with_an_empty_set_id_is_known_by_what_follows_and_a_word_is_none() {
        let is_glued = |body: &str| {
            let frame = format!("MSH|^~\\&|RAPID||LIPID||20260314||ORU^R01|1|P|2.6{body}\r");
            surely_glued(&Message::parse(frame.into_bytes()).unwrap()).is_some()
        };
        for glued in [
            "PID|||42",
            "|||AL|NE|||||GW^^1.3.6.1.4.1.19376.1.6.1.1.1^ISOPID||||DOE",
            "\rPID|||42^^^H^MRPV1||I|4W",
            "\rPV1||I|4WOBR||7^GW||69985^MDC_DEV^MDC",
            "\rOBX|1|NM|158^A^MDC||80OBX||NM|159^B^MDC||81",
            "\rOBX|1|NM|158^A^MDC||80|||||F|||20260314||||P1^^00^EUI-64OBX||CWE|159^B^MDC",
            "\rOBX|1|NM|158^A^MDC||80|||||F|||20260314NTE|||moved",
            "\rNTE|1||moved|PID|||42^^^H^MR",
            "\rOBX|1|NM|158^A^MDC||80|||||FNTE|1|L|moved",
            "\rOBX|1|NM|158^A^MDC||80|||||FNTE|1||arm was moved",
            "\rOBX|1|NM|158^A^MDC||80|||||FOBX|2|NM|159^B^MDC||81",
            "\rOBX|1||69965^A^MDC|1.0.0.0|||||||X|||||||P1^^00^EUI-64OBX|||69854^B^MDC|1.1.0.0|||||||X",
        ] {
            assert!(is_glued(glued), "{glued}");
        }
        for whole in [
            "\rOBX|1|ST|158^A^L||LIPID|||H|||F|||20260314",
            "\rOBX|1|ST|158^A^L||seen for PID||4-5|H~A|||F|||20260314||9^MONTE",
            "\rOBX|1|ST|158^A^L||PACIENTE|||H|||F",
            "\rOBX|1|ST|158^A^L||80|||||F|||20260314||5^AVICENTE|||20260314",
            "\rNTE|1||see OBX|||",
            "\rPV1||I|4W||||7^RAPID||||PID",
            "\rPV1||I|4W|||||||||||||77^VICENTE|1|V77",
            "\rOBX|1|ST|158^A^L||PENDIENTE|1|||||F",
        ] {
            assert!(!is_glued(whole), "{whole}");
        }
    }

    #[test]
    fn escape_characters_that_stand_twice_are_read_as_one_also_in_msh_2() {
        let once = b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6\rNTE|1||a\\F\\b\\c\r";
        assert_eq!(mended(b"MSH|^~\\\\&|GW||||20260314||ORU^R01|1|P|2.6\rNTE|1||a\\\\F\\\\b\\\\c\r").unwrap(), once);
        assert_eq!(mended(b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6\rNTE|1||a\\\\F\\\\b\\c\r").unwrap(), once);
    }

    #[test]
    fn the_second_half_of_a_wide_character_is_no_escape_character_and_no_letter() {
        // A5 5C is one character, whose second half looks like the escape character.
        let frame = b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6||||||BIG-5\rNTE|1||\xA5\x5C\\F\\\r";
        assert_eq!(mended(frame), None);
        let frame = b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6||||||ISO IR87\rNTE|1||\x1B$BPID|1|OBX|1|\x1B(B\r";
        assert_eq!(mended(frame), None);
    }

    #[test]
    fn only_what_is_wanted_is_mended() {
        let frame = Bytes::from_static(b"MSH|^~\\&|GW||||20260314||ORU^R01|1|P|2.6PID|1||a\\\\b\r");
        let glued = mend(&frame, Misframed { glued: true, doubled: false }, None).unwrap().unwrap();
        assert!(glued.as_bytes().ends_with(b"2.6\rPID|1||a\\\\b\r"));
        assert!(mend(&frame, Misframed::default(), None).is_none());
    }
}
