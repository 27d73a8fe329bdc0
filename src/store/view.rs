//! What people see of a message: summary, history, dead letters, made from rows and records. No content.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    ChannelDestination, DeadLetter, Delivery, Event, LaneId, LaneStatus, Query, Queued, Sequence, State as Standing,
    Stats, StoreError, Summary, TO_SENDER, Taken, TakenMessage,
    keyed::{Keyed, Kind},
    records::{CarriedEvent, Outcome, Recorded, ReplayItem, What, ack_name, nanos, timestamp},
    state::{
        Dead, Lane, State,
        history::{Happened, Row, first_of, page_of},
        lane::Entry,
    },
};

/// Bytes of messages that are gone through at once; one more message may come to them.
const TAKEN_BYTES: usize = if cfg!(test) { 1 << 10 } else { 2 << 20 };

/// Most messages a query answers with.
pub(super) const LIMIT_MAX: usize = 1_000;

/// A row and all that happened to its message since.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub row: Row,
    /// How entries stood when the message was carried forward: lane, entry, what.
    pub stood: Vec<(u32, u64, What)>,
    pub happened: Vec<Happened>,
}

/// A query with its identities hashed.
pub(super) struct Sought {
    channel: Option<u32>,
    /// A channel is asked for that the store never saw.
    pub nothing: bool,
    pub from: Option<i64>,
    pub to: Option<i64>,
    control: Option<u64>,
    patient: Option<u64>,
    device: Option<u64>,
    destination: Option<String>,
    standing: Option<Standing>,
    pub limit: usize,
    below: u64,
}

impl Sought {
    pub fn new(query: Query, keyed: &Keyed, state: &State) -> Sought {
        let hash = |kind, value: Option<Vec<u8>>| value.map(|value| keyed.hash(kind, &[&value]));
        let channel = query.channel.map(|name| state.channels.iter().position(|known| **known == *name));
        Sought {
            nothing: channel == Some(None),
            channel: channel.flatten().map(|number| number as u32),
            from: query.from.map(nanos),
            to: query.to.map(nanos),
            control: hash(Kind::ControlId, query.control_id),
            patient: hash(Kind::Patient, query.patient),
            device: hash(Kind::Device, query.device),
            destination: query.destination,
            standing: query.state,
            limit: query.limit.clamp(1, LIMIT_MAX),
            below: query.cursor.map_or(u64::MAX, |cursor| cursor.0),
        }
    }

    /// Hashes that a page must contain to be worth reading.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        [self.control, self.patient, self.device].into_iter().flatten()
    }

    /// The page number that everything sought is below.
    pub fn pages_below(&self) -> u64 {
        page_of(self.below).saturating_add(1)
    }

    /// Whether the row alone fits; what became of the message is asked of its summary.
    pub fn fits(&self, row: &Row) -> bool {
        row.id < self.below
            && self.channel.is_none_or(|channel| row.channel == channel)
            && self.from.is_none_or(|from| row.at >= from)
            && self.to.is_none_or(|to| row.at <= to)
            && self.control.is_none_or(|control| row.control == control)
            && self.patient.is_none_or(|patient| row.patient.contains(&patient))
            && self.device.is_none_or(|device| row.device.contains(&device))
    }

    /// Whether the rest fits too.
    pub fn fits_summary(&self, summary: &Summary) -> bool {
        let to = |each: &&Delivery| self.destination.as_deref().is_none_or(|name| *each.destination == *name);
        let mut to_destination = summary.deliveries.iter().filter(to);
        match (&self.destination, self.standing) {
            (None, None) => true,
            (None, Some(standing)) => summary.state == standing,
            (Some(_), None) => to_destination.next().is_some(),
            (Some(_), Some(standing)) => to_destination.any(|each| each.state == standing),
        }
    }
}

/// Of these rows, a page's, those from `from` on that are kept; those too that were carried forward, of the page and before it, in the
/// order they were taken. And where to go on.
pub(super) fn rows_from(state: &State, from: u64, page: u64, mut rows: Vec<Row>) -> (Vec<Row>, Option<u64>) {
    let next = first_of(page.saturating_add(1));
    let is_kept = |row: &Row| row.position.segment >= state.oldest_segment && !state.moved.contains_key(&row.id);
    rows.retain(|row| row.id >= from && is_kept(row));
    rows.extend(state.moved.range(from..next).map(|(_, moved)| moved.row.clone()));
    rows.sort_unstable_by_key(|row| row.id);
    (rows, (next < state.next).then_some(next))
}

