//! Delivery: one task a lane, `store.next → translate → send → settle`, over and over.
//!
//! What must never happen: two messages of a lane outstanding at once, or one passing another; a message settled that
//! no receiver took and no dead letter names; an outage making dead letters; a lane that ends because of a message.
//! A lane waits for the store and for the operator, never polls, and holds no message while it waits to try again.
//!
//! When a destination's `lanes` or `order` changes, messages keep the lane they were routed to, those routed the old way go
//! first (`gate`), and lanes above the new number are served like the others. A destination that is no longer configured
//! keeps what waits for it (`orphaned`) until it is configured again or a person gives it up.

mod backoff;
mod board;
mod gate;
mod lane;
#[cfg(feature = "sabotage")]
mod sabotaged;
mod service;
mod together;
mod unmapped;
mod unrecorded;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{
    channel::{Channel, Order},
    clock::Clock,
    destination::{self, Meter, Settings},
    metrics::Metrics,
    pcd::Identification,
    store::{LaneId, Sequence, Settlement, Store, TO_SENDER},
    threads::Threads,
};
use board::Board;
use gate::Gate;
use lane::{Control, Lane};
use service::Service;
pub use unmapped::{UnmappedCodes, UnmappedList};

/// Given to lanes whose outstanding answer was cut off, to note that and end.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// Who is told of the end of each delivery, once it is durable.
type Told = OnceLock<Box<dyn Fn(&LaneId, Sequence, &Settlement) + Send + Sync>>;

/// Channel and destination.
pub type Key = (Arc<str>, Arc<str>);

/// All lanes of all channels.
pub struct Delivery {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    unmapped: Arc<UnmappedCodes>,
    tasks: TaskTracker,
    told: Arc<Told>,
    lines: Mutex<Lines>,
    /// Held while a pause or its end is made durable and applied, so that both happen in one order.
    pausing: tokio::sync::Mutex<()>,
    /// Messages of a lane of these that may have been sent and are not recorded.
    reaches: Mutex<BTreeMap<Key, usize>>,
    threads: OnceLock<Threads>,
}

#[derive(Default)]
struct Lines {
    by_key: BTreeMap<Key, Line>,
    /// Destinations whose gauges are set.
    shown: BTreeSet<Key>,
    stopping: bool,
    /// By which ways what waits came, of destinations not configured yet.
    before: Ways,
}

/// One destination and the lanes that serve it. Kept, idle, when it is no longer configured, so that a lane never has
/// two tasks.
struct Line {
    control: watch::Sender<Control>,
    board: Arc<Board>,
    settings: Option<Settings>,
    lanes: BTreeSet<u16>,
    /// How its messages come to their lanes, once that is known.
    way: Option<String>,
}

/// By destination, what decides in which lane a message waits: its `lanes` and `order`, to be compared only.
pub type Ways = BTreeMap<Key, String>;

/// Of a destination for which messages wait that came by different ways.
const CHANGING: &str = "changing";

/// A destination as configured.
struct Configured {
    key: Key,
    lanes: u16,
    way: String,
    settings: Option<Settings>,
    service: Arc<Service>,
}

/// What a destination is doing, for the API.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DestinationStatus {
    /// Channel name.
    pub channel: Arc<str>,
    /// Destination name.
    pub destination: Arc<str>,
    /// `running`, `retrying` (a message does not get through, or cannot be read from the store now), `held` (a refused
    /// message stands first, until the operator acts), `paused`, `failed` (a lane ended by a fault of the engine: restart), `orphaned` (messages for it, but not configured).
    pub state: String,
    /// Messages waiting.
    pub waiting: u64,
    /// Since the oldest waiting message was received.
    pub oldest_age_seconds: Option<f64>,
    /// Messages sent and not answered yet.
    pub in_flight: u32,
    /// Why the last attempt failed, until one succeeds. No message content.
    pub last_error: Option<String>,
    /// The messages that keep lanes from going on, held ones first, 16 at most.
    pub stands_at: Vec<Sequence>,
    /// When that is tried again.
    pub next_try: Option<jiff::Timestamp>,
    /// Dead letters waiting for a person.
    pub dead: u64,
}

impl Delivery {
    /// Nothing runs before `set_channels`.
    pub fn new(store: Arc<dyn Store>, clock: Clock, metrics: Arc<Metrics>) -> Arc<Delivery> {
        Arc::new(Delivery {
            store,
            clock,
            metrics,
            unmapped: Arc::default(),
            tasks: TaskTracker::new(),
            told: Arc::default(),
            lines: Mutex::default(),
            pausing: Default::default(),
            reaches: Mutex::default(),
            threads: OnceLock::new(),
        })
    }

