//! What a process has used, as the kernel tells it in `/proc`.

use std::path::Path;
use std::time::Duration;

/// The kernel's unit of CPU time in `/proc/PID/stat`: 100 a second on Linux, whatever it was built with.
const TICK: Duration = Duration::from_millis(10);
/// The kernel's unit in `/proc/diskstats`, whatever the disk's own.
const SECTOR_BYTES: u64 = 512;

/// CPU time of all threads, in user space and in the kernel, ended threads too; zero where there is no such process.
pub fn cpu(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}

/// Resident memory in bytes, pages shared with other processes included.
pub fn rss(pid: u32) -> u64 {
    field(&read(pid, "status"), "VmRSS:") * 1024
}

/// Resident memory in bytes that is the process's own, without the pages of its program file.
pub fn own_rss(pid: u32) -> u64 {
    field(&read(pid, "status"), "RssAnon:") * 1024
}

/// Bytes written so far to the disk of this name in `/proc/diskstats`, by whomever; `None` where there is no such disk. What
/// a process is told to have written (`/proc/PID/io`) is no measure: a page of a large folio counts as the whole folio.
pub fn written(disk: &str) -> Option<u64> {
    let disks = std::fs::read_to_string("/proc/diskstats").ok()?;
    let fields = disks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sectors = fields.into_iter().find(|fields| fields.get(2) == Some(&disk))?.get(9)?.parse::<u64>().ok()?;
    Some(sectors * SECTOR_BYTES)
}

fn read(pid: u32, file: &str) -> String {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default()
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn this_process_uses_time_and_memory() {
        let (pid, begun) = (std::process::id(), Instant::now());
        let before = cpu(pid);
        while begun.elapsed() < Duration::from_millis(300) {
            std::hint::spin_loop();
        }
        assert!(cpu(pid) - before >= Duration::from_millis(50), "{before:?} then {:?}", cpu(pid));
        assert!(rss(pid) > own_rss(pid) && own_rss(pid) > 0);
        assert!(cpu(u32::MAX).is_zero());
    }

    #[test]
    fn a_disk_that_is_not_there_wrote_nothing() {
        assert_eq!(written("no-such-disk"), None);
        let disks = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
        if let Some(name) = disks.lines().find_map(|line| line.split_whitespace().nth(2)) {
            assert!(written(name).is_some(), "{name}");
        }
    }
}
