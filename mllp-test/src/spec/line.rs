//! A connection for one row: writes in a chosen way while it reads, so that neither side waits for the other, and keeps
//! what came. A late answer must never reach the next row: each has a connection of its own.

use super::case::{Sent, Then};
use super::message::good;
use crate::frame::{Deframer, framed};
use crate::tls::{ClientTls, Stream};
use crate::v2::Ack;
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between two pieces, so that the receiver reads them one by one.
const PIECE_PAUSE: Duration = Duration::from_millis(1);

/// Where a receiver listens, and what is trusted and shown there if it does so with TLS.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) address: String,
    pub(super) tls: Option<ClientTls>,
}

/// How a row goes onto the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    /// In writes of so many bytes.
    Pieces(usize),
    /// In two, with a pause between.
    SplitAt(usize),
}

impl Way {
    /// As a report says it.
    pub(super) fn told(self) -> String {
        match self {
            Way::Whole => "whole".to_owned(),
            Way::Pieces(1) => "byte by byte".to_owned(),
            Way::Pieces(size) => format!("in pieces of {size} bytes"),
            Way::SplitAt(place) => format!("in two pieces, after byte {place}"),
        }
    }
}

/// What came of an exchange.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) answers: Vec<Bytes>,
    /// What was wrong, if anything.
    pub(super) fault: Option<String>,
}

/// Sends the row and what follows it, and judges all answers, each within `ack_timeout`.
pub(super) async fn exchange(at: &At, sent: &Sent, good_id: &str, way: Way, ack_timeout: Duration) -> Heard {
    let mut heard = Heard::default();
    heard.fault = converse(at, sent, good_id, way, ack_timeout, &mut heard.answers).await.err();
    heard
}

async fn converse(
    at: &At,
    sent: &Sent,
    good_id: &str,
    way: Way,
    ack_timeout: Duration,
    answers: &mut Vec<Bytes>,
) -> Result<(), String> {
    let line = Line::connect(at, ack_timeout).await?;
    let (mut reading, mut writing) = (line.reading, line.writing);
    let behind = framed(good(good_id).as_bytes());
    let bytes = if sent.then == Then::Good { [&sent.bytes[..], &behind].concat() } else { sent.bytes.clone() };
    let write = async {
        let written = writing.write(&bytes, way).await;
        (written, writing)
    };
    let read = async {
        for due in &sent.due {
            let answer = reading.answer().await.map_err(|fault| format!("instead of {due}: {fault}"))?;
            answers.push(answer.clone());
            due.judge(&answer)?;
        }
        match sent.then {
            Then::Good => reading.good(good_id, answers).await,
            Then::GoodAfterAnswer => Ok(()),
            Then::Closed => reading.closed(answers).await,
        }
    };
    let ((written, mut writing), judged) = tokio::join!(write, read);
    judged?;
    match sent.then {
        Then::Good => written,
        Then::GoodAfterAnswer => {
            written?;
            writing.write(&behind, way).await?;
            reading.good(good_id, answers).await
        }
        // The receiver may close before it has everything.
        Then::Closed => good_over_a_new_connection(at, good_id, ack_timeout).await,
    }
}

/// A good message over a connection of its own is taken.
pub(super) async fn good_over_a_new_connection(at: &At, id: &str, ack_timeout: Duration) -> Result<(), String> {
    let mut line = Line::connect(at, ack_timeout).await?;
    line.writing.write(&framed(good(id).as_bytes()), Way::Whole).await?;
    let good = line.reading.good(id, &mut Vec::new()).await;
    good.map_err(|fault| format!("over a new connection, {fault}"))
}

/// A connection.
pub(super) struct Line {
    pub(super) reading: Reading,
    pub(super) writing: Writing,
}

impl Line {
    pub(super) async fn connect(at: &At, ack_timeout: Duration) -> Result<Line, String> {
        let connected = timeout(ack_timeout, TcpStream::connect(&at.address)).await;
        let stream = connected.map_err(|_| format!("cannot connect within {ack_timeout:?}"))?;
        let stream = stream.map_err(|fault| format!("cannot connect: {fault}"))?;
        Line::over(stream, at, ack_timeout).await
    }