    /// Where lanes run from now on, in the place of the caller's runtime; set once, before anything is configured.
    pub fn run_on(&self, threads: Threads) {
        // A second set is a fault of the caller's that changes nothing.
        let _ = self.threads.set(threads);
    }

    /// Has `told` told of the end of each delivery, once it is durable; set once, before anything is configured. It must not
    /// wait, since a lane does for it.
    pub fn tell(&self, told: impl Fn(&LaneId, Sequence, &Settlement) + Send + Sync + 'static) {
        // A second one is a fault of the caller's that changes nothing.
        let _ = self.told.set(Box::new(told));
    }

    /// Codes met that no table has.
    pub fn unmapped(&self) -> &UnmappedCodes {
        &self.unmapped
    }

    /// Told before anything is configured: by which ways what waits came to its lanes, as `ways` answered last.
    pub fn came_by(&self, ways: Ways) {
        self.lines().before = ways;
    }

    /// Told before each configuration: of which destinations more than one message of a lane may have been sent, now or before the
    /// last stop, and how many, without being recorded.
    pub fn may_have_sent(&self, reaches: BTreeMap<Key, usize>) {
        *self.reaches.lock().unwrap_or_else(PoisonError::into_inner) = reaches;
    }

    /// By which ways what waits came to its lanes. Kept before intake routes by another configuration.
    pub fn ways(&self) -> Ways {
        let lines = self.lines();
        let known = lines.by_key.iter().filter_map(|(key, line)| Some((key.clone(), line.way()?)));
        lines.before.clone().into_iter().chain(known).collect()
    }

    /// Serves exactly these channels: starts lanes that are new, gives changed ones their new configuration after what
    /// they have outstanding, leaves the lanes of destinations that are gone idle with what waits in them. On an error
    /// nothing has changed. Called before intake routes by the same configuration.
    pub async fn set_channels(&self, channels: &[Arc<Channel>]) -> Result<(), String> {
        let configured = self.configured(channels)?;
        self.apply(configured)
    }

    /// Said once intake routes by the configuration in force: everything routed by the one before is given to the store.
    pub async fn routes_changed(&self) {
        let gates: Vec<_> = self.lines().by_key.values().filter_map(Line::closed_gate).collect();
        for (gate, control) in gates {
            let routed = gate.routed_anew();
            if !routed.is_told().await {
                // The reload does not wait for a store that failed.
                self.tasks.spawn(routed.tell(control));
            }
        }
    }

    /// Pauses after what is outstanding; kept over restarts.
    pub async fn pause(&self, channel: &str, destination: &str) -> Result<(), String> {
        self.set_paused(channel, destination, true).await
    }

    /// Ends a pause; a head that could not be delivered is tried at once.
    pub async fn resume(&self, channel: &str, destination: &str) -> Result<(), String> {
        self.set_paused(channel, destination, false).await
    }

    /// Ends a back-off or a hold now: tries the head again.
    pub async fn retry(&self, channel: &str, destination: &str) -> Result<(), String> {
        self.start_waiting_lanes();
        self.control(channel, destination, |control| control.retries += 1)
    }

    /// Parks the message each held lane stands at as a dead letter, and goes on with the next. Where no lane is held,
    /// parks those whose last attempt did not get through: the way past a message its receiver fails on each time. False
    /// where there is neither.
    pub async fn park(&self, channel: &str, destination: &str) -> Result<bool, String> {
        let key = (Arc::from(channel), Arc::from(destination));
        let seen = self.lines().by_key.get(&key).map(|line| (line.board.holds(), line.board.stands()));
        let (held, stands) = seen.unwrap_or((false, true));
        if stands {
            self.control(channel, destination, |control| match held {
                true => control.parks += 1,
                false => control.parks_waiting += 1,
            })?;
        }
        Ok(stands)
    }

