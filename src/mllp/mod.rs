//! MLLP: framing (`codec`), the listening side (`server`), the calling side (`client`), and TLS under both (`tls`).
//!
//! Moves whole frames and their answers. What a frame means is for others: nothing here answers by itself, and a frame
//! that was read is either handed on or its sender sees the connection end without an answer.

mod budget;
pub mod client;
mod codec;
mod complaints;
mod connection;
mod line;
mod network;
mod outlet;
mod queue;
mod reader;
pub mod server;
pub mod tls;

pub use codec::{Codec, CodecError, Decoded, FS, Oddities, VT};

use std::time::Duration;
use tokio::net::TcpStream;

/// Lets a dead peer be found in about a minute and a half, and its answers not wait for more to send with them.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let keepalive = keepalive.with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(90)))?;
    Ok(())
}
