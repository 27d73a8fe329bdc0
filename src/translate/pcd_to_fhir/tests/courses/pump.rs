//! A pump that gives what it is told to, knows what it truly gave, and tells of it as PCD-10 does.

use proptest::prelude::*;

/// What a pump counts and tells. Volumes are in thousandths of mL, times in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// The volume since the last start.
    pub volume: bool,
    /// The total.
    pub total: bool,
    /// The total counts boluses.
    pub total_has_bolus: bool,
    /// The volume of a run has the boluses in it.
    pub volume_has_bolus: bool,
    /// What runs goes on beside a bolus.
    pub flows_beside_bolus: bool,
    /// Clearing the counters clears the volume of the run too.
    pub clears_volume: bool,
    /// A new programme clears the total, and nobody is told.
    pub programme_clears: bool,
    /// It names the order.
    pub order: bool,
    /// It says what mode it is in.
    pub mode: bool,
}

/// What it is made to do.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Another patient or drug. The one before is cleared, if that is told.
    Programme {
        patient: u8,
        drug: u8,
        cleared: bool,
    },
    Run {
        pause: i64,
        rate: u32,
        flow: Vec<Flow>,
        completes: bool,
        flagged: bool,
    },
    /// It tells again that it stopped, with so much less.
    StopAgain {
        less: i64,
    },
    ClearCounters {
        told: bool,
    },
}

/// What happens while it runs.
#[derive(Debug, Clone)]
pub(super) enum Flow {
    Given { seconds: i64, volume: i64 },
    Bolus { volume: i64, beside: i64 },
    Rate { rate: u32 },
    ClearCounters { told: bool, before: bool },
}

/// What truly was given without a break, at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub pump: u8,
    pub patient: u8,
    pub drug: u8,
    pub bolus: bool,
    pub start: i64,
    pub end: i64,
    pub volume: i64,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub pump: u8,
    pub at: i64,
    pub event: &'static str,
    pub patient: u8,
    pub drug: u8,
    pub mode: Option<&'static str>,
    pub order: bool,
    pub rate: u32,
    pub volume: Option<i64>,
    pub total: Option<i64>,
    pub flagged: bool,
}

pub(super) const START: &str = "197288^MDC_EVT_PUMP_DELIV_START^MDC";
pub(super) const STOP: &str = "197290^MDC_EVT_PUMP_DELIV_STOP^MDC";
pub(super) const COMPLETE: &str = "197292^MDC_EVT_PUMP_DELIV_COMP^MDC";
pub(super) const CLEARED: &str = "0^MDC_EVT_PUMP_PROG_CLEARED^MDC";
const COUNTERS: &str = "0^MDC_EVT_PUMP_VOL_COUNTERS_CLEARED^MDC";
const CHANGE: &str = "0^MDC_EVT_PATIENT_PARAMETER_CHANGE^MDC";

/// What a pump did, and what it said.
pub(super) struct Course {
    pub said: Vec<Said>,
    pub truth: Vec<Piece>,
    /// Ends of infusions that were programmed away, or told again: pump, patient, drug, when.
    pub ends: Vec<(u8, u8, u8, i64)>,
    /// Its total began anew.
    pub total_began_anew: bool,
}

struct Pump {
    number: u8,
    habits: Habits,
    now: i64,
    patient: u8,
    drug: u8,
    rate: u32,
    total: i64,
    volume: i64,
    /// Told when it stopped last.
    stopped: Option<Said>,
    course: Course,
}

pub(super) fn course(number: u8, habits: Habits, steps: &[Step]) -> Course {
    let (said, truth, ends) = (Vec::new(), Vec::new(), Vec::new());
    let course = Course { said, truth, ends, total_began_anew: false };
    let mut pump = Pump {
        number,
        habits,
        now: i64::from(number),
        patient: number,
        drug: 0,
        rate: 0,
        total: 7_000,
        volume: 0,
        stopped: None,
        course,
    };
    steps.iter().for_each(|step| pump.take(step));
    pump.course
}

