//! One connection through the proxy: a pump for each direction, ended together by a cut or each by its sender's end.

use super::place::Place;
use super::{At, Conditions, Cut, Flow, How, Line, Order, reset};
use crate::peer::stopped;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

const READ_BYTES: usize = 64 << 10;
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// `InFrame` is at most so deep: an ACK's frame is a little longer.
const DEPTH_MAX: f64 = 60.0;

/// Relays until both directions have ended or one is cut.
pub(super) async fn relay(
    line: &Line,
    mut client: TcpStream,
    mut target: TcpStream,
    mut orders: watch::Receiver<Order>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = client.set_nodelay(true);
    let _ = target.set_nodelay(true);
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_target, to_target) = target.split();
        let there = Pump::new(line, |conditions| &conditions.to_target).run(from_client, to_target);
        let back = Pump::new(line, |conditions| &conditions.to_client).run(from_target, to_client);
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.err(),
            Ok(()) = orders.changed() => orders.borrow().1.map(End::Cut),
            () = stopped(&mut stop) => None,
        }
    };
    if let Some(End::Cut(_)) = ended {
        line.cuts.fetch_add(1, Ordering::Relaxed);
    }
    if matches!(ended, Some(End::Broken | End::Cut(How::Reset))) {
        reset(&client);
        reset(&target);
    }
}

/// Why both directions end at once.
enum End {
    /// On order.
    Cut(How),
    /// A peer broke its side; the other is to see it.
    Broken,
}

/// One direction.
struct Pump<'l> {
    line: &'l Line,
    conditions: watch::Receiver<Conditions>,
    side: fn(&Conditions) -> &Flow,
    place: Place,
    /// How far into a frame this connection is cut.
    depth: u64,
}

impl<'l> Pump<'l> {
    fn new(line: &'l Line, side: fn(&Conditions) -> &Flow) -> Pump<'l> {
        let depth = 1 + (line.chance() * DEPTH_MAX) as u64;
        Pump { line, conditions: line.conditions.subscribe(), side, place: Place::default(), depth }
    }

    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), End> {
        let mut chunk = Vec::with_capacity(READ_BYTES);
        loop {
            self.released().await;
            chunk.clear();
            if !self.fill(&mut from, &mut chunk).await? {
                // A line that holds everything holds the end too.
                self.released().await;
                return to.shutdown().await.map_err(|_| End::Broken);
            }
            if self.pass(&chunk, &mut to).await? == Some(How::HalfClose) {
                to.shutdown().await.map_err(|_| End::Broken)?;
                return swallow(from).await;
            }
        }
    }

    /// False at the end of the stream.
    async fn fill(&self, from: &mut ReadHalf<'_>, chunk: &mut Vec<u8>) -> Result<bool, End> {
        if from.read_buf(chunk).await.map_err(|_| End::Broken)? == 0 {
            return Ok(false);
        }
        let until = Instant::now() + self.flow().merge;
        while chunk.len() < READ_BYTES && Instant::now() < until {
            match timeout_at(until, from.read_buf(chunk)).await {
                Ok(Ok(1..)) => {}
                Ok(Err(_)) => return Err(End::Broken),
                _ => break,
            }
        }
        Ok(true)
    }

    /// Writes what was read, piece by piece; the cut of this direction alone is given back.
    async fn pass(&mut self, mut rest: &[u8], to: &mut WriteHalf<'_>) -> Result<Option<How>, End> {
        while !rest.is_empty() {
            self.released().await;
            let flow = self.flow();
            let Piece { length, cut, ends_frame } = self.piece(rest, &flow);
            self.delay(length, &flow).await;
            self.released().await;
            to.write_all(&rest[..length]).await.map_err(|_| End::Broken)?;
            match cut {
                Some(How::HalfClose) => {
                    self.line.cuts.fetch_add(1, Ordering::Relaxed);
                    return Ok(cut);
                }
                Some(how) => return Err(End::Cut(how)),
                None => {}
            }
            if ends_frame && flow.frames_per_second > 0.0 {
                sleep(Duration::from_secs_f64(1.0 / flow.frames_per_second)).await;
            }
            rest = &rest[length..];
        }
        Ok(None)
    }

    fn piece(&mut self, rest: &[u8], flow: &Flow) -> Piece {
        if let Some(Cut { at: At::Bytes(0), how }) = flow.cut {
            return Piece { length: 0, cut: Some(how), ends_frame: false };
        }
        let mut ends_frame = false;
        for (at, &byte) in rest.iter().enumerate() {
            ends_frame = self.place.step(byte);
            let cut = flow.cut.filter(|cut| self.place.is(cut.at, self.depth)).map(|cut| cut.how);
            let paced = ends_frame && flow.frames_per_second > 0.0;
            if cut.is_some() || paced || at + 1 == flow.piece_bytes {
                return Piece { length: at + 1, cut, ends_frame };
            }
        }
        Piece { length: rest.len(), cut: None, ends_frame }
    }

    async fn delay(&self, bytes: usize, flow: &Flow) {
        let mut wait = flow.latency;
        if !flow.jitter.is_zero() {
            wait += flow.jitter.mul_f64(self.line.chance());
        }
        if flow.loss > 0.0 && self.line.chance() < flow.loss {
            wait += RETRANSMISSION;
        }
        if flow.bytes_per_second > 0.0 {
            wait += Duration::from_secs_f64(bytes as f64 / flow.bytes_per_second);
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    async fn released(&mut self) {
        let side = self.side;
        // An error means that the proxy itself is gone.
        let _ = self.conditions.wait_for(|conditions| !side(conditions).held).await;
    }

    fn flow(&self) -> Flow {
        (self.side)(&self.conditions.borrow()).clone()
    }
}

/// The bytes to write next.
struct Piece {
    length: usize,
    cut: Option<How>,
    ends_frame: bool,
}

/// Reads to the end and gives it to nobody.
async fn swallow(mut from: ReadHalf<'_>) -> Result<(), End> {
    let mut waste = [0; 4096];
    while from.read(&mut waste).await.map_err(|_| End::Broken)? > 0 {}
    Ok(())
}
