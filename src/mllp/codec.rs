//! MLLP framing: `VT content FS CR` (HL7 v2.6 Appendix C, Minimal Lower Layer Protocol).
//!
//! Takes every frame a sender may mean and tells noise apart from it. Whatever arrives, in pieces of any size: a whole
//! frame is never lost or merged with the next, no more than the frame limit is buffered, and the time is linear,
//! because the scan goes on where it stopped.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr2};
use tokio_util::codec::{Decoder, Encoder};

/// Start of a frame.
pub const VT: u8 = 0x0B;
/// End of a frame's content; a CR follows.
pub const FS: u8 = 0x1C;
const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Bytes outside frames that a connection may send between two frames.
const NOISE_BYTES_MAX: usize = 4 * 1024;
/// VT, FS and CR.
pub(super) const FRAMING_BYTES: usize = 3;
/// Bytes kept of a frame over the limit: MSH is in them.
const HEAD_BYTES: usize = 4 * 1024;

/// What the decoder found.
#[derive(Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame's content, never empty or blank.
    Frame(Bytes),
    /// A frame that passed the limit; its first bytes, enough for MSH. The codec reads nothing after it: the
    /// connection ends after the answer.
    Oversized(Bytes),
}

/// Why the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The peer speaks TLS.
    #[error("the peer speaks TLS")]
    Tls,
    /// The peer speaks HTTP or the like.
    #[error("the peer speaks another protocol than MLLP")]
    ProtocolMismatch,
    /// Over 4 KiB without a frame.
    #[error("over {NOISE_BYTES_MAX} bytes outside of MLLP frames")]
    Noise,
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What was tolerated, counted since it was last taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Runs of bytes between frames.
    pub noise: u64,
    /// Runs of bytes between frames with something printable in them: content without framing.
    pub unframed: u64,
    /// Frames dropped since a new one began inside of them: their sender died or restarted.
    pub restarted: u64,
    /// Frames whose FS was followed by a VT instead of a CR, or by the end of the connection.
    pub no_cr: u64,
    /// Frames whose FS was followed by nothing, taken after a while of silence.
    pub quiet_end: u64,
    /// Frames with nothing or only blanks in them: keep-alives.
    pub empty: u64,
    /// Frames cut off by the end of the connection.
    pub truncated: u64,
}

