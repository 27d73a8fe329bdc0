//! A large-volume infusion pump. Its next state and its messages follow from state, time and seed alone.

use crate::id::{Kind, MessageId};
use crate::pcd::{self, Draft, Obx, Origin};
use crate::unit;
use jiff::{SignedDuration, Timestamp};

/// How long things last on average.
const RATE_CHANGE_EVERY: f64 = 600.0;
const OCCLUSION_EVERY: f64 = 1800.0;
const OCCLUSION_SECONDS: f64 = 45.0;
const IDLE_SECONDS: f64 = 90.0;

struct Drug {
    order: &'static str,
    name: &'static str,
    /// In thousandths of mg/mL; 0 for a plain fluid.
    concentration: u64,
    /// Tenths of mL/h.
    rates: (u64, u64),
    /// mL.
    volume: u64,
}

const DRUGS: [Drug; 6] = [
    Drug { order: "1001^Norepinephrine", name: "Norepinephrine", concentration: 64, rates: (20, 300), volume: 250 },
    Drug { order: "1002^Propofol", name: "Propofol", concentration: 10_000, rates: (50, 250), volume: 100 },
    Drug { order: "1003^Fentanyl", name: "Fentanyl", concentration: 50, rates: (10, 100), volume: 50 },
    Drug { order: "1004^Dopamine", name: "Dopamine", concentration: 1_600, rates: (40, 400), volume: 250 },
    Drug {
        order: "1005^Sodium chloride 0.9 %",
        name: "Sodium chloride 0.9 %",
        concentration: 0,
        rates: (500, 2500),
        volume: 500,
    },
    Drug { order: "1006^Midazolam", name: "Midazolam", concentration: 1_000, rates: (5, 80), volume: 100 },
];

/// What the pump does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing programmed until then.
    Idle {
        /// When the next infusion starts.
        until: Timestamp,
    },
    /// Delivering.
    Infusing,
    /// Stopped by a blocked line, alarm sounding, until then.
    Occluded {
        /// When the line is free again.
        until: Timestamp,
    },
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The state, sent at each interval (PCD-01).
    Observation,
    /// Delivery started (PCD-10).
    Start,
    /// Delivery stopped (PCD-10).
    Stop,
    /// The volume to be infused is in (PCD-10).
    Complete,
    /// The line is blocked (PCD-04, phase start).
    OcclusionStart,
    /// The line is free (PCD-04, phase end).
    OcclusionEnd,
}

impl Topic {
    /// The kind of message.
    pub fn kind(self) -> Kind {
        match self {
            Topic::Observation => Kind::R01,
            Topic::Start | Topic::Stop | Topic::Complete => Kind::R42,
            Topic::OcclusionStart | Topic::OcclusionEnd => Kind::R40,
        }
    }
}

/// A pump at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pump {
    /// Which pump; also its patient.
    pub index: u32,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// The moment.
    pub at: Timestamp,
    /// What it does.
    pub mode: Mode,
    /// Programmed flow in tenths of mL/h.
    pub rate: u64,
    /// Volume to be infused, in nL.
    pub to_infuse: u64,
    /// Delivered of it, in nL.
    pub delivered: u64,
    /// Delivered since the last start, in nL.
    pub segment: u64,
    drug: usize,
    alarms: u64,
    draws: u64,
}

impl Pump {
    /// The pump at the start, somewhere in an infusion.
    pub fn new(index: u32, seed: u64, at: Timestamp) -> Pump {
        let seed = crate::mix(seed, u64::from(index));
        let mode = Mode::Infusing;
        let mut pump = Pump {
            index,
            seed,
            at,
            mode,
            rate: 0,
            to_infuse: 0,
            delivered: 0,
            segment: 0,
            drug: 0,
            alarms: 0,
            draws: 0,
        };
        pump.program();
        pump.delivered = pump.to_infuse / 1000 * (pump.draw() * 900.0) as u64;
        pump
    }

    /// Goes on to a later moment; gives what is to be told, each with the pump as it was then.
    pub fn advance(&mut self, to: Timestamp) -> Vec<(Topic, Pump)> {
        let passed = to.duration_since(self.at);
        self.at = to;
        let mut told = Vec::new();
        match self.mode {
            Mode::Infusing => self.infuse(passed, &mut told),
            Mode::Idle { until } if to >= until => {
                self.program();
                self.mode = Mode::Infusing;
                self.tell(Topic::Start, &mut told);
            }
            Mode::Occluded { until } if to >= until => {
                self.tell(Topic::OcclusionEnd, &mut told);
                self.mode = Mode::Infusing;
                self.segment = 0;
                self.tell(Topic::Start, &mut told);
            }
            Mode::Idle { .. } | Mode::Occluded { .. } => {}
        }
        self.tell(Topic::Observation, &mut told);
        told
    }

