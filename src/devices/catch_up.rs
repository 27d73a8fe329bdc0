//! After a stop that was no stop of ours: what the store took since `devices.bin` was written is heard again.
//!
//! What must never happen: a message heard twice, which would be a repeat nobody sent; a start that waits long for this; a gap
//! told that was none, where not all could be heard again: then every counter is learned anew.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{Devices, Known, Now, named, sequence::fnv};
use crate::{
    channel::Channel,
    store::{Sequence, Store, TakenMessage},
};

/// How long a start waits for them.
const TIME_MAX: Duration = Duration::from_secs(2);
/// Messages heard lately, of which some may not have had their place in the store when the file was written.
const LATELY_MAX: usize = 1_024;

/// What tells a message that was heard from others.
pub(super) fn mark(device: &str, at: i64, control_id: &[u8]) -> u64 {
    fnv(&[device.as_bytes(), &at.to_be_bytes(), control_id].concat())
}

impl Known {
    pub(super) fn note_lately(&mut self, mark: u64) {
        if self.lately.len() >= LATELY_MAX {
            self.lately.pop_front();
        }
        self.lately.push_back(mark);
    }
}

impl Devices {
    /// Hears again what the store took after the place in it up to which the file tells, before anything new is heard.
    pub async fn catch_up(&self, store: &dyn Store, channels: &[Arc<Channel>]) {
        let (from, saved_at) = {
            let known = &self.watched().known;
            (known.heard_to, known.saved_at)
        };
        let Some(from) = from.filter(|from| *from < store.stats().next_sequence) else { return };
        let deadline = Instant::now() + TIME_MAX;
        let mut lately = std::mem::take(&mut self.watched().known.lately);
        let (mut heard, mut saved_at, mut last, mut whole) = (0_u64, saved_at, saved_at, true);
        let mut next = Some(Sequence::from_u64(from));
        while let Some(from) = next {
            let in_time = Instant::now() < deadline;
            let Some(taken) = (if in_time { store.taken(from).await.ok() } else { None }) else {
                whole = false;
                break;
            };
            (next, whole) = (taken.next, whole && taken.whole);
            for message in &taken.messages {
                let at = message.received_at.as_millisecond();
                // Where there is no file time begins with the first message.
                saved_at = if saved_at == 0 { at } else { saved_at };
                last = last.max(at);
                heard += u64::from(self.hear_again(message, channels, &mut lately, saved_at));
            }
        }
        self.caught_up(last - saved_at, whole);
        match whole {
            true if heard == 0 => {}
            true => info!(messages = heard, "devices are known up to the last message"),
            false => warn!(
                messages = heard,
                "not all messages since devices were kept last could be heard again: what devices \
                count is learned anew, and gaps just before the stop are not told"
            ),
        }
    }

    /// The time between the file and the message passed as it did for the run that heard it.
    fn hear_again(
        &self,
        kept: &TakenMessage,
        channels: &[Arc<Channel>],
        lately: &mut VecDeque<u64>,
        saved_at: i64,
    ) -> bool {
        let Some(channel) = channels.iter().find(|channel| channel.name == kept.channel) else { return false };
        let Ok(message) = channel.mended(kept.message.clone()) else { return false };
        let message = channel.view(&message);
        let Some(device) = channel.device.identification.device_of(&message) else { return false };
        let device = named(&device);
        let at = kept.received_at.as_millisecond();
        let mark = mark(&device, at, message.msh().field(10).raw());
        if let Some(known) = lately.iter().position(|lately| *lately == mark) {
            lately.remove(known);
            return false;
        }
        let mut watched = self.watched();
        let passed = watched.saved + (at - saved_at).max(0);
        let heard = self.take(&mut watched, &device, channel, &message, Now { at, passed });
        if let Some((_, gaps)) = heard {
            gaps.into_iter().for_each(|gap| watched.known.note_gap(&gap, at));
        }
        true
    }

    /// What was measured in time that passed after the file was written goes on from now.
    fn caught_up(&self, passed: i64, whole: bool) {
        let known = &mut self.watched().known;
        let now = super::millis_passed(&self.clock);
        let last = now + passed.max(0);
        known.devices.values_mut().for_each(|device| device.resume(last, now));
        known.counters.values_mut().for_each(|counter| counter.resume(now));
        if !whole {
            known.counters.clear();
            known.devices.values_mut().for_each(super::device::Device::forget_counter);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::devices::tests::ward;

    const A: &str = "0A00A1FFFE10000A";
    const B: &str = "0A00A1FFFE10000B";
    const C: &str = "0A00A1FFFE10000C";

    #[tokio::test]
    async fn what_was_taken_since_the_file_was_written_is_heard_again_and_nothing_twice() {
        let ward = ward();
        ward.report(A, 1, 10);
        // The last one was heard, and had no place in the store when the file was written.
        ward.store(1).await;
        ward.save();
        ward.report(A, 11, 2);
        ward.report(A, 14, 3);
        ward.report(B, 1, 1);
        ward.store(0).await;
        let (a, b) = (ward.one(A).0, ward.one(B).0);
        let ward = ward.killed(30).await;
        let (again, found) = (ward.one(A).0, ward.one(B).0);
        assert_eq!((again.id, again.messages, again.last_seen), (a.id, a.messages, a.last_seen));
        assert_eq!((found.id, found.messages), (b.id, 1));
        ward.pass(40);
        let sequence = ward.one(A).0.sequence.unwrap();
        assert_eq!((sequence.missing, sequence.repeats), (1, 0), "13 was missing before the stop");
        ward.report(C, 1, 1);
        assert_eq!(ward.one(C).0.id, b.id + 1, "no id is given again");
    }

    #[test]
    fn the_file_is_written_each_minute_and_sooner_after_so_many_messages_as_a_start_can_hear_again() {
        let ward = ward();
        let is_written = || std::fs::remove_file(ward.file()).is_ok();
        ward.pass(5);
        (0..2_999).for_each(|number| ward.say(A, "R01", number, 0));
        ward.save_if_due();
        assert!(!is_written());
        ward.say(A, "R01", 2_999, 0);
        ward.save_if_due();
        assert!(is_written());
        (0..3_000).for_each(|number| ward.say(A, "R01", number, 0));
        ward.pass(4);
        ward.save_if_due();
        assert!(!is_written());
        ward.pass(60);
        ward.save_if_due();
        assert!(is_written());
    }

    #[tokio::test]
    async fn all_is_heard_again_where_nothing_was_written_yet() {
        let ward = ward();
        ward.report(A, 1, 5);
        ward.store(0).await;
        let ward = ward.killed(3_600).await;
        assert_eq!(ward.one(A).0.messages, 5);
    }

    #[tokio::test]
    async fn where_not_all_can_be_heard_again_no_gap_is_made_up() {
        let ward = ward();
        ward.report(A, 1, 10);
        ward.store(0).await;
        ward.save();
        ward.report(A, 11, 5);
        ward.store(0).await;
        ward.close_store().await;
        let ward = ward.killed(30).await;
        ward.report(A, 16, 10);
        ward.pass(600);
        assert_eq!(ward.one(A).0.sequence.map_or(0, |sequence| sequence.missing), 0);
    }
}
