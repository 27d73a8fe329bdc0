//! The module from outside: what a sender may write and what is regained from it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::mpsc, time::Duration};

use proptest::prelude::*;

use super::*;

const HEADER: &str = "MSH|^~\\&|PUMP|4W|EHR||20260314092630+0000||ORU^R01^ORU_R01|17|P|2.6";

fn refused(bytes: &[u8]) -> (ParseErrorKind, usize, usize) {
    let error = Message::parse(bytes.to_vec()).expect_err("a refusal");
    (error.kind, error.offset, error.segment)
}

#[test]
fn segments_end_in_cr_lf_or_both_and_the_last_may_not_end() {
    for end in ["\r", "\n", "\r\n", "\r\n\r\n", "\n\n", "\r\r", "\r\n \t\n"] {
        for last in ["", end] {
            let message = Message::parse(format!("{HEADER}{end}PID|1||42{end}OBX{end}OBX|2|ST{last}")).unwrap();
            let raw: Vec<&[u8]> = message.segments().map(|segment| segment.raw()).collect();
            assert_eq!(raw, [HEADER.as_bytes(), b"PID|1||42", b"OBX", b"OBX|2|ST"]);
        }
    }
}

#[test]
fn fields_are_counted_as_the_standard_does() {
    let message = Message::parse(format!("{HEADER}\rPID|1||42^^^A&B~43|\rOBX\rOBX|\r")).unwrap();
    let (msh, segments) = (message.msh(), message.segments().collect::<Vec<_>>());
    assert_eq!((msh.field(1).raw(), msh.field(2).raw(), msh.field(3).raw()), (&b"|"[..], &b"^~\\&"[..], &b"PUMP"[..]));
    assert_eq!((msh.field(12).raw(), msh.field_count()), (&b"2.6"[..], 12));
    let pid = segments[1];
    assert_eq!((pid.id(), pid.number(), pid.field_count()), ("PID", 1, 4));
    assert!(pid.field(0).is_empty() && pid.field(2).is_empty() && pid.field(4).is_empty() && pid.field(5).is_empty());
    assert_eq!((pid.field_range(4).is_some(), pid.field_range(5)), (true, None));
    assert_eq!(pid.field(usize::MAX).raw(), b"");
    assert_eq!((segments[2].field_count(), segments[3].field_count()), (0, 1));
}

#[test]
fn parts_are_split_by_the_messages_own_delimiters() {
    let message = Message::parse("MSH$%*#@$A$B\rPID$1$$42%%%H@O*77|^~\\&").unwrap();
    let field = message.segment("PID").unwrap().field(3);
    let repetitions: Vec<&[u8]> = field.repetitions().map(|repetition| repetition.raw()).collect();
    assert_eq!(repetitions, [&b"42%%%H@O"[..], b"77|^~\\&"]);
    assert_eq!(field.component(4).subcomponent(2), b"O");
    assert!(field.component(4).subcomponent(3).is_empty() && field.component(0).is_empty());
    let parts: Vec<&[u8]> = field.component(4).subcomponents().collect();
    assert_eq!(parts, [b"H", b"O"]);
}

#[test]
fn msh_2_of_three_or_five_characters_is_taken_and_never_split() {
    for encoding in ["^~\\", "^~\\&", "^~\\&#"] {
        let message = Message::parse(format!("MSH|{encoding}|A\rPID|a&b#c")).unwrap();
        assert_eq!(message.delimiters().encoding_characters().collect::<Vec<_>>(), encoding.as_bytes());
        let msh_2 = message.msh().field(2);
        assert_eq!((msh_2.repetitions().count(), msh_2.component(1).subcomponent(1)), (1, encoding.as_bytes()));
        let parts = message.segment("PID").unwrap().field(1).component(1).subcomponents().count();
        assert_eq!(parts, if encoding.len() > 3 { 2 } else { 1 });
    }
}

