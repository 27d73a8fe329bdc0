//! What the ledger needs of whatever keeps its keys: reading in order, and writing many at once, durably.
//!
//! A batch must be found whole or not at all after any crash, and a batch that was answered must be found.

use super::LedgerError;

/// Keys to write, and those without a value to remove, in this order.
pub(super) type Batch = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Keys in order, read as they are asked for.
pub(super) type Keys = Box<dyn DoubleEndedIterator<Item = Result<Vec<u8>, LedgerError>>>;

pub(super) trait Tree: Send + Sync {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;
    fn keys_under(&self, prefix: &[u8]) -> Keys;
    /// From the first key up to the second.
    fn keys_between(&self, from: &[u8], to: &[u8]) -> Keys;
    /// Writes all of it at once; durable when this returns.
    fn write(&self, batch: Batch) -> Result<(), LedgerError>;
    /// Whether it only stands in for one.
    fn is_absent(&self) -> bool {
        false
    }
}

/// No tree at all.
pub(super) struct Absent;

impl Tree for Absent {
    fn value(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Err(LedgerError::Absent)
    }
    fn keys_under(&self, _prefix: &[u8]) -> Keys {
        Box::new(std::iter::once(Err(LedgerError::Absent)))
    }
    fn keys_between(&self, _from: &[u8], _to: &[u8]) -> Keys {
        Box::new(std::iter::once(Err(LedgerError::Absent)))
    }
    fn write(&self, _batch: Batch) -> Result<(), LedgerError> {
        Err(LedgerError::Absent)
    }
    fn is_absent(&self) -> bool {
        true
    }
}
