//! `check`: the configuration, every channel, its samples.

use std::path::Path;

use serde_json::json;

use super::{Common, Failure, Outcome, block_on, count};
use crate::{
    channel::Channel,
    config,
    destination::{self, Meter},
};

pub(super) fn check(common: &Common, schema: bool, online: bool) -> Outcome {
    if schema {
        println!("{}", serde_json::to_string_pretty(&config::schemas())?);
        return Ok(());
    }
    let config = common.load()?;
    config.warnings.iter().for_each(|told| eprintln!("{told}"));
    let (mut faults, mut unasked, mut untold) = (Vec::new(), Vec::new(), Vec::new());
    for channel in &config.channels {
        let file = config.channels_dir.join(format!("{}.toml", channel.name));
        check_destinations(channel, &file, online, (&mut faults, &mut unasked, &mut untold))?;
    }
    if !faults.is_empty() {
        faults.append(&mut unasked);
        return Err(Failure::Configuration(faults));
    }
    unasked.iter().chain(&untold).for_each(|fault| eprintln!("{fault}"));
    let samples = match config::check_samples(&config) {
        Ok(samples) => samples,
        Err(differences) => {
            differences.iter().for_each(|difference| eprintln!("{difference}"));
            return Err(Failure::Failed(format!("{} in the samples", count(differences.len(), "difference"))));
        }
    };
    if !unasked.is_empty() {
        return Err(Failure::Failed(format!("{} could not be asked what it can do", count(unasked.len(), "server"))));
    }
    if common.json {
        println!("{}", json!({ "channels": config.channels.len(), "samples": samples, "untold": untold.len() }));
    } else {
        let untold = match untold.len() {
            0 => String::new(),
            many => format!("; not told by the servers: {}", many),
        };
        println!("{} and {} hold{untold}", count(config.channels.len(), "channel"), count(samples, "sample"));
    }
    Ok(())
}

/// That each destination can be set up, and with `online` that its receiver says it can do what is configured; which could
/// not be asked, and what it does not tell, is told apart.
fn check_destinations(
    channel: &Channel,
    file: &Path,
    online: bool,
    (faults, unasked, untold): (&mut Vec<config::Fault>, &mut Vec<config::Fault>, &mut Vec<config::Fault>),
) -> Outcome {
    for to in &channel.destinations {
        let fault = |why: &str| {
            let (line, column) = config::place_of_destination(file, &to.name);
            let (what, remedy) = why.split_once(": ").unwrap_or((why, "mend this destination"));
            let what = format!("destination {}: {what}", to.name);
            config::Fault { file: file.to_owned(), line, column, what, remedy: remedy.to_owned() }
        };
        let receiver = match destination::open(&to.settings, &Meter::detached()) {
            Ok(receiver) if online => receiver,
            Ok(_) => continue,
            Err(why) => {
                faults.push(fault(&why));
                continue;
            }
        };
        match block_on(async { Ok(receiver.lacks().await) })? {
            Ok(lacks) => {
                faults.extend(lacks.missing.iter().map(|why| fault(why)));
                untold.extend(lacks.untold.iter().map(|why| fault(why)));
            }
            Err(why) => unasked.push(fault(&format!(
                "it was not asked what it can do ({why}): start it, or mend `url`, `auth` or `tls`"
            ))),
        }
    }
    Ok(())
}
