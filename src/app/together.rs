//! `together.json` in the store's folder: the destinations that several messages were sent to in one request, as configured
//! when they were.
//!
//! What must never happen: a message that went along with another before a stop without an end goes again unmarked, because
//! the configuration no longer sends several. So a destination is written down before anything is sent to it that way, and
//! stays until a start at which nothing waits for it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use crate::{channel::Channel, delivery::Key, destination::Settings, store::replace_file};

pub(super) struct TogetherFile(PathBuf);

impl TogetherFile {
    pub(super) fn in_store(store: &Path) -> TogetherFile {
        TogetherFile(store.join("together.json"))
    }

    /// Those that several may have been sent to, of which something `waits`, and those that these channels send several to from
    /// now on. Written, if that changes it, before this returns.
    pub(super) fn noted(&self, channels: &[Arc<Channel>], waits: impl Fn(&Key) -> bool) -> BTreeSet<Key> {
        let before = self.read();
        let mut noted: BTreeSet<Key> = before.iter().filter(|key| waits(key)).cloned().collect();
        noted.extend(channels.iter().flat_map(sends_together));
        if noted != before
            && let Err(error) = self.write(&noted)
        {
            warn!(file = %self.0.display(), %error, "not written: free disk space, and lower no `messages_per_bundle` before the next start");
        }
        noted
    }

    fn read(&self) -> BTreeSet<Key> {
        let Ok(bytes) = fs::read(&self.0) else { return BTreeSet::new() };
        let named: Vec<(String, String)> = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %self.0.display(), %error, "not read: what may have gone along with another is marked by `messages_per_bundle` as it is now");
            Vec::new()
        });
        named.into_iter().map(|(channel, destination)| (channel.into(), destination.into())).collect()
    }

    fn write(&self, noted: &BTreeSet<Key>) -> std::io::Result<()> {
        let named: Vec<(&str, &str)> =
            noted.iter().map(|(channel, destination)| (&**channel, &**destination)).collect();
        replace_file(&self.0, &serde_json::to_vec_pretty(&named)?)
    }
}

fn sends_together(channel: &Arc<Channel>) -> impl Iterator<Item = Key> + '_ {
    let together = channel.destinations.iter().filter(|destination| match &destination.settings {
        Settings::Fhir(server) => server.write.messages_per_bundle > 1,
        Settings::Mllp(_) | Settings::File(_) => false,
    });
    together.map(|destination| (channel.name.clone(), destination.name.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_sent_together_stays_noted_until_nothing_of_it_waits() {
        let folder = tempfile::tempdir().unwrap();
        let file = TogetherFile::in_store(folder.path());
        let key: Key = ("pumps".into(), "ehr".into());
        assert!(file.noted(&[], |_| true).is_empty());
        file.write(&[key.clone()].into()).unwrap();
        assert_eq!(file.noted(&[], |_| true), [key.clone()].into(), "also where nothing sends so any more");
        assert_eq!(TogetherFile::in_store(folder.path()).noted(&[], |_| true), [key].into());
        assert!(file.noted(&[], |_| false).is_empty() && file.read().is_empty());
        fs::write(folder.path().join("together.json"), "{").unwrap();
        assert!(file.noted(&[], |_| true).is_empty());
    }
}
