//! The reading side of a connection: its buffer, its codec and its deadlines.
//!
//! Memory follows need: none while silent, grown to the frame that is being read and no further, given back with it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::Instant,
};
use tokio_util::codec::Decoder;

use super::{Codec, CodecError, Decoded, budget::Share, server::Limits};

/// First read after silence, from the stack: most connections are silent most of the time, and most frames shorter.
const FIRST_READ_BYTES: usize = 8 * 1024;
/// Least room for a read inside of a frame.
const READ_BYTES: usize = 16 * 1024;
/// An FS with nothing behind it and a whole segment before it ends its frame after this.
const FRAME_END_QUIET: Duration = Duration::from_millis(500);

/// Which deadline passed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Silence {
    FrameEnd,
    Frame,
    Idle,
}

impl Silence {
    pub(super) fn limit(self) -> &'static str {
        match self {
            Silence::Idle => "idle_timeout",
            Silence::Frame | Silence::FrameEnd => "frame_timeout",
        }
    }
}

/// The reading side's buffer and clocks.
pub(super) struct Reader {
    pub(super) codec: Codec,
    pub(super) buffer: BytesMut,
    /// Bytes of the allocation `buffer` is in, which every frame split off it keeps alive.
    allocated: usize,
    last_byte: Instant,
    pub(super) idle_since: Instant,
    frame_began: Option<Instant>,
    frames_ended: u64,
    /// Of the budget, for the frame being read.
    pub(super) share: Option<Share>,
}

impl Reader {
    pub(super) fn new(frame_bytes_max: usize) -> Reader {
        Reader {
            codec: Codec::new(frame_bytes_max),
            buffer: BytesMut::new(),
            allocated: 0,
            last_byte: Instant::now(),
            idle_since: Instant::now(),
            frame_began: None,
            frames_ended: 0,
            share: None,
        }
    }

    pub(super) fn decode(&mut self, ended: bool) -> Result<Option<Decoded>, CodecError> {
        if ended { self.codec.decode_eof(&mut self.buffer) } else { self.codec.decode(&mut self.buffer) }
    }

    /// Ends the frame that waits for no more than its CR.
    pub(super) fn end_frame(&mut self) -> Option<Decoded> {
        self.codec.end_frame(&mut self.buffer)
    }

    /// Starts the clocks of silence anew.
    pub(super) fn bytes_came(&mut self) {
        self.last_byte = Instant::now();
        self.idle_since = self.last_byte;
    }

    /// Reads what has come, at least a byte but at the end of the stream; how much.
    pub(super) async fn read<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> io::Result<usize> {
        if self.buffer.capacity() > self.buffer.len() {
            return stream.read_buf(&mut self.buffer).await;
        }
        poll_fn(|context| self.poll_first(stream, context)).await
    }

    fn poll_first<R: AsyncRead + Unpin>(
        &mut self,
        stream: &mut R,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = [0; FIRST_READ_BYTES];
        let mut first = ReadBuf::new(&mut bytes);
        ready!(Pin::new(stream).poll_read(context, &mut first))?;
        self.buffer.extend_from_slice(first.filled());
        self.allocated = self.buffer.capacity();
        Poll::Ready(Ok(first.filled().len()))
    }

    /// The capacity to grow to where the buffer is full: at least doubled, and a half, a quarter and so on of the largest
    /// frame, so that what is left behind on the way is never more than that.
    pub(super) fn capacity_wanted(&self, frame_bytes_max: usize) -> Option<usize> {
        let length = self.buffer.len();
        if self.buffer.capacity() > length || length == 0 {
            return None;
        }
        let (mut capacity, least) = (frame_bytes_max.saturating_add(2), (length * 2).max(length + READ_BYTES));
        while capacity / 2 >= least {
            capacity /= 2;
        }
        Some(if capacity > length { capacity } else { length + READ_BYTES })
    }

    pub(super) fn move_to(&mut self, capacity: usize) {
        let mut buffer = BytesMut::with_capacity(capacity);
        buffer.extend_from_slice(&self.buffer);
        self.allocated = buffer.capacity();
        self.buffer = buffer;
    }

    /// `content` in an allocation of its own size where it would keep a much larger one alive.
    pub(super) fn unpinned(&self, content: Bytes) -> Bytes {
        if content.len() < self.allocated / 8 { Bytes::copy_from_slice(&content) } else { content }
    }

    /// After all whole frames were taken: starts the clock of the one begun, and gives memory back. A frame's clock does
    /// not run while the frames before it wait for their place, since then it is we who do not read.
    pub(super) fn settle(&mut self) {
        let ended = self.codec.frames_ended();
        if ended != self.frames_ended {
            self.frames_ended = ended;
            self.frame_began = None;
        }
        if self.codec.in_frame() {
            self.frame_began.get_or_insert_with(Instant::now);
        } else {
            self.frame_began = None;
            self.end();
        }
    }

    /// Gives all memory back.
    pub(super) fn end(&mut self) {
        self.share = None;
        self.buffer = BytesMut::new();
        self.allocated = 0;
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, Silence)> {
        let frame = match self.frame_began {
            Some(began) => after(began, limits.frame_timeout, Silence::Frame),
            None => after(self.idle_since, limits.idle_timeout, Silence::Idle),
        };
        let frame_end = Some((self.last_byte + FRAME_END_QUIET, Silence::FrameEnd));
        let frame_end = frame_end.filter(|_| self.codec.at_frame_end(&self.buffer));
        [frame, frame_end].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

fn after(from: Instant, limit: Duration, silence: Silence) -> Option<(Instant, Silence)> {
    let at = from.checked_add(limit)?;
    (!limit.is_zero()).then_some((at, silence))
}
