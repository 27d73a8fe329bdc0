//! A FHIR server that refuses, fails, hangs, breaks off and talks nonsense. Only a refusal for what a message is may end
//! as a dead letter; after everything else it is sent again, marked, and the record holds each observation once.

use super::line::{Bystander, caught_up, delivered_more, follow, misbehaved, treated};
use crate::verify::broken::{Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Fault, Plan, Site, channels};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F30",
    what: "FHIR server refusing, failing, hanging after commit, breaking off, talking nonsense",
    quick: 30,
    release: 500,
    group: 10,
    plan: |_| fhir_plan(),
    cycle: |site, chance| Box::pin(bad_server(site, chance)),
    ..Fault::BASE
}];

/// A timeout shorter than the slow and late answers below.
fn fhir_plan() -> Plan {
    let channel = channels::to_legacy_and_ehr().replace("timeout = \"5s\"", "timeout = \"1s\"");
    Plan {
        channels: vec![("pumps", channel)],
        traffic: vec![TrafficPlan { connections: 4, rate: 40.0, ..TrafficPlan::USUAL }],
        ..Plan::default()
    }
}

/// What passes, or says nothing of the message.
const PASSING: [&str; 18] = [
    "429:1s",
    "500",
    "502",
    "503",
    "504",
    "401",
    "403",
    "408",
    "409",
    "307",
    "close",
    "drop-after-commit",
    "late:1500ms",
    "slow:1500ms",
    "partial",
    "not-fhir",
    "torn-body",
    "slow-body",
];

/// What refuses a message for what it is.
const LASTING: [&str; 3] = ["422", "400", "refuse-entry"];

/// What is taken, though the answer is not worth reading.
const TAKEN: [&str; 1] = ["huge-body"];

/// Every fault once, in an order left to chance, met by single requests a few apart, so that every lane may be in
/// trouble.
async fn bad_server(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let bystander = Bystander::of(site, "gateways")?;
    let (dead, before) = (dead_letters(site).await?, treated(site, "ehr")?);
    let rules = rules(&mut chance);
    follow(site, "ehr", &rules.iter().map(String::as_str).collect::<Vec<_>>())?;
    misbehaved(site, "ehr", before, rules.len() as u64).await?;
    site.injected(rules.len() as u64);
    delivered_more(site, "ehr", 20).await?;
    let refused = LASTING.len() as u64;
    caught_up_but(site, dead + refused).await?;
    caught_up(site, "legacy", "gateways", PATIENCE).await?;
    let new = dead_letters(site).await? - dead;
    ensure(new == refused, Column::Lost, || {
        format!("{new} dead letters, and {refused} messages were refused for good")
    })?;
    bystander.unharmed(site, PATIENCE)
}

fn rules(chance: &mut Chance) -> Vec<String> {
    let mut faults: Vec<&str> = [&PASSING[..], &LASTING[..], &TAKEN[..]].concat();
    let (mut rules, mut nth) = (Vec::new(), 0);
    while !faults.is_empty() {
        let fault = faults.swap_remove(chance.within(0..faults.len() as u64) as usize);
        nth += chance.within(1..4);
        rules.push(format!("nth={nth}:{fault}"));
    }
    rules
}

/// The server has everything acknowledged so far but so many dead letters.
async fn caught_up_but(site: &Site, dead: u64) -> Result<(), Broken> {
    let wanted = site.acked().saturating_sub(dead);
    super::line::until(wanted, PATIENCE, "the FHIR server has what was acknowledged", || {
        Ok(site.receiver("ehr")?.received())
    })
    .await
}

async fn dead_letters(site: &Site) -> Result<u64, Broken> {
    Ok(site.engine.items("/api/dead").await?.len() as u64)
}
