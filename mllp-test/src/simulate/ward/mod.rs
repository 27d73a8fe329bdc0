//! A ward that lives a day in minutes: every device reports each minute, and several times a day something goes wrong with
//! it. What went wrong is in the books, and at the end, and each hour, the engine is asked what it noticed.
//!
//! The engine's clock is told by the ward, so that a minute is one for both: without that, silence would be measured in
//! time that did not pass. What must never happen: a fault that is not told, or one told that did not happen, passes.

mod book;
mod compare;
mod device;
mod line;
mod message;
mod plan;
mod process;

pub use plan::{Fault, Timetable};
pub use process::{Process, channel};

use device::{Device, Parcel};
use jiff::{SignedDuration, Timestamp};
use line::Line;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Seconds between two reports of a device.
const INTERVAL: i64 = 60;
/// Seconds the ward's time moves at once.
const STEP: i64 = 10;
/// Devices behind a gateway, at most.
const BEHIND_GATEWAY: u32 = 50;
/// Seconds the engine is down when it is restarted.
const DOWN: i64 = 1_200;
const HOUR: i64 = 3_600;

/// The engine that is watched.
pub trait Host {
    /// Where gateways send.
    fn listener(&self) -> SocketAddr;
    /// Where its API is.
    fn admin(&self) -> SocketAddr;
    /// Sets its clock. It goes on from there only when told again.
    fn tell(&mut self, at: Timestamp) -> Result<(), String>;
    /// Stops it in order.
    fn stop(&mut self) -> impl Future<Output = Result<(), String>>;
    /// Starts it again and waits until it takes messages.
    fn start(&mut self) -> impl Future<Output = Result<(), String>>;
}

/// How large a ward, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct WardConfig {
    /// How many devices.
    pub devices: u32,
    /// How long, in the ward's minutes.
    pub minutes: i64,
    /// At most so many times faster than real time; 0: as fast as the answers come.
    pub compress: f64,
    /// The engine is stopped once, for 20 minutes of the ward.
    pub restart: bool,
    /// Decides what goes wrong.
    pub seed: u64,
    /// When the ward's time begins.
    pub start: Timestamp,
}

/// Who numbers the messages behind a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayKind {
    /// Each device, behind its own name in the same sender's ids.
    ByDevice,
    /// Each device, which is a sender of its own.
    OneEach,
    /// The gateway, all its devices together.
    ByGateway,
    /// Nobody: the ids are times.
    Ticks,
}

const KINDS: [GatewayKind; 4] =
    [GatewayKind::ByDevice, GatewayKind::OneEach, GatewayKind::ByGateway, GatewayKind::Ticks];

/// What was tried and what was found.
#[derive(Debug, Clone, Serialize)]
pub struct WardReport {
    /// Devices in the ward.
    pub devices: u32,
    /// Time of the ward in hours.
    pub hours: f64,
    /// Times faster than real time.
    pub compressed: f64,
    /// Messages sent, every one acknowledged.
    pub messages: u64,
    /// Silences in the books.
    pub silences: u64,
    /// Messages lost on the way to the engine.
    pub lost: u64,
    /// What went wrong how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Where the engine tells otherwise.
    pub found: Vec<String>,
}

impl WardReport {
    /// All that went wrong was told, and nothing else. A ward in which nothing went wrong proves nothing.
    pub fn passed(&self) -> bool {
        self.found.is_empty() && !self.faults.is_empty()
    }
}

impl fmt::Display for WardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WardReport { devices, hours, compressed, messages, silences, lost, .. } = self;
        writeln!(
            f,
            "{devices} devices for {hours} h, {compressed:.0} times as fast: {messages} messages acknowledged"
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        writeln!(f, "went wrong: {}", faults.join(", "))?;
        self.found.iter().try_for_each(|found| writeln!(f, "  {found}"))?;
        let told = self.found.len();
        write!(f, "{silences} silences and {lost} lost messages in the books; the engine tells otherwise {told} times")
    }
}

/// Runs the ward against an engine that is started already.
pub async fn run(config: WardConfig, host: &mut impl Host) -> Result<WardReport, String> {
    let mut ward = Ward::new(config);
    let begun = Instant::now();
    let end = config.minutes * 60;
    let mut now = 0;
    while now < end {
        now += STEP;
        if config.compress > 0.0 {
            sleep_until(begun + Duration::from_secs_f64(now as f64 / config.compress)).await;
        }
        ward.step(now, host).await?;
    }
    ward.settle(now, host).await?;
    Ok(ward.report(begun.elapsed()))
}

struct Gateway {
    kind: GatewayKind,
    number: u64,
    /// The last number was lost.
    losing: bool,
    line: Option<Line>,
    queue: VecDeque<Parcel>,
}

struct Ward {
    config: WardConfig,
    timetable: Timetable,
    devices: Vec<Device>,
    gateways: Vec<Gateway>,
    /// When the engine was started.
    up_since: i64,
    down_until: Option<i64>,
    found: Vec<String>,
}

impl Ward {
    fn new(config: WardConfig) -> Ward {
        let timetable = Timetable::of(config.minutes, config.restart);
        let gateways = (config.devices.div_ceil(BEHIND_GATEWAY)).max(4);
        let kind = |gateway: u32| KINDS[gateway as usize % KINDS.len()];
        let device = |index: u32| Device::new(index, kind(index % gateways), config.seed, &timetable);
        let gateway =
            |number| Gateway { kind: kind(number), number: 0, losing: false, line: None, queue: VecDeque::new() };
        Ward {
            config,
            timetable,
            devices: (0..config.devices).map(device).collect(),
            gateways: (0..gateways).map(gateway).collect(),
            up_since: 0,
            down_until: None,
            found: Vec::new(),
        }
    }