/// The messages of these rows, up to so many bytes of them; each is read when it is its turn.
pub(super) fn taken(
    (rows, next): (Vec<Row>, Option<u64>),
    channels: &[Arc<str>],
    read: impl Fn(&Row) -> Result<Bytes, StoreError>,
) -> Taken {
    let mut taken = Taken { messages: Vec::with_capacity(rows.len()), next: next.map(Sequence), whole: true };
    let mut room = TAKEN_BYTES;
    for row in rows {
        if room == 0 {
            taken.next = Some(Sequence(row.id));
            break;
        }
        let (Some(channel), Ok(message)) = (channels.get(row.channel as usize).cloned(), read(&row)) else {
            taken.whole = false;
            continue;
        };
        room = room.saturating_sub(message.len());
        taken.messages.push(TakenMessage { id: Sequence(row.id), channel, received_at: timestamp(row.at), message });
    }
    taken
}

/// The summary of a message; lane and channel names come from the state.
pub(super) fn summary(state: &State, told: &Told) -> Summary {
    let row = &told.row;
    let deliveries = deliveries(state, told);
    let to_receivers = || deliveries.iter().filter(|each| *each.destination != *TO_SENDER);
    let any = |standing| to_receivers().any(|each| each.state == standing);
    let standing = [Standing::Dead, Standing::Waiting, Standing::Discarded, Standing::Delivered]
        .into_iter()
        .find(|standing| any(*standing))
        .unwrap_or(Standing::Unrouted);
    Summary {
        id: Sequence(row.id),
        channel: state.channels.get(row.channel as usize).cloned().unwrap_or_else(|| Arc::from("")),
        received_at: timestamp(row.at),
        bytes: row.bytes as usize,
        ack: ack_name(row.ack),
        state: standing,
        deliveries,
    }
}

/// One delivery a lane: dead if any of its entries is, else waiting if any is, else what became of the last.
fn deliveries(state: &State, told: &Told) -> Vec<Delivery> {
    let mut lanes: BTreeMap<u32, BTreeMap<u64, Standing>> = BTreeMap::new();
    for (entry, lane) in (told.row.id + 1..).zip(told.row.lanes.iter()) {
        lanes.entry(*lane).or_default().insert(entry, Standing::Waiting);
    }
    let happened = told.happened.iter().map(|each| (each.lane, each.entry, each.what));
    for (lane, entry, what) in told.stood.iter().copied().chain(happened) {
        let entries = lanes.entry(lane).or_default();
        match standing(what) {
            Some(standing) => entries.insert(entry, standing),
            None => entries.remove(&entry),
        };
    }
    let delivery = |(lane, entries): (u32, BTreeMap<u64, Standing>)| {
        let id = &state.lanes.get(lane as usize)?.id;
        let any = |standing| entries.values().any(|each| *each == standing).then_some(standing);
        let state = any(Standing::Dead).or_else(|| any(Standing::Waiting)).or_else(|| entries.values().last().copied());
        Some(Delivery { destination: Arc::clone(&id.destination), lane: id.lane, state: state? })
    };
    lanes.into_iter().filter_map(delivery).collect()
}

/// How an entry stands after this; `None` where another entry takes its place.
fn standing(what: What) -> Option<Standing> {
    match what {
        What::Attempt | What::Replayed => Some(Standing::Waiting),
        What::Accepted => Some(Standing::Delivered),
        What::Dead => Some(Standing::Dead),
        What::Discarded => Some(Standing::Discarded),
        What::Retried => None,
    }
}

/// The first lines of a message's history.
pub(super) fn first_events(row: &Row, resends: Option<u64>) -> Vec<Event> {
    let event = |what: &str, detail| Event { at: timestamp(row.at), destination: None, what: what.to_owned(), detail };
    let received = event("received", format!("{} bytes", row.bytes));
    let acknowledged = ack_name(row.ack).map(|code| event("acknowledged", code));
    let resends = resends.map(|earlier| event("retransmission", format!("same content as message {earlier}")));
    std::iter::once(received).chain(acknowledged).chain(resends).collect()
}

