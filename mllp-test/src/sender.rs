//! One gateway connection: sends what it is given, keeps up to `window` messages unanswered, and matches each answer to
//! the oldest of them. After any doubt the connection is closed: a late answer must never be taken for the next
//! message's. With `resend`, what was not answered goes out again, first and in order, under the same control ids.

use crate::account::SenderBook;
use crate::frame::{Deframer, framed};
use crate::id::{Kind, MessageId};
use crate::tls::{self, ClientTls, Stream};
use crate::v2::Ack;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const ACK_BYTES_MAX: usize = 64 << 10;
const WRITE_BYTES_MAX: usize = 256 << 10;

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Its identity, also in its MSH-10.
    pub id: MessageId,
    /// What it is.
    pub kind: Kind,
    /// The message, without frame.
    pub message: Vec<u8>,
}

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// The receiver's `host:port`.
    pub address: String,
    /// Over TLS, where it is given.
    pub tls: Option<ClientTls>,
    /// How many messages may wait for an answer; 1 is lockstep.
    pub window: usize,
    /// How long to wait for each answer.
    pub ack_timeout: Duration,
    /// Whether answers come at all: without them each message is sent once and then given up.
    pub answered: bool,
    /// Whether what was not answered is sent again after reconnecting.
    pub resend: bool,
    /// A word that is in every message and may be in no answer.
    pub canary: Option<String>,
    /// The pause before connecting again.
    pub reconnect_pause: Duration,
    /// How long to try for one connection before the rest is given up; `None` tries for ever.
    pub connect_for: Option<Duration>,
    /// How long to go on for outstanding answers after the last message was given.
    pub drain: Duration,
}

impl SenderConfig {
    /// Usual values for a gateway.
    pub fn to(address: impl Into<String>) -> SenderConfig {
        SenderConfig {
            address: address.into(),
            tls: None,
            window: 1,
            ack_timeout: Duration::from_secs(30),
            answered: true,
            resend: true,
            canary: None,
            reconnect_pause: Duration::from_millis(100),
            connect_for: None,
            drain: Duration::from_secs(30),
        }
    }
}

/// Sends everything from `source`, reconnecting as often as needed; ends when `source` has ended and each message is
/// answered or given up, or no connection was had for `connect_for`.
pub async fn run(config: SenderConfig, mut source: mpsc::Receiver<Outbound>, book: Arc<SenderBook>) {
    let mut sender = Sender { config, book, pending: VecDeque::new(), give_up: None };
    while let Some(stream) = sender.connect(&source).await {
        let ended = match stream {
            Stream::Plain(stream) => {
                let (reader, writer) = stream.into_split();
                sender.session(reader, writer, &mut source).await
            }
            secured => {
                let (reader, writer) = tokio::io::split(secured);
                sender.session(reader, writer, &mut source).await
            }
        };
        if ended == Ended::Done {
            break;
        }
        if !sender.config.resend {
            sender.give_up_pending();
        }
        // A receiver that takes connections only to close them must not be stormed.
        sleep(sender.config.reconnect_pause).await;
    }
    sender.give_up_pending();
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Cut,
}

struct Pending {
    id: MessageId,
    kind: Kind,
    frame: Bytes,
    sent_at: Instant,
}

struct Sender {
    config: SenderConfig,
    book: Arc<SenderBook>,
    pending: VecDeque<Pending>,
    /// Set once `source` has ended.
    give_up: Option<Instant>,
}

impl Sender {
    /// `None` when there is nothing more to do, or no more time to do it.
    async fn connect(&mut self, source: &mpsc::Receiver<Outbound>) -> Option<Stream> {
        let begun = Instant::now();
        loop {
            if source.is_closed() {
                let give_up = *self.give_up.get_or_insert_with(|| Instant::now() + self.config.drain);
                if Instant::now() >= give_up || (self.pending.is_empty() && source.is_empty()) {
                    return None;
                }
            }
            let attempt = tls::connect(&self.config.address, self.config.tls.as_ref());
            let attempt = timeout(self.config.ack_timeout, attempt).await;
            // On a free local port a connection can meet itself, and would keep the receiver from coming back.
            let is_itself = |stream: &Stream| match stream {
                Stream::Plain(stream) => stream.local_addr().ok() == stream.peer_addr().ok(),
                Stream::Secured(_) => false,
            };
            if let Ok(Ok(stream)) = attempt
                && !is_itself(&stream)
            {
                self.book.count(|account| account.connections += 1);
                return Some(stream);
            }
            self.book.count(|account| account.connect_failures += 1);
            if self.config.connect_for.is_some_and(|limit| begun.elapsed() >= limit) {
                self.book.count(|account| account.unreachable += 1);
                return None;
            }
            sleep(self.config.reconnect_pause).await;
        }
    }