    /// Ends what waits for a destination that is no longer configured: as dead letters, or `discard`ed. Answers how many
    /// deliveries that were.
    pub async fn give_up(&self, channel: &str, destination: &str, discard: bool) -> Result<u64, String> {
        let key: Key = (channel.into(), destination.into());
        let mut given_up = 0;
        for status in self.store.lanes() {
            let mut waits =
                status.waiting > 0 && *status.lane.channel == *channel && *status.lane.destination == *destination;
            while waits {
                if self.lines().by_key.get(&key).is_some_and(Line::is_configured) {
                    return Err(format!(
                        "{channel}/{destination} is configured: park its messages one by one, or take it out"
                    ));
                }
                let reason = "its destination is no longer configured".to_owned();
                let some =
                    self.store.give_up(&status.lane, reason, discard).await.map_err(|error| error.to_string())?;
                self.metrics.given_up.with_label_values(&[channel, destination]).inc_by(some);
                given_up += some;
                waits = some > 0;
            }
        }
        if given_up == 0 {
            return Err(format!("nothing waits for {channel}/{destination}"));
        }
        warn!(
            channel,
            destination, given_up, discard, "deliveries to a destination that is gone were ended by a person"
        );
        Ok(given_up)
    }

    /// For the API and the gauges: every destination that is configured, or for which messages wait or lie dead.
    pub fn status(&self) -> Vec<DestinationStatus> {
        let mut found: BTreeMap<Key, DestinationStatus> = BTreeMap::new();
        for (key, line) in self.lines().by_key.iter().filter(|(_, line)| line.is_configured()) {
            found.insert(key.clone(), line.status(key));
        }
        let now = self.clock.now();
        for lane in self.store.lanes().into_iter().filter(|lane| lane.waiting > 0 && !lane.lane.is_to_sender()) {
            let key = (lane.lane.channel, lane.lane.destination);
            let status = found.entry(key).or_insert_with_key(DestinationStatus::orphaned);
            status.waiting += lane.waiting;
            let age = lane.oldest.map(|oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
            status.oldest_age_seconds = age.into_iter().chain(status.oldest_age_seconds).reduce(f64::max);
        }
        let to_receiver = |key: &Key| *key.1 != *TO_SENDER;
        for (key, dead) in self.store.dead_counts().into_iter().filter(|(key, dead)| *dead > 0 && to_receiver(key)) {
            found.entry(key).or_insert_with_key(DestinationStatus::orphaned).dead = dead;
        }
        found.into_values().collect()
    }

    /// Sets the gauges `waiting`, `oldest_waiting_seconds` and `dead_letters` from the store; called at each scrape, on
    /// the runtime. A lane found with messages and no task (a dead letter of a lane above `lanes` was sent again) gets
    /// its task.
    pub fn refresh_metrics(&self) {
        self.start_waiting_lanes();
        let statuses = self.status();
        let metrics = &self.metrics;
        for status in &statuses {
            let labels = [&*status.channel, &*status.destination];
            let oldest = status.oldest_age_seconds.unwrap_or(0.0);
            metrics.waiting.with_label_values(&labels).set(status.waiting.try_into().unwrap_or(i64::MAX));
            metrics.oldest_waiting_seconds.with_label_values(&labels).set(oldest as i64);
            metrics.dead_letters.with_label_values(&labels).set(status.dead.try_into().unwrap_or(i64::MAX));
        }
        let shown = statuses.into_iter().map(|status| (status.channel, status.destination)).collect();
        let before = std::mem::replace(&mut self.lines().shown, shown);
        for gone in before.difference(&self.lines().shown) {
            // Not there is as good as removed.
            for gauge in [&metrics.waiting, &metrics.oldest_waiting_seconds, &metrics.dead_letters] {
                let _ = gauge.remove_label_values(&[&*gone.0, &*gone.1]);
            }
            for gauge in [&metrics.destination_up, &metrics.held_lanes] {
                let _ = gauge.remove_label_values(&[&*gone.0, &*gone.1]);
            }
        }
    }

    /// Ends after what is outstanding, at most `grace`; what has no answer by then is noted as ambiguous and comes
    /// again, marked as possible repeat, at the next start. Nothing is started afterwards.
    pub async fn drain(&self, grace: Duration) {
        self.lines().stopping = true;
        self.control_all(|control| control.stopping = true);
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return;
        }
        self.control_all(|control| control.cut = true);
        if timeout(CUT_GRACE, self.tasks.wait()).await.is_err() {
            warn!(
                lanes = self.tasks.len(),
                "lanes still wait for the store; their messages come again at the next start"
            );
        }
    }

