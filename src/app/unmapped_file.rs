//! `unmapped.json` in the store's folder: the codes that no table has, kept over a restart.
//!
//! Only a report is lost where it cannot be written or read; messages never wait for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tracing::warn;

use crate::{
    delivery::{Delivery, UnmappedList},
    store::replace_file,
};

/// Between two looks whether there is something new to keep.
const EVERY: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct UnmappedFile(PathBuf);

impl UnmappedFile {
    pub(super) fn in_store(store: &Path) -> UnmappedFile {
        UnmappedFile(store.join("unmapped.json"))
    }

    /// What it says; nothing where it is not there or does not read.
    pub(super) fn read(&self) -> UnmappedList {
        let Ok(bytes) = fs::read(&self.0) else { return UnmappedList::default() };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %self.0.display(), %error, "not read: the list of unmapped codes begins anew");
            UnmappedList::default()
        })
    }

    /// Keeps what is new from time to time, until dropped.
    pub(super) async fn keep_up(self, delivery: Arc<Delivery>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.keep(&delivery).await;
        }
    }

    /// Writes the list if it has changed since it was last written.
    pub(super) async fn keep(&self, delivery: &Delivery) {
        let Some(list) = delivery.unmapped().changed() else { return };
        let file = self.clone();
        // A panic in it was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = file.write(&list) {
                warn!(file = %file.0.display(), %error, "not written: the list of unmapped codes is lost at a restart");
            }
        })
        .await;
    }

    fn write(&self, list: &UnmappedList) -> io::Result<()> {
        replace_file(&self.0, &serde_json::to_vec(list)?)
    }
}
