//! Scripted faults: which message is treated how, and when a peer is not there at all. A rule is `WHEN:WHAT` or only
//! `WHAT` for every message, such as `nth=100:AE`, `id=5eed0001.0.7:AR`, `every=10:slow:50ms`, `none`.

use crate::lock;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

/// A rule or a duration that cannot be understood.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ScriptFault {
    /// The condition is none that is known.
    #[error("`{0}` is no condition; use nth=N, every=N, first=N, after=N or id=CONTROL-ID")]
    When(String),
    /// The action is none that this peer knows.
    #[error("`{what}` is no action here; use one of: {known}")]
    What {
        /// As written.
        what: String,
        /// What could be written.
        known: &'static str,
    },
    /// The duration has no number or no known unit.
    #[error("`{0}` is no duration; write for example 50ms, 2s, 1.5s, 5m or 1h")]
    Duration(String),
    /// The outage is not `FROM..TO` in seconds.
    #[error("`{0}` is no outage; write FROM..TO in seconds since the start, for example 20..30")]
    Outage(String),
}

/// Which messages a rule is for. Messages are counted from 1, repeats too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// All of them.
    Always,
    /// Only this one.
    Nth(u64),
    /// Each whose number is a multiple.
    Every(u64),
    /// The first so many.
    First(u64),
    /// All but the first so many.
    After(u64),
    /// Those with this control id.
    Id(String),
}

impl When {
    fn holds(&self, number: u64, control_id: &str) -> bool {
        match self {
            When::Always => true,
            When::Nth(n) => number == *n,
            When::Every(n) => number.is_multiple_of(*n),
            When::First(n) => number <= *n,
            When::After(n) => number > *n,
            When::Id(id) => control_id == id,
        }
    }
}

impl FromStr for When {
    type Err = ScriptFault;

    fn from_str(text: &str) -> Result<When, ScriptFault> {
        let fault = || ScriptFault::When(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(fault)?;
        let number = || value.parse().ok().filter(|&n: &u64| n > 0).ok_or_else(fault);
        match name {
            "nth" => number().map(When::Nth),
            "every" => number().map(When::Every),
            "first" => number().map(When::First),
            "after" => number().map(When::After),
            "id" => Ok(When::Id(value.to_owned())),
            _ => Err(fault()),
        }
    }
}

/// Rules for one kind of peer, with the actions that peer knows.
#[derive(Debug, Clone)]
pub struct Script<A>(Vec<(When, A)>);

impl<A> Default for Script<A> {
    fn default() -> Self {
        Script(Vec::new())
    }
}

impl<A: FromStr<Err = ScriptFault>> Script<A> {
    /// Reads rules in the order in which they are to be applied.
    pub fn parse<'t>(rules: impl IntoIterator<Item = &'t str>) -> Result<Script<A>, ScriptFault> {
        rules.into_iter().map(rule).collect::<Result<_, _>>().map(Script)
    }
}

impl<A> Script<A> {
    /// The actions for message `number`, in the order of the rules.
    pub fn actions(&self, number: u64, control_id: &str) -> impl Iterator<Item = &A> {
        self.0.iter().filter(move |(when, _)| when.holds(number, control_id)).map(|(_, action)| action)
    }
}

/// The script in force at a peer, which may change while it runs.
#[derive(Debug)]
pub(crate) struct Followed<A>(Mutex<State<A>>);

#[derive(Debug)]
struct State<A> {
    script: Script<A>,
    /// Messages met under this script.
    number: u64,
    /// Messages treated by a rule, over all scripts.
    treated: u64,
}

impl<A: Clone> Followed<A> {
    pub(crate) fn new(script: Script<A>) -> Followed<A> {
        Followed(Mutex::new(State { script, number: 0, treated: 0 }))
    }

    /// From now on this script, whose messages are counted from 1.
    pub(crate) fn change(&self, script: Script<A>) {
        let mut state = lock(&self.0);
        (state.script, state.number) = (script, 0);
    }

