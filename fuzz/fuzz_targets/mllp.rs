//! The codec on any bytes in any pieces: no panic, bounded buffer, and the same frames whatever the pieces.
#![no_main]

use bytes::BytesMut;
use cannula::mllp::{Codec, Decoded};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::Decoder;

const LIMIT: usize = 512;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (size, stream) = input;
    let pieces = frames(stream.chunks(usize::from(size).max(1)));
    let whole = frames(std::iter::once(&stream[..]));
    assert_eq!(pieces, whole);
});

/// Whole frames only: how much of an oversized one's head is seen depends on the pieces.
fn frames<'s>(pieces: impl Iterator<Item = &'s [u8]>) -> Vec<Decoded> {
    let (mut codec, mut buffer, mut found) = (Codec::new(LIMIT), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(decoded)) => found.push(decoded),
                Ok(None) => break,
                Err(_) => return found.into_iter().filter(|d| matches!(d, Decoded::Frame(_))).collect(),
            }
        }
        assert!(buffer.len() <= LIMIT + 2);
    }
    found.into_iter().filter(|decoded| matches!(decoded, Decoded::Frame(_))).collect()
}
