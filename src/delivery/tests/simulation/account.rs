//! What must be true of the engine, told from what it was given, what it answered and what reached the receivers: nothing
//! acknowledged is lost, nothing passes another in its lane, nothing is repeated without a fault and a mark, nothing is
//! invented or changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::episodes;
use crate::{
    destination::Outgoing,
    store::{
        LaneId, Settlement, StoreError,
        simulation::{Place, Standing},
    },
};

/// Sender and number.
pub(super) type Sent = (u32, u32);

/// The reference against which the store and the receivers are held.
#[derive(Default)]
pub(super) struct Account {
    sent: BTreeMap<Sent, (Bytes, Vec<LaneId>)>,
    /// Given to the store, whether or not it answered.
    asked: BTreeSet<Sent>,
    acknowledged: BTreeSet<Sent>,
    ids: BTreeMap<u64, Sent>,
    stored: BTreeMap<Sent, u64>,
    /// By sender: the id of the last message that was stored new.
    newest: BTreeMap<u32, u64>,
    lanes: BTreeMap<LaneId, LaneAccount>,
    dead: BTreeMap<u64, (LaneId, u64)>,
    /// Dead letters that were asked to be sent again or given up.
    exhumed: BTreeSet<u64>,
    discarded: BTreeSet<(LaneId, u64)>,
    /// By destination and sender, what is to be remembered of what was accepted.
    remembered: BTreeMap<(Arc<str>, u32), Bytes>,
    /// Messages asked to be sent again.
    replayed: BTreeSet<u64>,
    pub(super) figures: Figures,
    /// The first promise that was broken.
    pub(super) broken: Option<String>,
}

/// What happened, so that a simulation in which nothing does is noticed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) acknowledged: u64,
    pub(super) deliveries: u64,
    pub(super) repeats: u64,
    pub(super) sender_repeats: u64,
    /// Taken in one send with another before it.
    pub(super) together: u64,
    pub(super) dead: u64,
    pub(super) requeued: u64,
    pub(super) kills: u64,
    pub(super) power_cuts: u64,
    pub(super) closes: u64,
    pub(super) crashed_recoveries: u64,
    pub(super) failed_calls: u64,
    pub(super) failures: u64,
    pub(super) ledgers_lost: u64,
    pub(super) refused: u64,
    pub(super) segments_released: u64,
    pub(super) learned: u64,
    pub(super) reopened: u64,
}

impl Figures {
    pub(super) fn sum(all: &[Figures]) -> Figures {
        all.iter().fold(Figures::default(), |sum, each| Figures {
            acknowledged: sum.acknowledged + each.acknowledged,
            deliveries: sum.deliveries + each.deliveries,
            repeats: sum.repeats + each.repeats,
            sender_repeats: sum.sender_repeats + each.sender_repeats,
            together: sum.together + each.together,
            dead: sum.dead + each.dead,
            requeued: sum.requeued + each.requeued,
            kills: sum.kills + each.kills,
            power_cuts: sum.power_cuts + each.power_cuts,
            closes: sum.closes + each.closes,
            crashed_recoveries: sum.crashed_recoveries + each.crashed_recoveries,
            failed_calls: sum.failed_calls + each.failed_calls,
            failures: sum.failures + each.failures,
            ledgers_lost: sum.ledgers_lost + each.ledgers_lost,
            refused: sum.refused + each.refused,
            segments_released: sum.segments_released + each.segments_released,
            learned: sum.learned + each.learned,
            reopened: sum.reopened + each.reopened,
        })
    }
}

#[derive(Default)]
struct LaneAccount {
    waiting: Vec<Place>,
    /// The highest entry it ever had.
    newest: u64,
    /// Asked of the store: the entries, and whether each is to be a dead letter.
    settling: BTreeMap<u64, bool>,
    /// Asked of a store that failed before it answered: if it is done the lane will find that out.
    doubted: BTreeSet<u64>,
    taken: BTreeMap<u64, u32>,
    /// The highest id taken for the first time in its turn.
    last_first: u64,
    /// Put at the tail again, and so out of the order they were received in.
    requeued: BTreeSet<u64>,
    /// Times a message may be taken once more.
    excuses: BTreeMap<u64, u32>,
    /// Entries taken and not known to be settled, with their messages.
    open: BTreeMap<u64, u64>,
    /// Entries that are answered and, as far as their lane knows, not settled.
    answered: BTreeSet<u64>,
}

impl LaneAccount {
    /// What is to be sent next, in order.
    fn due(&self) -> impl Iterator<Item = &Place> {
        self.waiting.iter().filter(|(entry, _)| !self.answered.contains(entry))
    }
}

impl Account {
    /// A message is given to the store.
    pub(super) fn ask(&mut self, sent: Sent, message: Bytes, lanes: Vec<LaneId>) {
        self.asked.insert(sent);
        self.sent.insert(sent, (message, lanes));
    }

