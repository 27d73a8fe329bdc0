//! `summaries.json` in the store's folder: of each summary the last one of which everything is stored, and from when on messages
//! are marked that may tell of glucose.
//!
//! It only saves looking through the messages. Where it is lost they tell what was made.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tracing::warn;

use crate::store::replace_file;

/// When it was due, by channel and summary.
type Made = BTreeMap<String, BTreeMap<String, Timestamp>>;

/// No channel has this name.
const ENGINE: &str = "";
const MARKED_FROM: &str = "marked_from";

pub(super) struct Done {
    path: PathBuf,
    made: Mutex<Made>,
}

impl Done {
    pub fn in_store(folder: &Path) -> Done {
        let path = folder.join("summaries.json");
        let made = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(file = %path.display(), %error, "not read: the messages tell which summaries were made");
                Made::new()
            }),
            Err(_) => Made::new(),
        };
        Done { path, made: Mutex::new(made) }
    }

    pub fn of(&self, channel: &str, summary: &str) -> Option<Timestamp> {
        self.made().get(channel)?.get(summary).copied()
    }

    /// Durable when this returns, if the disk takes it.
    pub async fn note(&self, channel: &str, summary: &str, due: Timestamp) {
        let (path, made) = {
            let mut made = self.made();
            made.entry(channel.to_owned()).or_default().insert(summary.to_owned(), due);
            (self.path.clone(), made.clone())
        };
        // A panic in it was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &made) {
                warn!(file = %path.display(), %error, "not written: free disk space; the messages tell which summaries were made");
            }
        })
        .await;
    }

    /// From when on messages are marked that may tell of glucose: since the first start of an engine that does so.
    pub async fn marked_from(&self, started: Timestamp) -> Timestamp {
        match self.of(ENGINE, MARKED_FROM) {
            Some(known) => known,
            None => {
                self.note(ENGINE, MARKED_FROM, started).await;
                started
            }
        }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(path: &Path, made: &Made) -> io::Result<()> {
    replace_file(path, &serde_json::to_vec_pretty(made)?)
}
