//! A small memory limit (F23), a second engine on one store (F28), a tampered audit log (F35).

use super::power::ensure_root;
use crate::verify::broken::ensure;
use crate::verify::chance::Chance;
use crate::verify::engine::{Engine, PATIENCE};
use crate::verify::site::Plan;
use crate::verify::traffic::TrafficPlan;
use crate::verify::{Broken, Column, Fault, Site, Tools};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CGROUPS: &str = "/sys/fs/cgroup/memory";
const CGROUP: &str = "cgroup";
const MEMORY_BYTES: u64 = 256 << 20;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F23",
        what: "256 MiB of memory, messages of 1 MB, a dead destination",
        quick: 1,
        release: 10,
        group: 1,
        patience: Duration::from_secs(900),
        needs: cgroups,
        plan: large_messages,
        prepare: |site| Box::pin(async { limit_memory(site) }),
        cycle: |site, _| Box::pin(little_memory(site)),
        ..Fault::BASE
    },
    Fault {
        id: "F28",
        what: "a second engine on one store",
        quick: 2,
        release: 20,
        cycle: |site, _| Box::pin(second_engine(site)),
        ..Fault::BASE
    },
    Fault {
        id: "F35",
        what: "audit log truncated, edited, reordered, a line deleted",
        quick: 10,
        release: 200,
        cycle: |site, chance| Box::pin(tampered(site, chance)),
        ..Fault::BASE
    },
];

fn cgroups(tools: &Tools) -> Result<(), String> {
    ensure_root(tools)?;
    let there = Path::new(CGROUPS).join("memory.limit_in_bytes").exists();
    if there { Ok(()) } else { Err(format!("no memory cgroups (v1) in {CGROUPS}")) }
}

/// More in all than the memory allowed.
fn large_messages(tools: &Tools) -> Plan {
    let messages = Some(if tools.release { 300 } else { 100 });
    let connections = 4;
    Plan {
        traffic: vec![TrafficPlan { rate: 0.0, message_bytes: 1_000_000, messages, connections, ..TrafficPlan::USUAL }],
        rss_bytes_max: MEMORY_BYTES,
        drain: Duration::from_secs(300),
        ..Plan::strict()
    }
}

/// A memory limit for the processes put into it.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was killed in it may take a moment to be gone.
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            fs::remove_dir(&self.0).is_ok()
        });
        if !gone {
            eprintln!("{} could not be removed", self.0.display());
        }
    }
}

fn limit_memory(site: &mut Site) -> Result<(), Broken> {
    let name = format!("mllp-test-{}-{}", std::process::id(), site.address);
    let cgroup = Cgroup(Path::new(CGROUPS).join(name));
    fs::create_dir(&cgroup.0)?;
    fs::write(cgroup.0.join("memory.limit_in_bytes"), MEMORY_BYTES.to_string())?;
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.0.display());
    site.engine.wrapper = vec!["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()];
    site.props.insert(CGROUP, Box::new(cgroup));
    Ok(())
}

async fn little_memory(site: &mut Site) -> Result<(), Broken> {
    site.receiver("legacy")?.down().await;
    site.injected(1);
    for traffic in &mut site.traffic {
        traffic.finished().await;
    }
    let control = fs::read_to_string(site.prop::<Cgroup>(CGROUP)?.0.join("memory.oom_control"))?;
    ensure(site.engine.exited()?.is_none() && killed(&control) == Some(0), Column::Bounded, || {
        format!("killed for its memory: {} {}", control.replace('\n', ", "), site.engine.last_words())
    })?;
    // How near the limit came tells nothing: what is written past the page cache counts for no process.
    let limited = fs::read_to_string(site.prop::<Cgroup>(CGROUP)?.0.join("cgroup.procs"))?;
    let engine = site.engine.pid()?.to_string();
    ensure(limited.lines().any(|pid| pid == engine), Column::Checker, || "the limit is not the engine's".to_owned())?;
    site.receiver("legacy")?.up().await
}

/// How often the kernel killed for want of memory.
fn killed(control: &str) -> Option<u64> {
    control.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

async fn second_engine(site: &mut Site) -> Result<(), Broken> {
    site.under_load(10).await?;
    let folder = site.folder.join("second");
    fs::create_dir_all(folder.join("channels/tables"))?;
    let admin = SocketAddr::from((site.address, 8576));
    let store = site.store();
    let config = format!("[store]\npath = \"{}\"\n[admin]\nlisten = \"{admin}\"\n", store.display());
    fs::write(folder.join("cannula.toml"), config)?;
    let _ = fs::remove_file(folder.join("log"));
    let mut second = Engine::new(&site.engine.binary, &folder, admin);
    second.spawn()?;
    let status = second.wait(PATIENCE).await?;
    let said = second.log();
    ensure(!status.success() && said.contains("another engine has this store open"), Column::Start, || {
        format!("a second engine on one store ended with {status}: {said}")
    })?;
    for command in [["store", "verify"], ["store", "rebuild"]] {
        let output = site.engine.command(&command).await?;
        ensure(!output.status.success(), Column::Start, || format!("{command:?} went into a store that is in use"))?;
    }
    site.injected(1);
    ensure(site.engine.is_ready().await, Column::Isolation, || "the first engine is not ready any more".to_owned())?;
    site.under_load(10).await
}

async fn tampered(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    for action in ["pause", "resume", "pause", "resume"] {
        let (status, _) = site.engine.post(&format!("/api/channels/pumps/destinations/legacy/{action}"), None).await?;
        ensure(status < 300, Column::Checker, || format!("{action} is answered with {status}"))?;
    }
    site.quit().await?;
    let path = site.store().join("audit.ndjson");
    let whole = fs::read(&path)?;
    audit_verified(site, true, "untouched").await?;
    for (what, changed) in tamperings(&whole, &mut chance) {
        fs::write(&path, changed)?;
        audit_verified(site, false, what).await?;
        site.injected(1);
    }
    fs::write(&path, &whole)?;
    audit_verified(site, true, "restored").await?;
    site.start_engine().await?;
    site.under_load(10).await
}

async fn audit_verified(site: &Site, whole: bool, what: &str) -> Result<(), Broken> {
    let output = site.engine.command(&["audit", "verify"]).await?;
    ensure(output.status.success() == whole, Column::Audit, || {
        format!("audit log {what}: verify says {}", String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// The log changed in each way, at places left to chance.
fn tamperings(whole: &[u8], chance: &mut Chance) -> Vec<(&'static str, Vec<u8>)> {
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let line = chance.within(0..lines.len() as u64 - 1) as usize;
    let at = chance.within(0..whole.len() as u64) as usize;
    let mut edited = whole.to_vec();
    edited[at] ^= 1;
    let mut reordered = lines.clone();
    reordered.swap(line, line + 1);
    let mut deleted = lines.clone();
    deleted.remove(line);
    vec![
        ("edited", edited),
        ("with two lines exchanged", reordered.concat()),
        ("without one line", deleted.concat()),
        ("without its last line", lines[..lines.len() - 1].concat()),
        ("cut off", whole[..at].to_vec()),
        ("emptied", Vec::new()),
    ]
}
