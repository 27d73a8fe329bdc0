//! Batches: FHS, BHS, messages, BTS, FTS in one frame (HL7 v2.6 ch. 2.10.3), split, and answered in kind.
//!
//! What must never happen: a batch that was cut short is taken for a whole one. So every header needs its trailer, a count
//! that is given must be right, and nothing may stand outside of its batch. A message's bytes are left as they came.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Header, Time};

/// Messages of one frame.
pub const MESSAGES_MAX: usize = 10_000;

/// Bytes of memory a message of a batch takes beside its own, until it is answered: measured, and rounded up.
pub const MESSAGE_OVERHEAD: usize = 2 * 1024;

/// Bytes of memory a frame that [is a batch](is_batch) takes until it is answered, which are many times its own where its
/// messages are small. Beyond the messages that are taken at all it takes no more: it is refused.
pub fn memory(frame: &[u8]) -> usize {
    let begins = |at: usize| at == 0 || matches!(frame[at - 1], b'\r' | b'\n');
    let messages = memchr::memmem::find_iter(frame, b"MSH").filter(|at| begins(*at)).take(MESSAGES_MAX).count();
    frame.len() + messages * MESSAGE_OVERHEAD
}

/// What a frame with a batch header holds.
pub struct Batches {
    /// FHS, where there is one.
    file: Option<Vec<u8>>,
    /// In order. Messages between FHS and FTS without BHS are one.
    batches: Vec<Batch>,
}

/// One BHS, its messages, BTS.
struct Batch {
    /// BHS, where there is one.
    header: Option<Vec<u8>>,
    messages: Vec<Bytes>,
}

/// Why a batch is not taken as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// FHS or BHS without its trailer: the frame was cut short.
    #[error("a batch or file header has no trailer; send BTS and FTS, and the batch whole")]
    NoTrailer,
    /// A trailer that ends nothing, a header within a batch, a segment outside of a message.
    #[error("a segment stands outside of its batch or message")]
    Sequence,
    /// BTS-1 is not the number of messages.
    #[error("BTS-1 is not the number of messages in the batch; send the batch whole, with their number or none")]
    MessageCount,
    /// FTS-1 is not the number of batches.
    #[error("FTS-1 is not the number of batches in the file; send the file whole, with their number or none")]
    BatchCount,
    /// A header whose separator or encoding characters cannot be.
    #[error("FHS or BHS has no usable separator and encoding characters")]
    Delimiters,
    /// More than [`MESSAGES_MAX`].
    #[error("over 10,000 messages in one batch; split it")]
    TooMany,
}

impl BatchError {
    /// Table 0357.
    pub fn code(self) -> u16 {
        match self {
            BatchError::Sequence => 100,
            BatchError::TooMany => 198,
            _ => 102,
        }
    }

    /// ERR-2.
    pub fn location(self) -> &'static str {
        match self {
            BatchError::MessageCount => "BTS^1^1",
            BatchError::BatchCount => "FTS^1^1",
            _ => "",
        }
    }
}

/// Whether the frame begins with a batch's or file's header.
pub fn is_batch(frame: &[u8]) -> bool {
    let frame = frame.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(frame).trim_ascii_start();
    frame.starts_with(b"FHS") || frame.starts_with(b"BHS")
}

impl Batches {
    /// Splits a frame that [is a batch](is_batch).
    pub fn split(frame: &Bytes) -> Result<Batches, BatchError> {
        let mut split = Split::default();
        let mut at = if frame.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        while at < frame.len() {
            let end = memchr::memchr2(b'\r', b'\n', &frame[at..]).map_or(frame.len(), |length| at + length);
            split.segment(frame, at, end)?;
            at = end + 1;
        }
        split.end(frame)
    }

    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Bytes> {
        self.batches.iter().flat_map(|batch| &batch.messages)
    }

