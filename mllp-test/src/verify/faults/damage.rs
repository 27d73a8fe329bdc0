//! F12: something in a stopped store is changed behind the engine's back. Nothing wrong may be delivered and nothing may
//! be lost in silence: the engine refuses to start or puts aside what it cannot prove, and what `store verify` and `store
//! rebuild` name must cover everything that is missing afterwards.

use crate::account::SenderAccount;
use crate::id::MessageId;
use crate::v2;
use crate::verify::broken::ensure;
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::site::Plan;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Column, Fault, Site, channels, settle};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const REPORTED: &str = "reported";

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F12",
    what: "a bit flipped, a file truncated, zeroed or deleted in a stopped store",
    quick: 20,
    release: 1_000,
    group: 1,
    patience: Duration::from_secs(600),
    plan: |_| plan(),
    cycle: |site, chance| Box::pin(damaged(site, chance)),
    settle: |site| Box::pin(settled(site)),
    ..Fault::BASE
}];

/// Segments so small that there are several of them.
fn plan() -> Plan {
    Plan {
        channels: vec![("pumps", super::power::small_messages(&channels::to_legacy_and_ehr()))],
        store: "segment_bytes = \"1MiB\"\n".to_owned(),
        traffic: vec![TrafficPlan { rate: 0.0, message_bytes: 16_000, ..TrafficPlan::USUAL }],
        ..Plan::default()
    }
}

/// What was reported as lost, and what was in the store before.
#[derive(Debug, Default)]
struct Reported {
    /// Every message by its id in the store.
    known: HashMap<u64, MessageId>,
    /// Open intervals of ids in the store.
    ranges: Vec<(u64, u64)>,
    /// All that was said.
    said: String,
    /// The store was given up in part, by the operator's decision.
    rebuilt: bool,
}

async fn damaged(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(chance.within(20..60)).await?;
    for receiver in site.receivers.values() {
        receiver.down().await;
    }
    site.under_load(chance.within(20..150)).await?;
    site.quiet().await;
    let mut reported = Reported { known: known(site).await?, ..Reported::default() };
    let killed = chance.within(0..2) == 0;
    if killed {
        site.kill().await?
    } else {
        site.quit().await?
    }
    let damage = Damage::choose(&site.store(), &mut chance)?;
    damage.make()?;
    site.injected(1);
    let named = |broken: Broken| Broken { what: format!("{damage}, killed {killed}: {}", broken.what), ..broken };
    verified(site, &damage, killed, &mut reported).await.map_err(named)?;
    for receiver in site.receivers.values() {
        receiver.up().await?;
    }
    started(site, &mut reported).await.map_err(named)?;
    site.props.insert(REPORTED, Box::new(reported));
    Ok(())
}

/// Each message of the store by its id there, as the API shows it.
async fn known(site: &Site) -> Result<HashMap<u64, MessageId>, Broken> {
    let mut known = HashMap::new();
    for item in site.engine.items("/api/messages").await? {
        let id = item["id"].as_u64().unwrap_or_default();
        let (_, message) = site.engine.get(&format!("/api/messages/{id}/raw")).await?;
        known
            .insert(id, v2::message_id(&message).ok_or_else(|| Broken::checker("a stored message has no id of ours"))?);
    }
    ensure(!known.is_empty(), Column::Checker, || "the API lists no message".to_owned())?;
    Ok(known)
}

/// Damage of the journal is found by reading it. After a kill its torn end may be taken for a batch that never was
/// durable, which is said too.
async fn verified(site: &Site, damage: &Damage, killed: bool, reported: &mut Reported) -> Result<(), Broken> {
    let output = site.engine.command(&["store", "verify", "--json"]).await?;
    let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    let torn = killed && said.lines().any(|line| line.contains("\"torn\": \""));
    ensure(!damage.is_in_journal() || !output.status.success() || torn, Column::Corrupt, || {
        format!("store verify does not see it: {}", said.trim())
    })?;
    reported.hear(&said);
    Ok(())
}

/// It starts, or says why not and does after a rebuild.
async fn started(site: &mut Site, reported: &mut Reported) -> Result<(), Broken> {
    site.spawn_engine()?;
    if site.engine.ready(PATIENCE).await.is_ok() {
        return Ok(());
    }
    ensure(site.engine.exited()?.is_some(), Column::Start, || "it neither starts nor gives up".to_owned())?;
    site.engine.forget_if_dead();
    let words = site.engine.last_words();
    ensure(words.contains("store rebuild"), Column::Start, || format!("its last words name no remedy: {words}"))?;
    let output = site.engine.command(&["store", "rebuild"]).await?;
    let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
    ensure(output.status.success(), Column::Start, || format!("store rebuild: {}", said.trim()))?;
    reported.hear(&said);
    reported.rebuilt = true;
    site.start_engine().await.map_err(|broken| Broken { what: format!("after a rebuild: {}", broken.what), ..broken })
}

/// As after any group, but what was reported as lost may be missing, and a rebuilt store may deliver again.
async fn settled(site: &mut Site) -> Result<(), Broken> {
    let reported = std::mem::take(site.prop::<Reported>(REPORTED)?);
    let drain = site.plan.drain;
    site.drained(drain).await?;
    let mut excused: HashMap<String, HashSet<MessageId>> = HashMap::new();
    for letter in site.engine.items("/api/dead").await? {
        let id = letter["id"].as_u64().and_then(|id| reported.known.get(&id));
        excused.entry(letter["destination"].as_str().unwrap_or_default().to_owned()).or_default().extend(id);
    }
    site.quit().await?;
    for plan in &site.plan.receivers {
        excused.entry(plan.name.to_owned()).or_default().extend(reported.covered());
    }
    let lost = site.tally.lost;
    settle::join(site, &excused);
    if reported.rebuilt {
        // What it told of as done may be in what was lost.
        site.broken.retain(|broken| broken.column != Column::Repeats);
    }
    if site.tally.lost > lost {
        site.broken.push(Broken::new(Column::Lost, format!("all that was reported: {}", reported.said.trim())));
    }
    let unnamed: Vec<String> =
        missing(site).difference(&reported.known.values().copied().collect()).map(MessageId::to_string).collect();
    ensure(unnamed.is_empty(), Column::Lost, || format!("acknowledged and not in the store's list: {unnamed:?}"))
}