impl Oddities {
    /// Every count with its metric's `reason`.
    pub fn by_reason(&self) -> [(&'static str, u64); 7] {
        [
            ("noise", self.noise),
            ("unframed", self.unframed),
            ("restarted", self.restarted),
            ("no_cr", self.no_cr),
            ("quiet_end", self.quiet_end),
            ("empty", self.empty),
            ("truncated", self.truncated),
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside of frames.
    Between,
    /// Inside a frame whose VT is consumed and whose first `scanned` content bytes hold no VT and no ending FS.
    Inside { scanned: usize },
    /// After a frame over the limit, or an error: everything is discarded.
    Ended,
}

/// The MLLP codec.
#[derive(Debug)]
pub struct Codec {
    frame_bytes_max: usize,
    state: State,
    /// Bytes outside frames since the last whole frame.
    noise_bytes: usize,
    in_noise: bool,
    in_unframed: bool,
    /// The first bytes of the connection, while no frame came: they tell TLS and HTTP.
    opening: Opening,
    oddities: Oddities,
    frames_ended: u64,
}

impl Codec {
    /// A codec that takes frames of at most this many content bytes.
    pub fn new(frame_bytes_max: usize) -> Codec {
        Codec {
            frame_bytes_max,
            state: State::Between,
            noise_bytes: 0,
            in_noise: false,
            in_unframed: false,
            opening: Opening::default(),
            oddities: Oddities::default(),
            frames_ended: 0,
        }
    }

    /// Whether a frame began and did not end.
    pub fn in_frame(&self) -> bool {
        matches!(self.state, State::Inside { .. })
    }

    /// Frames that came to their end, keep-alives included.
    pub fn frames_ended(&self) -> u64 {
        self.frames_ended
    }

    /// Whether `buffer` ends in an FS that ends its frame if nothing more comes: one behind a whole segment, or behind
    /// nothing (a keep-alive). Elsewhere it may be content whose rest is late, and half a message must not be taken for a
    /// whole one.
    pub fn at_frame_end(&self, buffer: &BytesMut) -> bool {
        self.in_frame() && matches!(buffer[..], [FS] | [.., CR | LF, FS])
    }

    /// Ends the frame at the FS the buffer ends in: the sender leaves out the CR and waits for its answer.
    pub fn end_frame(&mut self, buffer: &mut BytesMut) -> Option<Decoded> {
        if !self.at_frame_end(buffer) {
            return None;
        }
        self.oddities.quiet_end += 1;
        self.take_bare_end(buffer)
    }

    fn take_bare_end(&mut self, buffer: &mut BytesMut) -> Option<Decoded> {
        let length = buffer.len() - 1;
        self.take_frame(buffer, length, 1)
    }

    /// The counts since the last call.
    pub fn take_oddities(&mut self) -> Oddities {
        std::mem::take(&mut self.oddities)
    }

    /// Skips to just behind the next VT; false where there is none yet.
    fn skip_noise(&mut self, src: &mut BytesMut) -> Result<bool, CodecError> {
        let found = memchr(VT, src);
        let noise = found.unwrap_or(src.len());
        if noise > 0 {
            self.note_noise(&src[..noise])?;
        }
        src.advance(noise + usize::from(found.is_some()));
        if found.is_some() {
            self.begin_frame();
        }
        Ok(found.is_some())
    }

    fn note_noise(&mut self, noise: &[u8]) -> Result<(), CodecError> {
        if let Some(foreign) = self.opening.foreign(noise) {
            self.oddities = Oddities::default();
            return self.fail(foreign);
        }
        self.oddities.noise += u64::from(!self.in_noise);
        self.in_noise = true;
        if !self.in_unframed && noise.iter().any(u8::is_ascii_graphic) {
            self.oddities.unframed += 1;
            self.in_unframed = true;
        }
        self.add_noise(noise.len())
    }

    fn add_noise(&mut self, bytes: usize) -> Result<(), CodecError> {
        self.noise_bytes = self.noise_bytes.saturating_add(bytes);
        if self.noise_bytes > NOISE_BYTES_MAX { self.fail(CodecError::Noise) } else { Ok(()) }
    }

    fn fail(&mut self, error: CodecError) -> Result<(), CodecError> {
        self.state = State::Ended;
        Err(error)
    }

    fn begin_frame(&mut self) {
        self.state = State::Inside { scanned: 0 };
        self.in_noise = false;
        self.in_unframed = false;
        self.opening.close();
    }

    /// Looks for the frame's end from `scanned` on; `None` where more bytes are needed or the frame was dropped.
    fn scan_frame(&mut self, src: &mut BytesMut, scanned: usize) -> Result<Scan, CodecError> {
        let Some(at) = memchr2(VT, FS, &src[scanned..]).map(|found| scanned + found) else {
            return Ok(self.wait_at(src, src.len()));
        };
        if at > self.frame_bytes_max {
            return Ok(self.oversized(src));
        }
        if src[at] == VT {
            self.oddities.restarted += u64::from(at > 0);
            // A restart is noise too, or VT for ever would be a frame for ever.
            self.add_noise(1)?;
            src.advance(at + 1);
            self.begin_frame();
            return Ok(Scan::On);
        }
        match src.get(at + 1) {
            None => Ok(self.wait_at(src, at)),
            Some(&CR) => Ok(self.take_frame(src, at, 2).map_or(Scan::On, Scan::Found)),
            Some(&VT) => {
                self.oddities.no_cr += 1;
                Ok(self.take_frame(src, at, 1).map_or(Scan::On, Scan::Found))
            }
            // Content: the message check refuses the control character, with an answer its sender can match.
            Some(_) => {
                self.state = State::Inside { scanned: at + 1 };
                Ok(Scan::On)
            }
        }
    }

    /// Goes on at `scanned` with the next bytes, unless the content so far is over the limit.
    fn wait_at(&mut self, src: &mut BytesMut, scanned: usize) -> Scan {
        if scanned > self.frame_bytes_max {
            return self.oversized(src);
        }
        self.state = State::Inside { scanned };
        Scan::More
    }

    /// Consumes a whole frame of `length` content bytes and the `end` bytes behind; `None` for a keep-alive.
    fn take_frame(&mut self, src: &mut BytesMut, length: usize, end: usize) -> Option<Decoded> {
        self.state = State::Between;
        self.noise_bytes = 0;
        self.frames_ended += 1;
        let content = src.split_to(length).freeze();
        src.advance(end);
        if content.iter().all(|b| matches!(b, 0 | b' ' | b'\t' | b'\r' | b'\n')) {
            self.oddities.empty += 1;
            return None;
        }
        Some(Decoded::Frame(content))
    }

    fn oversized(&mut self, src: &mut BytesMut) -> Scan {
        self.state = State::Ended;
        let head = Bytes::copy_from_slice(&src[..src.len().min(HEAD_BYTES)]);
        src.clear();
        Scan::Found(Decoded::Oversized(head))
    }
}

enum Scan {
    Found(Decoded),
    /// Look again: there are bytes not looked at.
    On,
    /// All bytes are looked at.
    More,
}

impl Decoder for Codec {
    type Item = Decoded;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Decoded>, CodecError> {
        loop {
            match self.state {
                State::Between => {
                    if !self.skip_noise(src)? {
                        return Ok(None);
                    }
                }
                State::Inside { scanned } => match self.scan_frame(src, scanned)? {
                    Scan::Found(decoded) => return Ok(Some(decoded)),
                    Scan::On => {}
                    Scan::More => return Ok(None),
                },
                State::Ended => {
                    src.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// The peer has ended its side: an FS without CR ends the frame, an unended frame is dropped and counted.
    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Decoded>, CodecError> {
        if let Some(decoded) = self.decode(src)? {
            return Ok(Some(decoded));
        }
        if self.at_frame_end(src) {
            self.oddities.no_cr += 1;
            if let Some(decoded) = self.take_bare_end(src) {
                return Ok(Some(decoded));
            }
        }
        self.oddities.truncated += u64::from(self.in_frame() && !src.is_empty());
        self.state = State::Ended;
        src.clear();
        Ok(None)
    }
}

impl Encoder<&[u8]> for Codec {
    type Error = std::io::Error;

    fn encode(&mut self, content: &[u8], dst: &mut BytesMut) -> Result<(), std::io::Error> {
        frame_into(content, dst);
        Ok(())
    }
}

/// Appends `content` to `dst` as one frame.
pub(super) fn frame_into(content: &[u8], dst: &mut BytesMut) {
    dst.reserve(content.len() + FRAMING_BYTES);
    dst.put_u8(VT);
    dst.put_slice(content);
    dst.put_slice(&[FS, CR]);
}

/// The first bytes of a connection, by which other protocols are known.
#[derive(Debug, Default)]
struct Opening {
    bytes: [u8; 4],
    length: usize,
    closed: bool,
}

impl Opening {
    fn close(&mut self) {
        self.closed = true;
    }

    /// What another protocol is known by.
    fn foreign(&mut self, noise: &[u8]) -> Option<CodecError> {
        if self.closed {
            return None;
        }
        let taken = noise.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&noise[..taken]);
        self.length += taken;
        self.closed = self.length == self.bytes.len();
        match self.bytes[..self.length] {
            // A TLS record: handshake, version 3.x.
            [0x16, 0x03, ..] => Some(CodecError::Tls),
            _ => matches!(&self.bytes, b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"CONN" | b"PRI " | b"SSH-")
                .then_some(CodecError::ProtocolMismatch),
        }
    }
}

impl std::fmt::Debug for Decoded {
    /// Shapes only: the content is patient data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Decoded::Frame(content) => write!(f, "Frame({} bytes)", content.len()),
            Decoded::Oversized(head) => write!(f, "Oversized(head of {} bytes)", head.len()),
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
