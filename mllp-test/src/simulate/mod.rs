//! Simulated gateways: infusion pumps and CGMs that live, fail and report over MLLP. What a device says depends only on
//! the seed and the time, so a run can be repeated; when it is sent depends on the clock and the receiver.

mod cgm;
mod pump;
#[cfg(test)]
mod tests;
pub mod ward;

pub use cgm::{Cgm, Reading};
pub use pump::{Mode, Pump, Topic};

use crate::account::{SenderAccount, SenderBook};
use crate::id::{Kind, MessageId};
use crate::load::new_run;
use crate::sender::{self, Outbound, SenderConfig};
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Later than any run ends.
const NEVER_SECONDS: f64 = 1e9;

/// Which devices report where, and how fast.
#[derive(Debug, Clone)]
pub struct SimulationConfig {
    /// How each connection behaves; the address is the pump gateways'.
    pub sender: SenderConfig,
    /// Where the CGM gateways send, if elsewhere.
    pub cgm_address: Option<String>,
    /// Where pump alarms (PCD-04) go, over a connection of their own, if elsewhere.
    pub alarm_address: Option<String>,
    /// How many pumps. They are senders 0, 1, 2 …
    pub pumps: u32,
    /// How many CGMs. They are the senders after the pumps.
    pub cgms: u32,
    /// Connections for each kind of device; 0 gives each device its own.
    pub connections: u32,
    /// Simulated time between two reports of a pump.
    pub pump_interval: Duration,
    /// Messages a second in all: pumps then report as often as that needs, or without pumps time runs as fast.
    pub rate: Option<f64>,
    /// How much faster than real time the devices live.
    pub speed: f64,
    /// When the devices' time begins.
    pub start: Timestamp,
    /// Ends after so many messages.
    pub messages: Option<u64>,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// The run number in every id.
    pub run: u32,
    /// A word to plant as patients' family name.
    pub canary: Option<String>,
    /// The ledger file.
    pub ledger: Option<PathBuf>,
}

impl SimulationConfig {
    /// Twenty pumps and ten CGMs in real time, one connection for each kind.
    pub fn to(address: impl Into<String>) -> SimulationConfig {
        SimulationConfig {
            sender: SenderConfig { window: 16, ..SenderConfig::to(address) },
            cgm_address: None,
            alarm_address: None,
            pumps: 20,
            cgms: 10,
            connections: 1,
            pump_interval: Duration::from_secs(5),
            rate: None,
            speed: 1.0,
            start: Timestamp::now(),
            messages: None,
            seed: 1,
            run: new_run(),
            canary: None,
            ledger: None,
        }
    }

    /// Pump interval and speed that give the wanted rate.
    fn pace(&self) -> (Duration, f64) {
        let Some(rate) = self.rate.filter(|&rate| rate > 0.0) else { return (self.pump_interval, self.speed) };
        let cgm_rate = f64::from(self.cgms) / cgm::INTERVAL_SECONDS as f64;
        if self.pumps == 0 {
            return (self.pump_interval, rate / cgm_rate.max(f64::MIN_POSITIVE));
        }
        let pump_rate = (rate - cgm_rate * self.speed).max(rate / 10.0);
        (Duration::from_secs_f64(f64::from(self.pumps) / pump_rate * self.speed), self.speed)
    }
}