    async fn step(&mut self, now: i64, host: &mut impl Host) -> Result<(), String> {
        host.tell(self.config.start + SignedDuration::from_secs(now))?;
        let gateways = self.gateways.len();
        for device in &mut self.devices {
            // The one time in the step that is its second of the minute, if there is one.
            let due = now - (now - device.phase()).rem_euclid(INTERVAL);
            if due > now - STEP {
                let parcels = device.report(due);
                self.gateways[device.index as usize % gateways].queue.extend(parcels);
            }
        }
        self.restart(now, host).await?;
        if self.down_until.is_some() {
            return Ok(());
        }
        self.send(now, host.listener()).await?;
        if now % HOUR == 0 {
            let told = compare::devices(host.admin(), "&state=silent").await?;
            self.found.extend(compare::silences_now(&self.devices, &told, now, self.up_since));
        }
        Ok(())
    }

    /// Stops the engine when that is due, and starts it again.
    async fn restart(&mut self, now: i64, host: &mut impl Host) -> Result<(), String> {
        if self.timetable.restart_at().is_some_and(|minute| minute * 60 == now) {
            self.gateways.iter_mut().for_each(|gateway| gateway.line = None);
            self.down_until = Some(now + DOWN);
            return host.stop().await;
        }
        if self.down_until.is_some_and(|until| now >= until) {
            host.start().await?;
            (self.down_until, self.up_since) = (None, now);
        }
        Ok(())
    }

    /// Sends all that is queued, and writes down what arrived.
    async fn send(&mut self, now: i64, address: SocketAddr) -> Result<(), String> {
        let mut sending = JoinSet::new();
        for number in 0..self.gateways.len() {
            let messages = self.messages(number, now);
            if !messages.is_empty() {
                let line = self.gateways[number].line.take();
                sending.spawn(async move { send_over(line, address, messages).await.map(|line| (number, line)) });
            }
        }
        while let Some(sent) = sending.join_next().await {
            let (number, line) = sent.map_err(|fault| fault.to_string())??;
            self.gateways[number].line = Some(line);
        }
        Ok(())
    }

    /// What is queued at a gateway, written down as arrived.
    fn messages(&mut self, number: usize, now: i64) -> Vec<(String, Vec<u8>)> {
        let gateway = &mut self.gateways[number];
        let mut messages = Vec::new();
        while let Some(Parcel { device, told, number: own, times, lost }) = gateway.queue.pop_front() {
            gateway.number += 1;
            let book = &mut self.devices[device as usize].book;
            let lost_before = std::mem::replace(&mut gateway.losing, lost);
            if lost {
                if gateway.kind == GatewayKind::ByGateway {
                    book.missing += 1;
                    book.gaps += u64::from(!lost_before);
                }
                continue;
            }
            let id = own.unwrap_or(gateway.number);
            let message = message::write(self.config.start, number, gateway.kind, device, id, &told);
            let control_id = message::control_id(gateway.kind, device, id);
            for _ in 0..times {
                messages.push((control_id.clone(), message.clone()));
                book.messages += 1;
                if told.topic == message::Topic::Report {
                    book.arrived(told.at, now, self.up_since);
                }
            }
        }
        messages
    }

    /// Waits out what takes time to be told, and compares everything.
    async fn settle(&mut self, now: i64, host: &mut impl Host) -> Result<(), String> {
        host.tell(self.config.start + SignedDuration::from_secs(now + 60))?;
        let told = compare::devices(host.admin(), "").await?;
        if told.len() != self.devices.len() {
            self.found.push(format!("{} devices are told, {} reported", told.len(), self.devices.len()));
        }
        for device in &self.devices {
            let Some(id) = told.get(&compare::name(device)).and_then(|told| told["id"].as_u64()) else {
                self.found.push(format!("{} is not told of", compare::name(device)));
                continue;
            };
            let status = compare::json(host.admin(), &format!("/api/devices/{id}")).await?;
            self.found.extend(compare::device(device, &status, self.config.start));
        }
        self.compare_sequences(&told);
        Ok(())
    }

    fn compare_sequences(&mut self, told: &BTreeMap<String, Value>) {
        for (number, gateway) in self.gateways.iter().enumerate() {
            let behind = self.devices.iter().filter(|device| device.index as usize % self.gateways.len() == number);
            let behind: Vec<&Device> = behind.collect();
            let groups: Vec<&[&Device]> = match gateway.kind {
                GatewayKind::ByGateway | GatewayKind::Ticks => vec![&behind[..]],
                _ => behind.chunks(1).collect(),
            };
            self.found.extend(groups.into_iter().flat_map(|group| compare::sequences(group, told)));
        }
    }

    fn report(self, took: Duration) -> WardReport {
        let mut faults = BTreeMap::new();
        for fault in self.devices.iter().flat_map(|device| &device.book.faults) {
            *faults.entry(fault.name()).or_default() += 1;
        }
        let sum = |of: fn(&Device) -> u64| self.devices.iter().map(of).sum();
        WardReport {
            devices: self.config.devices,
            hours: self.config.minutes as f64 / 60.0,
            compressed: self.config.minutes as f64 * 60.0 / took.as_secs_f64().max(0.001),
            messages: sum(|device| device.book.messages),
            silences: sum(|device| device.book.silences.len() as u64),
            lost: sum(|device| device.book.missing),
            faults,
            found: self.found,
        }
    }
}

async fn send_over(line: Option<Line>, address: SocketAddr, messages: Vec<(String, Vec<u8>)>) -> Result<Line, String> {
    let mut line = match line {
        Some(line) => line,
        None => Line::connect(address).await?,
    };
    line.send(&messages).await?;
    Ok(line)
}
