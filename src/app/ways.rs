//! `lanes.json` in the store's folder: the way by which what waits came to its lanes, so that `lanes` or `order` changed
//! while the engine was stopped reorders nothing.
//!
//! What must never happen: the file naming one way while messages wait that came another. So it is written before anything
//! is received by a new way, which it calls changing until nothing waits that came by an older one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use crate::{delivery::Ways, store::replace_file};

pub(super) struct WaysFile(PathBuf);

impl WaysFile {
    pub(super) fn in_store(store: &Path) -> WaysFile {
        WaysFile(store.join("lanes.json"))
    }

    /// What it says. A file that does not read says nothing: then no change is noticed, and the log tells.
    pub(super) fn read(&self) -> Ways {
        let named: BTreeMap<String, BTreeMap<String, String>> = match fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(file = %self.0.display(), %error, "not read: messages that wait may be out of order if `lanes` or `order` was changed");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        let of_channel = |(channel, ways): (String, BTreeMap<String, String>)| {
            let channel: Arc<str> = channel.into();
            ways.into_iter().map(move |(destination, way)| ((channel.clone(), destination.into()), way))
        };
        named.into_iter().flat_map(of_channel).collect()
    }

    /// Writes it if that changes it, durable when this returns.
    pub(super) fn write(&self, ways: &Ways) {
        if *ways != self.read()
            && let Err(error) = self.replace(ways)
        {
            warn!(file = %self.0.display(), %error, "not written: free disk space, and change neither `lanes` nor `order` before the next start");
        }
    }

    fn replace(&self, ways: &Ways) -> io::Result<()> {
        let mut named: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for ((channel, destination), way) in ways {
            named.entry(channel).or_default().insert(destination, way);
        }
        replace_file(&self.0, &serde_json::to_vec_pretty(&named)?)
    }
}
