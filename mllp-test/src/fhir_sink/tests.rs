#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::account::{Account, Route, SenderBook};
use crate::id::{Kind, MessageId};
use crate::v2::Ack;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(30);

fn id(seq: u64) -> MessageId {
    MessageId { run: 0xf1, sender: 3, seq }
}

/// The Bundle an engine could make of message `seq`.
fn bundle(seq: u64) -> Value {
    let observation = |metric: u32| {
        json!({
            "fullUrl": format!("urn:uuid:00000000-0000-4000-8000-{metric:012}"),
            "resource": { "resourceType": "Observation", "status": "final" },
            "request": { "method": "POST", "url": "Observation",
                "ifNoneExist": format!("identifier=urn:cannula%7C{}-{metric}", id(seq)) },
        })
    };
    let device = json!({
        "resource": { "resourceType": "Device" },
        "request": { "method": "PUT", "url": "Device?identifier=urn:oid:1.2%7C0A00A1FFFE000001" },
    });
    json!({
        "resourceType": "Bundle", "type": "transaction",
        "identifier": { "system": "urn:gateway", "value": id(seq).to_string() },
        "entry": [observation(1), observation(2), device],
    })
}

async fn sink(rules: &[&str]) -> FhirSink {
    let config = FhirSinkConfig { script: Script::parse(rules.iter().copied()).unwrap(), ..FhirSinkConfig::default() };
    FhirSink::start("127.0.0.1:0", config).await.unwrap()
}

