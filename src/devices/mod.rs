//! Every device that reports: when it was last heard, how often it should be, whether its clock and its numbers are right.
//!
//! What must never happen: a silence or a gap that is not told; a silence told that was ours (a stop, a clock set, a channel
//! switched off); memory that grows with what devices call themselves; a device's name in a metric. What is kept here is
//! for watching: no message waits for it or is refused by it.

mod catch_up;
mod device;
mod file;
mod missing;
mod notices;
mod reading;
mod rhythm;
mod sequence;
mod status;
mod timing;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{channel::Channel, clock::Clock, hl7::Message, metrics::Metrics};
use device::{Changed, Device, Now};
use file::DevicesFile;
use missing::Gap;
use notices::Notices;
use reading::Reading;
use sequence::{By, Counter, Step, fnv};
pub use status::{DeviceState, DeviceStatus, Event, Happening, SequenceStatus};

/// Devices remembered at once; the longest unheard eighth gives way.
const DEVICES_MAX: usize = 16_384;
/// Bytes of a device's name that are kept.
const NAME_BYTES_MAX: usize = 200;
/// Senders' counters remembered at once; those that proved to be none give way first.
const COUNTERS_MAX: usize = 16_384;
/// A wall clock that moves so much apart from time passed was set. Milliseconds.
const CLOCK_SET: i64 = 10_000;
/// Between two writes of the file. Milliseconds.
const SAVE_EVERY: i64 = 60_000;
/// Messages after which the file is written before that, and how long it is left alone even so: so many can be heard again in
/// the time a start has for it, on a busy machine too.
const SAVE_AFTER: (u32, i64) = (3_000, 5_000);

/// The devices heard; shared by all intakes.
pub struct Devices {
    clock: Clock,
    metrics: Arc<Metrics>,
    file: Option<DevicesFile>,
    watched: Mutex<Watched>,
}

struct Watched {
    known: Known,
    /// Wall clock minus time passed.
    own_clock: i64,
    saved: i64,
    /// Messages heard since.
    unsaved: u32,
    save_failed: bool,
    /// The series of the gauge.
    counted: BTreeMap<(Arc<str>, DeviceState), i64>,
    notices: Notices,
}

/// What the file keeps.
#[derive(Default, Serialize, Deserialize)]
struct Known {
    devices: HashMap<Arc<str>, Device>,
    /// By sender and what stands before the number.
    counters: HashMap<u64, Counter>,
    next_id: u64,
    /// Time passed when this was written.
    passed: i64,
    /// The time of day then, milliseconds.
    saved_at: i64,
    /// What the store took before this place in it has been heard; `None` where that is not known.
    heard_to: Option<u64>,
    /// Marks of the last messages heard.
    lately: VecDeque<u64>,
}

/// What a message changed, for log and metrics.
struct ToTell {
    id: u64,
    step: Step,
    changed: Changed,
    quiet: i64,
    skew: Option<i64>,
}

/// Which devices are asked for.
#[derive(Debug, Clone, Default)]
pub struct DeviceQuery {
    /// Of this channel.
    pub channel: Option<String>,
    /// In this state.
    pub state: Option<DeviceState>,
    /// After this id.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl Devices {
    /// Devices as the last run left them in `store`, the store's folder; kept in memory alone without one.
    pub fn open(store: Option<&Path>, clock: Clock, metrics: Arc<Metrics>) -> Devices {
        let file = store.map(DevicesFile::in_store);
        let mut known: Known = file.as_ref().map(read).unwrap_or_default();
        let passed = millis_passed(&clock);
        let saved = known.passed;
        known.devices.values_mut().for_each(|device| device.resume(saved, passed));
        known.counters.values_mut().for_each(|counter| counter.resume(passed));
        let watched = Watched {
            known,
            own_clock: clock.now().as_millisecond() - passed,
            saved: passed,
            unsaved: 0,
            save_failed: false,
            counted: BTreeMap::new(),
            notices: Notices::default(),
        };
        Devices { clock, metrics, file, watched: Mutex::new(watched) }
    }

