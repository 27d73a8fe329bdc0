//! Faults of the engine's process: killed, stopped, continued, told to stop or to read its configuration again.

use crate::verify::chance::Chance;
use crate::verify::{Broken, Fault, Site};
use tokio::time::sleep;

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F1",
    what: "SIGKILL under load",
    quick: 100,
    release: 3_000,
    group: 25,
    cycle: |site, chance| Box::pin(killed_under_load(site, chance)),
    ..Fault::BASE
}];

async fn killed_under_load(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    sleep(chance.millis(0..300)).await;
    site.kill_and_start().await?;
    site.under_load(10).await
}