    /// Over a connection that is made, where there is TLS after a handshake.
    pub(super) async fn over(stream: TcpStream, at: &At, ack_timeout: Duration) -> Result<Line, String> {
        stream.set_nodelay(true).map_err(|fault| fault.to_string())?;
        let stream = match &at.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let secured = timeout(ack_timeout, tls.secure(&at.address, stream)).await;
                let secured = secured.map_err(|_| format!("no TLS handshake within {ack_timeout:?}"))?;
                secured.map_err(|fault| format!("the TLS handshake failed: {fault}"))?
            }
        };
        let (read, write) = tokio::io::split(stream);
        let reading = Reading { read, answers: Deframer::new(4 << 20), ack_timeout };
        Ok(Line { reading, writing: Writing { write, ack_timeout } })
    }
}

/// The side that answers come from.
pub(super) struct Reading {
    read: ReadHalf<Stream>,
    answers: Deframer,
    ack_timeout: Duration,
}

impl Reading {
    /// The next answer.
    pub(super) async fn answer(&mut self) -> Result<Bytes, String> {
        match self.next().await? {
            Some(answer) => Ok(answer),
            None => Err("the connection was closed".to_owned()),
        }
    }

    /// The next answer; `None` where the receiver closed instead.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let limit = self.ack_timeout;
        let next = timeout(limit, self.next_answer()).await;
        next.unwrap_or_else(|_| Err(format!("neither an answer nor a close within {limit:?}")))
    }

    async fn next_answer(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if let Some(answer) = self.answers.next_message().map_err(|fault| fault.to_string())? {
                return Ok(Some(answer));
            }
            // A reset is a close too: the receiver had bytes of ours that it did not read.
            if !matches!(self.read.read_buf(&mut self.answers.buffer).await, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    /// The good message's answer is the next one.
    pub(super) async fn good(&mut self, id: &str, answers: &mut Vec<Bytes>) -> Result<(), String> {
        let answer = self.answer().await.map_err(|fault| format!("the good message behind it: {fault}"))?;
        match Ack::read(&answer) {
            Some(ack) if ack.control_id != id.as_bytes() => {
                answers.push(answer);
                Err(format!("one more answer ({}) than there should be", ack.code))
            }
            Some(ack) if !ack.is_positive() => Err(format!("the good message behind it was answered {}", ack.code)),
            Some(_) => Ok(()),
            None => Err("an answer has no MSA segment".to_owned()),
        }
    }

    /// The receiver closes, and says nothing before.
    pub(super) async fn closed(&mut self, answers: &mut Vec<Bytes>) -> Result<(), String> {
        match self.next().await.map_err(|fault| format!("instead of a close: {fault}"))? {
            None => Ok(()),
            Some(answer) => {
                answers.push(answer);
                Err("one more answer than there should be, instead of a close".to_owned())
            }
        }
    }
}

/// The side that bytes go to.
pub(super) struct Writing {
    write: WriteHalf<Stream>,
    ack_timeout: Duration,
}

impl Writing {
    /// Writes all bytes; each piece must be taken within the time for an answer.
    pub(super) async fn write(&mut self, bytes: &[u8], way: Way) -> Result<(), String> {
        match way {
            Way::Whole => self.piece(bytes).await,
            Way::Pieces(size) => {
                for piece in bytes.chunks(size.max(1)) {
                    self.piece(piece).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            Way::SplitAt(place) => {
                let (first, second) = bytes.split_at(place.min(bytes.len()));
                self.piece(first).await?;
                sleep(PIECE_PAUSE).await;
                self.piece(second).await
            }
        }
    }

    /// Ends this direction.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.write.shutdown().await.map_err(|fault| fault.to_string())
    }

    async fn piece(&mut self, piece: &[u8]) -> Result<(), String> {
        let limit = self.ack_timeout;
        let written = timeout(limit, self.write.write_all(piece)).await;
        let written = written.map_err(|_| format!("the receiver has read nothing for {limit:?}"))?;
        written.map_err(|fault| format!("the connection broke: {fault}"))
    }
}