    /// The answers, none where a message gets none, as batches like those they answer; `None` if none is due: every message
    /// asks for none. Where there is no message the empty batch is answered by one as empty. `at` is the time they tell,
    /// `own_control_id` the control id of each header.
    pub fn answer(&self, answers: &[Vec<Bytes>], at: Timestamp, own_control_id: &str) -> Option<Bytes> {
        let is_empty = answers.is_empty();
        if answers.iter().all(Vec::is_empty) && !is_empty || is_empty && self.is_answer() {
            return None;
        }
        let mut written = Vec::new();
        let mut answers = answers.iter();
        if let Some(file) = &self.file {
            write_header(&mut written, "FHS", file, at, own_control_id);
        }
        for batch in &self.batches {
            let of_batch: Vec<&Bytes> = answers.by_ref().take(batch.messages.len()).flatten().collect();
            if let Some(header) = &batch.header {
                write_header(&mut written, "BHS", header, at, own_control_id);
            }
            of_batch.iter().for_each(|answer| written.extend_from_slice(answer));
            if let Some(header) = &batch.header {
                write_trailer(&mut written, "BTS", header, of_batch.len());
            }
        }
        if let Some(file) = &self.file {
            write_trailer(&mut written, "FTS", file, self.batches.len());
        }
        Some(written.into())
    }

    /// It names the batch it answers (FHS-12, BHS-12), so that an answer to it, were it as empty, would be answered for ever.
    fn is_answer(&self) -> bool {
        let headers = self.file.iter().chain(self.batches.iter().filter_map(|batch| batch.header.as_ref()));
        headers.into_iter().any(|header| !Header::read(header).0.field(12).is_empty())
    }
}

/// The outermost header of a frame that [is a batch](is_batch) as an MSH, its control id in MSH-10, for an answer to the whole.
pub fn header_as_msh(frame: &[u8]) -> Vec<u8> {
    let frame = frame.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(frame).trim_ascii_start();
    let line = &frame[..memchr::memchr2(b'\r', b'\n', frame).unwrap_or(frame.len())];
    let as_msh = msh_of(line);
    let (header, _) = Header::read(&as_msh);
    let mut msh = b"MSH".to_vec();
    msh.push(header.delimiters.field);
    msh.extend(header.delimiters.encoding_characters());
    for n in [3, 4, 5, 6, 7, 8] {
        push_field(&mut msh, &header, header.field(n));
    }
    for field in [b"", header.field(11), b"P", b"2.6"] {
        push_field(&mut msh, &header, field);
    }
    msh.push(b'\r');
    msh
}

/// FHS and BHS are laid out as MSH in their first eight fields.
fn msh_of(line: &[u8]) -> Vec<u8> {
    [b"MSH", line.get(3..).unwrap_or_default(), b"\r"].concat()
}

fn push_field(segment: &mut Vec<u8>, header: &Header<'_>, field: &[u8]) {
    segment.push(header.delimiters.field);
    segment.extend_from_slice(field);
}

/// Back to who sent `of`, naming its control id as the one answered.
fn write_header(written: &mut Vec<u8>, id: &str, of: &[u8], at: Timestamp, own_control_id: &str) {
    let (header, _) = Header::read(of);
    written.extend_from_slice(id.as_bytes());
    written.push(header.delimiters.field);
    written.extend(header.delimiters.encoding_characters());
    for n in [5, 6, 3, 4] {
        push_field(written, &header, header.field(n));
    }
    let time = Time::format(at);
    for field in [time.as_bytes(), b"", b"", b"", own_control_id.as_bytes(), header.field(11)] {
        push_field(written, &header, field);
    }
    written.push(b'\r');
}

fn write_trailer(written: &mut Vec<u8>, id: &str, of: &[u8], count: usize) {
    let (header, _) = Header::read(of);
    written.extend_from_slice(id.as_bytes());
    push_field(written, &header, count.to_string().as_bytes());
    written.push(b'\r');
}

/// A frame half split.
#[derive(Default)]
struct Split {
    file: Option<Vec<u8>>,
    file_ended: bool,
    batches: Vec<Batch>,
    /// The batch whose trailer is still to come.
    open: Option<Batch>,
    /// Where its last message begins.
    message: Option<usize>,
    messages: usize,
}

