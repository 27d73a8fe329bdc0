//! Reading for people and for delivery: messages, histories, dead letters, searches. Never on the committer's thread but to carry.

use std::{collections::HashMap, iter::Peekable};

use bytes::Bytes;
use tracing::error;

use super::{Shared, lock};
use crate::store::{
    DeadLetter, Kept, LaneId, Query, StoreError, Summary, Taken,
    journal::{JournalError, Position},
    ledger::LedgerError,
    records::{CarriedEvent, Recorded, ReplayItem},
    state::{
        Moved,
        history::{Happened, Page, page_of},
        lane::Entry,
    },
    view::{self, Sought, Told},
};

/// Messages read at once when a backlog is delivered, and bytes of them.
const AHEAD: usize = 32;
const AHEAD_BYTES: usize = 256 << 10;

impl Shared {
    /// The record at `position`, and the message it carries.
    pub(super) fn recorded(&self, position: Position) -> Result<(Recorded, Bytes), StoreError> {
        let record = self.reader.load().read(position).map_err(unread)?;
        Recorded::decode(record.kind, &record.payload).map_err(|fault| StoreError::Failed(fault.to_string()))
    }

    /// The message of a lane's head; those behind it are read too, since they are due next.
    pub(super) fn read_ahead(&self, lane: &LaneId, head: &Entry) -> Result<Bytes, StoreError> {
        let message = self.recorded(head.position)?.1;
        let mut bytes = message.len();
        for entry in self.upcoming(lane, head) {
            if bytes > AHEAD_BYTES {
                break;
            }
            // Whatever is wrong with it is told when it is its turn.
            let Ok((_, message)) = self.recorded(entry.position) else { break };
            bytes += message.len();
            lock(&self.ahead).put(entry.id, &message, 1);
        }
        Ok(message)
    }

    /// Whether what is at `position` can no longer be proved.
    pub(super) fn is_damaged(&self, position: Position) -> bool {
        matches!(self.reader.load().read(position), Err(JournalError::Damaged(_)))
    }

    /// Whether nothing is kept at `position` any more.
    pub(super) fn is_gone(&self, position: Position) -> bool {
        matches!(self.reader.load().read(position), Err(JournalError::NotFound(_)))
    }

    fn upcoming(&self, lane: &LaneId, head: &Entry) -> Vec<Entry> {
        let state = self.state();
        let Some(lane) = state.lane(lane) else { return Vec::new() };
        let behind = lane.queue.upcoming(AHEAD).filter(|entry| entry.entry != head.entry);
        let placed = behind.map(|entry| Entry { position: state.position_of(entry.id, entry.position), ..*entry });
        placed.collect()
    }

    /// A kept message's row and what happened to it.
    pub(super) fn told(&self, id: u64) -> Result<Told, StoreError> {
        let moved = self.state().moved.get(&id).cloned();
        if let Some(Moved { row, stood, happened }) = moved {
            return Ok(Told { row, stood, happened });
        }
        told_in(&self.page(page_of(id))?, id, self.state().oldest_segment).ok_or(StoreError::NotFound)
    }

    /// A page, from memory and the ledger together.
    fn page(&self, number: u64) -> Result<Page, StoreError> {
        let (mut page, complete) = self.state().history.page(number);
        let ledger = lock(&self.ledger).clone();
        let Some(ledger) = ledger else { return Ok(page) };
        if ledger.is_absent() {
            let whole = self.state().history.is_whole_from(number);
            return if whole { Ok(page) } else { Err(StoreError::Unsearchable) };
        }
        let stored = ledger.page(number).map_err(|fault| self.unsearched(&fault))?;
        if !complete {
            page.rows = stored.rows;
        }
        // A checkpoint just finished may have given the same to both.
        let mut happened = stored.happened;
        happened.extend(page.happened);
        happened.sort_by_key(|each| (each.position, each.entry));
        happened.dedup();
        page.happened = happened;
        Ok(page)
    }

    pub(super) fn read(&self, id: u64) -> Result<Kept, StoreError> {
        let told = self.told(id)?;
        match self.kept(&told) {
            // Carried forward or released between the look and the read: look again.
            Err(StoreError::NotFound) => self.kept(&self.told(id)?),
            kept => kept,
        }
    }

