//! Writes IHE PCD messages (DEV TF-2, appendix B): header with profile, patient, order, and OBX segments with their
//! containment. What is written here is meant to pass a strict conformance check, so that what the engine reports about
//! it is the engine's fault.

use crate::id::{Kind, MessageId};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// A coded term as `code^REFID^MDC`.
pub type Term = &'static str;

/// Flow in mL/h.
pub const ML_PER_HOUR: Term = "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM";
/// Volume in mL.
pub const ML: Term = "263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM";
/// Time in minutes.
pub const MIN: Term = "264352^MDC_DIM_MIN^MDC^min^min^UCUM";
/// Concentration in mg/mL.
pub const MG_PER_ML: Term = "264306^MDC_DIM_MILLI_G_PER_ML^MDC^mg/mL^mg/mL^UCUM";
/// Glucose in mg/dL.
pub const MG_PER_DL: Term = "264274^MDC_DIM_MILLI_G_PER_DL^MDC^mg/dL^mg/dL^UCUM";
/// Change of glucose; only its UCUM form is sure.
pub const MG_PER_DL_PER_MIN: Term = "mg/dL/min^mg/dL/min^UCUM";
/// OBX-17 of a setting made by a person.
pub const SETTING: Term = "MSET^manual-setting^MDC";

/// The gateway and the patient of a message.
#[derive(Debug, Clone)]
pub struct Origin {
    /// MSH-3.1, the gateway's name.
    pub gateway: &'static str,
    /// MSH-3.2, the gateway's EUI-64.
    pub gateway_eui: u64,
    /// Which patient: the number makes the medical record number, the name and the bed.
    pub patient: u32,
    /// A word to plant as family name, to be looked for where no patient data may be.
    pub canary: Option<String>,
}

const FAMILIES: [&str; 12] = [
    "Albers",
    "Brandt",
    "Castell",
    "Dorval",
    "Ekman",
    "Ferrant",
    "Grove",
    "Hallam",
    "Ivarsen",
    "Jorda",
    "Kestner",
    "Lindqvist",
];
const GIVEN: [&str; 10] = ["Ada", "Bruno", "Clara", "David", "Elin", "Franka", "Georg", "Hanne", "Ilse", "Jonas"];

/// A date and time with zone, as the profile demands: `20260131093015.250+0000`.
pub fn dtm(at: Timestamp) -> String {
    let t = TimeZone::UTC.to_datetime(at);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}.{:03}+0000",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    )
}

/// An EUI-64 as an entity identifier: OBX-18 of a device.
pub fn eui_64(eui: u64) -> String {
    format!("{eui:016X}^^{eui:016X}^EUI-64")
}

/// The fields of one OBX; an empty one is not sent. OBX-1 is counted by [`Draft`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Obx<'a> {
    /// OBX-2, the value type.
    pub value_type: &'a str,
    /// OBX-3, what is observed.
    pub term: &'a str,
    /// OBX-4, the containment.
    pub path: &'a str,
    /// OBX-5, the value.
    pub value: &'a str,
    /// OBX-6.
    pub units: &'a str,
    /// OBX-7, the alarm limits.
    pub range: &'a str,
    /// OBX-8, interpretation codes.
    pub interpretation: &'a str,
    /// OBX-11, the status.
    pub status: &'a str,
    /// OBX-14, when it was observed.
    pub time: &'a str,
    /// OBX-17, how it was come by.
    pub method: &'a str,
    /// OBX-18, the device.
    pub device: &'a str,
}

/// A message being written.
#[derive(Debug)]
pub struct Draft {
    text: String,
    obx: u32,
}

