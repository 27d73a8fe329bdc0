//! What is shown of a device.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a device reports as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// How often it reports is not known yet: too few observations came since it was first heard.
    Learning,
    /// As expected.
    Reporting,
    /// So many reports in a row were missed as the channel's `silent_after` says.
    Silent,
}

impl DeviceState {
    /// All of them.
    pub const ALL: [DeviceState; 3] = [DeviceState::Learning, DeviceState::Reporting, DeviceState::Silent];

    /// As the API and the metric name it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceState::Learning => "learning",
            DeviceState::Reporting => "reporting",
            DeviceState::Silent => "silent",
        }
    }
}

/// One device as last heard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceStatus {
    /// Names it in the API, until it is forgotten.
    pub id: u64,
    /// Its best identity, such as an EUI-64.
    pub device: Arc<str>,
    /// The channel that took its last message.
    pub channel: Arc<str>,
    /// Whether it reports as expected.
    pub state: DeviceState,
    /// When its first message was received.
    pub first_seen: Timestamp,
    /// When its last message was received.
    pub last_seen: Timestamp,
    /// When its last observation was received; an alert or a pump event is none.
    pub last_observation: Option<Timestamp>,
    /// Messages since it was first seen.
    pub messages: u64,
    /// Those that observe.
    pub observations: u64,
    /// Between two reports; `None` while it is not known.
    pub expected_interval_seconds: Option<f64>,
    /// Learned from its reports, not configured.
    pub interval_learned: bool,
    /// Time since the last observation in which the engine ran.
    pub quiet_seconds: Option<i64>,
    /// Times it fell silent.
    pub silences: u64,
    /// How far its clock is ahead of ours; `None` while it is not known.
    pub clock_skew_seconds: Option<f64>,
    /// Times its clock was set by more than a minute.
    pub clock_sets: u64,
    /// Observations that came more than a minute later than is usual for it.
    pub late: u64,
    /// Messages older than one that came before.
    pub out_of_order: u64,
    /// What its numbers say; `None` where its control ids are no sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceStatus>,
}

/// What the numbers of a device's messages say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SequenceStatus {
    /// Who counts: `device`, or its `sender`, whose missing messages may be another device's than the one that shows them.
    pub of: &'static str,
    /// Times numbers were missing.
    pub gaps: u64,
    /// Messages missing still.
    pub missing: u64,
    /// Numbers that came again.
    pub repeats: u64,
    /// Times the counter was set anew.
    pub restarts: u64,
}

/// Something that happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it was noticed.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// It fell silent.
    Silent {
        /// When its last observation before was received.
        since: Timestamp,
    },
    /// It was heard again.
    Returned {
        /// After so long.
        seconds: i64,
    },
    /// Messages are missing.
    Gap {
        /// So many.
        messages: u64,
    },
    /// Messages came again.
    Repeated {
        /// So many.
        messages: u64,
    },
    /// Its counter was set anew.
    CounterRestarted,
    /// Its clock was set.
    ClockSet {
        /// By so much, forward where positive.
        seconds: i64,
    },
    /// Messages came late.
    Late {
        /// So many.
        messages: u64,
    },
}

impl Happening {
    /// Adds what follows where it is more of the same, so that a long trouble does not push out all before it.
    pub(super) fn goes_on_with(&mut self, next: Happening) -> bool {
        match (self, next) {
            (Happening::Gap { messages }, Happening::Gap { messages: more })
            | (Happening::Repeated { messages }, Happening::Repeated { messages: more })
            | (Happening::Late { messages }, Happening::Late { messages: more }) => *messages += more,
            _ => return false,
        }
        true
    }
}
