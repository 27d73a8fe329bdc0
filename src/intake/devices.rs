//! Devices heard since the start: when last, how often. Bounded; the longest silent give way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

/// Devices remembered at once.
const DEVICES_MAX: usize = 16_384;

/// One device as last heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceStatus {
    /// Its best identity, such as an EUI-64.
    pub device: String,
    /// The channel that took its last message.
    pub channel: Arc<str>,
    /// When that was received.
    pub last_seen: Timestamp,
    /// Messages since the start.
    pub messages: u64,
}

/// The devices heard; shared by all intakes.
#[derive(Default)]
pub struct Devices(Mutex<HashMap<String, DeviceStatus>>);

impl Devices {
    /// Notes a message of `device`.
    pub fn heard(&self, device: &str, channel: &Arc<str>, at: Timestamp) {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = devices.get_mut(device) {
            known.messages += 1;
            known.last_seen = at;
            known.channel = channel.clone();
            return;
        }
        if devices.len() >= DEVICES_MAX {
            forget_silent(&mut devices);
        }
        let device = device.to_owned();
        devices.insert(device.clone(), DeviceStatus { device, channel: channel.clone(), last_seen: at, messages: 1 });
    }

    /// All of them by identity.
    pub fn list(&self) -> Vec<DeviceStatus> {
        let devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<DeviceStatus> = devices.values().cloned().collect();
        list.sort_by(|a, b| a.device.cmp(&b.device));
        list
    }
}

/// Drops the longest silent eighth at once, so that a flood of new identities costs little each.
fn forget_silent(devices: &mut HashMap<String, DeviceStatus>) {
    let mut times: Vec<Timestamp> = devices.values().map(|device| device.last_seen).collect();
    times.sort_unstable();
    let limit = times[times.len() / 8];
    devices.retain(|_, device| device.last_seen > limit);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn second(n: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(n).unwrap()).unwrap()
    }

    #[test]
    fn a_device_is_counted_and_its_last_time_kept() {
        let (devices, channel) = (Devices::default(), Arc::from("pumps"));
        devices.heard("A", &channel, second(1));
        devices.heard("A", &channel, second(5));
        let expected = DeviceStatus { device: "A".into(), channel, last_seen: second(5), messages: 2 };
        assert_eq!(devices.list(), [expected]);
    }

    #[test]
    fn a_flood_of_identities_stays_bounded_and_forgets_the_longest_silent() {
        let (devices, channel) = (Devices::default(), Arc::from("pumps"));
        for n in 0..3 * DEVICES_MAX {
            devices.heard(&format!("{n:08}"), &channel, second(n));
        }
        let list = devices.list();
        assert!(list.len() <= DEVICES_MAX);
        assert_eq!(list.last().unwrap().device, format!("{:08}", 3 * DEVICES_MAX - 1));
    }
}
