//! One growing file, `messages.ndjson`, one JSON object a line:
//!
//! `{"id":123,"format":"hl7","possible_repeat":false,"message":"MSH|…"}`
//!
//! `message` is the Bundle itself for FHIR and a string for HL7; HL7 that is not UTF-8 comes as `message_base64`, so that
//! not a byte is changed. A message sent again after a fault is a second line with `"possible_repeat":true`.
//!
//! What must never happen: two lines grown together. A half line, left by a crash or a full disk, is cut before anything
//! else is written: its message was not settled, so it comes again. Above its size limit the file is renamed to
//! `messages.000001.ndjson`, the next number each time, and a new one begun.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use serde_json::{Value, json};

use super::{MODE, WriteError, sync_directory};
use crate::{destination::Outgoing, translate::Format};

const CURRENT: &str = "messages.ndjson";

/// The file being written.
pub(super) struct Ndjson {
    directory: PathBuf,
    bytes_max: u64,
    /// Closed after every fault, so that the next append mends before it writes.
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Whole lines.
    length: u64,
}

impl Ndjson {
    pub(super) fn new(directory: PathBuf, bytes_max: u64) -> Ndjson {
        Ndjson { directory, bytes_max, open: None }
    }

    /// Appends one line and syncs it; answers the file's name.
    pub(super) fn append(&mut self, outgoing: &Outgoing) -> Result<String, WriteError> {
        let line = line(outgoing)?;
        let mut open = self.open_for(line.len() as u64)?;
        if let Err(error) = open.file.write_all(&line) {
            // Should the cut fail too, opening the file again makes it.
            let _ = open.file.set_len(open.length);
            return Err(WriteError::NotWritten("write", error));
        }
        open.file.sync_data().map_err(|error| WriteError::NotSynced("sync", error))?;
        open.length += line.len() as u64;
        self.open = Some(open);
        Ok(CURRENT.to_owned())
    }

    /// The file to append to, taken out until the append has succeeded.
    fn open_for(&mut self, line_bytes: u64) -> Result<Open, WriteError> {
        // A file moved or removed by others is let go: what is written to it now would not be found.
        let kept = self.open.take().filter(|_| self.directory.join(CURRENT).exists());
        let open = kept.map_or_else(|| self.open_mended(), Ok)?;
        if open.length == 0 || open.length + line_bytes <= self.bytes_max {
            return Ok(open);
        }
        let rename = std::fs::rename(self.directory.join(CURRENT), self.directory.join(self.rotated_name()?));
        rename.map_err(|error| WriteError::NotWritten("rename the full file", error))?;
        self.open_mended()
    }

    fn open_mended(&self) -> Result<Open, WriteError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(MODE);
        let opened = options.open(self.directory.join(CURRENT));
        let mut file = opened.map_err(|error| WriteError::NotWritten("open messages.ndjson", error))?;
        let length = whole_lines(&mut file).map_err(|error| WriteError::NotWritten("read messages.ndjson", error))?;
        let mended = file.set_len(length).and_then(|()| file.sync_all());
        mended.map_err(|error| WriteError::NotWritten("mend messages.ndjson", error))?;
        // The message is not written yet, so a directory that cannot be synced means nothing was.
        sync_directory(&self.directory).map_err(|error| match error {
            WriteError::NotSynced(action, error) => WriteError::NotWritten(action, error),
            other => other,
        })?;
        Ok(Open { file, length })
    }

    /// One above the highest number there is, so that a name is never used twice.
    fn rotated_name(&self) -> Result<String, WriteError> {
        let listed =
            std::fs::read_dir(&self.directory).map_err(|error| WriteError::NotWritten("list the directory", error))?;
        let highest = listed.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).max();
        Ok(format!("messages.{:06}.ndjson", highest.unwrap_or(0) + 1))
    }
}

/// `messages.000012.ndjson` → 12.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix("messages.")?.strip_suffix(".ndjson")?.parse().ok()
}

/// Bytes up to and with the last line end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 8192];
    while end > 0 {
        let take = end.min(block.len() as u64);
        let block = &mut block[..usize::try_from(take).unwrap_or(0)];
        file.seek(SeekFrom::Start(end - take))?;
        file.read_exact(block)?;
        if let Some(at) = memchr::memrchr(b'\n', block) {
            return Ok(end - take + at as u64 + 1);
        }
        end -= take;
    }
    Ok(0)
}

fn line(outgoing: &Outgoing) -> Result<Vec<u8>, WriteError> {
    let (format, key, message) = match outgoing.format {
        Format::FhirBundle => {
            let bundle: Value = serde_json::from_slice(&outgoing.body)
                .map_err(|_| WriteError::Unwritable("the Bundle is not JSON: report a fault of the engine"))?;
            ("fhir", "message", bundle)
        }
        Format::Hl7 => match std::str::from_utf8(&outgoing.body) {
            Ok(text) => ("hl7", "message", Value::from(text)),
            Err(_) => ("hl7", "message_base64", Value::from(base64(&outgoing.body))),
        },
    };
    let object =
        json!({ "id": outgoing.id, "format": format, "possible_repeat": outgoing.possible_repeat, key: message });
    Ok(format!("{object}\n").into_bytes())
}

/// RFC 4648 §4, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            out.push(if place <= chunk.len() { ALPHABET[six as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_rfc_does() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xFB, 0xFF, 0xFE]), "+//+");
    }
}