/// Acknowledged messages that are not at the destination that gets them all.
fn missing(site: &Site) -> HashSet<MessageId> {
    let mut sender = SenderAccount::default();
    site.traffic.iter().for_each(|traffic| sender.absorb(traffic.book.account()));
    let Ok(receiver) = site.receiver("legacy") else { return HashSet::new() };
    let sink = receiver.account();
    sender.acked().map(|(id, _)| id).filter(|id| !sink.has(*id)).collect()
}

impl Reported {
    /// Takes each range of ids that is named: `between sequences A and B`, `after sequence A`, `before sequence B`.
    fn hear(&mut self, said: &str) {
        self.said.push_str(said);
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok();
        for (at, _) in said.match_indices("sequence") {
            let (before, rest) =
                (&said[..at], said[at..].trim_start_matches("sequences").trim_start_matches("sequence"));
            let first = number(rest.trim_start());
            let second = rest.split_once(" and ").and_then(|(_, rest)| number(rest));
            let range = match before.split_whitespace().next_back() {
                Some("between") => first.zip(second),
                Some("after") => first.map(|first| (first, u64::MAX)),
                Some("before") => first.map(|first| (0, first)),
                _ => None,
            };
            self.ranges.extend(range);
        }
    }

    fn covered(&self) -> impl Iterator<Item = MessageId> + '_ {
        let inside = |id: u64| self.ranges.iter().any(|(from, to)| (from + 1..*to).contains(&id));
        self.known.iter().filter(move |(id, _)| inside(**id)).map(|(_, message)| *message)
    }
}

/// What is done to which file.
#[derive(Debug)]
struct Damage {
    file: PathBuf,
    what: What,
}

#[derive(Debug)]
enum What {
    FlipBit(usize, u8),
    Truncate(usize),
    ZeroFrom(usize),
    Delete,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        match self.what {
            What::FlipBit(at, bit) => write!(f, "bit {bit} of byte {at} of {name} flipped"),
            What::Truncate(at) => write!(f, "{name} truncated at {at}"),
            What::ZeroFrom(at) => write!(f, "{name} zeroed from {at}"),
            What::Delete => write!(f, "{name} deleted"),
        }
    }
}

impl Damage {
    /// A random place in what is used of a random file; mostly of the journal, which is the truth.
    fn choose(store: &Path, chance: &mut Chance) -> Result<Damage, Broken> {
        let (mut journal, mut others) = (Vec::new(), Vec::new());
        for file in files(store)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.as_str() {
                // Audit and lock hold no messages; F35 is for the one.
                "LOCK" | "audit.ndjson" | "audit.head" => {}
                _ if name.ends_with(".journal") => journal.push(file),
                _ => others.push(file),
            }
        }
        ensure(!journal.is_empty(), Column::Checker, || "there is no journal".to_owned())?;
        let files = if others.is_empty() || chance.within(0..4) > 0 { &journal } else { &others };
        let file = chance.one_of(files).clone();
        let used = fs::read(&file)?.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let at = chance.within(0..used.max(1) as u64) as usize;
        let what = match chance.within(0..8) {
            _ if used == 0 => What::Delete,
            0..4 => What::FlipBit(at, chance.within(0..8) as u8),
            4 | 5 => What::ZeroFrom(at),
            6 => What::Truncate(at),
            _ => What::Delete,
        };
        Ok(Damage { file, what })
    }

    fn make(&self) -> Result<(), Broken> {
        let mut bytes = fs::read(&self.file)?;
        match self.what {
            What::FlipBit(at, bit) => bytes[at] ^= 1 << bit,
            What::ZeroFrom(at) => bytes[at..].fill(0),
            What::Truncate(at) => bytes.truncate(at),
            What::Delete => return Ok(fs::remove_file(&self.file)?),
        }
        Ok(fs::write(&self.file, bytes)?)
    }

    fn is_in_journal(&self) -> bool {
        self.file.extension().is_some_and(|extension| extension == "journal")
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Broken> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_report_covers_exactly_the_ids_it_names() {
        let id = |seq| MessageId { run: 1, sender: 0, seq };
        let known = (1..=20).map(|seq| (seq, id(seq))).collect();
        let covered = |said: &str| {
            let mut reported = Reported { known: HashMap::clone(&known), ..Reported::default() };
            reported.hear(said);
            let mut covered: Vec<u64> = reported.covered().map(|id| id.seq).collect();
            covered.sort_unstable();
            covered
        };
        assert_eq!(covered("lost: x (bytes 1 to 2, between sequences 4 and 7)\nlost: y (bytes 0 to 9)"), [5, 6]);
        assert_eq!(covered("damaged: x (bytes 1 to 2, after sequence 18)"), [19, 20]);
        assert_eq!(covered("damaged: x (bytes 1 to 2, before sequence 3)"), [1, 2]);
        assert_eq!(covered("kept: 7 messages"), [0; 0]);
    }
}
