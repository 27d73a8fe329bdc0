//! The table of bad inputs as a check of any MLLP receiver: what must be refused, what must be taken all the same, and
//! what must not be answered at all. Each row is sent whole with a good message behind it in the same write, and again
//! byte by byte; the good message must be answered both times. Silence needs no waiting: the good message's answer is
//! the next one.

use crate::frame::{Deframer, framed};
use crate::v2::{self, Ack};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a receiver should do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// AA or CA.
    Accept,
    /// AE or CE with this ERR-3, 0 for any.
    Error(u16),
    /// AR or CR with this ERR-3.
    Reject(u16),
    /// No answer.
    Silence,
}
use Expected::{Accept, Error, Reject, Silence};

struct Row {
    number: u32,
    what: &'static str,
    bytes: Vec<u8>,
    /// MSA-2 of the answer.
    control_id: String,
    expected: Expected,
}

/// How a receiver did in one row.
#[derive(Debug, Clone, Serialize)]
pub struct RowResult {
    /// The row of the table.
    pub row: u32,
    /// What was sent.
    pub what: String,
    /// What was wrong, if anything.
    pub fault: Option<String>,
}

impl RowResult {
    /// Whether the receiver did as it should.
    pub fn passed(&self) -> bool {
        self.fault.is_none()
    }
}

impl fmt::Display for RowResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            None => write!(f, "ok    {:>2} {}", self.row, self.what),
            Some(fault) => write!(f, "FAIL  {:>2} {}: {fault}", self.row, self.what),
        }
    }
}

/// Runs all rows, or only those numbered; `ack_timeout` is for a row with its good message. Needs a receiver that takes ORU^R01 of HL7 2.6 without a reject policy.
pub async fn run(address: &str, only: &[u32], ack_timeout: Duration) -> Vec<RowResult> {
    let run = crate::load::new_run();
    let mut results = Vec::new();
    // New ids for the second way, or its messages would be repeats.
    for (whole, split) in rows(run).into_iter().zip(rows(run.wrapping_add(1))) {
        if !only.is_empty() && !only.contains(&whole.number) {
            continue;
        }
        let mut fault = None;
        for (row, way) in [(&whole, Way::Whole), (&split, Way::Bytes)] {
            let good_id = format!("GOOD{run:08x}.{}.{}", results.len(), u8::from(way == Way::Bytes));
            fault = fault.or(fault_of(address, row, &good_id, way, ack_timeout).await);
        }
        results.push(RowResult { row: whole.number, what: whole.what.to_owned(), fault });
    }
    results
}

/// Runs all rows again and again, each time in two pieces: at every place between two bytes, or at so many places of
/// each row as the seed chooses. A row's first fault is its result.
pub async fn run_split(address: &str, places: Option<u64>, seed: u64, ack_timeout: Duration) -> Vec<RowResult> {
    let run = crate::load::new_run();
    let mut results = Vec::new();
    for (number, named) in rows(run).into_iter().enumerate() {
        let length = named.bytes.len() as u64;
        let chosen = |turn| if places.is_some() { crate::mix(seed, number as u64 * length + turn) } else { turn };
        let mut fault = None;
        for turn in 0..places.unwrap_or(length).min(length) {
            // New ids each time, or the messages would be repeats.
            let row = rows(run.wrapping_add(turn as u32)).swap_remove(number);
            let way = Way::SplitAt((chosen(turn) % length) as usize + 1);
            let good_id = format!("GOOD{run:08x}.{number}.s{turn}");
            fault = fault.or(fault_of(address, &row, &good_id, way, ack_timeout).await);
        }
        results.push(RowResult { row: named.number, what: named.what.to_owned(), fault });
    }
    results
}

/// How a row goes onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    Bytes,
    SplitAt(usize),
}

/// What was wrong, if anything.
async fn fault_of(address: &str, row: &Row, good_id: &str, way: Way, ack_timeout: Duration) -> Option<String> {
    let attempt = timeout(ack_timeout, check(address, row, good_id, way)).await;
    let fault = attempt.unwrap_or_else(|_| Err(format!("no answer within {ack_timeout:?}"))).err()?;
    Some(match way {
        Way::Whole => fault,
        Way::Bytes => format!("byte by byte: {fault}"),
        Way::SplitAt(place) => format!("in two pieces, after byte {place}: {fault}"),
    })
}