impl Draft {
    /// Begins with MSH, PID and PV1. `at` is MSH-7.
    pub fn begin(kind: Kind, id: MessageId, origin: &Origin, at: &str) -> Draft {
        let (event, profile) = match kind {
            Kind::R40 => ("ORU^R40^ORU_R40", "IHE_PCD_ACM_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO"),
            Kind::R42 => ("ORU^R42^ORU_R01", "IHE_PCD_010^IHE PCD^1.3.6.1.4.1.19376.1.6.4.10^ISO"),
            _ => ("ORU^R01^ORU_R01", "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"),
        };
        let (gateway, eui, n) = (origin.gateway, origin.gateway_eui, origin.patient);
        let mut text = String::with_capacity(2048);
        let _ = write!(
            text,
            "MSH|^~\\&|{gateway}^{eui:016X}^EUI-64|GENHOSP|||{at}||{event}|{id}|P|2.6|||AL|NE|||||{profile}\r"
        );
        let given = GIVEN[n as usize % GIVEN.len()];
        let _ = match &origin.canary {
            Some(canary) => write!(text, "PID|||SIM{n:06}^^^GENHOSP^MR||{canary}{n}^{given}^^^^^L\r"),
            None => write!(
                text,
                "PID|||SIM{n:06}^^^GENHOSP^MR||{}^{given}^^^^^L\r",
                FAMILIES[n as usize / GIVEN.len() % FAMILIES.len()]
            ),
        };
        let _ = write!(text, "PV1||I|{} West^{}^{}^GENHOSP\r", 2 + n / 40 % 8, 200 + n / 2 % 20, 1 + n % 2);
        Draft { text, obx: 0 }
    }

    /// OBR: `number` is the filler order number's first part, `service` is OBR-4, `start` OBR-7, `parent` OBR-29.
    pub fn order(&mut self, origin: &Origin, number: &str, service: &str, start: &str, parent: &str) {
        let (gateway, eui) = (origin.gateway, origin.gateway_eui);
        let _ = write!(self.text, "OBR|1||{number}^{gateway}^{eui:016X}^EUI-64|{service}|||{start}");
        if !parent.is_empty() {
            let _ = write!(self.text, "{:|<22}^{parent}&{gateway}&{eui:016X}&EUI-64", "");
        }
        self.text.push('\r');
    }

    /// A device, VMD or channel: no value.
    pub fn device(&mut self, term: Term, path: &str, device: &str) {
        self.obx(&Obx { term, path, status: "X", device, ..Obx::default() });
    }

    /// A measured number.
    pub fn number(&mut self, term: Term, path: &str, value: &str, units: Term) {
        self.obx(&Obx { value_type: "NM", term, path, value, units, status: "R", ..Obx::default() });
    }

    /// A number set by a person.
    pub fn setting(&mut self, term: Term, path: &str, value: &str, units: Term) {
        let method = SETTING;
        self.obx(&Obx { value_type: "NM", term, path, value, units, method, status: "R", ..Obx::default() });
    }

    /// A coded value.
    pub fn coded(&mut self, term: Term, path: &str, value: &str) {
        self.obx(&Obx { value_type: "CWE", term, path, value, status: "R", ..Obx::default() });
    }

    /// A text.
    pub fn text(&mut self, term: Term, path: &str, value: &str) {
        self.obx(&Obx { value_type: "ST", term, path, value, status: "R", ..Obx::default() });
    }

    /// The device's own time (MDC_ATTR_TIME_ABS), which TF-2 B.8.7 wants at MDS level.
    pub fn device_time(&mut self, path: &str, at: &str) {
        let term = "67975^MDC_ATTR_TIME_ABS^MDC";
        self.obx(&Obx { value_type: "DTM", term, path, value: at, status: "R", time: at, ..Obx::default() });
    }

    /// Any OBX.
    pub fn obx(&mut self, obx: &Obx<'_>) {
        self.obx += 1;
        let Obx { value_type, term, path, value, units, range, interpretation, status, time, method, device } = obx;
        let _ = write!(
            self.text,
            "OBX|{}|{value_type}|{term}|{path}|{value}|{units}|{range}|{interpretation}|||{status}|||{time}|||{method}|{device}",
            self.obx
        );
        self.text.truncate(self.text.trim_end_matches('|').len());
        self.text.push('\r');
    }

    /// A note after the last OBX that makes the message `bytes` long, if it is shorter.
    pub fn pad_to(&mut self, bytes: usize) {
        let prefix = "NTE|1||";
        if let Some(missing) = bytes.checked_sub(self.text.len() + prefix.len() + 1).filter(|&missing| missing > 0) {
            self.text.push_str(prefix);
            self.text.extend(std::iter::repeat_n('x', missing));
            self.text.push('\r');
        }
    }

    /// The whole message.
    pub fn finish(self) -> Vec<u8> {
        self.text.into_bytes()
    }
}

/// A number with `decimals` places from a count of the smallest unit, without floating point: `(1234, 2)` is `12.34`.
pub fn decimal(count: u64, decimals: u32) -> String {
    let scale = 10u64.pow(decimals);
    format!("{}.{:0width$}", count / scale, count % scale, width = decimals as usize)
}
