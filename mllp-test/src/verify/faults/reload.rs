//! The configuration read again under load: channels added, removed and renamed, lanes changed, and files that cannot be
//! read. What is in force keeps working, and a faulty file changes nothing but the answer to whoever asked.

use crate::account::Expect;
use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::site::ReceiverPlan;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Fault, Plan, Site, channels};
use std::fs;
use tokio::time::{Instant, sleep};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F26",
    what: "configuration read again under load: add, remove, rename, other lanes, faulty files",
    quick: 20,
    release: 500,
    plan: |_| plan(),
    cycle: |site, chance| Box::pin(read_again(site, chance)),
    ..Fault::BASE
}];

/// The usual line, and beside it one whose port two channels share by turns.
pub(super) fn plan() -> Plan {
    let mut plan = Plan::default();
    let takes_all = "[accept]\nwhere = { \"MSH-3.1\" = \"PUMP_GATEWAY\" }\n\n[[destination]]";
    plan.channels.push(("aside", channels::beside().replace("[[destination]]", takes_all)));
    plan.channels.push(("beside", channels::beside()));
    for receiver in &mut plan.receivers {
        receiver.expects = of_traffic(|traffic| traffic != BESIDE);
    }
    let expects = of_traffic(|traffic| traffic == BESIDE);
    // Two channels, so two lanes, and no order between them.
    plan.receivers.push(ReceiverPlan { lanes: 2, ordered: false, expects, ..ReceiverPlan::mllp("beside", 6662) });
    plan.traffic.push(TrafficPlan { name: "beside-gateways", port: 2576, rate: 50.0, ..TrafficPlan::USUAL });
    plan
}

/// The place of the gateways beside in the plan.
const BESIDE: u8 = 1;

/// What the gateways at such a place of the plan send: the place is the last byte of the run in their ids.
pub(super) fn of_traffic(wanted: fn(u8) -> bool) -> Expect {
    Expect::when(move |id, _| wanted(id.run as u8))
}

pub(super) async fn read_again(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    match chance.within(0..5) {
        0 => faulty(site, chance.one_of::<&str>(&FAULTY)).await?,
        // The other takes over its port, as after a rename.
        1 => without(site, &["aside"]).await?,
        2 => without(site, &["beside"]).await?,
        3 => without(site, &["aside", "beside"]).await?,
        _ => other_lanes(site, *chance.one_of(&[1, 2, 8])).await?,
    }
    // Begun sends of a line that ended may be sent again when it is back.
    site.injected(1);
    site.under_load(10).await
}

const FAULTY: [&str; 4] = [
    "[listener",
    "[listener]\naddress = \"nowhere\"\n",
    "[listener]\naddress = \"@2575\"\nmax_mesage = \"1MiB\"\n",
    "",
];

async fn faulty(site: &mut Site, text: &str) -> Result<(), Broken> {
    let channels = names(site).await?;
    site.write_channel("pumps", text)?;
    let (status, answer) = site.engine.post("/api/reload", None).await?;
    let told = String::from_utf8_lossy(&answer).into_owned();
    ensure(status == 422 && told.contains("pumps.toml"), Column::Stop, || {
        format!("a faulty channel file is answered with {status}: {told}")
    })?;
    ensure(names(site).await? == channels, Column::Stop, || "a faulty file changed the channels".to_owned())?;
    site.under_load(20).await?;
    whole(site).await
}

async fn without(site: &mut Site, gone: &[&str]) -> Result<(), Broken> {
    for name in gone {
        fs::remove_file(site.folder.join(format!("channels/{name}.toml")))?;
    }
    reloaded(site).await?;
    site.under_load(20).await?;
    whole(site).await
}

async fn other_lanes(site: &mut Site, lanes: u32) -> Result<(), Broken> {
    let text = channels::to_legacy_and_ehr().replace("lanes = 4", &format!("lanes = {lanes}"));
    site.write_channel("pumps", &text)?;
    reloaded(site).await?;
    site.under_load(20).await?;
    whole(site).await
}

/// As planned again.
async fn whole(site: &mut Site) -> Result<(), Broken> {
    site.configure()?;
    reloaded(site).await
}

async fn reloaded(site: &mut Site) -> Result<(), Broken> {
    let (status, answer) = site.engine.post("/api/reload", None).await?;
    let told = String::from_utf8_lossy(&answer).into_owned();
    ensure(status == 200, Column::Stop, || format!("a sound configuration is answered with {status}: {told}"))?;
    let files = fs::read_dir(site.folder.join("channels"))?.flatten();
    let wanted = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "toml")).count();
    let until = Instant::now() + PATIENCE;
    while names(site).await?.len() != wanted {
        ensure(Instant::now() < until, Column::Liveness, || format!("{wanted} channel files, and other channels"))?;
        sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The channels in force, without those that are gone and only have messages left.
async fn names(site: &Site) -> Result<Vec<String>, Broken> {
    let channels = site.engine.items("/api/channels").await?;
    let listening = channels.iter().filter(|channel| !channel["listener"].is_null());
    Ok(listening.filter_map(|channel| channel["name"].as_str().map(str::to_owned)).collect())
}
