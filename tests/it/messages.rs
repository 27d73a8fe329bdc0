//! Real messages over MLLP: every one is answered as it asked, none harms its connection, PCD-01 ones become Bundles.

use std::{fs, time::Duration};

use mllp_test::{
    FhirSink, FhirSinkConfig,
    send::{Client, NoAnswer},
    v2,
};

use crate::engine::{Site, real_messages};

const GOOD: &str = "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|GOOD-NUMBER|P|2.6|||AL|NE\rPID|||1^^^H^MR\rOBR|1||1|1^X^MDC|||20260105101112+0000\r";
/// No answer was asked for, so none may come within this time.
const SILENCE: Duration = Duration::from_millis(300);

fn takes_everything(ehr: &FhirSink) -> String {
    format!(
        r#"
[listener]
address = "LISTENER"
processing_ids = ["P", "T", "D"]
charset_default = "8859/1"

[[destination]]
name = "ehr"
type = "fhir"
url = "{}"
translate = "pcd-to-fhir"
where = {{ "MSH-9" = "ORU^R01", "MSH-21.3" = "1.3.6.1.4.1.19376.1.6.1.1.1" }}
[destination.fhir]

default_offset = "+01:00"
"#,
        ehr.url()
    )
}

/// What a sender asked for in MSH-15 and MSH-16: original mode and AL or ER answer a fault, and NE is silence.
fn answers_wanted(message: &[u8]) -> bool {
    let field = |n| v2::field(message, "MSH", n).unwrap_or_default();
    let silent = |raw: &[u8]| raw == b"NE";
    let is_ack = field(9).starts_with(b"ACK");
    let enhanced = !field(15).is_empty() || !field(16).is_empty();
    !is_ack && !(enhanced && (silent(field(15)) || field(15).is_empty()) && (silent(field(16)) || field(16).is_empty()))
}

/// Whether the header and the segment lines are such that a message must be refused, by the plainest reading of them.
fn refusal_due(message: &[u8]) -> bool {
    let lines: Vec<&[u8]> =
        message.split(|b| matches!(b, b'\r' | b'\n')).filter(|line| !line.trim_ascii().is_empty()).collect();
    let separator = lines[0].get(3).copied().unwrap_or_default();
    let fields: Vec<&[u8]> = lines[0].split(|b| *b == separator).collect();
    let field = |n: usize| fields.get(n - 1).copied().unwrap_or_default();
    let first = |n| field(n).split(|b| *b == b'^').next().unwrap_or_default();
    let doubled = field(2).iter().enumerate().any(|(at, b)| field(2)[..at].contains(b));
    let versions =
        ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", "2.9"];
    let is_segment = |line: &&[u8]| {
        line.len() >= 3
            && line[..3].iter().all(u8::is_ascii_alphanumeric)
            && line.get(3).is_none_or(|b| *b == separator)
    };
    !lines[0].starts_with(b"MSH")
        || doubled
        || lines[1..].iter().any(|line| line.starts_with(b"MSH") || !is_segment(line))
        || field(9).is_empty()
        || field(10).is_empty()
        || ![&b"P"[..], b"T", b"D"].contains(&first(11))
        || !versions.iter().any(|version| version.as_bytes() == first(12))
}

async fn connect(site: &Site) -> Client {
    Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_real_message_is_answered_as_it_asked_and_harms_nothing() {
    let Some(folder) = real_messages() else { return };
    let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("all", &takes_everything(&ehr))]);
    site.start();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "hl7"));
    files.sort();
    assert!(files.len() > 50, "the messages are not all there");
    let (mut client, mut taken, mut refused) = (connect(&site).await, 0, Vec::new());
    for (number, file) in files.iter().enumerate() {
        let (name, message) = (file.file_name().unwrap().to_string_lossy(), fs::read(file).unwrap());
        client.send_bytes(&[b"\x0b", &message[..], b"\x1c\r"].concat()).await.unwrap();
        let good = GOOD.replace("NUMBER", &number.to_string());
        if answers_wanted(&message) {
            let answer = client.answer().await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(answer.is_positive(), !refusal_due(&message), "{name} was answered {}", answer.code);
            match answer.is_positive() {
                true => taken += 1,
                false => refused.push(format!("{name}: {}", answer.code)),
            }
        }
        let after = client.send(good.as_bytes()).await.unwrap_or_else(|error| panic!("after {name}: {error}"));
        assert_eq!(after.control_id, format!("GOOD-{number}").as_bytes(), "after {name} the answers are one off");
        assert!(after.is_positive(), "after {name}");
    }
    println!("{taken} taken, {} refused:\n{}", refused.len(), refused.join("\n"));
    for pcd in ["pcd01", "pcd04", "pcd10"] {
        assert!(!refused.iter().any(|line| line.contains(pcd)), "a device's message was refused: {refused:?}");
    }
    assert!(taken > refused.len() && taken + refused.len() + 10 > files.len(), "{taken} taken, {refused:?}");
    tokio::task::block_in_place(|| site.drained());
    let dead = site.json("/api/dead");
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(0), "a PCD-01 message has no Bundle: {dead}");
    assert!(ehr.account().received + ehr.account().unnamed >= 2, "no Bundle arrived: {}", ehr.account());
    assert!(!site.log().contains("panic"), "{}", site.log());
}

#[tokio::test]
async fn silence_is_kept_where_no_answer_was_asked_for() {
    let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("all", &takes_everything(&ehr))]);
    site.start();
    let quiet = GOOD.replace("|AL|NE", "|NE|NE");
    let mut client = Client::connect(&site.listener.to_string(), SILENCE).await.unwrap();
    assert!(matches!(client.send(quiet.as_bytes()).await, Err(NoAnswer::Timeout(_))));
    let stored = site.json("/api/messages?control_id=GOOD-NUMBER");
    assert_eq!(stored["items"].as_array().map(Vec::len), Some(1), "{stored}");
}
