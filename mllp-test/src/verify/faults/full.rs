//! F11: the disk runs full under load and stays full over a restart. New messages may be refused; nothing acknowledged
//! may be lost, what waits must still be delivered, the API must answer, and once there is room the engine must accept
//! again by itself.

use super::power::{ensure_root, small_messages};
use crate::verify::broken::ensure;
use crate::verify::chance::Chance;
use crate::verify::power::Mounted;
use crate::verify::power::mount::{abandon, command};
use crate::verify::site::Plan;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Column, Fault, Site, Tools, channels};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const MOUNT: &str = "mount";
const DISK_BYTES: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// What must answer while the disk is full.
const READS: &[&str] =
    &["/health/live", "/metrics", "/api/channels", "/api/store", "/api/messages?limit=10", "/api/dead"];

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F11",
    what: "disk full under load and over a restart, then freed",
    quick: 3,
    release: 50,
    group: 3,
    patience: Duration::from_secs(600),
    needs,
    plan: |_| plan(),
    prepare: |site| Box::pin(async { prepare(site) }),
    cycle: |site, chance| Box::pin(full(site, chance)),
    ..Fault::BASE
}];

fn needs(tools: &Tools) -> Result<(), String> {
    tools.programs(&["mkfs.ext4", "losetup", "mount", "umount"])?;
    ensure_root(tools)
}

fn plan() -> Plan {
    Plan {
        // A disk at its end is slow, and a destination's book may be on the one below: patience, or there are repeats.
        channels: vec![("pumps", small_messages(&channels::to_legacy_and_ehr()).replace("5s", "60s"))],
        store: "segment_bytes = \"2MiB\"\n".to_owned(),
        store_path: "disk/mount/store".into(),
        traffic: vec![TrafficPlan { rate: 100.0, message_bytes: 8_000, ..TrafficPlan::USUAL }],
        refusals: true,
        ..Plan::default()
    }
}

fn prepare(site: &mut Site) -> Result<(), Broken> {
    let folder = site.folder.join("disk");
    abandon(&folder)?;
    fs::create_dir_all(&folder)?;
    let image = folder.join("disk.img");
    File::create(&image)?.set_len(DISK_BYTES)?;
    command("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()])?;
    site.props.insert(MOUNT, Box::new(Mounted::new(&image, &folder.join("mount"))?));
    Ok(())
}

async fn full(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    // With a destination away the store itself holds what fills the disk; otherwise all of it can be delivered.
    let waits = chance.within(0..2) == 0;
    if waits {
        site.receiver("legacy")?.down().await;
    }
    held(site).await?;
    let foreign = fill(site)?;
    // What is delivered gives way to new messages: only what waits fills a store for certain.
    if waits {
        refused(site).await?;
    }
    read(site).await?;
    if !waits {
        delivered(site).await?;
    }
    match chance.within(0..2) {
        0 => site.quit().await?,
        _ => site.kill().await?,
    }
    start_on_a_full_disk(site).await?;
    read(site).await?;
    fs::remove_file(foreign)?;
    if waits {
        site.receiver("legacy")?.up().await?;
    }
    site.injected(1);
    site.engine.ready(PATIENCE).await?;
    site.under_load(20).await
}

/// Waits until the store holds its reserve, which it makes within seconds where there is room for it.
async fn held(site: &Site) -> Result<(), Broken> {
    let until = Instant::now() + PATIENCE;
    while !site.folder.join("disk/mount/store/reserve").exists() {
        ensure(Instant::now() < until, Column::Bounded, || {
            "the disk has room, and the store holds no reserve of it".to_owned()
        })?;
        sleep(POLL).await;
    }
    Ok(())
}

/// Somebody else's file takes all that is left.
fn fill(site: &Site) -> Result<PathBuf, Broken> {
    let path = site.folder.join("disk/mount/foreign");
    let mut file = File::create(&path)?;
    for piece in [1 << 20, 4 << 10] {
        loop {
            match file.write_all(&vec![0xff; piece]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    // Synced once: a disk busy for seconds is another fault.
    match file.sync_data() {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
        _ => Ok(path),
    }
}

/// Waits until the engine says that it is full, by its readiness or to a gateway.
async fn refused(site: &Site) -> Result<(), Broken> {
    let naked = || site.traffic.iter().map(|traffic| traffic.book.with(|account| account.naked)).sum::<u64>();
    let (before, until) = (naked(), Instant::now() + PATIENCE);
    while site.engine.is_ready().await && naked() == before {
        ensure(Instant::now() < until, Column::Checker, || "the disk is full and the engine never was".to_owned())?;
        sleep(POLL).await;
    }
    Ok(())
}

async fn read(site: &Site) -> Result<(), Broken> {
    for path in READS {
        let (status, told) = site.engine.get(path).await?;
        ensure(status == 200, Column::Isolation, || {
            format!("on a full disk {path} is answered with {status}: {}", String::from_utf8_lossy(&told))
        })?;
    }
    Ok(())
}

/// What waits is delivered although nothing new is taken. Gateways go on meanwhile, and what little is still taken from
/// them need not be through.
async fn delivered(site: &Site) -> Result<(), Broken> {
    let acked: u64 = site.acked();
    let until = Instant::now() + PATIENCE;
    for (name, receiver) in &site.receivers {
        while receiver.received() < acked {
            ensure(Instant::now() < until, Column::Liveness, || {
                format!("on a full disk {name} has {} of {acked} messages", receiver.received())
            })?;
            sleep(POLL).await;
        }
    }
    Ok(())
}

/// It need not be ready, but it must be there.
async fn start_on_a_full_disk(site: &mut Site) -> Result<(), Broken> {
    site.spawn_engine()?;
    let until = Instant::now() + PATIENCE;
    while !site.engine.get("/health/live").await.is_ok_and(|(status, _)| status == 200) {
        let ended = site.engine.exited()?;
        ensure(ended.is_none() && Instant::now() < until, Column::Start, || {
            format!("it does not start on a full disk: {}", site.engine.last_words())
        })?;
        sleep(POLL).await;
    }
    Ok(())
}
