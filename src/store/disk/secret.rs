//! The key file: 32 random bytes made with the store, readable by its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::OpenError;
use crate::store::journal::files::OWNER_ONLY;

/// Whether a store was made here before.
pub(super) fn exists(directory: &Path) -> bool {
    directory.join("key").exists()
}

/// Reads the key, or makes it where there is none; answers whether it was made.
pub(super) fn read_or_make(directory: &Path) -> Result<([u8; 32], bool), OpenError> {
    let path = directory.join("key");
    let fault = |action| {
        let path = path.clone();
        move |error| OpenError::Io { action, path, error }
    };
    match fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(key) => Ok((key, false)),
            Err(_) => Err(fault("use")(io::Error::other("it is not 32 bytes long"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(directory, &path).map(|key| (key, true)).map_err(fault("make"))
        }
        Err(error) => Err(fault("read")(error)),
    }
}

/// Written beside and renamed, so that half a key is never found.
fn make(directory: &Path, path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let unfinished = directory.join("key.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&unfinished)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()?;
    Ok(key)
}
