//! The message measured with: an infusion pump's PCD-01 report of 22 OBX, 4,096 bytes with its frame. It is laid out once;
//! each further one is a copy in which the control id, the device, its patient and the time of sending are other digits. The
//! time also makes each report's content new, so that none is a retransmission of another.

use crate::id::{Kind, MessageId};
use crate::pcd::{self, Draft, Obx, Origin, Term};
use jiff::Timestamp;

/// Devices behind each connection, which report in turn.
pub const DEVICES: u64 = 16;
/// The bytes of a message in its frame.
pub const FRAME_BYTES: usize = 4096;
/// OBX segments of a message.
pub const OBX: usize = 22;

const FIRST_DEVICE: u64 = 1_000;
const FIRST_SEQ: u64 = 100_000;
const DEVICE: &str = "@DEV";
const SENT: &str = "@SENT@@@@@@@@@@@";
const CONTROL_ID: &str = "ffffffff.4294967295.9";

/// One message: number `number` of connection `connection` in run `run`. As a control id it is 20 bytes, a [`MessageId`]
/// whose sender is the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The run.
    pub run: u32,
    /// The connection, below 500.
    pub connection: u64,
    /// 0, 1, 2 … on each connection, below 14,400,000.
    pub number: u64,
}

impl Id {
    /// Bytes of a control id.
    pub const BYTES: usize = 20;

    /// The device it is of.
    pub fn device(self) -> u64 {
        self.connection * DEVICES + self.number % DEVICES
    }

    /// Its place among its device's messages, from 0.
    pub fn place(self) -> u64 {
        self.number / DEVICES
    }

    /// As a control id.
    pub fn write(self, out: &mut [u8]) {
        hex(u64::from(self.run), &mut out[..8]);
        out[8] = b'.';
        decimal(FIRST_DEVICE + self.device(), &mut out[9..13]);
        out[13] = b'.';
        decimal(FIRST_SEQ + self.place(), &mut out[14..20]);
    }

    /// Reads a control id; `None` for one that is not of this form.
    pub fn read(text: &[u8]) -> Option<Id> {
        if text.len() != Id::BYTES || text[8] != b'.' || text[13] != b'.' {
            return None;
        }
        let device = number(&text[9..13], 10)?.checked_sub(FIRST_DEVICE)?;
        let place = number(&text[14..], 10)?.checked_sub(FIRST_SEQ)?;
        let run = u32::try_from(number(&text[..8], 16)?).ok()?;
        Some(Id { run, connection: device / DEVICES, number: place * DEVICES + device % DEVICES })
    }
}

/// A message in its frame, and where its digits are.
#[derive(Debug, Clone)]
pub struct Template {
    frame: Vec<u8>,
    control_id: usize,
    sent: usize,
    devices: Vec<usize>,
}

impl Default for Template {
    fn default() -> Self {
        Template::new()
    }
}

impl Template {
    /// Lays it out.
    pub fn new() -> Template {
        let text = report();
        let text = text.replacen(CONTROL_ID, &"@".repeat(Id::BYTES), 1);
        let devices = text.match_indices(DEVICE).map(|(at, _)| at + 1).collect();
        let (control_id, sent) = (text.find(&"@".repeat(Id::BYTES)).unwrap_or(0) + 1, text.find(SENT).unwrap_or(0) + 1);
        let frame = [b"\x0b", text.as_bytes(), b"\x1c\r"].concat();
        Template { frame, control_id, sent, devices }
    }

    /// Bytes of each frame.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Appends the message of this id, sent at `nanos` by the sender's clock.
    pub fn put(&self, out: &mut Vec<u8>, id: Id, nanos: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        id.write(&mut frame[self.control_id..][..Id::BYTES]);
        hex(nanos, &mut frame[self.sent..][..16]);
        let mut device = [0; 4];
        decimal(FIRST_DEVICE + id.device(), &mut device);
        self.devices.iter().for_each(|&at| frame[at..at + 4].copy_from_slice(&device));
    }

    /// When a message passed on unchanged was sent.
    pub fn sent_at(&self, frame: &[u8]) -> Option<u64> {
        number(frame.get(self.sent..self.sent + 16)?, 16)
    }
}

const METRICS: [(Term, &str, Term); 5] = [
    ("157784^MDC_FLOW_FLUID_PUMP^MDC", "12.5", pcd::ML_PER_HOUR),
    ("157884^MDC_VOL_FLUID_TBI^MDC", "250.0", pcd::ML),
    ("157872^MDC_VOL_FLUID_TBI_REMAIN^MDC", "184.2", pcd::ML),
    ("157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC", "65.8", pcd::ML),
    ("157916^MDC_TIME_PD_REMAIN^MDC", "884", pcd::MIN),
];

