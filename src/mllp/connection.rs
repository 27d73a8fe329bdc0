//! One inbound connection: a loop that reads and hands frames on, and one that writes their answers in the same order.
//!
//! The states are drawn in `server`. Nothing here waits without a bound that the operator has set, but for the answers
//! themselves; and nothing here answers: a frame that is read and not handed on ends without an answer.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::future::{BoxFuture, ready};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    CodecError, Decoded, Oddities,
    budget::{InFlight, Share},
    codec::{FRAMING_BYTES, frame_into},
    complaints::Complaints,
    outlet::{Late, Letters},
    queue::Queue,
    reader::{Reader, Silence},
    server::{Answer, FrameHandler, Limits},
    tls::Refused,
};
use crate::{
    metrics::Metrics,
    sabotage::{self, CrashPoint},
};

/// What a frame that is being read may hold without a share of the byte budget.
const FREE_BYTES: usize = 64 * 1024;
/// Answers gathered for one write.
const WRITE_BYTES: usize = 64 * 1024;
/// How long a peer's last bytes are read away, so that they do not reset the connection before our answers are read.
const LINGER: Duration = Duration::from_secs(1);
/// How many of them: a flood is not read away for as long as it comes.
const LINGER_BYTES: u64 = 32 << 20;
/// Wait for the byte budget inside of a frame where no frame timeout is set.
const BUDGET_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection and what it needs.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) limits: Arc<Limits>,
    pub(super) handler: Arc<dyn FrameHandler>,
    pub(super) in_flight: InFlight,
    pub(super) counters: Counters,
    /// Ends the reading.
    pub(super) stop: CancellationToken,
}

impl Limits {
    /// How long a frame that holds a part of the budget may wait for more of it.
    fn patience(&self) -> Duration {
        if self.frame_timeout.is_zero() { BUDGET_TIMEOUT } else { self.frame_timeout }
    }
}

/// Counts what happens to a connection under its channel's name.
pub(super) struct Counters {
    pub(super) metrics: Arc<Metrics>,
    pub(super) label: Arc<str>,
    pub(super) complaints: Arc<Complaints>,
}

/// A frame handed on, waiting for its answer.
struct Pending {
    answer: BoxFuture<'static, Answer>,
    received: std::time::Instant,
    _share: Option<Share>,
}

/// How far the writing side is behind the reading one: a peer that waits for an answer is not idle, and what comes behind
/// an answer that ends the connection is not handed on. It would be kept, and the frames before it, sent again, behind it.
#[derive(Default)]
struct Progress(Mutex<(usize, Option<Instant>)>, AtomicBool);

impl Progress {
    fn taken(&self) {
        self.lock().0 += 1;
    }

    fn answered(&self, frames: usize) {
        let mut progress = self.lock();
        *progress = (progress.0 - frames, Some(Instant::now()));
    }

    fn closes(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }

