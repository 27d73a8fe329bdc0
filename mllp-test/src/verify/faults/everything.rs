//! Everything at once: gateways of every habit, and for minutes one fault after the other as the seed says, so that
//! faults meet the traces of those before them.

use super::process::{killed_while_recovering, paused};
use super::reload;
use crate::verify::broken::Broken;
use crate::verify::chance::Chance;
use crate::verify::site::ReceiverPlan;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Fault, Plan, Site, channels};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F31",
    what: "everything at once by seed (two minutes; before a release a thousand seconds)",
    quick: 3,
    release: 200,
    group: 1,
    patience: Duration::from_secs(3_600),
    plan: |_| plan(),
    cycle: |site, chance| Box::pin(everything(site, chance)),
    ..Fault::BASE
}];

fn plan() -> Plan {
    let mut plan = reload::plan();
    plan.channels.push(("unasked", channels::beside().replace("beside", "unasked").replace("@2576", "@2577")));
    for receiver in &mut plan.receivers[..2] {
        receiver.expects = reload::of_traffic(|traffic| !matches!(traffic, 1 | 4));
    }
    let expects = reload::of_traffic(|traffic| traffic == 4);
    // The gateway asks for no answer, and the engine must ask its receiver for one, in MSH-15.
    plan.receivers.push(ReceiverPlan { verbatim: false, expects, ..ReceiverPlan::mllp("unasked", 6663) });
    // Less than a lane settles on a slow disk: what piled up would be seen as trouble at the end.
    let usual = TrafficPlan { rate: 10.0, ..TrafficPlan::USUAL };
    plan.traffic.iter_mut().for_each(|gateways| gateways.rate = 15.0);
    plan.traffic.extend([
        TrafficPlan { name: "lockstep", mode: Mode::Lockstep, ..usual.clone() },
        TrafficPlan { name: "impatient", mode: Mode::Impatient(4, Duration::from_millis(700)), ..usual.clone() },
        TrafficPlan { name: "unanswered", port: 2577, mode: Mode::Unanswered, ..usual },
    ]);
    plan
}

async fn everything(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let time = Duration::from_secs(if site.tools.release { 1_000 } else { 120 });
    let begun = Instant::now();
    while begun.elapsed() < time {
        let seed = Chance::new(chance.draw());
        match chance.within(0..6) {
            0 => site.kill_and_start().await?,
            1 => killed_while_recovering(site, seed).await?,
            2 => paused(site, seed).await?,
            3 => reload::read_again(site, seed).await?,
            4 => outage(site, seed).await?,
            _ => {
                site.quit().await?;
                site.start_engine().await?;
            }
        }
        sleep(chance.millis(0..1_000)).await;
    }
    site.under_load(20).await
}

/// One destination or all are away for a while.
async fn outage(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let all: Vec<&'static str> = site.plan.receivers.iter().map(|receiver| receiver.name).collect();
    let gone = if chance.within(0..4) == 0 { all } else { vec![*chance.one_of(&all)] };
    for name in &gone {
        site.receiver(name)?.down().await;
    }
    site.injected(1);
    sleep(chance.millis(100..3_000)).await;
    for name in &gone {
        site.receiver(name)?.up().await?;
    }
    Ok(())
}