/// The line a record makes in the history of the message it tells of.
pub(super) fn line_of(recorded: &Recorded, happened: &Happened, lane: &LaneId) -> Option<CarriedEvent> {
    let line = |at, what, detail| Some(CarriedEvent { entry: happened.entry, lane: lane.clone(), what, at, detail });
    match recorded {
        Recorded::Settled(settled) => match &settled.outcome {
            Outcome::Accepted { answer, attempts, at, .. } => {
                line(*at, What::Accepted, format!("{answer}, attempt {attempts}"))
            }
            Outcome::Dead { reason, attempts } => {
                line(settled.at, What::Dead, format!("{reason}, after {attempts} attempts"))
            }
        },
        Recorded::Attempted(attempt) => {
            line(attempt.at, What::Attempt, format!("{}: {}", attempt.outcome, attempt.reason))
        }
        Recorded::Replayed(replayed) => line(replayed.at, What::Replayed, String::new()),
        Recorded::DeadRetried(change) => line(change.at, happened.what, String::new()),
        Recorded::DeadDiscarded(change) => line(change.at, What::Discarded, String::new()),
        _ => None,
    }
}
/// As shown. A retry tells of two entries, the old and the new, and is one line.
pub(super) fn shown(lines: &[CarriedEvent]) -> impl Iterator<Item = Event> {
    let second = |place: usize, line: &CarriedEvent| {
        let before = place.checked_sub(1).and_then(|before| lines.get(before));
        line.what == What::Replayed && before.is_some_and(|it| it.what == What::Retried && it.at == line.at)
    };
    let events = lines.iter().enumerate().filter(move |(place, line)| !second(*place, line));
    events.map(|(_, line)| Event {
        at: timestamp(line.at),
        destination: Some(Arc::clone(&line.lane.destination)),
        what: line.what.as_str().to_owned(),
        detail: line.detail.clone(),
    })
}

/// Said in place of a reason that cannot be read any more.
pub(super) const UNREADABLE: &str = "its record is damaged";

/// A dead letter as shown, `told` being its reason and attempts where they can still be read.
pub(super) fn dead_letter(state: &State, entry: u64, dead: &Dead, told: Option<(String, u32)>) -> Option<DeadLetter> {
    let lane = &state.lanes.get(dead.lane as usize)?.id;
    let (reason, attempts) = told.unwrap_or_else(|| (UNREADABLE.to_owned(), 0));
    Some(DeadLetter {
        entry: Sequence(entry),
        id: Sequence(dead.id),
        channel: Arc::clone(&lane.channel),
        destination: Arc::clone(&lane.destination),
        lane: lane.lane,
        at: timestamp(dead.at),
        reason,
        attempts,
    })
}

/// Reason and attempts of a dead letter, from the record that tells them.
pub(super) fn reason(entry: u64, told: &Recorded) -> Option<(String, u32)> {
    match told {
        Recorded::Settled(settled) => match &settled.outcome {
            Outcome::Dead { reason, attempts } => Some((reason.clone(), *attempts)),
            Outcome::Accepted { .. } => None,
        },
        Recorded::CarriedMessage(carried) => {
            let dead = carried.dead.iter().find(|dead| dead.entry == entry)?;
            Some((dead.reason.clone(), dead.attempts))
        }
        _ => None,
    }
}

/// Every lane and what waits in it.
pub(super) fn lanes(state: &State) -> Vec<LaneStatus> {
    let status = |lane: &Lane| LaneStatus {
        lane: lane.id.clone(),
        waiting: lane.queue.len(),
        oldest: lane.queue.front().map(|head| timestamp(head.received_at)),
    };
    state.lanes.iter().map(status).collect()
}

/// Entries of a lane at and after `from`.
pub(super) fn queued(state: &State, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued> {
    let lane = state.lane(lane).into_iter();
    let queued = |entry: Entry| Queued {
        entry: Sequence(entry.entry),
        id: Sequence(entry.id),
        received_at: timestamp(entry.received_at),
    };
    lane.flat_map(|lane| lane.queue.iter_from(from.0)).take(limit).map(queued).collect()
}

/// Dead letters of each destination that has any.
pub(super) fn dead_counts(state: &State) -> Vec<(ChannelDestination, u64)> {
    let mut counts = BTreeMap::new();
    for lane in state.lanes.iter().filter(|lane| lane.dead > 0) {
        *counts.entry((Arc::clone(&lane.id.channel), Arc::clone(&lane.id.destination))).or_default() += lane.dead;
    }
    counts.into_iter().collect()
}

/// Figures.
pub(super) fn stats(state: &State, bytes: u64, segments: u64) -> Stats {
    Stats {
        messages: state.messages,
        waiting: state.lanes.iter().filter(|lane| !lane.id.is_to_sender()).map(|lane| lane.queue.len()).sum(),
        dead: state.dead.len() as u64,
        bytes,
        segments,
        next_sequence: state.next,
    }
}

/// A message's places in the lanes it was routed to, to be queued again. Its sender is owed no second ACK for that.
pub(super) fn replay_items(state: &State, told: &Told, destination: Option<&str>) -> Vec<ReplayItem> {
    let row = &told.row;
    let mut lanes: Vec<&LaneId> =
        row.lanes.iter().filter_map(|lane| state.lanes.get(*lane as usize)).map(|lane| &lane.id).collect();
    lanes
        .retain(|lane| !lane.is_to_sender() && destination.is_none_or(|destination| *lane.destination == *destination));
    let item =
        |lane: &LaneId| ReplayItem { id: row.id, lane: lane.clone(), position: row.position, received_at: row.at };
    lanes.into_iter().map(item).collect()
}
