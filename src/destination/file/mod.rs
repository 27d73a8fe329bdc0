//! Delivery into a directory: one file a message, or one growing NDJSON file.
//!
//! What must never happen: `Accepted` before file and directory entry are synced; a half-written file under its final
//! name; content in a file's name. A full disk or a missing directory is `Unavailable`, as any receiver that is down.
//!
//! One file a message is `000000000123.hl7` or `.json`, by message id, written aside and renamed: a repeat replaces the
//! file by the same bytes, so it does no harm. Files are readable by the engine's own user and group only as far as
//! the umask allows, at most `0640`.

mod ndjson;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::{Destination, FileLayout, FileSettings, Outgoing, Sender, Verdict};
use crate::translate::Format;
use ndjson::Ndjson;

/// Patient data: nothing for others.
const MODE: u32 = 0o640;
/// A new NDJSON file is begun above this.
const NDJSON_BYTES_MAX: u64 = 256 << 20;

/// Writes under way in one directory at most: one that hangs must not take the threads others read and write by.
const WRITES_MAX: usize = 8;

/// A directory; its lanes share what is open.
#[derive(Clone)]
pub(super) struct Directory {
    writer: Arc<Writer>,
    turns: Arc<Semaphore>,
}

enum Writer {
    PerMessage(PathBuf),
    Ndjson(Mutex<Ndjson>),
}

/// Why a write did not end in a durable file.
#[derive(Debug)]
enum WriteError {
    /// Nothing of it can be seen.
    NotWritten(&'static str, io::Error),
    /// It can be seen, but might not survive power loss.
    NotSynced(&'static str, io::Error),
    /// It cannot be written in this layout.
    Unwritable(&'static str),
}

impl Directory {
    pub(super) fn new(settings: &FileSettings) -> Directory {
        let directory = settings.directory.clone();
        let writer = match settings.layout {
            FileLayout::PerMessage => Writer::PerMessage(directory),
            FileLayout::Ndjson => Writer::Ndjson(Mutex::new(Ndjson::new(directory, NDJSON_BYTES_MAX))),
        };
        Directory { writer: Arc::new(writer), turns: Arc::new(Semaphore::new(WRITES_MAX)) }
    }
}

impl Destination for Directory {
    fn sender(&self, _lane: u16) -> Box<dyn Sender> {
        Box::new(self.clone())
    }
}

impl Sender for Directory {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        let (Directory { writer, turns }, outgoing) = (self.clone(), outgoing.clone());
        Box::pin(async move {
            // Never closed. Kept by the write, which goes on where this future is dropped.
            let turn = turns.acquire_owned().await;
            let write = move || {
                let _turn = turn;
                writer.write(&outgoing)
            };
            match tokio::task::spawn_blocking(write).await {
                Ok(Ok(name)) => Verdict::Accepted { answer: name },
                Ok(Err(error)) => error.verdict(),
                Err(_) => Verdict::ambiguous("the writing thread ended early"),
            }
        })
    }
}

impl Writer {
    /// The name of the file that now durably holds the message.
    fn write(&self, outgoing: &Outgoing) -> Result<String, WriteError> {
        match self {
            Writer::PerMessage(directory) => write_whole(directory, outgoing),
            Writer::Ndjson(ndjson) => {
                // A panic while the lock was held leaves the file to be mended like a crash does.
                let mut ndjson = ndjson.lock().unwrap_or_else(PoisonError::into_inner);
                ndjson.append(outgoing)
            }
        }
    }
}

fn write_whole(directory: &Path, outgoing: &Outgoing) -> Result<String, WriteError> {
    let extension = match outgoing.format {
        Format::Hl7 => "hl7",
        Format::FhirBundle => "json",
    };
    let name = format!("{:012}.{extension}", outgoing.id);
    // Left behind by a crash, it is overwritten when the message comes again.
    let aside = directory.join(format!(".{name}.tmp"));
    let written = write_aside(&aside, &outgoing.body).and_then(|()| {
        std::fs::rename(&aside, directory.join(&name)).map_err(|error| WriteError::NotWritten("rename", error))
    });
    if let Err(error) = written {
        // Best effort: what could not be written is not worth its space, and is overwritten if this fails too.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    sync_directory(directory)?;
    Ok(name)
}

fn write_aside(path: &Path, body: &[u8]) -> Result<(), WriteError> {
    let not_written = |action| move |error| WriteError::NotWritten(action, error);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(MODE);
    let mut file = options.open(path).map_err(not_written("create a file"))?;
    file.write_all(body).map_err(not_written("write"))?;
    file.sync_all().map_err(not_written("sync"))
}

fn sync_directory(directory: &Path) -> Result<(), WriteError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| WriteError::NotSynced("sync the directory", error))
}

impl WriteError {
    fn verdict(self) -> Verdict {
        match self {
            WriteError::NotWritten(action, error) => {
                Verdict::unavailable(format!("cannot {action}: {error}: {}", remedy(&error)))
            }
            WriteError::NotSynced(action, error) => Verdict::ambiguous(format!("cannot {action}: {error}")),
            WriteError::Unwritable(what) => Verdict::rejected(what),
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "mount or create the destination's directory",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "let the engine's user write there",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        _ => "check the file system",
    }
}

#[cfg(test)]
mod tests;
