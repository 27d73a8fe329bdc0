//! Sends what others wrote: whole files or the messages in them, one at a time, each waiting for its answer.

use crate::frame::{Deframer, framed};
use crate::tls::{self, ClientTls, Stream};
use crate::v2::Ack;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const ACK_BYTES_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The connection could not be made or ended.
    #[error("the connection failed ({0}); check the address and that the receiver listens")]
    Connection(#[from] std::io::Error),
    /// The receiver closed without answering.
    #[error("the receiver closed the connection without an answer; see its log for the reason")]
    Closed,
    /// No answer in time.
    #[error("no answer within {0:?}; the message may or may not have been taken")]
    Timeout(Duration),
    /// What came is no ACK.
    #[error("the answer has no MSA segment; the peer may be no HL7 v2 receiver")]
    NotAnAck,
}

/// A connection for single messages.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    answers: Deframer,
    ack_timeout: Duration,
}

impl Client {
    /// Connects.
    pub async fn connect(address: &str, ack_timeout: Duration) -> Result<Client, NoAnswer> {
        Client::connect_over(address, None, ack_timeout).await
    }

    /// Connects, over TLS where it is given.
    pub async fn connect_over(
        address: &str,
        tls: Option<&ClientTls>,
        ack_timeout: Duration,
    ) -> Result<Client, NoAnswer> {
        let connected = timeout(ack_timeout, tls::connect(address, tls)).await;
        let stream = connected.map_err(|_| NoAnswer::Timeout(ack_timeout))??;
        Ok(Client { stream, answers: Deframer::new(ACK_BYTES_MAX), ack_timeout })
    }

    /// Sends one message in a frame and reads its answer. After a fault the connection is of no more use.
    pub async fn send(&mut self, message: &[u8]) -> Result<Ack, NoAnswer> {
        self.send_bytes(&framed(message)).await?;
        self.answer().await
    }

    /// Sends one message, or a batch, in a frame.
    pub async fn send_frame(&mut self, content: &[u8]) -> Result<(), NoAnswer> {
        self.send_bytes(&framed(content)).await
    }

    /// The ACKs of the next answer: of a batch, that of each message.
    pub async fn answers_until(&mut self, deadline: Instant) -> Result<Vec<Ack>, NoAnswer> {
        let left = deadline.saturating_duration_since(Instant::now());
        timeout(left, self.read_answers()).await.map_err(|_| NoAnswer::Timeout(left))?
    }

    /// Writes bytes as they are, without frame.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), NoAnswer> {
        let written = timeout(self.ack_timeout, self.stream.write_all(bytes)).await;
        Ok(written.map_err(|_| NoAnswer::Timeout(self.ack_timeout))??)
    }

    /// Reads the next answer.
    pub async fn answer(&mut self) -> Result<Ack, NoAnswer> {
        timeout(self.ack_timeout, self.read_answer()).await.map_err(|_| NoAnswer::Timeout(self.ack_timeout))?
    }

    async fn read_answer(&mut self) -> Result<Ack, NoAnswer> {
        let acks = self.read_answers().await?;
        acks.into_iter().next().ok_or(NoAnswer::NotAnAck)
    }

    /// At least one, but of an answer that is a batch without any.
    async fn read_answers(&mut self) -> Result<Vec<Ack>, NoAnswer> {
        loop {
            if let Some(answer) = self.answers.next_message().map_err(|_| NoAnswer::NotAnAck)? {
                let acks = Ack::read_all(&answer);
                let is_batch = [b"BHS", b"FHS"].iter().any(|id| answer.starts_with(*id));
                return if acks.is_empty() && !is_batch { Err(NoAnswer::NotAnAck) } else { Ok(acks) };
            }
            if self.stream.read_buf(&mut self.answers.buffer).await? == 0 {
                return Err(NoAnswer::Closed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_batch_without_acknowledgements_is_an_answer_to_a_batch_and_none_to_a_message() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let receiver = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in ["BHS|^~\\&|\rBTS|0\r", "BHS|^~\\&|\rBTS|0\r", "PID|1\r"] {
                stream.read_u8().await.unwrap();
                stream.write_all(&framed(answer.as_bytes())).await.unwrap();
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let mut client = Client::connect(&address, Duration::from_secs(20)).await.unwrap();
        client.send_bytes(b"x").await.unwrap();
        assert!(matches!(client.read_answers().await, Ok(acks) if acks.is_empty()));
        client.send_bytes(b"x").await.unwrap();
        assert!(matches!(client.answer().await, Err(NoAnswer::NotAnAck)));
        client.send_bytes(b"x").await.unwrap();
        assert!(matches!(client.read_answers().await, Err(NoAnswer::NotAnAck)));
        drop(client);
        receiver.await.unwrap();
    }
}
