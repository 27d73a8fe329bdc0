//! Backups of the store, made beside the running engine or of a stopped one's files, and restoring them.
//!
//! A backup is the journal up to one place, whole, with the key and the audit log; the ledger is made anew from it. It is
//! complete only once everything in it was synced, read back and proved, and `backup.json` then says so. Nothing that
//! exists is ever overwritten. While segments are copied none is given up, and no answer waits for the copying.
//!
//! What a restored store still has to deliver may have been delivered after the backup: all of it is marked as possible
//! repeat.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use rustix::fs::{Advice, fadvise};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::info;

use super::{Answerer, DiskStore, OpenError, Options, Shared, lock, recovery};
use crate::store::{
    StoreError,
    journal::{self, Damage, JournalError, Position, Prefix, files, prefix::Part},
    request::Request,
};

/// Says that a backup is complete.
const MANIFEST: &str = "backup.json";
const FORMAT: u32 = 1;
/// Copied at a time.
const PIECE: usize = 1 << 20;
/// Written before it is synced: little enough that the journal's own syncs do not wait behind it.
const SYNC_BYTES: u64 = 8 << 20;
/// Where a store is restored before it takes its place.
pub(super) const UNREADY: &str = "restoring";

/// What a backup holds. No content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    format: u32,
    /// Version of the engine that made it.
    pub engine: String,
    /// When it was begun: what was acknowledged before is in it.
    pub made_at: Timestamp,
    /// Segments of the journal.
    pub segments: u64,
    /// Records proved.
    pub records: u64,
    /// Sequence of the first record.
    pub first_sequence: Option<u64>,
    /// Sequence of the last record.
    pub last_sequence: Option<u64>,
    /// Stretches that were damaged in the store itself already.
    pub damage: Vec<String>,
    /// Everything in it.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Within the backup.
    pub path: PathBuf,
    /// Length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Why a backup was not made or not restored. The operator acts.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{} exists and is not empty: nothing is overwritten; name another directory, or move this one away", .0.display())]
    Occupied(PathBuf),
    /// The engine needs to know where.
    #[error("{} is no place for a backup: name an absolute path outside the store", .0.display())]
    Place(PathBuf),
    /// One at a time.
    #[error("a backup is being made already: wait for it")]
    Busy,
    /// No manifest, or one of another version.
    #[error("{} holds no complete backup: {what}", .path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file is not as it was written.
    #[error("{} is not as it was written: use another backup, or another disk", .0.display())]
    Changed(PathBuf),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The restored store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refused.
    #[error("cannot {action} {}: {error}; free space or mend permissions", .path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// As the system said.
        error: io::Error,
    },
}

type Done<T> = Result<T, BackupError>;

fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |error| BackupError::Io { action, path: path.to_owned(), error }
}

impl DiskStore {
    /// Writes all that is durable by now into `directory`, with `logs`, files of lines that only grow. Goes on by itself
    /// where the future is dropped.
    pub fn backup(&self, directory: PathBuf, logs: Vec<PathBuf>) -> BoxFuture<'static, Done<Backup>> {
        let shared = Arc::clone(&self.shared);
        let made_at = self.shared.clock.now();
        let made = tokio::task::spawn_blocking(move || backup_running(&shared, &directory, &logs, made_at));
        async move {
            made.await.unwrap_or_else(|_| Err(StoreError::Failed("the backup's thread ended early".into()).into()))
        }
        .boxed()
    }

    /// The same of a store in `path` that no engine has open. Blocking.
    pub fn backup_stopped(path: &Path, directory: &Path, logs: &[PathBuf], made_at: Timestamp) -> Done<Backup> {
        let prefix = Prefix::of_stopped(&path.join("journal"))?;
        write(path, &prefix, directory, logs, made_at, &|| Ok(()))
    }

    /// Makes the store in `path`, where there must be none, from the backup in `directory`, and proves it. Blocking. The
    /// same `options` as the engine's must be given.
    pub fn restore(directory: &Path, path: &Path, options: &Options) -> Done<Backup> {
        let backup = manifest(directory)?;
        files::make_directory(path).map_err(fault("make", path))?;
        empty(path)?;
        let unready = path.join(UNREADY);
        let restored = restore_aside(directory, &unready, &backup.files, options);
        if let Err(fault) = restored.and_then(|()| take_place(&unready, path)) {
            // Where that fails too, the engine does not start on what is left.
            let _ = fs::remove_dir_all(&unready);
            return Err(fault);
        }
        Ok(backup)
    }
}

/// While it lives no segment is given up.
struct Pinned<'a>(&'a Shared);