    /// The page of history at `from` with its messages, each of which is read once.
    pub(super) fn taken(&self, from: u64) -> Result<Taken, StoreError> {
        let first = self.reader.load().first_sequence().unwrap_or(u64::MAX).min(self.state().next);
        let page = page_of(from.max(first));
        let rows = self.page(page)?.rows;
        let (rows, channels) = {
            let state = self.state();
            (view::rows_from(&state, from, page, rows), state.channels.clone())
        };
        let taken = view::taken(rows, &channels, |row| {
            // It may have been carried forward meanwhile.
            let position = self.state().position_of(row.id, row.position);
            Ok(self.recorded(position)?.1)
        });
        // The first sequence there ever was is 1.
        Ok(Taken { whole: taken.whole && from.max(1) >= first, ..taken })
    }

    fn kept(&self, told: &Told) -> Result<Kept, StoreError> {
        let (recorded, message) = self.recorded(told.row.position)?;
        let (mut lines, header) = match recorded {
            Recorded::CarriedMessage(carried) => (carried.events, Some(carried.header)),
            Recorded::Received(header) => (Vec::new(), Some(header)),
            _ => (Vec::new(), None),
        };
        let (resends, findings) = header.map_or((None, Vec::new()), |header| (header.resends, header.findings));
        lines.extend(self.lines(&told.happened)?);
        let mut events = view::first_events(&told.row, resends);
        events.extend(view::shown(&lines));
        let summary = view::summary(&self.state(), told);
        Ok(Kept { summary, message, events, findings })
    }

    /// The lines of history that these records tell.
    pub(super) fn lines(&self, happened: &[Happened]) -> Result<Vec<CarriedEvent>, StoreError> {
        let mut lines = Vec::with_capacity(happened.len());
        for each in happened {
            lines.extend(self.line(each)?);
        }
        Ok(lines)
    }

    /// The line of history that this record tells.
    pub(super) fn line(&self, happened: &Happened) -> Result<Option<CarriedEvent>, StoreError> {
        let (recorded, _) = self.recorded(happened.position)?;
        let lane = self.state().lanes.get(happened.lane as usize).map(|lane| lane.id.clone());
        Ok(lane.and_then(|lane| view::line_of(&recorded, happened, &lane)))
    }

    pub(super) fn dead(&self, channel: Option<&str>, after: u64, limit: usize) -> Vec<DeadLetter> {
        let entries: Vec<u64> = {
            let state = self.state();
            let of_channel = |lane: u32| channel.is_none_or(|name| *state.lanes[lane as usize].id.channel == *name);
            let entries = state.dead.range(after.saturating_add(1)..).filter(|(_, dead)| of_channel(dead.lane));
            entries.map(|(entry, _)| *entry).take(limit).collect()
        };
        entries.into_iter().filter_map(|entry| self.dead_letter(entry)).collect()
    }

    /// `None` where it was retried or discarded since it was listed. One that cannot be read is shown as that: it can still
    /// be given up, and hides no other.
    fn dead_letter(&self, entry: u64) -> Option<DeadLetter> {
        loop {
            let dead = self.state().dead.get(&entry).copied()?;
            let told = self.recorded(dead.told);
            let state = self.state();
            // Carried forward between the look and the read: look again.
            if told == Err(StoreError::NotFound) && state.dead.get(&entry) != Some(&dead) {
                continue;
            }
            let told = told.ok().and_then(|(told, _)| view::reason(entry, &told));
            return view::dead_letter(&state, entry, &dead, told);
        }
    }

    pub(super) fn replay_items(
        &self,
        ids: &[crate::store::Sequence],
        destination: Option<&str>,
    ) -> Result<Vec<ReplayItem>, StoreError> {
        let mut ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut items = Vec::new();
        for id in ids {
            match self.told(id) {
                Ok(told) => items.extend(view::replay_items(&self.state(), &told, destination)),
                Err(StoreError::Unsearchable) => return Err(StoreError::Unsearchable),
                // What cannot be found or read is not counted as queued.
                Err(_) => {}
            }
        }
        Ok(items)
    }

    /// A ledger that does not read is made again.
    fn unsearched(&self, fault: &LedgerError) -> StoreError {
        if !matches!(fault, LedgerError::Absent) {
            error!(%fault, "the ledger cannot be read: it is made again from the journal");
            self.queue.doubt();
        }
        StoreError::Unsearchable
    }