impl Pump {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Programme { patient, drug, cleared } => self.programme(*patient, *drug, *cleared),
            Step::Run { pause, rate, flow, completes, flagged } => {
                self.now += pause;
                self.rate = *rate;
                self.run(flow, *completes, *flagged);
            }
            Step::StopAgain { less } => {
                if let Some(stopped) = &self.stopped {
                    self.now += 3;
                    let volume = stopped.volume.map(|volume| (volume - less).max(0));
                    self.course.ends.push((self.number, self.patient, self.drug, self.now));
                    self.course.said.push(Said { at: self.now, volume, ..stopped.clone() });
                }
            }
            Step::ClearCounters { told } => {
                self.now += 1;
                self.clear(*told, false);
            }
        }
    }

    fn programme(&mut self, patient: u8, drug: u8, cleared: bool) {
        self.now += 2;
        if cleared {
            self.course.ends.push((self.number, self.patient, self.drug, self.now));
            self.say(CLEARED, None, false);
            self.now += 1;
        }
        if (patient, drug) != (self.patient, self.drug) {
            self.stopped = None;
        }
        (self.patient, self.drug) = (patient, drug);
        if self.habits.programme_clears {
            self.total = 0;
            self.course.total_began_anew = true;
        }
    }

    fn run(&mut self, flow: &[Flow], completes: bool, flagged: bool) {
        self.volume = 0;
        self.say(START, Some("continuous"), flagged);
        let mut start = self.now;
        let mut given = 0;
        for flow in flow {
            match flow {
                Flow::Given { seconds, volume } => {
                    self.now += seconds;
                    given += self.give(if *seconds == 0 { 0 } else { *volume });
                }
                Flow::Bolus { volume, beside } => given += self.bolus(*volume, *beside),
                Flow::Rate { rate } if *rate != self.rate && self.now > start => {
                    self.rate = *rate;
                    self.say(CHANGE, Some("continuous"), flagged);
                    self.piece(start, given, false);
                    (start, given) = (self.now, 0);
                }
                Flow::Rate { .. } => {}
                Flow::ClearCounters { told, before } => {
                    self.now += 1;
                    self.clear(*told, *before);
                }
            }
        }
        self.piece(start, given, false);
        let said = self.say(if completes { COMPLETE } else { STOP }, Some("continuous"), flagged);
        self.stopped = Some(said);
    }

    fn give(&mut self, volume: i64) -> i64 {
        self.total += volume;
        self.volume += volume;
        volume
    }

    /// What flowed beside it.
    fn bolus(&mut self, volume: i64, beside: i64) -> i64 {
        self.now += 2;
        let run = std::mem::take(&mut self.volume);
        self.say(START, Some("bolus"), false);
        let start = self.now;
        self.now += 5;
        self.volume = volume;
        self.total += if self.habits.total_has_bolus { volume } else { 0 };
        let beside = if self.habits.flows_beside_bolus { beside } else { 0 };
        self.total += beside;
        self.say(COMPLETE, Some("bolus"), false);
        self.piece(start, volume, true);
        self.volume = run + beside + if self.habits.volume_has_bolus { volume } else { 0 };
        self.now += 1;
        beside
    }

    fn clear(&mut self, told: bool, before: bool) {
        let reading = self.total;
        self.total = 0;
        self.volume = if self.habits.clears_volume { 0 } else { self.volume };
        self.course.total_began_anew = true;
        if told {
            let total = self.total;
            self.total = if before { reading } else { total };
            self.say(COUNTERS, None, false);
            self.total = total;
        }
    }

    fn piece(&mut self, start: i64, volume: i64, bolus: bool) {
        let Pump { number: pump, patient, drug, now: end, .. } = *self;
        self.course.truth.push(Piece { pump, patient, drug, bolus, start, end, volume });
    }

    fn say(&mut self, event: &'static str, mode: Option<&'static str>, flagged: bool) -> Said {
        let Pump { number: pump, patient, drug, rate, now: at, .. } = *self;
        let Habits { order, .. } = self.habits;
        let (volume, total) = (self.habits.volume.then_some(self.volume), self.habits.total.then_some(self.total));
        let mode = mode.filter(|_| self.habits.mode);
        let said = Said { pump, at, event, patient, drug, mode, order, rate, volume, total, flagged };
        self.course.said.push(said.clone());
        said
    }
}

