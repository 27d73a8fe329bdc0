//! One engine, its senders, its receivers and its disk, moved on one step at a time by a seed.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    account::{Account, named},
    episodes,
    gates::{self, Gate, GatedStore, Gates, Receiver},
    senders::Senders,
};
use crate::{
    channel::OnReject,
    clock::Clock,
    delivery::{Configured, Delivery, tests::bench},
    destination::{Outgoing, Verdict},
    metrics::Metrics,
    store::{
        LaneId, OpenError, Options, Sequence, Store,
        simulation::{Dice, Lie, Machine, MemoryDisk, MemoryTree, SteppedStore, may_pass},
    },
};

/// A way in which the engine, or its disk, breaks its promises on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    SyncNever,
    SyncLater,
    Swap,
    Drop,
    Forget,
    Duplicate,
    Unmarked,
    Corrupt,
}

/// Two destinations: messages of each sender go to one lane of the first, or to a lane of both.
pub(super) const DESTINATIONS: [(&str, u16); 2] = [("ehr", 2), ("legacy", 1)];

/// How long delivered messages are kept at most.
const RETAIN_MAX: Duration = Duration::from_secs(3600);

type Operation = (String, BoxFuture<'static, Result<(), String>>);

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) account: Arc<Mutex<Account>>,
    pub(super) senders: Senders,
    pub(super) trace: Vec<String>,
    pub(super) machine: Machine,
    pub(super) engine: Option<Engine>,
    sabotage: Option<Sabotage>,
    operations: Vec<Operation>,
    resend_window: usize,
    /// Nothing goes wrong any more.
    pub(super) healing: bool,
    full: bool,
    failed_calls: u64,
}

/// The parts that a restart makes anew.
pub(super) struct Engine {
    pub(super) stepped: SteppedStore,
    delivery: Arc<Delivery>,
    gates: Gates,
    /// The store takes and answers no more.
    failed: bool,
    oldest_segments: u64,
}