/// Running gateways.
#[derive(Debug)]
pub struct Simulation {
    book: Arc<SenderBook>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Simulation {
    /// Starts all gateways. Receivers that are not there yet are tried again and again.
    pub fn start(config: SimulationConfig) -> io::Result<Simulation> {
        let book = Arc::new(SenderBook::open(config.ledger.as_deref())?);
        let (stop, stopped) = watch::channel(false);
        let left = Arc::new(AtomicU64::new(config.messages.unwrap_or(u64::MAX)));
        let mut tasks = JoinSet::new();
        for (address, devices) in gateways(&config) {
            let mut connect = |address: &str| {
                let (give, take) = mpsc::channel(64);
                let sender = SenderConfig { address: address.to_owned(), ..config.sender.clone() };
                tasks.spawn(sender::run(sender, take, book.clone()));
                give
            };
            let give = connect(&address);
            let has_alarms = devices.iter().any(|device| matches!(device.what, What::Pump(..)));
            let give_alarms = config.alarm_address.as_deref().filter(|_| has_alarms).map(&mut connect);
            let gateway = Gateway { config: config.clone(), left: left.clone(), give, give_alarms };
            tasks.spawn(gateway.live(devices, stopped.clone()));
        }
        Ok(Simulation { book, stop, tasks })
    }

    /// The account as it stands.
    pub fn account(&self) -> SenderAccount {
        self.book.account()
    }

    /// Messages sent and acknowledged so far, without copying the account.
    pub fn progress(&self) -> (u64, u64) {
        self.book.with(|account| (account.sent, account.acked))
    }

    /// Waits until the wanted number of messages is answered or given up. May be dropped and called again.
    pub async fn finished(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Makes no new messages, waits for outstanding answers (as long as `drain` allows) and gives the account.
    pub async fn stop(mut self) -> SenderAccount {
        let _ = self.stop.send(true);
        self.finished().await;
        self.book.account()
    }
}

/// The devices of each connection.
fn gateways(config: &SimulationConfig) -> Vec<(String, Vec<Device>)> {
    let (interval, _) = config.pace();
    let cgm_address = config.cgm_address.as_ref().unwrap_or(&config.sender.address);
    let pumps = (0..config.pumps).map(|index| Device::pump(config, index, interval)).collect();
    let cgms = (0..config.cgms).map(|index| Device::cgm(config, index)).collect();
    let mut gateways = share(pumps, config.connections, &config.sender.address);
    gateways.extend(share(cgms, config.connections, cgm_address));
    gateways
}

fn share(devices: Vec<Device>, connections: u32, address: &str) -> Vec<(String, Vec<Device>)> {
    let connections = if connections == 0 { devices.len() } else { devices.len().min(connections as usize) };
    let mut shares: Vec<(String, Vec<Device>)> = (0..connections).map(|_| (address.to_owned(), Vec::new())).collect();
    for (number, device) in devices.into_iter().enumerate() {
        shares[number % connections].1.push(device);
    }
    shares
}

/// A device with the time of its next report; its `sender` number is its place in the ids.
#[derive(Debug, Clone)]
pub struct Device {
    /// When it reports next, in its own time.
    pub due: Timestamp,
    sender: u32,
    seq: u64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Pump(Box<Pump>, SignedDuration),
    Cgm(Cgm),
}

impl Device {
    /// A pump that reports each `interval`.
    pub fn pump(config: &SimulationConfig, index: u32, interval: Duration) -> Device {
        let nanos = interval.as_nanos() as f64 * f64::from(index) / f64::from(config.pumps.max(1));
        let due = config.start + SignedDuration::from_nanos(nanos as i64);
        let interval = SignedDuration::from_nanos(interval.as_nanos().clamp(1_000, 1 << 62) as i64);
        let pump = Pump::new(index, config.seed, config.start);
        Device { due, sender: index, seq: 0, what: What::Pump(Box::new(pump), interval) }
    }

    /// A CGM.
    pub fn cgm(config: &SimulationConfig, index: u32) -> Device {
        let due = cgm::next_due(config.start, index);
        Device { due, sender: config.pumps + index, seq: 0, what: What::Cgm(Cgm::new(index, config.seed)) }
    }

    /// The messages due now; afterwards `due` is the time of the next.
    pub fn report(&mut self, run: u32, canary: Option<&str>) -> Vec<Outbound> {
        let at = self.due;
        let (sender, mut seq) = (self.sender, self.seq);
        let mut next_id = || {
            seq += 1;
            MessageId { run, sender, seq }
        };
        let canary = canary.map(str::to_owned);
        let messages = match &mut self.what {
            What::Pump(pump, interval) => {
                self.due = at + *interval;
                let tell = |(topic, pump): (Topic, Pump)| {
                    let id = next_id();
                    Outbound { id, kind: topic.kind(), message: pump.message(topic, id, canary.clone()) }
                };
                pump.advance(at).into_iter().map(tell).collect()
            }
            What::Cgm(cgm) => {
                self.due = at + SignedDuration::from_secs(cgm::INTERVAL_SECONDS);
                let id = next_id();
                vec![Outbound { id, kind: Kind::R01, message: cgm.message(at, id, canary) }]
            }
        };
        self.seq = seq;
        messages
    }
}

struct Gateway {
    config: SimulationConfig,
    left: Arc<AtomicU64>,
    give: mpsc::Sender<Outbound>,
    give_alarms: Option<mpsc::Sender<Outbound>>,
}

impl Gateway {
    async fn live(self, devices: Vec<Device>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = crate::peer::stopped(&mut stop) => {}
            () = self.report_all(devices) => {}
        }
    }

    async fn report_all(&self, mut devices: Vec<Device>) {
        let started = Instant::now();
        let (_, speed) = self.config.pace();
        let mut next: BinaryHeap<_> =
            devices.iter().enumerate().map(|(number, device)| Reverse((device.due, number))).collect();
        while let Some(Reverse((due, number))) = next.pop() {
            let passed = due.duration_since(self.config.start).as_secs_f64() / speed;
            sleep_until(started + Duration::from_secs_f64(passed.clamp(0.0, NEVER_SECONDS))).await;
            let device = &mut devices[number];
            for outbound in device.report(self.config.run, self.config.canary.as_deref()) {
                let give = self.give_alarms.as_ref().filter(|_| outbound.kind == Kind::R40).unwrap_or(&self.give);
                if !self.take_one() || give.send(outbound).await.is_err() {
                    return;
                }
            }
            next.push(Reverse((device.due, number)));
        }
    }

    fn take_one(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}
