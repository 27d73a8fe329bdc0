//! Lets calls of the engine fail from inside its process, by a small library loaded before it (`faults/failing-calls.c`,
//! which says what it can do). Without a plan every call goes through.

use crate::verify::power::mount::command;
use crate::verify::{Broken, Site};
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = include_str!("../../../faults/failing-calls.c");

/// The library, and the files by which it is steered.
#[derive(Debug)]
pub(super) struct Shim {
    folder: PathBuf,
}

impl Shim {
    /// Compiles the library and has the engine load it at its next start.
    pub(super) fn install(site: &mut Site) -> Result<Shim, Broken> {
        let shim = Shim { folder: site.folder.join("shim") };
        fs::create_dir_all(&shim.folder)?;
        fs::write(shim.file("failing-calls.c"), SOURCE)?;
        let [library, source] = [shim.name("failing-calls.so"), shim.name("failing-calls.c")];
        command("gcc", &["-O2", "-shared", "-fPIC", "-o", &library, &source, "-ldl", "-lpthread"])?;
        fs::write(shim.file("told"), "")?;
        let under = site.store().display().to_string();
        let (plan, told) = (shim.name("plan"), shim.name("told"));
        let envs = [("LD_PRELOAD", library), ("FAULT_UNDER", under), ("FAULT_PLAN", plan), ("FAULT_TOLD", told)];
        site.engine.envs.extend(envs.map(|(name, value)| (name.to_owned(), value)));
        Ok(shim)
    }

    /// From now on calls meet this: `CALL FROM TO HOW NUMBER`.
    pub(super) fn plan(&self, plan: &str) -> Result<(), Broken> {
        fs::write(self.file("plan.new"), format!("{plan}\n"))?;
        Ok(fs::rename(self.file("plan.new"), self.file("plan"))?)
    }

    /// From now on every call goes through.
    pub(super) fn heal(&self) -> Result<(), Broken> {
        Ok(fs::remove_file(self.file("plan"))?)
    }

    /// How many calls have met a fault so far.
    pub(super) fn told(&self) -> Result<u64, Broken> {
        Ok(fs::metadata(self.file("told"))?.len())
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(name)
    }

    fn name(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}
