//! Opening: the ledger's image, if it proves itself, and the journal's records after it, folded by the same code as ever.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{error, info, warn};

use super::{OpenError, Options, backup::UNREADY, reserve::Reserve, secret};
use crate::sabotage::{self, CrashPoint};
use crate::store::{
    journal::{
        self, Damage, Journal, JournalError, Position, Reader, SegmentInfo,
        files::{self, Disk, Files},
    },
    keyed::{Keyed, Kind},
    ledger::{self, Covered, Image, Ledger, LedgerError},
    records::{CarriedState, Recorded},
    state::{Bounds, State},
};

/// Bytes free on the disk without which no ledger is opened or made.
const LEDGER_ROOM: u64 = 4 << 20;

/// An opened store's parts.
pub(super) struct Recovered {
    pub journal: Journal,
    pub ledger: Arc<Ledger>,
    pub state: State,
    pub applied: Option<(Position, u64)>,
    pub covered: Covered,
    pub keyed: Keyed,
    /// Records folded that the ledger does not cover.
    pub uncovered: u64,
    /// Stretches of the journal given up.
    pub damage: Vec<Damage>,
    /// Where a ledger that was not used is now.
    pub ledger_aside: Option<PathBuf>,
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Recovered, OpenError> {
    files::make_directory(path).map_err(|error| OpenError::Io { action: "make", path: path.to_owned(), error })?;
    if path.join(UNREADY).exists() {
        return Err(OpenError::RestoreUnfinished { path: path.to_owned() });
    }
    // The journal is made first: a key without one is a store whose journal is elsewhere, such as on a volume that is not
    // mounted, and must not be taken for a new one.
    if !options.accept_damage && secret::exists(path) && !path.join("journal").is_dir() {
        return Err(OpenError::JournalMissing { path: path.join("journal") });
    }
    let (journal, damage) = open_journal(&path.join("journal"), options)?;
    let mut recovered = around(path, journal, options)?;
    // What opening finds reading may find again.
    recovered.damage.extend(damage);
    recovered.damage.sort_by_key(|lost| (lost.from, std::cmp::Reverse(lost.to)));
    recovered.damage.dedup_by_key(|lost| lost.from);
    Ok(recovered)
}

/// The store around a journal that is open.
pub(super) fn around(path: &Path, journal: Journal, options: &Options) -> Result<Recovered, OpenError> {
    let (key, made) = secret::read_or_make(path, options.accept_damage)?;
    if made && journal.last_sequence() > 0 {
        warn!(
            "the store's key is a new one, since the old one was missing or damaged: repeats of what was stored before are not \
             told, searches do not find it, and destinations remember no infusion or alert; restore the old one if you can"
        );
    }
    Reserve::new(path, options.bytes_max).see_to();
    let keyed = Keyed::new(&key);
    let store = keyed.hash(Kind::Store, &[]);
    let ledger_path = path.join("ledger");
    // What was lost to damage must not be believed on the ledger's word.
    let image = match options.accept_damage {
        true => Err(LedgerError::Unproved("the store is rebuilt from its journal")),
        false => Ledger::open(&ledger_path).and_then(|ledger| read_ledger(ledger, &journal, store, options.bounds())),
    };
    let image = match image {
        Ok(image) => image,
        // A checkpoint follows the sync of what it covers: the journal has lost what it had.
        Err(LedgerError::BeyondJournal) => return Err(OpenError::JournalShort { path: path.join("journal") }),
        Err(reason) => match rebuild(&ledger_path, store, options, &reason) {
            Err(fault) if !options.accept_damage => without(&fault, store, options),
            rebuilt => rebuilt?,
        },
    };
    recover(journal, image, keyed, options)
}

/// The journal's part of the options.
pub(super) fn sizes(options: &Options) -> journal::Options {
    journal::Options { segment_bytes: options.segment_bytes, bytes_max: options.bytes_max }
}

fn open_journal(path: &Path, options: &Options) -> Result<(Journal, Vec<Damage>), OpenError> {
    let sizes = sizes(options);
    let (journal, damage) = match options.accept_damage {
        false => (Journal::open(path, sizes)?, Vec::new()),
        true => Journal::open_accepting_damage(path, sizes)?,
    };
    damage.iter().for_each(|lost| warn!(%lost, "the journal is damaged: this stretch is lost"));
    if let Some(cut) = journal.cut() {
        warn!(%cut, "a batch at the journal's end was cut off: torn by the last stop, and then nobody was answered for it, or lost by the disk since");
    }
    Ok((journal, damage))
}

/// A ledger and what it holds.
pub(super) struct Opened {
    ledger: Ledger,
    state: State,
    applied: Option<(Position, u64)>,
    covered: Covered,
    aside: Option<PathBuf>,
    /// A ledger that cannot be written is a fault, and not gone on without.
    strict: bool,
}

impl Opened {
    /// One that covers nothing yet.
    pub fn empty(ledger: Ledger, store: u64, bounds: Bounds) -> Opened {
        let covered = Covered { store, ..Covered::default() };
        Opened { ledger, state: State::new(bounds), applied: None, covered, aside: None, strict: false }
    }

