//! Who read or changed what, in an append-only file of JSON lines.
//!
//! Each line holds the SHA-256 of the line before it, and a file beside the log, its head, the number and the SHA-256 of
//! the last one, so that a line edited, removed or moved is found by `verify`, also at the end. Lines name messages by id
//! and never hold content. An action that cannot be written down is not done.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes allocated after the log's end, so that operators can act while the disk is full: thousands of lines.
const AHEAD: u64 = 1 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What was done: `message.raw`, `destination.pause`, …
    pub action: String,
    /// To what: an id or a name, never content.
    pub object: String,
    /// SHA-256 of the line before, hexadecimal; empty in the first.
    pub previous: String,
}

/// Why an action could not be written down, or where the chain breaks.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The system refused.
    #[error("audit log {path}: {error}; free space or mend permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The chain does not hold at this line.
    #[error("audit log line {line}: {what}; compare it with a backup")]
    Broken {
        /// 1-based.
        line: u64,
        /// What does not hold.
        what: &'static str,
    },
}

/// The open log; clones share it.
#[derive(Clone)]
pub struct Audit(Arc<Mutex<Log>>);

struct Log {
    path: PathBuf,
    file: File,
    head: File,
    last: Tail,
    /// Bytes of whole lines.
    length: u64,
    /// Bytes the disk has for it.
    allocated: u64,
    /// A half line could not be taken back: nothing more can be written down.
    spoiled: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tail {
    number: u64,
    digest: String,
}

impl Audit {
    /// Opens or makes the log and proves its chain.
    pub fn open(path: &Path) -> Result<Audit, AuditError> {
        let io = |error| AuditError::Io { path: path.to_owned(), error };
        let found = read_head(path)?;
        let (last, length) = if path.exists() || found.is_some() { mended_tail(path)? } else { Default::default() };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
        // After a crash the head may be a line behind; a log restored without one gets it anew.
        let head = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(head_path(path));
        let head = head.map_err(io)?;
        write_head(&head, &last).map_err(io)?;
        let mut log = Log { path: path.to_owned(), file, head, last, length, allocated: 0, spoiled: false };
        log.allocate();
        Ok(Audit(Arc::new(Mutex::new(log))))
    }

    /// Writes one line and syncs it. Blocking.
    pub fn record(&self, at: Timestamp, action: &str, object: &str) -> Result<(), AuditError> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = AuditEntry {
            number: log.last.number + 1,
            at,
            action: action.to_owned(),
            object: object.to_owned(),
            previous: log.last.digest.clone(),
        };
        let path = log.path.clone();
        let io = |error| AuditError::Io { path: path.clone(), error };
        let mut line = serde_json::to_vec(&entry).map_err(|error| io(error.into()))?;
        let digest = hex(&Sha256::digest(&line));
        line.push(b'\n');
        log.append(&line).map_err(io)?;
        log.last = Tail { number: entry.number, digest };
        write_head(&log.head, &log.last).map_err(io)
    }

    /// At most `limit` lines with numbers below `before` (all, where 0), newest first.
    pub fn entries(&self, before: u64, limit: usize) -> Result<Vec<AuditEntry>, AuditError> {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner).path.clone();
        let limit = limit.clamp(1, 1_000);
        let mut kept = std::collections::VecDeque::with_capacity(limit);
        walk(&path, |entry, _| {
            if before == 0 || entry.number < before {
                if kept.len() == limit {
                    kept.pop_front();
                }
                kept.push_back(entry);
            }
        })?;
        Ok(kept.into_iter().rev().collect())
    }
}

impl Log {
    /// One whole line, durable, or none of it.
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.spoiled {
            return Err(std::io::Error::other("an earlier line is torn; restart the engine"));
        }
        let written = self.file.write_all(line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            self.spoiled = self.file.set_len(self.length).and_then(|()| self.file.sync_data()).is_err();
            self.allocated = self.length;
            return written;
        }
        self.length += line.len() as u64;
        if self.allocated < self.length + AHEAD / 2 {
            self.allocate();
        }
        Ok(())
    }

    /// As far as the disk has room and can: without it a line finds its own.
    fn allocate(&mut self) {
        if fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, AHEAD).is_ok() {
            self.allocated = self.length + AHEAD;
        }
    }
}

