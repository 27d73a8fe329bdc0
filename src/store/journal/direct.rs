//! A segment's file written past the kernel's page cache (O_DIRECT): nothing reads what was written from there, and a copy
//! that only waits for the next sync costs more than the write itself.
//!
//! Such writes are of whole pages. So the page that the last write ended in is kept, and written again with what comes
//! next; behind what was written, zeros stand to the end of its page. What does not fit that is written through the cache,
//! and everything is where the file system allows no other way.

use super::files::{Handle, Opened, read_full};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What addresses, offsets and lengths are multiples of: no disk has larger sectors.
pub(super) const PAGE: usize = 4096;

pub(super) struct Direct {
    past: File,
    through: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is written, beginning at the first address in it that is a multiple of a page.
    buffer: Vec<u8>,
    /// The page that the last write ended in: where it is, and what it holds to there.
    last: Option<(u64, Vec<u8>)>,
    /// Bytes of the file, which nobody else writes to.
    length: u64,
    refused: bool,
}

impl Direct {
    /// Opens it by `options`. Where this file system serves no such files it is an ordinary one.
    pub(super) fn open(options: &OpenOptions, path: &Path) -> io::Result<Handle> {
        let through = options.open(path)?;
        let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        match OpenOptions::new().read(true).write(true).custom_flags(flag).open(path) {
            Ok(past) => {
                let state = State { length: through.metadata()?.len(), ..State::default() };
                Ok(Arc::new(Direct { past, through, state: Mutex::new(state) }))
            }
            Err(error) if is_refused(&error) => Ok(Arc::new(through)),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pages(&self, state: &mut State, bytes: &[u8], offset: u64) -> io::Result<()> {
        let before = (offset % PAGE as u64) as usize;
        let (page, end) = (offset - before as u64, before + bytes.len());
        let kept = match state.last.take() {
            _ if before == 0 => Vec::new(),
            Some((at, kept)) if at == page && kept.len() == before => kept,
            _ => self.read_page(page, before)?,
        };
        if before == 0 && end.is_multiple_of(PAGE) && bytes.as_ptr().align_offset(PAGE) == 0 {
            return self.past.write_all_at(bytes, offset);
        }
        let pages = state.pages(end.next_multiple_of(PAGE));
        pages[..before].copy_from_slice(&kept);
        pages[before..end].copy_from_slice(bytes);
        pages[end..].fill(0);
        self.past.write_all_at(pages, page)?;
        let last = end - end % PAGE;
        let kept = pages[last..end].to_vec();
        state.last = Some((page + last as u64, kept));
        Ok(())
    }

    fn read_page(&self, page: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        read_full(&self.through, &mut bytes, page)?;
        Ok(bytes)
    }
}

impl State {
    fn pages(&mut self, length: usize) -> &mut [u8] {
        if self.buffer.len() < length + PAGE {
            self.buffer = vec![0; length + PAGE];
        }
        let from = self.buffer.as_ptr().align_offset(PAGE);
        &mut self.buffer[from..from + length]
    }
}

impl Opened for Direct {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.through, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let end = offset + bytes.len() as u64;
        let fits = end.next_multiple_of(PAGE as u64) <= state.length.max(end);
        let written = match fits && !state.refused {
            true => self.write_pages(&mut state, bytes, offset),
            false => Err(io::ErrorKind::InvalidInput.into()),
        };
        match written {
            Err(error) if is_refused(&error) => {
                state.refused |= fits;
                state.last = None;
                self.through.write_all_at(bytes, offset)?;
            }
            written => written?,
        }
        state.length = state.length.max(end);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.through.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.through.metadata()?.len())
    }
}

/// The file system, or its disk, does not write past the cache, or not in pages of this size.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::journal::files::{Disk, Files};
    use proptest::prelude::*;
    use std::fs;

    const LENGTH: usize = 64 * PAGE - 100;

    fn write(file: &Handle, expected: &mut Vec<u8>, bytes: &[u8], at: usize) {
        file.write_at(bytes, at as u64).unwrap();
        let end = at + bytes.len();
        expected.resize(expected.len().max(end), 0);
        expected[at..end].copy_from_slice(bytes);
    }

    proptest! {
        #[test]
        fn what_is_written_is_there_and_what_was_before_it(
            start in 0_usize..3 * PAGE,
            writes in proptest::collection::vec((1_usize..3 * PAGE, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("segment");
            fs::write(&path, vec![7; LENGTH]).unwrap();
            let (file, mut expected) = (Disk.open_segment(&path).unwrap(), vec![7; LENGTH]);
            let mut at = start;
            for (n, (length, read, fill)) in writes.into_iter().enumerate() {
                let length = if fill { (at + length).next_multiple_of(PAGE) - at } else { length };
                write(&file, &mut expected, &vec![n as u8 + 10; length], at);
                at += length;
                let found = if read { fs::read(&path).unwrap() } else { Vec::new() };
                prop_assert!(!read || found[..at] == expected[..at]);
            }
            file.sync().unwrap();
            let found = fs::read(&path).unwrap();
            prop_assert_eq!(found.len(), expected.len(), "no longer than was written");
            prop_assert!(found[..at] == expected[..at]);
            let after = at.next_multiple_of(PAGE).min(found.len());
            prop_assert!(found[at..after].iter().all(|byte| [0, 7].contains(byte)));
            prop_assert!(found[after..] == expected[after..], "what lies behind is left alone");
        }
    }
}
