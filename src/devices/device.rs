//! One device: what its messages said so far, and the last things that happened to it.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    reading::Reading,
    rhythm::Rhythm,
    sequence::{Counter, Step},
    status::{DeviceState, DeviceStatus, Event, Happening, SequenceStatus},
    timing::{Moment, Timing, Told},
};
use crate::channel::Channel;

/// Events remembered of each device; the oldest give way.
const HISTORY_MAX: usize = 64;

/// When a message came: by the wall clock, and by time passed. Milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: i64,
    pub(super) passed: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) id: u64,
    pub(super) channel: Arc<str>,
    first_seen: i64,
    last_seen: i64,
    last_observed: Option<i64>,
    /// Time passed at the last message.
    pub(super) heard: i64,
    messages: u64,
    observations: u64,
    pub(super) rhythm: Rhythm,
    pub(super) timing: Timing,
    /// Its numbers, where they are not one counter of its sender's.
    pub(super) counter: Option<Counter>,
    pub(super) counts_by_sender: bool,
    /// Its sender numbers other devices with the same counter.
    pub(super) shares_counter: bool,
    disclosed_skew: Option<i64>,
    has_zone: bool,
    gaps: u64,
    missing: u64,
    repeats: u64,
    restarts: u64,
    late: u64,
    /// Of the backlog that still comes.
    late_now: u32,
    out_of_order: u64,
    clock_sets: u64,
    silences: u64,
    history: VecDeque<(i64, Happening)>,
}

/// What an observation changed, for metrics and log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed {
    /// It fell silent before this message, and nobody had looked.
    pub(super) fell_silent: bool,
    pub(super) returned: bool,
    pub(super) told: Told,
}

impl Device {
    pub(super) fn new(id: u64, channel: Arc<str>, now: Now) -> Device {
        Device {
            id,
            channel,
            first_seen: now.at,
            last_seen: now.at,
            last_observed: None,
            heard: now.passed,
            messages: 0,
            observations: 0,
            rhythm: Rhythm::default(),
            timing: Timing::default(),
            counter: None,
            counts_by_sender: false,
            shares_counter: false,
            disclosed_skew: None,
            has_zone: false,
            gaps: 0,
            missing: 0,
            repeats: 0,
            restarts: 0,
            late: 0,
            late_now: 0,
            out_of_order: 0,
            clock_sets: 0,
            silences: 0,
            history: VecDeque::new(),
        }
    }

    /// Any message.
    pub(super) fn message(&mut self, channel: &Channel, now: Now) {
        self.messages += 1;
        self.last_seen = now.at;
        self.heard = now.passed;
        if self.channel != channel.name {
            self.channel = channel.name.clone();
        }
        self.rhythm.follow(&channel.device);
    }

    /// One that observes.
    pub(super) fn observation(&mut self, reading: &Reading, now: Now) -> Changed {
        let fell_silent = self.falls_silent(now);
        let returned = self.rhythm.silent;
        if returned {
            let seconds = self.rhythm.quiet(now.passed) / 1000;
            self.note(now.at, Happening::Returned { seconds });
        }
        let told = self.time(reading, now);
        let paused_by = match self.timing.is_without_clock() || reading.observed.is_none() {
            true => Some(now.passed),
            false => reading.observed.filter(|_| told.timely),
        };
        self.rhythm.heard(paused_by, now.passed);
        self.observations += 1;
        self.last_observed = Some(now.at);
        Changed { fell_silent, returned, told }
    }

    fn time(&mut self, reading: &Reading, now: Now) -> Told {
        self.has_zone = reading.has_zone;
        self.disclosed_skew = reading.disclosed_skew.or(self.disclosed_skew);
        let Some(observed) = reading.observed else { return Told::default() };
        let moment = Moment { observed, received: now.at, now: now.passed };
        let told = self.timing.take(moment, self.rhythm.interval().map(|(interval, _)| interval));
        self.late += u64::from(told.late);
        self.late_now = self.late_now.saturating_add(told.late);
        self.out_of_order += u64::from(told.out_of_order);
        if let Some(by) = told.clock_set {
            self.clock_sets += 1;
            self.note(now.at, Happening::ClockSet { seconds: by / 1000 });
        }
        if told.timely && self.late_now > 0 {
            let messages = std::mem::take(&mut self.late_now);
            self.note(now.at, Happening::Late { messages: messages.into() });
        }
        told
    }

