//! Gateways that send to a site: connections, each a sender of its own, that behave as real gateways do and number their
//! messages on over pauses. A message must be in the book before it is on the wire.

use super::Broken;
use crate::account::SenderBook;
use crate::id::{Kind, MessageId};
use crate::load::{self, LoadConfig};
use crate::sender::{self, Outbound, SenderConfig};
use crate::v2::Ack;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How a gateway waits for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One message, one answer.
    Lockstep,
    /// So many messages before the first answer.
    Pipelined(usize),
    /// Asks for no answer (MSH-15 and MSH-16 `NE`) and sends once.
    Unanswered,
    /// Pipelined, and after so long without an answer sends the same control id again over a new connection.
    Impatient(usize, Duration),
}

/// Gateways of one kind.
#[derive(Debug, Clone)]
pub struct TrafficPlan {
    /// What to call them; also the name of their ledger.
    pub name: &'static str,
    /// The port they send to: a listener's or a proxy's.
    pub port: u16,
    /// How many connections.
    pub connections: u32,
    /// How they wait.
    pub mode: Mode,
    /// Messages a second over all connections; 0 is as fast as the answers come.
    pub rate: f64,
    /// Metrics in a message.
    pub obx: usize,
    /// Pads messages to so many bytes.
    pub message_bytes: usize,
    /// Ends after so many messages for each connection; without it, when told.
    pub messages: Option<u64>,
}

impl TrafficPlan {
    /// Two pipelining connections to port 2575, 200 messages a second in all.
    pub const USUAL: TrafficPlan = TrafficPlan {
        name: "gateways",
        port: 2575,
        connections: 2,
        mode: Mode::Pipelined(8),
        rate: 200.0,
        obx: 5,
        message_bytes: 0,
        messages: None,
    };
}

/// Gateways that were started once; they may be stopped and started again.
#[derive(Debug)]
pub struct Traffic {
    /// What they are.
    pub plan: TrafficPlan,
    /// Their book, for progress and latency.
    pub book: Arc<SenderBook>,
    config: Arc<LoadConfig>,
    numbers: Vec<Arc<AtomicU64>>,
    by_hand: AtomicU64,
    running: Option<(watch::Sender<bool>, JoinSet<()>)>,
}

impl Traffic {
    /// Not started. `run` must be this traffic's alone: it tells its messages from all others.
    pub fn new(
        plan: TrafficPlan,
        address: SocketAddr,
        run: u32,
        canary: &str,
        ledger: &Path,
    ) -> Result<Traffic, Broken> {
        let book = Arc::new(SenderBook::open_verbatim(Some(ledger))?);
        let (window, ack_timeout) = match plan.mode {
            Mode::Lockstep => (1, Duration::from_secs(30)),
            Mode::Pipelined(window) => (window, Duration::from_secs(30)),
            Mode::Unanswered => (1, Duration::from_secs(30)),
            Mode::Impatient(window, patience) => (window, patience),
        };
        let sender = SenderConfig {
            window,
            ack_timeout,
            canary: Some(canary.to_owned()),
            answered: plan.mode != Mode::Unanswered,
            reconnect_pause: Duration::from_millis(20),
            drain: Duration::from_secs(60),
            ..SenderConfig::to(address.to_string())
        };
        let config = LoadConfig {
            obx: plan.obx,
            message_bytes: plan.message_bytes,
            run,
            canary: Some(canary.to_owned()),
            ..LoadConfig { sender, ..LoadConfig::to("") }
        };
        let numbers = (0..plan.connections).map(|_| Arc::default()).collect();
        Ok(Traffic { plan, book, config: Arc::new(config), numbers, by_hand: AtomicU64::new(0), running: None })
    }

    /// Starts sending, from where it stopped. Does nothing where it already sends.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (sender, number) in (0u32..).zip(&self.numbers) {
            let (give, take) = mpsc::channel(16);
            tasks.spawn(sender::run(self.config.sender.clone(), take, self.book.clone()));
            let generator = Generator {
                config: self.config.clone(),
                plan: self.plan.clone(),
                sender,
                number: number.clone(),
                give,
            };
            let mut stopped = stopped.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = crate::peer::stopped(&mut stopped) => {}
                    () = generator.run() => {}
                }
            });
        }
        self.running = Some((stop, tasks));
    }

    /// Makes no new messages and waits for the answers that are due, for a minute at most.
    pub async fn stop(&mut self) {
        if let Some((stop, tasks)) = self.running.take() {
            let _ = stop.send(true);
            tasks.join_all().await;
        }
    }

    /// Waits until each connection has sent its number of messages and has its answers.
    pub async fn finished(&mut self) {
        if let Some((_, tasks)) = self.running.take() {
            tasks.join_all().await;
        }
    }

    /// A message for a fault that sends with its own hand, as that sender's next; `sender` must be none of the plan's
    /// connections. It is in the book as sent: send it.
    pub fn by_hand(&self, sender: u32, change: impl FnOnce(&mut Vec<u8>)) -> Outbound {
        let seq = self.by_hand.fetch_add(1, Ordering::Relaxed) + 1;
        let id = MessageId { run: self.config.run, sender: sender.max(self.plan.connections), seq };
        let mut message = load::message(&self.config, id, Timestamp::now());
        change(&mut message);
        self.book.sent(id, Kind::R01, &message);
        self.book.flush();
        Outbound { id, kind: Kind::R01, message }
    }

    /// Enters what a message sent by hand was answered; false where the answer is another's.
    pub fn answered(&self, outbound: &Outbound, ack: &Ack, took: Duration) -> bool {
        let fits = ack.control_id == outbound.id.to_string().as_bytes();
        if fits {
            self.book.answered(outbound.id, ack, took);
        } else {
            self.book.count(|account| account.mismatched += 1);
        }
        self.book.flush();
        fits
    }

    /// Messages acknowledged so far; for gateways that ask for no answers, messages sent.
    pub fn acked(&self) -> u64 {
        let unanswered = self.plan.mode == Mode::Unanswered;
        self.book.with(|account| if unanswered { account.sent } else { account.acked })
    }
}

struct Generator {
    config: Arc<LoadConfig>,
    plan: TrafficPlan,
    sender: u32,
    number: Arc<AtomicU64>,
    give: mpsc::Sender<Outbound>,
}

impl Generator {
    async fn run(self) {
        let pause = match self.plan.rate {
            rate if rate > 0.0 => Duration::from_secs_f64(f64::from(self.plan.connections) / rate),
            _ => Duration::ZERO,
        };
        let mut due = Instant::now();
        loop {
            sleep_until(due).await;
            // What could not be sent while the engine was away is not made up for: that would be a storm of its own.
            due = (due + pause).max(Instant::now());
            // A place is had before the number is taken: a number taken and not sent would be a gap.
            let Ok(place) = self.give.reserve().await else { return };
            let seq = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            if self.plan.messages.is_some_and(|messages| seq > messages) {
                return;
            }
            let id = MessageId { run: self.config.run, sender: self.sender, seq };
            let mut message = load::message(&self.config, id, Timestamp::now());
            if self.plan.mode == Mode::Unanswered {
                ask_for_no_answer(&mut message);
            }
            place.send(Outbound { id, kind: Kind::R01, message });
        }
    }
}

/// MSH-15 from `AL` to `NE`, of the same length.
fn ask_for_no_answer(message: &mut [u8]) {
    let asks = b"|AL|NE|";
    if let Some(at) = message.windows(asks.len()).position(|window| window == asks) {
        message[at + 1..at + 3].copy_from_slice(b"NE");
    }
}
