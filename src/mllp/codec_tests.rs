#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Every case runs whole, byte by byte, and cut in two at every offset, and must end the same.

use super::*;
use proptest::prelude::*;

const GOOD: &[u8] = b"MSH|^~\\&|GOOD\rPID|1\r";
const LIMIT: usize = 64;

#[derive(Debug, PartialEq)]
struct Outcome {
    frames: Vec<Decoded>,
    oddities: Oddities,
    error: Option<String>,
}

/// Feeds the pieces one read after the other, as a connection would.
fn feed<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut codec = Codec::new(limit);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(decoded)) => frames.push(decoded),
                Ok(None) => break,
                Err(error) => {
                    return Outcome { frames, oddities: codec.take_oddities(), error: Some(error.to_string()) };
                }
            }
        }
        assert!(buffer.len() <= limit + 2, "buffers {} bytes, the limit is {limit}", buffer.len());
    }
    while let Some(decoded) = codec.decode_eof(&mut buffer).unwrap() {
        frames.push(decoded);
    }
    Outcome { frames, oddities: codec.take_oddities(), error: None }
}

/// The outcome of `stream`, proven to be the same at every cut.
fn at_every_cut(stream: &[u8]) -> Outcome {
    let whole = feed(LIMIT, [stream]);
    assert_eq!(feed(LIMIT, stream.chunks(1)), whole, "one byte a read");
    for cut in 0..=stream.len() {
        assert_eq!(feed(LIMIT, [&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
    }
    whole
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut framed = BytesMut::new();
    frame_into(content, &mut framed);
    framed.to_vec()
}

fn frames(contents: &[&[u8]]) -> Vec<Decoded> {
    contents.iter().map(|content| Decoded::Frame(Bytes::copy_from_slice(content))).collect()
}

/// `bad` in front of a good frame: what else comes of it, at every cut.
fn then_good(bad: &[u8]) -> Outcome {
    let mut outcome = at_every_cut(&[bad, &frame(GOOD)].concat());
    assert_eq!(outcome.frames.pop(), Some(frames(&[GOOD]).remove(0)), "the good frame after it");
    outcome
}

#[test]
fn a_frame_is_its_content() {
    let outcome = at_every_cut(&frame(GOOD));
    assert_eq!(outcome, Outcome { frames: frames(&[GOOD]), oddities: Oddities::default(), error: None });
}

#[test]
fn noise_between_frames_is_skipped_and_counted() {
    for noise in [&b"\r\n"[..], b"\0\0\0", b"\n", b"  \r\n \0"] {
        let outcome = then_good(&[&frame(b"one"), noise].concat());
        assert_eq!(outcome.frames, frames(&[b"one"]));
        assert_eq!(outcome.oddities, Oddities { noise: 1, ..Oddities::default() });
    }
}

#[test]
fn a_message_without_vt_is_skipped_and_the_next_frame_is_taken() {
    let outcome = then_good(b"MSH|^~\\&|LOST\r\x1c\r");
    assert_eq!(outcome.frames, []);
    assert_eq!(outcome.oddities, Oddities { noise: 1, unframed: 1, ..Oddities::default() });
}

#[test]
fn over_4_kib_of_noise_ends_the_connection() {
    let within = [vec![0; NOISE_BYTES_MAX], frame(GOOD)].concat();
    assert_eq!(feed(LIMIT, [&within[..]]).frames, frames(&[GOOD]));
    for byte in [0, b'\r', FS, VT, b'x'] {
        let stream = vec![byte; NOISE_BYTES_MAX + 2];
        for outcome in [feed(LIMIT, [&stream[..]]), feed(LIMIT, stream.chunks(1)), feed(LIMIT, stream.chunks(1000))] {
            assert_eq!(outcome.frames, []);
            assert_eq!(outcome.error, Some(CodecError::Noise.to_string()), "of byte {byte}");
        }
    }
}

#[test]
fn fs_followed_by_vt_ends_the_frame() {
    let outcome = then_good(b"\x0bone\x1c");
    assert_eq!(outcome.frames, frames(&[b"one"]));
    assert_eq!(outcome.oddities, Oddities { no_cr: 1, ..Oddities::default() });
}

#[test]
fn fs_at_the_end_of_the_connection_ends_the_frame() {
    let outcome = at_every_cut(b"\x0bone\r\x1c");
    assert_eq!(outcome.frames, frames(&[b"one\r"]));
    assert_eq!(outcome.oddities, Oddities { no_cr: 1, ..Oddities::default() });
}

#[test]
fn fs_with_nothing_behind_ends_the_frame_when_the_server_says_so() {
    let mut codec = Codec::new(LIMIT);
    let mut buffer = BytesMut::from(&b"\x0bone\n\x1c"[..]);
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(codec.at_frame_end(&buffer));
    assert_eq!(codec.end_frame(&mut buffer), Some(frames(&[b"one\n"]).remove(0)));
    // The CR that comes late is noise.
    buffer.extend_from_slice(&[b"\r", &frame(GOOD)[..]].concat());
    assert_eq!(codec.decode(&mut buffer).unwrap(), Some(frames(&[GOOD]).remove(0)));
    assert_eq!(codec.take_oddities(), Oddities { quiet_end: 1, noise: 1, ..Oddities::default() });
}

#[test]
fn a_frame_not_at_its_end_is_not_ended_by_the_server() {
    let mut codec = Codec::new(LIMIT);
    // The last: FS inside of a segment, which may be content.
    for unended in [&b"\x0bone"[..], b"", b"\x1c", b"\x0bone\x1c"] {
        let mut buffer = BytesMut::from(unended);
        let _ = codec.decode(&mut buffer).unwrap();
        assert_eq!(codec.end_frame(&mut buffer), None);
        codec = Codec::new(LIMIT);
    }
}

#[test]
fn several_frames_in_one_read_are_that_many_frames() {
    let contents: Vec<String> = (0..100).map(|n| format!("message {n}")).collect();
    let stream: Vec<u8> = contents.iter().flat_map(|content| frame(content.as_bytes())).collect();
    let expected: Vec<&[u8]> = contents.iter().map(String::as_bytes).collect();
    for pieces in [feed(LIMIT, [&stream[..]]), feed(LIMIT, stream.chunks(1)), feed(LIMIT, stream.chunks(7))] {
        assert_eq!(pieces.frames, frames(&expected));
    }
}

#[test]
fn fs_cr_lf_does_not_lose_the_next_frame() {
    let outcome = then_good(b"\x0bone\x1c\r\n");
    assert_eq!(outcome.frames, frames(&[b"one"]));
}

#[test]
fn vt_inside_a_frame_drops_the_partial_and_takes_the_new_one() {
    let outcome = then_good(b"\x0bMSH|part of one");
    assert_eq!(outcome.frames, []);
    assert_eq!(outcome.oddities, Oddities { restarted: 1, ..Oddities::default() });
}

#[test]
fn fs_inside_content_is_content() {
    let outcome = then_good(b"\x0bo\x1cn\x1c\x1ce\x1c\r");
    assert_eq!(outcome.frames, frames(&[b"o\x1cn\x1c\x1ce"]));
}

#[test]
fn empty_and_blank_frames_are_keep_alives() {
    for blank in [&b""[..], b"\r", b"\r\n  \r"] {
        let outcome = then_good(&frame(blank));
        assert_eq!(outcome.frames, []);
        assert_eq!(outcome.oddities, Oddities { empty: 1, ..Oddities::default() });
    }
}

#[test]
fn keep_alives_and_noise_for_ever_do_not_add_up_to_an_error() {
    let stream = b"\x0b\x1c\r\0".repeat(NOISE_BYTES_MAX * 2);
    let outcome = feed(LIMIT, [&stream[..]]);
    assert_eq!((outcome.error, outcome.oddities.empty), (None, NOISE_BYTES_MAX as u64 * 2));
}

#[test]
fn a_frame_at_the_limit_is_taken_and_one_byte_more_is_oversized() {
    let outcome = at_every_cut(&frame(&[b'x'; LIMIT]));
    assert_eq!(outcome.frames, frames(&[&[b'x'; LIMIT]]));
    let over = [&frame(&[b'x'; LIMIT + 1])[..], &frame(GOOD)].concat();
    let outcome = feed(LIMIT, [&over[..]]);
    assert!(matches!(outcome.frames[..], [Decoded::Oversized(_)]), "nothing is read after it");
    for cut in 0..=over.len() {
        let outcome = feed(LIMIT, [&over[..cut], &over[cut..]]);
        assert!(matches!(&outcome.frames[..], [Decoded::Oversized(head)] if head.len() > LIMIT), "cut at {cut}");
    }
}

#[test]
fn the_head_of_an_oversized_frame_is_4_kib_at_most() {
    let stream = [b"\x0bMSH|^~\\&|".to_vec(), vec![b'x'; 100_000]].concat();
    for size in [1, 1000, 100_010] {
        let mut codec = Codec::new(10_000);
        let mut buffer = BytesMut::new();
        let found = stream.chunks(size).find_map(|piece| {
            buffer.extend_from_slice(piece);
            codec.decode(&mut buffer).unwrap()
        });
        let Some(Decoded::Oversized(head)) = found else { panic!("not found oversized") };
        assert_eq!(head, stream[1..1 + HEAD_BYTES]);
    }
}

#[test]
fn an_unended_frame_is_dropped_and_counted_when_the_peer_ends() {
    let outcome = at_every_cut(b"\x0bMSH|^~\\&|unended");
    assert_eq!(outcome.frames, []);
    assert_eq!(outcome.oddities, Oddities { truncated: 1, ..Oddities::default() });
}

#[test]
fn other_protocols_are_told_at_once() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (opening, told) in [
        (&hello[..], CodecError::Tls),
        (b"GET / HTTP/1.1\r\n\r\n", CodecError::ProtocolMismatch),
        (b"SSH-2.0-x\r\n", CodecError::ProtocolMismatch),
    ] {
        let outcome = at_every_cut(opening);
        assert_eq!(outcome.error, Some(told.to_string()));
    }
    // The same bytes later are noise.
    assert_eq!(then_good(&[&frame(b"one"), &b"GET / "[..]].concat()).frames, frames(&[b"one"]));
}

#[test]
fn sixteen_mib_of_one_byte_is_looked_at_once() {
    const SIZE: usize = 16 << 20;
    for byte in [VT, FS, CR, b'x'] {
        let mut codec = Codec::new(SIZE * 2);
        let mut buffer = BytesMut::from(&[VT][..]);
        let mut looked_at = 0;
        // A rescan would make 2,048 reads look at 16 GiB; a frame's position says where the next look begins.
        for _ in 0..SIZE / 8192 {
            buffer.extend_from_slice(&[byte; 8192]);
            match codec.decode(&mut buffer) {
                Ok(decoded) => assert_eq!(decoded, None),
                Err(_) => break,
            }
            let State::Inside { scanned } = codec.state else { panic!("the frame ended, of byte {byte}") };
            assert!(scanned + 1 >= buffer.len(), "byte {byte}: all but a last FS is scanned");
            looked_at += 8192;
        }
        assert_eq!(looked_at, if byte == VT { 0 } else { SIZE }, "byte {byte}");
    }
}

#[test]
fn debug_shows_no_content() {
    let shown = format!("{:?}", Decoded::Frame(Bytes::from_static(b"DOE^JOHN")));
    assert_eq!(shown, "Frame(8 bytes)");
}

proptest! {
    #[test]
    fn any_bytes_decode_the_same_at_any_cuts(
        stream in proptest::collection::vec(prop_oneof![Just(VT), Just(FS), Just(CR), Just(0u8), Just(b'a')], 0..80),
        size in 1usize..9,
    ) {
        prop_assert_eq!(feed(16, stream.chunks(size)).frames.len(), feed(16, [&stream[..]]).frames.len());
    }

    #[test]
    fn whole_frames_among_noise_all_come_out(
        contents in proptest::collection::vec("[a-z|^\r]{0,20}x", 0..20),
        noise in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8)], 0..5),
        size in 1usize..40,
    ) {
        let stream: Vec<u8> = contents.iter().flat_map(|c| [frame(c.as_bytes()), noise.clone()].concat()).collect();
        let expected: Vec<&[u8]> = contents.iter().map(String::as_bytes).collect();
        prop_assert_eq!(feed(LIMIT, stream.chunks(size)).frames, frames(&expected));
    }
}
