#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    channel::{Channel, DeviceRules, Filter, Listener, Repeat},
    store::{MemoryStore, Received, SearchKeys, Store},
};

const MINUTE: i64 = 60;

/// Devices under a clock that the test tells.
pub(super) struct Ward {
    devices: Devices,
    metrics: Arc<Metrics>,
    channel: Channel,
    seconds: Arc<AtomicI64>,
    folder: TempDir,
    store: Arc<MemoryStore>,
    /// Heard and not given to the store yet.
    said: Mutex<Vec<Received>>,
}

pub(super) fn ward() -> Ward {
    Ward::in_folder(tempfile::tempdir().unwrap(), 1_800_000_000)
}

impl Ward {
    fn in_folder(folder: TempDir, second: i64) -> Ward {
        let (seconds, metrics) = (Arc::new(AtomicI64::new(second)), Arc::new(Metrics::new().unwrap()));
        let told = seconds.clone();
        let clock = Clock::of(move || Timestamp::from_second(told.load(Ordering::Relaxed)).unwrap());
        let devices = Devices::open(Some(folder.path()), clock, metrics.clone());
        let store = Arc::new(MemoryStore::new(Clock::system()));
        Ward { devices, metrics, channel: channel(), seconds, folder, store, said: Mutex::default() }
    }

    /// What was heard is stored, but for the last `left`.
    pub(super) async fn store(&self, left: usize) {
        let taken: Vec<Received> = {
            let mut said = self.said.lock().unwrap();
            let count = said.len() - left;
            said.drain(..count).collect()
        };
        for received in taken {
            self.store.append(received).await.unwrap();
        }
    }

    pub(super) fn save(&self) {
        self.devices.save(true, || self.store.stats().next_sequence);
    }

    /// Another run of the engine after one that could not write anything at its end.
    pub(super) async fn killed(self, after: i64) -> Ward {
        let second = self.now() + after;
        let ward = Ward { store: self.store, ..Ward::in_folder(self.folder, second) };
        let channels = [Arc::new(channel())];
        ward.devices.catch_up(&*ward.store, &channels).await;
        ward
    }

    pub(super) fn save_if_due(&self) {
        self.devices.save(false, || 0);
    }

    pub(super) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("devices.bin")
    }

    pub(super) async fn close_store(&self) {
        self.store.close().await.unwrap();
    }

    /// Another run of the engine, which begins so much later.
    fn restarted(self, after: i64) -> Ward {
        self.save();
        let second = self.now() + after;
        Ward::in_folder(self.folder, second)
    }

    pub(super) fn now(&self) -> i64 {
        self.seconds.load(Ordering::Relaxed)
    }

    pub(super) fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// A message observed `behind` seconds ago.
    pub(super) fn say(&self, device: &str, event: &str, number: u64, behind: i64) {
        let time = |seconds| crate::hl7::Time::format(Timestamp::from_second(seconds).unwrap());
        let (sent, observed) = (time(self.now()), time(self.now() - behind));
        let text = format!(
            "MSH|^~\\&|GW||||{sent}||ORU^{event}|{device}-{number}|P|2.6\rOBR|1||F|1^X^MDC|||{observed}\rOBX|1|NM|1^X^MDC|1.1.1.1|1||||||R|||||||{device}^^{device}^EUI-64\r"
        );
        let message = Message::parse(text.into_bytes()).unwrap();
        let at = Timestamp::from_second(self.now()).unwrap();
        self.devices.heard(device, &self.channel, &message, at);
        self.said.lock().unwrap().push(Received {
            channel: self.channel.name.clone(),
            at,
            message: message.bytes(),
            routes: vec![],
            repeat: None,
            ack: None,
            keys: SearchKeys::default(),
            findings: vec![],
        });
    }

    /// Reports every minute, `count` times, numbered from `first`.
    pub(super) fn report(&self, device: &str, first: u64, count: u64) {
        (first..first + count).for_each(|number| {
            self.pass(MINUTE);
            self.say(device, "R01", number, 0);
        });
    }

    pub(super) fn one(&self, device: &str) -> (DeviceStatus, Vec<Happening>) {
        let (all, _) = self.devices.page(&DeviceQuery { limit: 100, ..DeviceQuery::default() });
        let id = all.iter().find(|status| &*status.device == device).unwrap().id;
        let (status, history) = self.devices.one(id).unwrap();
        (status, history.into_iter().map(|event| event.what).collect())
    }

    fn state(&self, device: &str) -> DeviceState {
        self.one(device).0.state
    }
}

