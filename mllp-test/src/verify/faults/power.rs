//! Power cuts under load, on a real ext4 over a device that logs its writes. From each cut several media are made: what
//! a device without a volatile cache holds, what one holds that loses all since the last FLUSH, and what is left where
//! such a cache was written back in part. Each must give a store that holds everything acknowledged before the cut.
//!
//! The site goes on with one medium, its gateways repeating what was not answered. For every other medium a site of its
//! own is opened beside, with copies of the receivers' ledgers: what one medium delivers must not hide what another lost.

use crate::account::{Account, Route, SenderAccount, SinkAccount, read_sink};
use crate::verify::broken::ensure;
use crate::verify::chance::Chance;
use crate::verify::power::{Disk, Image, Mounted};
use crate::verify::site::{Plan, ReceiverPlan};
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Column, Fault, Site, Tools, channels};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DISK: &str = "disk";
const DISK_BYTES: u64 = 96 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F4",
        what: "power cut, device without a volatile cache",
        quick: 10,
        release: 300,
        cycle: |site, chance| Box::pin(cut(site, chance, Image::Written, &[Image::Flushed])),
        ..POWER
    },
    Fault {
        id: "F5",
        what: "power cut, everything since the last FLUSH lost",
        quick: 10,
        release: 300,
        cycle: |site, chance| Box::pin(cut(site, chance, Image::Flushed, &[Image::Written])),
        ..POWER
    },
    Fault {
        id: "F6",
        what: "power cut, cache written back in part: five media from each cut",
        quick: 10,
        release: 1_000,
        cycle: |site, chance| Box::pin(cut(site, chance, Image::Torn, &[Image::Torn; 4])),
        ..POWER
    },
];

const POWER: Fault = Fault {
    group: 25,
    patience: Duration::from_secs(600),
    needs,
    plan: |_| plan(),
    prepare: |site| Box::pin(async { prepare(site) }),
    ..Fault::BASE
};

fn needs(tools: &Tools) -> Result<(), String> {
    tools.programs(&["qemu-storage-daemon", "mkfs.ext4", "losetup", "mount", "umount", "cp"])?;
    ensure_root(tools)?;
    let there = |device: &str| Path::new(device).exists();
    if there("/dev/fuse") && there("/dev/loop-control") { Ok(()) } else { Err("no FUSE or no loop devices".to_owned()) }
}

/// Mounting and limiting need it.
pub(super) fn ensure_root(tools: &Tools) -> Result<(), String> {
    if tools.is_root() { Ok(()) } else { Err("needs root, to mount".to_owned()) }
}

/// Small segments and a short retention, so that the cuts meet segments begun, given up and used again.
fn plan() -> Plan {
    Plan {
        channels: vec![("pumps", small_messages(&channels::to_legacy()))],
        receivers: vec![ReceiverPlan::mllp("legacy", 6661)],
        store: "retain = \"1s\"\nsegment_bytes = \"1MiB\"\nmax_bytes = \"48MiB\"\n".to_owned(),
        store_path: "disk/mount/store".into(),
        traffic: vec![TrafficPlan { rate: 60.0, message_bytes: 4_000, ..TrafficPlan::USUAL }],
        // A device that is gone fails what was being written, and the sender is told.
        refusals: true,
        ..Plan::default()
    }
}

/// The channel with a largest message that fits small segments.
pub(super) fn small_messages(channel: &str) -> String {
    channel.replace("[listener]\n", "[listener]\nmax_message = \"512KiB\"\n")
}

fn prepare(site: &mut Site) -> Result<(), Broken> {
    let mut disk = Disk::format(&site.folder.join("disk"), DISK_BYTES)?;
    disk.power_on()?;
    site.props.insert(DISK, Box::new(disk));
    Ok(())
}

async fn cut(site: &mut Site, mut chance: Chance, main: Image, sides: &[Image]) -> Result<(), Broken> {
    site.under_load(10).await?;
    sleep(chance.millis(0..600)).await;
    site.note_marks().await;
    site.prop::<Disk>(DISK)?.cut()?;
    site.engine.kill().await?;
    site.injected(1);
    let books = Books::at_the_cut(site).await?;
    let disk = site.prop::<Disk>(DISK)?;
    disk.clear()?;
    let file = |name: String| books.folder.join(name);
    let main_image = file("main.img".to_owned());
    disk.image(main, &main_image, &mut chance)?;
    for (number, image) in sides.iter().enumerate() {
        disk.image(*image, &file(format!("side-{number}.img")), &mut chance)?;
    }
    disk.go_on_with(&main_image)?;
    for (number, image) in sides.iter().enumerate() {
        let (medium, name) = (file(format!("side-{number}.img")), format!("{image:?}-{number}"));
        beside(site, &books, &medium, &name).await?;
    }
    go_on(site, &books, main).await
}

