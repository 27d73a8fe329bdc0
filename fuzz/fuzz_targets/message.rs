//! Any bytes are a message or refused: then every part is read, places are found and edited, and it is answered.
#![no_main]

use cannula::hl7::{
    Header, Message, Path,
    ack::{self, Code, Fault},
    edit,
};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 6] = ["PID-3", "PID-5.2", "OBX[2]-5[1].1.2", "OBX(OBX-3.1=1)-5", "MSH-10", "OBX-17.3"];

fuzz_target!(|bytes: &[u8]| {
    answer(bytes);
    let Ok(message) = Message::parse(bytes.to_vec()) else { return };
    read(&message);
    let charset = message.charset();
    for path in PATHS.iter().filter_map(|path| path.parse::<Path>().ok()) {
        message.first_text(&path);
        edited(&message, edit::set(&message, &path, "a|b^c\r"), charset.is_ok());
        edited(&message, edit::clear(&message, &path), charset.is_ok());
        edited(&message, edit::rewrite(&message, &path, &mut |raw| Some(raw.to_ascii_lowercase())), true);
        let _ = edit::copy(&message, &path, &PATHS[0].parse().expect("a path"));
    }
});

fn read(message: &Message) {
    let _ = message.check_text();
    for segment in message.segments() {
        for n in 0..=segment.field_count() + 1 {
            let field = segment.field(n);
            message.text(field.raw());
            let components = field.repetitions().flat_map(|repetition| repetition.components());
            let parts = components.flat_map(|component| component.subcomponents());
            assert!(parts.map(<[u8]>::len).sum::<usize>() <= field.raw().len());
        }
    }
}

fn edited(message: &Message, edited: Result<Message, edit::EditError>, must: bool) {
    match edited {
        Ok(edited) => assert_eq!(edited.segments().len(), message.segments().len()),
        Err(edit::EditError::Charset | edit::EditError::NotWritable(_) | edit::EditError::Structure(_)) => {}
        Err(error) => assert!(!must, "{error}"),
    }
}

/// Whatever came, the answer is a message, and names the one it answers where that can be read.
fn answer(bytes: &[u8]) {
    let (header, _) = Header::read(bytes);
    let fault = Fault { location: "MSH^1^9".to_owned(), code: 200, text: "send ORU^R01".to_owned() };
    let ack = ack::build(&header, Code::AR, &[fault], jiff::Timestamp::UNIX_EPOCH, "1");
    let ack = Message::parse(ack).expect("an ACK is a message");
    let answer = ack::read(&ack).expect("an ACK is an answer");
    assert_eq!((answer.code, answer.control_id.as_slice()), (Code::AR, header.field(10)));
}
