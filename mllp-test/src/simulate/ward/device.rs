//! A device of the ward: reports each minute by its own clock, and does what its plan says. What it did is in its book.

use super::book::Book;
use super::message::{Told, Topic};
use super::plan::{self, Fault, Timetable};
use super::{GatewayKind, INTERVAL};
use std::collections::VecDeque;

/// Messages of a backlog that come behind each live one.
const TRICKLE: usize = 5;

/// A message on its way through the gateway.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) device: u32,
    pub(super) told: Told,
    /// Given by the device; `None`: by the gateway when it sends.
    pub(super) number: Option<u64>,
    /// Sent so often under the same number.
    pub(super) times: u64,
    /// It gets its number and is not sent.
    pub(super) lost: bool,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) kind: GatewayKind,
    pub(super) book: Book,
    number: u64,
    /// Seconds its clock is ahead.
    pub(super) skew: i64,
    known: bool,
    bed: u32,
    faults: VecDeque<(i64, Fault)>,
    doing: Option<Doing>,
    backlog: VecDeque<Parcel>,
}

#[derive(Debug)]
enum Doing {
    Off { until: i64, alert_at: Option<i64> },
    Losing { left: i64 },
    Offline { until: i64, trickles: bool },
}

impl Device {
    pub(super) fn new(index: u32, kind: GatewayKind, seed: u64, timetable: &Timetable) -> Device {
        Device {
            index,
            kind,
            book: Book::default(),
            number: 0,
            skew: plan::skew(seed, index),
            known: !index.is_multiple_of(3),
            bed: index,
            faults: timetable.faults(seed, index).into(),
            doing: None,
            backlog: VecDeque::new(),
        }
    }

    /// It reports at this second of the minute.
    pub(super) fn phase(&self) -> i64 {
        i64::from(self.index) % INTERVAL
    }

    /// What it gives its gateway at `at`, seconds from the start, when a report is due.
    pub(super) fn report(&mut self, at: i64) -> Vec<Parcel> {
        self.begin(at);
        let live = match self.doing.take() {
            None => return self.send_with_backlog(at),
            Some(Doing::Off { until, .. }) if at >= until => return self.send_with_backlog(at),
            Some(Doing::Off { until, alert_at }) => {
                let alert = alert_at.filter(|due| at >= *due).map(|_| self.parcel(at, Topic::Alert));
                let alert_at = if alert.is_some() { None } else { alert_at };
                self.doing = Some(Doing::Off { until, alert_at });
                return alert.into_iter().collect();
            }
            Some(Doing::Losing { left: 0 }) => return self.send_with_backlog(at),
            Some(Doing::Losing { left }) => {
                self.doing = Some(Doing::Losing { left: left - 1 });
                Parcel { lost: true, ..self.parcel(at, Topic::Report) }
            }
            Some(Doing::Offline { until, trickles }) if at >= until => {
                let live = self.parcel(at, Topic::Report);
                if trickles {
                    let few = self.backlog.len().min(TRICKLE);
                    self.book.trickles(self.kind, self.backlog.len() - few);
                    return std::iter::once(live).chain(self.backlog.drain(..few)).collect();
                }
                return self.backlog.drain(..).chain([live]).collect();
            }
            Some(Doing::Offline { until, trickles }) => {
                let parcel = self.parcel(at, Topic::Report);
                self.backlog.push_back(parcel);
                self.doing = Some(Doing::Offline { until, trickles });
                return Vec::new();
            }
        };
        vec![live]
    }

    fn send_with_backlog(&mut self, at: i64) -> Vec<Parcel> {
        let times = std::mem::take(&mut self.book.repeat_next) + 1;
        let live = Parcel { times, ..self.parcel(at, Topic::Report) };
        let few = self.backlog.len().min(TRICKLE);
        std::iter::once(live).chain(self.backlog.drain(..few)).collect()
    }

    /// Begins what is planned for now.
    fn begin(&mut self, at: i64) {
        let Some((_, fault)) = self.faults.pop_front_if(|(due, _)| *due <= at) else { return };
        self.book.begun(fault);
        match fault {
            Fault::Pause { reports } => self.off(at, reports * INTERVAL, false),
            Fault::Silence { minutes, alert } => self.off(at, minutes * 60, alert),
            Fault::Lost { messages } => {
                self.book.loses(self.kind, messages);
                self.doing = Some(Doing::Losing { left: messages });
            }
            Fault::Repeat { times } => {
                self.book.repeat_next = times;
                self.book.repeats(self.kind, times);
            }
            Fault::Offline { minutes, trickles } => {
                self.doing = Some(Doing::Offline { until: at + minutes * 60, trickles });
            }
            Fault::ClockSet { seconds } => {
                self.skew += seconds;
                self.book.clock_sets.push(seconds);
            }
            Fault::PatientKnown => self.known = true,
            Fault::BedSwap => self.bed += 1,
        }
    }

    fn off(&mut self, at: i64, seconds: i64, alert: bool) {
        let until = at + seconds;
        self.doing = Some(Doing::Off { until, alert_at: alert.then_some(at + seconds / 2) });
    }

    fn parcel(&mut self, at: i64, topic: Topic) -> Parcel {
        self.number += 1;
        let number = match self.kind {
            GatewayKind::ByGateway => None,
            // As from a clock that counts in its own unit: no two are one apart.
            GatewayKind::Ticks => Some(1_000_000 + (at * 10_007 + i64::from(self.index) * 13) as u64),
            GatewayKind::ByDevice | GatewayKind::OneEach => Some(self.number),
        };
        let (known, bed, skew) = (self.known, self.bed, self.skew);
        let told = Told { topic, at, skew, known, bed };
        Parcel { device: self.index, told, number, times: 1, lost: false }
    }
}
