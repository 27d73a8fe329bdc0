//! The sending side of a measurement: connections that each keep a fixed number of messages unanswered and hold every answer
//! against the message it must be for. Rates count what was answered inside the measured time; faults count from the first
//! message to the last.

use super::message::{Id, Template};
use super::wire::{acknowledgement, take_frames};
use crate::latency::Latency;
use crate::tls::{ClientTls, Stream};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const READ_BYTES: usize = 64 << 10;
/// A peer that says nothing for so long has lost what it was sent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection waits before it looks again whether more may be under way.
const FLOW_POLL: Duration = Duration::from_millis(2);
const PIECE_BYTES_MAX: u64 = 3 * 4096;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock of senders and receivers of this process, in nanoseconds.
pub(super) fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// How many messages are under way between a load and its receiver, and how many may be.
#[derive(Debug)]
pub struct Flow {
    /// Messages sent.
    pub sent: AtomicU64,
    /// Messages that reached the receiver.
    pub delivered: AtomicU64,
    bound: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Flow::bounded(u64::MAX)
    }
}

impl Flow {
    /// Sends no more while `bound` messages are under way.
    pub fn bounded(bound: u64) -> Flow {
        Flow { sent: AtomicU64::new(0), delivered: AtomicU64::new(0), bound }
    }

    fn is_full(&self) -> bool {
        let (sent, delivered) = (self.sent.load(Ordering::Acquire), self.delivered.load(Ordering::Acquire));
        sent.saturating_sub(delivered) >= self.bound
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Over TLS, where it is given.
    pub tls: Option<ClientTls>,
    /// Connections at the same time.
    pub connections: u64,
    /// Messages a connection may have unanswered; 1 is stop and wait.
    pub window: usize,
    /// Sent before anything is counted.
    pub warm_up: Duration,
    /// Measured.
    pub time: Duration,
    /// Ends after so many messages a connection, whatever the time; then everything is measured.
    pub messages: Option<u64>,
    /// The server returns the message itself.
    pub echo: bool,
    /// Writes in pieces that end anywhere, also amid a frame and amid the next.
    pub pieces: bool,
    /// A pause before each message.
    pub pause: Duration,
    /// Bounds what is under way to a receiver.
    pub flow: Arc<Flow>,
}

impl Load {
    /// Stop and wait on so many connections, measured for `time` after a warm-up of half a second.
    pub fn to(address: SocketAddr, connections: u64, time: Duration) -> Load {
        Load {
            address,
            tls: None,
            connections,
            window: 1,
            warm_up: Duration::from_millis(500),
            time,
            messages: None,
            echo: false,
            pieces: false,
            pause: Duration::ZERO,
            flow: Arc::default(),
        }
    }
}

/// Answers that were not the expected positive one, and messages without an answer. All zero, or the speed is worth nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Answers to no message that was sent, or unreadable.
    pub wrong: u64,
    /// Messages never answered.
    pub lost: u64,
    /// Answers to a message already answered.
    pub repeated: u64,
    /// Answers before those to earlier messages.
    pub reordered: u64,
    /// Negative answers.
    pub refused: u64,
}

/// What a load met.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Positive answers inside the measured time.
    pub counted: u64,
    /// The measured time.
    pub measured: Duration,
    /// Positive answers in all.
    pub answered: u64,
    /// From writing a message to its answer, inside the measured time.
    pub latency: Latency,
    /// What was not right.
    pub answers: Answers,
    /// Writes that held parts of two frames or more.
    pub coalesced: u64,
    /// Writes that ended amid a frame.
    pub split: u64,
}

impl Outcome {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.counted as f64 / self.measured.as_secs_f64()
    }

    fn add(&mut self, other: &Outcome) {
        self.counted += other.counted;
        self.answered += other.answered;
        self.latency.add(&other.latency);
        self.answers.add(other.answers);
        self.coalesced += other.coalesced;
        self.split += other.split;
    }
}

impl Answers {
    /// Adds what another counted.
    pub fn add(&mut self, other: Answers) {
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.refused += other.refused;
    }
}

impl Load {
    /// Sends as `run`, which no earlier load to this server was.
    pub async fn run(self, run: u32) -> Outcome {
        let begun = Instant::now();
        let start = if self.messages.is_some() { begun } else { begun + self.warm_up };
        let (load, template) = (Arc::new(self), Arc::new(Template::new()));
        let mut connections = JoinSet::new();
        for connection in 0..load.connections {
            let state = Connection::new(load.clone(), template.clone(), Id { run, connection, number: 0 }, start);
            connections.spawn(state.converse());
        }
        let mut whole = Outcome::default();
        while let Some(part) = connections.join_next().await {
            whole.add(&part.unwrap_or_default());
        }
        whole.measured = if load.messages.is_some() { begun.elapsed() } else { load.time };
        whole
    }
}

