//! One running system: a folder, a loopback address of its own with fixed ports, destinations, gateways and the engine
//! between them. Nothing here knows which fault is being tried.

use super::broken::{Broken, Column, ensure};
use super::engine::{Engine, PATIENCE};
use super::traffic::{Traffic, TrafficPlan};
use super::{Tally, Tools, channels};
use crate::account::{Expect, SinkAccount};
use crate::fhir_sink::FhirAction;
use crate::script::Script;
use crate::sink::SinkAction;
use crate::{FhirSink, FhirSinkConfig, Kind, Sink, SinkConfig};
use std::any::Any;
use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The engine's API.
pub const ADMIN_PORT: u16 = 8575;
/// Messages that a lane settles a second on a disk shared with much else.
const SETTLED_A_SECOND: u64 = 10;
const POLL: Duration = Duration::from_millis(5);

/// What a site is made of. The default: gateways to port 2575, from there to `legacy` and `ehr`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Channel files by name; see [`channels`].
    pub channels: Vec<(&'static str, String)>,
    /// Destinations.
    pub receivers: Vec<ReceiverPlan>,
    /// Gateways.
    pub traffic: Vec<TrafficPlan>,
    /// Further lines of `[store]`.
    pub store: String,
    /// Further tables of cannula.toml.
    pub tables: String,
    /// Where the store is; relative to the folder.
    pub store_path: PathBuf,
    /// Which engine; the one under test if not given.
    pub engine: Option<PathBuf>,
    /// Set for the engine only.
    pub envs: Vec<(String, String)>,
    /// A command in front of the engine.
    pub wrapper: Vec<String>,
    /// Whether the engine may refuse messages, as on a full disk.
    pub refusals: bool,
    /// The most resident memory.
    pub rss_bytes_max: u64,
    /// The most open files.
    pub open_files_max: u64,
    /// How long the backlog may take to drain once all is healed.
    pub drain: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            channels: vec![("pumps", channels::to_legacy_and_ehr())],
            receivers: vec![ReceiverPlan::mllp("legacy", 6661), ReceiverPlan::fhir("ehr", 8080)],
            traffic: vec![TrafficPlan::USUAL],
            store: String::new(),
            tables: String::new(),
            store_path: PathBuf::from("store"),
            engine: None,
            envs: Vec::new(),
            wrapper: Vec::new(),
            refusals: false,
            rss_bytes_max: 512 << 20,
            open_files_max: 1024,
            drain: Duration::from_secs(60),
        }
    }
}

impl Plan {
    /// Only the strict lane to `legacy`.
    pub fn strict() -> Plan {
        Plan {
            channels: vec![("pumps", channels::to_legacy())],
            receivers: vec![ReceiverPlan::mllp("legacy", 6661)],
            ..Plan::default()
        }
    }
}

/// A destination that keeps the books.
#[derive(Debug, Clone)]
pub struct ReceiverPlan {
    /// As in the channel file.
    pub name: &'static str,
    /// Its own port.
    pub port: u16,
    /// The port the engine is given, where a proxy stands in front.
    pub via: Option<u16>,
    /// A FHIR server rather than an MLLP receiver.
    pub fhir: bool,
    /// Rules by which it misbehaves; see [`crate::script`].
    pub script: Vec<String>,
    /// Lanes of the engine to it: each may repeat one message for each fault.
    pub lanes: u64,
    /// What belongs there.
    pub expects: Expect,
    /// Whether it must get the very bytes that were sent.
    pub verbatim: bool,
    /// Whether each sender's messages must come in order; not where they come by more than one channel.
    pub ordered: bool,
}

impl ReceiverPlan {
    /// An MLLP receiver behind one lane that gets everything unchanged.
    pub fn mllp(name: &'static str, port: u16) -> ReceiverPlan {
        ReceiverPlan {
            name,
            port,
            via: None,
            fhir: false,
            script: Vec::new(),
            lanes: 1,
            expects: Expect::all(),
            verbatim: true,
            ordered: true,
        }
    }

    /// A FHIR server behind four lanes that gets observations.
    pub fn fhir(name: &'static str, port: u16) -> ReceiverPlan {
        let expects = Expect::kinds(&[Kind::R01]);
        ReceiverPlan { fhir: true, lanes: 4, verbatim: false, expects, ..ReceiverPlan::mllp(name, port) }
    }
}

