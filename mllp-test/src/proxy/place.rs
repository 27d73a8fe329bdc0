//! Where a stream stands: bytes and MLLP frames that passed. It only counts; it never says what a frame holds.

use super::At;

const START: u8 = 0x0B;
const END: [u8; 2] = [0x1C, 0x0D];

/// A place in a stream.
#[derive(Debug, Default)]
pub(super) struct Place {
    bytes: u64,
    begun: u64,
    ended: u64,
    /// Bytes of the frame that is open, its start among them; 0 outside.
    in_frame: u64,
    last: u8,
}

impl Place {
    /// One byte on; true where it ended a frame.
    pub fn step(&mut self, byte: u8) -> bool {
        self.bytes += 1;
        let ends = self.in_frame > 1 && [self.last, byte] == END;
        self.last = byte;
        if ends {
            self.ended += 1;
            self.in_frame = 0;
        } else if self.in_frame > 0 {
            self.in_frame += 1;
        } else if byte == START {
            self.begun += 1;
            self.in_frame = 1;
        }
        ends
    }

    /// Whether this is the place; `depth` is how far into a frame `InFrame` is.
    pub fn is(&self, at: At, depth: u64) -> bool {
        match at {
            At::Bytes(count) => self.bytes == count,
            At::InFrame(number) => self.begun == number && self.in_frame == depth,
            At::AfterFrame(number) => self.ended == number && self.last == END[1] && self.in_frame == 0 && number > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(at: At, depth: u64) -> Option<usize> {
        let stream = b"x\x0bAB\x1c\r\r\x0bCD\x1cE\x1c\r";
        let mut place = Place::default();
        (1..=stream.len()).find(|&length| {
            place.step(stream[length - 1]);
            place.is(at, depth)
        })
    }

    #[test]
    fn each_place_is_found_at_its_byte() {
        assert_eq!(first(At::Bytes(3), 0), Some(3));
        assert_eq!(first(At::InFrame(1), 2), Some(3));
        assert_eq!(first(At::InFrame(2), 3), Some(10));
        assert_eq!(first(At::AfterFrame(1), 0), Some(6));
        assert_eq!(first(At::AfterFrame(2), 0), Some(14), "an FS inside a frame is not its end");
        assert_eq!(first(At::AfterFrame(3), 0), None);
        assert_eq!(first(At::InFrame(1), 9), None);
    }
}
