//! Connections that a handler can cut: a server dying between commit and answer sends nothing at all, which no HTTP
//! response can show.

use axum::extract::connect_info::Connected;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// States of a connection; 0 is a good one.
const DRIBBLES: u8 = 1;
const DEAD: u8 = 2;
const DRIBBLE_PAUSE: Duration = Duration::from_millis(100);

/// Cuts one connection, or makes it slow.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<AtomicU8>);

impl Switch {
    /// From now on nothing is written; the response is only there because a handler must give one.
    pub fn kill(&self) -> Response {
        self.0.store(DEAD, Ordering::Release);
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }

    /// From now on a byte is written every tenth of a second.
    pub fn dribble(&self) {
        self.0.store(DRIBBLES, Ordering::Release);
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Acquire) == state
    }
}

/// A listener whose connections have a [`Switch`].
#[derive(Debug)]
pub struct Killable(pub TcpListener);

impl Listener for Killable {
    type Io = KillableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (KillableStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (KillableStream { stream, switch: Switch::default(), pause: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Killable>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Killable>) -> Switch {
        stream.io().switch.clone()
    }
}

/// A connection that ends in a reset once its switch is thrown.
#[derive(Debug)]
pub struct KillableStream {
    stream: TcpStream,
    switch: Switch,
    pause: Option<Pin<Box<Sleep>>>,
}

impl KillableStream {
    fn alive(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.switch.is(DEAD) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for KillableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.alive()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for KillableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.switch.is(DRIBBLES) {
            return self.alive()?.poll_write(cx, buf);
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = Some(Box::pin(sleep(DRIBBLE_PAUSE)));
        self.alive()?.poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