/// A destination that runs.
#[derive(Debug)]
pub enum Receiver {
    /// Over MLLP.
    Mllp(Sink),
    /// Over FHIR.
    Fhir(FhirSink),
}

impl Receiver {
    /// Its account as it stands.
    pub fn account(&self) -> SinkAccount {
        match self {
            Receiver::Mllp(sink) => sink.account(),
            Receiver::Fhir(sink) => sink.account(),
        }
    }

    /// Times a message came that was taken already.
    pub fn repeats(&self) -> u64 {
        match self {
            Receiver::Mllp(sink) => sink.repeats(),
            Receiver::Fhir(sink) => sink.repeats(),
        }
    }

    /// Different messages taken so far.
    pub fn received(&self) -> u64 {
        match self {
            Receiver::Mllp(sink) => sink.received(),
            Receiver::Fhir(sink) => sink.received(),
        }
    }

    /// Stops listening and closes every connection.
    pub async fn down(&self) {
        match self {
            Receiver::Mllp(sink) => sink.down().await,
            Receiver::Fhir(sink) => sink.down().await,
        }
    }

    /// Listens again.
    pub async fn up(&self) -> Result<(), Broken> {
        match self {
            Receiver::Mllp(sink) => sink.up().await?,
            Receiver::Fhir(sink) => sink.up().await?,
        }
        Ok(())
    }

    async fn start(plan: &ReceiverPlan, address: SocketAddr, ledger: PathBuf) -> Result<Receiver, Broken> {
        let (address, rules) = (address.to_string(), plan.script.iter().map(String::as_str));
        if plan.fhir {
            let script = Script::<FhirAction>::parse(rules).map_err(Broken::checker)?;
            let config = FhirSinkConfig { script, ledger: Some(ledger), ..FhirSinkConfig::default() };
            return Ok(Receiver::Fhir(FhirSink::start(&address, config).await?));
        }
        let script = Script::<SinkAction>::parse(rules).map_err(Broken::checker)?;
        let config = SinkConfig { script, ledger: Some(ledger), verbatim: plan.verbatim, ..SinkConfig::default() };
        Ok(Receiver::Mllp(Sink::start(&address, config).await?))
    }
}

/// A running system.
pub struct Site {
    /// Configuration, store, log and ledgers.
    pub folder: PathBuf,
    /// Its own loopback address.
    pub address: Ipv4Addr,
    /// What it was made of.
    pub plan: Plan,
    /// What this machine has.
    pub tools: Tools,
    /// The engine.
    pub engine: Engine,
    /// Destinations by name.
    pub receivers: HashMap<&'static str, Receiver>,
    /// Gateways, as in the plan.
    pub traffic: Vec<Traffic>,
    /// Things of the fault's own that must live as long as the site, such as proxies.
    pub props: HashMap<&'static str, Box<dyn Any + Send + Sync>>,
    /// Figures so far; the audit completes them.
    pub tally: Tally,
    /// Family name of every patient; must be seen nowhere but in messages.
    pub canary: String,
    /// Promises seen broken that do not end the cycle.
    pub broken: Vec<Broken>,
    marks: Marks,
}

/// What the engine's own count of possible repeats is held against. The count dies with a life of the engine.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    /// Whether the engine counts at all.
    counted: bool,
    /// Repeats that came in lives whose count is known, and before it was read.
    owed: u64,
    /// Repeats at the start of this life.
    before: u64,
    /// Lives ended by a kill: what was on its way then, one message a lane, may have come and not been counted.
    killed: u64,
}