#[test]
fn blanks_and_a_byte_order_mark_before_msh_are_passed_over_but_kept() {
    let text = format!("\u{FEFF}\r\n {HEADER}\rPID|1");
    let message = Message::parse(text.clone()).unwrap();
    assert_eq!((message.as_bytes(), message.segments().len()), (text.as_bytes(), 2));
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    use ParseErrorKind::*;
    for (bytes, expected) in [
        (&b""[..], (Empty, 0, 0)),
        (b"\r\n  \r", (Empty, 5, 0)),
        (b"PID|1", (NotMsh, 0, 1)),
        (b"msh|^~\\&|A", (NotMsh, 0, 1)),
        (b"M\0S\0H\0|\0", (NotMsh, 0, 1)),
        (b"<ClinicalDocument/>", (NotMsh, 0, 1)),
        (b"MS", (NotMsh, 0, 1)),
        (b"MSH", (HeaderTooShort, 3, 1)),
        (b"MSH|", (HeaderTooShort, 4, 1)),
        (b"MSH|^", (HeaderTooShort, 4, 1)),
        (b"MSH|^~\\&", (HeaderTooShort, 4, 1)),
        (b"MSH|^~\\&\rPID|1", (HeaderTooShort, 4, 1)),
        (b"MSHA^~\\&A", (FieldSeparator, 3, 1)),
        (b"MSH1^~\\&1", (FieldSeparator, 3, 1)),
        (b"MSH\r^~\\&\r", (FieldSeparator, 3, 1)),
        (b"MSH\0^~\\&\0", (FieldSeparator, 3, 1)),
        (b"MSH\xA6^~\\&\xA6", (FieldSeparator, 3, 1)),
        (b"MSH||A", (EncodingCharacters, 4, 1)),
        (b"MSH|^~|A", (EncodingCharacters, 4, 1)),
        (b"MSH|^^\\&|A", (EncodingCharacters, 4, 1)),
        (b"MSH|^~\\&#!|A", (EncodingCharacters, 4, 1)),
        (b"MSH|^~A&|A", (EncodingCharacters, 4, 1)),
        (b"MSH|^~\\&|A\rP1|1", (SegmentId, 11, 2)),
        (b"MSH|^~\\&|A\rOBX1|1", (SegmentId, 11, 2)),
        (b"MSH|^~\\&|A\r|||", (SegmentId, 11, 2)),
        (b"MSH|^~\\&|A\rPID|1\n\npid|2", (SegmentId, 18, 3)),
        (b"MSH|^~\\&|A\r PID|1", (SegmentId, 11, 2)),
        (b"MSH|^~\\&|A\rPID|1\rMSH|^~\\&|B", (SecondMsh, 17, 3)),
        (b"FHS|^~\\&|A\rBHS|", (Batch, 0, 1)),
        (b"MSH|^~\\&|A\rBTS|1", (OutsideBatch, 11, 2)),
        (b"BTS|1\rFTS|1\r", (OutsideBatch, 0, 1)),
    ] {
        assert_eq!(refused(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_header_is_read_as_far_as_it_goes() {
    let (header, error) = Header::read(HEADER.as_bytes());
    assert_eq!(
        (header.field(10), header.field(12), header.component(9, 2), error),
        (&b"17"[..], &b"2.6"[..], &b"R01"[..], None)
    );
    assert!(header.field(13).is_empty() && header.field(99).is_empty() && header.component(9, 9).is_empty());
    let (header, error) = Header::read(b"MSH|^~^&|A|B|C|D|||ORU^R01|17\rMSA|AA|99");
    assert_eq!(
        (header.field(10), error.map(|error| error.kind)),
        (&b"17"[..], Some(ParseErrorKind::EncodingCharacters))
    );
    let (header, error) = Header::read(b"PID|1|2|3|4|5|6|7|8|9|10");
    assert_eq!((header.field(10), error.map(|error| error.kind)), (&b""[..], Some(ParseErrorKind::NotMsh)));
}

#[test]
fn neither_debug_output_nor_an_error_shows_content() {
    let message = Message::parse(format!("{HEADER}\rPID|1||SECRET")).unwrap();
    assert!(!format!("{message:?}").contains("SECRET"));
    let error = Message::parse(format!("{HEADER}\rSECRET|1")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("SECRET"));
}

/// Quadratic work over a million characters would take hours; the bound only ends such a test.
#[test]
fn a_million_separators_are_read_in_linear_time() {
    let shapes: [fn(usize) -> String; 7] = [
        |n| format!("{HEADER}\rPID|{}", "~".repeat(n)),
        |n| format!("{HEADER}\rPID|{}", "^".repeat(n)),
        |n| format!("{HEADER}\rPID|{}", "&".repeat(n)),
        |n| format!("{HEADER}\rPID{}", "|".repeat(n)),
        |n| format!("{HEADER}\r{}", "OBX\r".repeat(n / 4)),
        |n| format!("{HEADER}{}", "\r\n".repeat(n / 2)),
        |n| format!("{HEADER}\rPID|{}", r"\X4\".repeat(n / 4)),
    ];
    let (done, all_done) = mpsc::channel();
    std::thread::spawn(move || {
        shapes.iter().for_each(|shape| walk(shape(1_000_000).as_bytes()));
        done.send(())
    });
    assert_eq!(all_done.recv_timeout(Duration::from_secs(120)), Ok(()));
}

/// Visits every part of a message, its text, and some places by path.
fn walk(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes.to_vec()) else { return };
    for segment in message.segments() {
        for n in 0..=segment.field_count() + 1 {
            for repetition in segment.field(n).repetitions() {
                for component in repetition.components() {
                    component.subcomponents().for_each(|raw| assert!(raw.len() <= bytes.len()));
                }
            }
            message.text(segment.field(n).raw());
        }
    }
    let _ = message.check_text();
    for path in ["PID-1", "PID-1.2", "OBX(OBX-1=x)-5", "PID-1[3].2.2"] {
        let path = Path::parse(path).unwrap();
        message.values(&path);
        assert_eq!(edit::set(&message, &path, "x|y").is_err(), message.charset().is_err());
    }
}

/// What a generated message is made of: segments of fields of repetitions of components of subcomponents.
type Parts = Vec<(String, Vec<Vec<Vec<Vec<String>>>>)>;

fn delimiters() -> impl Strategy<Value = Delimiters> {
    let characters: Vec<u8> = (b'!'..=b'~').filter(|byte| !byte.is_ascii_alphanumeric()).collect();
    (prop::sample::subsequence(characters, 6).prop_shuffle(), 4..=6_usize).prop_map(|(chosen, count)| Delimiters {
        field: chosen[0],
        component: chosen[1],
        repetition: chosen[2],
        escape: chosen[3],
        subcomponent: (count > 4).then_some(chosen[4]),
        truncation: (count > 5).then_some(chosen[5]),
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let components = prop::collection::vec(prop::collection::vec("\\PC{0,5}", 1..3), 1..3);
    let fields = prop::collection::vec(prop::collection::vec(components, 1..3), 0..5);
    prop::collection::vec(("[A-LN-Z][A-Z0-9]{2}", fields), 0..6).prop_filter("no batch segments", |parts| {
        !parts.iter().any(|(id, _)| ["FHS", "BHS", "FTS", "BTS"].contains(&id.as_str()))
    })
}

fn write(parts: &Parts, delimiters: &Delimiters, end: &str) -> String {
    let join = |parts: Vec<String>, separator: u8| parts.join(&char::from(separator).to_string());
    let mut message = format!("MSH{}", char::from(delimiters.field));
    message.extend(delimiters.encoding_characters().map(char::from));
    message.push(char::from(delimiters.field));
    for (id, fields) in parts {
        message.push_str(&format!("{end}{id}"));
        for field in fields {
            let component = |parts: &Vec<String>| {
                let escaped: Vec<String> = parts.iter().map(|text| escape(text, delimiters).into_owned()).collect();
                delimiters.subcomponent.map_or(escaped[0].clone(), |separator| join(escaped, separator))
            };
            let repetition =
                |parts: &Vec<Vec<String>>| join(parts.iter().map(component).collect(), delimiters.component);
            message.push(char::from(delimiters.field));
            message.push_str(&join(field.iter().map(repetition).collect(), delimiters.repetition));
        }
    }
    message
}

/// The parts regained, in the shape they were generated in.
fn regained(message: &Message) -> Parts {
    let subcomponents =
        |component: Component<'_>| component.subcomponents().map(|raw| message.text(raw).into_owned()).collect();
    let components = |repetition: Repetition<'_>| repetition.components().map(subcomponents).collect();
    let fields = |segment: Segment<'_>| {
        (1..=segment.field_count()).map(|n| segment.field(n).repetitions().map(components).collect()).collect()
    };
    message.segments().skip(1).map(|segment| (segment.id().to_owned(), fields(segment))).collect()
}

/// `parts` as they can be sent without a subcomponent separator.
fn sendable(parts: &Parts, delimiters: &Delimiters) -> Parts {
    let mut parts = parts.clone();
    if delimiters.subcomponent.is_none() {
        let repetitions = parts.iter_mut().flat_map(|(_, fields)| fields.iter_mut().flatten());
        repetitions.flatten().for_each(|component| component.truncate(1));
    }
    parts
}

proptest! {
    #[test]
    fn every_value_of_a_message_is_regained(
        parts in parts(), delimiters in delimiters(), end in prop::sample::select(vec!["\r", "\n", "\r\n", "\r\r\n"])
    ) {
        let message = Message::parse(write(&parts, &delimiters, end)).unwrap();
        prop_assert_eq!(message.delimiters(), delimiters);
        prop_assert_eq!(regained(&message), sendable(&parts, &delimiters));
    }

    #[test]
    fn any_bytes_are_a_message_or_refused_inside_them(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let headed = [HEADER.as_bytes(), b"\r", &bytes].concat();
        for bytes in [bytes, headed] {
            walk(&bytes);
            if let Err(error) = Message::parse(bytes.clone()) {
                prop_assert!(error.offset <= bytes.len());
            }
        }
    }

    #[test]
    fn any_structure_is_walked(tail in r"[A-Z|^~\\&\r\n0-9X.]{0,120}", charset in prop::sample::select(vec!["", "BIG-5", "ISO IR87", "?"])) {
        walk(format!("{HEADER}||||||{charset}\rPID|{tail}").as_bytes());
    }

    #[test]
    fn a_message_cut_anywhere_is_read_or_refused(at in 0..200_usize) {
        let bytes = format!("{HEADER}\r\nPID|1||42^^^A&B~43\r\nOBX|1|NM|1^2^MDC||5\r\n");
        walk(&bytes.as_bytes()[..at.min(bytes.len())]);
        Header::read(&bytes.as_bytes()[..at.min(bytes.len())]);
    }

    /// The segments lie in order and apart, and all bytes outside them are line ends.
    #[test]
    fn no_byte_is_skipped(parts in parts(), end in "[\r\n]{1,3}") {
        let text = write(&parts, &Delimiters::default(), &end);
        let message = Message::parse(text.clone()).unwrap();
        let mut at = 0;
        for segment in message.segments() {
            prop_assert!(text[at..segment.range().start].chars().all(|c| matches!(c, '\r' | '\n')));
            at = segment.range().end;
        }
        prop_assert!(text[at..].chars().all(|c| matches!(c, '\r' | '\n')));
    }

    #[test]
    fn an_edit_changes_the_bytes_of_its_place_and_no_other(
        parts in parts(), delimiters in delimiters(), value in "\\PC{0,6}",
        place in r"-[1-6](\[[1-3]\])?(\.[1-3](\.1)?)?", end in "[\r\n]{1,2}",
    ) {
        let Some(id) = parts.first().map(|(id, _)| id.clone()) else { return Ok(()) };
        let message = Message::parse(write(&parts, &delimiters, &end)).unwrap();
        let path = Path::parse(&format!("{id}{place}")).unwrap();
        let edited = edit::set(&message, &path, &value).unwrap();
        prop_assert_eq!(edited.segments().len(), message.segments().len());
        let mut gaps = (0, 0);
        for (old, new) in message.segments().zip(edited.segments()) {
            prop_assert_eq!(&message.as_bytes()[gaps.0..old.range().start], &edited.as_bytes()[gaps.1..new.range().start]);
            gaps = (old.range().end, new.range().end);
            if old.id() != id {
                prop_assert_eq!(old.raw(), new.raw());
            } else {
                for n in (1..=new.field_count()).filter(|n| *n != path.field()) {
                    prop_assert_eq!(old.field(n).raw(), new.field(n).raw());
                }
                prop_assert!(new.field_count() == old.field_count().max(path.field()) || value.is_empty());
            }
        }
        let expected = if value.is_empty() { None } else { Some(value.as_str()) };
        for segment in path.segments(&edited) {
            for raw in path.values_in(segment) {
                let text = edited.text(raw);
                prop_assert_eq!(Some(text.as_ref()), expected);
            }
        }
    }
}

/// Compares all of `text`, which has to be well formed for hl7-parser: usual delimiters, segments with fields, ended by
/// one CR each.
fn agrees_with_hl7_parser(text: &str) {
    let (ours, theirs) = (Message::parse(text.to_owned()).unwrap(), hl7_parser::Message::parse(text).unwrap());
    assert_eq!(ours.segments().len(), theirs.segments().count());
    for (our, their) in ours.segments().zip(theirs.segments()) {
        assert_eq!((our.id(), our.raw()), (their.name, their.raw_value().as_bytes()));
        let first = if our.id() == "MSH" { 3 } else { 1 };
        for n in first..=our.field_count().max(their.fields().count()) {
            let their_field = their.field(n);
            assert_eq!(our.field(n).raw(), their_field.map_or("", |field| field.raw_value()).as_bytes());
            if let Some(their_field) = their_field.filter(|field| !field.is_empty()) {
                assert_eq!(our_parts(our.field(n)), their_parts(their_field));
            }
        }
    }
}

fn our_parts(field: Field<'_>) -> Vec<Vec<Vec<&str>>> {
    let mut parts = vec![];
    for repetition in field.repetitions() {
        let mut components = vec![];
        for part in repetition.components() {
            components.push(part.subcomponents().map(|raw| std::str::from_utf8(raw).unwrap()).collect());
        }
        parts.push(components);
    }
    parts
}

/// In hl7-parser an empty part has no parts below it; here it has one empty part.
fn their_parts<'f>(field: &'f hl7_parser::message::Field<'f>) -> Vec<Vec<Vec<&'f str>>> {
    let component = |component: &'f hl7_parser::message::Component<'f>| {
        let parts: Vec<&str> = component.subcomponents().map(|part| part.raw_value()).collect();
        if parts.is_empty() { vec![""] } else { parts }
    };
    let repetition = |repeat: &'f hl7_parser::message::Repeat<'f>| {
        let parts: Vec<Vec<&str>> = repeat.components().map(component).collect();
        if parts.is_empty() { vec![vec![""]] } else { parts }
    };
    field.repeats().map(repetition).collect()
}

proptest! {
    #[test]
    fn a_well_formed_message_is_read_as_hl7_parser_reads_it(parts in parts()) {
        let mut parts = parts;
        parts.retain(|(_, fields)| !fields.is_empty());
        agrees_with_hl7_parser(&format!("{}|x", write(&parts, &Delimiters::default(), "\r")));
    }
}

/// Messages of real systems, in a directory that is not part of the source.
fn real_messages() -> Vec<(String, Vec<u8>)> {
    let Some(directory) = std::env::var_os("CANNULA_TEST_MESSAGES") else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return Vec::new();
    };
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let messages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "hl7"));
    messages.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn real_messages_are_read_as_hl7_parser_reads_them() {
    let mut compared = 0;
    let messages = real_messages();
    for (name, bytes) in &messages {
        walk(bytes);
        let Ok(message) = Message::parse(bytes.clone()).inspect_err(|error| println!("{name}: {error}")) else {
            continue;
        };
        let usual = message.delimiters() == Delimiters::default() && message.check_text().is_ok();
        let segments: Vec<&[u8]> =
            message.segments().map(|segment| segment.raw()).filter(|raw| raw.len() > 3).collect();
        if let (true, Ok(text)) = (usual, String::from_utf8(segments.join(&b'\r'))) {
            agrees_with_hl7_parser(&text);
            compared += 1;
        }
    }
    println!("{compared} of {} messages compared", messages.len());
    assert!(messages.is_empty() || compared > 0);
}

/// Taking every part out and putting it back where it was gives the same bytes.
fn rewritten_in_place(message: &Message) -> bool {
    let fields = message.segments().flat_map(|segment| (1..=segment.field_count()).map(move |n| (segment.id(), n)));
    let writable = fields.filter(|(id, n)| *id != "MSH" || *n > 2).take(8);
    writable.flat_map(|(id, n)| ["", "[1]", ".1", "[2].2", ".1.1"].map(|part| format!("{id}-{n}{part}"))).all(|path| {
        let edited = edit::rewrite(message, &path.parse().unwrap(), &mut |raw| Some(raw.to_vec())).unwrap();
        edited.as_bytes() == message.as_bytes()
    })
}

proptest! {
    #[test]
    fn a_part_written_back_changes_nothing(parts in parts(), delimiters in delimiters(), end in "[\r\n]{1,3}") {
        prop_assert!(rewritten_in_place(&Message::parse(write(&parts, &delimiters, &end)).unwrap()));
    }

    #[test]
    fn a_removed_segment_leaves_the_others_as_they_were(parts in parts(), end in "[\r\n]{1,3}", odd in any::<bool>()) {
        let message = Message::parse(write(&parts, &Delimiters::default(), &end)).unwrap();
        let keep = |number: usize| number == 0 || (number % 2 == 1) == odd;
        let left = edit::remove_segments(&message, &|segment| keep(segment.number())).unwrap();
        let expected: Vec<&[u8]> = message.segments().filter(|segment| keep(segment.number())).map(|s| s.raw()).collect();
        prop_assert_eq!(left.segments().map(|segment| segment.raw()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_part_of_a_real_message_written_back_changes_nothing() {
    for (name, bytes) in real_messages() {
        if let Ok(message) = Message::parse(bytes) {
            assert!(rewritten_in_place(&message), "{name}");
        }
    }
}

#[test]
fn real_messages_are_answered_with_an_ack_that_names_them() {
    let at = "2026-03-14T09:26:30Z".parse().unwrap();
    for (name, bytes) in real_messages() {
        let (header, error) = Header::read(&bytes);
        let answer = Message::parse(ack::build(&header, ack::Code::AE, &[], at, "C-1")).unwrap();
        let read = ack::read(&answer).unwrap();
        assert!(error.is_some() || read.control_id == header.field(10), "{name}");
    }
}

#[test]
fn real_times_are_taken_as_they_are() {
    for (name, bytes) in real_messages() {
        let (header, _) = Header::read(&bytes);
        let text = String::from_utf8_lossy(header.field(7));
        match Time::parse(&text) {
            Ok(time) => assert_eq!(time.as_str(), text),
            Err(error) => println!("{name}: MSH-7: {error}"),
        }
    }
}
