//! A clock that a test tells, so that a day passes in minutes. Only in builds with the feature `sabotage`.
//!
//! The file named by `CANNULA_CLOCK` holds milliseconds since 1970 as eight bytes, least significant first, and then their
//! complement; it is read for every time asked for.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use jiff::Timestamp;

use crate::clock::Clock;

/// The clock that the environment names, else the system's.
pub(super) fn clock() -> std::io::Result<Clock> {
    let Some(path) = std::env::var_os("CANNULA_CLOCK") else { return Ok(Clock::system()) };
    let file = File::open(Path::new(&path))?;
    Ok(Clock::of(move || told(&file)))
}

/// What the file says once it is whole: it may be read while it is written.
fn told(file: &File) -> Timestamp {
    loop {
        let mut bytes = [0; 16];
        if file.read_exact_at(&mut bytes, 0).is_ok() {
            let [millis, complement] = [0, 8].map(|at| {
                let mut half = [0; 8];
                half.copy_from_slice(&bytes[at..at + 8]);
                i64::from_le_bytes(half)
            });
            if complement == !millis
                && let Ok(told) = Timestamp::from_millisecond(millis)
            {
                return told;
            }
        }
        std::thread::yield_now();
    }
}
