#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, os::unix::fs::PermissionsExt};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

fn outgoing(id: u64, body: &'static [u8], format: Format) -> Outgoing {
    Outgoing { id, body: Bytes::from_static(body), format, control_id: Bytes::new(), possible_repeat: false }
}

fn hl7(id: u64, body: &'static [u8]) -> Outgoing {
    outgoing(id, body, Format::Hl7)
}

fn directory(at: &TempDir, layout: FileLayout) -> Directory {
    Directory::new(&FileSettings { directory: at.path().to_owned(), layout })
}

fn names(at: &TempDir) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(at.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn lines(at: &TempDir) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(at.path().join("messages.ndjson")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_message_is_one_whole_file_named_by_its_id_alone() {
    let at = TempDir::new().unwrap();
    let mut sender = directory(&at, FileLayout::PerMessage).sender(0);
    assert_eq!(sender.send(&hl7(123, b"MSH|1")).await, Verdict::Accepted { answer: "000000000123.hl7".into() });
    sender.send(&outgoing(124, b"{}", Format::FhirBundle)).await;
    assert_eq!(names(&at), ["000000000123.hl7", "000000000124.json"]);
    let file = at.path().join("000000000123.hl7");
    assert_eq!(fs::read(&file).unwrap(), b"MSH|1");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o007, 0, "nothing for others");
}

#[tokio::test]
async fn a_repeat_after_a_crash_replaces_the_file_and_what_was_left_aside() {
    let at = TempDir::new().unwrap();
    fs::write(at.path().join(".000000000123.hl7.tmp"), "MSH|half and much longer").unwrap();
    let mut sender = directory(&at, FileLayout::PerMessage).sender(0);
    for _ in 0..2 {
        sender.send(&hl7(123, b"MSH|1")).await;
    }
    assert_eq!(names(&at), ["000000000123.hl7"]);
    assert_eq!(fs::read(at.path().join("000000000123.hl7")).unwrap(), b"MSH|1");
}

#[tokio::test]
async fn a_missing_directory_is_unavailable_and_not_made() {
    let at = TempDir::new().unwrap();
    let absent = at.path().join("mount");
    for layout in [FileLayout::PerMessage, FileLayout::Ndjson] {
        let mut sender = Directory::new(&FileSettings { directory: absent.clone(), layout }).sender(0);
        let verdict = sender.send(&hl7(1, b"MSH|1")).await;
        let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
        assert!(reason.contains("mount or create"), "{reason}");
        assert!(!absent.exists());
    }
    fs::create_dir(&absent).unwrap();
    let mut sender = Directory::new(&FileSettings { directory: absent, layout: FileLayout::Ndjson }).sender(0);
    assert!(matches!(sender.send(&hl7(1, b"MSH|1")).await, Verdict::Accepted { .. }));
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_leaves_nothing_half_written() {
    // /dev/full takes no byte.
    let at = TempDir::new().unwrap();
    std::os::unix::fs::symlink("/dev/full", at.path().join(".000000000001.hl7.tmp")).unwrap();
    let mut sender = directory(&at, FileLayout::PerMessage).sender(0);
    let verdict = sender.send(&hl7(1, b"MSH|1")).await;
    let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("free space"), "{reason}");
    assert_eq!(names(&at), Vec::<String>::new());
}

#[tokio::test]
async fn an_ndjson_line_holds_the_message_unchanged() {
    let at = TempDir::new().unwrap();
    let mut sender = directory(&at, FileLayout::Ndjson).sender(0);
    sender.send(&hl7(1, b"MSH|^~\\&|A\rPID|\"x\"\r")).await;
    sender.send(&hl7(2, b"MSH|\xE9")).await;
    sender.send(&outgoing(3, br#"{"b":5.60,"a":[1]}"#, Format::FhirBundle)).await;
    let again = Outgoing { possible_repeat: true, ..hl7(2, b"MSH|\xE9") };
    sender.send(&again).await;
    let lines = lines(&at);
    assert_eq!(lines[0]["message"], "MSH|^~\\&|A\rPID|\"x\"\r");
    assert_eq!(lines[1]["message_base64"], "TVNIfOk=");
    assert_eq!(lines[2]["message"].to_string(), r#"{"b":5.60,"a":[1]}"#, "digits and order as sent");
    assert_eq!(lines[3]["possible_repeat"], true);
}

#[tokio::test]
async fn a_half_line_left_by_a_crash_is_cut_and_the_next_begins_a_line() {
    for torn in ["{\"id\":1}\n{\"id\":2,\"mess", "{\"id\":1}\n"] {
        let at = TempDir::new().unwrap();
        fs::write(at.path().join("messages.ndjson"), torn).unwrap();
        directory(&at, FileLayout::Ndjson).sender(0).send(&hl7(2, b"MSH|2")).await;
        let ids: Vec<u64> = lines(&at).iter().map(|line| line["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, [1, 2], "after {torn:?}");
    }
}

#[test]
fn a_half_line_longer_than_a_block_is_cut_too() {
    for whole in [0, 1, 8191, 8192, 8193] {
        let at = TempDir::new().unwrap();
        let mut text = "x".repeat(whole);
        if whole > 0 {
            text.push('\n');
        }
        let kept = text.len();
        text.push_str(&"y".repeat(20_000));
        fs::write(at.path().join("messages.ndjson"), text).unwrap();
        Ndjson::new(at.path().to_owned(), u64::MAX).append(&hl7(1, b"MSH|1")).unwrap();
        let written = fs::read(at.path().join("messages.ndjson")).unwrap();
        assert!(written[kept..].starts_with(b"{\"id\":1,"), "{whole}");
    }
}

#[test]
fn a_full_file_is_put_aside_under_the_next_number() {
    let at = TempDir::new().unwrap();
    fs::write(at.path().join("messages.000041.ndjson"), "").unwrap();
    let mut ndjson = Ndjson::new(at.path().to_owned(), 150);
    for id in 1..=5 {
        ndjson.append(&hl7(id, b"MSH|1")).unwrap();
    }
    assert_eq!(
        names(&at),
        ["messages.000041.ndjson", "messages.000042.ndjson", "messages.000043.ndjson", "messages.ndjson"]
    );
    assert_eq!(lines(&at).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_share_a_file_never_mix_their_lines() {
    let at = TempDir::new().unwrap();
    let shared = directory(&at, FileLayout::Ndjson);
    let lanes: Vec<_> = (0..4u64)
        .map(|lane| {
            let mut sender = shared.sender(0);
            tokio::spawn(async move {
                for n in 0..10 {
                    let verdict = sender.send(&hl7(lane * 10 + n, b"MSH|1")).await;
                    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let mut ids: Vec<u64> = lines(&at).iter().map(|line| line["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
}