fn report() -> String {
    let id = MessageId { run: u32::MAX, sender: u32::MAX, seq: 9 };
    let origin = Origin { gateway: "PUMP_GATEWAY", gateway_eui: 0x0A00_27FF_FE00_0001, patient: 0, canary: None };
    let at = pcd::dtm(Timestamp::now());
    let mut draft = Draft::begin(Kind::R01, id, &origin, &at);
    draft.order(&origin, SENT, "999999^Medication Unknown", &at, "");
    let eui = format!("0A00A1FFFE00{DEVICE}");
    let device = format!("{eui}^^{eui}^EUI-64");
    draft.device("70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC", "1.0.0.0", &device);
    draft.device_time("1.0.0.1", &at);
    draft.device("70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC", "1.1.0.0", "");
    let mut left = OBX - 3;
    for channel in 1.. {
        if left == 0 {
            break;
        }
        draft.device("70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC", &format!("1.1.{channel}.0"), &device);
        left -= 1;
        for (number, (term, value, units)) in METRICS.into_iter().enumerate().take(left) {
            let path = format!("1.1.{channel}.{}", number + 1);
            let metric = Obx { value_type: "NM", term, path: &path, value, units, status: "R", ..Obx::default() };
            draft.obx(&Obx { time: &at, device: &device, ..metric });
            left -= 1;
        }
    }
    // The control id takes one byte less than the one it stands for.
    draft.pad_to(FRAME_BYTES - 3 + CONTROL_ID.len() - Id::BYTES);
    let text = String::from_utf8(draft.finish()).unwrap_or_default();
    text.replacen("SIM000000", &format!("SIM00{DEVICE}"), 1)
}

fn hex(value: u64, out: &mut [u8]) {
    let last = out.len() - 1;
    for (at, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (4 * (last - at)) & 15) as usize];
    }
}

fn decimal(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    digits
        .iter()
        .try_fold(0u64, |value, &digit| Some(value * u64::from(radix) + u64::from(char::from(digit).to_digit(radix)?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::measure::wire;

    fn made(id: Id, nanos: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        Template::new().put(&mut frame, id, nanos);
        frame
    }

    #[test]
    fn a_message_has_the_size_and_the_segments_it_is_said_to_have() {
        let frame = made(Id { run: 1, connection: 0, number: 0 }, 0);
        assert_eq!((frame.len(), Template::new().bytes()), (FRAME_BYTES, FRAME_BYTES));
        let text = String::from_utf8(frame).unwrap();
        assert_eq!(text.matches("\rOBX|").count(), OBX);
        assert!(!text.contains('@'), "a place was not filled: {text:?}");
    }

    #[test]
    fn an_id_is_read_back_from_the_message_that_bears_it() {
        let template = Template::new();
        for (connection, number) in [(0, 0), (0, 15), (0, 16), (15, 160_017), (499, 1)] {
            let id = Id { run: 0xbeef_0007, connection, number };
            let frame = made(id, 77_000_000_001);
            let control_id = wire::control_id(&frame).unwrap();
            assert_eq!(Id::read(control_id), Some(id));
            assert_eq!(MessageId::parse(control_id).map(|id| id.run), Some(0xbeef_0007));
            assert_eq!(template.sent_at(&frame), Some(77_000_000_001));
        }
        for wrong in [&b""[..], b"beef0007.1000.10000", b"beef0007.0999.100000", b"beef0007,1000.100000"] {
            assert_eq!(Id::read(wrong), None);
        }
    }

    #[test]
    fn two_devices_have_two_identities_and_two_patients() {
        let texts = [0, 1].map(|number| made(Id { run: 1, connection: 3, number }, 0));
        for (text, device) in texts.iter().zip(["1048", "1049"]) {
            let text = String::from_utf8_lossy(text);
            assert!(
                text.contains(&format!("SIM00{device}^^^GENHOSP"))
                    && text.contains(&format!("|0A00A1FFFE00{device}^^"))
            );
        }
    }

    #[test]
    fn the_message_breaks_no_rule_of_the_profile() {
        let frame = made(Id { run: 1, connection: 0, number: 0 }, 0);
        let verdict = crate::conform::check(&frame[1..frame.len() - 2]).unwrap();
        assert_eq!(verdict.findings, []);
    }
}