/// Status, headers as text, and body; or what went wrong.
async fn try_post(sink: &FhirSink, body: &str) -> Result<(u16, String, Value), String> {
    let work = async {
        let mut stream = TcpStream::connect(sink.address()).await.map_err(|fault| fault.to_string())?;
        let head =
            format!("POST /fhir HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).await.map_err(|fault| fault.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|fault| fault.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default()))
    };
    timeout(BOUND, work).await.expect("no end within the bound")
}

async fn post(sink: &FhirSink, bundle: &Value) -> (u16, String, Value) {
    try_post(sink, &bundle.to_string()).await.unwrap()
}

fn statuses(answer: &Value) -> Vec<&str> {
    answer["entry"].as_array().unwrap().iter().map(|entry| entry["response"]["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_repeat_makes_nothing_new_and_is_counted_as_repeat() {
    let sink = sink(&[]).await;
    let (status, head, answer) = post(&sink, &bundle(1)).await;
    assert_eq!((status, answer["type"].as_str()), (200, Some("transaction-response")));
    assert!(head.contains("content-type: application/fhir+json"), "{head}");
    assert_eq!(statuses(&answer), ["201 Created", "201 Created", "201 Created"]);
    assert_eq!(statuses(&post(&sink, &bundle(2)).await.2), ["201 Created", "201 Created", "200 OK"]);
    assert_eq!(statuses(&post(&sink, &bundle(1)).await.2), ["200 OK", "200 OK", "200 OK"]);
    let account = sink.account();
    assert_eq!((account.received, account.repeats, account.duplicated.count), (2, 1, 0));
    assert_eq!((account.resources["Observation created"], account.resources["Observation found"]), (4, 2));
    assert_eq!(account.reordered.count, 0);
}

#[tokio::test]
async fn a_repeat_without_identity_is_a_duplicate_in_the_record() {
    let sink = sink(&[]).await;
    let mut bundle = bundle(1);
    bundle["entry"][0]["request"].as_object_mut().unwrap().remove("ifNoneExist");
    post(&sink, &bundle).await;
    post(&sink, &bundle).await;
    assert_eq!(sink.account().duplicated.first, [id(1)]);
}

#[tokio::test]
async fn a_forgotten_identity_is_made_again_so_memory_stays_bounded() {
    let config = FhirSinkConfig { identities_max: 3, ..FhirSinkConfig::default() };
    let sink = FhirSink::start("127.0.0.1:0", config).await.unwrap();
    post(&sink, &bundle(1)).await;
    post(&sink, &bundle(2)).await;
    assert_eq!(statuses(&post(&sink, &bundle(1)).await.2)[0], "201 Created");
}

#[tokio::test]
async fn the_message_is_found_by_provenance_or_source_where_the_bundle_has_no_identifier() {
    let sink = sink(&[]).await;
    let mut by_provenance = bundle(1);
    by_provenance["identifier"] = json!({ "value": "not-an-id" });
    let entity = json!([{ "role": "source", "what": { "identifier": { "value": format!("GW#{}", id(7)) } } }]);
    by_provenance["entry"].as_array_mut().unwrap().push(json!({
        "resource": { "resourceType": "Provenance", "entity": entity, "activity": { "text": "ORU^R42^ORU_R01" } },
        "request": { "method": "POST", "url": "Provenance" },
    }));
    post(&sink, &by_provenance).await;
    let mut by_source = bundle(2);
    by_source.as_object_mut().unwrap().remove("identifier");
    by_source["entry"][1]["resource"]["meta"] = json!({ "source": format!("urn:gw#{}", id(8)) });
    post(&sink, &by_source).await;
    assert_eq!(sink.account().taken().collect::<Vec<_>>(), [id(7), id(8)]);
    by_source["entry"][1]["resource"]["meta"] = json!({});
    post(&sink, &by_source).await;
    assert_eq!(sink.account().unnamed, 1);
}

#[tokio::test]
async fn what_is_no_sound_transaction_is_refused_whole() {
    let sink = sink(&[]).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = bundle(1);
        change(&mut bundle);
        bundle
    };
    let same_identity = bundle(1)["entry"][0]["request"]["ifNoneExist"].clone();
    let reference = json!({ "reference": "urn:uuid:00000000-0000-4000-8000-999999999999" });
    let unsound = [
        with(&|bundle| bundle["resourceType"] = "Observation".into()),
        with(&|bundle| bundle["type"] = "batch".into()),
        with(&|bundle| bundle["entry"] = json!([])),
        with(&|bundle| bundle["entry"][0]["request"] = json!({ "method": "POST" })),
        with(&|bundle| bundle["entry"][0]["request"]["method"] = "DELETE".into()),
        with(&|bundle| bundle["entry"][0]["resource"] = json!({})),
        with(&|bundle| bundle["entry"][0]["request"]["url"] = "Device".into()),
        with(&|bundle| bundle["entry"][1]["request"]["ifNoneExist"] = same_identity.clone()),
        with(&|bundle| bundle["entry"][1]["request"]["ifNoneExist"] = "identifier=a|b".into()),
        with(&|bundle| bundle["entry"][1]["fullUrl"] = bundle["entry"][0]["fullUrl"].clone()),
        with(&|bundle| bundle["entry"][1]["resource"]["device"] = reference.clone()),
    ];
    for bundle in &unsound {
        let (status, _, answer) = post(&sink, bundle).await;
        assert_eq!((status, answer["resourceType"].as_str()), (400, Some("OperationOutcome")), "{bundle}");
    }
    assert_eq!(try_post(&sink, "{").await.unwrap().0, 400);
    let account = sink.account();
    assert_eq!((account.received, account.shape_faults.len(), account.resources.len()), (0, unsound.len() + 1, 0));
}

#[tokio::test]
async fn scripted_refusals_commit_nothing() {
    let rules = ["nth=1:429:2s", "nth=2:503", "nth=3:422", "nth=4:500", "nth=5:close"];
    let sink = sink(&rules).await;
    let (status, head, _) = post(&sink, &bundle(1)).await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: 2"), "{head}");
    assert_eq!(post(&sink, &bundle(1)).await.0, 503);
    let (status, _, outcome) = post(&sink, &bundle(1)).await;
    assert_eq!((status, outcome["issue"][0]["expression"][0].as_str()), (422, Some("Bundle.entry[0]")));
    assert_eq!(post(&sink, &bundle(1)).await.0, 500);
    assert!(try_post(&sink, &bundle(1).to_string()).await.is_err(), "the connection was to be cut");
    assert_eq!(sink.account().received, 0);
    assert_eq!(post(&sink, &bundle(1)).await.0, 200);
    assert_eq!((sink.account().received, sink.account().refused), (1, 4));
}

#[tokio::test]
async fn dropped_after_commit_the_repeat_finds_everything_there() {
    let sink = sink(&["nth=1:drop-after-commit", "nth=2:slow:5ms", "nth=2:late:5ms"]).await;
    assert!(try_post(&sink, &bundle(1).to_string()).await.is_err());
    assert_eq!(sink.account().received, 1);
    assert_eq!(statuses(&post(&sink, &bundle(1)).await.2), ["200 OK", "200 OK", "200 OK"]);
}

#[tokio::test]
async fn an_outage_keeps_port_and_account() {
    let sink = sink(&["nth=1:late:1h"]).await;
    let hanging = bundle(1).to_string();
    let waiting = try_post(&sink, &hanging);
    let cut = async {
        timeout(BOUND, async {
            while sink.received() == 0 {
                tokio::task::yield_now().await
            }
        })
        .await
        .unwrap();
        timeout(BOUND, sink.down()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, cut);
    assert!(answer.is_err(), "{answer:?}");
    assert!(try_post(&sink, &bundle(2).to_string()).await.is_err(), "something still listens");
    sink.up().await.unwrap();
    post(&sink, &bundle(2)).await;
    assert_eq!(sink.account().received, 2);
}

#[tokio::test]
async fn a_loss_on_the_way_to_fhir_is_found() {
    let sink = sink(&["nth=2:422"]).await;
    let book = SenderBook::open(None).unwrap();
    for seq in 1..=3 {
        book.sent(id(seq), Kind::R01, b"");
        book.answered(id(seq), &Ack { code: "CA".into(), control_id: Vec::new(), errors: Vec::new() }, Duration::ZERO);
        post(&sink, &bundle(seq)).await;
    }
    let account = Account::join(&book.account(), [Route::all("ehr", &sink.account())]);
    assert_eq!(account.destinations[0].lost.first, [id(2)]);
}

#[tokio::test]
async fn an_answer_of_no_use_is_given_to_what_was_committed() {
    let sink = sink(&["nth=1:partial", "nth=2:not-fhir", "nth=3:torn-body"]).await;
    let (_, _, partial) = post(&sink, &bundle(1)).await;
    assert_eq!(statuses(&partial), ["201 Created", "201 Created", "503 Service Unavailable"]);
    let (status, head, page) = post(&sink, &bundle(2)).await;
    assert_eq!((status, page), (200, Value::Null));
    assert!(head.contains("text/html"), "{head}");
    let (status, head, torn) = post(&sink, &bundle(3)).await;
    assert_eq!((status, torn), (200, Value::Null));
    assert!(head.contains("fhir+json"), "{head}");
    assert_eq!((sink.account().received, sink.treated()), (3, 3));
}

#[tokio::test]
async fn a_slow_and_a_huge_body_say_at_once_that_they_come() {
    for (rule, length) in [("huge-body", Some(100_000_000)), ("slow-body", None)] {
        let sink = sink(&[rule]).await;
        let body = bundle(1).to_string();
        let mut stream = TcpStream::connect(sink.address()).await.unwrap();
        let head = format!("POST /fhir HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") && (length.is_some() || answer.len() < 3) {
            timeout(BOUND, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        }
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        match length {
            Some(length) => assert!(answer.contains(&format!("content-length: {length}")), "{answer}"),
            None => assert!(answer.starts_with("htt") && answer.len() < 20, "it came at once: {answer}"),
        }
        assert_eq!(sink.account().received, 1);
    }
}

#[tokio::test]
async fn a_refused_entry_and_a_redirect_commit_nothing() {
    let sink = sink(&["nth=1:refuse-entry", "nth=2:307", "nth=2:slow:1ms"]).await;
    assert_eq!(statuses(&post(&sink, &bundle(1)).await.2), ["422 Unprocessable Content"]);
    let (status, head, _) = post(&sink, &bundle(2)).await;
    assert_eq!(status, 307);
    assert!(head.contains("location: http://127.0.0.1:9/"), "{head}");
    let account = sink.account();
    assert_eq!((account.received, account.refused), (0, 2));
    assert!(account.was_refused(id(1)), "that one was refused for good");
    assert!(!account.was_refused(id(2)), "that one may come again and in order");
}

#[tokio::test]
async fn another_script_is_followed_from_its_first_request_on() {
    let sink = sink(&["500"]).await;
    assert_eq!(post(&sink, &bundle(1)).await.0, 500);
    sink.follow(Script::parse(["nth=2:503"]).unwrap());
    assert_eq!(post(&sink, &bundle(1)).await.0, 200);
    assert_eq!(post(&sink, &bundle(2)).await.0, 503);
    assert_eq!(sink.treated(), 2);
}

#[tokio::test]
async fn a_record_keeps_what_it_has_over_an_outage_takes_doses_and_asks_for_a_login() {
    let login = LoginConfig {
        client_id: "gw".to_owned(),
        jwks: json!({ "keys": [] }),
        secret: Some("s".to_owned()),
        scopes: Vec::new(),
        token_life: BOUND,
        told_life: None,
        https: false,
    };
    let record = Record::listen("127.0.0.1:0", RecordConfig::default(), Some(login), &[]).await.unwrap();
    let address = record.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let ask = async |head: &str, body: &str| {
        let mut stream = TcpStream::connect(&address).await?;
        let length = body.len();
        let text = format!("{head} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n");
        stream.write_all(text.as_bytes()).await?;
        let kind = if body.starts_with('{') { "application/fhir+json" } else { "application/x-www-form-urlencoded" };
        stream.write_all(format!("Content-Type: {kind}\r\n\r\n{body}").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<String, std::io::Error>(answer)
    };
    let bounded = async |head: &str, body: &str| timeout(BOUND, ask(head, body)).await.unwrap();
    let dose = r#"{"resourceType":"MedicationAdministration","status":"completed"}"#;
    assert!(bounded("POST /fhir/MedicationAdministration", dose).await.unwrap().starts_with("HTTP/1.1 401"));
    let form = "grant_type=client_credentials&client_id=gw&client_secret=s";
    let token = bounded("POST /token", form).await.unwrap();
    let token: Value = serde_json::from_str(token.split_once("\r\n\r\n").unwrap().1).unwrap();
    let bearer = format!("HTTP/1.1\r\nAuthorization: Bearer {}\r\nX: y", token["access_token"].as_str().unwrap());
    let written = bounded(&format!("POST /fhir/MedicationAdministration {bearer}"), dose).await.unwrap();
    assert!(written.starts_with("HTTP/1.1 201"), "{written}");
    assert!(bounded("GET /fhir/metadata", "").await.unwrap().contains("\"MedicationAdministration\""));
    record.down().await;
    assert!(bounded("GET /fhir/metadata", "").await.is_err(), "nothing listens");
    record.up().await.unwrap();
    assert_eq!(record.counts()["MedicationAdministration"], 1);
    assert!(bounded("GET /fhir/metadata", "").await.is_ok());
}

#[tokio::test]
async fn a_record_refuses_what_it_does_not_search_by_rather_than_find_nothing() {
    let record = Record::start(RecordConfig::default()).await.unwrap();
    record.put(json!({ "resourceType": "Patient", "identifier": [{ "system": "urn:mrn", "value": "4711" }] }));
    let address = record.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let status = async |query: &str| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!("GET /fhir/Patient?{query} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().to_owned(), answer.contains("4711"))
    };
    let found = timeout(BOUND, status("identifier=urn:mrn%7C4711")).await.unwrap();
    assert_eq!(found, ("200".to_owned(), true));
    let refused = timeout(BOUND, status("identifer=urn:mrn%7C4711")).await.unwrap();
    assert_eq!(refused, ("400".to_owned(), false));
}