pub(crate) fn channel() -> Channel {
    Channel {
        name: "pumps".into(),
        description: String::new(),
        listener: Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            limits: crate::mllp::server::Limits {
                frame_bytes_max: 1 << 20,
                connections_max: 1,
                connections_per_address_max: 1,
                pipelined_frames_max: 1,
                idle_timeout: Duration::ZERO,
                frame_timeout: Duration::ZERO,
                write_timeout: Duration::ZERO,
                allow: Vec::new(),
            },
            tls: None,
            ack: crate::channel::AckWhen::Stored,
            batch: false,
            conformance: crate::channel::Conformance::Off,
            profile: crate::pcd::conformance::Profile::AsReceived,
            charset: None,
            charset_default: crate::hl7::Charset::UTF_8,
            processing_ids: vec![],
            versions: vec![],
        },
        accept: Filter::default(),
        repeat: Repeat { key: vec![], window: Duration::ZERO, retransmission: crate::channel::Retransmission::Off },
        device: DeviceRules::default(),
        tolerance: crate::pcd::tolerance::Tolerance::default(),
        destinations: vec![],
        summaries: vec![],
        hash: 0,
    }
}

#[test]
fn a_device_that_stops_is_silent_after_so_many_reports_and_its_return_is_told() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.pass(3 * MINUTE + 29);
    assert_eq!(ward.state("A"), DeviceState::Reporting);
    ward.pass(2);
    assert_eq!(ward.state("A"), DeviceState::Silent);
    let silent = DeviceQuery { state: Some(DeviceState::Silent), limit: 10, ..DeviceQuery::default() };
    assert_eq!(ward.devices.page(&silent).0.len(), 1);
    ward.report("A", 11, 1);
    let (status, history) = ward.one("A");
    assert_eq!(
        (status.state, status.silences, status.expected_interval_seconds),
        (DeviceState::Reporting, 1, Some(60.0))
    );
    assert!(matches!(history[..], [Happening::Silent { .. }, Happening::Returned { seconds: 271 }]), "{history:?}");
    assert_eq!(ward.metrics.devices.silences.with_label_values(&["pumps"]).get(), 1);
}

#[test]
fn a_silence_nobody_looked_at_is_told_when_the_device_returns() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.pass(60 * MINUTE);
    ward.say("A", "R01", 11, 0);
    assert_eq!(ward.one("A").0.silences, 1);
}

#[test]
fn an_alert_neither_ends_a_silence_nor_belongs_to_the_interval() {
    let ward = ward();
    ward.report("A", 1, 10);
    for number in 11..40 {
        ward.pass(10);
        ward.say("A", "R40", number, 0);
    }
    let (status, _) = ward.one("A");
    assert_eq!((status.state, status.expected_interval_seconds), (DeviceState::Silent, Some(60.0)));
    assert_eq!((status.messages, status.observations), (39, 10));
}

#[test]
fn messages_that_are_missing_are_told_once_they_are_overdue_also_where_none_follows() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.report("A", 14, 1);
    assert_eq!(ward.one("A").0.sequence.unwrap().gaps, 0);
    ward.pass(30);
    let sequence = ward.one("A").0.sequence.unwrap();
    assert_eq!((sequence.gaps, sequence.missing), (1, 3));
    assert_eq!(ward.metrics.devices.missing.with_label_values(&["pumps"]).get(), 3);
    ward.say("A", "R01", 12, 90);
    assert_eq!(ward.one("A").0.sequence.unwrap().missing, 2);
}

#[test]
fn devices_behind_one_counter_share_its_gaps_and_have_none_of_their_own() {
    let ward = ward();
    let mut number = 100;
    let mut say = |device: &str| {
        ward.pass(20);
        let text = format!(
            "MSH|^~\\&|GW||||20270115080000+0000||ORU^R01|{number}|P|2.6\rOBR|1||F|1^X^MDC\rOBX|1|NM|1^X^MDC|1.1.1.1|1||||||R|||||||{device}\r"
        );
        number += 1;
        let message = Message::parse(text.into_bytes()).unwrap();
        ward.devices.heard(device, &ward.channel, &message, Timestamp::from_second(ward.now()).unwrap());
    };
    (0..20).for_each(|_| ["A", "B", "C"].iter().for_each(|device| say(device)));
    for device in ["A", "B", "C"] {
        let sequence = ward.one(device).0.sequence.unwrap();
        assert_eq!((sequence.of, sequence.gaps, sequence.repeats), ("sender", 0, 0), "{device}");
    }
}

