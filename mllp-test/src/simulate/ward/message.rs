//! The ward's messages: a report (PCD-01) by the device's own clock, or an alert (PCD-04).

use super::GatewayKind;
use crate::pcd::{dtm, eui_64};
use jiff::{SignedDuration, Timestamp};

/// What a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Report,
    Alert,
}

/// A moment of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) topic: Topic,
    /// Seconds from the start.
    pub(super) at: i64,
    /// Seconds the device's clock is ahead.
    pub(super) skew: i64,
    /// The patient is.
    pub(super) known: bool,
    pub(super) bed: u32,
}

/// The device's identity.
pub(super) fn device_eui(device: u32) -> u64 {
    0x0A00_A1FF_FE10_0000 + u64::from(device)
}

/// MSH-10.
pub(super) fn control_id(kind: GatewayKind, device: u32, number: u64) -> String {
    match kind {
        GatewayKind::ByDevice => format!("W{device:04}-{number}"),
        GatewayKind::Ticks => format!("{number}{device:04}"),
        GatewayKind::OneEach | GatewayKind::ByGateway => number.to_string(),
    }
}

/// The message, made `at` by the gateway's clock.
pub(super) fn write(
    start: Timestamp,
    gateway: usize,
    kind: GatewayKind,
    device: u32,
    number: u64,
    told: &Told,
) -> Vec<u8> {
    let made = dtm(start + SignedDuration::from_secs(told.at));
    let by_device = dtm(start + SignedDuration::from_secs(told.at + told.skew));
    let id = control_id(kind, device, number);
    let sender = match kind {
        GatewayKind::OneEach => format!("WARD_DEVICE_{device}"),
        _ => format!("WARD_GATEWAY_{gateway}"),
    };
    let (event, profile, service) = match told.topic {
        Topic::Report => ("ORU^R01^ORU_R01", "1.3.6.1.4.1.19376.1.6.1.1.1", "69985^MDC_DEV_PUMP_INFUS_MDS^MDC"),
        Topic::Alert => ("ORU^R40^ORU_R40", "1.3.6.1.4.1.19376.1.6.1.4.1", "196616^MDC_EVT_ALARM^MDC"),
    };
    let patient = match told.known {
        true => format!("PID|||WARD{device:05}^^^WARD^MR||Patient^Ward^^^^^L"),
        false => "PID|||||^^^^^^U||||||||||||||||||||||||||Y".to_owned(),
    };
    let (bed, eui) = (told.bed, eui_64(device_eui(device)));
    let mut text = format!(
        "MSH|^~\\&|{sender}|WARD|||{made}||{event}|{id}|P|2.6|||AL|NE|||||IHE_PCD^IHE PCD^{profile}^ISO\r{patient}\r\
         PV1||I|WARD^{}^{}^WARD\rOBR|1||{id}^{sender}^0A0027FFFE000030^EUI-64|{service}|||{by_device}\r\
         OBX|1||69985^MDC_DEV_PUMP_INFUS_MDS^MDC|1.0.0.0|||||||X|||||||{eui}\r",
        bed / 2,
        bed % 2
    );
    let rows = match told.topic {
        Topic::Report => format!(
            "OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|{by_device}||||||R|||{by_device}\r\
             OBX|3|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{}|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R\r",
            told.at % 100
        ),
        Topic::Alert => format!(
            "OBX|2|CWE|196616^MDC_EVT_ALARM^MDC|1.1.1.1.1|196940^MDC_EVT_FLUID_LINE_OCCL^MDC||||||F|||{by_device}\r\
             OBX|3|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.1.1.1.3|start||||||F\r"
        ),
    };
    text.push_str(&rows);
    text.into_bytes()
}
