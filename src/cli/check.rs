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
    let mut faults = Vec::new();
    for channel in &config.channels {
        let file = config.channels_dir.join(format!("{}.toml", channel.name));
        faults.extend(check_destinations(channel, &file, online)?);
    }
    if !faults.is_empty() {
        return Err(Failure::Configuration(faults));
    }
    let samples = match config::check_samples(&config) {
        Ok(samples) => samples,
        Err(differences) => {
            differences.iter().for_each(|difference| eprintln!("{difference}"));
            return Err(Failure::Failed(format!("{} in the samples", count(differences.len(), "difference"))));
        }
    };
    if common.json {
        println!("{}", json!({ "channels": config.channels.len(), "samples": samples }));
    } else {
        println!("{} and {} hold", count(config.channels.len(), "channel"), count(samples, "sample"));
    }
    Ok(())
}

/// That each destination can be set up, and with `online` that its receiver says it can do what is configured.
fn check_destinations(channel: &Channel, file: &Path, online: bool) -> Result<Vec<config::Fault>, Failure> {
    let fault = |what: String| {
        let remedy = "mend this destination".to_owned();
        config::Fault { file: file.to_owned(), line: 1, column: 1, what, remedy }
    };
    let mut faults = Vec::new();
    for to in &channel.destinations {
        let named = |why: &str| format!("destination {}: {why}", to.name);
        let receiver = match destination::open(&to.settings, &Meter::detached()) {
            Ok(receiver) if online => receiver,
            Ok(_) => continue,
            Err(why) => {
                faults.push(fault(named(&why)));
                continue;
            }
        };
        let lacks = block_on(async { Ok(receiver.lacks().await) })?;
        let lacks = lacks.map_err(|why| Failure::Failed(format!("channel {}, {}", channel.name, named(&why))))?;
        faults.extend(lacks.iter().map(|why| fault(named(why))));
    }
    Ok(faults)
}