    /// The same, but never gone on without its ledger.
    pub fn strict(self) -> Opened {
        Opened { strict: true, ..self }
    }
}

/// What the ledger holds, if it is the image of a prefix of this journal.
pub(super) fn read_ledger(
    ledger: Ledger,
    journal: &Journal,
    store: u64,
    bounds: Bounds,
) -> Result<Opened, LedgerError> {
    read_image(ledger, &journal.reader(), journal.end(), store, bounds)
}

/// The same for a journal that ends at `end`.
pub(super) fn read_image(
    ledger: Ledger,
    reader: &Reader,
    end: Position,
    store: u64,
    bounds: Bounds,
) -> Result<Opened, LedgerError> {
    let covered = ledger.covered(store)?;
    let Some(loaded) = ledger.load(store, bounds)? else {
        return Ok(Opened { covered, ..Opened::empty(ledger, store, bounds) });
    };
    if let Some((position, sequence)) = loaded.applied {
        if position >= end {
            return Err(LedgerError::BeyondJournal);
        }
        let found = reader.read(position);
        if !found.is_ok_and(|record| record.sequence == sequence) {
            return Err(LedgerError::Unproved("the journal does not hold the record it goes up to"));
        }
    }
    Ok(Opened { ledger, state: loaded.state, applied: loaded.applied, covered, aside: None, strict: false })
}

/// Nothing is acknowledged on a ledger's word: the engine starts without one, and makes it when it can.
pub(super) fn without(fault: &OpenError, store: u64, options: &Options) -> Opened {
    error!(
        %fault,
        "no ledger can be made now: deliveries go on, but only the newest messages can be searched and no space is given \
         back until it can"
    );
    Opened::empty(Ledger::absent(), store, options.bounds())
}

/// An empty ledger in the place of one that is not used. Where the disk has no room for it, the old one stays where it is.
pub(super) fn rebuild(path: &Path, store: u64, options: &Options, reason: &LedgerError) -> Result<Opened, OpenError> {
    let fault = |action| move |error| OpenError::Io { action, path: path.to_owned(), error };
    let mut aside = None;
    if Disk.free(path.parent().unwrap_or(path)).is_ok_and(|free| free < LEDGER_ROOM) {
        return Err(fault("make")(io::ErrorKind::StorageFull.into()));
    }
    if path.exists() {
        let moved = ledger::move_aside(path).map_err(fault("move aside"))?;
        warn!(%reason, aside = %moved.display(), "the ledger is not used: rebuilding it from the journal");
        aside = Some(moved);
    }
    let ledger = Ledger::open(path).map_err(|error| OpenError::Io {
        action: "make",
        path: path.to_owned(),
        error: std::io::Error::other(error),
    })?;
    Ok(Opened { aside, ..Opened::empty(ledger, store, options.bounds()) })
}

/// The journal's records after what the ledger covers, folded.
pub(super) fn recover(
    journal: Journal,
    opened: Opened,
    keyed: Keyed,
    options: &Options,
) -> Result<Recovered, OpenError> {
    let oldest = journal.segments().into_iter().next();
    let learned = fold_in(opened, &journal.reader(), oldest, options, |_| true)?;
    let Learned { ledger, mut state, applied, covered, uncovered, damage, aside: ledger_aside } = learned;
    state.next = state.next.max(journal.last_sequence() + 1);
    state.suspect_heads();
    sabotage::crash_at(CrashPoint::DuringOpen);
    info!(messages = state.messages, waiting = state.waiting(), dead = state.dead.len(), "store opened");
    let ledger = Arc::new(ledger);
    Ok(Recovered { journal, ledger, state, applied, covered, keyed, uncovered, damage, ledger_aside })
}

/// A ledger, and the state that it and what was folded in after it add up to.
pub(super) struct Learned {
    pub ledger: Ledger,
    pub state: State,
    pub applied: Option<(Position, u64)>,
    pub covered: Covered,
    /// Records folded that the ledger does not cover.
    pub uncovered: u64,
    damage: Vec<Damage>,
    aside: Option<PathBuf>,
}

impl Learned {
    /// To fold in more.
    pub fn opened(self) -> Opened {
        let Learned { ledger, state, applied, covered, aside, .. } = self;
        Opened { ledger, state, applied, covered, aside, strict: true }
    }
}

/// Folds in the journal's records after what is known already, as long as `wanted`. `oldest` is the journal's first segment.
pub(super) fn fold_in(
    opened: Opened,
    reader: &Reader,
    oldest: Option<SegmentInfo>,
    options: &Options,
    wanted: impl Fn(Position) -> bool,
) -> Result<Learned, OpenError> {
    let Opened { mut ledger, mut state, mut applied, mut covered, aside, strict } = opened;
    let mut lost = Vec::new();
    let (oldest, first_sequence) = oldest.map_or((0, None), |first| (first.segment, first.first_sequence));
    state.oldest_segment = oldest;
    let mut uncovered = 0;
    let covered_to = applied.map(|(position, _)| position);
    let from = covered_to.unwrap_or(Position { segment: oldest, offset: 0 });
    for scanned in reader.scan(from) {
        let (position, record) = match scanned {
            Ok((position, _)) if Some(position) == covered_to => continue,
            Ok((position, _)) if !wanted(position) => break,
            Ok(scanned) => scanned,
            Err(JournalError::Damaged(damage)) if options.accept_damage => {
                damage.iter().for_each(|lost| warn!(%lost, "the journal is damaged: this stretch is lost"));
                lost.extend(damage);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        fold(&mut state, position, &record)?;
        sabotage::crash_at(CrashPoint::DuringOpen);
        applied = Some((position, record.sequence));
        uncovered += 1;
        if uncovered >= options.checkpoint_records && ledger.is_absent() {
            state.keep_newest_history();
            uncovered = 0;
        } else if uncovered >= options.checkpoint_records {
            // A rebuild of a large journal must not hold all its history in memory.
            let image = Image::of(&mut state, &mut covered, applied, ledger::first_page(first_sequence));
            match ledger.write(&image).map_err(unwritten) {
                Ok(()) => state.history.left(),
                Err(fault) if strict || options.accept_damage => return Err(fault),
                Err(fault) => {
                    ledger = without(&fault, covered.store, options).ledger;
                    state.forget_history();
                }
            }
            uncovered = 0;
        }
    }
    state.release_before(oldest, first_sequence.unwrap_or(0));
    state.take_woken();
    state.episodes.take_forgotten();
    Ok(Learned { ledger, state, applied, covered, uncovered, damage: lost, aside })
}

impl Recovered {
    /// Writes a record that changes nothing behind all damage: the next start reads the journal from there on, and does not
    /// come upon what was given up before.
    pub fn pass_damage(&mut self) -> Result<(), OpenError> {
        let paused = self.state.paused.iter().cloned().collect();
        let recorded = Recorded::CarriedState(CarriedState { paused, repeats: Vec::new(), episodes: Vec::new() });
        let (sequence, payload) = (self.state.next, recorded.encode(&[]));
        let record = journal::Record { sequence, kind: recorded.kind(), payload };
        let positions = self.journal.append_essential(&[record])?;
        self.journal.sync()?;
        for position in positions {
            self.state.apply(sequence, position, &recorded, 0);
            self.applied = Some((position, sequence));
        }
        Ok(())
    }

    /// Writes what was recovered as a checkpoint and gives the files up.
    pub fn close(mut self) -> Result<(), OpenError> {
        let first_sequence = self.journal.segments().first().and_then(|first| first.first_sequence);
        let first_page = ledger::first_page(first_sequence);
        let image = Image::of(&mut self.state, &mut self.covered, self.applied, first_page);
        self.ledger.write(&image).map_err(unwritten)?;
        Ok(self.journal.close()?)
    }
}

fn fold(state: &mut State, position: Position, record: &journal::Record) -> Result<(), OpenError> {
    let (recorded, message) = Recorded::decode(record.kind, &record.payload).map_err(|fault| {
        OpenError::Unreadable { segment: position.segment, offset: position.offset, what: fault.to_string() }
    })?;
    state.apply(record.sequence, position, &recorded, message.len() as u32);
    Ok(())
}

fn unwritten(error: LedgerError) -> OpenError {
    OpenError::Io { action: "write", path: "ledger".into(), error: std::io::Error::other(error) }
}