/// Proves the chain of a log, its end included: the number of lines.
pub fn verify(path: &Path) -> Result<u64, AuditError> {
    let tail = proved(path)?.0;
    if tail.number > 0 && read_head(path)?.is_none() {
        let what =
            "the file audit.head beside the log is missing, so that lines missing after this one are not noticed";
        return Err(AuditError::Broken { line: tail.number, what });
    }
    Ok(tail.number)
}

/// Moves a log that does not prove itself aside, with its head; answers where it is now.
pub fn set_aside(path: &Path, now: Timestamp) -> Result<PathBuf, AuditError> {
    let aside = path.with_extension(format!("broken-{}.ndjson", now.as_second()));
    for (from, to) in [(path, aside.as_path()), (&head_path(path), &head_path(&aside))] {
        match std::fs::rename(from, to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(AuditError::Io { path: from.to_owned(), error });
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// The log's tail and length, if its chain holds and goes as far as its head says, where it has one.
fn proved(path: &Path) -> Result<(Tail, u64), AuditError> {
    let head = read_head(path)?;
    let mut met = head.as_ref().is_none_or(|head| head.number == 0);
    let mut changed = false;
    let compare = |entry: AuditEntry, digest: &str| {
        if let Some(head) = head.as_ref().filter(|head| head.number == entry.number) {
            (met, changed) = (true, head.digest != digest);
        }
    };
    let gone = head.is_some() && !path.exists();
    let walked = if gone { Default::default() } else { walk(path, compare)? };
    let line = head.map_or(0, |head| head.number);
    match (met, changed) {
        (true, false) => Ok(walked),
        (true, true) => Err(AuditError::Broken { line, what: "was changed" }),
        (false, _) => Err(AuditError::Broken { line, what: "is missing, or a line before it" }),
    }
}

/// The files to be copied for a backup of the log at `path`, in this order: a head may be behind its log, not before it.
pub fn files(path: &Path) -> Vec<PathBuf> {
    vec![head_path(path), path.to_owned()]
}

fn head_path(path: &Path) -> PathBuf {
    path.with_extension("head")
}

fn read_head(path: &Path) -> Result<Option<Tail>, AuditError> {
    let path = head_path(path);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| AuditError::Io { path, error })?,
    };
    let head = text
        .split_once(' ')
        .and_then(|(number, digest)| Some(Tail { number: number.parse().ok()?, digest: digest.trim_end().to_owned() }));
    // One that is empty or zeros was made, and not written before a crash.
    match head {
        None if text.bytes().any(|byte| byte != 0) => {
            Err(AuditError::Broken { line: 0, what: "the file audit.head is unreadable" })
        }
        head => Ok(head),
    }
}

/// In one sector and always of one length, so that it is there whole or as before, and needs no new room.
fn write_head(head: &File, last: &Tail) -> std::io::Result<()> {
    head.write_all_at(format!("{:020} {:64}\n", last.number, last.digest).as_bytes(), 0)?;
    head.sync_data()
}

/// The last whole line; a half line that a crash left is cut, since nothing was done on its strength.
fn mended_tail(path: &Path) -> Result<(Tail, u64), AuditError> {
    let io = |error| AuditError::Io { path: path.to_owned(), error };
    let (tail, whole) = proved(path)?;
    if !path.exists() {
        return Ok((tail, whole));
    }
    let file = OpenOptions::new().write(true).open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() > whole {
        file.set_len(whole).and_then(|()| file.sync_data()).map_err(io)?;
    }
    Ok((tail, whole))
}

/// Gives every entry with its digest to `each`; answers the tail and the length of the whole lines, in bytes.
fn walk(path: &Path, mut each: impl FnMut(AuditEntry, &str)) -> Result<(Tail, u64), AuditError> {
    let io = |error| AuditError::Io { path: path.to_owned(), error };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let (mut tail, mut whole, mut line) = (Tail::default(), 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(io)?;
        if line.pop() != Some(b'\n') {
            return Ok((tail, whole));
        }
        let broken = |what| AuditError::Broken { line: tail.number + 1, what };
        let entry: AuditEntry = serde_json::from_slice(&line).map_err(|_| broken("is not an audit entry"))?;
        if entry.number != tail.number + 1 {
            return Err(broken("lines are missing or moved"));
        }
        if entry.previous != tail.digest {
            return Err(broken("the line before it was changed"));
        }
        whole += read as u64;
        tail = Tail { number: entry.number, digest: hex(&Sha256::digest(&line)) };
        each(entry, &tail.digest);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn log_of(entries: usize) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.ndjson");
        let audit = Audit::open(&path).unwrap();
        for n in 0..entries {
            audit.record(Timestamp::UNIX_EPOCH, "message.raw", &n.to_string()).unwrap();
        }
        (directory, path)
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let (_directory, path) = log_of(3);
        let audit = Audit::open(&path).unwrap();
        audit.record(Timestamp::UNIX_EPOCH, "dead.retry", "7").unwrap();
        assert_eq!(verify(&path).unwrap(), 4);
        let numbers: Vec<u64> = audit.entries(4, 2).unwrap().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [3, 2]);
    }

    #[test]
    fn an_edited_a_removed_and_a_moved_line_are_found() {
        let (_directory, path) = log_of(4);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let edited = text.replacen("\"object\":\"1\"", "\"object\":\"9\"", 1);
        let removed = [lines[0], lines[2], lines[3], ""].join("\n");
        let moved = [lines[0], lines[2], lines[1], lines[3], ""].join("\n");
        for changed in [edited, removed, moved] {
            std::fs::write(&path, changed).unwrap();
            assert!(matches!(verify(&path), Err(AuditError::Broken { .. })));
        }
    }

    #[test]
    fn a_last_line_edited_removed_or_cut_and_a_log_emptied_or_gone_are_found() {
        let (_directory, path) = log_of(3);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let edited = text.replacen("\"object\":\"2\"", "\"object\":\"9\"", 1);
        for changed in [edited, lines[..2].concat(), text[..text.len() - 9].to_owned(), String::new()] {
            std::fs::write(&path, changed).unwrap();
            assert!(matches!(verify(&path), Err(AuditError::Broken { line: 3, .. })));
            assert!(Audit::open(&path).is_err());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(verify(&path), Err(AuditError::Broken { line: 3, .. })));
        let aside = set_aside(&path, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(Audit::open(&path).map(|_| verify(&path).unwrap()).unwrap(), 0);
        std::fs::rename(head_path(&aside), head_path(&path)).unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(verify(&path).unwrap(), 3);
        std::fs::remove_file(head_path(&path)).unwrap();
        assert!(verify(&path).is_err(), "without its head the end of a log is not proved");
    }

    #[test]
    fn a_head_left_a_line_behind_by_a_crash_is_no_fault() {
        let (_directory, path) = log_of(0);
        Audit::open(&path).unwrap().record(Timestamp::UNIX_EPOCH, "reload", "").unwrap();
        let behind = std::fs::read(head_path(&path)).unwrap();
        Audit::open(&path).unwrap().record(Timestamp::UNIX_EPOCH, "reload", "").unwrap();
        std::fs::write(head_path(&path), &behind).unwrap();
        assert_eq!(verify(&path).unwrap(), 2);
        Audit::open(&path).unwrap();
        assert_ne!(std::fs::read(head_path(&path)).unwrap(), behind);
    }

    #[test]
    fn a_half_line_left_by_a_crash_is_cut() {
        let (_directory, path) = log_of(2);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"number\":3,\"at").unwrap();
        Audit::open(&path).unwrap().record(Timestamp::UNIX_EPOCH, "reload", "").unwrap();
        assert_eq!(verify(&path).unwrap(), 3);
    }
}
