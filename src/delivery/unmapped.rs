//! The codes met that no table has: which, how often, when, and a message to look at. For people; nothing is decided by it.
//!
//! Bounded: at the bound a new code is still counted by the metric, and the list says how many codes it lacks. Kept over a
//! restart by whoever asks for [`UnmappedCodes::changed`] now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::translate::{Unmapped, UnmappedCode};

/// Codes listed at once; about a megabyte.
const CODES_MAX: usize = 4_096;

/// The codes met so far.
#[derive(Default)]
pub struct UnmappedCodes(Mutex<Codes>);

#[derive(Default)]
struct Codes {
    /// By channel, table, code and system.
    known: HashMap<[String; 4], UnmappedCode>,
    unlisted: u64,
    changed: bool,
}

/// What is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmappedList {
    /// By channel, table, and how often, the most frequent first.
    pub items: Vec<UnmappedCode>,
    /// Times a code was met that is not listed: of a field that may name a patient, or met when the list was full.
    pub unlisted: u64,
}

impl UnmappedCodes {
    /// Notes the codes of message `id`, looked up at `at`.
    pub(super) fn note(&self, channel: &Arc<str>, unmapped: &[Unmapped], id: u64, at: Timestamp) {
        let mut codes = self.codes();
        codes.changed = true;
        for found in unmapped {
            codes.note(channel, found, id, at);
        }
    }

    /// All of them, or those of one channel, one table.
    pub fn list(&self, channel: Option<&str>, table: Option<&str>) -> UnmappedList {
        let codes = self.codes();
        let wanted = |code: &&UnmappedCode| {
            channel.is_none_or(|channel| code.channel == channel) && table.is_none_or(|table| code.table == table)
        };
        let mut items: Vec<UnmappedCode> = codes.known.values().filter(wanted).cloned().collect();
        items.sort_by(|a, b| {
            let place = |code: &UnmappedCode| (code.channel.clone(), code.table.clone());
            (place(a), b.count, &a.code).cmp(&(place(b), a.count, &b.code))
        });
        UnmappedList { items, unlisted: codes.unlisted }
    }

    /// Takes up what was kept of an earlier run.
    pub fn restore(&self, kept: UnmappedList) {
        let mut codes = self.codes();
        codes.unlisted += kept.unlisted;
        let room = CODES_MAX.saturating_sub(codes.known.len());
        for code in kept.items.into_iter().take(room) {
            codes.known.insert(key(&code.channel, &code.table, &code.code, &code.system), code);
        }
    }

    /// All of them, if that is news since last asked.
    pub fn changed(&self) -> Option<UnmappedList> {
        let changed = std::mem::take(&mut self.codes().changed);
        changed.then(|| self.list(None, None))
    }

    fn codes(&self) -> MutexGuard<'_, Codes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Codes {
    fn note(&mut self, channel: &str, found: &Unmapped, id: u64, at: Timestamp) {
        let Unmapped { table, code, text, system, listed } = found;
        let key = key(channel, table, code, system);
        if let Some(known) = self.known.get_mut(&key).filter(|_| *listed) {
            known.count += 1;
            known.last_seen = known.last_seen.max(at);
            return;
        }
        if !listed || self.known.len() >= CODES_MAX {
            self.unlisted += 1;
            return;
        }
        let [channel, table, code, system] = key.clone();
        let text = text.clone();
        let first =
            UnmappedCode { channel, table, code, text, system, count: 1, first_seen: at, last_seen: at, example: id };
        self.known.insert(key, first);
    }
}

fn key(channel: &str, table: &str, code: &str, system: &str) -> [String; 4] {
    [channel, table, code, system].map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn code(code: &str) -> Unmapped {
        Unmapped::new("t.csv", code, "text", "L")
    }

    #[test]
    fn a_code_is_listed_once_with_its_count_and_times_and_its_first_message() {
        let (codes, channel) = (UnmappedCodes::default(), Arc::from("pumps"));
        codes.note(&channel, &[code("1"), code("2")], 7, at(10));
        codes.note(&channel, &[code("2")], 8, at(20));
        let list = codes.list(Some("pumps"), Some("t.csv"));
        let told: Vec<_> = list.items.iter().map(|code| (&*code.code, code.count, code.example)).collect();
        assert_eq!(told, [("2", 2, 7), ("1", 1, 7)]);
        assert_eq!((list.items[0].first_seen, list.items[0].last_seen), (at(10), at(20)));
        assert_eq!(codes.list(Some("vents"), None).items, []);
    }

    #[test]
    fn what_may_name_a_patient_is_counted_and_not_listed() {
        let (codes, channel) = (UnmappedCodes::default(), Arc::from("pumps"));
        codes.note(&channel, &[Unmapped { listed: false, ..code("Jane") }], 7, at(10));
        assert_eq!(codes.list(None, None), UnmappedList { items: vec![], unlisted: 1 });
    }

    #[test]
    fn a_flood_of_codes_is_bounded_and_those_known_go_on_counting() {
        let (codes, channel) = (UnmappedCodes::default(), Arc::from("pumps"));
        let flood: Vec<Unmapped> = (0..CODES_MAX + 5).map(|number| code(&number.to_string())).collect();
        codes.note(&channel, &flood, 7, at(10));
        codes.note(&channel, &[code("3")], 8, at(20));
        let list = codes.list(None, None);
        assert_eq!((list.items.len(), list.unlisted), (CODES_MAX, 5));
        assert_eq!((&*list.items[0].code, list.items[0].count), ("3", 2));
    }

    #[test]
    fn what_is_kept_goes_on_where_it_stopped() {
        let (codes, channel) = (UnmappedCodes::default(), Arc::from("pumps"));
        codes.note(&channel, &[code("1")], 7, at(10));
        let kept = codes.changed().unwrap();
        assert_eq!(codes.changed(), None);
        let later = UnmappedCodes::default();
        later.restore(kept);
        assert_eq!(later.changed(), None);
        later.note(&channel, &[code("1")], 9, at(30));
        let list = later.list(None, None);
        assert_eq!((list.items[0].count, list.items[0].example, list.items[0].first_seen), (2, 7, at(10)));
    }
}