impl Site {
    /// Makes the folder, writes the configuration and starts the destinations; neither engine nor gateways run yet.
    pub async fn open(folder: &Path, plan: Plan, tools: &Tools, seed: u64) -> Result<Site, Broken> {
        fs::create_dir_all(folder.join("channels/tables"))?;
        let folder = folder.canonicalize()?;
        let address = own_address();
        let mut receivers = HashMap::new();
        for receiver in &plan.receivers {
            let ledger = folder.join(format!("{}.ledger", receiver.name));
            let at = SocketAddr::from((address, receiver.port));
            receivers.insert(receiver.name, Receiver::start(receiver, at, ledger).await?);
        }
        let run = seed as u32 & !0xff;
        let canary = format!("ZYX{run:08X}QVW");
        let mut traffic = Vec::new();
        for (run, plan) in (run..).zip(&plan.traffic) {
            let ledger = folder.join(format!("{}.ledger", plan.name));
            let to = SocketAddr::from((address, plan.port));
            traffic.push(Traffic::new(plan.clone(), to, run, &canary, &ledger)?);
        }
        let binary = plan.engine.as_ref().unwrap_or(&tools.engine);
        let mut engine = Engine::new(binary, &folder, SocketAddr::from((address, ADMIN_PORT)));
        (engine.envs, engine.wrapper) = (plan.envs.clone(), plan.wrapper.clone());
        let (tools, props) = (tools.clone(), HashMap::new());
        let (tally, broken) = (Tally::default(), Vec::new());
        let site = Site {
            folder,
            address,
            plan,
            tools,
            engine,
            receivers,
            traffic,
            props,
            tally,
            canary,
            broken,
            marks: Marks::default(),
        };
        site.configure()?;
        Ok(site)
    }

    /// Writes cannula.toml and the channel files of the plan.
    pub fn configure(&self) -> Result<(), Broken> {
        let (store, path, tables) = (&self.plan.store, self.plan.store_path.display(), &self.plan.tables);
        let admin = format!("[admin]\nlisten = \"{}\"\n", self.engine.admin);
        fs::write(self.folder.join("cannula.toml"), format!("[store]\npath = \"{path}\"\n{store}\n{admin}{tables}"))?;
        self.plan.channels.iter().try_for_each(|(name, text)| self.write_channel(name, text))
    }

    /// Writes one channel file, see [`channels`] for its placeholders. The engine's folder watch sees it.
    pub fn write_channel(&self, name: &str, text: &str) -> Result<(), Broken> {
        let mut text = text.to_owned();
        // A longer name first: it may begin with a shorter one.
        let mut receivers: Vec<&ReceiverPlan> = self.plan.receivers.iter().collect();
        receivers.sort_by_key(|receiver| std::cmp::Reverse(receiver.name.len()));
        for receiver in receivers {
            let at = format!("{}:{}", self.address, receiver.via.unwrap_or(receiver.port));
            text = text.replace(&format!("@{}", receiver.name), &at);
        }
        let text = text.replace('@', &format!("{}:", self.address));
        // Never half a file: it is written beside and moved in.
        let (beside, file) = (self.folder.join("channel.new"), self.folder.join(format!("channels/{name}.toml")));
        fs::write(&beside, text)?;
        Ok(fs::rename(&beside, file)?)
    }

    /// Starts engine and gateways and sees them at work.
    pub async fn start(&mut self) -> Result<(), Broken> {
        self.start_engine().await?;
        self.traffic.iter_mut().for_each(Traffic::start);
        self.under_load(20).await
    }

    /// Starts the engine, and notes how long that took.
    pub async fn start_engine(&mut self) -> Result<(), Broken> {
        self.marks.before = self.repeats();
        let took = self.engine.start().await?;
        self.tally.start_ms = self.tally.start_ms.max(took.as_millis() as u64);
        Ok(())
    }

    /// Starts the engine and does not wait for it.
    pub fn spawn_engine(&mut self) -> Result<(), Broken> {
        self.marks.before = self.repeats();
        self.engine.spawn()
    }

    /// Stops the engine; broken unless it ends with 0.
    pub async fn quit(&mut self) -> Result<(), Broken> {
        self.note_marks().await;
        self.engine.stop().await.map(|_| ())
    }

    /// SIGKILL and start again, a declared fault.
    pub async fn kill_and_start(&mut self) -> Result<(), Broken> {
        self.kill().await?;
        self.start_engine().await
    }

    /// SIGKILL, a declared fault. The marks it has counted are noted first: they die with it.
    pub async fn kill(&mut self) -> Result<(), Broken> {
        self.note_marks().await;
        self.marks.killed += 1;
        self.engine.kill().await?;
        self.injected(1);
        Ok(())
    }