async fn check(address: &str, row: &Row, good_id: &str, way: Way) -> Result<(), String> {
    let good = framed(message(good_id, "AL", "NE").as_bytes());
    let mut line = Line::connect(address).await?;
    line.write(&[&row.bytes, &good[..]].concat(), way).await?;
    if row.expected != Silence {
        let answer = line.answer().await.map_err(|fault| format!("instead of {:?}: {fault}", row.expected))?;
        row.judge(&answer)?;
    }
    let answer = line.answer().await.map_err(|fault| format!("the good message behind it: {fault}"))?;
    match Ack::read(&answer) {
        Some(ack) if ack.control_id != good_id.as_bytes() => {
            Err(format!("one more answer ({}) than there should be", ack.code))
        }
        Some(ack) if !ack.is_positive() => Err(format!("the good message behind it was answered {}", ack.code)),
        Some(_) => Ok(()),
        None => Err("an answer has no MSA segment".to_owned()),
    }
}

impl Row {
    fn judge(&self, answer: &[u8]) -> Result<(), String> {
        let ack = Ack::read(answer).ok_or("the answer has no MSA segment")?;
        let condition = v2::field(answer, "ERR", 3).map(|field| v2::component(answer, field, 1)).unwrap_or_default();
        let condition = std::str::from_utf8(condition).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (codes, wanted) = match self.expected {
            Accept | Silence => (["AA", "CA"], 0),
            Error(wanted) => (["AE", "CE"], wanted),
            Reject(wanted) => (["AR", "CR"], wanted),
        };
        if !codes.contains(&ack.code.as_str()) {
            return Err(format!("answered {} where {} or {} is due", ack.code, codes[0], codes[1]));
        }
        if ack.control_id != self.control_id.as_bytes() {
            return Err(format!(
                "MSA-2 is not the control id sent ({} bytes instead of {})",
                ack.control_id.len(),
                self.control_id.len()
            ));
        }
        if wanted != 0 && condition != wanted {
            return Err(format!("ERR-3 is {condition} where {wanted} is due"));
        }
        Ok(())
    }
}

struct Line {
    stream: TcpStream,
    answers: Deframer,
}

impl Line {
    async fn connect(address: &str) -> Result<Line, String> {
        let stream = TcpStream::connect(address).await.map_err(|fault| format!("cannot connect: {fault}"))?;
        stream.set_nodelay(true).map_err(|fault| fault.to_string())?;
        Ok(Line { stream, answers: Deframer::new(1 << 20) })
    }