/// How an engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerCut,
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Option<Sabotage>, metrics: Arc<Metrics>) -> World {
        let mut dice = Dice(seed);
        let disk = match sabotage {
            Some(Sabotage::SyncNever) => MemoryDisk::lying(Lie::SyncNever),
            Some(Sabotage::SyncLater) => MemoryDisk::lying(Lie::SyncLater),
            _ => MemoryDisk::default(),
        };
        let ledger = MemoryTree::default();
        let options = options(&mut dice);
        let senders = Senders::new(&mut dice);
        let resend_window = [1, 1, 2, 5][dice.roll(4) as usize];
        let trace = vec![format!("{options:?}, resend_window {resend_window}")];
        World {
            machine: Machine { disk, ledger, options, metrics, clock: clock() },
            dice,
            account: Arc::default(),
            senders,
            trace,
            engine: None,
            sabotage,
            operations: Vec::new(),
            resend_window,
            healing: false,
            full: false,
            failed_calls: 0,
        }
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.trace.push(nameless(what.into()));
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Account) -> T) -> T {
        look(&mut self.account.lock().unwrap())
    }

    /// Whatever comes next.
    pub(super) async fn step(&mut self) {
        match self.engine.as_ref().map(|engine| engine.failed) {
            Some(false) => {}
            Some(true) if self.dice.one_in(3) => self.reopen(),
            Some(true) if !self.dice.one_in(8) => {}
            _ => return self.restart().await,
        }
        match self.dice.roll(200) {
            0..40 => self.send(),
            40..95 => self.turn(),
            95..160 => self.let_a_lane_go(),
            160..168 => self.write_checkpoint(),
            168..172 => self.prepare_spare(),
            172..176 => self.machine.disk.write_back(&mut self.dice),
            176..180 => self.wait().await,
            180..188 => self.operate(),
            188..194 => self.trouble(),
            194..197 => self.restart().await,
            197 => self.learn(),
            _ => self.machine.disk.pay(),
        }
        self.come_to_rest().await;
    }

    /// Every task runs until it waits; only then does the paused clock go on.
    pub(super) async fn come_to_rest(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let done: Vec<usize> = (0..self.operations.len()).rev().collect();
        for at in done {
            let Some(answer) = (&mut self.operations[at].1).now_or_never() else { continue };
            let (what, _) = self.operations.remove(at);
            self.tell(format!("{what}: {answer:?}"));
        }
    }

    pub(super) fn send(&mut self) {
        let Some(engine) = &self.engine else { return };
        let told = self.senders.send(&mut self.dice, &*engine.stepped.store, &self.account, self.machine.clock.now());
        let swapped = self.sabotage == Some(Sabotage::Swap) && engine.stepped.swap_two();
        told.into_iter().for_each(|told| self.tell(told));
        if swapped {
            self.tell("two messages change places");
        }
    }

    /// The committer's turn, and what comes of it.
    pub(super) fn turn(&mut self) {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.failed) else { return };
        let serves = engine.stepped.turn();
        engine.failed = !serves;
        self.observe(false);
        if !serves {
            let resend_window = self.resend_window;
            self.with(|account| {
                account.figures.failures += 1;
                account.interrupted(|lane| resend_window - 1 + together(&lane.destination));
            });
        }
        let health = self.engine.as_ref().map(|engine| engine.stepped.store.health());
        self.tell(format!("turn: {health:?}"));
        let disk = self.machine.disk.clone();
        let told = self.senders.hear(&self.account, |sent| disk.is_durable(sent));
        told.into_iter().for_each(|told| self.tell(told));
    }

    /// Holds what the store has against what it must have.
    fn observe(&mut self, everything: bool) {
        let Some(engine) = &mut self.engine else { return };
        let mut account = self.account.lock().unwrap();
        let look = || engine.stepped.standing(|id| everything || !account.is_known(id));
        let standing = self.machine.disk.aside(look);
        account.observe(&standing);
        account.observe_memory(|destination, episode| engine.stepped.store.recall("pumps", destination, episode));
        let oldest = engine.stepped.oldest_segment();
        account.figures.segments_released += oldest.saturating_sub(engine.oldest_segments);
        engine.oldest_segments = oldest;
    }

    pub(super) fn let_a_lane_go(&mut self) {
        let Some(engine) = &self.engine else { return };
        let lanes = engine.gates.lanes();
        if lanes.is_empty() {
            return;
        }
        let lane = lanes[self.dice.roll(lanes.len() as u64) as usize].clone();
        let gate = engine.gates.open(&lane);
        let told = match gate {
            None => return,
            Some(Gate::Next(go)) => (go.send(()), "next".to_owned()).1,
            Some(Gate::Send(outgoing, answer)) => {
                let (id, verdict) = (outgoing.id, self.receive(&lane, gates::messages(*outgoing)));
                let told = format!("message {id}: {verdict:?}");
                // The lane may have left meanwhile.
                let _ = answer.send(verdict);
                told
            }
        };
        self.tell(format!("{}: {told}", named(&lane)));
    }

    /// What the receiver makes of the messages of one send.
    fn receive(&mut self, lane: &LaneId, mut messages: Vec<Outgoing>) -> Verdict {
        for (place, message) in messages.iter_mut().enumerate() {
            match self.sabotage {
                Some(Sabotage::Unmarked) => message.possible_repeat = false,
                Some(Sabotage::Corrupt) if message.id.is_multiple_of(7) => message.body = message.body.slice(1..),
                Some(Sabotage::Duplicate) if message.id.is_multiple_of(5) => {
                    self.with(|account| account.take(lane, message, place))
                }
                _ => {}
            }
        }
        let roll = if self.healing { 0 } else { self.dice.roll(20) };
        let taken = matches!(roll, 0..14);
        if taken {
            self.with(|account| {
                (0..).zip(&messages).for_each(|(place, message)| account.take(lane, message, place));
                account.figures.together += messages.len() as u64 - 1;
            });
        }
        match roll {
            0..12 => {
                self.with(|account| account.answered(lane, messages.len()));
                Verdict::Accepted { answer: "AA".into() }
            }
            12..14 => {
                self.with(|account| messages.iter().for_each(|message| account.unanswered(lane, message.id)));
                Verdict::ambiguous("silence")
            }
            14..15 => Verdict::ambiguous("silence"),
            15..17 => Verdict::rejected("no"),
            _ => Verdict::unavailable("down"),
        }
    }

    pub(super) fn write_checkpoint(&mut self) {
        let written = self.engine.as_mut().is_some_and(|engine| engine.stepped.write_checkpoint());
        if written {
            self.tell("checkpoint");
        }
    }

    /// The engine makes a ledger again that failed, for as long as it or the disk fails in vain.
    fn learn(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let failed_before = self.machine.disk.failed();
        match engine.stepped.learn(&self.machine) {
            Ok(false) => {}
            Ok(true) => {
                self.with(|account| account.figures.learned += 1);
                self.observe(true);
                self.tell("the ledger is made again");
            }
            Err(fault) if self.machine.disk.failed() > failed_before || self.machine.ledger.is_failing() => {
                self.tell(format!("the ledger is not made again: {fault}"));
            }
            Err(fault) => self.with(|account| account.breaks(format!("ledger: it is not made again: {fault}"))),
        }
    }

    pub(super) fn prepare_spare(&mut self) {
        if let Some(engine) = &self.engine {
            engine.stepped.prepare_spare();
        }
    }

    async fn wait(&mut self) {
        let milliseconds = if self.dice.one_in(4) { 31_000 } else { 40 };
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// A person does something.
    fn operate(&mut self) {
        let Some(engine) = &self.engine else { return };
        let (delivery, store) = (Arc::clone(&engine.delivery), Arc::clone(&engine.stepped.store));
        let destination = DESTINATIONS[self.dice.roll(2) as usize].0;
        let mut account = self.account.lock().unwrap();
        let dice = &mut self.dice;
        let (what, doing): Operation = match dice.roll(8) {
            0 => (format!("pause {destination}"), async move { delivery.pause("pumps", destination).await }.boxed()),
            1..3 => {
                (format!("resume {destination}"), async move { delivery.resume("pumps", destination).await }.boxed())
            }
            3 => (format!("retry {destination}"), async move { delivery.retry("pumps", destination).await }.boxed()),
            4 => (
                format!("park {destination}"),
                async move { delivery.park("pumps", destination).await.map(drop) }.boxed(),
            ),
            5..7 => {
                let Some(entry) = account.pick_dead(|among| dice.roll(among)) else { return };
                let discard = dice.one_in(3);
                account.exhume(entry, discard);
                let sequence = Sequence::from_u64(entry);
                let asked = if discard { store.discard_dead(sequence) } else { store.retry_dead(sequence) };
                let what = if discard { "discard" } else { "retry" };
                (format!("{what} dead {entry}"), asked.map(|answer| answer.map_err(|fault| fault.to_string())).boxed())
            }
            _ => {
                let Some(id) = account.pick_message(|among| dice.roll(among)) else { return };
                account.replay(id);
                let asked = store.replay(vec![Sequence::from_u64(id)], None);
                (
                    format!("replay {id}"),
                    asked.map(|answer| answer.map(|_| ()).map_err(|fault| fault.to_string())).boxed(),
                )
            }
        };
        drop(account);
        self.tell(what.clone());
        self.operations.push((what, doing));
    }

    /// The disk or the ledger begins to fail, or stops to.
    fn trouble(&mut self) {
        let calls = self.dice.roll(30);
        match self.dice.roll(6) {
            0..2 => {
                self.machine.disk.fail_in(calls, io::ErrorKind::Other);
                self.tell(format!("call {calls} from now fails"));
            }
            2 => {
                self.machine.disk.fail_in(calls, io::ErrorKind::StorageFull);
                self.tell(format!("no space at call {calls} from now"));
            }
            3..5 => {
                self.full = !self.full;
                self.machine.disk.set_full(self.full);
                self.tell(format!("the disk is full: {}", self.full));
            }
            _ => {
                let fails = self.dice.one_in(2);
                self.machine.ledger.fail(fails);
                self.tell(format!("the ledger fails: {fails}"));
            }
        }
    }

    async fn restart(&mut self) {
        let end = match self.dice.roll(5) {
            0 => End::Close,
            1..3 => End::Kill,
            _ => End::PowerCut,
        };
        self.stop(end).await;
        self.start().await;
    }

    /// The engine opens a store that failed anew by itself, for as long as something is wrong with the disk in vain.
    fn reopen(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let failed_before = self.machine.disk.failed();
        match engine.stepped.reopen(&self.machine) {
            Ok(()) => {
                engine.failed = false;
                self.observe(true);
                self.with(|account| {
                    account.restarted();
                    account.figures.reopened += 1;
                });
                self.tell("opened anew");
            }
            Err(fault) if self.has_no_excuse(&fault, failed_before) => {
                self.with(|account| account.breaks(format!("start: the store is not opened anew: {fault}")));
            }
            Err(fault) => self.tell(format!("not opened anew: {fault}")),
        }
    }

    /// A store must open, but for a call that fails or a disk that is full, and must never find anything lost.
    fn has_no_excuse(&self, fault: &OpenError, failed_before: u64) -> bool {
        !may_pass(fault) || self.machine.disk.failed() == failed_before && !self.full
    }

    async fn stop(&mut self, end: End) {
        self.tell(format!("{end:?}"));
        if end == End::Close {
            self.close();
        }
        let Some(engine) = self.engine.take() else { return };
        engine.gates.shut();
        drop(engine);
        self.operations.clear();
        // Its tasks find the gates shut.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.senders.disconnect();
        match end {
            End::Close => {}
            End::Kill => self.with(|account| account.figures.kills += 1),
            End::PowerCut => self.cut_power(),
        }
        let resend_window = self.resend_window;
        self.with(|account| {
            account.interrupted(|lane| resend_window - 1 + together(&lane.destination));
            account.ended();
        });
    }

    fn cut_power(&mut self) {
        self.machine.disk.cut_power(&mut self.dice);
        self.machine.disk.set_full(self.full);
        self.with(|account| account.figures.power_cuts += 1);
    }

    /// A proper end: everything asked for is done first.
    pub(super) fn close(&mut self) {
        let Some(engine) = self.engine.as_mut().filter(|engine| !engine.failed) else { return };
        let mut closing = engine.stepped.store.close();
        for _ in 0..1000 {
            engine.stepped.write_checkpoint();
            if !engine.stepped.turn() {
                break;
            }
        }
        let closed = (&mut closing).now_or_never();
        self.observe(false);
        let disk = self.machine.disk.clone();
        let told = self.senders.hear(&self.account, |sent| disk.is_durable(sent));
        told.into_iter().for_each(|told| self.tell(told));
        self.with(|account| account.figures.closes += 1);
        self.tell(format!("closed: {closed:?}"));
    }

    /// Starts the engine on what is there, which may fail for as long as something is wrong with the disk.
    pub(super) async fn start(&mut self) {
        if self.dice.one_in(12) {
            self.machine.ledger.lose();
            self.tell("the ledger is lost");
            self.with(|account| account.figures.ledgers_lost += 1);
        }
        for _ in 0..20 {
            let dies = !self.healing && self.dice.one_in(6);
            if dies {
                let calls = self.dice.roll(60);
                self.machine.disk.off_in(calls);
                self.tell(format!("off {calls} calls from now"));
            }
            let failed_before = self.machine.disk.failed();
            match self.machine.open() {
                Ok(stepped) => return self.serve(stepped).await,
                Err(fault) if self.has_no_excuse(&fault, failed_before) => {
                    return self.with(|account| account.breaks(format!("start: the store does not open: {fault}")));
                }
                Err(fault) => self.tell(nameless(format!("not opened: {fault}"))),
            }
            if dies {
                self.with(|account| account.figures.crashed_recoveries += 1);
                self.cut_power();
            }
        }
        self.machine.disk.heal();
        self.full = false;
    }

    async fn serve(&mut self, stepped: SteppedStore) {
        let gates = Gates::default();
        let store = GatedStore {
            store: Arc::clone(&stepped.store) as Arc<dyn Store>,
            gates: gates.clone(),
            account: Arc::clone(&self.account),
            drops: self.sabotage == Some(Sabotage::Drop),
            forgets: self.sabotage == Some(Sabotage::Forget),
        };
        let delivery = Delivery::new(Arc::new(store), self.machine.clock.clone(), Arc::clone(&self.machine.metrics));
        let configured =
            DESTINATIONS.iter().map(|(destination, lanes)| configured(destination, *lanes, self.resend_window, &gates));
        delivery.apply(configured.collect()).unwrap();
        let oldest_segments = stepped.oldest_segment();
        self.engine = Some(Engine { stepped, delivery, gates, failed: false, oldest_segments });
        self.observe(true);
        self.with(Account::restarted);
        self.tell("started");
        self.come_to_rest().await;
    }

    /// Nothing is wrong any more, and everything gets through in bounded time.
    pub(super) async fn heal(&mut self) {
        self.healing = true;
        self.full = false;
        self.machine.disk.heal();
        self.machine.ledger.fail(false);
        self.tell("everything is mended");
        if self.engine.as_ref().is_none_or(|engine| engine.failed) {
            self.stop(End::Kill).await;
            self.start().await;
        }
        let Some(engine) = &self.engine else { return };
        for (destination, _) in DESTINATIONS {
            let delivery = Arc::clone(&engine.delivery);
            let resumed = async move { delivery.resume("pumps", destination).await }.boxed();
            self.operations.push((format!("resume {destination}"), resumed));
        }
        for round in 0..2000 {
            match round {
                _ if self.is_drained() => return,
                // What is kept for a time has gone by then.
                500 => tokio::time::sleep(2 * RETAIN_MAX).await,
                _ => self.move_on().await,
            }
        }
        let stats = self.engine.as_ref().map(|engine| engine.stepped.store.stats());
        let state = format!("live: {} messages wait for ever beside {stats:?}", self.senders.unanswered());
        self.with(|account| account.breaks(state));
    }

    async fn move_on(&mut self) {
        if self.senders.unanswered() > 0 {
            self.send();
        }
        self.turn();
        self.write_checkpoint();
        self.learn();
        self.prepare_spare();
        self.come_to_rest().await;
        for _ in 0..8 {
            self.let_a_lane_go();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.come_to_rest().await;
    }

    fn is_drained(&self) -> bool {
        let waiting = self.engine.as_ref().map_or(0, |engine| engine.stepped.store.stats().waiting);
        waiting == 0 && self.senders.unanswered() == 0 && self.operations.is_empty()
    }

    /// After a proper end and a start, nothing is otherwise.
    pub(super) async fn close_and_look_again(&mut self) {
        self.stop(End::Close).await;
        self.start().await;
        self.failed_calls = self.machine.disk.failed();
        let failed_calls = self.failed_calls;
        self.with(|account| {
            account.figures.failed_calls = failed_calls;
            account.expect_balanced();
        });
    }
}

/// Without the names of spares, which are random: a seed is to tell the same each time.
fn nameless(told: String) -> String {
    let words =
        told.split(' ').map(|word| if word.contains(".spare") || word.contains(".tmp") { "a spare" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Small, so that everything happens in a few steps: segments fill, checkpoints are due, caches overflow.
fn options(dice: &mut Dice) -> Options {
    let retain = [Duration::ZERO, Duration::from_millis(50), RETAIN_MAX];
    Options {
        retain: retain[dice.roll(3) as usize],
        segment_bytes: 4096,
        bytes_max: 4096 * (8 + dice.roll(30)),
        retain_when_full: dice.one_in(3),
        checkpoint_records: 5 + dice.roll(40),
        cache_bytes: [0, 2048, 1 << 20][dice.roll(3) as usize],
        queue_max: [3, 100][dice.roll(2) as usize],
        ..Options::default()
    }
}

/// Goes with the paused time.
fn clock() -> Clock {
    let (began, base) = (Instant::now(), Timestamp::from_second(1_700_000_000).unwrap());
    Clock::of(move || base + SignedDuration::try_from(began.elapsed()).unwrap_or_default())
}

fn configured(destination: &'static str, lanes: u16, resend_window: usize, gates: &Gates) -> Configured {
    let together = together(destination);
    let receiver = Receiver { destination: destination.into(), together, gates: gates.clone() };
    let service = bench::service(Arc::new(receiver), 1);
    // Without jitter: every run of a seed must be the same.
    let (retry_first, retry_max) = (Duration::from_millis(20), Duration::from_millis(20));
    let on_reject = if destination == "legacy" { OnReject::Hold } else { OnReject::Park };
    let translate = Box::new(episodes::as_it_is);
    let service = crate::delivery::Service { translate, retry_first, retry_max, on_reject, resend_window, ..service };
    bench::configured(destination, lanes, service)
}

/// Messages of one send at most.
fn together(destination: &str) -> usize {
    if destination == "legacy" { 1 } else { 3 }
}
