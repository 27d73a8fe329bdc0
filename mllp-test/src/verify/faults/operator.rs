//! A person at work beside live traffic: a range replayed, dead letters sent again. What goes out by their hand must go in
//! its order, be counted and written down, and disturb nothing that is on its way.

use super::line::{Bystander, delivered_more, follow, misbehaved, treated, until};
use crate::id::MessageId;
use crate::ledger::{self, Event};
use crate::verify::broken::{Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Fault, Plan, Site};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F29",
    what: "replay of a range and of dead letters beside live traffic",
    quick: 5,
    release: 100,
    group: 5,
    plan: |_| Plan { traffic: vec![TrafficPlan { rate: 40.0, ..TrafficPlan::USUAL }], ..Plan::default() },
    cycle: |site, chance| Box::pin(operated(site, chance)),
    ..Fault::BASE
}];

async fn operated(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let bystander = Bystander::of(site, "gateways")?;
    let audited = site.engine.items("/api/audit").await?.len();
    replayed(site, &mut chance).await?;
    sent_again(site).await?;
    let entries = site.engine.items("/api/audit").await?;
    let told = |action: &str| entries[audited..].iter().any(|entry| entry["action"] == action);
    ensure(told("replay") && told("dead.retry"), Column::Audit, || {
        "what a person did is not in the audit log".to_owned()
    })?;
    bystander.unharmed(site, PATIENCE)
}

/// A range of what was delivered goes to `legacy` again: each message once, in order.
async fn replayed(site: &mut Site, chance: &mut Chance) -> Result<(), Broken> {
    delivered_more(site, "legacy", 30).await?;
    let messages = site.engine.items("/api/messages?channel=pumps&destination=legacy&state=delivered").await?;
    let taken = messages.iter().take(chance.within(10..60) as usize);
    let mut times: Vec<&str> = taken.filter_map(|message| message["received_at"].as_str()).collect();
    times.sort_unstable();
    let (Some(from), Some(to)) = (times.first(), times.last()) else {
        return Err(Broken::checker(format!("no delivered message is listed: {:?}", messages.first())));
    };
    let request = json!({ "channel": "pumps", "destination": "legacy", "from": from, "to": to });
    let before = arrivals(site)?.len();
    let repeats = site.receiver("legacy")?.account().repeats;
    let (status, body) = site.engine.post("/api/replay", Some(&request)).await?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let entries = answer["entries"].as_u64().unwrap_or_default();
    ensure(status == 200 && entries > 0, Column::Liveness, || {
        format!("a replay of a range is answered {status} {answer}")
    })?;
    site.injected(entries);
    let again = || Ok(site.receiver("legacy")?.account().repeats);
    until(repeats + entries, PATIENCE, "replayed messages come again", again).await?;
    // What comes again after that would be a repeat too many.
    delivered_more(site, "legacy", 20).await?;
    in_order(&arrivals(site)?, before, entries)
}

/// What came for a second time ascends for each sender, and is as many as were to come.
fn in_order(arrivals: &[MessageId], from: usize, wanted: u64) -> Result<(), Broken> {
    let mut known: HashSet<MessageId> = arrivals[..from].iter().copied().collect();
    let mut highest: HashMap<u32, u64> = HashMap::new();
    let (mut again, mut late) = (0, 0);
    for &id in &arrivals[from..] {
        if known.insert(id) {
            continue;
        }
        again += 1;
        let before = highest.insert(id.sender, id.seq);
        late += u64::from(before.is_some_and(|before| before >= id.seq));
    }
    ensure(late == 0, Column::Reordered, || format!("{late} of {again} replayed messages came out of order"))?;
    ensure(again == wanted, Column::Repeats, || format!("{again} messages came again, {wanted} were replayed"))
}

/// All that `legacy` took, in the order in which it came.
fn arrivals(site: &Site) -> Result<Vec<MessageId>, Broken> {
    let mut arrivals = Vec::new();
    ledger::read(&site.folder.join("legacy.ledger"), |entry| {
        if entry.event == Event::Received {
            arrivals.push(entry.id);
        }
    })?;
    Ok(arrivals)
}

/// Refused messages become dead letters; retried, each is delivered and is dead no more.
async fn sent_again(site: &mut Site) -> Result<(), Broken> {
    let before = treated(site, "legacy")?;
    follow(site, "legacy", &["first=3:AE"])?;
    misbehaved(site, "legacy", before, 3).await?;
    site.injected(3);
    delivered_more(site, "legacy", 5).await?;
    let letters = site.engine.items("/api/dead").await?;
    ensure(letters.len() == 3, Column::Lost, || format!("{} dead letters after three refusals", letters.len()))?;
    for letter in &letters {
        let path = format!("/api/dead/{}/retry", letter["entry"]);
        let (status, _) = site.engine.post(&path, None).await?;
        ensure((200..300).contains(&status), Column::Liveness, || format!("{path} is answered with {status}"))?;
    }
    delivered_more(site, "legacy", 20).await?;
    let left = site.engine.items("/api/dead").await?.len();
    ensure(left == 0, Column::Liveness, || format!("{left} dead letters are left after their retry"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn came(numbers: &[u64], from: usize, wanted: u64) -> Result<(), Column> {
        let ids: Vec<MessageId> = numbers.iter().map(|&seq| MessageId { run: 1, sender: 0, seq }).collect();
        in_order(&ids, from, wanted).map_err(|broken| broken.column)
    }

    #[test]
    fn a_replay_out_of_order_or_of_another_number_is_found() {
        assert_eq!(came(&[1, 2, 3, 4, 2, 5, 3, 6], 3, 2), Ok(()));
        assert_eq!(came(&[1, 2, 3, 4, 3, 5, 2, 6], 3, 2), Err(Column::Reordered));
        assert_eq!(came(&[1, 2, 3, 4, 2, 5, 6], 3, 2), Err(Column::Repeats));
        assert_eq!(came(&[1, 2, 3, 2, 3, 3], 3, 2), Err(Column::Reordered));
    }
}
