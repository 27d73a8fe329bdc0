//! Tells when a file of the configuration was changed, added or removed, so that it can be loaded again.

use std::{
    collections::BTreeSet,
    path::{self, Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::Config;

/// Changes closer together than this are one: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(250);

/// A watch on the configuration's files; it ends when dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

/// Watches the files `config` was read from. The error names the folder that cannot be watched.
pub fn watch(config: &Config) -> Result<Watch, String> {
    let watched = Watched::of(config).map_err(|error| error.to_string())?;
    let beside = watched.files.iter().filter_map(|file| file.parent()).filter(|folder| folder.is_dir());
    let beside: BTreeSet<&Path> =
        beside.filter(|folder| !watched.folders.iter().any(|f| folder.starts_with(f))).collect();
    let mut folders: Vec<(PathBuf, RecursiveMode)> =
        beside.into_iter().map(|folder| (folder.to_owned(), RecursiveMode::NonRecursive)).collect();
    folders.extend(watched.folders.iter().map(|folder| (folder.clone(), RecursiveMode::Recursive)));
    let (events, raw) = std::sync::mpsc::channel();
    let forward_event = move |event| forward(&event, &watched, &events);
    let mut watcher = notify::recommended_watcher(forward_event).map_err(|error| error.to_string())?;
    for (folder, mode) in folders {
        let failed = |error| format!("{} cannot be watched for changes: {error}", folder.display());
        watcher.watch(&folder, mode).map_err(failed)?;
    }
    let (settled, changes) = mpsc::channel(1);
    let debounce = thread::Builder::new().name("config-watch".to_owned());
    debounce.spawn(move || gather(&raw, &settled)).map_err(|error| error.to_string())?;
    Ok(Watch { _watcher: watcher, changes })
}

impl Watch {
    /// Waits until files have changed and then have been left alone for a moment. `None` once nothing can be seen any
    /// more.
    pub async fn changed(&mut self) -> Option<()> {
        self.changes.recv().await
    }
}

/// What is watched: folders, never files, for a file replaced by a rename would be lost from sight.
struct Watched {
    /// cannula.toml, and files with secrets, which are replaced when they expire.
    files: Vec<PathBuf>,
    /// Everything in these counts.
    folders: Vec<PathBuf>,
}

impl Watched {
    fn of(config: &Config) -> std::io::Result<Watched> {
        let mut folders = vec![path::absolute(&config.channels_dir)?];
        if config.tables_dir.is_dir() && !config.tables_dir.starts_with(&config.channels_dir) {
            folders.push(path::absolute(&config.tables_dir)?);
        }
        let files = std::iter::once(&config.file).chain(&config.secret_files);
        Ok(Watched { files: files.map(path::absolute).collect::<std::io::Result<_>>()?, folders })
    }

    /// The store and the log may stand beside cannula.toml: there only the file itself counts, and what it may be a link to
    /// (`..data` of a mounted Kubernetes volume).
    fn includes(&self, changed: &Path) -> bool {
        let linked = || changed.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
        self.folders.iter().any(|folder| changed.starts_with(folder))
            || self.files.iter().any(|file| file == changed)
            || linked()
    }
}

fn forward(event: &notify::Result<Event>, watched: &Watched, events: &Sender<()>) {
    let matters = match event {
        Ok(event) => {
            !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| watched.includes(path))
        }
        // Events were lost: something may have changed.
        Err(_) => true,
    };
    if matters {
        // The receiver is gone only when the watch is being dropped.
        let _ = events.send(());
    }
}

/// Sends one notice for each burst of events, until the watcher or the reader is gone.
fn gather(raw: &Receiver<()>, settled: &mpsc::Sender<()>) {
    while raw.recv().is_ok() {
        loop {
            match raw.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        // A notice that waits unread stands for this burst too.
        if let Err(mpsc::error::TrySendError::Closed(())) = settled.try_send(()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::fs;

    use super::*;
    use crate::config::load;

    const CHANNEL: &str = "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"a\"\ntype = \"mllp\"\n\
        address = \"127.0.0.1:1\"\n";

    fn configured() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("channels")).unwrap();
        let file = folder.path().join("cannula.toml");
        fs::write(&file, "").unwrap();
        let config = load(Some(&file)).ok().unwrap();
        (folder, config)
    }

    #[tokio::test]
    async fn a_channel_file_added_changed_or_removed_is_told() {
        let (folder, config) = configured();
        let mut watch = watch(&config).unwrap();
        let file = folder.path().join("channels/pumps.toml");
        let bound = Duration::from_secs(30);
        fs::write(&file, CHANNEL).unwrap();
        tokio::time::timeout(bound, watch.changed()).await.expect("told of the new file").unwrap();
        assert_eq!(load(Some(&config.file)).ok().unwrap().channels.len(), 1);
        fs::rename(&file, file.with_extension("off")).unwrap();
        tokio::time::timeout(bound, watch.changed()).await.expect("told of the removal").unwrap();
        assert_eq!(load(Some(&config.file)).ok().unwrap().channels.len(), 0);
        fs::write(&config.file, "[log]\nformat = \"json\"\n").unwrap();
        tokio::time::timeout(bound, watch.changed()).await.expect("told of cannula.toml").unwrap();
    }

    #[tokio::test]
    async fn a_secret_that_is_replaced_is_told() {
        let (folder, config) = configured();
        let secret = folder.path().join("secrets/token");
        fs::create_dir(folder.path().join("secrets")).unwrap();
        fs::write(&secret, "Bearer one").unwrap();
        let channel = "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"a\"\ntype = \"fhir\"\n\
            url = \"https://ehr.example\"\nheaders = { Authorization = { file = \"secrets/token\" } }\n";
        fs::write(folder.path().join("channels/pumps.toml"), channel).unwrap();
        let config = load(Some(&config.file)).ok().unwrap();
        let before = config.channels[0].destinations[0].settings.clone();
        let mut watch = watch(&config).unwrap();
        fs::write(&secret, "Bearer two").unwrap();
        tokio::time::timeout(Duration::from_secs(30), watch.changed()).await.expect("told of the secret").unwrap();
        assert_ne!(load(Some(&config.file)).ok().unwrap().channels[0].destinations[0].settings, before);
    }

    #[test]
    fn the_store_and_logs_beside_the_configuration_are_not_told_of() {
        let (folder, config) = configured();
        let watched = Watched::of(&config).unwrap();
        for (name, told) in [
            ("cannula.toml", true),
            ("..data", true),
            ("channels/a.toml", true),
            ("channels/tables/t.csv", true),
            ("cannula.log", false),
            ("data", false),
        ] {
            assert_eq!(watched.includes(&folder.path().join(name)), told, "{name}");
        }
    }

    #[test]
    fn a_burst_of_events_is_one_notice() {
        let (events, raw) = std::sync::mpsc::channel();
        let (settled, mut changes) = mpsc::channel(1);
        (0..100).for_each(|_| events.send(()).unwrap());
        let gathering = thread::spawn(move || gather(&raw, &settled));
        assert_eq!(changes.blocking_recv(), Some(()));
        drop(events);
        gathering.join().unwrap();
        assert_eq!(changes.blocking_recv(), None);
    }
}
