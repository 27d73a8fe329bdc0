//! MLLP frames and the two fields a benchmark reads, found as fast as a scan of the bytes goes.

use memchr::{memchr, memchr_iter, memmem};

/// Where the first whole frame in `bytes` ends, looking for its end from `from` on; `None` until more bytes come.
pub fn frame_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let end = at + memchr(0x1C, bytes.get(at..)?)?;
        match bytes.get(end + 1) {
            Some(0x0D) => return Some(end + 2),
            Some(_) => at = end + 1,
            None => return None,
        }
    }
}

/// Takes each whole frame out of `buffer` and gives it to `each`. `scanned` is where the last look ended; it begins at 0.
pub fn take_frames(buffer: &mut Vec<u8>, scanned: &mut usize, mut each: impl FnMut(&[u8])) {
    let mut used = 0;
    while let Some(end) = frame_end(buffer, used.max(*scanned)) {
        each(&buffer[used..end]);
        (used, *scanned) = (end, end);
    }
    buffer.drain(..used);
    // One back: the end may have been split between two reads.
    *scanned = buffer.len().saturating_sub(1);
}

/// MSH-10 of a frame.
pub fn control_id(frame: &[u8]) -> Option<&[u8]> {
    let mut separators = memchr_iter(b'|', frame);
    let start = separators.nth(8)? + 1;
    Some(&frame[start..separators.next()?])
}

/// MSA-1 and MSA-2 of a frame.
pub fn acknowledgement(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memmem::find(frame, b"\rMSA|")? + 5;
    let mut fields = frame[start..].split(|byte| matches!(byte, b'|' | b'\r' | 0x1C));
    Some((fields.next()?, fields.next()?))
}

/// Appends a framed ACK with this MSA-1 for this control id.
pub fn put_ack(out: &mut Vec<u8>, code: &[u8], control_id: &[u8]) {
    let parts: [&[u8]; 7] = [
        b"\x0bMSH|^~\\&|EHR|GENHOSP|PUMP_GATEWAY|GENHOSP|20260131093015+0000||ACK^R01^ACK|A",
        control_id,
        b"|P|2.6\rMSA|",
        code,
        b"|",
        control_id,
        b"\r\x1c\r",
    ];
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_are_the_same_at_every_split_point() {
        let mut stream = Vec::new();
        put_ack(&mut stream, b"AA", b"one");
        stream.extend_from_slice(b"\x0bMSH|\x1c|\x1c\x1c\r");
        put_ack(&mut stream, b"CR", b"two");
        for split in 0..=stream.len() {
            let (mut buffer, mut scanned, mut lengths) = (Vec::new(), 0, Vec::new());
            for part in [&stream[..split], &stream[split..]] {
                buffer.extend_from_slice(part);
                take_frames(&mut buffer, &mut scanned, |frame| lengths.push(frame.len()));
            }
            assert_eq!((lengths.len(), lengths[1], buffer.len()), (3, 10, 0), "split at {split}");
        }
    }

    #[test]
    fn an_ack_names_its_message_in_msa_2_and_is_itself_named() {
        let mut ack = Vec::new();
        put_ack(&mut ack, b"CA", b"17");
        assert_eq!(acknowledgement(&ack), Some((&b"CA"[..], &b"17"[..])));
        assert_eq!(control_id(&ack), Some(&b"A17"[..]));
        assert_eq!(acknowledgement(b"\x0bMSH|^~\\&|\r\x1c\r"), None);
    }
}