struct Connection {
    load: Arc<Load>,
    template: Arc<Template>,
    /// The next message.
    next: Id,
    start: Instant,
    end: Option<Instant>,
    /// Numbers and when they were written.
    waiting: VecDeque<(u64, Instant)>,
    outcome: Outcome,
}

impl Connection {
    fn new(load: Arc<Load>, template: Arc<Template>, next: Id, start: Instant) -> Connection {
        let end = if load.messages.is_some() { None } else { Some(start + load.time) };
        Connection { load, template, next, start, end, waiting: VecDeque::new(), outcome: Outcome::default() }
    }

    async fn converse(mut self) -> Outcome {
        // A failure shows as messages lost; one that could not even connect has lost one.
        if self.exchange().await.is_err() {
            self.outcome.answers.lost += 1;
        }
        self.outcome.answers.lost += self.waiting.len() as u64;
        self.outcome
    }

    async fn exchange(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.load.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.load.tls.clone() else { return self.talk(stream).await };
        match tls.secure(&self.load.address.to_string(), stream).await? {
            Stream::Plain(stream) => self.talk(stream).await,
            Stream::Secured(secured) => self.talk(*secured).await,
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut stream: S) -> io::Result<()> {
        let (mut buffer, mut scanned, mut out) = (Vec::with_capacity(READ_BYTES), 0, Vec::new());
        loop {
            self.fill(&mut out).await;
            self.write(&mut stream, &out).await?;
            if self.waiting.is_empty() {
                return Ok(());
            }
            let read = timeout(PATIENCE, stream.read_buf(&mut buffer)).await;
            if !matches!(read, Ok(Ok(1..))) {
                return Ok(());
            }
            take_frames(&mut buffer, &mut scanned, |frame| self.take(frame));
        }
    }

    /// Puts into `out` as many messages as may be written now; none when the time is over.
    async fn fill(&mut self, out: &mut Vec<u8>) {
        out.clear();
        while self.waiting.len() < self.load.window && self.may_send() {
            if self.load.flow.is_full() {
                if !self.waiting.is_empty() {
                    return;
                }
                sleep(FLOW_POLL).await;
                continue;
            }
            if !self.load.pause.is_zero() {
                sleep(self.load.pause).await;
            }
            self.load.flow.sent.fetch_add(1, Ordering::Release);
            self.template.put(out, self.next, now());
            self.waiting.push_back((self.next.number, Instant::now()));
            self.next.number += 1;
        }
    }

    fn may_send(&self) -> bool {
        match (self.load.messages, self.end) {
            (Some(messages), _) => self.next.number < messages,
            (None, end) => end.is_none_or(|end| Instant::now() < end),
        }
    }

    async fn write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, out: &[u8]) -> io::Result<()> {
        if !self.load.pieces {
            self.outcome.coalesced += u64::from(out.len() > self.template.bytes());
            stream.write_all(out).await?;
            return stream.flush().await;
        }
        let (frame, mut at) = (self.template.bytes(), 0);
        while at < out.len() {
            let salt = self.next.number ^ (self.next.connection << 32);
            let piece = 1 + (crate::mix(salt, at as u64) % PIECE_BYTES_MAX) as usize;
            let end = (at + piece).min(out.len());
            self.outcome.coalesced += u64::from(at / frame != (end - 1) / frame);
            self.outcome.split += u64::from(!end.is_multiple_of(frame));
            stream.write_all(&out[at..end]).await?;
            stream.flush().await?;
            tokio::task::yield_now().await;
            at = end;
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) {
        let got = Instant::now();
        let answer = if self.load.echo {
            super::wire::control_id(frame).map(|id| (&b"CA"[..], id))
        } else {
            acknowledgement(frame)
        };
        let own = |id: &Id| id.run == self.next.run && id.connection == self.next.connection;
        let Some((code, id)) = answer.and_then(|(code, id)| Some((code, Id::read(id).filter(own)?))) else {
            self.outcome.answers.wrong += 1;
            return;
        };
        let Some(sent) = self.answered(id.number) else { return };
        if !matches!(code, b"CA" | b"AA") {
            self.outcome.answers.refused += 1;
            return;
        }
        self.outcome.answered += 1;
        if sent >= self.start && self.end.is_none_or(|end| got <= end) {
            self.outcome.counted += 1;
            self.outcome.latency.record(got - sent);
        }
    }

    /// When the message was sent that this answer is for; counts an answer that is not to the oldest one.
    fn answered(&mut self, number: u64) -> Option<Instant> {
        let Some(place) = self.waiting.iter().position(|&(waiting, _)| waiting == number) else {
            let counter = &mut self.outcome.answers;
            *if number < self.next.number { &mut counter.repeated } else { &mut counter.wrong } += 1;
            return None;
        };
        self.outcome.answers.reordered += u64::from(place > 0);
        self.waiting.remove(place).map(|(_, sent)| sent)
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
