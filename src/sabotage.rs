//! Faults built in on purpose, so that the checker of the guarantees can itself be checked, and points at which the engine
//! ends as a crash would end it.
//!
//! Only with the feature `sabotage`; without it every hook is nothing. What must never happen: a build with it taken for
//! one that may see a patient. So no release profile builds it, its version says what it is, and `run` logs an error.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!(
    "the feature `sabotage` breaks the engine on purpose: it is for debug builds, build a release without it"
);

/// What `--version` prints.
pub const VERSION: &str = match cfg!(feature = "sabotage") {
    true => concat!(env!("CARGO_PKG_VERSION"), " (sabotaged for tests: never use it)"),
    false => env!("CARGO_PKG_VERSION"),
};

/// A promise broken; `CANNULA_SABOTAGE` names the one in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Positive answers leave before their messages are written.
    AckBeforeSync,
    /// A message counts as delivered and was never sent.
    Drop,
    /// Two neighbours of a lane change places.
    Swap,
    /// A message is sent twice, and neither is marked as a repeat.
    Duplicate,
    /// An answer names another message.
    WrongMsa2,
    /// A patient's name stands in the log.
    Leak,
    /// Memory grows with each message.
    Unbounded,
    /// One byte of what is sent is another.
    Corrupt,
}

/// A place in the work; `CANNULA_CRASH_POINT=name:n` ends the process the `n`th time it is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// A batch is decided and nothing of it written.
    BeforeAppend,
    /// A batch is written and not durable.
    AfterAppendBeforeSync,
    /// A batch with messages is durable and nobody was answered.
    AfterSyncBeforeAck,
    /// A message of a batch was given to the store, the rest of it was not. Passed once for each.
    DuringBatch,
    /// The answers are written to a sender's connection.
    AfterAck,
    /// An owed application ACK is written to its sender's connection and that is not recorded.
    AfterOwedAck,
    /// A receiver took a message and that is not recorded.
    AfterSendBeforeSettle,
    /// A checkpoint is written and not durable.
    DuringCheckpoint,
    /// A checkpoint covers what old segments said, and they are still there.
    BeforeRelease,
    /// The journal's mark says that segments are gone, and their files are still there.
    DuringRelease,
    /// A message is to be a dead letter and that is not recorded.
    DuringDead,
    /// Lanes know the new configuration, listeners the old. Passed once at the start too.
    DuringReload,
    /// Recovery: once for each record folded in again, and once at the end.
    DuringOpen,
}

impl Fault {
    /// Each by its name in `CANNULA_SABOTAGE`.
    pub const NAMES: [(&str, Fault); 8] = [
        ("ack-before-sync", Fault::AckBeforeSync),
        ("drop", Fault::Drop),
        ("swap", Fault::Swap),
        ("duplicate", Fault::Duplicate),
        ("wrong-msa2", Fault::WrongMsa2),
        ("leak", Fault::Leak),
        ("unbounded", Fault::Unbounded),
        ("corrupt", Fault::Corrupt),
    ];
}

impl CrashPoint {
    /// Each by its name in `CANNULA_CRASH_POINT`.
    pub const NAMES: [(&str, CrashPoint); 13] = [
        ("before-append", CrashPoint::BeforeAppend),
        ("after-append-before-sync", CrashPoint::AfterAppendBeforeSync),
        ("after-sync-before-ack", CrashPoint::AfterSyncBeforeAck),
        ("during-batch", CrashPoint::DuringBatch),
        ("after-ack", CrashPoint::AfterAck),
        ("after-owed-ack", CrashPoint::AfterOwedAck),
        ("after-send-before-settle", CrashPoint::AfterSendBeforeSettle),
        ("during-checkpoint", CrashPoint::DuringCheckpoint),
        ("before-release", CrashPoint::BeforeRelease),
        ("during-release", CrashPoint::DuringRelease),
        ("during-dead", CrashPoint::DuringDead),
        ("during-reload", CrashPoint::DuringReload),
        ("during-open", CrashPoint::DuringOpen),
    ];
}