impl Split {
    fn segment(&mut self, frame: &Bytes, at: usize, end: usize) -> Result<(), BatchError> {
        let line = &frame[at..end];
        match line.get(..3) {
            Some(b"FHS" | b"BHS" | b"BTS" | b"FTS") => self.message_ends(frame, at),
            Some(b"MSH") => self.message_ends(frame, at),
            _ if line.trim_ascii().is_empty() || self.message.is_some() => return Ok(()),
            _ => return Err(BatchError::Sequence),
        }
        if self.file_ended {
            return Err(BatchError::Sequence);
        }
        match &line[..3] {
            b"FHS" if self.file.is_none() && self.open.is_none() && self.batches.is_empty() => {
                self.file = Some(header(line)?);
            }
            b"BHS" if self.open.is_none() => {
                self.open = Some(Batch { header: Some(header(line)?), messages: Vec::new() });
            }
            b"MSH" => self.message_begins(at)?,
            b"BTS" => self.batch_ends(line)?,
            b"FTS" => self.file_ends(line)?,
            _ => return Err(BatchError::Sequence),
        }
        Ok(())
    }

    fn message_begins(&mut self, at: usize) -> Result<(), BatchError> {
        self.messages += 1;
        if self.messages > MESSAGES_MAX {
            return Err(BatchError::TooMany);
        }
        let may_stand_alone = self.file.is_some() && self.batches.is_empty();
        if self.open.is_none() && may_stand_alone {
            self.open = Some(Batch { header: None, messages: Vec::new() });
        }
        self.message = Some(at);
        if self.open.is_some() { Ok(()) } else { Err(BatchError::Sequence) }
    }

    fn message_ends(&mut self, frame: &Bytes, at: usize) {
        if let (Some(start), Some(open)) = (self.message.take(), &mut self.open) {
            open.messages.push(frame.slice(start..at));
        }
    }

    fn batch_ends(&mut self, line: &[u8]) -> Result<(), BatchError> {
        let batch = self.open.take().ok_or(BatchError::Sequence)?;
        let header = batch.header.as_deref().ok_or(BatchError::Sequence)?;
        let right = count(line, header).is_none_or(|given| given == Some(batch.messages.len()));
        self.batches.push(batch);
        if right { Ok(()) } else { Err(BatchError::MessageCount) }
    }

    fn file_ends(&mut self, line: &[u8]) -> Result<(), BatchError> {
        let file = self.file.as_deref().ok_or(BatchError::Sequence)?;
        let alone = self.open.take_if(|open| open.header.is_none());
        if self.open.is_some() {
            return Err(BatchError::NoTrailer);
        }
        // Where no batch is named, senders count either the one that is meant or its messages.
        let messages = alone.as_ref().map(|alone| alone.messages.len());
        self.batches.extend(alone);
        let given = count(line, file);
        let right = given.is_none_or(|given| given == Some(self.batches.len()) || given.is_some() && given == messages);
        self.file_ended = true;
        if right { Ok(()) } else { Err(BatchError::BatchCount) }
    }

    fn end(mut self, frame: &Bytes) -> Result<Batches, BatchError> {
        self.message_ends(frame, frame.len());
        match self.open.is_some() || self.file.is_some() && !self.file_ended {
            true => Err(BatchError::NoTrailer),
            false => Ok(Batches { file: self.file, batches: self.batches }),
        }
    }
}

/// The header as MSH, if it has usable delimiters.
fn header(line: &[u8]) -> Result<Vec<u8>, BatchError> {
    let as_msh = msh_of(line);
    // A header of nothing but its encoding characters has no separator behind them.
    let as_msh = match Header::read(&as_msh) {
        (_, None) => as_msh,
        _ => [&as_msh[..as_msh.len() - 1], as_msh.get(3..4).unwrap_or_default(), b"\r"].concat(),
    };
    match Header::read(&as_msh).1 {
        None => Ok(as_msh),
        Some(_) => Err(BatchError::Delimiters),
    }
}

