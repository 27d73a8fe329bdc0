//! How an alert stands, told phase by phase (IHE PCD TF-2 B.8.5): a state machine without FHIR.
//!
//! Messages count in the order of the times they tell. One that is older than what was told last says nothing any more; an
//! alert that is over stays so, and what begins under its number afterwards is another.

use serde::{Deserialize, Serialize};

use super::{super::infusion::When, ends};
use crate::{
    fhir::Period,
    pcd::{AlarmState, Alert, Phase},
};

/// What a message tells of an alert.
pub(super) struct Told {
    at: When,
    /// When it was received, where the time is ahead of that.
    ahead: Option<i64>,
    /// It begins, and the message says when.
    starts: bool,
    /// Its condition is there.
    is_active: bool,
    ends: bool,
    /// No end will be told.
    once: bool,
    /// It has no duration.
    moment: bool,
    /// The condition may be gone; its signal stays until someone resets it.
    latched: bool,
}

/// What is remembered of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// When it was first told: part of its name.
    pub first: i64,
    last: When,
    /// `None` where the first message was lost.
    pub start: Option<When>,
    pub end: Option<When>,
    /// Condition and signal are gone.
    pub over: bool,
    /// No end will be told.
    pub once: bool,
    moment: bool,
    /// When the last was received, where its time was ahead of that.
    ahead: Option<i64>,
}

impl Told {
    pub fn of(alert: &Alert, at: When, ahead: Option<i64>) -> Told {
        let phase = alert.phase.as_ref();
        let is = |wanted: &Phase| phase == Some(wanted);
        let gone = matches!(alert.state, Some(AlarmState::Inactive | AlarmState::Off));
        let moment = is(&Phase::Tpoint);
        Told {
            at,
            ahead,
            starts: is(&Phase::Start) || is(&Phase::StartOnly) || moment,
            is_active: phase.is_some_and(Phase::is_initial) || alert.state == Some(AlarmState::Active),
            ends: phase.is_some_and(ends) || gone && !phase.is_some_and(Phase::is_initial),
            once: is(&Phase::StartOnly),
            moment,
            latched: alert.state == Some(AlarmState::Latched),
        }
    }
}

/// How the alert stands now; `None` where the message says nothing any more.
pub(super) fn tell(before: Option<Standing>, told: &Told) -> Option<Standing> {
    let Some(before) = before else { return Some(Standing::first(told)) };
    let set_back = before.shows_clock_set_back(told);
    if told.at.at < before.last.at && !set_back {
        return None;
    }
    let later = told.at.at > before.last.at || set_back;
    if before.over && told.is_active && !told.ends {
        // What is told again of the moment it ended is late; what is told of a later one is another alert.
        return later.then(|| Standing::first(told));
    }
    Some(before.goes_on(told))
}

impl Standing {
    fn first(told: &Told) -> Standing {
        let at = &told.at;
        Standing {
            first: at.at,
            last: at.clone(),
            start: told.starts.then(|| at.clone()),
            end: told.ends.then(|| at.clone()),
            over: told.ends && !told.latched || told.moment,
            once: told.once,
            moment: told.moment,
            ahead: told.ahead,
        }
    }

    fn goes_on(mut self, told: &Told) -> Standing {
        self.last = told.at.clone();
        self.ahead = told.ahead;
        // By a clock that was wrong, as the one now shows.
        self.start.take_if(|start| start.at > told.at.at);
        if told.ends {
            self.end.get_or_insert_with(|| told.at.clone());
            self.over |= !told.latched;
        }
        self
    }

    /// What comes with a time before the last one's may be told of a right clock.
    pub fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// What was told last had a time ahead of its receipt, and this has one between the two: it happened later.
    fn shows_clock_set_back(&self, told: &Told) -> bool {
        let later = self.ahead.is_some_and(|received| told.at.at >= received);
        later && told.ahead.is_none() && told.at.at < self.last.at
    }

    /// The last message is of the moment it is named by.
    pub fn is_first(&self) -> bool {
        self.first == self.last.at
    }

    /// The last message told of this moment.
    pub fn told_last(&self, text: &str) -> bool {
        self.last.text == text
    }

    /// effectiveDateTime or effectivePeriod: of an alert whose start was lost only when it was seen, or until when.
    pub fn effective(&self) -> (Option<String>, Option<Period>) {
        let text = |when: &Option<When>| when.as_ref().map(|when| when.text.clone());
        match (&self.start, &self.end) {
            (Some(start), None) if self.moment => (Some(start.text.clone()), None),
            (None, None) => (Some(self.last.text.clone()), None),
            _ => (None, Some(Period { start: text(&self.start), end: text(&self.end) })),
        }
    }
}
