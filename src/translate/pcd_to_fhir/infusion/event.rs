//! One event of a source, as the state machine takes it.

use serde::{Deserialize, Serialize};

use super::{Amount, Mode, Programme};

/// A moment, and as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) struct When {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// FHIR dateTime, as precise as it was sent.
    pub text: String,
    pub trust: Trust,
}

/// How far a moment is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) enum Trust {
    /// It was received as it happened: right, whatever becomes of the clock.
    Sure,
    /// It was received later: right unless the clock turns out to have been wrong.
    Told,
    /// By a clock that was wrong: it tells one event from another, and nothing else.
    Wrong,
}

impl When {
    /// It is told to the second, and `at` is a part of that second.
    pub fn is_second_of(&self, at: i64) -> bool {
        const SECOND: i64 = 1_000_000_000;
        let parts = at.checked_sub(self.at).filter(|parts| (1..SECOND).contains(parts));
        parts.is_some() && !self.text.contains('.') && self.at % SECOND == 0
    }

    /// The clock was found to be wrong since.
    pub fn distrust(&mut self) {
        if self.trust == Trust::Told {
            self.trust = Trust::Wrong;
        }
    }

    /// What may be written.
    pub fn trusted(&self) -> Option<&When> {
        Some(self).filter(|when| when.trust != Trust::Wrong)
    }
}

/// What happened to an infusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::translate::pcd_to_fhir) enum Happened {
    Started,
    Stopped,
    Completed,
    /// The programme was cleared.
    Cleared,
    /// Volume counters were set to nothing.
    CountersCleared,
    /// Something of the programme changed while it ran.
    Changed,
}

/// One event.
#[derive(Debug, Clone)]
pub(in crate::translate::pcd_to_fhir) struct Event {
    pub happened: Happened,
    pub at: When,
    /// None where the pump does not say.
    pub mode: Option<Mode>,
    pub programme: Programme,
    /// A digest of the filler's number.
    pub filler: Option<u32>,
    pub rate: Option<Amount>,
    /// Given since the last start.
    pub run_volume: Option<Amount>,
    /// Given since the counters were cleared.
    pub counter: Option<Amount>,
    pub to_be_infused: Option<Amount>,
    /// Why it does not deliver.
    pub reason: Option<String>,
    /// By its time it is older than what was told last, which was by a clock that was wrong; by its arrival it is newer.
    pub doubtful: bool,
    /// How often the pump's clock was set: times before and after cannot be compared.
    pub clock: u32,
    /// Another patient was told of at this source since this one was.
    pub elsewhere: bool,
    /// The last start told at this source may be another's than what stops now.
    pub unresolved: bool,
    /// Another patient was told of at this source from later on: what starts now is over.
    pub overtaken: bool,
}

impl Event {
    /// One that says nothing but what happened when.
    pub fn bare(happened: Happened, at: When) -> Event {
        Event {
            happened,
            at,
            mode: None,
            programme: Programme::default(),
            filler: None,
            rate: None,
            run_volume: None,
            counter: None,
            to_be_infused: None,
            reason: None,
            doubtful: false,
            clock: 0,
            elsewhere: false,
            unresolved: false,
            overtaken: false,
        }
    }

    /// Its time is further ahead of its receipt than a right clock's.
    pub fn is_ahead(&self) -> bool {
        self.at.trust == Trust::Wrong
    }

    /// Tells it from another of the same instant, and not from the same told again: words may be spelled otherwise then.
    pub fn digest(&self) -> u32 {
        let amounts = (&self.rate, &self.run_volume, &self.counter, &self.to_be_infused);
        let said = (self.happened, self.mode, self.programme.identifiers(), amounts);
        crc32c::crc32c(&postcard::to_extend(&said, Vec::new()).unwrap_or_default())
    }
}