#[cfg(feature = "sabotage")]
pub use armed::{asked, crash_at, is_on, strikes};
#[cfg(not(feature = "sabotage"))]
pub use unarmed::{crash_at, is_on, strikes};

#[cfg(not(feature = "sabotage"))]
mod unarmed {
    use super::{CrashPoint, Fault};

    /// Goes on.
    #[inline(always)]
    pub const fn crash_at(_: CrashPoint) {}

    /// No.
    #[inline(always)]
    pub const fn is_on(_: Fault) -> bool {
        false
    }

    /// No.
    #[inline(always)]
    pub const fn strikes(_: Fault) -> bool {
        false
    }
}

#[cfg(feature = "sabotage")]
mod armed {
    use std::{
        env,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::{CrashPoint, Fault};

    const SABOTAGE: &str = "CANNULA_SABOTAGE";
    const EVERY: &str = "CANNULA_SABOTAGE_EVERY";
    const CRASH_POINT: &str = "CANNULA_CRASH_POINT";
    /// One in so many messages, where `CANNULA_SABOTAGE_EVERY` does not say.
    const EVERY_DEFAULT: u64 = 10_000;

    /// What the environment asks for.
    struct Armed {
        fault: Option<Fault>,
        every: u64,
        crash: Option<(CrashPoint, u64)>,
    }

    static OCCASIONS: AtomicU64 = AtomicU64::new(0);
    static PASSES: AtomicU64 = AtomicU64::new(0);

    /// Whether this promise is the one that is broken.
    pub fn is_on(fault: Fault) -> bool {
        armed().fault == Some(fault)
    }

    /// The same, for one in so many occasions.
    pub fn strikes(fault: Fault) -> bool {
        is_on(fault) && (OCCASIONS.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(armed().every)
    }

    /// Ends the process if this is the point asked for and the time has come; nothing is flushed or told.
    pub fn crash_at(point: CrashPoint) {
        if let Some((wanted, times)) = armed().crash
            && wanted == point
            && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == times
        {
            eprintln!("cannula: crash point {} reached", name_of(point));
            std::process::abort();
        }
    }

    /// The names to print, where the environment asks for a list; what is wrong with it, where it cannot be followed.
    pub fn asked() -> Result<Option<String>, String> {
        let lists = |variable| env::var(variable).is_ok_and(|value| value == "list");
        if lists(CRASH_POINT) {
            return Ok(Some(names(&CrashPoint::NAMES)));
        }
        if lists(SABOTAGE) {
            return Ok(Some(names(&Fault::NAMES)));
        }
        read().map(|_| None)
    }

    fn armed() -> &'static Armed {
        static ARMED: OnceLock<Armed> = OnceLock::new();
        ARMED.get_or_init(|| read().unwrap_or(Armed { fault: None, every: EVERY_DEFAULT, crash: None }))
    }

    fn read() -> Result<Armed, String> {
        let of = |variable| env::var(variable).ok().filter(|value| !value.is_empty());
        let fault = of(SABOTAGE).map(|name| find(&Fault::NAMES, SABOTAGE, &name)).transpose()?;
        let every = of(EVERY).map_or(Ok(EVERY_DEFAULT), |text| count(EVERY, &text))?;
        let crash = of(CRASH_POINT).map(|text| {
            let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
            Ok::<_, String>((find(&CrashPoint::NAMES, CRASH_POINT, name)?, count(CRASH_POINT, times)?))
        });
        Ok(Armed { fault, every, crash: crash.transpose()? })
    }

    fn find<T: Copy>(known: &[(&str, T)], variable: &str, name: &str) -> Result<T, String> {
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, found)| *found).ok_or_else(|| format!("{variable} knows no `{name}`; `list` prints the names"))
    }

    fn count(variable: &str, text: &str) -> Result<u64, String> {
        let count = text.parse().ok().filter(|count| *count > 0);
        count.ok_or_else(|| format!("{variable} counts from 1, not `{text}`"))
    }

    fn names<T>(known: &[(&str, T)]) -> String {
        known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\n")
    }

    fn name_of(point: CrashPoint) -> &'static str {
        CrashPoint::NAMES.iter().find(|(_, known)| *known == point).map_or("", |(name, _)| name)
    }
}