    /// The store answered that it has the message as `id`; stored now, or a repeat of what it had.
    pub(super) fn acknowledge(&mut self, sent: Sent, id: u64, new: bool) {
        if self.stored.get(&sent) != Some(&id) {
            self.breaks(format!("ack: {sent:?} was answered as {id}, and is {:?}", self.stored.get(&sent)));
        }
        if new && self.newest.insert(sent.0, id).is_some_and(|before| before > id) {
            self.breaks(format!("order: {sent:?} was given later and got the earlier place {id}"));
        }
        self.figures.acknowledged += u64::from(self.acknowledged.insert(sent));
        self.figures.sender_repeats += u64::from(!new);
    }

    pub(super) fn is_known(&self, id: u64) -> bool {
        self.ids.contains_key(&id)
    }

    /// An operator asked for a dead letter to be sent again or given up.
    pub(super) fn exhume(&mut self, entry: u64, discard: bool) {
        self.exhumed.insert(entry);
        if let Some((lane, id)) = self.dead.get(&entry).cloned() {
            match discard {
                true => _ = self.discarded.insert((lane, id)),
                false => self.may_come_again(&lane, id),
            }
        }
    }

    /// An operator asked for messages to be sent again.
    pub(super) fn replay(&mut self, id: u64) {
        self.replayed.insert(id);
        let lanes = self.ids.get(&id).map(|sent| self.sent[sent].1.clone()).unwrap_or_default();
        lanes.iter().for_each(|lane| self.may_come_again(lane, id));
    }

    fn may_come_again(&mut self, lane: &LaneId, id: u64) {
        let account = self.lanes.entry(lane.clone()).or_default();
        account.requeued.insert(id);
        *account.excuses.entry(id).or_default() += 1;
    }

    /// Some dead letter's entry, and some message's id; `choose` picks one of so many.
    pub(super) fn pick_dead(&self, choose: impl FnOnce(u64) -> u64) -> Option<u64> {
        let among = self.dead.len() as u64;
        (among > 0).then(|| self.dead.keys().nth(choose(among) as usize).copied()).flatten()
    }

    pub(super) fn pick_message(&self, choose: impl FnOnce(u64) -> u64) -> Option<u64> {
        let among = self.ids.len() as u64;
        (among > 0).then(|| self.ids.keys().nth(choose(among) as usize).copied()).flatten()
    }

    /// Compares what the store holds with what it must hold, and takes over what it may.
    pub(super) fn observe(&mut self, standing: &Standing) {
        for (id, message) in &standing.messages {
            self.recognise(*id, message);
        }
        let lanes: BTreeSet<LaneId> = self.lanes.keys().chain(standing.waiting.keys()).cloned().collect();
        for lane in lanes {
            let now = standing.waiting.get(&lane).map(Vec::as_slice).unwrap_or_default();
            self.observe_lane(&lane, now, standing);
        }
        self.observe_dead(standing);
        self.expect_whole(standing);
    }

    /// Whatever the store has must be what somebody sent.
    fn recognise(&mut self, id: u64, message: &Bytes) {
        if let Some(sent) = self.ids.get(&id) {
            if self.sent[sent].0 != *message {
                self.breaks(format!("changed: message {id} is not as {sent:?} was sent"));
            }
            return;
        }
        let found = self.asked.iter().find(|sent| self.sent[sent].0 == *message).copied();
        let Some(sent) = found else { return self.breaks(format!("invented: nobody sent message {id}")) };
        if let Some(before) = self.stored.insert(sent, id) {
            self.breaks(format!("repeat: {sent:?} is stored as {before} and as {id}"));
        }
        self.ids.insert(id, sent);
    }

    fn observe_lane(&mut self, lane: &LaneId, now: &[Place], standing: &Standing) {
        let account = self.lanes.entry(lane.clone()).or_default();
        let before = std::mem::replace(&mut account.waiting, now.to_vec());
        let (newest, settling) = (account.newest, account.settling.clone());
        account.newest = now.iter().map(|(entry, _)| *entry).fold(newest, u64::max);
        for (entry, id) in before.iter().filter(|place| !now.contains(place)) {
            let dies = standing.dead.contains_key(entry);
            if settling.get(entry) != Some(&dies) {
                self.breaks(format!("lost: message {id} waits no more in {} and was not settled", named(lane)));
            } else if !dies {
                self.accepted(lane, *id);
            }
        }
        for (entry, id) in now.iter().filter(|place| !before.contains(place)) {
            if *entry <= newest {
                self.breaks(format!("repeat: message {id} waits again in {} though it was settled", named(lane)));
            }
            self.expect_wanted(lane, *id);
        }
        if !now.is_sorted_by_key(|(entry, _)| *entry) {
            self.breaks(format!("order: the entries of {} are not in order", named(lane)));
        }
    }