    /// Whether it falls silent now; told once.
    pub(super) fn falls_silent(&mut self, now: Now) -> bool {
        let falls = self.rhythm.falls_silent(now.passed);
        if falls {
            self.silences += 1;
            let since = now.at - self.rhythm.quiet(now.passed);
            self.note(now.at, Happening::Silent { since: timestamp(since) });
        }
        falls
    }

    pub(super) fn step(&mut self, step: Step, now: Now) {
        match step {
            Step::Usual => {}
            Step::Repeat => {
                self.repeats += 1;
                self.note(now.at, Happening::Repeated { messages: 1 });
            }
            Step::Recovered => self.missing = self.missing.saturating_sub(1),
            Step::Overtaken => self.out_of_order += 1,
            Step::Restart => {
                self.restarts += 1;
                self.note(now.at, Happening::CounterRestarted);
            }
        }
    }

    pub(super) fn gap(&mut self, gaps: u64, missing: u64, at: i64) {
        self.gaps += gaps;
        self.missing += missing;
        self.note(at, Happening::Gap { messages: missing });
    }

    fn note(&mut self, at: i64, what: Happening) {
        if self.history.back_mut().is_some_and(|(_, last)| last.goes_on_with(what)) {
            return;
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back((at, what));
    }

    /// What was measured in the time of another run of the engine, which ended at `saved`, goes on at `now`.
    pub(super) fn resume(&mut self, saved: i64, now: i64) {
        self.heard += now - saved;
        self.rhythm.resume(now, self.rhythm.quiet(saved));
        self.timing.resume();
        self.counter.iter_mut().for_each(|counter| counter.resume(now));
    }

    /// Its numbers are learned anew.
    pub(super) fn forget_counter(&mut self) {
        (self.counter, self.counts_by_sender, self.shares_counter) = (None, false, false);
    }

    pub(super) fn state(&self) -> DeviceState {
        match (self.rhythm.silent, self.rhythm.interval()) {
            (true, _) => DeviceState::Silent,
            (false, Some(_)) => DeviceState::Reporting,
            (false, None) => DeviceState::Learning,
        }
    }

    /// Milliseconds its clock is ahead of ours; as the device says itself, else as its messages show.
    pub(super) fn skew(&self) -> Option<i64> {
        self.disclosed_skew.or_else(|| self.timing.skew().filter(|_| self.has_zone))
    }

    pub(super) fn status(&self, device: &Arc<str>, now: i64) -> DeviceStatus {
        let interval = self.rhythm.interval();
        let counts = self.counts_by_sender || self.counter.as_ref().is_some_and(Counter::is_learned);
        DeviceStatus {
            id: self.id,
            device: device.clone(),
            channel: self.channel.clone(),
            state: self.state(),
            first_seen: timestamp(self.first_seen),
            last_seen: timestamp(self.last_seen),
            last_observation: self.last_observed.map(timestamp),
            messages: self.messages,
            observations: self.observations,
            expected_interval_seconds: interval.map(|(interval, _)| seconds(interval)),
            interval_learned: interval.is_some_and(|(_, learned)| learned),
            quiet_seconds: self.last_observed.map(|_| self.rhythm.quiet(now) / 1000),
            silences: self.silences,
            clock_skew_seconds: self.skew().map(seconds),
            clock_sets: self.clock_sets,
            late: self.late,
            out_of_order: self.out_of_order,
            sequence: counts.then_some(SequenceStatus {
                of: if self.shares_counter { "sender" } else { "device" },
                gaps: self.gaps,
                missing: self.missing,
                repeats: self.repeats,
                restarts: self.restarts,
            }),
        }
    }

    pub(super) fn history(&self) -> Vec<Event> {
        self.history.iter().map(|(at, what)| Event { at: timestamp(*at), what: *what }).collect()
    }
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}