    async fn write(&mut self, bytes: &[u8], way: Way) -> Result<(), String> {
        let (first, rest) = match way {
            Way::Whole => (bytes.len(), 1),
            Way::Bytes => (1, 1),
            Way::SplitAt(place) => (place.min(bytes.len()), bytes.len()),
        };
        let (first, rest) = (&bytes[..first], bytes[first..].chunks(rest));
        for piece in std::iter::once(first).chain(rest) {
            self.stream.write_all(piece).await.map_err(|fault| format!("the connection broke: {fault}"))?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<bytes::Bytes, String> {
        loop {
            if let Some(answer) = self.answers.next_message().map_err(|fault| fault.to_string())? {
                return Ok(answer);
            }
            let read = self.stream.read_buf(&mut self.answers.buffer).await;
            match read.map_err(|fault| format!("the connection broke: {fault}"))? {
                0 => return Err("the connection was closed".to_owned()),
                _ => continue,
            }
        }
    }
}

fn message(control_id: &str, msh_15: &str, msh_16: &str) -> String {
    format!(
        "MSH|^~\\&|PUMP_GATEWAY^0A0027FFFE000030^EUI-64|MLLP TEST|||20260102030405+0000||ORU^R01^ORU_R01|{control_id}|P|2.6|||{msh_15}|{msh_16}|||||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r\
         PID|||SPEC1^^^GENHOSP^MR||Spec^Test^^^^^L\r\
         PV1||I|2 West^1^1\r\
         OBR|1||{control_id}^PUMP_GATEWAY^0A0027FFFE000030^EUI-64|999999^Medication Unknown|||20260102030405+0000\r\
         OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||0A00A1FFFE000031^^0A00A1FFFE000031^EUI-64\r\
         OBX|2||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\r\
         OBX|3||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\r\
         OBX|4|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.1|12.50|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R\r"
    )
}

/// Makes rows: ids that never repeat, and the base message with changes.
struct Maker {
    run: u32,
    rows: Vec<Row>,
}

impl Maker {
    fn id(&self, number: u32) -> String {
        format!("SPEC{:08x}.{number}.{}", self.run, self.rows.len())
    }

    /// A frame whose message is the base one with the first `from` replaced.
    fn change(&mut self, number: u32, what: &'static str, from: &str, to: &str, expected: Expected) {
        let id = self.id(number);
        let changed = message(&id, "AL", "NE").replacen(from, to, 1);
        self.frame(number, what, changed.as_bytes(), &id, expected);
    }

    /// A frame around any bytes.
    fn frame(&mut self, number: u32, what: &'static str, message: &[u8], control_id: &str, expected: Expected) {
        self.bytes(number, what, framed(message).to_vec(), control_id, expected);
    }

    /// Any bytes on the wire.
    fn bytes(&mut self, number: u32, what: &'static str, bytes: Vec<u8>, control_id: &str, expected: Expected) {
        self.rows.push(Row { number, what, bytes, control_id: control_id.to_owned(), expected });
    }
}

fn rows(run: u32) -> Vec<Row> {
    let mut make = Maker { run, rows: Vec::new() };
    framing(&mut make);
    header(&mut make);
    acknowledgement(&mut make);
    body(&mut make);
    make.rows
}

fn framing(make: &mut Maker) {
    make.bytes(1, "noise between frames", b"\r\n\0 \0\r".to_vec(), "", Silence);
    let id = make.id(9);
    let frame = [&framed(message(&id, "AL", "NE").as_bytes())[..], b"\n"].concat();
    make.bytes(9, "LF after the end of the frame", frame, &id, Accept);
    let partial = [b"\x0b", &message("HALF", "AL", "NE").as_bytes()[..60]].concat();
    make.bytes(10, "a frame cut off by the next one's start", partial, "", Silence);
    let id = make.id(11);
    let inside = message(&id, "AL", "NE").replacen("2 West", "2\x1cWest", 1);
    make.frame(11, "1C inside the message", inside.as_bytes(), &id, Error(102));
    make.frame(12, "an empty frame", b"", "", Silence);
    make.frame(13, "a frame of blanks", b" \r\r ", "", Silence);
}

fn header(make: &mut Maker) {
    make.change(31, "a byte order mark before MSH", "MSH", "\u{feff}MSH", Accept);
    for (number, what, bytes) in [
        (33, "no MSH at the start", &b"PID|||1\rOBX|1\r"[..]),
        (34, "lower-case msh", b"msh|^~\\&|A|B\r"),
        (35, "JSON", b"{\"resourceType\":\"Bundle\"}"),
        (35, "XML", b"<ORU_R01 xmlns=\"urn:hl7-org:v2xml\"/>"),
    ] {
        make.frame(number, what, bytes, "", Error(100));
    }
    make.frame(36, "only MSH", b"MSH", "", Error(101));
    make.frame(36, "MSH and a separator", b"MSH|", "", Error(101));
    make.change(38, "a component separator equal to the repetition separator", "^~\\&", "^^\\&", Error(102));
    make.change(40, "five encoding characters", "^~\\&|", "^~\\&#|", Accept);
    make.change(42, "MSH-9 empty", "ORU^R01^ORU_R01", "", Reject(200));
    let id = make.id(46);
    let without = message(&id, "AL", "NE").replacen(&format!("|{id}|P"), "||P", 1);
    make.frame(46, "MSH-10 empty", without.as_bytes(), "", Error(101));
    let long = format!("{:L>200}", make.id(47));
    make.frame(47, "MSH-10 of 200 characters", message(&long, "AL", "NE").as_bytes(), &long, Error(104));
    let odd = format!("{};'<b>%s", make.id(50));
    make.frame(50, "MSH-10 with characters of other languages", message(&odd, "AL", "NE").as_bytes(), &odd, Accept);
    make.change(51, "MSH-11 empty", "|P|2.6|", "||2.6|", Reject(202));
    make.change(51, "MSH-11 unknown", "|P|2.6|", "|X|2.6|", Reject(202));
    make.change(53, "MSH-12 empty", "|P|2.6|", "|P||", Reject(203));
    make.change(53, "MSH-12 unknown", "|P|2.6|", "|P|9.9|", Reject(203));
    make.change(55, "MSH-18 unknown", "|AL|NE||", "|AL|NE||KLINGON", Error(103));
    let id = make.id(39);
    let odd: String = message(&id, "AL", "NE")
        .chars()
        .map(|c| match c {
            '|' => '$',
            '^' => '%',
            '~' => '*',
            '\\' => '#',
            '&' => '@',
            other => other,
        })
        .collect();
    make.frame(39, "other delimiters", odd.as_bytes(), &id, Accept);
}

fn acknowledgement(make: &mut Maker) {
    let id = make.id(48);
    let frame = framed(message(&id, "AL", "NE").as_bytes());
    make.bytes(48, "a message, and in the next row the same again", frame.to_vec(), &id, Accept);
    make.bytes(48, "the same message again", frame.to_vec(), &id, Accept);
    for (number, what, msh_15, msh_16, expected) in [
        (58, "no answer wanted", "NE", "NE", Silence),
        (59, "an answer wanted only for errors", "ER", "NE", Silence),
        (59, "an answer wanted only for success", "SU", "NE", Accept),
        (0, "original mode", "", "", Accept),
    ] {
        let id = make.id(number);
        make.frame(number, what, message(&id, msh_15, msh_16).as_bytes(), &id, expected);
    }
    let id = make.id(59);
    let bad = message(&id, "ER", "NE").replacen("|P|2.6|", "|P|9.9|", 1);
    make.frame(59, "a bad message, an answer wanted only for errors", bad.as_bytes(), &id, Reject(203));
    let id = make.id(45);
    let ack = format!("MSH|^~\\&|A|B|C|D|20260102030405+0000||ACK^R01^ACK|{id}|P|2.6\rMSA|CA|1\r");
    make.frame(45, "an acknowledgement", ack.as_bytes(), &id, Silence);
}

fn body(make: &mut Maker) {
    for (what, separator) in [("segments ended by LF", "\n"), ("segments ended by CR LF", "\r\n")] {
        let id = make.id(61);
        make.frame(61, what, message(&id, "AL", "NE").replace('\r', separator).as_bytes(), &id, Accept);
    }
    make.change(62, "a blank line inside", "\rPV1", "\r\rPV1", Accept);
    let id = make.id(63);
    make.frame(63, "no CR at the end", message(&id, "AL", "NE").trim_end().as_bytes(), &id, Accept);
    make.change(64, "a bad segment name", "\rPV1|", "\rP1|", Error(100));
    make.change(65, "a second MSH", "\rPV1|", "\rMSH|^~\\&|X\rPV1|", Error(100));
    make.change(70, "an unknown Z segment", "\rPV1|", "\rZZZ|1|x\rPV1|", Accept);
    let digits = "7".repeat(400);
    make.change(73, "a number of 400 digits", "12.50", &digits, Accept);
    make.change(80, "broken escapes", "2 West", "2\\X4\\ \\Q\\ West\\", Accept);
    make.change(
        83,
        "things that other programs would run",
        "2 West",
        "../../etc/passwd ${jndi:ldap://x} =cmd()",
        Accept,
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::sink::{Sink, SinkConfig};

    #[tokio::test]
    async fn a_receiver_that_takes_everything_fails_exactly_where_it_should_have_refused() {
        let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
        let ack_timeout = Duration::from_secs(5);
        let results =
            run(&sink.address().to_string(), &[42, 46, 47, 48, 50, 51, 53, 58, 63, 64, 65, 70], ack_timeout).await;
        let failed: Vec<u32> = results.iter().filter(|result| !result.passed()).map(|result| result.row).collect();
        assert_eq!(failed, [42, 46, 47, 51, 51, 53, 53, 64, 65]);
        let text = results[0].to_string();
        assert!(text.contains("answered CA where AR or CR is due"), "{text}");
    }

    #[tokio::test]
    async fn framing_rows_pass_where_frames_are_read_rightly() {
        let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
        let results = run(&sink.address().to_string(), &[1, 9], Duration::from_secs(5)).await;
        assert!(results.len() == 2 && results.iter().all(RowResult::passed), "{results:?}");
    }

    #[tokio::test]
    async fn split_in_two_a_row_is_judged_as_when_it_comes_whole() {
        let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
        let results = run_split(&sink.address().to_string(), Some(3), 7, Duration::from_secs(5)).await;
        let whole = run(&sink.address().to_string(), &[], Duration::from_secs(5)).await;
        let verdicts = |results: &[RowResult]| results.iter().map(|it| (it.row, it.passed())).collect::<Vec<_>>();
        assert_eq!(verdicts(&results), verdicts(&whole));
    }

    #[tokio::test]
    async fn a_silent_receiver_fails_every_row() {
        let script = crate::script::Script::parse(["close"]).unwrap();
        let sink = Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap();
        let results = run(&sink.address().to_string(), &[], Duration::from_secs(5)).await;
        assert!(results.len() > 40 && results.iter().all(|result| !result.passed()), "{results:?}");
    }

    #[test]
    fn every_change_of_the_base_message_took_place() {
        // In these rows only the control id or the acknowledgement asked for differs.
        let by_id = [0, 47, 48, 50, 58, 59];
        for row in rows(1).iter().filter(|row| !by_id.contains(&row.number)) {
            let good = framed(message(&row.control_id, "AL", "NE").as_bytes());
            assert!(row.bytes != good, "row {} ({}) sends the good message", row.number, row.what);
        }
    }
}