    pub(super) fn find(&self, query: Query) -> Result<Vec<Summary>, StoreError> {
        let sought = Sought::new(query, &self.keyed, &self.state());
        let mut found = Vec::new();
        if sought.nothing {
            return Ok(found);
        }
        self.find_moved(&sought, &mut found);
        let moved = found.len();
        let mut fresh = self.fresh_pages(&sought).into_iter().peekable();
        let ledger = lock(&self.ledger).clone();
        let without = ledger.as_ref().is_some_and(|ledger| ledger.is_absent());
        let ledger = ledger.filter(|_| !without);
        let mut stored = ledger.iter().flat_map(|ledger| ledger.pages_for(&sought)).peekable();
        while found.len() - moved < sought.limit
            && let Some(page) = next_page(&mut fresh, &mut stored).map_err(|fault| self.unsearched(&fault))?
        {
            self.find_in(page, &sought, moved, &mut found)?;
        }
        if without && found.len() - moved < sought.limit && !self.state().history.is_whole_from(0) {
            return Err(StoreError::Unsearchable);
        }
        found.sort_by_key(|summary| std::cmp::Reverse(summary.id));
        found.truncate(sought.limit);
        Ok(found)
    }

    /// Numbers of the pages in memory to look through, the newest first.
    fn fresh_pages(&self, sought: &Sought) -> Vec<u64> {
        let pages = self.state().history.numbers();
        pages.into_iter().rev().filter(|page| *page < sought.pages_below()).collect()
    }

    fn find_moved(&self, sought: &Sought, found: &mut Vec<Summary>) {
        let state = self.state();
        let fitting = state.moved.values().rev().filter(|moved| sought.fits(&moved.row));
        let told = fitting.map(|Moved { row, stood, happened }| Told {
            row: row.clone(),
            stood: stood.clone(),
            happened: happened.clone(),
        });
        let summaries = told.map(|told| view::summary(&state, &told)).filter(|summary| sought.fits_summary(summary));
        found.extend(summaries.take(sought.limit));
    }

    fn find_in(&self, page: u64, sought: &Sought, moved: usize, found: &mut Vec<Summary>) -> Result<(), StoreError> {
        let page = self.page(page)?;
        let mut happened: HashMap<u64, Vec<Happened>> = HashMap::new();
        for each in page.happened {
            happened.entry(each.id).or_default().push(each);
        }
        let state = self.state();
        let kept =
            |id: u64, position: Position| position.segment >= state.oldest_segment && !state.moved.contains_key(&id);
        for row in page.rows.into_iter().rev().filter(|row| sought.fits(row) && kept(row.id, row.position)) {
            let happened = happened.remove(&row.id).unwrap_or_default();
            let summary = view::summary(&state, &Told { row, stood: Vec::new(), happened });
            if sought.fits_summary(&summary) {
                found.push(summary);
            }
            if found.len() - moved >= sought.limit {
                break;
            }
        }
        Ok(())
    }
}

/// The newest page of both, once.
fn next_page(
    fresh: &mut Peekable<impl Iterator<Item = u64>>,
    stored: &mut Peekable<impl Iterator<Item = Result<u64, LedgerError>>>,
) -> Result<Option<u64>, LedgerError> {
    if let Some(fault) = stored.next_if(Result::is_err) {
        return fault.map(Some);
    }
    let of_ledger = stored.peek().and_then(|page| page.as_ref().ok().copied());
    let page = fresh.peek().copied().max(of_ledger);
    fresh.next_if(|number| Some(*number) == page);
    stored.next_if(|number| number.as_ref().ok().copied() == page);
    Ok(page)
}

fn told_in(page: &Page, id: u64, oldest_segment: u64) -> Option<Told> {
    let row = page.rows.iter().find(|row| row.id == id && row.position.segment >= oldest_segment)?.clone();
    let happened = page.happened.iter().filter(|each| each.id == id).copied().collect();
    Some(Told { row, stood: Vec::new(), happened })
}

fn unread(error: JournalError) -> StoreError {
    match error {
        JournalError::NotFound(_) => StoreError::NotFound,
        error => StoreError::Failed(error.to_string()),
    }
}
