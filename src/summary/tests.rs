#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, civil::time, tz::TimeZone};
use tempfile::TempDir;

use super::*;
use crate::{
    channel::{Destination, Filter, OnReject, Order},
    destination::{FileLayout, FileSettings, Settings},
    store::{MemoryStore, Query, Route},
    translate::Plan,
};

/// Summaries of one channel under a clock that the test tells.
struct Clinic {
    store: MemoryStore,
    summaries: Summaries,
    metrics: Arc<Metrics>,
    seconds: Arc<AtomicI64>,
    folder: TempDir,
}

impl Clinic {
    fn at(now: &str) -> Clinic {
        let folder = tempfile::tempdir().unwrap();
        let seconds = Arc::new(AtomicI64::new(at(now).as_second()));
        let store = MemoryStore::new(clock(&seconds));
        Clinic::opened(store, seconds, folder)
    }

    fn opened(store: MemoryStore, seconds: Arc<AtomicI64>, folder: TempDir) -> Clinic {
        let metrics = Arc::new(Metrics::new().unwrap());
        let nomenclature = Arc::new(ArcSwap::new(Nomenclature::built_in()));
        let (shared, clock) = (Arc::new(store.clone()), clock(&seconds));
        let summaries = Summaries::open(folder.path(), shared, clock, metrics.clone(), nomenclature);
        summaries.set_channels(&[Arc::new(channel())]);
        Clinic { store, summaries, metrics, seconds, folder }
    }

    /// Another run of the engine over the same store.
    fn restarted(self) -> Clinic {
        Clinic::opened(self.store, self.seconds, self.folder)
    }

    fn is(&self, now: &str) {
        self.seconds.store(at(now).as_second(), Ordering::SeqCst);
    }

    /// Two readings of a patient on a day, received then.
    async fn readings(&self, pid: &str, day: &str) {
        for (minute, value) in [(0, 100), (5, 140)] {
            let stamp = format!("{day}12{minute:02}00+0000");
            let text = format!(
                "MSH|^~\\&|CGM|W|||{stamp}||ORU^R01^ORU_R01|{day}{minute}|P|2.6\r{pid}\rOBR|1||1|528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|||{stamp}\rOBX|1|NM|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.1|{value}|264274^MDC_DIM_MILLI_G_PER_DL^MDC|||||R|||{stamp}\r"
            );
            self.receive(text).await;
        }
    }

    async fn receive(&self, text: String) {
        let mark = cgm::may_tell(text.as_bytes()).then(|| cgm::MARK.to_vec());
        self.receive_marked(text, mark).await;
    }

    async fn receive_marked(&self, text: String, mark: Option<Vec<u8>>) {
        let received = Received {
            channel: "cgm".into(),
            at: self.summaries.clock.now(),
            message: text.into(),
            routes: vec![],
            repeat: None,
            ack: None,
            keys: SearchKeys { device: mark.into_iter().collect(), ..SearchKeys::default() },
            findings: vec![],
        };
        self.store.append(received).await.unwrap();
    }

    async fn due(&self) {
        self.summaries.make_due().await.unwrap();
    }

    /// Period of each summary that waits, in the order they were made.
    async fn made(&self) -> Vec<String> {
        let query = Query { destination: Some("ehr".into()), limit: 100, ..Query::default() };
        let mut made = Vec::new();
        for found in self.store.find(query).await.unwrap().into_iter().rev() {
            let message = Message::parse(self.store.read(found.id).await.unwrap().message).unwrap();
            let obr = message.segment("OBR").unwrap();
            made.push([7, 8].map(|n| String::from_utf8(obr.raw_field(n)[..8].to_vec()).unwrap()).join("-"));
        }
        made
    }

    fn counted(&self, outcome: Outcome) -> u64 {
        self.metrics.summaries.with_label_values(&["cgm", outcome.label()]).get()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock(seconds: &Arc<AtomicI64>) -> Clock {
    let told = seconds.clone();
    Clock::of(move || Timestamp::UNIX_EPOCH + SignedDuration::from_secs(told.load(Ordering::SeqCst)))
}

fn channel() -> Channel {
    let destination = Destination {
        name: "ehr".into(),
        settings: Settings::File(FileSettings { directory: "none".into(), layout: FileLayout::PerMessage }),
        plan: Plan::Unchanged,
        filter: Filter::default(),
        order: Order::Patient,
        lanes: 8,
        retry_first: Duration::ZERO,
        retry_max: Duration::ZERO,
        retry_refused: 0,
        resend_window: std::num::NonZeroUsize::MIN,
        on_reject: OnReject::Park,
    };
    let summary = Summary {
        name: "daily".into(),
        destinations: vec!["ehr".into()],
        days: 1,
        on: None,
        at: time(6, 0, 0, 0),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    };
    Channel {
        name: "cgm".into(),
        destinations: vec![Arc::new(destination)],
        summaries: vec![summary],
        ..crate::devices::tests::channel()
    }
}

const PID: &str = "PID|||4711^^^H^MR~55^^^I^PI||A^B";
const OTHER: &str = "PID|||4712^^^H^MR";

#[tokio::test]
async fn each_patients_summary_is_made_once_when_it_is_due() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.readings(PID, "20260302").await;
    clinic.readings(OTHER, "20260302").await;
    clinic.due().await;
    assert!(clinic.made().await.is_empty(), "made before its hour, of a day that is not over");
    clinic.is("2026-03-03T05:00:00Z");
    clinic.due().await;
    clinic.due().await;
    assert_eq!(clinic.made().await, ["20260302-20260303"; 2]);
    assert_eq!(clinic.counted(Outcome::Made), 2);
}

#[tokio::test]
async fn a_period_that_passed_while_the_engine_was_down_is_made_at_its_start() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.due().await;
    for day in ["02", "03", "04"] {
        clinic.is(&format!("2026-03-{day}T12:30:00Z"));
        clinic.readings(PID, &format!("202603{day}")).await;
    }
    clinic.is("2026-03-05T10:00:00Z");
    let clinic = clinic.restarted();
    clinic.due().await;
    assert_eq!(clinic.made().await, ["20260302-20260303", "20260303-20260304", "20260304-20260305"]);
}

