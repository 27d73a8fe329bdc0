//! Rebuilding on purpose: what of a damaged journal can be proved is kept, and what is lost is said.
//!
//! Never done by itself: a person has to decide that no backup is better than what is left.

use std::{
    fmt::{Display, Formatter},
    path::{Path, PathBuf},
};

use super::{DiskStore, OpenError, Options, recovery};
use crate::{store::journal::Damage, told::count};

/// What a rebuild kept and what it lost. No content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Messages kept.
    pub messages: u64,
    /// Deliveries that still wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Stretches of the journal that could not be proved, oldest first, with the sequences (message ids) around them.
    pub damage: Vec<Damage>,
    /// A batch cut off at the end: it was never durable, and nobody was answered for it.
    pub cut: Option<Damage>,
    /// Where the old ledger is now; it may be deleted.
    pub ledger_aside: Option<PathBuf>,
}

impl DiskStore {
    /// Rebuilds a store that no engine has open from what can be proved of its journal, and closes it. Blocking. Damage is
    /// no error here but in the report. The next [`open`](DiskStore::open) finds a whole store. The same `options` as the
    /// engine's must be given.
    pub fn rebuild(path: &Path, options: Options) -> Result<Rebuilt, OpenError> {
        let options = Options { accept_damage: true, ..options };
        let mut recovered = recovery::open(path, &options)?;
        let state = &recovered.state;
        let rebuilt = Rebuilt {
            messages: state.messages,
            waiting: state.waiting(),
            dead: state.dead.len() as u64,
            damage: std::mem::take(&mut recovered.damage),
            cut: recovered.journal.cut().cloned(),
            ledger_aside: recovered.ledger_aside.take(),
        };
        if !rebuilt.damage.is_empty() {
            recovered.pass_damage()?;
            // What is lost may have told of deliveries done: all that waits may have been sent before.
            let next = recovered.state.next;
            recovered.journal.mark_restored(next)?;
        }
        recovered.close()?;
        Ok(rebuilt)
    }
}

impl Display for Rebuilt {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Rebuilt { messages, waiting, dead, damage, cut, ledger_aside } = self;
        let [messages, waiting, dead] =
            [(messages, "message"), (waiting, "delivery"), (dead, "dead letter")].map(|(n, what)| count(*n, what));
        writeln!(f, "kept: {messages}, {waiting} waiting, {dead}")?;
        for lost in damage {
            writeln!(f, "lost: {lost}")?;
        }
        match damage.is_empty() {
            true => writeln!(f, "nothing was lost")?,
            false => writeln!(
                f,
                "ask the senders for messages whose ids lie there; deliveries it told of as done may be made again"
            )?,
        }
        if let Some(cut) = cut {
            writeln!(f, "cut off, never acknowledged: {cut}")?;
        }
        match ledger_aside {
            Some(aside) => writeln!(f, "the old ledger is in {} and may be deleted", aside.display()),
            None => Ok(()),
        }
    }
}