    /// Adds the engine's count of possible repeats to the tally. Once before each end of the engine that can be seen
    /// coming; a life whose end could not be seen owes no marks.
    pub async fn note_marks(&mut self) {
        // Before the count is read: what comes after may or may not be in it.
        let repeats = self.repeats();
        if let Ok(Some(marked)) = self.engine.metric("cannula_redelivered_total", "").await {
            self.marks.counted = true;
            self.tally.marked += marked as u64;
            self.marks.owed += repeats - self.marks.before;
            self.marks.before = repeats;
        }
    }

    /// Repeats that came without the engine having marked them.
    pub fn unmarked(&self) -> u64 {
        let lanes: u64 = self.plan.receivers.iter().map(|receiver| receiver.lanes).sum();
        let marked = self.tally.marked + self.marks.killed * lanes;
        if self.marks.counted { self.marks.owed.saturating_sub(marked) } else { 0 }
    }

    /// Declares faults: each allows one repeat for each lane.
    pub fn injected(&mut self, faults: u64) {
        self.tally.faults += faults;
    }

    /// Messages acknowledged so far by all gateways.
    pub fn acked(&self) -> u64 {
        self.traffic.iter().map(Traffic::acked).sum()
    }

    /// Deliveries so far of what was delivered already, over all destinations.
    pub fn repeats(&self) -> u64 {
        self.receivers.values().map(Receiver::repeats).sum()
    }

    /// Waits until so many more messages are acknowledged: the engine is at work.
    pub async fn under_load(&self, messages: u64) -> Result<(), Broken> {
        let (wanted, until) = (self.acked() + messages, Instant::now() + PATIENCE);
        while self.acked() < wanted {
            ensure(Instant::now() < until, Column::Liveness, || {
                format!("nothing is acknowledged any more: {}", self.engine.last_words())
            })?;
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until nothing waits for delivery, and notes how long that took. Broken when for `patience` nothing moves, or
    /// when it all takes longer than even a slow disk needs to settle what waits.
    pub async fn drained(&mut self, patience: Duration) -> Result<(), Broken> {
        let begun = Instant::now();
        let (mut least, mut moved) = (u64::MAX, begun);
        let mut allowed = None;
        loop {
            let waiting = self.engine.json("/api/store").await?["waiting"].as_u64().unwrap_or(u64::MAX);
            if waiting == 0 {
                self.tally.drain_ms = self.tally.drain_ms.max(begun.elapsed().as_millis() as u64);
                return Ok(());
            }
            if waiting < least {
                (least, moved) = (waiting, Instant::now());
            }
            let allowed = *allowed.get_or_insert(patience + Duration::from_secs(waiting / SETTLED_A_SECOND));
            ensure(moved.elapsed() < patience && begun.elapsed() < allowed, Column::Liveness, || {
                format!("{waiting} wait, for {:?} without change: {}", moved.elapsed(), self.engine.last_words())
            })?;
            sleep(POLL).await;
        }
    }

    /// Stops all gateways; each has its answers or has given up.
    pub async fn quiet(&mut self) {
        for traffic in &mut self.traffic {
            traffic.stop().await;
        }
    }

    /// A destination by name.
    pub fn receiver(&self, name: &str) -> Result<&Receiver, Broken> {
        self.receivers.get(name).ok_or_else(|| Broken::checker(format!("no receiver is named {name}")))
    }

    /// What the fault put there under this name.
    pub fn prop<T: Send + Sync + 'static>(&mut self, name: &str) -> Result<&mut T, Broken> {
        let prop = self.props.get_mut(name).and_then(|prop| prop.downcast_mut());
        prop.ok_or_else(|| Broken::checker(format!("nothing is named {name} here")))
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.folder.join(&self.plan.store_path)
    }
}

/// A loopback address of this site's own, so that neither sites beside it nor other programs take its ports between a
/// stop and a start.
fn own_address() -> Ipv4Addr {
    static SITES: AtomicU16 = AtomicU16::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let site = SITES.fetch_add(1, Ordering::Relaxed);
    // The last octet is never 0 or 255; what does not fit moves the one before.
    Ipv4Addr::new(127, 64 | (high & 0x3f), low.wrapping_add((site / 253) as u8), 1 + (site % 253) as u8)
}