    fn infuse(&mut self, passed: SignedDuration, told: &mut Vec<(Topic, Pump)>) {
        // tenths of mL/h × ms / 36 = nL
        let volume = self.rate * passed.as_millis().max(0) as u64 / 36;
        let volume = volume.min(self.to_infuse - self.delivered);
        self.delivered += volume;
        self.segment += volume;
        let seconds = passed.as_secs_f64();
        if self.delivered == self.to_infuse {
            self.mode = Mode::Idle { until: self.later(IDLE_SECONDS) };
            self.tell(Topic::Complete, told);
        } else if self.happens(seconds, OCCLUSION_EVERY) {
            self.mode = Mode::Occluded { until: self.later(OCCLUSION_SECONDS) };
            self.alarms += 1;
            self.tell(Topic::Stop, told);
            self.tell(Topic::OcclusionStart, told);
        } else if self.happens(seconds, RATE_CHANGE_EVERY) {
            // A change of rate is told as stop and start (TF-2 M.1).
            self.tell(Topic::Stop, told);
            self.rate = self.new_rate();
            self.segment = 0;
            self.tell(Topic::Start, told);
        }
    }

    fn program(&mut self) {
        self.drug = (self.draw() * DRUGS.len() as f64) as usize;
        self.to_infuse = DRUGS[self.drug].volume * 1_000_000;
        self.delivered = 0;
        self.segment = 0;
        self.rate = self.new_rate();
    }

    fn new_rate(&mut self) -> u64 {
        let (low, high) = DRUGS[self.drug].rates;
        low + (self.draw() * (high - low) as f64) as u64
    }

    /// What is told together is a millisecond apart: no two messages speak of the same moment.
    fn tell(&self, topic: Topic, told: &mut Vec<(Topic, Pump)>) {
        let at = self.at + SignedDuration::from_millis(told.len() as i64);
        told.push((topic, Pump { at, ..*self }));
    }

    fn draw(&mut self) -> f64 {
        self.draws += 1;
        unit(self.seed, self.draws)
    }

    fn happens(&mut self, seconds: f64, every: f64) -> bool {
        self.draw() < 1.0 - (-seconds / every).exp()
    }

    fn later(&mut self, mean_seconds: f64) -> Timestamp {
        let seconds = mean_seconds * (0.5 + self.draw());
        self.at + SignedDuration::from_millis((seconds * 1000.0) as i64)
    }

    /// The message about a topic, from the pump as it was then.
    pub fn message(&self, topic: Topic, id: MessageId, canary: Option<String>) -> Vec<u8> {
        let origin =
            Origin { gateway: "PUMP_GATEWAY", gateway_eui: 0x0A00_27FF_FE00_0010, patient: self.index, canary };
        let at = pcd::dtm(self.at);
        let mut draft = Draft::begin(topic.kind(), id, &origin, &at);
        match topic {
            Topic::OcclusionStart | Topic::OcclusionEnd => self.alert(topic, &origin, &at, &mut draft),
            _ => {
                let service = format!("{}^L", DRUGS[self.drug].order);
                draft.order(&origin, &id.to_string(), &service, &at, "");
                self.mds(topic, &at, &mut draft);
                self.delivery(topic, &mut draft);
                self.source(topic, &mut draft);
            }
        }
        draft.finish()
    }

    fn mds(&self, topic: Topic, at: &str, draft: &mut Draft) {
        let device = pcd::eui_64(0x0A00_A1FF_FE00_0000 + u64::from(self.index));
        draft.device("70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC", "1.0.0.0", &device);
        draft.device_time("1.0.0.1", at);
        let event = match topic {
            Topic::Start => "197288^MDC_EVT_PUMP_DELIV_START^MDC",
            Topic::Stop => "197290^MDC_EVT_PUMP_DELIV_STOP^MDC",
            Topic::Complete => "197292^MDC_EVT_PUMP_DELIV_COMP^MDC",
            _ => "",
        };
        if !event.is_empty() {
            draft.coded("68487^MDC_ATTR_EVT_COND^MDC", "1.0.0.2", event);
            draft.text("68488^MDC_ATTR_EVT_SOURCE^MDC", "1.0.0.3", "1.1.2.0");
        }
        draft.device("70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC", "1.1.0.0", "");
    }

    /// Whether fluid flows, as the message is to tell it: a stop is told with the pump still programmed.
    fn flows(&self, topic: Topic) -> bool {
        self.mode == Mode::Infusing && topic != Topic::Stop
    }