#[test]
fn what_is_known_survives_a_restart_and_the_time_between_is_no_silence() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.report("B", 1, 10);
    ward.pass(3 * MINUTE);
    ward.say("B", "R01", 11, 0);
    ward.pass(MINUTE);
    assert_eq!((ward.state("A"), ward.state("B")), (DeviceState::Silent, DeviceState::Reporting));
    let ward = ward.restarted(5 * 3600);
    assert_eq!((ward.state("A"), ward.state("B")), (DeviceState::Silent, DeviceState::Reporting));
    ward.pass(3 * MINUTE);
    assert_eq!(ward.state("B"), DeviceState::Reporting);
    ward.pass(MINUTE);
    assert_eq!(ward.state("B"), DeviceState::Silent);
    ward.say("B", "R01", 15, 0);
    ward.pass(40);
    let sequence = ward.one("B").0.sequence.unwrap();
    assert_eq!((sequence.gaps, sequence.missing), (1, 3), "the counter is remembered");
}

#[test]
fn a_file_that_is_damaged_is_not_believed_and_stops_nothing() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.save();
    let path = ward.folder.path().join("devices.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let again = Ward::in_folder(ward.folder, 1_900_000_000);
    assert_eq!(again.devices.page(&DeviceQuery { limit: 10, ..DeviceQuery::default() }).0, []);
    again.report("A", 1, 1);
    assert_eq!(again.state("A"), DeviceState::Learning);
}

#[test]
fn our_own_clock_set_makes_no_device_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (told, passed) = (Arc::new(AtomicI64::new(1_800_000_000)), Arc::new(AtomicI64::new(0)));
    let (tell, pass) = (told.clone(), passed.clone());
    let clock = Clock::jumping(
        move || Timestamp::from_second(tell.load(Ordering::Relaxed)).unwrap(),
        move || Duration::from_secs(u64::try_from(pass.load(Ordering::Relaxed)).unwrap()),
    );
    let metrics = Arc::new(Metrics::new().unwrap());
    let devices = Devices::open(None, clock, metrics.clone());
    let ward = Ward { devices, seconds: told, ..Ward::in_folder(folder, 0) };
    let ward = Ward { metrics, ..ward };
    for number in 1..30 {
        ward.pass(MINUTE);
        passed.fetch_add(MINUTE, Ordering::Relaxed);
        let ahead = if number < 15 { 0 } else { 7_200 };
        if number == 15 {
            ward.pass(7_200);
        }
        ward.say("A", "R01", number, ahead);
    }
    let (status, history) = ward.one("A");
    assert_eq!((status.silences, status.clock_sets, status.late, history), (0, 0, 0, vec![]));
}

#[test]
fn a_flood_of_names_stays_bounded_and_the_longest_unheard_give_way() {
    let ward = ward();
    for n in 0..DEVICES_MAX as u64 + 10 {
        ward.pass(1);
        ward.say(&format!("{n:08}"), "R01", n, 0);
    }
    let watched = ward.devices.watched();
    assert!(watched.known.devices.len() <= DEVICES_MAX && watched.known.counters.len() <= COUNTERS_MAX);
    assert!(watched.known.devices.contains_key(&*format!("{:08}", DEVICES_MAX + 9)));
    assert!(!watched.known.devices.contains_key("00000000"));
    drop(watched);
    assert_eq!(ward.metrics.limits_hit.with_label_values(&["pumps", "devices"]).get(), 1);
}

#[test]
fn pages_follow_each_other_and_leave_nobody_out() {
    let ward = ward();
    (0..25).for_each(|n| ward.say(&format!("D{n}"), "R01", 1, 0));
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let (items, next) = ward.devices.page(&DeviceQuery { after, limit: 10, ..DeviceQuery::default() });
        ids.extend(items.iter().map(|status| status.id));
        after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(ids, (1..=25).collect::<Vec<_>>());
}

#[test]
fn the_gauge_counts_every_device_once_and_forgets_channels_that_are_gone() {
    let ward = ward();
    ward.report("A", 1, 10);
    ward.say("B", "R01", 1, 0);
    let gauge = |state: &str| ward.metrics.devices.devices.with_label_values(&["pumps", state]).get();
    ward.devices.look();
    assert_eq!((gauge("learning"), gauge("reporting"), gauge("silent")), (1, 1, 0));
    ward.pass(10 * MINUTE);
    ward.devices.look();
    assert_eq!((gauge("learning"), gauge("reporting"), gauge("silent")), (1, 0, 1));
    ward.devices.channels_changed(&[]);
    ward.devices.look();
    assert!(!ward.metrics.text().unwrap().contains("cannula_devices{"));
}