    /// Since when the peer has been waiting for nothing; now, where a frame is unanswered.
    fn idle_since(&self, last_byte: Instant) -> Instant {
        match *self.lock() {
            (0, answered) => answered.map_or(last_byte, |answered| answered.max(last_byte)),
            _ => Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Option<Instant>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which side ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer sends no more.
    Peer,
    /// We take no more; the peer may still be sending.
    Ours,
    /// Nothing can be written.
    Broken,
}

impl Connection {
    /// Serves until either side ends it.
    pub(super) async fn serve<R, W>(&self, mut read: R, mut write: W, late: &mut Letters)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let waiting = Queue::new(self.limits.pipelined_frames_max);
        let progress = Progress::default();
        let end = {
            let reader = Reader::new(self.limits.frame_bytes_max);
            let mut reading =
                Reading { connection: self, read: &mut read, reader, taken: &waiting, progress: &progress };
            let mut reading = pin!(reading.run());
            let mut writing = pin!(self.write_answers(&mut write, &waiting, late, &progress));
            tokio::select! {
                biased;
                end = &mut writing => end,
                end = &mut reading => {
                    waiting.end();
                    match writing.await {
                        End::Broken => End::Broken,
                        _ => end,
                    }
                }
            }
        };
        debug!(peer = %self.peer, ?end, "connection ended");
        if end != End::Broken {
            let _ = timeout(LINGER, write.shutdown()).await;
        }
        if end == End::Ours {
            let mut last = read.take(LINGER_BYTES);
            let _ = timeout(LINGER, tokio::io::copy(&mut last, &mut tokio::io::sink())).await;
        }
    }

    /// Writes the answers in the order their frames came; those that are ready together go in one write, and what comes
    /// late goes between.
    async fn write_answers<W>(
        &self,
        write: &mut W,
        waiting: &Queue<Pending>,
        late: &mut Letters,
        progress: &Progress,
    ) -> End
    where
        W: AsyncWrite + Unpin,
    {
        let mut batch = Batch::default();
        let Ok(mut next) = self.beside(write, late, waiting.take()).await else { return End::Broken };
        while let Some(mut pending) = next.take() {
            let Ok(answer) = self.beside(write, late, &mut pending.answer).await else { return End::Broken };
            batch.add(pending, answer);
            while !batch.is_full() {
                let Some(mut pending) = waiting.try_take() else { break };
                match ready_now(&mut pending.answer).await {
                    Some(answer) => batch.add(pending, answer),
                    None => {
                        next = Some(pending);
                        break;
                    }
                }
            }
            if batch.close {
                progress.closes();
            }
            if self.write_batch(write, &batch.bytes).await.is_err() {
                return End::Broken;
            }
            sabotage::crash_at(CrashPoint::AfterAck);
            progress.answered(batch.answers.len());
            for (answer, pending) in batch.answers.drain(..) {
                self.handler.answered(&answer, pending.received);
            }
            if batch.close {
                return End::Ours;
            }
            batch = Batch::default();
            if next.is_none() {
                match self.beside(write, late, waiting.take()).await {
                    Ok(pending) => next = pending,
                    Err(_) => return End::Broken,
                }
            }
        }
        End::Peer
    }

    /// Waits for `work`, and meanwhile writes what comes late; what is due goes first.
    async fn beside<W, T>(
        &self,
        write: &mut W,
        late: &mut Letters,
        mut work: impl Future<Output = T> + Unpin,
    ) -> io::Result<T>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                Some(letter) = late.next() => Box::pin(self.write_late(write, letter)).await?,
            }
        }
    }

    async fn write_late<W>(&self, write: &mut W, Late { message, written }: Late) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let mut frame = BytesMut::with_capacity(message.len() + FRAMING_BYTES);
        frame_into(&message, &mut frame);
        self.write_batch(write, &frame).await?;
        // Who sent it may have stopped waiting.
        let _ = written.send(());
        Ok(())
    }

    async fn write_batch<W>(&self, write: &mut W, bytes: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let left = match poll_fn(|context| Poll::Ready(write_now(write, bytes, context))).await? {
            Some(written) => &bytes[written..],
            None => return Ok(()),
        };
        // In a box, as most is written at once.
        let written = Box::pin(async {
            write.write_all(left).await?;
            write.flush().await
        });
        if self.limits.write_timeout.is_zero() {
            return written.await;
        }
        match Box::pin(timeout(self.limits.write_timeout, written)).await {
            Ok(result) => result,
            Err(_) => {
                self.counters.limit("write_timeout");
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }
}

/// Writes what can be written without waiting: how much, or `None` where that is all and nothing is held back.
fn write_now<W>(write: &mut W, bytes: &[u8], context: &mut Context<'_>) -> io::Result<Option<usize>>
where
    W: AsyncWrite + Unpin,
{
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *write).poll_write(context, &bytes[written..])? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(more) => written += more,
            Poll::Pending => return Ok(Some(written)),
        }
    }
    let flushed = Pin::new(write).poll_flush(context)?;
    Ok(flushed.is_pending().then_some(written))
}

