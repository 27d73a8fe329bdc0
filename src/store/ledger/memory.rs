//! A ledger in memory that outlives the store it belongs to, so that a store can be crashed and opened again without a file.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Ledger, LedgerError,
    tree::{Batch, Keys, Tree},
};

/// What is durable of a ledger.
#[derive(Clone, Default)]
pub(crate) struct MemoryTree {
    held: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    fails: Arc<AtomicBool>,
}

impl MemoryTree {
    /// The ledger as after a restart.
    pub(in crate::store) fn open(&self) -> Ledger {
        Ledger { tree: Box::new(self.clone()) }
    }

    /// All of it is lost.
    pub fn lose(&self) {
        self.held.lock().unwrap().clear();
    }

    /// Whether writes fail now.
    pub fn is_failing(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }

    /// Writes fail until they are let through again.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    fn keys(&self, from: &[u8], to: Bound<&[u8]>, fits: impl Fn(&[u8]) -> bool) -> Keys {
        let held = self.held.lock().unwrap();
        let found = held.range::<[u8], _>((Bound::Included(from), to)).map(|(key, _)| key);
        let keys: Vec<_> = found.take_while(|key| fits(key)).cloned().map(Ok).collect();
        Box::new(keys.into_iter())
    }
}

impl Tree for MemoryTree {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.held.lock().unwrap().get(key).cloned())
    }

    fn keys_under(&self, prefix: &[u8]) -> Keys {
        self.keys(prefix, Bound::Unbounded, |key| key.starts_with(prefix))
    }

    fn keys_between(&self, from: &[u8], to: &[u8]) -> Keys {
        self.keys(from, Bound::Excluded(to), |_| true)
    }

    fn write(&self, batch: Batch) -> Result<(), LedgerError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        let mut held = self.held.lock().unwrap();
        for (key, value) in batch {
            match value {
                Some(value) => drop(held.insert(key, value)),
                None => drop(held.remove(&key)),
            }
        }
        Ok(())
    }
}
