//! An MLLP receiver that keeps the books and misbehaves on order. A message is in the account (and in the ledger file)
//! before its positive answer is written.

use crate::account::{SinkAccount, SinkBook};
use crate::frame::{Deframer, framed};
use crate::peer::{Peer, Service, each_connection, stopped};
use crate::script::{Followed, Script, ScriptFault, duration};
use crate::tls::{ServerTls, Stream};
use crate::v2::{self, AckMode, Outcome};
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// The default for [`SinkConfig::frame_bytes_max`].
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What an MLLP sink can be told to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkAction {
    /// `slow:50ms`: takes so long before it takes the message.
    Slow(Duration),
    /// `late:2s`: takes the message at once and answers so much later.
    Late(Duration),
    /// `AE`, `CE`, `AR`, `CR`: refuses; the mode is still the sender's choice.
    Refuse(Outcome),
    /// `none`: takes the message and never answers.
    Silent,
    /// `wrong-msa2`: takes the message and answers another control id.
    WrongControlId,
    /// `previous`: does not take the message and answers the one before it once more.
    Previous,
    /// `ignore`: does not take the message and does not answer.
    Ignore,
    /// `double`: takes the message and answers twice.
    Double,
    /// `unframed`: takes the message and answers without MLLP frame.
    Unframed,
    /// `split`: takes the message and answers byte by byte.
    Split,
    /// `close`: closes the connection and does not take the message.
    Close,
    /// `drop`: takes the message and closes the connection without answer.
    Drop,
}

const ACTIONS: &str = "AE, AR, CE, CR, none, ignore, wrong-msa2, previous, double, unframed, split, close, drop, slow:DURATION, late:DURATION";

impl FromStr for SinkAction {
    type Err = ScriptFault;

    fn from_str(text: &str) -> Result<SinkAction, ScriptFault> {
        Ok(match text {
            "AE" | "CE" => SinkAction::Refuse(Outcome::Error),
            "AR" | "CR" => SinkAction::Refuse(Outcome::Reject),
            "none" => SinkAction::Silent,
            "wrong-msa2" => SinkAction::WrongControlId,
            "previous" => SinkAction::Previous,
            "ignore" => SinkAction::Ignore,
            "double" => SinkAction::Double,
            "unframed" => SinkAction::Unframed,
            "split" => SinkAction::Split,
            "close" => SinkAction::Close,
            "drop" => SinkAction::Drop,
            _ => match text.split_once(':') {
                Some(("slow", time)) => SinkAction::Slow(duration(time)?),
                Some(("late", time)) => SinkAction::Late(duration(time)?),
                _ => return Err(ScriptFault::What { what: text.to_owned(), known: ACTIONS }),
            },
        })
    }
}

/// How a sink behaves. The default takes everything and answers as asked.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Faults by message.
    pub script: Script<SinkAction>,
    /// Times when it does not listen, since the start.
    pub outages: Vec<Range<Duration>>,
    /// Original or enhanced mode.
    pub ack_mode: AckMode,
    /// The largest message taken.
    pub frame_bytes_max: usize,
    /// The ledger file.
    pub ledger: Option<PathBuf>,
    /// Keep each message's hash, to be compared with what was sent.
    pub verbatim: bool,
    /// Takes connections over TLS alone.
    pub tls: Option<ServerTls>,
}

impl Default for SinkConfig {
    fn default() -> Self {
        SinkConfig {
            script: Script::default(),
            outages: Vec::new(),
            ack_mode: AckMode::AsAsked,
            frame_bytes_max: FRAME_BYTES_MAX,
            ledger: None,
            verbatim: false,
            tls: None,
        }
    }
}

/// A running MLLP sink.
#[derive(Debug)]
pub struct Sink(Peer<SinkService>);

impl Sink {
    /// Listens on `address`, such as `127.0.0.1:0`.
    pub async fn start(address: &str, config: SinkConfig) -> io::Result<Sink> {
        let outages = config.outages.clone();
        let open = if config.verbatim { SinkBook::open_verbatim } else { SinkBook::open };
        let book = open(config.ledger.as_deref())?;
        let script = Followed::new(config.script.clone());
        let service = SinkService { config, script, book, answers: AtomicU64::new(0) };
        Peer::start(address, service, &outages).await.map(Sink)
    }

    /// Where it listens, also while it is down.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Stops listening and closes every connection; the account stays.
    pub async fn down(&self) {
        self.0.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        self.0.up().await
    }

    /// The account as it stands.
    pub fn account(&self) -> SinkAccount {
        self.0.service().book.account()
    }

    /// Follows another script from now on; its messages are counted from 1.
    pub fn follow(&self, script: Script<SinkAction>) {
        self.0.service().script.change(script);
    }

    /// Messages treated by a rule so far: the faults this sink made.
    pub fn treated(&self) -> u64 {
        self.0.service().script.treated()
    }

    /// Times a message came that was taken already, without copying the account.
    pub fn repeats(&self) -> u64 {
        self.0.service().book.with(|account| account.repeats)
    }

    /// Different messages taken so far, without copying the account.
    pub fn received(&self) -> u64 {
        self.0.service().book.with(|account| account.received)
    }
}

#[derive(Debug)]
struct SinkService {
    config: SinkConfig,
    script: Followed<SinkAction>,
    book: SinkBook,
    answers: AtomicU64,
}

impl Service for SinkService {
    async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let converse = |stream, stop| {
            let service = self.clone();
            async move { service.converse(stream, stop).await }
        };
        each_connection(listener, stop, converse).await;
    }
}