    /// Notes a message of `device`, received at `at`.
    pub fn heard(&self, device: &str, channel: &Channel, message: &Message, at: Timestamp) {
        let device = named(device);
        let now = Now { at: at.as_millisecond(), passed: millis_passed(&self.clock) };
        let mut watched = self.watched();
        let Watched { known, own_clock, unsaved, .. } = &mut *watched;
        *unsaved = unsaved.saturating_add(1);
        known.note_lately(catch_up::mark(&device, now.at, message.msh().field(10).raw()));
        let set_by = now.at - now.passed - *own_clock;
        if set_by.abs() > CLOCK_SET {
            *own_clock += set_by;
            known.devices.values_mut().for_each(|device| device.timing.own_clock_set(set_by));
        }
        let Some((told, gaps)) = self.take(&mut watched, &device, channel, message, now) else { return };
        let Watched { known, notices, .. } = &mut *watched;
        notices.tell(told.id, &channel.name, told.changed, told.quiet, now.passed);
        self.measure(&channel.name, told.step, told.changed, told.skew);
        self.tell_gaps(known, gaps, now.at);
    }

    /// What a message says of its device is kept; what is to be told of that is answered.
    fn take(
        &self,
        watched: &mut Watched,
        device: &str,
        channel: &Channel,
        message: &Message,
        now: Now,
    ) -> Option<(ToTell, Vec<Gap>)> {
        let (known, reading) = (&mut watched.known, Reading::of(message));
        self.make_room(known, device, &channel.name);
        let name = known.add(device, &channel.name, now);
        let (step, gaps) = known.count(&name, &reading, now);
        let entry = known.devices.get_mut(&name)?;
        entry.message(channel, now);
        entry.step(step, now);
        let changed = if reading.is_observation { entry.observation(&reading, now) } else { Changed::default() };
        let (quiet, skew) = (entry.rhythm.quiet(now.passed), entry.skew().filter(|_| changed.told.timely));
        Some((ToTell { id: entry.id, step, changed, quiet, skew }, gaps))
    }

    /// Looks for devices that fell silent and numbers that did not come, and brings the gauge up to date. Due every second.
    pub fn look(&self) {
        let now = Now { at: self.clock.now().as_millisecond(), passed: millis_passed(&self.clock) };
        let mut watched = self.watched();
        let Watched { known, counted, notices, .. } = &mut *watched;
        for device in known.devices.values_mut() {
            let quiet = device.rhythm.quiet(now.passed);
            if device.falls_silent(now) {
                let changed = Changed { fell_silent: true, ..Changed::default() };
                notices.tell(device.id, &device.channel, changed, quiet, now.passed);
                self.measure(&device.channel, Step::Usual, changed, None);
            }
        }
        notices.tell_withheld(now.passed);
        let gaps = known.due_gaps(now.passed);
        self.tell_gaps(known, gaps, now.at);
        self.gauge(known, counted);
    }

    /// Forgets the devices of channels that are no longer among `channels`.
    pub fn channels_changed(&self, channels: &[Arc<Channel>]) {
        let is_there = |name: &str| channels.iter().any(|channel| &*channel.name == name);
        self.watched().known.devices.retain(|_, device| is_there(&device.channel));
    }

    /// Writes the file if that is due, or at a stop. `place` tells the sequence that the store gives next, which is asked
    /// before the file is made: what comes between is heard again after a crash and known by its mark. A failure is logged once until
    /// it is over.
    pub fn save(&self, at_stop: bool, place: impl FnOnce() -> u64) {
        let passed = millis_passed(&self.clock);
        let Some(file) = &self.file else { return };
        if !at_stop && !self.watched().is_save_due(passed) {
            return;
        }
        let place = place();
        let bytes = {
            let mut watched = self.watched();
            (watched.saved, watched.unsaved) = (passed, 0);
            let now = self.clock.now().as_millisecond();
            (watched.known.passed, watched.known.saved_at, watched.known.heard_to) = (passed, now, Some(place));
            DevicesFile::encode(&watched.known)
        };
        let written = bytes.and_then(|bytes| file.write(&bytes));
        let failed_before = std::mem::replace(&mut self.watched().save_failed, written.is_err());
        if let (Err(error), false) = (written, failed_before) {
            warn!(file = %file.path().display(), %error, "devices are not kept for the next start: free disk space");
        }
    }

