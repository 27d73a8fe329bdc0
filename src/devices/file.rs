//! `devices.bin` in the store's folder: what was known of the devices, so that a restart forgets none.
//!
//! ```text
//! magic and version 8 · CRC32C of the rest 4 · postcard
//! ```
//!
//! It is replaced whole. What must never happen: a file that is torn or was changed is believed, or keeps the engine from
//! starting: then devices are learned anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::store::replace_file;

const MAGIC: &[u8; 8] = b"CANDEV03";
const HEAD: usize = MAGIC.len() + 4;

#[derive(Debug)]
pub(super) struct DevicesFile(PathBuf);

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is torn, changed or of another version")]
    Damaged,
}

impl DevicesFile {
    pub(super) fn in_store(store: &Path) -> DevicesFile {
        DevicesFile(store.join("devices.bin"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What was written last; `None` where nothing was.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, Unread> {
        let bytes = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let (head, body) = bytes.split_at_checked(HEAD).ok_or(Unread::Damaged)?;
        if head != Self::head(body) {
            return Err(Unread::Damaged);
        }
        postcard::from_bytes(body).map(Some).map_err(|_| Unread::Damaged)
    }

    /// The body of a file.
    pub(super) fn encode(state: &impl Serialize) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(state).map_err(io::Error::other)
    }

    /// Replaces what was written; durable when this returns.
    pub(super) fn write(&self, body: &[u8]) -> io::Result<()> {
        replace_file(&self.0, &[&Self::head(body)[..], body].concat())
    }

    fn head(body: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        head
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_that_was_cut_or_changed() {
        let folder = tempfile::tempdir().unwrap();
        let file = DevicesFile::in_store(folder.path());
        assert!(file.read::<Vec<u64>>().unwrap().is_none());
        file.write(&DevicesFile::encode(&vec![1_u64, 2, 3, 400]).unwrap()).unwrap();
        assert_eq!(file.read::<Vec<u64>>().unwrap(), Some(vec![1, 2, 3, 400]));
        let whole = fs::read(file.path()).unwrap();
        for cut in 0..whole.len() {
            fs::write(file.path(), &whole[..cut]).unwrap();
            assert!(file.read::<Vec<u64>>().is_err(), "cut at {cut}");
            let mut changed = whole.clone();
            changed[cut] ^= 1;
            fs::write(file.path(), &changed).unwrap();
            assert!(file.read::<Vec<u64>>().is_err(), "changed at {cut}");
        }
    }
}
