//! A gateway's connection: a few messages at a time, each answered positively and by name before the next few go.

use crate::frame::{Deframer, framed};
use crate::v2::Ack;
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The bound on a connection, and on the answers to what was sent together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages sent before their answers are read.
const TOGETHER: usize = 32;
const ACK_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    answers: Deframer,
}

impl Line {
    pub(super) async fn connect(address: SocketAddr) -> Result<Line, String> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| "no connection in time".to_owned())?.map_err(|fault| fault.to_string())?;
        stream.set_nodelay(true).map_err(|fault| fault.to_string())?;
        Ok(Line { stream, answers: Deframer::new(ACK_BYTES_MAX) })
    }

    /// Sends messages with their control ids, in order.
    pub(super) async fn send(&mut self, messages: &[(String, Vec<u8>)]) -> Result<(), String> {
        for few in messages.chunks(TOGETHER) {
            timeout(PATIENCE, self.exchange(few)).await.map_err(|_| "no answer in time".to_owned())??;
        }
        Ok(())
    }

    async fn exchange(&mut self, messages: &[(String, Vec<u8>)]) -> Result<(), String> {
        let mut out = BytesMut::new();
        messages.iter().for_each(|(_, message)| out.extend_from_slice(&framed(message)));
        self.stream.write_all(&out).await.map_err(|fault| fault.to_string())?;
        for (id, _) in messages {
            let ack = self.answer().await?;
            if !ack.is_positive() || ack.control_id != id.as_bytes() {
                let named = String::from_utf8_lossy(&ack.control_id);
                return Err(format!("{id} was answered with {} {named}: {}", ack.code, ack.errors.join("; ")));
            }
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<Ack, String> {
        loop {
            if let Some(answer) = self.answers.next_message().map_err(|fault| fault.to_string())? {
                return Ack::read(&answer).ok_or_else(|| "an answer is no ACK".to_owned());
            }
            let read = self.stream.read_buf(&mut self.answers.buffer).await.map_err(|fault| fault.to_string())?;
            if read == 0 {
                return Err("the connection was closed".to_owned());
            }
        }
    }
}