    /// The channels' destinations with their receivers opened, or every fault.
    fn configured(&self, channels: &[Arc<Channel>]) -> Result<Vec<Configured>, String> {
        let mut faults = Vec::new();
        let mut configured = Vec::new();
        for channel in channels {
            for settings in &channel.destinations {
                let key = (channel.name.clone(), settings.name.clone());
                match self.receiver(&key, &settings.settings) {
                    Ok(receiver) => configured.push(Configured {
                        key,
                        lanes: settings.lanes,
                        way: way(settings.lanes, &settings.order, &channel.device.identification),
                        settings: Some(settings.settings.clone()),
                        service: Arc::new(Service::of_channel(channel, settings, receiver)),
                    }),
                    Err(fault) => faults.push(format!("channel {}, destination {}: {fault}", key.0, key.1)),
                }
            }
        }
        faults.extend(shared_directories(&configured));
        if faults.is_empty() { Ok(configured) } else { Err(faults.join("\n")) }
    }

    /// The receiver in use where its settings stay the same, so that a reload costs no connection.
    fn receiver(&self, key: &Key, settings: &Settings) -> Result<Arc<dyn destination::Destination>, String> {
        let lines = self.lines();
        let kept = lines.by_key.get(key).filter(|line| line.settings.as_ref() == Some(settings));
        let service = kept.and_then(|line| line.control.borrow().service.clone());
        let opened = || {
            destination::open(settings, &Meter::of(&self.metrics, &key.0, &key.1)).inspect(|new| tell_lacks(key, new))
        };
        service.map_or_else(opened, |service| Ok(service.receiver.clone()))
    }

    fn apply(&self, configured: Vec<Configured>) -> Result<(), String> {
        let paused = self.store.paused();
        let mut lines = self.lines();
        if lines.stopping {
            return Err("the engine is stopping".to_owned());
        }
        let keys: BTreeSet<Key> = configured.iter().map(|c| c.key.clone()).collect();
        lines.shown.extend(keys.iter().cloned());
        for (_, line) in lines.by_key.iter().filter(|(key, _)| !keys.contains(key)) {
            line.control.send_modify(|control| control.service = None);
        }
        for Configured { key, lanes: count, way, settings, service } in configured {
            let is_paused = paused.contains(&key);
            let before = lines.before.get(&key).cloned();
            let line = lines.by_key.entry(key);
            let line = line.or_insert_with_key(|key| Line::new(is_paused, self.board(key), before));
            line.board.configured();
            line.settings = settings;
            let gate = line.routed(way, &self.store);
            line.control.send_modify(|control| {
                control.service = Some(service);
                control.gate = gate;
            });
            let key = line.board.key();
            for lane in 0..count {
                if line.lanes.insert(lane) {
                    self.start(&key, lane, line);
                }
            }
        }
        drop(lines);
        self.start_waiting_lanes();
        Ok(())
    }

    /// Lanes above `lanes` of configured destinations that still hold messages.
    fn start_waiting_lanes(&self) {
        let known = self.store.lanes();
        let mut lines = self.lines();
        if lines.stopping {
            return;
        }
        for status in known.into_iter().filter(|status| status.waiting > 0) {
            let LaneId { channel, destination, lane } = status.lane;
            let key = (channel, destination);
            if let Some(line) = lines.by_key.get_mut(&key).filter(|line| line.is_configured())
                && line.lanes.insert(lane)
            {
                self.start(&key, lane, line);
            }
        }
    }

    fn start(&self, key: &Key, lane: u16, line: &Line) {
        let id = LaneId { channel: key.0.clone(), destination: key.1.clone(), lane };
        let control = line.control.subscribe();
        let lane = Lane::new(id, self.store.clone(), self.clock.clone(), control, line.board.clone());
        match self.threads.get() {
            Some(threads) => threads.spawn(&self.tasks, lane.run()),
            None => drop(self.tasks.spawn(lane.run())),
        }
    }

    async fn set_paused(&self, channel: &str, destination: &str, paused: bool) -> Result<(), String> {
        self.control(channel, destination, |_| ())?;
        let _one_at_a_time = self.pausing.lock().await;
        let durable = self.store.pause(channel.into(), destination.into(), paused).await;
        durable.map_err(|error| error.to_string())?;
        self.control(channel, destination, |control| {
            control.paused = paused;
            // A lane that did not see the pause, being in a back-off, is to see its end.
            control.retries += u64::from(!paused);
        })
    }

    fn control(&self, channel: &str, destination: &str, change: impl FnOnce(&mut Control)) -> Result<(), String> {
        let lines = self.lines();
        let key = (Arc::from(channel), Arc::from(destination));
        let line = lines.by_key.get(&key).filter(|line| line.is_configured());
        let line = line.ok_or_else(|| format!("channel {channel} has no destination {destination}"))?;
        line.control.send_modify(change);
        Ok(())
    }

