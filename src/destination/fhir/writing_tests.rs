//! Every way of writing against a record that is read back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use bytes::Bytes;
use mllp_test::fhir_sink::{Record, RecordConfig, RecordFault};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::metrics::Metrics;

const BOUND: Duration = Duration::from_secs(20);

fn uuid(n: u8) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-0000000000{n:02}")
}

fn observation(n: u8, value: &str) -> Value {
    let number: Value = serde_json::from_str(value).unwrap();
    json!({
        "fullUrl": uuid(n),
        "resource": {
            "resourceType": "Observation", "status": "final",
            "identifier": [{ "system": "urn:x", "value": format!("obs-{n}") }],
            "code": { "coding": [{ "system": "urn:mdc", "code": format!("{n}") }] },
            "subject": { "reference": "Patient?identifier=urn:mrn%7C4711" },
            "effectiveDateTime": "2026-03-01T12:00:00+01:00",
            "device": { "reference": uuid(1) },
            "valueQuantity": { "value": number },
        },
        "request": { "method": "POST", "url": "Observation", "ifNoneExist": format!("identifier=urn:x%7Cobs-{n}") },
    })
}

fn bundle() -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        {
            "fullUrl": uuid(1),
            "resource": { "resourceType": "Device", "identifier": [{ "system": "urn:x", "value": "pump" }] },
            "request": { "method": "POST", "url": "Device", "ifNoneExist": "identifier=urn:x%7Cpump" },
        },
        observation(2, "5.60"),
        observation(3, "0.1000000000000000000000001"),
    ] })
}

fn outgoing(bundle: &Value, possible_repeat: bool) -> Outgoing {
    Outgoing {
        id: 41,
        body: Bytes::from(bundle.to_string()),
        format: Format::FhirBundle,
        control_id: Bytes::new(),
        possible_repeat,
    }
}

fn fhir(record: &Record, write: WriteSettings) -> Fhir {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = FhirSettings { write: write.into(), ..FhirSettings::new(record.url(), BOUND) };
    Fhir::new(&settings, &Meter::of(&Metrics::new().unwrap(), "pumps", "ehr")).unwrap()
}

async fn send(sender: &mut Box<dyn Sender>, bundle: &Value, possible_repeat: bool) -> Verdict {
    timeout(BOUND, sender.send(&outgoing(bundle, possible_repeat))).await.unwrap()
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted { .. })
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Rejected { reason } | Verdict::Unavailable { reason, .. } | Verdict::Ambiguous { reason } => {
            assert!(!reason.contains("4711"), "{reason}");
            reason
        }
        Verdict::Accepted { answer } => panic!("accepted: {answer}"),
    }
}

fn patient() -> Value {
    json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:mrn", "value": "4711" }] })
}

/// A record that has the patient.
async fn record(config: RecordConfig) -> Record {
    let record = Record::start(config).await.unwrap();
    record.put(patient());
    record
}

fn write(idempotency: Idempotency, bundle: BundleMode, patient: PatientMode) -> WriteSettings {
    WriteSettings { idempotency, bundle, patient, ..WriteSettings::default() }
}

/// Both observations once, of the patient and the device that are there, digit for digit.
fn assert_right(record: &Record, how: &str) {
    let (observations, devices, patients) = (record.all("Observation"), record.all("Device"), record.all("Patient"));
    let requests = record.requests();
    assert_eq!((observations.len(), devices.len(), patients.len()), (2, 1, 1), "{how}: {requests:#?}");
    let reference = |resource: &Value| {
        format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
    };
    for observation in &observations {
        assert_eq!(observation["subject"]["reference"], reference(&patients[0]), "{how}");
        assert_eq!(observation["device"]["reference"], reference(&devices[0]), "{how}");
    }
    let mut values: Vec<String> = observations.iter().map(|it| it["valueQuantity"]["value"].to_string()).collect();
    values.sort();
    assert_eq!(values, ["0.1000000000000000000000001", "5.60"], "{how}");
}