#[tokio::test]
async fn a_making_that_was_cut_off_goes_on_without_repeating_what_was_stored() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.readings(PID, "20260302").await;
    clinic.is("2026-03-03T06:00:00Z");
    clinic.due().await;
    clinic.readings(OTHER, "20260302").await;
    // As after a crash before it was noted.
    std::fs::remove_file(clinic.folder.path().join("summaries.json")).unwrap();
    let clinic = clinic.restarted();
    clinic.due().await;
    assert_eq!(clinic.made().await, ["20260302-20260303"; 2]);
    assert_eq!((clinic.counted(Outcome::Made), clinic.counted(Outcome::Before)), (1, 1));
}

#[tokio::test]
async fn what_the_store_cannot_take_is_made_later() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.readings(PID, "20260302").await;
    clinic.is("2026-03-03T06:00:00Z");
    clinic.store.refuse(Some(StoreError::Full));
    assert_eq!(clinic.summaries.make_due().await, Err(StoreError::Full));
    clinic.store.refuse(None);
    clinic.due().await;
    assert_eq!(clinic.made().await, ["20260302-20260303"]);
}

#[tokio::test]
async fn patients_without_readings_get_none_and_too_few_readings_are_counted() {
    let clinic = Clinic::at("2026-03-03T06:00:00Z");
    let one = "OBX|1|NM|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.1|99|264274^MDC_DIM_MILLI_G_PER_DL^MDC|||||R|||20260302120000+0000\r";
    for (pid, rows) in [(PID, one), (OTHER, "")] {
        clinic.receive(format!("MSH|^~\\&|CGM|W|||20260302120000+0000||ORU^R01|1|P|2.6\r{pid}\r{rows}")).await;
    }
    clinic.due().await;
    assert!(clinic.made().await.is_empty());
    assert_eq!((clinic.counted(Outcome::Made), clinic.counted(Outcome::TooFew)), (0, 1));
}

fn reading(pid: &str, stamp: &str) -> String {
    format!(
        "MSH|^~\\&|CGM|W|||{stamp}||ORU^R01^ORU_R01|{stamp}|P|2.6\r{pid}\rOBX|1|NM|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.1|120|264274^MDC_DIM_MILLI_G_PER_DL^MDC|||||R|||{stamp}\r"
    )
}

#[tokio::test]
async fn what_an_engine_stored_that_marked_nothing_is_read_whole_and_later_only_what_is_marked() {
    let before = Clinic::at("2026-03-02T12:30:00Z");
    before.receive_marked(reading(PID, "20260302120000+0000"), None).await;
    before.receive_marked(reading(PID, "20260302120500+0000"), None).await;
    before.is("2026-03-02T13:00:00Z");
    let clinic = before.restarted();
    clinic.is("2026-03-02T13:10:00Z");
    clinic.receive(reading(PID, "20260302130000+0000")).await;
    // Nothing that has a reading is without a mark: this one shows that what has none is not looked at.
    clinic.receive_marked(reading(OTHER, "20260302130000+0000"), None).await;
    clinic.receive_marked(reading(OTHER, "20260302130500+0000"), None).await;
    clinic.is("2026-03-03T06:00:00Z");
    clinic.due().await;
    assert_eq!((clinic.made().await.len(), clinic.counted(Outcome::Made)), (1, 1));
    let found =
        clinic.store.find(Query { destination: Some("ehr".into()), limit: 9, ..Query::default() }).await.unwrap();
    let told = Message::parse(clinic.store.read(found[0].id).await.unwrap().message).unwrap();
    assert!(String::from_utf8_lossy(told.as_bytes()).contains("4711"));
    // Kept over a restart: what was received since is not read whole again.
    let clinic = clinic.restarted();
    clinic.receive(reading(PID, "20260303120000+0000")).await;
    clinic.receive(reading(PID, "20260303120500+0000")).await;
    clinic.receive_marked(reading(OTHER, "20260303120000+0000"), None).await;
    clinic.receive_marked(reading(OTHER, "20260303120500+0000"), None).await;
    clinic.is("2026-03-04T06:00:00Z");
    clinic.due().await;
    assert_eq!(clinic.counted(Outcome::Made), 1, "of the patient whose readings are marked");
}