impl<'a> Pinned<'a> {
    fn new(shared: &'a Shared) -> Done<Pinned<'a>> {
        match std::mem::replace(&mut *lock(&shared.pinned), true) {
            false => Ok(Pinned(shared)),
            true => Err(BackupError::Busy),
        }
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        *lock(&self.0.pinned) = false;
    }
}

fn backup_running(shared: &Shared, directory: &Path, logs: &[PathBuf], made_at: Timestamp) -> Done<Backup> {
    let store = &shared.path;
    let inside = |path: &Path| directory.starts_with(path);
    if !directory.is_absolute() || inside(store) || fs::canonicalize(store).is_ok_and(|store| inside(&store)) {
        return Err(BackupError::Place(directory.to_owned()));
    }
    let pinned = Pinned::new(shared)?;
    let breaks = shared.breaks.load(Ordering::SeqCst);
    let prefix = Prefix::of(&shared.reader.load());
    // Whatever the prefix holds was asked for before this, which asks for nothing: once it is answered that is durable.
    let (answerer, answer) = oneshot::channel();
    let nothing = Request::Replay { at: 0, items: Vec::new() };
    shared.queue.push(nothing, Answerer::To(answerer));
    answer.blocking_recv().unwrap_or_else(|_| Err(shared.gone()))?;
    if shared.breaks.load(Ordering::SeqCst) != breaks {
        return Err(StoreError::Failed("it failed during this and was opened anew since: ask again".into()).into());
    }
    let made = write(store, &prefix, directory, logs, made_at, &|| Ok(shared.usable()?))?;
    drop(pinned);
    info!(directory = %directory.display(), records = made.records, "backup complete");
    Ok(made)
}

/// `go_on` is asked between pieces.
fn write(
    store: &Path,
    prefix: &Prefix,
    directory: &Path,
    logs: &[PathBuf],
    made_at: Timestamp,
    go_on: &dyn Fn() -> Done<()>,
) -> Done<Backup> {
    let journal = directory.join("journal");
    files::make_directory(directory).map_err(fault("make", directory))?;
    empty(directory)?;
    files::make_directory(&journal).map_err(fault("make", &journal))?;
    let mut copied = Vec::new();
    for part in prefix.parts() {
        copied.push(copy(&part, &journal, directory, go_on)?);
    }
    prefix.close_copy(&journal)?;
    if journal.join("MARK").exists() {
        copied.push(described(&journal.join("MARK"), directory)?);
    }
    copied.push(copy(&whole(&store.join("key"))?, directory, directory, go_on)?);
    for log in logs.iter().filter(|log| log.exists()) {
        copied.push(copy(&lines(log)?, directory, directory, go_on)?);
    }
    let report = journal::verify(&journal, |_, _| ())?;
    let backup = Backup {
        format: FORMAT,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        made_at,
        segments: report.segments,
        records: report.records,
        first_sequence: report.sequences.0,
        last_sequence: report.sequences.1,
        damage: report.damage.iter().map(place).collect(),
        files: copied,
    };
    complete(directory, &backup)?;
    Ok(backup)
}

/// Damage by its place alone: the copy's path says nothing.
fn place(damage: &Damage) -> String {
    let Damage { from, to, what, sequences, .. } = damage;
    let at = |position: &Position| format!("{}:{}", position.segment, position.offset);
    let near = |sequence: Option<u64>| sequence.map_or("-".to_owned(), |sequence| sequence.to_string());
    format!("{} to {}: {what} (between {} and {})", at(from), at(to), near(sequences.0), near(sequences.1))
}

/// Nothing in it, but what every file system has.
fn empty(directory: &Path) -> Done<()> {
    for entry in fs::read_dir(directory).map_err(fault("list", directory))? {
        if entry.map_err(fault("list", directory))?.file_name() != "lost+found" {
            return Err(BackupError::Occupied(directory.to_owned()));
        }
    }
    Ok(())
}

/// A file as long as it is now.
fn whole(path: &Path) -> Done<Part> {
    let bytes = fs::metadata(path).map_err(fault("read", path))?.len();
    Ok(Part { path: path.to_owned(), used: bytes, length: bytes })
}

/// The whole lines of a file that only grows.
fn lines(path: &Path) -> Done<Part> {
    let text = fs::read(path).map_err(fault("read", path))?;
    let bytes = memchr::memrchr(b'\n', &text).map_or(0, |end| end as u64 + 1);
    Ok(Part { path: path.to_owned(), used: bytes, length: bytes })
}

/// Copies into `into`, syncs, and reads back from the disk what was written.
fn copy(part: &Part, into: &Path, backup: &Path, go_on: &dyn Fn() -> Done<()>) -> Done<BackupFile> {
    let to = into.join(part.path.file_name().unwrap_or_default());
    let mut from = File::open(&part.path).map_err(fault("open", &part.path))?.take(part.used);
    let mut copy = new_file(&to)?;
    let (mut sha256, mut piece, mut done) = (Sha256::new(), vec![0; PIECE], 0);
    while done < part.used {
        go_on()?;
        let read = from.read(&mut piece).map_err(fault("read", &part.path))?;
        if read == 0 {
            return Err(BackupError::Changed(part.path.clone()));
        }
        sha256.update(&piece[..read]);
        copy.write_all(&piece[..read]).map_err(fault("write", &to))?;
        if done / SYNC_BYTES != (done + read as u64) / SYNC_BYTES {
            copy.sync_data().map_err(fault("sync", &to))?;
        }
        done += read as u64;
    }
    copy.set_len(part.length).and_then(|()| copy.sync_all()).map_err(fault("sync", &to))?;
    // What the kernel still holds proves nothing of the disk; where it cannot be told to forget, it is read all the same.
    let _ = fadvise(&copy, 0, None, Advice::DontNeed);
    update_zeros(&mut sha256, part.length - part.used);
    let described = described(&to, backup)?;
    if described.sha256 == hex(&sha256.finalize()) { Ok(described) } else { Err(BackupError::Changed(to)) }
}

fn update_zeros(sha256: &mut Sha256, mut bytes: u64) {
    let zeros = vec![0; PIECE];
    while bytes > 0 {
        let some = bytes.min(PIECE as u64);
        sha256.update(&zeros[..some as usize]);
        bytes -= some;
    }
}

fn new_file(path: &Path) -> Done<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(files::OWNER_ONLY).open(path);
    made.map_err(fault("make", path))
}