    async fn session(
        &mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        source: &mut mpsc::Receiver<Outbound>,
    ) -> Ended {
        let mut answers = Deframer::new(ACK_BYTES_MAX);
        let mut out = self.pending_again();
        let mut open = !(source.is_closed() && source.is_empty());
        let ended = loop {
            if !open {
                self.give_up.get_or_insert_with(|| Instant::now() + self.config.drain);
                if self.pending.is_empty() && !out.has_remaining() {
                    break Ended::Done;
                }
            }
            let room = open && self.pending.len() < self.config.window && out.len() < WRITE_BYTES_MAX;
            tokio::select! {
                read = reader.read_buf(&mut answers.buffer) => {
                    if !matches!(read, Ok(1..)) || !self.take_answers(&mut answers) {
                        break Ended::Cut;
                    }
                }
                written = writer.write_buf(&mut out), if out.has_remaining() => if written.is_err() {
                    break Ended::Cut;
                },
                next = source.recv(), if room => match next {
                    Some(first) => self.launch(first, source, &mut out),
                    None => open = false,
                },
                () = sleep_until(self.next_deadline()), if !self.pending.is_empty() => {
                    break self.out_of_time();
                }
            }
        };
        self.book.count(|account| account.noise += answers.noise);
        ended
    }

    fn pending_again(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        for pending in &mut self.pending {
            pending.sent_at = Instant::now();
            self.book.resent(pending.id, pending.kind);
            out.extend_from_slice(&pending.frame);
        }
        self.book.flush();
        out
    }

    /// Puts the message and those ready behind it into `out`, as far as the window allows.
    fn launch(&mut self, first: Outbound, source: &mut mpsc::Receiver<Outbound>, out: &mut BytesMut) {
        let mut next = Some(first);
        while let Some(Outbound { id, kind, message }) = next {
            self.book.sent(id, kind, &message);
            let frame = framed(&message);
            out.extend_from_slice(&frame);
            if self.config.answered {
                self.pending.push_back(Pending { id, kind, frame, sent_at: Instant::now() });
            }
            let room = self.pending.len() < self.config.window && out.len() < WRITE_BYTES_MAX;
            next = if room { source.try_recv().ok() } else { None };
        }
        self.book.flush();
    }

    /// False when the connection can no longer be trusted.
    fn take_answers(&mut self, answers: &mut Deframer) -> bool {
        loop {
            match answers.next_message() {
                Ok(Some(answer)) if !self.take_answer(&answer) => return false,
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.book.flush();
                    return true;
                }
                Err(_) => {
                    self.book.count(|account| account.mismatched += 1);
                    return false;
                }
            }
        }
    }

    fn take_answer(&mut self, answer: &[u8]) -> bool {
        if self.config.canary.as_ref().is_some_and(|word| contains(answer, word.as_bytes())) {
            self.book.count(|account| account.leaked += 1);
        }
        let Some(oldest) = self.pending.front() else {
            self.book.count(|account| account.unexpected += 1);
            return false;
        };
        match Ack::read(answer) {
            Some(ack) if ack.control_id == oldest.id.to_string().as_bytes() => {
                self.book.answered(oldest.id, &ack, oldest.sent_at.elapsed());
                self.pending.pop_front();
                true
            }
            _ => {
                self.book.count(|account| account.mismatched += 1);
                false
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let oldest = self.pending.front().map_or_else(Instant::now, |pending| pending.sent_at);
        let due = oldest + self.config.ack_timeout;
        self.give_up.map_or(due, |give_up| give_up.min(due))
    }

    fn out_of_time(&self) -> Ended {
        if let Some(oldest) = self.pending.front() {
            self.book.timed_out(oldest.id);
        }
        let over = self.give_up.is_some_and(|give_up| Instant::now() >= give_up);
        if over { Ended::Done } else { Ended::Cut }
    }

    fn give_up_pending(&mut self) {
        self.pending.drain(..).for_each(|pending| self.book.lost(pending.id));
        self.book.flush();
    }
}

fn contains(answer: &[u8], word: &[u8]) -> bool {
    answer.windows(word.len().max(1)).any(|window| window == word)
}
