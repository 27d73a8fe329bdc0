//! The calling side: one message outstanding, its answer matched by MSA-2, the connection given up on any doubt.
//!
//! An answer that belongs to another message must never be taken for this one's: it would count a lost message as
//! delivered. So a connection that saw a timeout, or whose exchange was abandoned, cannot be used again, nor for a second
//! message with a control id it has carried: the first one's answer may come twice.

use std::{collections::VecDeque, io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::codec::Decoder;

use super::{
    Codec, CodecError, Decoded, FS, VT,
    codec::{FRAMING_BYTES, frame_into},
    line::Line,
    tls::Connector,
};
use crate::{
    clock::Clock,
    hl7::{Header, Message, ack},
};

/// Content bytes of an answer; an ACK is a few hundred.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Control ids remembered of a connection; no receiver repeats an answer later than this many messages.
const CONTROL_IDS: usize = 64;

/// Why no answer was had. `NotSent`: the receiver cannot have the message. `Ambiguous`: it may.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The frame's end never left: without it no receiver may process the frame.
    #[error("not sent: {0}")]
    NotSent(String),
    /// Sent, but no matching answer: timeout, close, or nonsense.
    #[error("sent, not answered: {0}")]
    Ambiguous(String),
}

/// A connection to one receiver. After any error it is of no more use: drop it and connect again.
pub struct Client {
    stream: Line,
    codec: Codec,
    buffer: BytesMut,
    /// False from the start of an exchange to its answer, so also after one that failed or was dropped half-way.
    usable: bool,
    /// Control ids of the last exchanges, newest last: another answer to one of them may still come.
    recent: VecDeque<Box<[u8]>>,
    ignored: Ignored,
    /// Why the receiver refused us, where it did so between two exchanges.
    refused: Option<String>,
}

/// What came and was not the answer waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// ACKs with another MSA-2.
    pub other_control_id: u64,
    /// Frames that are no ACK.
    pub not_an_ack: u64,
    /// Bytes that came while nothing was outstanding.
    pub stale_bytes: u64,
}

