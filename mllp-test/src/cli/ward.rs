//! `ward`: a day of a ward in minutes, and whether the engine noticed what went wrong.

use super::Failure;
use super::args::WardArgs;
use mllp_test::simulate::ward::{self, Host, Process, WardConfig};
use std::path::{Path, PathBuf};

impl WardArgs {
    pub(super) async fn run(self, json: bool) -> Result<bool, Failure> {
        let start = self.start.unwrap_or_else(jiff::Timestamp::now);
        let config = WardConfig {
            devices: self.devices,
            minutes: (self.hours * 60.0) as i64,
            compress: self.compress,
            restart: !self.no_restart,
            seed: self.seed,
            start,
        };
        let folder = self.folder.unwrap_or_else(|| std::env::temp_dir().join(format!("ward-{}", std::process::id())));
        std::fs::create_dir(&folder).map_err(|fault| format!("{}: {fault}", folder.display()))?;
        let engine = std::path::absolute(self.engine.map_or_else(beside, Ok)?)?;
        let outcome = watch(config, &engine, &folder).await;
        let report = outcome.map_err(|what| format!("{what}; the engine's folder is {}", folder.display()))?;
        super::print(&report, json);
        if report.passed() {
            std::fs::remove_dir_all(&folder)?;
        } else {
            eprintln!("the engine's folder is {}", folder.display());
        }
        Ok(report.passed())
    }
}

async fn watch(config: WardConfig, engine: &Path, folder: &Path) -> Result<ward::WardReport, String> {
    let mut process = Process::new(engine, folder, config.start).await?;
    process.start().await?;
    let report = ward::run(config, &mut process).await?;
    process.stop().await?;
    Ok(report)
}

fn beside() -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?.with_file_name("cannula"))
}