fn ways() -> Vec<WriteSettings> {
    let mut ways = Vec::new();
    for idempotency in [Idempotency::IfNoneExist, Idempotency::PutId, Idempotency::None] {
        for bundle in [BundleMode::Transaction, BundleMode::Batch, BundleMode::Single] {
            for patient in [PatientMode::Reference, PatientMode::Lookup, PatientMode::ConditionalCreate] {
                if bundle == BundleMode::Transaction || patient != PatientMode::Reference {
                    ways.push(write(idempotency, bundle, patient));
                }
            }
        }
    }
    ways
}

fn needs(write: &WriteSettings) -> RecordConfig {
    RecordConfig { ignores_conditions: write.idempotency == Idempotency::None, ..RecordConfig::default() }
}

#[tokio::test]
async fn in_every_way_a_message_is_in_the_record_once_and_a_repeat_changes_nothing() {
    for way in ways() {
        let how = format!("{way:?}");
        let record = record(needs(&way)).await;
        let fhir = fhir(&record, way);
        for possible_repeat in [false, true] {
            // Another sender each time: what a lane remembers is gone after a restart.
            let verdict = send(&mut fhir.sender(0), &bundle(), possible_repeat).await;
            assert!(is_accepted(&verdict), "{how}: {verdict:?}");
            assert_right(&record, &how);
        }
    }
}

#[tokio::test]
async fn in_every_way_an_answer_that_is_lost_makes_nothing_twice_and_nothing_missing() {
    for way in ways() {
        for nth in 1..=3 {
            for is_restarted in [false, true] {
                let how = format!("{way:?}, write {nth}, restarted: {is_restarted}");
                let record = record(needs(&way)).await;
                record.fault(nth, RecordFault::DropAfterCommit);
                let fhir = fhir(&record, way.clone());
                let mut sender = fhir.sender(0);
                let mut verdict = send(&mut sender, &bundle(), false).await;
                if !is_accepted(&verdict) {
                    assert!(matches!(verdict, Verdict::Ambiguous { .. }), "{how}: {verdict:?}");
                    if is_restarted {
                        sender = fhir.sender(0);
                    }
                    verdict = send(&mut sender, &bundle(), true).await;
                }
                assert!(is_accepted(&verdict), "{how}: {verdict:?}");
                assert_right(&record, &how);
            }
        }
    }
}