impl Client {
    /// Connects to `host:port`, keepalive on, over TLS where `tls` is given; `limit` is for all of it.
    pub async fn connect(address: &str, tls: Option<&Connector>, limit: Duration) -> io::Result<Client> {
        let deadline = Instant::now() + limit;
        let connected = timeout_at(deadline, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| io::ErrorKind::TimedOut)??;
        super::tune(&stream)?;
        let stream = match tls {
            None => Line::Plain(stream),
            Some(tls) => {
                let secured = timeout_at(deadline, tls.connect(stream)).await;
                Line::Secured(secured.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, SILENT_HANDSHAKE))??)
            }
        };
        Ok(Client {
            stream,
            codec: Codec::new(ANSWER_BYTES_MAX),
            buffer: BytesMut::new(),
            usable: true,
            recent: VecDeque::new(),
            ignored: Ignored::default(),
            refused: None,
        })
    }

    /// Sends one frame and waits for the answer whose MSA-2 equals `control_id` byte for byte; other answers are
    /// counted and skipped. `limit` is for both together.
    pub async fn exchange(
        &mut self,
        message: &[u8],
        control_id: &[u8],
        limit: Duration,
    ) -> Result<ack::Answer, ExchangeError> {
        let deadline = Instant::now() + limit;
        if message.iter().any(|b| matches!(*b, VT | FS)) {
            return Err(not_sent("the message holds an MLLP framing byte: mend its translation"));
        }
        if self.is_closed() {
            let refused = self.refused.take();
            return Err(not_sent(&refused.unwrap_or_else(|| CLOSED.to_owned())));
        }
        if self.recent.iter().any(|used| **used == *control_id) {
            self.usable = false;
            return Err(not_sent("its control id was used on this connection already: connect again"));
        }
        if self.recent.len() == CONTROL_IDS {
            self.recent.pop_front();
        }
        self.recent.push_back(control_id.into());
        self.usable = false;
        self.send(message, deadline).await?;
        self.answer(control_id, deadline, limit).await
    }

    /// After an exchange that was answered with an accept ACK (CA) and asked for an application ACK too (MSH-16): waits
    /// for that. The receiver has the message, so an error here is no reason to send it again.
    pub async fn application_answer(
        &mut self,
        control_id: &[u8],
        limit: Duration,
    ) -> Result<ack::Answer, ExchangeError> {
        self.usable = false;
        self.answer(control_id, Instant::now() + limit, limit).await
    }

    /// Sends one frame that nothing answers, such as an application ACK.
    pub async fn tell(&mut self, message: &[u8], limit: Duration) -> Result<(), ExchangeError> {
        if self.is_closed() {
            return Err(not_sent(CLOSED));
        }
        self.usable = false;
        self.send(message, Instant::now() + limit).await?;
        self.usable = true;
        Ok(())
    }

    /// Whether the peer has closed, or the connection is of no more use for another reason (checked before a send, so
    /// that a stale connection costs no ambiguity). Whatever came unasked is discarded and counted.
    pub fn is_closed(&mut self) -> bool {
        if self.usable
            && let Err(error) = self.discard_stale()
        {
            self.usable = false;
            self.refused = self.refusal_by(&error);
        }
        !self.usable
    }

    /// What was ignored since the connection was made.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// Reads away what waits in the socket. An error where the peer has closed.
    fn discard_stale(&mut self) -> io::Result<()> {
        self.ignored.stale_bytes += self.buffer.len() as u64;
        self.buffer = BytesMut::new();
        self.codec = Codec::new(ANSWER_BYTES_MAX);
        let mut waste = [0; 4096];
        // A peer that sends faster than this reads is as good as closed.
        for _ in 0..ANSWER_BYTES_MAX / waste.len() {
            match self.stream.throw_away(&mut waste) {
                Ok(length) => self.ignored.stale_bytes += length as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Until FS is given to the socket, the receiver has no whole frame and must not process it: not sent. From then on it may
    /// have all that matters, whatever error follows.
    async fn send(&mut self, message: &[u8], deadline: Instant) -> Result<(), ExchangeError> {
        let mut frame = BytesMut::with_capacity(message.len() + FRAMING_BYTES);
        frame_into(message, &mut frame);
        let mut sent = 0;
        let fault = loop {
            let written = async {
                match &frame[sent..] {
                    // Over TLS the last bytes may wait for the socket.
                    [] => self.stream.flush().await.map(|()| 0),
                    rest => self.stream.write(rest).await,
                }
            };
            match timeout_at(deadline, written).await {
                Ok(Ok(0)) if sent == frame.len() => return Ok(()),
                Ok(Ok(0)) => break "the connection takes no more bytes".to_owned(),
                Ok(Ok(length)) => sent += length,
                Ok(Err(error)) => match self.refusal(&error) {
                    Some(refusal) => return Err(refusal),
                    None => break error.to_string(),
                },
                Err(_) => break "the receiver does not read".to_owned(),
            }
        };
        let before_end = sent <= message.len() + 1;
        Err(if before_end { not_sent(&fault) } else { ExchangeError::Ambiguous(fault) })
    }

    /// A receiver that refuses our certificate took nothing, but only a connection's first message can meet that.
    fn refusal(&mut self, error: &io::Error) -> Option<ExchangeError> {
        self.refusal_by(error).map(ExchangeError::NotSent)
    }

    fn refusal_by(&mut self, error: &io::Error) -> Option<String> {
        if self.recent.len() > 1 { None } else { self.stream.refusal(error) }
    }

    async fn answer(
        &mut self,
        control_id: &[u8],
        deadline: Instant,
        limit: Duration,
    ) -> Result<ack::Answer, ExchangeError> {
        loop {
            while let Some(content) = self.decoded()? {
                if let Some((answer, accept)) = self.matching(content, control_id) {
                    // Its answer is had whether this arrives or not: where not, the receiver sends it again.
                    let told = match accept {
                        Some(accept) => self.send(&accept, deadline).await.is_ok(),
                        None => true,
                    };
                    self.usable = told;
                    return Ok(answer);
                }
            }
            self.buffer.reserve(4096);
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(self.unanswered("the receiver closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    let refusal = self.refusal(&error);
                    return Err(refusal.unwrap_or_else(|| self.unanswered(&error.to_string())));
                }
                Err(_) => return Err(self.unanswered(&format!("no answer within {limit:?}"))),
            }
        }
    }

    fn decoded(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        if self.buffer.starts_with(TLS_ALERT) && !self.codec.in_frame() {
            return Err(ExchangeError::Ambiguous(SPEAKS_TLS.to_owned()));
        }
        match self.codec.decode(&mut self.buffer) {
            Ok(Some(Decoded::Frame(content))) => Ok(Some(content)),
            Ok(None) => Ok(None),
            Ok(Some(Decoded::Oversized(_))) => Err(ExchangeError::Ambiguous("the answer is over 64 KiB".to_owned())),
            Err(CodecError::Noise) => Err(ExchangeError::Ambiguous(UNFRAMED.to_owned())),
            Err(error) => Err(ExchangeError::Ambiguous(error.to_string())),
        }
    }

    /// The answer if it is this one's, and the accept ACK it asks for.
    fn matching(&mut self, content: Bytes, control_id: &[u8]) -> Option<(ack::Answer, Option<Bytes>)> {
        let answer = Message::parse(content.clone()).ok().and_then(|message| ack::read(&message));
        match answer {
            Some(answer) if answer.control_id == control_id => return Some((answer, accept_of(&content))),
            Some(_) => self.ignored.other_control_id += 1,
            None => self.ignored.not_an_ack += 1,
        }
        None
    }

    /// The error of an exchange that ended without its answer, with what came instead.
    fn unanswered(&mut self, fault: &str) -> ExchangeError {
        let mut text = fault.to_owned();
        if self.codec.take_oddities().unframed > 0 {
            text = format!("{text}; {UNFRAMED}");
        }
        for (count, what) in [
            (self.ignored.other_control_id, "with another MSA-2 ignored on this connection"),
            (self.ignored.not_an_ack, "without MSA ignored on this connection"),
        ] {
            if count > 0 {
                text = format!("{text}; {count} answers {what}");
            }
        }
        ExchangeError::Ambiguous(text)
    }
}

/// The accept ACK of an application answer that is a message of its own, such as RRG^O16, and asks for one. A plain ACK is
/// never acknowledged.
fn accept_of(answer: &[u8]) -> Option<Bytes> {
    let (header, unreadable) = Header::read(answer);
    let asks = matches!(header.field(15), b"AL" | b"SU") && unreadable.is_none();
    if !asks || header.component(9, 1) == b"ACK" || header.field(10).is_empty() {
        return None;
    }
    let at = Clock::system().now();
    let own_control_id = format!("CR{:x}", at.as_microsecond());
    Some(ack::build(&header, ack::Code::CA, &[], at, &own_control_id))
}

const CLOSED: &str = "the receiver has closed the connection: connect again";
/// How a server that speaks TLS answers what is none: an alert record of any version (RFC 8446, 5.1).
const TLS_ALERT: &[u8] = &[0x15, 0x03];
const SPEAKS_TLS: &str = "the receiver speaks TLS: give its destination `tls`, or have the receiver listen without";
const SILENT_HANDSHAKE: &str = "it takes connections and answers no TLS handshake: where it speaks no TLS remove `tls`, else have the \
                                receiver looked at";
const UNFRAMED: &str = "the receiver answers without MLLP framing";

fn not_sent(fault: &str) -> ExchangeError {
    ExchangeError::NotSent(fault.to_owned())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