/// Prints how long it takes to make what is due of a store on disk of 100,000 messages, of which 2 in 100 are of glucose.
#[tokio::test]
#[ignore = "a measurement: cargo test -p cannula --lib -- --ignored --nocapture how_long_a_summary_takes"]
async fn how_long_a_summary_takes_on_a_busy_channel() {
    let folder = tempfile::tempdir().unwrap();
    let seconds = Arc::new(AtomicI64::new(at("2026-03-02T12:30:00Z").as_second()));
    let options = crate::store::Options::default();
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = crate::store::DiskStore::open(folder.path(), options, metrics, clock(&seconds)).unwrap();
    let store: Arc<dyn Store> = store;
    let padding =
        "OBX|2|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.2|80|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R\r".repeat(22);
    let mut given = Vec::new();
    for n in 0..100_000_u32 {
        let glucose = n % 50 == 0;
        let pid = format!("PID|||{}^^^H^MR", 5_000 + n % 1_000);
        let stamp = format!("20260302{:02}{:02}{:02}+0000", n / 7_200, n / 120 % 60, n / 2 % 60);
        let text = if glucose {
            reading(&pid, &stamp)
        } else {
            format!("MSH|^~\\&|MON|W|||{stamp}||ORU^R01|{n}|P|2.6\r{pid}\r{padding}")
        };
        let mark = cgm::may_tell(text.as_bytes()).then(|| cgm::MARK.to_vec());
        given.push(store.append(Received {
            channel: "cgm".into(),
            at: at("2026-03-02T12:30:00Z"),
            message: text.into(),
            routes: vec![],
            repeat: None,
            ack: None,
            keys: SearchKeys { device: mark.into_iter().collect(), ..SearchKeys::default() },
            findings: vec![],
        }));
        if given.len() == 1_000 {
            for given in given.drain(..) {
                given.await.unwrap();
            }
        }
    }
    let due = summary_of(&channel());
    for marked_from in [None, Some(Timestamp::UNIX_EPOCH)] {
        let begun = std::time::Instant::now();
        let gathered = Gathered::of(&*store, &channel(), due, marked_from).await.unwrap();
        println!("{marked_from:?}: {} patients in {:?}", gathered.patients().count(), begun.elapsed());
    }
}

fn summary_of(channel: &Channel) -> Timestamp {
    channel.summaries[0].last_due(at("2026-03-03T06:00:00Z")).unwrap().from
}

#[tokio::test]
async fn a_summary_goes_by_its_patients_lane_and_is_found_by_its_patient() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.readings(PID, "20260302").await;
    clinic.is("2026-03-03T06:00:00Z");
    clinic.due().await;
    let found = clinic.store.find(Query { patient: Some(b"4711".to_vec()), limit: 9, ..Query::default() }).await;
    let kept = clinic.store.read(found.unwrap()[0].id).await.unwrap();
    let message = Message::parse(kept.message).unwrap();
    let text = String::from_utf8(message.as_bytes().to_vec()).unwrap();
    assert!(text.contains(&format!("\r{PID}\r")), "{text}");
    let route = channel().route_to("ehr", &message).unwrap();
    assert_ne!(route, Route { destination: "ehr".into(), lane: 0 }, "choose another patient for this test");
    let waiting = clinic.store.lanes();
    assert!(waiting.iter().any(|status| status.lane.lane == route.lane && status.waiting == 1), "not in its lane");
}

#[tokio::test]
async fn a_control_id_cannot_be_made_of_a_guess_without_the_stores_key() {
    let clinic = Clinic::at("2026-03-02T12:30:00Z");
    clinic.readings(PID, "20260302").await;
    clinic.is("2026-03-03T06:00:00Z");
    clinic.due().await;
    let (from, to) = ("2026-03-01T23:00:00Z", "2026-03-02T23:00:00Z");
    let period = format!("{from} {to}");
    let parts = ["cgm", "daily", "4711", "H", &period].map(str::as_bytes);
    let found = |control_id: String| {
        let query = Query { control_id: Some(control_id.into_bytes()), limit: 9, ..Query::default() };
        let found = clinic.store.find(query);
        async { found.await.unwrap().len() }
    };
    let guess = crate::channel::stable_hash(parts.iter().flat_map(|part| [*part, b"\0"]));
    assert_eq!(found(format!("CGM{guess:016X}")).await, 0);
    assert_eq!(found(format!("CGM{:016X}", clinic.store.pseudonym(&parts))).await, 1);
}