/// A trailer's first field: `None` where it is empty, `Some(None)` where it is no number.
fn count(line: &[u8], header: &[u8]) -> Option<Option<usize>> {
    let separator = header.get(3).copied().unwrap_or(b'|');
    let field = line.split(|byte| *byte == separator).nth(1).unwrap_or_default().trim_ascii();
    let number = || std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
    if field.is_empty() { None } else { Some(number()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn split(text: &str) -> Result<Vec<String>, BatchError> {
        let frame = Bytes::from(text.replace(' ', "\r"));
        assert!(is_batch(&frame));
        let batches = Batches::split(&frame)?;
        Ok(batches.messages().map(|message| String::from_utf8(message.to_vec()).unwrap().replace('\r', " ")).collect())
    }

    #[test]
    fn small_messages_take_more_memory_than_their_bytes() {
        let frame = |messages: usize| format!("BHS|^~\\&|\r{}BTS|\r", "MSH|^~\\&|MSH\r".repeat(messages));
        assert_eq!(memory(frame(3).as_bytes()), frame(3).len() + 3 * MESSAGE_OVERHEAD);
        let most = MESSAGES_MAX * MESSAGE_OVERHEAD;
        assert_eq!(memory(frame(MESSAGES_MAX + 5).as_bytes()), frame(MESSAGES_MAX + 5).len() + most);
    }

    const TWO: [&str; 2] = ["MSH|^~\\&|1 PID|1 ", "MSH|^~\\&|2 OBX|1 "];

    #[test]
    fn messages_come_out_whole_and_in_order() {
        let two = TWO.concat();
        for whole in [
            format!("BHS|^~\\&| {two}BTS|2 "),
            format!("BHS|^~\\&| {two}BTS|2"),
            format!("BHS|^~\\& {two}BTS "),
            format!("BHS|^~\\&| {two}BTS||comment "),
            format!("FHS|^~\\&| BHS|^~\\&| {two}BTS|2 FTS|1 "),
            format!("FHS|^~\\&| BHS|^~\\&| {}BTS|1 BHS|^~\\&| {}BTS|1 FTS|2 ", TWO[0], TWO[1]),
            format!("FHS|^~\\&| {two}FTS|1 "),
            format!("FHS|^~\\&| {two}FTS|2 "),
            format!("BHS$^~\\&$ {two}BTS$2 "),
        ] {
            assert_eq!(split(&whole), Ok(TWO.map(str::to_owned).to_vec()), "{whole}");
            let lines = Bytes::from(whole.replace(' ', "\r\n"));
            assert_eq!(Batches::split(&lines).unwrap().messages().count(), 2, "{whole}");
        }
        assert_eq!(split("BHS|^~\\&| BTS|0 "), Ok(vec![]));
    }

    #[test]
    fn what_is_not_whole_or_miscounted_is_refused_as_that() {
        let two = TWO.concat();
        for (broken, error) in [
            (format!("BHS|^~\\&| {two}"), BatchError::NoTrailer),
            (format!("FHS|^~\\&| BHS|^~\\&| {two}BTS|2 "), BatchError::NoTrailer),
            (format!("FHS|^~\\&| BHS|^~\\&| {two}FTS|1 "), BatchError::NoTrailer),
            (format!("FHS|^~\\&| {two}"), BatchError::NoTrailer),
            (format!("BHS|^~\\&| {two}BTS|3 "), BatchError::MessageCount),
            (format!("BHS|^~\\&| {two}BTS|1 "), BatchError::MessageCount),
            (format!("BHS|^~\\&| {two}BTS|two "), BatchError::MessageCount),
            (format!("BHS|^~\\&| {two}BTS|-2 "), BatchError::MessageCount),
            (format!("FHS|^~\\&| BHS|^~\\&| {two}BTS|2 FTS|2 "), BatchError::BatchCount),
            (format!("FHS|^~\\&| {two}FTS|3 "), BatchError::BatchCount),
            (format!("BHS|^~\\&| {two}BTS|2 {two}"), BatchError::Sequence),
            (format!("BHS|^~\\&| BHS|^~\\&| {two}BTS|2 "), BatchError::Sequence),
            (format!("BHS|^~\\&| PID|1 {two}BTS|2 "), BatchError::Sequence),
            (format!("BHS|^~\\&| {two}BTS|2 FTS|1 "), BatchError::Sequence),
            (format!("BHS|^~\\&| {two}BTS|2 BTS|2 "), BatchError::Sequence),
            (format!("FHS|^~\\&| {two}BTS|2 FTS|1 "), BatchError::Sequence),
            (format!("FHS|^~\\&| BHS|^~\\&| {two}BTS|2 FTS|1 {two}"), BatchError::Sequence),
            (format!("BHS {two}BTS|2 "), BatchError::Delimiters),
            (format!("BHS|^^\\&| {two}BTS|2 "), BatchError::Delimiters),
            (format!("BHS|^~\\&| {}BTS|10001 ", TWO[0].repeat(10_001)), BatchError::TooMany),
        ] {
            let name: String = broken.chars().take(200).collect();
            assert_eq!(split(&broken), Err(error), "{name}");
        }
    }

    #[test]
    fn every_beginning_of_a_batch_is_refused() {
        let whole = Bytes::from(format!("FHS|^~\\&|\rBHS|^~\\&|\r{}BTS|2\rFTS|1\r", TWO.concat().replace(' ', "\r")));
        for length in 3..whole.len() - "|1\r".len() {
            assert!(Batches::split(&whole.slice(..length)).is_err(), "{length}");
        }
        assert!(Batches::split(&whole).is_ok());
    }

    #[test]
    fn answers_go_back_as_batches_like_those_they_answer() {
        let frame = Bytes::from(format!(
            "FHS|^~\\&|GW|W|EHR|H|||||F1\rBHS|^~\\&|GW|W|EHR|H|||||B1\r{}BTS|1\rBHS|^~\\&|GW|W|EHR|H|||||B2\r{}BTS|1\rFTS|2\r",
            TWO[0].replace(' ', "\r"),
            TWO[1].replace(' ', "\r")
        ));
        let batches = Batches::split(&frame).unwrap();
        let at = "2026-03-14T09:26:30Z".parse().unwrap();
        let answers = [vec![Bytes::from("MSH|ACK\rMSA|CA\r"), Bytes::from("MSH|ACK\rMSA|AA\r")], vec![]];
        let answer = batches.answer(&answers, at, "N1").unwrap();
        assert_eq!(
            String::from_utf8(answer.to_vec()).unwrap(),
            "FHS|^~\\&|EHR|H|GW|W|20260314092630+0000||||N1|F1\r\
             BHS|^~\\&|EHR|H|GW|W|20260314092630+0000||||N1|B1\rMSH|ACK\rMSA|CA\rMSH|ACK\rMSA|AA\rBTS|2\r\
             BHS|^~\\&|EHR|H|GW|W|20260314092630+0000||||N1|B2\rBTS|0\rFTS|2\r"
        );
        assert_eq!(batches.answer(&[vec![], vec![]], at, "N1"), None);
        let empty = |text: &str| Batches::split(&Bytes::from(text.replace(' ', "\r"))).unwrap().answer(&[], at, "N1");
        assert_eq!(
            empty("FHS|^~\\&|GW|W|EHR|H|||||F1 BHS|^~\\&|GW|W|EHR|H|||||B1 BTS|0 FTS|1 ").unwrap(),
            "FHS|^~\\&|EHR|H|GW|W|20260314092630+0000||||N1|F1\r\
             BHS|^~\\&|EHR|H|GW|W|20260314092630+0000||||N1|B1\rBTS|0\rFTS|1\r"
        );
        assert_eq!(empty("BHS|^~\\&|GW|W|EHR|H|||||B2|B1 BTS|0 "), None, "it is an answer itself");
        assert_eq!(header_as_msh(&frame), b"MSH|^~\\&|GW|W|EHR|H||||F1|P|2.6\r");
    }
}
