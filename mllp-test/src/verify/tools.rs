//! What this machine has for the checker: the engine's binaries and the programs that some faults need.

use std::path::PathBuf;

/// Binaries and programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The engine under test.
    pub engine: PathBuf,
    /// An engine built with the feature `sabotage`, whose crash points can be set.
    pub crash_engine: Option<PathBuf>,
    /// Where reports and the folders of failed cycles go.
    pub report: PathBuf,
    /// Whether this is the long run before a release.
    pub release: bool,
}

impl Tools {
    /// The program of this name on the search path.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
    }

    /// An error that names the missing programs, for [`super::Fault::needs`].
    pub fn programs(&self, names: &[&str]) -> Result<(), String> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| self.program(name).is_none()).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not installed: {}", missing.join(", "))) }
    }

    /// Whether this process runs as root.
    pub fn is_root(&self) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
    }
}