impl Said {
    /// As HL7, under a control id of its own. What is only for people is spelled anew each time.
    pub fn text(&self, control: usize) -> String {
        let time = |seconds: i64| {
            format!("20260301{:02}{:02}{:02}+0100", 10 + seconds / 3600, seconds / 60 % 60, seconds % 60)
        };
        let at = time(self.at);
        let Said { pump, event, patient, drug, .. } = self;
        let spelled = |words: &str| if control.is_multiple_of(2) { words.to_uppercase() } else { words.to_owned() };
        let order = if self.order { format!("O{patient}{drug}^H") } else { String::new() };
        let label = spelled("Primary");
        let mut text = format!(
            "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||{at}||ORU^R42^ORU_R01|E{control}|P|2.6\n\
             PID|||P{patient}^^^H^MR||Muster^Maria^^^^^L\nPV1||I|3W^12^1\n\
             OBR|1|{order}|F{control}^GATEWAY|D{drug}^{}^99FORM|||{at}\n\
             OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||^^ACDE48000000200{pump}^EUI-64\n\
             OBX|2||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\n\
             OBX|3||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\n\
             OBX|4|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.1.1.1|{event}||||||R\n\
             OBX|5|ST|68488^MDC_ATTR_EVT_SOURCE^MDC|1.1.1.2|1.1.2.0||||||R\n\
             OBX|6||70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC|1.1.2.0|||||||X\n\
             OBX|7|ST|158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC|1.1.2.1|{label}||||||R\n\
             OBX|8|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.4|{}|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R\n",
            spelled("Norepinephrine"),
            self.rate,
        );
        if let Some(mode) = self.mode {
            let word = format!("^pump-program-delivery-mode-{mode}");
            text.push_str(&format!("OBX|9|CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.2|{word}||||||R\n"));
        }
        let told = [
            ("157992^MDC_VOL_FLUID_DELIV_SEGMENT", 3, self.volume),
            ("157993^MDC_VOL_FLUID_DELIV_TOTAL", 4, self.total),
        ];
        for (code, place, volume) in told.into_iter().filter_map(|(code, place, volume)| Some((code, place, volume?))) {
            // What is flagged is nonsense.
            let (volume, flag, status) = match (self.flagged, control % 3) {
                (false, _) => (volume, "", "R"),
                (true, 0) => (volume * 3 + 1, "INV", "X"),
                (true, 1) => (volume * 3 + 1, "QUES", "R"),
                (true, _) => (volume * 3 + 1, "", "X"),
            };
            let value = format!("{}.{:03}", volume / 1000, volume % 1000);
            let row = format!("NM|{code}^MDC|1.1.2.{place}|{value}|263762^MDC_DIM_MILLI_L^MDC||{flag}|||{status}");
            text.push_str(&format!("OBX|1{place}|{row}\n"));
        }
        text
    }
}

/// Any habits.
pub(super) fn habits() -> impl Strategy<Value = Habits> {
    let told = prop::sample::select(vec![(true, false), (true, true), (false, true)]);
    (told, any::<[bool; 5]>(), any::<[bool; 2]>()).prop_map(|((volume, total), counts, [order, mode])| {
        let [total_has_bolus, volume_has_bolus, flows_beside_bolus, clears_volume, programme_clears] = counts;
        Habits {
            volume,
            total,
            total_has_bolus,
            volume_has_bolus,
            flows_beside_bolus,
            clears_volume,
            programme_clears,
            order,
            mode,
        }
    })
}

pub(super) fn given() -> impl Strategy<Value = Flow> {
    (prop::sample::select(vec![0_i64, 30, 61, 200]), 20_i64..90_000)
        .prop_map(|(seconds, volume)| Flow::Given { seconds, volume })
}

pub(super) fn flow() -> impl Strategy<Value = Flow> {
    prop_oneof![
        3 => given(),
        2 => (1_000_i64..90_000, 20_i64..9_000).prop_map(|(volume, beside)| Flow::Bolus { volume, beside }),
        1 => (1_u32..5).prop_map(|rate| Flow::Rate { rate: rate * 10 }),
        1 => any::<[bool; 2]>().prop_map(|[told, before]| Flow::ClearCounters { told, before }),
    ]
}

pub(super) fn run(flow: impl Strategy<Value = Flow>) -> impl Strategy<Value = Step> {
    let pause = prop::sample::select(vec![0_i64, 1, 40]);
    let flow = prop::collection::vec(flow, 1..4);
    (pause, 1_u32..4, flow, prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(
        |(pause, rate, flow, completes, flagged)| Step::Run { pause, rate: rate * 10, flow, completes, flagged },
    )
}

pub(super) fn programme() -> impl Strategy<Value = Step> {
    (0_u8..3, 0_u8..2, any::<bool>()).prop_map(|(patient, drug, cleared)| Step::Programme { patient, drug, cleared })
}

/// Anything a pump may do.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let less = prop::sample::select(vec![0_i64, 9, 150, 900]).prop_map(|less| Step::StopAgain { less });
    let clear = any::<bool>().prop_map(|told| Step::ClearCounters { told });
    prop::collection::vec(prop_oneof![6 => run(flow()), 2 => programme(), 1 => less, 1 => clear], 1..9)
}
