//! The caller's stream: plain, or over TLS. Plain costs no more than a branch.

use std::{
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::tls::{Secured, refusal_of_ours, throw_away};

/// Reads in which an alert is looked for, behind what the receiver sent before it.
const READS_MAX: usize = 16;

/// A connection to a receiver.
pub(super) enum Line {
    Plain(TcpStream),
    Secured(Box<Secured>),
}

impl Line {
    /// Throws away what waits in the socket, which is asked itself, since the runtime may not yet know of bytes that are
    /// there; how many of the receiver's. `WouldBlock` where nothing waits, another error where the receiver has closed.
    pub(super) fn throw_away(&mut self, waste: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => match (&*socket2::SockRef::from(&*stream)).read(waste)? {
                0 => Err(io::ErrorKind::ConnectionAborted.into()),
                length => Ok(length),
            },
            Line::Secured(secured) => throw_away(secured, waste),
        }
    }

    /// Why the receiver ended the connection, where `error` or what it sent before says that it refused us: then it has
    /// taken nothing. TLS 1.3 tells a caller so only after its first message.
    pub(super) fn refusal(&mut self, error: &io::Error) -> Option<String> {
        let Line::Secured(secured) = self else { return None };
        refusal_of_ours(error).or_else(|| {
            let mut waste = [0; 4096];
            let told = (0..READS_MAX).find_map(|_| throw_away(secured, &mut waste).err());
            told.and_then(|error| refusal_of_ours(&error))
        })
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Line::Secured(secured) => Pin::new(secured).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Line::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Line::Secured(secured) => Pin::new(secured).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(stream) => Pin::new(stream).poll_flush(context),
            Line::Secured(secured) => Pin::new(secured).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Line::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Line::Secured(secured) => Pin::new(secured).poll_shutdown(context),
        }
    }
}
