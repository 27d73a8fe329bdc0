//! Which owed ACKs are followed, by message and by sender, and which wait in the store for room.
//!
//! What must never happen: a sender that is away takes the place of one that is there, or a channel that of another; a
//! sender's later ACK passes an earlier one that is as due. What is followed is bounded in messages and bytes; of the rest
//! the sender is remembered, so that nothing is read to find whose turn it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    FOLLOWED_BYTES_MAX, FOLLOWED_MAX,
    followed::{Due, Followed, SenderId},
};

/// Messages whose sender is remembered while they wait for room.
const WAITING_MAX: usize = 100_000;
/// What gives way to one message at once.
const GIVING_WAY_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Book {
    /// By message.
    followed: BTreeMap<u64, Followed>,
    loads: HashMap<Arc<str>, Load>,
    senders: HashMap<SenderId, OfSender>,
    /// Messages that wait for room.
    waiting: usize,
}

/// Messages followed, and bytes of their headers.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    /// The part of each of so many channels.
    pub fn share_of(channels: usize) -> Load {
        Load { messages: FOLLOWED_MAX / channels.max(1), bytes: FOLLOWED_BYTES_MAX / channels.max(1) }
    }
}

/// A sender's messages. Of those followed some are due and not on their way.
#[derive(Default)]
struct OfSender {
    followed: BTreeSet<u64>,
    due: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
}

impl OfSender {
    fn is_empty(&self) -> bool {
        self.followed.is_empty() && self.waiting.is_empty()
    }
}

impl Book {
    pub fn get(&self, id: u64) -> Option<&Followed> {
        self.followed.get(&id)
    }