    /// The actions for the message that came just now.
    pub(crate) fn next(&self, control_id: &str) -> Vec<A> {
        let mut state = lock(&self.0);
        state.number += 1;
        let actions: Vec<A> = state.script.actions(state.number, control_id).cloned().collect();
        state.treated += u64::from(!actions.is_empty());
        actions
    }

    /// Messages treated by a rule so far.
    pub(crate) fn treated(&self) -> u64 {
        lock(&self.0).treated
    }
}

fn rule<A: FromStr<Err = ScriptFault>>(text: &str) -> Result<(When, A), ScriptFault> {
    match text.split_once(':') {
        Some((when, what)) if when.contains('=') => Ok((when.parse()?, what.parse()?)),
        _ => Ok((When::Always, text.parse()?)),
    }
}

/// A duration such as `50ms`, `1.5s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, ScriptFault> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(ScriptFault::Duration(text.to_owned())),
    };
    let number: f64 = text[..digits].parse().map_err(|_| ScriptFault::Duration(text.to_owned()))?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| ScriptFault::Duration(text.to_owned()))
}

/// A time without the peer, `FROM..TO` in seconds since its start.
pub fn outage(text: &str) -> Result<Range<Duration>, ScriptFault> {
    let fault = || ScriptFault::Outage(text.to_owned());
    let seconds = |text: &str| text.parse().ok().and_then(|n| Duration::try_from_secs_f64(n).ok()).ok_or_else(fault);
    let (from, to) = text.split_once("..").ok_or_else(fault)?;
    let outage = seconds(from)?..seconds(to)?;
    if outage.is_empty() { Err(fault()) } else { Ok(outage) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Word(String);

    impl FromStr for Word {
        type Err = ScriptFault;
        fn from_str(text: &str) -> Result<Word, ScriptFault> {
            Ok(Word(text.to_owned()))
        }
    }

    fn actions(rules: &[&str], number: u64, control_id: &str) -> Vec<String> {
        let script = Script::<Word>::parse(rules.iter().copied()).unwrap();
        script.actions(number, control_id).map(|word| word.0.clone()).collect()
    }

    #[test]
    fn each_condition_holds_for_its_messages_and_no_others() {
        let numbers = |rule: &str| (1..=6).filter(|&n| !actions(&[rule], n, "a.b:c").is_empty()).collect::<Vec<_>>();
        assert_eq!(numbers("x"), [1, 2, 3, 4, 5, 6]);
        assert_eq!(numbers("nth=3:x"), [3]);
        assert_eq!(numbers("every=3:x"), [3, 6]);
        assert_eq!(numbers("first=2:x"), [1, 2]);
        assert_eq!(numbers("after=4:x"), [5, 6]);
        assert_eq!(numbers("id=other:x"), [] as [u64; 0]);
        assert_eq!(actions(&["id=5eed.1.2:slow:2s", "late:1s"], 1, "5eed.1.2"), ["slow:2s", "late:1s"]);
    }

    #[test]
    fn a_changed_script_counts_its_own_messages_from_one() {
        let followed = Followed::new(Script::<String>(vec![(When::Nth(2), "a".to_owned())]));
        assert!(followed.next("x").is_empty());
        assert_eq!(followed.next("x"), ["a"]);
        followed.change(Script(vec![(When::First(1), "b".to_owned())]));
        assert_eq!(followed.next("x"), ["b"]);
        assert!(followed.next("x").is_empty());
        assert_eq!(followed.treated(), 2);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for rule in ["nth=0:x", "nth=x:x", "often=3:x"] {
            assert!(matches!(Script::<Word>::parse([rule]), Err(ScriptFault::When(_))), "{rule}");
        }
        for text in ["", "5", "s", "1..2s", "-1s", "5 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["5", "5..5", "7..5", "a..b", "-1..5"] {
            assert!(outage(text).is_err(), "{text}");
        }
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(outage("20..30"), Ok(Duration::from_secs(20)..Duration::from_secs(30)));
    }
}