    fn accepted(&mut self, lane: &LaneId, id: u64) {
        let Some((sender, _)) = self.ids.get(&id) else { return };
        let key = (lane.destination.clone(), *sender);
        let note = episodes::noted(self.remembered.get(&key).map(|note| &**note), id);
        self.remembered.insert(key, note);
    }

    /// Each destination remembers exactly what it accepted.
    pub(super) fn observe_memory(&mut self, recall: impl Fn(&str, &[u8]) -> Option<Bytes>) {
        let wrong = self.remembered.iter().find(|((destination, sender), note)| {
            recall(destination, &episodes::episode(*sender)).as_ref() != Some(note)
        });
        if let Some(((destination, sender), _)) = wrong {
            self.breaks(format!("memory: {destination} remembers of sender {sender} what was not so"));
        }
    }

    fn expect_wanted(&mut self, lane: &LaneId, id: u64) {
        let routed = self.ids.get(&id).is_some_and(|sent| self.sent[sent].1.contains(lane));
        let requeued = self.lanes[lane].requeued.contains(&id);
        let seen =
            self.lanes[lane].taken.contains_key(&id) || self.dead.values().any(|dead| *dead == (lane.clone(), id));
        if !routed || seen && !requeued {
            self.breaks(format!("invented: message {id} waits in {} unasked", named(lane)));
        }
        self.figures.requeued += u64::from(requeued);
    }

    fn observe_dead(&mut self, standing: &Standing) {
        let before = std::mem::replace(&mut self.dead, standing.dead.clone());
        for (entry, (lane, id)) in before.iter().filter(|(entry, _)| !standing.dead.contains_key(entry)) {
            if !self.exhumed.contains(entry) {
                self.breaks(format!("lost: message {id}, dead in {}, is no dead letter any more", named(lane)));
            }
        }
        for (entry, (lane, id)) in standing.dead.iter().filter(|(entry, _)| !before.contains_key(entry)) {
            let settling = self.lanes.get(lane).and_then(|account| account.settling.get(entry));
            if settling != Some(&true) {
                self.breaks(format!("invented: message {id} is a dead letter of {} unasked", named(lane)));
            }
            self.figures.dead += 1;
        }
    }

    /// A message is stored with all its routes or not at all.
    fn expect_whole(&mut self, standing: &Standing) {
        let new: Vec<u64> = standing.messages.keys().copied().collect();
        for id in new {
            let Some(sent) = self.ids.get(&id) else { continue };
            for lane in self.sent[sent].1.clone() {
                if !self.has(&lane, id) {
                    self.breaks(format!("lost: message {id} is not in {} though it is stored", named(&lane)));
                }
            }
        }
    }

    /// Waits, was taken, is dead or was given up.
    fn has(&self, lane: &LaneId, id: u64) -> bool {
        let account = self.lanes.get(lane);
        let waits = account.is_some_and(|account| account.waiting.iter().any(|(_, waiting)| *waiting == id));
        let taken = account.is_some_and(|account| account.taken.contains_key(&id));
        let key = (lane.clone(), id);
        waits || taken || self.discarded.contains(&key) || self.dead.values().any(|dead| *dead == key)
    }

    /// The receiver took a message, in a send with so many before it.
    pub(super) fn take(&mut self, lane: &LaneId, outgoing: &Outgoing, before_it: usize) {
        let id = outgoing.id;
        self.figures.deliveries += 1;
        match self.ids.get(&id).map(|sent| &self.sent[sent].0) {
            None => return self.breaks(format!("invented: {} got message {id}, which nobody sent", named(lane))),
            Some(message) if *message != outgoing.body => {
                self.breaks(format!("changed: {} got message {id} otherwise than it was sent", named(lane)));
            }
            Some(_) => {}
        }
        let account = self.lanes.entry(lane.clone()).or_default();
        let place = account.due().nth(before_it).filter(|(_, due)| *due == id).copied();
        account.open.extend(place);
        let before = account.taken.get(&id).copied().unwrap_or(0);
        account.taken.insert(id, before + 1);
        let in_turn = !account.requeued.contains(&id);
        let passed = account.last_first;
        if place.is_none() {
            return self.breaks(format!("order: {} got message {id} before its turn", named(lane)));
        }
        if before > 0 {
            return self.repeated(lane, outgoing);
        }
        if in_turn {
            account.last_first = id;
        }
        if in_turn && passed > id {
            self.breaks(format!("order: {} got message {id} after {passed}", named(lane)));
        }
    }

