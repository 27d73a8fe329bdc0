//! A whole channel: routed, stored, translated, sent to misbehaving systems, and accounted by them.

use mllp_test::{
    FhirSink, FhirSinkConfig, MessageId, Sink, SinkConfig,
    fhir_sink::{Record, RecordConfig, RecordFault},
    script::{Script, ScriptFault},
};

use std::net::SocketAddr;

use super::{super::*, bench::BOUND, peers::delivery_of};
use crate::{
    channel::{self, Conformance, Filter, Listener, OnReject, Order, Repeat, Retransmission},
    destination::{BundleMode, FhirSettings, Idempotency, MllpSettings, PatientMode, WriteSettings},
    hl7::{Charset, Message},
    mllp::server::Limits,
    pcd::{Nomenclature, conformance::Profile},
    store::{MemoryStore, Received, SearchKeys},
    translate::{PcdToFhir, Plan},
};

fn channel(destinations: Vec<channel::Destination>) -> Arc<Channel> {
    Arc::new(Channel {
        name: "pumps".into(),
        description: String::new(),
        listener: Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            limits: Limits {
                frame_bytes_max: 1 << 20,
                connections_max: 1,
                connections_per_address_max: 1,
                pipelined_frames_max: 1,
                idle_timeout: Duration::ZERO,
                frame_timeout: Duration::ZERO,
                write_timeout: Duration::ZERO,
                allow: Vec::new(),
            },
            conformance: Conformance::Off,
            profile: Profile::default(),
            charset: None,
            tls: None,
            ack: crate::channel::AckWhen::Stored,
            batch: false,
            charset_default: Charset::UTF_8,
            processing_ids: vec!["P".into()],
            versions: vec!["2.".into()],
        },
        accept: Filter::default(),
        repeat: Repeat { key: vec![], window: Duration::ZERO, retransmission: Retransmission::Off },
        device: crate::channel::DeviceRules::default(),
        tolerance: crate::pcd::tolerance::Tolerance::default(),
        destinations: destinations.into_iter().map(Arc::new).collect(),
        summaries: vec![],
        hash: 7,
    })
}

fn destination(name: &str, settings: Settings, plan: Plan) -> channel::Destination {
    channel::Destination {
        name: name.into(),
        settings,
        plan,
        filter: Filter::default(),
        order: Order::Device,
        lanes: 4,
        retry_first: Duration::from_millis(1),
        retry_max: Duration::from_millis(5),
        retry_refused: 0,
        resend_window: std::num::NonZeroUsize::MIN,
        on_reject: OnReject::Park,
    }
}

fn fhir(url: String) -> channel::Destination {
    let plan = PcdToFhir {
        identifier_systems: BTreeMap::from([("GENHOSP".into(), "urn:oid:2.999.1".into())]),
        ..PcdToFhir::new(Nomenclature::built_in())
    };
    let settings = FhirSettings::new(url, Duration::from_secs(20));
    destination("ehr", Settings::Fhir(settings), Plan::PcdToFhir(plan))
}

fn mllp(address: SocketAddr) -> channel::Destination {
    let settings = MllpSettings {
        address: address.to_string(),
        timeout: Duration::from_secs(20),
        awaits_application: false,
        tls: None,
    };
    destination("legacy", Settings::Mllp(settings), Plan::Unchanged)
}

fn script<A: std::str::FromStr<Err = ScriptFault>>(rules: &[&str]) -> Script<A> {
    Script::parse(rules.iter().copied()).unwrap()
}

const DEVICES: u32 = 6;
const EACH: u64 = 10;

fn id(sender: u32, seq: u64) -> MessageId {
    MessageId { run: 0x5eed, sender, seq }
}

fn pump_report(id: MessageId) -> Vec<u8> {
    let MessageId { sender, seq, .. } = id;
    let at = format!("20260115120{:03}+0000", seq);
    format!(
        "MSH|^~\\&|GW^00122100000000{sender:02}^EUI-64|4W|||{at}||ORU^R01^ORU_R01|{id}|P|2.6|||AL|NE\r\
         PID|||1234{sender}^^^GENHOSP^MR\r\
         OBR|1|{id}^GW|{id}^GW|69985^MDC_DEV_PUMP_INFUS_MDS^MDC|||{at}\r\
         OBX|1||69985^MDC_DEV_PUMP_INFUS_MDS^MDC|1.0.0.0|||||||R|||||||00122100000000{sender:02}^^00122100000000{sender:02}^EUI-64\r\
         OBX|2|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|12.50|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R|||{at}\r"
    )
    .into_bytes()
}