/// The connection is to be closed.
struct Closed;

impl From<io::Error> for Closed {
    fn from(_: io::Error) -> Closed {
        Closed
    }
}

impl SinkService {
    async fn converse(&self, stream: TcpStream, stop: watch::Receiver<bool>) {
        let _ = stream.set_nodelay(true);
        let mut stop = stop;
        let stream = match &self.config.tls {
            None => Stream::Plain(stream),
            Some(tls) => tokio::select! {
                () = stopped(&mut stop) => return,
                secured = tls.secure(stream) => match secured {
                    Ok(secured) => secured,
                    Err(_) => return,
                },
            },
        };
        let mut line = Line { stream, stop, answers: Vec::new(), last: Bytes::new() };
        let mut deframer = Deframer::new(self.config.frame_bytes_max);
        loop {
            let more = tokio::select! {
                () = stopped(&mut line.stop) => break,
                read = line.stream.read_buf(&mut deframer.buffer) => matches!(read, Ok(1..)),
            };
            if !more || self.answer_all(&mut deframer, &mut line).await.is_err() {
                break;
            }
        }
        self.book.with(|account| account.noise += deframer.noise);
    }

    async fn answer_all(&self, deframer: &mut Deframer, line: &mut Line) -> Result<(), Closed> {
        loop {
            match deframer.next_message() {
                Ok(Some(message)) => self.answer(&message, line).await?,
                Ok(None) => return line.flush().await,
                Err(_) => {
                    self.book.with(|account| account.noise += deframer.buffer.len() as u64);
                    return Err(Closed);
                }
            }
        }
    }

    async fn answer(&self, message: &[u8], line: &mut Line) -> Result<(), Closed> {
        let number = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        let control_id = v2::field(message, "MSH", 10).unwrap_or_default();
        let plan = Plan::of(&self.script.next(&String::from_utf8_lossy(control_id)));
        line.wait(plan.slow).await?;
        match plan.fault {
            Some(SinkAction::Close) => return line.close().await,
            Some(SinkAction::Ignore) => return Ok(()),
            Some(SinkAction::Previous) => {
                line.put(&line.last.clone());
                return Ok(());
            }
            _ => {}
        }
        let outcome = if let Some(SinkAction::Refuse(outcome)) = plan.fault { outcome } else { Outcome::Accept };
        let code = v2::ack_code(message, outcome, self.config.ack_mode);
        self.enter(message, outcome, code);
        line.wait(plan.late).await?;
        if plan.fault == Some(SinkAction::Drop) {
            return line.close().await;
        }
        let Some(code) = code else { return Ok(()) };
        let ack = v2::ack(message, code, control_id, number);
        line.last = framed(&ack);
        match plan.fault {
            Some(SinkAction::Silent) => {}
            Some(SinkAction::WrongControlId) => {
                line.put(&framed(&v2::ack(message, code, &[control_id, b"-not"].concat(), number)));
            }
            Some(SinkAction::Double) => {
                line.put(&framed(&ack));
                line.put(&framed(&ack));
            }
            Some(SinkAction::Unframed) => line.put(&ack),
            Some(SinkAction::Split) => line.trickle(&framed(&ack)).await?,
            _ => line.put(&framed(&ack)),
        }
        Ok(())
    }

    fn enter(&self, message: &[u8], outcome: Outcome, code: Option<&str>) {
        let id = v2::message_id(message);
        match (outcome, id) {
            (Outcome::Accept, Some(id)) => {
                self.book.took(id, v2::kind(message), message);
            }
            (Outcome::Accept, None) => self.book.with(|account| account.unnamed += 1),
            _ => self.book.refused(id, code.unwrap_or("-")),
        }
    }
}

/// All actions for one message.
#[derive(Debug, Default)]
struct Plan {
    slow: Duration,
    late: Duration,
    fault: Option<SinkAction>,
}

impl Plan {
    fn of(actions: &[SinkAction]) -> Plan {
        let mut plan = Plan::default();
        for action in actions {
            match action {
                SinkAction::Slow(time) => plan.slow += *time,
                SinkAction::Late(time) => plan.late += *time,
                other => plan.fault = plan.fault.or(Some(*other)),
            }
        }
        plan
    }
}

/// One connection, with answers not yet written: those to frames that came together go out together.
struct Line {
    stream: Stream,
    stop: watch::Receiver<bool>,
    answers: Vec<u8>,
    /// The last answer that was due, in its frame.
    last: Bytes,
}

impl Line {
    fn put(&mut self, answer: &[u8]) {
        self.answers.extend_from_slice(answer);
    }

    /// Answers to earlier frames still go out.
    async fn close(&mut self) -> Result<(), Closed> {
        self.flush().await?;
        Err(Closed)
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let answers = std::mem::take(&mut self.answers);
        tokio::select! {
            () = stopped(&mut self.stop) => Err(Closed),
            written = async {
                self.stream.write_all(&answers).await?;
                self.stream.flush().await
            } => Ok(written?),
        }
    }

    /// Writes what is due, then waits, unless the sink goes down meanwhile.
    async fn wait(&mut self, time: Duration) -> Result<(), Closed> {
        if time.is_zero() {
            return Ok(());
        }
        self.flush().await?;
        if timeout(time, stopped(&mut self.stop)).await.is_ok() { Err(Closed) } else { Ok(()) }
    }

    async fn trickle(&mut self, answer: &[u8]) -> Result<(), Closed> {
        for &byte in answer {
            self.flush().await?;
            self.answers.push(byte);
            tokio::task::yield_now().await;
        }
        self.flush().await
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