    /// That it is due, and on its way, is told by [`Book::becomes_due`], [`Book::goes`] and [`Book::came_back`] alone.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Followed> {
        self.followed.get_mut(&id)
    }

    /// The message that an entry of a lane may belong to.
    pub fn before_entry(&mut self, entry: u64) -> Option<&mut Followed> {
        self.followed.range_mut(..entry).next_back().map(|(_, followed)| followed)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Followed)> {
        self.followed.iter().map(|(id, followed)| (*id, followed))
    }

    pub fn after(&self, id: u64) -> impl Iterator<Item = (u64, &Followed)> {
        self.followed.range(id + 1..).map(|(id, followed)| (*id, followed))
    }

    /// Nothing is owed to anybody.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Whether the message is followed or waits for room.
    pub fn knows(&self, id: u64, sender: &SenderId) -> bool {
        self.senders.get(sender).is_some_and(|of| of.followed.contains(&id) || of.waiting.contains(&id))
    }

    /// Follows it; adds what is new to what is known of it.
    pub fn follow(&mut self, new: Followed) {
        let id = new.id();
        let known = self.followed.remove(&id);
        if let Some(known) = &known {
            self.unload(known);
        }
        let followed = match known {
            Some(mut known) => {
                known.waiters.extend(new.waiters);
                known.owing = known.owing.take().or(new.owing);
                known
            }
            None => new,
        };
        let load = self.loads.entry(followed.channel.clone()).or_default();
        load.messages += 1;
        load.bytes += followed.bytes();
        if let Some(owing) = &followed.owing {
            let of = self.senders.entry(owing.sender.clone()).or_default();
            of.followed.insert(id);
            self.waiting -= usize::from(of.waiting.remove(&id));
            if followed.is_due() {
                of.due.insert(id);
            }
        }
        self.followed.insert(id, followed);
    }

    /// Follows it no more.
    pub fn forget(&mut self, id: u64) -> Option<Followed> {
        let gone = self.followed.remove(&id)?;
        self.unload(&gone);
        if let Some(owing) = &gone.owing
            && let Some(of) = self.senders.get_mut(&owing.sender)
        {
            of.followed.remove(&id);
            of.due.remove(&id);
            if of.is_empty() {
                self.senders.remove(&owing.sender);
            }
        }
        Some(gone)
    }

    fn unload(&mut self, gone: &Followed) {
        let Some(load) = self.loads.get_mut(&gone.channel) else { return };
        load.messages -= 1;
        load.bytes -= gone.bytes();
        if load.messages == 0 {
            self.loads.remove(&gone.channel);
        }
    }

    /// Notes that the ACK can be sent; to whom.
    pub fn becomes_due(&mut self, id: u64, due: Due) -> Option<SenderId> {
        let owing = self.followed.get_mut(&id)?.owing.as_mut()?;
        owing.due.get_or_insert(due);
        let sender = owing.sender.clone();
        if !owing.sending {
            self.senders.entry(sender.clone()).or_default().due.insert(id);
        }
        Some(sender)
    }

    /// Notes that it is on its way, until it is forgotten or [came back](Book::came_back).
    pub fn goes(&mut self, id: u64) {
        let Some(owing) = self.followed.get_mut(&id).and_then(|followed| followed.owing.as_mut()) else { return };
        owing.sending = true;
        if let Some(of) = self.senders.get_mut(&owing.sender) {
            of.due.remove(&id);
        }
    }

    /// It was not sent; to whom it is still owed.
    pub fn came_back(&mut self, id: u64) -> Option<SenderId> {
        let owing = self.followed.get_mut(&id)?.owing.as_mut()?;
        owing.sending = false;
        let sender = owing.sender.clone();
        if owing.due.is_some() {
            self.senders.entry(sender.clone()).or_default().due.insert(id);
        }
        Some(sender)
    }

    /// The first message received of those whose ACKs can be sent to this sender.
    pub fn next_due(&self, sender: &SenderId) -> Option<u64> {
        self.senders.get(sender)?.due.first().copied()
    }

    /// To whom something can be sent.
    pub fn with_due(&self) -> Vec<SenderId> {
        let due = self.senders.iter().filter(|(_, of)| !of.due.is_empty());
        due.map(|(sender, _)| sender.clone()).collect()
    }

    /// Forgets the waits that were given up.
    pub fn forget_waits(&mut self) {
        self.followed.values_mut().for_each(|followed| followed.waiters.retain(|waiter| !waiter.is_closed()));
        let of_nobody = self.followed.iter().filter(|(_, one)| one.owing.is_none() && one.waiters.is_empty());
        let of_nobody: Vec<u64> = of_nobody.map(|(id, _)| *id).collect();
        of_nobody.into_iter().for_each(|id| drop(self.forget(id)));
    }

    /// Has it wait in the store for room; false where there is no room even to remember it.
    pub fn wait(&mut self, id: u64, sender: &SenderId) -> bool {
        if self.waiting >= WAITING_MAX {
            return false;
        }
        self.waiting += usize::from(self.senders.entry(sender.clone()).or_default().waiting.insert(id));
        true
    }

    /// It waits no more: it has ended meanwhile.
    pub fn waits_no_more(&mut self, id: u64, sender: &SenderId) {
        let Some(of) = self.senders.get_mut(sender) else { return };
        self.waiting -= usize::from(of.waiting.remove(&id));
        if of.is_empty() {
            self.senders.remove(sender);
        }
    }

    /// More could be remembered of what waits.
    pub fn has_room_to_wait(&self) -> bool {
        self.waiting < WAITING_MAX
    }

    /// Senders with messages that wait for room, those that can be reached first.
    pub fn with_waiting(&self, reachable: impl Fn(&SenderId) -> bool) -> Vec<SenderId> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let waiting = self.senders.iter().filter(|(_, of)| !of.waiting.is_empty()).map(|(sender, _)| sender);
        let (mut first, then): (Vec<_>, Vec<_>) = waiting.cloned().partition(reachable);
        first.extend(then);
        first
    }

    /// The sender's next message that waits for room.
    pub fn next_waiting(&self, sender: &SenderId) -> Option<u64> {
        self.senders.get(sender)?.waiting.first().copied()
    }

    /// Channels that have messages followed.
    pub fn channels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.loads.keys()
    }

    fn is_full(&self, channel: &str, share: Load) -> bool {
        self.loads.get(channel).is_some_and(|load| load.messages >= share.messages || load.bytes >= share.bytes)
    }

    /// Whether another message of the sender can be followed, within its channel's share. Where that is used up, the newest of
    /// a sender that cannot be reached gives way to one that can, and else of one that has more.
    pub fn make_room(&mut self, sender: &SenderId, share: Load, reachable: impl Fn(&SenderId) -> bool) -> bool {
        for _ in 0..GIVING_WAY_MAX {
            if !self.is_full(sender.channel(), share) {
                return true;
            }
            let count = |of: &OfSender| of.followed.len();
            let others = self.senders.iter().filter(|(other, of)| {
                *other != sender && other.channel() == sender.channel() && !of.followed.is_empty()
            });
            let heaviest = others.max_by_key(|(other, of)| (!reachable(other), count(of)));
            let Some((other, of)) = heaviest else { return false };
            let own = self.senders.get(sender).map_or(0, count);
            let is_fair = match (reachable(sender), reachable(other)) {
                (true, false) => true,
                (false, true) => false,
                _ => count(of) > own + 1,
            };
            let newest = of.followed.iter().rev().find(|id| self.followed.get(id).is_some_and(Followed::may_wait));
            let (Some(newest), other) = (newest.copied(), other.clone()) else { return false };
            if !is_fair || !self.wait(newest, &other) {
                return false;
            }
            self.forget(newest);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::intake::owed::tests::{followed, sender};

    fn filled(channel: &str, share: Load) -> Book {
        let mut book = Book::default();
        (0..share.messages as u64).for_each(|n| book.follow(followed(channel, "AWAY", n * 10)));
        book
    }

    #[test]
    fn a_channel_that_owes_without_end_leaves_the_others_their_share() {
        let share = Load::share_of(2);
        let mut book = filled("dead", share);
        let away = |_: &SenderId| false;
        assert!(!book.make_room(&sender("dead", "AWAY"), share, away));
        assert!(book.make_room(&sender("sound", "AWAY"), share, away));
        let mut large = followed("sound", "A", 5);
        large.owing.as_mut().unwrap().header = vec![b'A'; share.bytes].into();
        book.follow(large);
        assert!(!book.make_room(&sender("sound", "A"), share, away), "headers of megabytes are enough");
        book.forget(5);
        assert!(book.make_room(&sender("sound", "A"), share, away));
    }

    #[test]
    fn a_sender_that_is_away_gives_way_to_one_that_is_there_and_waits_in_order() {
        let share = Load { messages: 20, bytes: 1 << 20 };
        let mut book = filled("pumps", share);
        let here = sender("pumps", "HERE");
        for n in 0..20 {
            assert!(book.make_room(&here, share, |one| *one == here), "{n}");
            book.follow(followed("pumps", "HERE", 1_000 + n * 10));
        }
        assert!(!book.make_room(&here, share, |one| *one == here), "there is nobody else left to give way");
        let away = sender("pumps", "AWAY");
        assert_eq!(book.with_waiting(|_| true), std::slice::from_ref(&away));
        for n in 0..20 {
            assert_eq!(book.next_waiting(&away), Some(n * 10));
            book.waits_no_more(n * 10, &away);
        }
        assert!(!book.senders.contains_key(&away));
    }

    #[test]
    fn senders_that_are_away_share_alike_and_none_gives_way_for_ever() {
        let share = Load { messages: 21, bytes: 1 << 20 };
        let mut book = filled("pumps", share);
        let other = sender("pumps", "OTHER");
        let mut more = 0;
        while book.make_room(&other, share, |_| false) {
            book.follow(followed("pumps", "OTHER", 1_000 + more * 10));
            more += 1;
        }
        assert_eq!(more, 10);
        assert!(!book.make_room(&sender("pumps", "AWAY"), share, |_| false));
    }

    #[test]
    fn what_is_due_comes_in_the_order_received_and_not_while_it_is_on_its_way() {
        let mut book = Book::default();
        let to = sender("pumps", "GW");
        [30, 10, 20].into_iter().for_each(|id| book.follow(followed("pumps", "GW", id)));
        assert!([20, 30, 10].iter().all(|id| book.becomes_due(*id, Due::now(Ok(()))) == Some(to.clone())));
        book.goes(10);
        assert_eq!(book.next_due(&to), Some(20));
        book.came_back(10);
        assert_eq!(book.next_due(&to), Some(10));
        assert!([10, 20, 30].iter().all(|id| book.forget(*id).is_some()));
        assert!(book.is_empty() && book.loads.is_empty());
    }
}
