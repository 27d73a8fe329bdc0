//! MLLP frames, `0B` message `1C 0D`, written for plainness: this reader is the yardstick for another one. It must
//! never merge two frames, cut one short, or give the bytes between frames to anyone.

use bytes::{Buf, Bytes, BytesMut};

const START: u8 = 0x0B;
const END: [u8; 2] = [0x1C, 0x0D];

/// A message inside its frame, ready for the wire.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 3);
    frame.extend_from_slice(&[START]);
    frame.extend_from_slice(message);
    frame.extend_from_slice(&END);
    frame.freeze()
}

/// A frame grew beyond what the reader accepts; the connection has lost its rhythm and must be closed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the peer sent a frame of more than {frame_bytes_max} bytes; close the connection")]
pub struct FrameTooLong {
    /// The limit that was passed.
    pub frame_bytes_max: usize,
}

/// Takes bytes as they come and gives whole messages.
#[derive(Debug)]
pub struct Deframer {
    /// Bytes read and not yet given out. Fill it by `read_buf`.
    pub buffer: BytesMut,
    /// Bytes seen outside frames. A clean peer leaves 0.
    pub noise: u64,
    scanned: usize,
    frame_bytes_max: usize,
}

impl Deframer {
    /// Accepts frames of up to `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Deframer {
        Deframer { buffer: BytesMut::new(), noise: 0, scanned: 0, frame_bytes_max }
    }

    /// The next whole message, or `None` until more bytes are read.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, FrameTooLong> {
        let start = self.buffer.iter().position(|&byte| byte == START).unwrap_or(self.buffer.len());
        self.noise += start as u64;
        self.buffer.advance(start);
        // Starts one byte back: the end mark may have been split between two reads.
        let from = self.scanned.saturating_sub(1).max(1).min(self.buffer.len());
        let Some(end) = self.buffer[from..].windows(2).position(|pair| pair == END) else {
            self.scanned = self.buffer.len();
            return self.too_long(self.buffer.len()).map_or(Ok(None), Err);
        };
        let length = from + end;
        if let Some(fault) = self.too_long(length) {
            return Err(fault);
        }
        self.scanned = 0;
        let mut frame = self.buffer.split_to(length + END.len());
        frame.advance(1);
        frame.truncate(length - 1);
        // A start inside a frame: the peer gave up the frame before and began anew.
        if let Some(restart) = frame.iter().rposition(|&byte| byte == START) {
            self.noise += restart as u64 + 1;
            frame.advance(restart + 1);
        }
        Ok(Some(frame.freeze()))
    }

    fn too_long(&self, length: usize) -> Option<FrameTooLong> {
        (length > self.frame_bytes_max).then_some(FrameTooLong { frame_bytes_max: self.frame_bytes_max })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read_in(pieces: &[&[u8]]) -> (Vec<Bytes>, u64) {
        let mut deframer = Deframer::new(1000);
        let mut messages = Vec::new();
        for piece in pieces {
            deframer.buffer.extend_from_slice(piece);
            while let Some(message) = deframer.next_message().unwrap() {
                messages.push(message);
            }
        }
        (messages, deframer.noise)
    }

    #[test]
    fn frames_are_the_same_whole_at_every_split_point() {
        let stream = [&framed(b"MSH|one")[..], b"\r\n", &framed(b""), &framed(b"MSH|\x1c|two\r")].concat();
        let expected = (vec![Bytes::from("MSH|one"), Bytes::new(), Bytes::from("MSH|\x1c|two\r")], 2);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(read_in(&pieces), expected, "split at {first} and {second}");
            }
        }
        assert_eq!(read_in(&stream.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_frame_given_up_by_its_sender_is_not_merged_with_the_next() {
        assert_eq!(read_in(&[b"\x0bMSH|ha", b"\x0bMSH|whole\x1c\r"]), (vec![Bytes::from("MSH|whole")], 7));
    }

    #[test]
    fn a_frame_without_end_is_refused_at_the_limit() {
        let mut deframer = Deframer::new(10);
        deframer.buffer.extend_from_slice(b"\x0bMSH|......");
        assert_eq!(deframer.next_message(), Err(FrameTooLong { frame_bytes_max: 10 }));
    }
}