/// The power comes back to the medium the site goes on with.
async fn go_on(site: &mut Site, books: &Books, image: Image) -> Result<(), Broken> {
    site.prop::<Disk>(DISK)?.power_on()?;
    verified(site, image).await?;
    site.start_engine().await?;
    let until = Instant::now() + PATIENCE;
    while let Some(missing) = missing(books, site) {
        ensure(Instant::now() < until, Column::Lost, || {
            format!("medium {image:?}: acknowledged before the cut and not delivered after {PATIENCE:?}: {missing}")
        })?;
        sleep(Duration::from_millis(20)).await;
    }
    site.under_load(10).await
}

/// What was acknowledged before the cut and is not at its destinations yet.
fn missing(books: &Books, site: &Site) -> Option<String> {
    let sinks: Vec<SinkAccount> = site.plan.receivers.iter().map(|plan| site.receivers[plan.name].account()).collect();
    let account = joined(&books.sender, &site.plan, &sinks);
    (account.lost() > 0).then(|| account.to_string())
}

/// What was written outside the disk until the cut.
struct Books {
    folder: std::path::PathBuf,
    sender: SenderAccount,
}

impl Books {
    /// The receivers first take what is on the wire; then their ledgers are copied, and they listen again.
    async fn at_the_cut(site: &Site) -> Result<Books, Broken> {
        let folder = site.folder.join("cut");
        fs::create_dir_all(&folder)?;
        let mut sender = SenderAccount::default();
        for receiver in site.receivers.values() {
            receiver.down().await;
        }
        for traffic in &site.traffic {
            sender.absorb(traffic.book.account());
        }
        for plan in &site.plan.receivers {
            let ledger = format!("{}.ledger", plan.name);
            fs::copy(site.folder.join(&ledger), folder.join(&ledger))?;
        }
        for receiver in site.receivers.values() {
            receiver.up().await?;
        }
        Ok(Books { folder, sender })
    }
}

/// Starts an engine on another medium of the same cut, lets it drain and joins the books as they then are.
async fn beside(site: &mut Site, books: &Books, medium: &Path, name: &str) -> Result<(), Broken> {
    let folder = site.folder.join("side");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    for plan in &site.plan.receivers {
        let ledger = format!("{}.ledger", plan.name);
        fs::copy(books.folder.join(&ledger), folder.join(&ledger))?;
    }
    let plan = Plan { traffic: Vec::new(), store_path: "mount/store".into(), ..site.plan.clone() };
    let mounted = Mounted::new(medium, &folder.join("mount"))?;
    let mut side = Site::open(&folder, plan, &site.tools, 0).await?;
    let drained = drain(&mut side).await;
    drop(side.engine);
    for receiver in side.receivers.values() {
        receiver.down().await;
    }
    let judged = judge(site, books, &folder, name);
    mounted.detach()?;
    let named = |broken: Broken| Broken { what: format!("medium {name}: {}", broken.what), ..broken };
    drained.map_err(named)?;
    judged.map_err(named)?;
    Ok(fs::remove_file(medium)?)
}

async fn drain(side: &mut Site) -> Result<(), Broken> {
    verified(side, Image::Written).await?;
    side.start_engine().await?;
    side.drained(PATIENCE).await?;
    side.engine.stop().await.map(drop)
}

/// The journal proves itself as the cut left it: a torn end is no damage.
async fn verified(site: &Site, image: Image) -> Result<(), Broken> {
    let output = site.engine.command(&["store", "verify"]).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    ensure(output.status.success(), Column::Audit, || format!("medium {image:?}: store verify: {said}"))
}

/// The books of the other medium: everything acknowledged before the cut is there, in order, unchanged, nothing else, and
/// repeated at most once for each lane.
fn judge(site: &mut Site, books: &Books, folder: &Path, name: &str) -> Result<(), Broken> {
    let (mut before, mut sinks) = (Vec::new(), Vec::new());
    for plan in &site.plan.receivers {
        let ledger = format!("{}.ledger", plan.name);
        before.push(read_sink(&books.folder.join(&ledger), plan.verbatim)?);
        sinks.push(read_sink(&folder.join(&ledger), plan.verbatim)?);
    }
    let account = joined(&books.sender, &site.plan, &sinks);
    for destination in &account.destinations {
        site.tally.lost += destination.lost.count;
        site.tally.reordered += destination.reordered.count;
        site.tally.phantom += destination.phantom.count + destination.misrouted.count + destination.unnamed;
        site.tally.corrupt += destination.changed.count;
    }
    let column = if account.lost() > 0 { Column::Lost } else { Column::Corrupt };
    ensure(account.balances(), column, || format!("does not hold what was promised: {account}"))?;
    for ((plan, before), after) in site.plan.receivers.iter().zip(&before).zip(&sinks) {
        let repeats = after.repeats - before.repeats;
        ensure(repeats <= plan.lanes, Column::Repeats, || format!("{name}: {}: {repeats} repeats", plan.name))?;
    }
    Ok(())
}

fn joined(sender: &SenderAccount, plan: &Plan, sinks: &[SinkAccount]) -> Account {
    let routes = plan.receivers.iter().zip(sinks);
    let routes = routes.map(|(plan, sink)| Route { expects: plan.expects.clone(), ..Route::all(plan.name, sink) });
    Account::join(sender, routes)
}