    /// Devices by id, and where the next page begins.
    pub fn page(&self, query: &DeviceQuery) -> (Vec<DeviceStatus>, Option<u64>) {
        self.look();
        let watched = self.watched();
        let wanted = |device: &Device| {
            query.after.is_none_or(|after| device.id > after)
                && query.state.is_none_or(|state| device.state() == state)
                && query.channel.as_deref().is_none_or(|channel| &*device.channel == channel)
        };
        let mut found: Vec<_> = watched.known.devices.iter().filter(|(_, device)| wanted(device)).collect();
        found.sort_unstable_by_key(|(_, device)| device.id);
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|(_, device)| device.id);
        let now = millis_passed(&self.clock);
        (found.into_iter().map(|(name, device)| device.status(name, now)).collect(), next)
    }

    /// One device, and what happened to it lately, oldest first.
    pub fn one(&self, id: u64) -> Option<(DeviceStatus, Vec<Event>)> {
        self.look();
        let watched = self.watched();
        let (name, device) = watched.known.devices.iter().find(|(_, device)| device.id == id)?;
        Some((device.status(name, millis_passed(&self.clock)), device.history()))
    }

    /// Forgets a device, as one that was taken out of use; false where there is none of that id. It comes back when heard.
    pub fn forget(&self, id: u64) -> bool {
        let mut watched = self.watched();
        let known = &mut watched.known;
        let before = known.devices.len();
        known.devices.retain(|_, device| device.id != id);
        let forgot = known.devices.len() < before;
        if forgot {
            // Or what was heard of it would be heard again after a crash.
            watched.saved = i64::MIN / 2;
        }
        forgot
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self, known: &mut Known, device: &str, channel: &Arc<str>) {
        if known.devices.len() >= DEVICES_MAX && !known.devices.contains_key(device) {
            forget_unheard(&mut known.devices, |device| device.heard);
            self.metrics.limits_hit.with_label_values(&[&**channel, "devices"]).inc();
        }
        if known.counters.len() >= COUNTERS_MAX {
            known.counters.retain(|_, counter| counter.is_learned());
            if known.counters.len() > COUNTERS_MAX / 8 * 7 {
                forget_unheard(&mut known.counters, |counter| counter.heard);
            }
        }
    }

    fn measure(&self, channel: &Arc<str>, step: Step, changed: Changed, skew: Option<i64>) {
        let add = |family: &prometheus::IntCounterVec, count: u64| {
            if count > 0 {
                family.with_label_values(&[channel]).inc_by(count);
            }
        };
        let metrics = &self.metrics.devices;
        add(&metrics.silences, changed.fell_silent.into());
        add(&metrics.late, changed.told.late.into());
        add(&metrics.out_of_order, u64::from(changed.told.out_of_order) + u64::from(step == Step::Overtaken));
        add(&metrics.clock_sets, changed.told.clock_set.is_some().into());
        add(&metrics.repeats, (step == Step::Repeat).into());
        if let Some(skew) = skew {
            metrics.clock_skew_seconds.with_label_values(&[channel]).observe(skew.abs() as f64 / 1000.0);
        }
    }

    fn tell_gaps(&self, known: &mut Known, gaps: Vec<Gap>, at: i64) {
        for gap in gaps {
            known.note_gap(&gap, at);
            let Some(device) = known.devices.get(&*gap.device) else { continue };
            self.metrics.devices.gaps.with_label_values(&[&device.channel]).inc_by(gap.gaps);
            self.metrics.devices.missing.with_label_values(&[&device.channel]).inc_by(gap.missing);
        }
    }

    fn gauge(&self, known: &Known, counted: &mut BTreeMap<(Arc<str>, DeviceState), i64>) {
        let before = std::mem::take(counted);
        for device in known.devices.values() {
            // Each state of a channel has a series, so that one that empties goes to 0.
            for state in DeviceState::ALL {
                *counted.entry((device.channel.clone(), state)).or_default() += i64::from(state == device.state());
            }
        }
        let gauge = &self.metrics.devices.devices;
        for (channel, state) in before.keys().filter(|key| !counted.contains_key(*key)) {
            let _ = gauge.remove_label_values(&[channel, state.as_str()]);
        }
        for ((channel, state), count) in counted.iter() {
            gauge.with_label_values(&[channel, state.as_str()]).set(*count);
        }
    }
}

impl Watched {
    fn is_save_due(&self, passed: i64) -> bool {
        let since = passed - self.saved;
        since >= SAVE_EVERY || self.unsaved >= SAVE_AFTER.0 && since >= SAVE_AFTER.1
    }
}