#[tokio::test]
async fn what_a_batch_took_is_not_sent_again_and_an_entry_refused_for_good_is_named() {
    // No conditions and no search: only what the lane remembers keeps the first observation from being there twice.
    let way = write(Idempotency::None, BundleMode::Batch, PatientMode::Lookup);
    let record = record(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await;
    record.fault(2, RecordFault::Entry(1, 503));
    let fhir = fhir(&record, way.clone());
    let mut sender = fhir.sender(0);
    let waits = send(&mut sender, &bundle(), false).await;
    assert!(matches!(waits, Verdict::Ambiguous { .. }), "part of it is there: {waits:?}");
    assert!(reason(waits).starts_with("entry[2] (Observation): 503"));
    assert_eq!(record.all("Observation").len(), 1);
    assert!(is_accepted(&send(&mut sender, &bundle(), false).await));
    assert_right(&record, "the rest");

    let record = self::record(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await;
    record.fault(2, RecordFault::Entry(0, 422));
    let fhir = self::fhir(&record, way);
    let mut sender = fhir.sender(0);
    let refused = send(&mut sender, &bundle(), false).await;
    assert!(matches!(refused, Verdict::Rejected { .. }), "{refused:?}");
    let reason = reason(refused);
    assert!(reason.starts_with("entry[1] (Observation): 422") && reason.contains("business-rule"), "{reason}");
    assert!(reason.contains("1 of 3 resources refused"), "{reason}");
    assert_eq!(record.all("Observation").len(), 1, "the other one was taken");
    let mended = send(&mut sender, &bundle(), false).await;
    assert!(is_accepted(&mended), "what was refused once is asked anew: {mended:?}");
    assert_right(&record, "the rest, once it is taken");
}

#[tokio::test]
async fn what_refers_to_a_refused_resource_is_not_written_without_it() {
    let record = record(RecordConfig::default()).await;
    record.fault(1, RecordFault::Status(422));
    let way = write(Idempotency::IfNoneExist, BundleMode::Single, PatientMode::Lookup);
    let refused = reason(send(&mut fhir(&record, way).sender(0), &bundle(), false).await);
    assert!(refused.contains("entry[0] (Device): 422") && refused.contains("refers to entry[0]"), "{refused}");
    assert!(refused.contains("3 of 3"), "{refused}");
    assert_eq!(record.all("Observation").len(), 0);
}

#[tokio::test]
async fn a_patient_who_is_not_there_or_there_twice_makes_a_dead_letter_and_never_an_unlinked_observation() {
    let way = write(Idempotency::IfNoneExist, BundleMode::Transaction, PatientMode::Lookup);
    let record = Record::start(RecordConfig::default()).await.unwrap();
    let fhir = fhir(&record, way);
    let none = send(&mut fhir.sender(0), &bundle(), false).await;
    assert!(matches!(none, Verdict::Rejected { .. }));
    assert!(reason(none).contains("no patient at the server"));
    record.put(patient());
    record.put(patient());
    let several = send(&mut fhir.sender(0), &bundle(), false).await;
    assert!(matches!(several, Verdict::Rejected { .. }));
    assert!(reason(several).contains("2 patients"));
    assert_eq!(record.all("Observation").len(), 0);
}

#[tokio::test]
async fn a_patient_is_searched_once_in_a_while_without_the_identifier_in_a_url() {
    let way = write(Idempotency::IfNoneExist, BundleMode::Transaction, PatientMode::Lookup);
    let record = record(RecordConfig::default()).await;
    let fhir = fhir(&record, way.clone());
    for _ in 0..3 {
        assert!(is_accepted(&send(&mut fhir.sender(0), &bundle(), false).await));
    }
    let searches = || record.requests().into_iter().filter(|it| it.contains("Patient")).collect::<Vec<_>>();
    assert_eq!(searches(), ["POST Patient/_search"]);
    // The patient was merged into another: what is remembered is refused, asked again, and the message taken.
    let new = {
        let old = record.all("Patient")[0].clone();
        record.remove(&format!("Patient/{}", old["id"].as_str().unwrap()));
        record.put(patient())
    };
    let mut other = bundle();
    other["entry"][1]["request"]["ifNoneExist"] = json!("identifier=urn:x%7Cnew");
    other["entry"][1]["resource"]["identifier"][0]["value"] = json!("new");
    let verdict = send(&mut fhir.sender(0), &other, false).await;
    assert!(is_accepted(&verdict), "{verdict:?}");
    assert!(record.all("Observation").iter().any(|it| it["subject"]["reference"] == new));
    assert_eq!(searches().len(), 2);

    let get = WriteSettings { search: SearchMethod::Get, ..way };
    assert!(is_accepted(&send(&mut self::fhir(&record, get).sender(0), &bundle(), false).await));
    assert_eq!(searches().last().unwrap(), "GET Patient?identifier=urn:mrn%7C4711");
}

#[tokio::test]
async fn a_search_that_is_not_answered_leaves_the_message_waiting() {
    let record = record(RecordConfig { refuses_post_search: true, ..RecordConfig::default() }).await;
    let way = write(Idempotency::IfNoneExist, BundleMode::Transaction, PatientMode::Lookup);
    let waits = send(&mut fhir(&record, way).sender(0), &bundle(), false).await;
    assert!(matches!(waits, Verdict::Unavailable { .. }), "{waits:?}");
    assert!(reason(waits).contains("set search = \"get\""));
}

#[tokio::test]
async fn a_repeat_is_found_by_content_where_the_server_keeps_no_identifiers() {
    let way = WriteSettings {
        repeat_search: RepeatSearch::Content,
        ..write(Idempotency::None, BundleMode::Single, PatientMode::Lookup)
    };
    let record = record(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await;
    let fhir = fhir(&record, way);
    let mut without = bundle();
    for n in [1, 2] {
        without["entry"][n]["resource"].as_object_mut().unwrap().remove("identifier");
    }
    for possible_repeat in [false, true] {
        assert!(is_accepted(&send(&mut fhir.sender(0), &without, possible_repeat).await));
    }
    assert_right(&record, "by content");
    // Another value at the same time is another observation.
    without["entry"][1]["resource"]["valueQuantity"]["value"] = json!(7);
    assert!(is_accepted(&send(&mut fhir.sender(0), &without, true).await));
    assert_eq!(record.all("Observation").len(), 3);
    // What it corrects cannot be told without an identifier: no second one beside it.
    let mut correction = without.clone();
    correction["entry"][1]["request"] = json!({ "method": "PUT", "url": "Observation?identifier=urn:x%7Cobs-2" });
    correction["entry"][1]["resource"]["valueQuantity"]["value"] = json!(9);
    let refused = send(&mut fhir.sender(0), &correction, false).await;
    assert!(matches!(refused, Verdict::Rejected { .. }) && reason(refused).contains("by hand"));
    let values = record.all("Observation");
    assert!(values.iter().all(|it| it["valueQuantity"]["value"] != json!(9)), "{values:?}");
}

#[tokio::test]
async fn a_correction_takes_the_place_of_what_it_corrects_in_every_way() {
    for way in ways() {
        let how = format!("{way:?}");
        let record = record(needs(&way)).await;
        let fhir = fhir(&record, way);
        assert!(is_accepted(&send(&mut fhir.sender(0), &bundle(), false).await), "{how}");
        let mut correction = bundle();
        correction["entry"][1]["request"] = json!({ "method": "PUT", "url": "Observation?identifier=urn:x%7Cobs-2" });
        correction["entry"][1]["resource"]["valueQuantity"]["value"] = json!(9);
        correction["entry"].as_array_mut().unwrap().truncate(2);
        let verdict = send(&mut fhir.sender(0), &correction, false).await;
        assert!(is_accepted(&verdict), "{how}: {verdict:?}");
        let values: Vec<String> =
            record.all("Observation").iter().map(|it| it["valueQuantity"]["value"].to_string()).collect();
        assert!(values.len() == 2 && values.contains(&"9".to_owned()), "{how}: {values:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_where_it_put_a_resource_is_asked() {
    let record = record(RecordConfig { hides_locations: true, ..RecordConfig::default() }).await;
    for bundle_mode in [BundleMode::Single, BundleMode::Batch] {
        let way = write(Idempotency::IfNoneExist, bundle_mode, PatientMode::Lookup);
        let verdict = send(&mut fhir(&record, way).sender(0), &bundle(), false).await;
        assert!(is_accepted(&verdict), "{verdict:?}");
        assert_right(&record, "by search");
    }
}

#[tokio::test]
async fn a_wait_that_the_server_asks_of_one_lane_is_kept_by_all() {
    let record = record(RecordConfig::default()).await;
    record.fault(1, RecordFault::Wait(30));
    let fhir = fhir(&record, WriteSettings::default());
    for lane in 0..3 {
        let verdict = send(&mut fhir.sender(lane), &bundle(), false).await;
        let Verdict::Unavailable { retry_after: Some(wait), .. } = verdict else { panic!("{verdict:?}") };
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
    }
    assert_eq!(record.requests().len(), 1);
}

#[tokio::test]
async fn what_a_server_lacks_is_read_from_its_statement() {
    let record = record(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await;
    let lacks = timeout(BOUND, fhir(&record, WriteSettings::default()).lacks()).await.unwrap().unwrap().missing;
    assert!(lacks.len() == 1 && lacks[0].contains("no conditional create"), "{lacks:?}");
    let none = write(Idempotency::None, BundleMode::Transaction, PatientMode::Lookup);
    assert_eq!(timeout(BOUND, fhir(&record, none).lacks()).await.unwrap().unwrap().missing, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_lenient_server_finds_is_nobody_and_the_message_waits() {
    let record = record(RecordConfig { ignores_search: true, ..RecordConfig::default() }).await;
    record.remove(&literal(&record.all("Patient")[0]));
    record.put(json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:mrn", "value": "4712" }] }));
    let way = write(Idempotency::IfNoneExist, BundleMode::Transaction, PatientMode::Lookup);
    let waits = send(&mut fhir(&record, way.clone()).sender(0), &bundle(), false).await;
    assert!(matches!(waits, Verdict::Unavailable { .. }), "{waits:?}");
    assert!(reason(waits).contains("which are not believed: ask who runs it to have identifier searched"));
    assert_eq!(record.all("Observation").len(), 0, "an observation of another patient");
    // The number of another authority is no match, and the server is not to blame.
    let other = json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:other", "value": "4711" }] });
    record.remove(&literal(&record.all("Patient")[0]));
    record.put(other);
    let none = send(&mut fhir(&record, way.clone()).sender(0), &bundle(), false).await;
    assert!(matches!(none, Verdict::Rejected { .. }) && reason(none).contains("no patient at the server"));
    // Among all that it finds there is the right one.
    let right = record.put(patient());
    let taken = send(&mut fhir(&record, way).sender(0), &bundle(), false).await;
    assert!(is_accepted(&taken), "{taken:?}");
    assert!(record.all("Observation").iter().all(|it| it["subject"]["reference"] == right));
}

fn literal(resource: &Value) -> String {
    format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_patient_who_was_merged_into_another_is_the_other() {
    let record = record(RecordConfig::default()).await;
    let survivor = literal(&record.all("Patient")[0]);
    let mut merged = patient();
    merged["active"] = json!(false);
    merged["link"] =
        json!([{ "type": "replaced-by", "other": { "reference": format!("http://ehr/fhir/{survivor}") } }]);
    record.put(merged);
    let way = write(Idempotency::IfNoneExist, BundleMode::Transaction, PatientMode::Lookup);
    let verdict = send(&mut fhir(&record, way).sender(0), &bundle(), false).await;
    assert!(is_accepted(&verdict), "{verdict:?}");
    assert!(record.all("Observation").iter().all(|it| it["subject"]["reference"] == survivor));
}

#[tokio::test]
async fn what_was_taken_without_a_word_of_where_is_never_sent_again() {
    for bundle_mode in [BundleMode::Single, BundleMode::Batch] {
        let config = RecordConfig {
            ignores_conditions: true,
            hides_locations: true,
            drops_identifiers: true,
            ..RecordConfig::default()
        };
        let record = record(config).await;
        let fhir = fhir(&record, write(Idempotency::None, bundle_mode, PatientMode::Lookup));
        let mut sender = fhir.sender(0);
        let mut verdict = send(&mut sender, &bundle(), false).await;
        for _ in 1..5 {
            assert!(matches!(verdict, Verdict::Ambiguous { .. }), "{bundle_mode:?}: {verdict:?}");
            assert_eq!(record.all("Device").len(), 1, "{bundle_mode:?}: the device is there twice");
            verdict = send(&mut sender, &bundle(), true).await;
        }
        assert!(matches!(verdict, Verdict::Rejected { .. }), "{bundle_mode:?}: {verdict:?}");
        let reason = reason(verdict);
        assert!(reason.contains("by a Location") && reason.contains("device_detail = \"identifier-only\""), "{reason}");
        assert_eq!((record.all("Device").len(), record.all("Observation").len()), (1, 0));
    }
}

#[tokio::test]
async fn two_channels_of_one_code_time_and_value_are_two_when_searched_by_content() {
    let way = WriteSettings {
        repeat_search: RepeatSearch::Content,
        ..write(Idempotency::None, BundleMode::Single, PatientMode::Lookup)
    };
    for (fault, is_restarted) in [(RecordFault::DropAfterCommit, true), (RecordFault::Status(503), false)] {
        let config = RecordConfig { ignores_conditions: true, drops_identifiers: true, ..RecordConfig::default() };
        let record = record(config).await;
        let mut two = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [observation(2, "5.60"), observation(3, "5.60")] });
        for n in [0, 1] {
            let resource = &mut two["entry"][n]["resource"];
            resource["code"]["coding"][0]["code"] = json!("flow");
            resource["device"] = json!({ "display": "pump" });
        }
        // The first is taken; of the other nothing is known, or it must wait.
        record.fault(if is_restarted { 1 } else { 2 }, fault);
        let fhir = fhir(&record, way.clone());
        let mut sender = fhir.sender(0);
        let verdict = send(&mut sender, &two, false).await;
        assert!(matches!(verdict, Verdict::Ambiguous { .. }), "{fault:?}: {verdict:?}");
        if is_restarted {
            sender = fhir.sender(0);
        }
        let verdict = send(&mut sender, &two, true).await;
        assert!(is_accepted(&verdict), "{fault:?}: {verdict:?}");
        assert_eq!(record.all("Observation").len(), 2, "{fault:?}");
        assert!(is_accepted(&send(&mut fhir.sender(0), &two, true).await));
        assert_eq!(record.all("Observation").len(), 2, "{fault:?}: a repeat adds none");
    }
}

#[tokio::test]
async fn an_entry_of_a_batch_that_the_server_has_no_place_for_is_a_dead_letter_and_not_a_lane_that_stands() {
    let record = record(RecordConfig::default()).await;
    record.fault(2, RecordFault::BareEntry(1, 404));
    let way = write(Idempotency::IfNoneExist, BundleMode::Batch, PatientMode::Lookup);
    let refused =
        send(&mut fhir(&record, WriteSettings { cache_ttl: Duration::ZERO, ..way }).sender(0), &bundle(), false).await;
    assert!(matches!(refused, Verdict::Rejected { .. }), "{refused:?}");
    let reason = reason(refused);
    assert!(
        reason.starts_with("entry[2] (Observation): 404: refused; ") && reason.contains("registered there"),
        "{reason}"
    );
    assert_eq!(record.all("Observation").len(), 1);
}

#[tokio::test]
async fn a_sender_in_the_place_of_another_goes_on_where_it_ended_at_the_same_server_alone() {
    let config = || RecordConfig { ignores_conditions: true, ..RecordConfig::default() };
    let first = record(config()).await;
    first.fault(2, RecordFault::Entry(1, 422));
    let way = write(Idempotency::None, BundleMode::Batch, PatientMode::Lookup);
    let mut before = fhir(&first, way.clone()).sender(0);
    assert!(before.taken().is_none());
    assert!(matches!(send(&mut before, &bundle(), false).await, Verdict::Rejected { .. }));
    let taken = before.taken().expect("a device and an observation");
    let single = WriteSettings { bundle: BundleMode::Single, ..way };
    let mut after = fhir(&first, single.clone()).sender(0);
    after.go_on(taken.clone());
    assert!(is_accepted(&send(&mut after, &bundle(), false).await));
    assert_right(&first, "the rest, in another way");
    // What comes next has nothing to do with it, in whatever way it is written.
    let transactions = record(RecordConfig::default()).await;
    let mut whole = fhir(&transactions, WriteSettings::default()).sender(0);
    whole.go_on(Taken { receiver: transactions.url(), id: 40, ..taken.clone() });
    assert!(whole.taken().is_some());
    assert!(is_accepted(&send(&mut whole, &bundle(), false).await));
    assert!(whole.taken().is_none(), "of the message before");
    let other = record(config()).await;
    let mut elsewhere = fhir(&other, single).sender(0);
    elsewhere.go_on(taken);
    assert!(is_accepted(&send(&mut elsewhere, &bundle(), false).await));
    assert_right(&other, "all of it, at another server");
}

#[tokio::test]
async fn a_conflict_over_one_resource_does_not_count_for_another() {
    let way = write(Idempotency::IfNoneExist, BundleMode::Single, PatientMode::Lookup);
    let record = record(RecordConfig::default()).await;
    record.fault(2, RecordFault::Status(409));
    record.fault(4, RecordFault::Status(409));
    let fhir = fhir(&record, way);
    let mut sender = fhir.sender(0);
    for place in [1, 2] {
        let waits = send(&mut sender, &bundle(), false).await;
        assert!(matches!(waits, Verdict::Ambiguous { .. }), "{waits:?}");
        assert!(reason(waits).starts_with(&format!("entry[{place}] (Observation): 409")));
    }
    assert!(is_accepted(&send(&mut sender, &bundle(), false).await));
    assert_right(&record, "after two conflicts");
}

#[tokio::test]
async fn a_device_that_is_written_once_is_not_put_with_each_message_unless_the_server_lost_it() {
    for mode in [BundleMode::Transaction, BundleMode::Single] {
        let record = record(RecordConfig::default()).await;
        let fhir = fhir(&record, write(Idempotency::PutId, mode, PatientMode::Lookup));
        let put = || record.requests().iter().filter(|it| it.starts_with("PUT Device")).count();
        let mut sender = fhir.sender(0);
        let message = |n: u8| {
            let mut other = bundle();
            other["entry"][1] = observation(n, "5.60");
            Outgoing { id: n.into(), ..outgoing(&other, false) }
        };
        for n in [2, 4, 5] {
            let verdict = timeout(BOUND, sender.send(&message(n))).await.unwrap();
            assert!(is_accepted(&verdict), "{verdict:?}");
        }
        if mode == BundleMode::Single {
            assert_eq!(put(), 1, "{:?}", record.requests());
        }
        let device = record.all("Device")[0].clone();
        let written = device["meta"]["versionId"].clone();
        assert!(written.is_null() || written == "1", "{device}");
        record.remove(&format!("Device/{}", device["id"].as_str().unwrap()));
        let verdict = timeout(BOUND, sender.send(&message(6))).await.unwrap();
        assert!(is_accepted(&verdict), "{verdict:?}");
        assert_eq!(record.all("Device").len(), 1, "it is there again");
    }
}

#[tokio::test]
async fn a_preliminary_result_that_comes_late_does_not_take_the_place_of_its_final_one() {
    let record = record(RecordConfig::default()).await;
    let fhir = fhir(&record, write(Idempotency::PutId, BundleMode::Transaction, PatientMode::Reference));
    let mut sender = fhir.sender(0);
    let with = |status: &str| {
        let mut bundle = bundle();
        bundle["entry"][1]["resource"]["status"] = json!(status);
        bundle
    };
    let status = || {
        let all = record.all("Observation");
        let one = all.iter().find(|it| it["identifier"][0]["value"] == "obs-2").unwrap();
        one["status"].as_str().unwrap().to_owned()
    };
    assert!(is_accepted(&send(&mut sender, &with("preliminary"), true).await));
    assert_eq!(status(), "preliminary", "the first one, and it is not there yet");
    assert!(is_accepted(&send(&mut sender, &with("final"), false).await));
    for possible_repeat in [true, false] {
        let late = send(&mut sender, &with("preliminary"), possible_repeat).await;
        assert!(is_accepted(&late), "{late:?}");
        assert_eq!(status(), "final", "possible repeat: {possible_repeat}");
    }
}