    fn control_all(&self, change: impl Fn(&mut Control)) {
        for line in self.lines().by_key.values() {
            line.control.send_modify(&change);
        }
    }

    fn board(&self, key: &Key) -> Board {
        let reach = self.reaches.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let mut board = Board::new(key.clone(), self.metrics.clone(), self.told.clone(), self.unmapped.clone());
        board.reach = reach.unwrap_or(1);
        board
    }

    /// Held for moments only, never over an await.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(paused: bool, board: Board, way: Option<String>) -> Line {
        let control = Control { paused, ..Control::default() };
        Line {
            control: watch::Sender::new(control),
            board: Arc::new(board),
            settings: None,
            lanes: BTreeSet::new(),
            way,
        }
    }

    /// By which way all that waits for it came.
    fn way(&self) -> Option<String> {
        let changing = self.control.borrow().gate.as_ref().is_some_and(|gate| !gate.is_open());
        if changing { Some(CHANGING.to_owned()) } else { self.way.clone() }
    }

    /// The gate its lanes pass from now on, if the way to them changes or is still changing.
    fn routed(&mut self, way: String, store: &Arc<dyn Store>) -> Option<Arc<Gate>> {
        let gate = self.closed_gate().map(|(gate, _)| gate);
        let before = self.way.replace(way);
        if before.is_none() || before == self.way {
            return gate;
        }
        let key = self.board.key();
        info!(channel = %key.0, destination = %key.1, "lanes or order changed: what was received before goes first");
        // What waited at the start may have come by more than one way.
        let of_one_way = if self.lanes.is_empty() { 0 } else { store.stats().next_sequence };
        let new = || Arc::new(Gate::new(key, store.clone(), of_one_way));
        Some(gate.filter(|gate| gate.changed_again()).unwrap_or_else(new))
    }

    /// The gate it waits at, and what its lanes are told.
    fn closed_gate(&self) -> Option<(Arc<Gate>, watch::Receiver<Control>)> {
        let gate = self.control.borrow().gate.clone().filter(|gate| !gate.is_open());
        gate.map(|gate| (gate, self.control.subscribe()))
    }

    fn is_configured(&self) -> bool {
        self.control.borrow().service.is_some()
    }

    fn status(&self, key: &Key) -> DestinationStatus {
        let seen = self.board.seen();
        let state = if self.control.borrow().paused { "paused" } else { seen.state };
        DestinationStatus {
            state: state.to_owned(),
            in_flight: seen.in_flight,
            last_error: seen.last_error,
            stands_at: seen.stands_at,
            next_try: seen.next_try,
            ..DestinationStatus::orphaned(key)
        }
    }
}

impl DestinationStatus {
    fn orphaned((channel, destination): &Key) -> DestinationStatus {
        DestinationStatus {
            channel: channel.clone(),
            destination: destination.clone(),
            state: "orphaned".to_owned(),
            waiting: 0,
            oldest_age_seconds: None,
            in_flight: 0,
            last_error: None,
            stands_at: Vec::new(),
            next_try: None,
            dead: 0,
        }
    }
}

/// Warns of what a receiver cannot do, once it was asked. Its messages are not held back for that: a statement may be wrong.
fn tell_lacks((channel, destination): &Key, receiver: &Arc<dyn destination::Destination>) {
    let (channel, destination, receiver) = (channel.clone(), destination.clone(), receiver.clone());
    tokio::spawn(async move {
        match receiver.lacks().await {
            Ok(lacks) => lacks
                .missing
                .iter()
                .for_each(|lacks| warn!(%channel, %destination, lacks, "the receiver cannot do what is configured")),
            Err(reason) => info!(%channel, %destination, reason, "the receiver was not asked what it can do"),
        }
    });
}

fn way(lanes: u16, order: &Order, identification: &Identification) -> String {
    match order {
        Order::Device if *identification != Identification::default() => {
            format!("{lanes} {order:?} {identification:?}")
        }
        _ => format!("{lanes} {order:?}"),
    }
}

/// File names are unique by message only: two destinations in one directory would overwrite each other's files.
fn shared_directories(configured: &[Configured]) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut faults = Vec::new();
    for Configured { key, settings, .. } in configured {
        let Some(Settings::File(file)) = settings else { continue };
        if let Some(first) = seen.insert(file.directory.clone(), key.clone()) {
            faults.push(format!(
                "channel {}, destination {}: channel {}, destination {} writes into the same directory; give each its own",
                key.0, key.1, first.0, first.1
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests;