impl Known {
    /// The name under which a device is kept, which is new with its first message.
    fn add(&mut self, device: &str, channel: &Arc<str>, now: Now) -> Arc<str> {
        if let Some((name, _)) = self.devices.get_key_value(device) {
            return name.clone();
        }
        let name: Arc<str> = device.into();
        self.next_id += 1;
        self.devices.insert(name.clone(), Device::new(self.next_id, channel.clone(), now));
        name
    }

    /// What the message's number says, by the sender's counter where it is one, else by the device's own.
    fn count(&mut self, name: &Arc<str>, reading: &Reading, now: Now) -> (Step, Vec<Gap>) {
        let (Some(number), Some(device)) = (reading.number, self.devices.get_mut(name)) else {
            return (Step::Usual, Vec::new());
        };
        let new = || Counter::new(number, reading.sent, name, now.passed);
        let key = fnv(&(u128::from(reading.sender) << 64 | u128::from(number.prefix)).to_be_bytes());
        let follows_own = device.counter.as_ref().is_some_and(|own| own.precedes(number));
        let by = By { device: name, follows_own, sent: reading.sent };
        let take = |counter: &mut Option<Counter>| match counter {
            Some(counter) => counter.take(number, by, now.passed),
            None => {
                *counter = Some(new());
                Step::Usual
            }
        };
        let mut shared = self.counters.remove(&key);
        let (by_sender, by_device) = (take(&mut shared), take(&mut device.counter));
        device.counts_by_sender = shared.as_ref().is_some_and(Counter::is_learned);
        device.shares_counter = device.counts_by_sender && shared.as_ref().is_some_and(Counter::is_shared);
        let counts = if device.counts_by_sender { shared.as_mut() } else { device.counter.as_mut() };
        let gaps = counts.map(|counter| counter.gaps(now.passed)).unwrap_or_default();
        self.counters.extend(shared.map(|shared| (key, shared)));
        (if device.counts_by_sender { by_sender } else { by_device }, gaps)
    }

    fn note_gap(&mut self, gap: &Gap, at: i64) {
        if let Some(device) = self.devices.get_mut(&*gap.device) {
            device.gap(gap.gaps, gap.missing, at);
        }
    }

    fn due_gaps(&mut self, passed: i64) -> Vec<Gap> {
        let own = self.devices.values_mut().filter(|device| !device.counts_by_sender);
        let own = own.filter_map(|device| device.counter.as_mut());
        let counters = self.counters.values_mut().chain(own).filter(|counter| !counter.is_settled());
        counters.flat_map(|counter| counter.gaps(passed)).collect()
    }
}

fn read(file: &DevicesFile) -> Known {
    // Where nothing was written yet, all that the store has is still to be heard.
    let first = || Known { heard_to: Some(0), ..Known::default() };
    file.read().map(|read| read.unwrap_or_else(first)).unwrap_or_else(|error| {
        let file = file.path().display();
        warn!(%file, %error, "what was known of the devices is lost: they are learned anew");
        Known::default()
    })
}

/// The name a device is kept under: a hash stands for the end of one that is longer than any of use.
fn named(device: &str) -> Cow<'_, str> {
    if device.len() <= NAME_BYTES_MAX {
        return device.into();
    }
    let kept = &device[..device.floor_char_boundary(NAME_BYTES_MAX)];
    format!("{kept}…{:016x}", fnv(device.as_bytes())).into()
}

fn millis_passed(clock: &Clock) -> i64 {
    i64::try_from(clock.passed().as_millis()).unwrap_or(i64::MAX)
}

/// Drops the longest unheard eighth at once, so that a flood of new names costs little each.
fn forget_unheard<K, V>(kept: &mut HashMap<K, V>, heard: impl Fn(&V) -> i64) {
    let mut times: Vec<i64> = kept.values().map(&heard).collect();
    times.sort_unstable();
    let (limit, mut left) = (times[times.len() / 8], times.len() / 8 + 1);
    kept.retain(|_, value| {
        let goes = heard(value) <= limit && left > 0;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
impl Default for Devices {
    #[allow(clippy::unwrap_used)]
    fn default() -> Devices {
        Devices::open(None, Clock::system(), Arc::new(Metrics::new().unwrap()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
