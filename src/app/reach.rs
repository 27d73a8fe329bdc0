//! `reach.json` in the store's folder: to which destinations several messages of a lane may have been sent before the first of them
//! was recorded, and how many: in one request, or one after the other as `resend_window` allows.
//!
//! What must never happen: a message that was sent before a stop without an end goes again unmarked, because the configuration
//! no longer lets so many be under way. So a destination is written down before anything is sent to it that way, and stays until
//! a start at which nothing waits for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::warn;

use crate::{
    channel::{self, Channel},
    delivery::Key,
    destination::Settings,
    store::replace_file,
};

/// Messages of a lane of each destination.
type Reaches = BTreeMap<Key, usize>;

pub(super) struct ReachFile(PathBuf);

impl ReachFile {
    pub(super) fn in_store(store: &Path) -> ReachFile {
        ReachFile(store.join("reach.json"))
    }

    /// Those that several may have been sent to, of which something `waits`, and those that these channels send several to from
    /// now on. Written, if that changes it, before this returns.
    pub(super) fn noted(&self, channels: &[Arc<Channel>], waits: impl Fn(&Key) -> bool) -> Reaches {
        let before = self.read();
        let mut noted = before.clone();
        noted.retain(|key, _| waits(key));
        for (key, reach) in channels.iter().flat_map(reaches) {
            let kept = noted.entry(key).or_insert(reach);
            *kept = reach.max(*kept);
        }
        if noted != before
            && let Err(error) = self.write(&noted)
        {
            warn!(file = %self.0.display(), %error, "not written: free disk space, and lower no `messages_per_bundle` or `resend_window` before the next start");
        }
        noted
    }

    fn read(&self) -> Reaches {
        let Ok(bytes) = fs::read(&self.0) else { return Reaches::new() };
        let named: Vec<(String, String, usize)> = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %self.0.display(), %error, "not read: what may have been sent is marked by `messages_per_bundle` and `resend_window` as they are now");
            Vec::new()
        });
        named.into_iter().map(|(channel, destination, reach)| ((channel.into(), destination.into()), reach)).collect()
    }

    fn write(&self, noted: &Reaches) -> std::io::Result<()> {
        let named: Vec<(&str, &str, usize)> =
            noted.iter().map(|((channel, destination), reach)| (&**channel, &**destination, *reach)).collect();
        replace_file(&self.0, &serde_json::to_vec_pretty(&named)?)
    }
}

fn reaches(channel: &Arc<Channel>) -> impl Iterator<Item = (Key, usize)> + '_ {
    let of = |destination: &channel::Destination| {
        let along = match &destination.settings {
            Settings::Fhir(server) => server.write.messages_per_bundle,
            Settings::Mllp(_) | Settings::File(_) => 1,
        };
        ((channel.name.clone(), destination.name.clone()), along + destination.resend_window.get() - 1)
    };
    channel.destinations.iter().map(move |destination| of(destination)).filter(|(_, reach)| *reach > 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_may_have_been_sent_stays_noted_until_nothing_of_it_waits() {
        let folder = tempfile::tempdir().unwrap();
        let file = ReachFile::in_store(folder.path());
        let key: Key = ("pumps".into(), "ehr".into());
        assert!(file.noted(&[], |_| true).is_empty());
        let reaches = Reaches::from([(key, 16)]);
        file.write(&reaches).unwrap();
        assert_eq!(file.noted(&[], |_| true), reaches, "also where nothing sends so any more");
        assert_eq!(ReachFile::in_store(folder.path()).noted(&[], |_| true), reaches);
        assert!(file.noted(&[], |_| false).is_empty() && file.read().is_empty());
        fs::write(folder.path().join("reach.json"), "{").unwrap();
        assert!(file.noted(&[], |_| true).is_empty());
    }
}