async fn take(store: &MemoryStore, channel: &Channel, message: Vec<u8>) {
    let message = Message::parse(message).unwrap();
    let received = Received {
        channel: channel.name.clone(),
        at: jiff::Timestamp::UNIX_EPOCH,
        message: message.bytes().clone(),
        routes: channel.route(&message).unwrap(),
        repeat: None,
        ack: None,
        keys: SearchKeys::default(),
        findings: vec![],
    };
    store.append(received).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_that_misbehave_get_every_message_once_in_order_or_it_is_a_dead_letter() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Its device's tenth message, so that no rule for a request before the tenth can meet it.
    let refused = id(3, 10);
    let by_id = [format!("id={refused}:422"), format!("id={refused}:AE")];
    let faults =
        ["nth=2:503", "nth=3:429:1ms", "nth=4:close", "nth=5:drop-after-commit", "nth=6:500", "nth=7:401", &by_id[0]];
    let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig { script: script(&faults), ..Default::default() });
    let ehr = ehr.await.unwrap();
    let faults = ["nth=2:drop", "nth=4:close", "nth=6:double", "nth=7:split", "nth=8:drop", &by_id[1]];
    let legacy = Sink::start("127.0.0.1:0", SinkConfig { script: script(&faults), ..Default::default() });
    let legacy = legacy.await.unwrap();

    let store = MemoryStore::default();
    let channel = channel(vec![fhir(ehr.url()), mllp(legacy.address())]);
    let delivery = delivery_of(&store);
    delivery.set_channels(std::slice::from_ref(&channel)).await.unwrap();
    for seq in 1..=EACH {
        for device in 1..=DEVICES {
            take(&store, &channel, pump_report(id(device, seq))).await;
        }
        // As often as a person could: nothing may be lost or repeated by it.
        delivery.set_channels(std::slice::from_ref(&channel)).await.unwrap();
    }
    super::peers::until_none_waits(&store, Duration::from_secs(60)).await;
    delivery.drain(Duration::from_secs(20)).await;

    let dead = store.dead(None, None, 100).await.unwrap();
    let mut reasons: Vec<(&str, &str)> = dead.iter().map(|dead| (&*dead.destination, &*dead.reason)).collect();
    reasons.sort_unstable();
    let [(_, ehr_reason), legacy_reason] = reasons[..] else { panic!("{reasons:?}") };
    assert!(ehr_reason.starts_with("422: refused"), "{ehr_reason}");
    assert_eq!(legacy_reason.0, "legacy");
    assert!(legacy_reason.1.starts_with("answered CE"), "{legacy_reason:?}");
    let all = u64::from(DEVICES) * EACH;
    for account in [ehr.account(), legacy.account()] {
        assert_eq!(account.received, all - 1, "{account:?}");
        assert_eq!((account.unnamed, account.noise), (0, 0), "{account:?}");
        assert!(account.shape_faults.is_empty(), "{account:?}");
        for findings in [&account.reordered, &account.changed, &account.duplicated] {
            assert_eq!(findings.count, 0, "{account:?}");
        }
    }
    assert_eq!(ehr.account().repeats, 1, "what was committed and not answered");
    assert_eq!(legacy.account().repeats, 2, "what was taken and not answered");
}

#[tokio::test]
async fn what_a_held_lane_has_delivered_of_a_message_is_not_sent_again_under_other_settings() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No conditions, and nothing to search by: what the lane knows is all there is.
    let config = RecordConfig { ignores_conditions: true, drops_identifiers: true, ..RecordConfig::default() };
    let record = Record::start(config).await.unwrap();
    record.put(serde_json::json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:oid:2.999.1", "value": "12341" }] }));
    record.fault(1, RecordFault::Entry(1, 422));
    let way = |bundle| {
        let mut to = fhir(record.url());
        let Settings::Fhir(settings) = &mut to.settings else { unreachable!() };
        settings.write = Arc::new(WriteSettings {
            idempotency: Idempotency::None,
            bundle,
            patient: PatientMode::Lookup,
            ..WriteSettings::default()
        });
        let Plan::PcdToFhir(plan) = &mut to.plan else { unreachable!() };
        plan.device_detail = crate::translate::DeviceDetail::IdentifierOnly;
        channel(vec![channel::Destination { on_reject: OnReject::Hold, ..to }])
    };
    let store = MemoryStore::default();
    let delivery = delivery_of(&store);
    let first = way(BundleMode::Batch);
    delivery.set_channels(std::slice::from_ref(&first)).await.unwrap();
    let second = "OBX|3|NM|157884^MDC_VOL_FLUID_TBI^MDC|1.1.1.2|50|263762^MDC_DIM_MILLI_L^MDC|||||R\r";
    take(&store, &first, [pump_report(id(1, 1)), second.into()].concat()).await;
    tokio::time::timeout(BOUND, async {
        while delivery.status().iter().all(|status| status.state != "held") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(record.all("Observation").len(), 1);
    delivery.set_channels(&[way(BundleMode::Single)]).await.unwrap();
    super::peers::until_none_waits(&store, Duration::from_secs(20)).await;
    assert_eq!(record.all("Observation").len(), 2, "{:#?}", record.requests());
}

#[tokio::test]
async fn a_reload_keeps_receivers_whose_settings_stay_and_refuses_what_cannot_work_whole() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let delivery = delivery_of(&MemoryStore::default());
    let with_url = |url: &str| channel(vec![fhir(url.into()), mllp("127.0.0.1:1".parse().unwrap())]);
    let receivers = || -> Vec<_> {
        let services = delivery
            .lines()
            .by_key
            .values()
            .map(|line| line.control.borrow().service.clone().unwrap())
            .collect::<Vec<_>>();
        services.into_iter().map(|service| (service.configuration, service.receiver.clone())).collect()
    };
    delivery.set_channels(&[with_url("http://127.0.0.1:1/a")]).await.unwrap();
    let before = receivers();
    delivery.set_channels(&[with_url("http://127.0.0.1:1/b")]).await.unwrap();
    let after = receivers();
    assert!(!Arc::ptr_eq(&before[0].1, &after[0].1), "another URL is another receiver");
    assert!(Arc::ptr_eq(&before[1].1, &after[1].1), "the same settings keep their connections");
    let fault = delivery.set_channels(&[with_url("http://169.254.169.254/")]).await.unwrap_err();
    assert!(fault.contains("channel pumps, destination ehr: url is a link-local address"), "{fault}");
    assert!(Arc::ptr_eq(&after[0].1, &receivers()[0].1), "nothing has changed");
    delivery.drain(BOUND).await;
}