/// The reading loop.
struct Reading<'c, R> {
    connection: &'c Connection,
    read: &'c mut R,
    reader: Reader,
    /// Frames handed on, waiting for their answers.
    taken: &'c Queue<Pending>,
    progress: &'c Progress,
}

impl<R: AsyncRead + Unpin> Reading<'_, R> {
    async fn run(&mut self) -> End {
        let end = loop {
            if self.make_room().await.is_none() {
                self.connection.counters.limit("in_flight_bytes");
                break End::Ours;
            }
            let event = self.next_event().await;
            let ended = matches!(event, Event::Ended);
            let first = match event {
                Event::Bytes | Event::Ended => None,
                Event::Silence(Silence::FrameEnd) => self.reader.end_frame(),
                Event::Silence(Silence::Idle) if self.is_awaited() => continue,
                Event::Silence(silence) => {
                    self.connection.counters.limit(silence.limit());
                    break End::Ours;
                }
                Event::Stop => break End::Ours,
            };
            let end = self.hand_all(first, ended).await;
            if let Some(end) = end.or(ended.then_some(End::Peer)) {
                break end;
            }
        };
        self.reader.end();
        end
    }

    /// Room for the next read. A frame above the free part first gets its share of the byte budget; `None` where none
    /// was to be had in time.
    async fn make_room(&mut self) -> Option<()> {
        let limits = &self.connection.limits;
        let Some(capacity) = self.reader.capacity_wanted(limits.frame_bytes_max) else { return Some(()) };
        if capacity > FREE_BYTES {
            let share = self.reader.share.take();
            self.reader.share = Some(self.connection.in_flight.grow(share, capacity, limits.patience()).await?);
        }
        self.reader.move_to(capacity);
        Some(())
    }

    async fn next_event(&mut self) -> Event {
        let deadline = self.reader.deadline(&self.connection.limits);
        let silence = async {
            match deadline {
                Some((at, silence)) => {
                    sleep_until(at).await;
                    silence
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.connection.stop.cancelled() => Event::Stop,
            length = self.reader.read(self.read) => match length {
                Ok(0) | Err(_) => Event::Ended,
                Ok(_) => {
                    self.reader.bytes_came();
                    Event::Bytes
                }
            },
            silence = silence => Event::Silence(silence),
        }
    }

    /// Whether the peer's silence is ours: it waited for an answer since its last byte. Then its idle time starts anew.
    fn is_awaited(&mut self) -> bool {
        let idle_since = self.progress.idle_since(self.reader.idle_since);
        std::mem::replace(&mut self.reader.idle_since, idle_since) < idle_since
    }

    /// Hands on `first` and every whole frame in the buffer. An end where the connection reads no more after them.
    async fn hand_all(&mut self, first: Option<Decoded>, ended: bool) -> Option<End> {
        let received = std::time::Instant::now();
        let mut next = Ok(first);
        let end = loop {
            match next {
                Ok(Some(decoded)) => {
                    let oversized = matches!(decoded, Decoded::Oversized(_));
                    if let Err(end) = self.hand_on(decoded, received).await {
                        break Some(end);
                    }
                    if oversized {
                        break Some(End::Ours);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    self.connection.counters.codec_error(&error, self.connection.peer);
                    break Some(End::Ours);
                }
            }
            next = self.reader.decode(ended);
            if matches!(next, Ok(None)) {
                break None;
            }
        };
        self.tell_oddities();
        self.reader.settle();
        end
    }

    /// Counts what was tolerated, and tells it before the next frame is handed on.
    fn tell_oddities(&mut self) {
        let oddities = self.reader.codec.take_oddities();
        if oddities != Oddities::default() {
            self.connection.counters.oddities(oddities);
            self.connection.handler.oddities(self.connection.peer, &oddities);
        }
    }

    /// Hands one frame on when there is a place for it; an end where the writing side is gone or about to close.
    async fn hand_on(&mut self, decoded: Decoded, received: std::time::Instant) -> Result<(), End> {
        let Connection { handler, peer, counters, in_flight, .. } = self.connection;
        let taken = self.taken;
        match decoded {
            Decoded::Frame(content) => {
                let content = self.reader.unpinned(content);
                let weight = handler.weight(&content);
                // What takes more than its bytes leaves the half for whole frames to those that do not.
                let share = match self.reader.share.take() {
                    None if weight <= content.len() => in_flight.take(weight).await.ok_or(End::Broken)?,
                    share => {
                        let grown = Box::pin(in_flight.grow(share, weight, self.connection.limits.patience())).await;
                        grown.ok_or_else(|| {
                            counters.limit("in_flight_bytes");
                            End::Ours
                        })?
                    }
                };
                if !taken.room().await {
                    return Err(End::Broken);
                }
                if self.progress.is_closing() {
                    return Err(End::Ours);
                }
                self.progress.taken();
                self.tell_oddities();
                let answer = handler.frame(*peer, content, received);
                taken.try_put(Pending { answer, received, _share: Some(share) }).map_err(|_| End::Broken)?;
            }
            Decoded::Oversized(head) => {
                counters.bad_frames("oversized", 1);
                if !taken.room().await {
                    return Err(End::Broken);
                }
                self.progress.taken();
                let answer = Answer { close: true, ..handler.oversized(*peer, head) };
                let answer = Box::pin(ready(answer));
                taken.try_put(Pending { answer, received, _share: None }).map_err(|_| End::Broken)?;
            }
        }
        Ok(())
    }
}

enum Event {
    Bytes,
    /// FIN, or the connection is broken.
    Ended,
    Silence(Silence),
    Stop,
}

/// Answers that go in one write.
#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    answers: Vec<(Answer, Pending)>,
    close: bool,
}

impl Batch {
    fn add(&mut self, pending: Pending, answer: Answer) {
        for message in &answer.messages {
            frame_into(message, &mut self.bytes);
        }
        self.close |= answer.close;
        self.answers.push((answer, pending));
    }

    fn is_full(&self) -> bool {
        self.close || self.bytes.len() >= WRITE_BYTES
    }
}

/// The future's outcome if it is there now. One that is not will be waited for later, which wakes this task then.
async fn ready_now(answer: &mut BoxFuture<'static, Answer>) -> Option<Answer> {
    poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

impl Counters {
    /// A handshake that failed.
    pub(super) fn refused(&self, peer: SocketAddr, refused: Refused) {
        self.metrics.tls_handshake_failures.with_label_values(&[&*self.label, refused.reason()]).inc();
        self.complain(peer, refused.reason(), refused.remedy());
    }

    /// Tells who must do what, once in a while.
    fn complain(&self, peer: SocketAddr, fault: &'static str, remedy: &str) {
        if let Some(times) = self.complaints.due(fault) {
            warn!(channel = %self.label, %peer, fault, times, remedy, "peer not let in");
        }
    }

    fn limit(&self, limit: &str) {
        self.metrics.limits_hit.with_label_values(&[&*self.label, limit]).inc();
    }

    fn bad_frames(&self, reason: &str, count: u64) {
        if count > 0 {
            self.metrics.bad_frames.with_label_values(&[&*self.label, reason]).inc_by(count);
        }
    }

    fn oddities(&self, oddities: Oddities) {
        for (reason, count) in oddities.by_reason() {
            self.bad_frames(reason, count);
        }
    }

    fn codec_error(&self, error: &CodecError, peer: SocketAddr) {
        match error {
            CodecError::Tls => {
                self.bad_frames("protocol_mismatch", 1);
                self.complain(peer, "tls", "the gateway speaks TLS and this listener does not: set `tls` in [listener], or switch it off at the gateway");
            }
            CodecError::ProtocolMismatch => {
                self.bad_frames("protocol_mismatch", 1);
                self.complain(
                    peer,
                    "protocol_mismatch",
                    "the peer speaks HTTP or the like: it must speak MLLP here, or call another address",
                );
            }
            CodecError::Noise => self.limit("noise_bytes"),
            CodecError::Io(_) => {}
        }
    }
}