/// A file's entry in the manifest, as it reads now.
fn described(path: &Path, backup: &Path) -> Done<BackupFile> {
    let mut file = File::open(path).map_err(fault("open", path))?;
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut piece).map_err(fault("read", path))?;
        if read == 0 {
            let path = path.strip_prefix(backup).unwrap_or(path).to_owned();
            return Ok(BackupFile { path, bytes, sha256: hex(&sha256.finalize()) });
        }
        bytes += read as u64;
        sha256.update(&piece[..read]);
    }
}

/// The manifest, last of all.
fn complete(directory: &Path, backup: &Backup) -> Done<()> {
    let (unready, path) = (directory.join("backup.tmp"), directory.join(MANIFEST));
    sync_directory(directory)?;
    let text = serde_json::to_vec_pretty(backup).map_err(|error| fault("write", &path)(error.into()))?;
    let mut file = new_file(&unready)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(fault("write", &unready))?;
    fs::rename(&unready, &path).map_err(fault("rename", &unready))?;
    sync_directory(directory)?;
    sync_directory(directory.parent().unwrap_or(directory))
}

fn manifest(directory: &Path) -> Done<Backup> {
    let path = directory.join(MANIFEST);
    let incomplete = |what: String| BackupError::Incomplete { path: directory.to_owned(), what };
    let text = fs::read(&path).map_err(|error| incomplete(format!("{MANIFEST}: {error}")))?;
    let backup: Backup = serde_json::from_slice(&text).map_err(|error| incomplete(format!("{MANIFEST}: {error}")))?;
    if backup.format != FORMAT {
        return Err(incomplete(format!("it has format {}, and this version reads {FORMAT}", backup.format)));
    }
    let inside = |file: &BackupFile| file.path.components().all(|part| matches!(part, Component::Normal(_)));
    if !backup.files.iter().all(inside) {
        return Err(incomplete("it names files that are not in it".into()));
    }
    Ok(backup)
}

fn restore_aside(directory: &Path, unready: &Path, files: &[BackupFile], options: &Options) -> Done<()> {
    for file in files {
        restore_file(directory, unready, file)?;
    }
    sync_directory(&unready.join("journal"))?;
    let mut recovered = recovery::open(unready, options)?;
    let next = recovered.state.next;
    recovered.journal.mark_restored(next)?;
    Ok(recovered.close()?)
}

fn restore_file(directory: &Path, unready: &Path, file: &BackupFile) -> Done<()> {
    let from = directory.join(&file.path);
    let into = unready.join(file.path.parent().unwrap_or(Path::new("")));
    files::make_directory(&into).map_err(fault("make", &into))?;
    let copied = copy(&whole(&from)?, &into, unready, &|| Ok(()))?;
    if copied == *file { Ok(()) } else { Err(BackupError::Changed(from)) }
}

/// The journal last: a store that has a key and no journal does not start.
fn take_place(unready: &Path, path: &Path) -> Done<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(unready).map_err(fault("list", unready))? {
        names.push(entry.map_err(fault("list", unready))?.file_name());
    }
    names.sort_by_key(|name| name == "journal");
    for name in names {
        let from = unready.join(&name);
        if name == "journal" {
            sync_directory(path)?;
        }
        fs::rename(&from, path.join(&name)).map_err(fault("rename", &from))?;
    }
    fs::remove_dir(unready).map_err(fault("delete", unready))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Done<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(fault("sync", path))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