    fn delivery(&self, topic: Topic, draft: &mut Draft) {
        let flows = self.flows(topic);
        draft.device("70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC", "1.1.1.0", "");
        let status = if flows { "^pump-status-infusing" } else { "^pump-status-not-infusing" };
        draft.coded("184519^MDC_PUMP_INFUSING_STATUS^MDC", "1.1.1.1", status);
        let flow = pcd::decimal(if flows { self.rate } else { 0 }, 1);
        draft.number("158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "1.1.1.2", &flow, pcd::ML_PER_HOUR);
        draft.coded("158016^MDC_DEV_PUMP_ACTIVE_SOURCES^MDC", "1.1.1.3", "^pump-source-info-primary");
    }

    fn source(&self, topic: Topic, draft: &mut Draft) {
        let drug = &DRUGS[self.drug];
        let flows = self.flows(topic);
        draft.device("70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC", "1.1.2.0", "");
        let status = if flows { "^pump-delivery-status-delivering" } else { "^pump-delivery-status-not-delivering" };
        draft.coded("158005^MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS^MDC", "1.1.2.1", status);
        let mode = "^pump-program-delivery-mode-continuous";
        draft.coded("158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC", "1.1.2.2", mode);
        draft.text("158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC", "1.1.2.3", "Primary");
        draft.setting("157784^MDC_FLOW_FLUID_PUMP^MDC", "1.1.2.4", &pcd::decimal(self.rate, 1), pcd::ML_PER_HOUR);
        let remain = self.to_infuse - self.delivered;
        draft.setting("157884^MDC_VOL_FLUID_TBI^MDC", "1.1.2.5", &ml(self.to_infuse), pcd::ML);
        draft.number("157872^MDC_VOL_FLUID_TBI_REMAIN^MDC", "1.1.2.6", &ml(remain), pcd::ML);
        draft.number("157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC", "1.1.2.7", &ml(self.delivered), pcd::ML);
        draft.number("157992^MDC_VOL_FLUID_DELIV_SEGMENT^MDC", "1.1.2.8", &ml(self.segment), pcd::ML);
        let minutes = remain * 6 / 10_000 / self.rate.max(1);
        draft.number("157916^MDC_TIME_PD_REMAIN^MDC", "1.1.2.9", &minutes.to_string(), pcd::MIN);
        draft.text("184514^MDC_DRUG_NAME_LABEL^MDC", "1.1.2.10", drug.name);
        if drug.concentration > 0 {
            let concentration = pcd::decimal(drug.concentration, 3);
            draft.setting("157760^MDC_CONC_DRUG^MDC", "1.1.2.11", &concentration, pcd::MG_PER_ML);
        }
        if !flows {
            let reason = match self.mode {
                Mode::Occluded { .. } => "^pump-stopped-device-alarm",
                Mode::Idle { .. } => "^pump-stopped-program-complete",
                Mode::Infusing => "^pump-stopped-rate-change",
            };
            draft.coded("158006^MDC_DEV_PUMP_NOT_DELIVERING_REASON^MDC", "1.1.2.12", reason);
        }
    }

    fn alert(&self, topic: Topic, origin: &Origin, at: &str, draft: &mut Draft) {
        let instance = format!("P{}-{}", self.index, self.alarms);
        let (number, parent, phase, state) = if topic == Topic::OcclusionStart {
            (instance.clone(), "", "start", "active")
        } else {
            (format!("{instance}-end"), &*instance, "end", "inactive")
        };
        draft.order(origin, &number, "196616^MDC_EVT_ALARM^MDC", at, parent);
        let device = pcd::eui_64(0x0A00_A1FF_FE00_0000 + u64::from(self.index));
        draft.device("70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC", "1.0.0.0", &device);
        draft.device("70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC", "1.1.0.0", "");
        draft.device("70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC", "1.1.1.0", "");
        let facets = [
            ("CWE", "196616^MDC_EVT_ALARM^MDC", "196940^MDC_EVT_FLUID_LINE_OCCL^MDC^^^^^^Occlusion", at),
            ("CWE", "68480^MDC_ATTR_ALERT_SOURCE^MDC", "70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC", ""),
            ("ST", "68481^MDC_ATTR_EVENT_PHASE^MDC", phase, ""),
            ("ST", "68482^MDC_ATTR_ALARM_STATE^MDC", state, ""),
            ("ST", "68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC", "enabled", ""),
            ("ST", "68484^MDC_ATTR_ALARM_PRIORITY^MDC", "PH", ""),
            ("ST", "68485^MDC_ATTR_ALERT_TYPE^MDC", "ST", ""),
        ];
        for (facet, (value_type, term, value, time)) in (1..).zip(facets) {
            let path = format!("1.1.1.1.{facet}");
            draft.obx(&Obx { value_type, term, path: &path, value, time, status: "F", ..Obx::default() });
        }
    }
}

/// nL as mL with two places, cut, so that what is told never exceeds what was delivered.
fn ml(nanolitres: u64) -> String {
    pcd::decimal(nanolitres / 10_000, 2)
}
