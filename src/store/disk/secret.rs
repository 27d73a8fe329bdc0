//! The key file: 32 random bytes made with the store and their CRC-32C, readable by its owner only.
//!
//! Another key finds no repeats and opens no notes of what was stored before, and tells nobody: so a damaged one is refused, and
//! made anew only where the store is rebuilt.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::OpenError;
use crate::store::journal::files::OWNER_ONLY;

/// Of the secret itself.
const SECRET: usize = 32;

/// Whether a store was made here before.
pub(super) fn exists(directory: &Path) -> bool {
    file(directory).exists()
}

/// Reads the key, or makes it where there is none; answers whether it was made. A damaged one is set aside and made anew
/// only where damage is accepted.
pub(super) fn read_or_make(directory: &Path, accept_damage: bool) -> Result<([u8; SECRET], bool), OpenError> {
    let path = file(directory);
    let fault = |action, error| OpenError::Io { action, path: path.clone(), error };
    match fs::read(&path) {
        Ok(bytes) => match sound(&bytes) {
            Some(key) => return Ok((key, false)),
            None if accept_damage => {
                fs::rename(&path, directory.join("key.damaged")).map_err(|error| fault("set aside", error))?;
            }
            None => return Err(OpenError::KeyDamaged { path }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault("read", error)),
    }
    make(directory, &path).map(|key| (key, true)).map_err(|error| fault("make", error))
}

fn file(directory: &Path) -> PathBuf {
    directory.join("key")
}

/// The secret of a file as it was written.
fn sound(bytes: &[u8]) -> Option<[u8; SECRET]> {
    let (secret, sum) = bytes.split_first_chunk()?;
    (*sum == crc32c::crc32c(secret).to_le_bytes()).then_some(*secret)
}

/// Written beside and renamed, so that half a key is never found.
fn make(directory: &Path, path: &Path) -> io::Result<[u8; SECRET]> {
    let mut secret = [0; SECRET];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let unfinished = directory.join("key.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&unfinished)?;
    file.write_all(&secret)?;
    file.write_all(&crc32c::crc32c(&secret).to_le_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()?;
    Ok(secret)
}
