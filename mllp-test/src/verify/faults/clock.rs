//! The wall clock jumps while the engine runs. Order, retries and retention must not be its children: nothing is lost,
//! reordered or thrown away.

use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::fault::Step;
use crate::verify::{Fault, Site, Tools};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F21",
    what: "wall clock jumps: an hour, two days, a year back",
    quick: 6,
    release: 50,
    group: 6,
    needs: |_: &Tools| library().map(|_| ()),
    prepare: |site| -> Step<'_> { Box::pin(async { fake_clock(site) }) },
    cycle: |site, chance| Box::pin(jumped(site, chance)),
    ..Fault::BASE
}];

/// The offset from real time, read by the library at each look at the clock.
const OFFSET: &str = "clock-offset";
const JUMPS: [&str; 6] = ["+3600", "-3600", "+172800", "-31536000", "+2592000", "+0"];

fn library() -> Result<PathBuf, String> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let files = folders.iter().map(|folder| Path::new(folder).join("faketime/libfaketime.so.1"));
    files.into_iter().find(|file| file.is_file()).ok_or_else(|| "not installed: libfaketime".to_owned())
}

fn fake_clock(site: &mut Site) -> Result<(), Broken> {
    set_clock(site, "+0")?;
    let variables = [
        ("LD_PRELOAD", library().map_err(Broken::checker)?.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", site.folder.join(OFFSET).display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // Timers run by the monotonic clock, as they do when an administrator sets the time.
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    site.engine.envs.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    Ok(())
}

fn set_clock(site: &Site, offset: &str) -> Result<(), Broken> {
    let beside = site.folder.join("clock-offset.new");
    fs::write(&beside, offset)?;
    Ok(fs::rename(beside, site.folder.join(OFFSET))?)
}

async fn jumped(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(20).await?;
    let kept = site.engine.json("/api/store").await?["messages"].as_u64();
    let offset = *chance.one_of(&JUMPS);
    set_clock(site, offset)?;
    site.under_load(50).await?;
    // Some cycles start under the changed clock too.
    if chance.within(0..3) == 0 {
        site.kill_and_start().await?;
        site.under_load(20).await?;
    }
    let now = site.engine.json("/api/store").await?["messages"].as_u64();
    ensure(now >= kept, Column::Lost, || {
        format!("after the jump {offset} {now:?} messages are kept, before it {kept:?}")
    })
}