    fn repeated(&mut self, lane: &LaneId, outgoing: &Outgoing) {
        let id = outgoing.id;
        self.figures.repeats += 1;
        let excuses = self.lanes.entry(lane.clone()).or_default().excuses.entry(id).or_default();
        let excused = *excuses > 0;
        *excuses = excuses.saturating_sub(1);
        if !excused {
            self.breaks(format!("repeat: {} got message {id} again without a fault", named(lane)));
        }
        if !outgoing.possible_repeat {
            self.breaks(format!("repeat: {} got message {id} again without the mark", named(lane)));
        }
    }

    /// The receiver's answer to so many messages arrived.
    pub(super) fn answered(&mut self, lane: &LaneId, count: usize) {
        let account = self.lanes.entry(lane.clone()).or_default();
        let answered: Vec<u64> = account.due().take(count).map(|(entry, _)| *entry).collect();
        account.answered.extend(answered);
    }

    /// The receiver's answer did not arrive: what it took last may come again.
    pub(super) fn unanswered(&mut self, lane: &LaneId, id: u64) {
        let account = self.lanes.entry(lane.clone()).or_default();
        account.open.retain(|_, open| *open != id);
        *account.excuses.entry(id).or_default() += 1;
    }

    /// A lane asks the store to settle its head.
    pub(super) fn settling(&mut self, lane: &LaneId, entry: u64, settlement: &Settlement) {
        let dies = matches!(settlement, Settlement::Dead { .. });
        let account = self.lanes.entry(lane.clone()).or_default();
        let waiting = account.waiting.iter().position(|(waiting, _)| *waiting == entry);
        if account.doubted.contains(&entry) && waiting.is_none() {
            return;
        }
        let before = account.waiting.iter().take(waiting.unwrap_or(0));
        let in_turn = waiting.is_some() && before.clone().all(|(before, _)| account.answered.contains(before));
        let taken = waiting.is_some_and(|place| account.taken.contains_key(&account.waiting[place].1));
        account.settling.insert(entry, dies);
        if !in_turn {
            self.breaks(format!("order: {} settles entry {entry} before its turn", named(lane)));
        } else if !dies && !taken {
            self.breaks(format!("lost: {} settles entry {entry}, which no receiver took", named(lane)));
        }
    }

    /// The store answered to that.
    pub(super) fn settled(&mut self, lane: &LaneId, entry: u64, answer: &Result<(), StoreError>) {
        let account = self.lanes.entry(lane.clone()).or_default();
        match answer {
            Ok(()) => {
                _ = (account.open.remove(&entry), account.answered.remove(&entry), account.settling.remove(&entry));
            }
            Err(StoreError::Failed(_)) => _ = account.doubted.insert(entry),
            Err(_) => _ = account.settling.remove(&entry),
        }
        if answer.is_ok() && account.waiting.iter().any(|(waiting, _)| *waiting == entry) {
            self.breaks(format!("repeat: entry {entry} of {} is settled and waits still", named(lane)));
        }
    }

    /// The engine stopped or failed: what was taken and is not known to be settled may come again, so much of a lane at most.
    pub(super) fn interrupted(&mut self, most: impl Fn(&LaneId) -> usize) {
        for (lane, account) in &mut self.lanes {
            if account.open.len() > most(lane) {
                let taken = account.open.len();
                self.broken.get_or_insert(format!("repeat: {} may get {taken} messages again", named(lane)));
            }
            for id in std::mem::take(&mut account.open).into_values() {
                *account.excuses.entry(id).or_default() += 1;
            }
        }
    }

    /// The lanes are gone, with what they knew.
    pub(super) fn ended(&mut self) {
        self.lanes.values_mut().for_each(|account| account.answered.clear());
    }

    /// What was asked before the engine stopped is decided by what the store holds now.
    pub(super) fn restarted(&mut self) {
        self.lanes.values_mut().for_each(|account| account.settling.clear());
        self.exhumed.clear();
        self.newest.clear();
        // Asked for and not done.
        self.discarded.retain(|each| !self.dead.values().any(|dead| dead == each));
    }

    /// When all is delivered: everything acknowledged is accounted for in every lane it was routed to.
    pub(super) fn expect_balanced(&mut self) {
        for sent in self.acknowledged.clone() {
            let Some(id) = self.stored.get(&sent).copied() else { continue };
            for lane in self.sent[&sent].1.clone() {
                let waits = self.lanes.get(&lane).is_some_and(|account| !account.waiting.is_empty());
                if waits || !self.has(&lane, id) {
                    self.breaks(format!("lost: {sent:?}, acknowledged as {id}, did not reach {}", named(&lane)));
                }
            }
        }
    }

    /// The first is told: what follows it may come of it.
    pub(super) fn breaks(&mut self, promise: String) {
        self.broken.get_or_insert(promise);
    }
}

pub(super) fn named(lane: &LaneId) -> String {
    format!("{}-{}", lane.destination, lane.lane)
}
