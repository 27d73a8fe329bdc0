//! `[tolerance]` in a channel: what a filter, a device and each kind of destination make of a message that is read otherwise
//! than it was sent.

use std::{fs, path::Path};

use bytes::Bytes;
use serde_json::Value;

use super::{Config, load};
use crate::{
    channel::Channel,
    translate::{Context, Translated},
};

const DESTINATIONS: &str = "[listener]\naddress = \"127.0.0.1:2575\"\n\
    [[destination]]\nname = \"ehr\"\ntype = \"fhir\"\nurl = \"http://127.0.0.1:1/fhir\"\nfhir = { device_detail = \"identifier-only\" }\n\
    [[destination]]\nname = \"none\"\ntype = \"mllp\"\naddress = \"127.0.0.1:1\"\nwhere = { \"PID-3.1\" = \"7\" }\n\
    [[destination]]\nname = \"repaired\"\ntype = \"mllp\"\naddress = \"127.0.0.1:2\"\ntranslate = \"repaired\"\n\
    [[destination]]\nname = \"steps\"\ntype = \"mllp\"\naddress = \"127.0.0.1:3\"\n\
    [[destination.step]]\nset = { path = \"PID-3.1\", to = \"8\" }\n";

fn loaded(folder: &Path, tolerance: &str) -> Config {
    fs::create_dir_all(folder.join("channels")).unwrap();
    fs::write(folder.join("cannula.toml"), "").unwrap();
    fs::write(folder.join("channels/pumps.toml"), format!("{DESTINATIONS}{tolerance}")).unwrap();
    load(Some(&folder.join("cannula.toml"))).unwrap_or_else(|faults| panic!("{}", faults[0]))
}

fn sent(channel: &Channel, destination: &str, received: &Bytes) -> Result<Translated, String> {
    let message = channel.read(received.clone()).map_err(|error| error.to_string())?;
    let context = Context { id: 1, received_at: jiff::Timestamp::UNIX_EPOCH, origins: true };
    channel.translate(destination, &message, context, &|_| None).map_err(|error| error.to_string())
}

fn bundle(channel: &Channel, received: &Bytes) -> (Value, Vec<(String, String)>) {
    let translated = sent(channel, "ehr", received).unwrap();
    let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
    let entries = bundle["entry"].as_array().unwrap();
    let observation = entries.iter().find(|entry| entry["resource"]["resourceType"] == "Observation").unwrap();
    (observation["resource"].clone(), translated.origins)
}

/// As an older gateway writes it: no CR before PID, no zone, no point, in the hour that comes twice.
fn quirky() -> Bytes {
    Bytes::from_static(
        b"MSH|^~\\&|OLD^1^L|4W|||20261025023000||ORU^R01^ORU_R01|1|P|2.6PID|1||7^^^H\rOBR|1||1^GW|1^X^MDC|||20261025023000\r\
          OBX|1|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20261025023000123\r",
    )
}

const TOLERANT: &str = "[[tolerance.sender]]\nname = \"old\"\nglued_segments = \"accept\"\nmilliseconds = \"accept\"\n\
    zone = \"Europe/Berlin\"\n";

#[test]
fn every_part_reads_what_was_meant_and_only_what_goes_out_as_received_is_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let config = loaded(folder.path(), TOLERANT);
    let (channel, received) = (&config.channels[0], quirky());
    let message = channel.read(received.clone()).unwrap();
    let routes: Vec<String> =
        channel.route(&message).unwrap().iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(routes, ["ehr", "none", "repaired", "steps"], "a filter finds the patient");
    let (observation, origins) = bundle(channel, &received);
    assert_eq!(observation["effectiveDateTime"], "2026-10-25T02:30:00.123+02:00");
    let origin = origins.iter().find(|(element, _)| element.ends_with("effectiveDateTime")).unwrap();
    assert_eq!(origin.1, "OBX[1]-14, read as 20261025023000.123+0200 (milliseconds, no_zone, dst_fold)");

    let meant = String::from_utf8(received.to_vec()).unwrap();
    let meant = meant.replace("2.6PID", "2.6\rPID").replace("023000123\r", "023000.123\r");
    let meant =
        meant.replace("023000|", "023000+0200|").replace("023000\r", "023000+0200\r").replace(".123\r", ".123+0200\r");
    assert_eq!(sent(channel, "none", &received).unwrap().body, received);
    assert_eq!(sent(channel, "repaired", &received).unwrap().body, meant.as_bytes());
    assert_eq!(sent(channel, "steps", &received).unwrap().body, meant.replacen("|7^^^H", "|8^^^H", 1).as_bytes());
}

#[test]
fn another_sender_is_read_as_it_sends() {
    let folder = tempfile::tempdir().unwrap();
    let config = loaded(folder.path(), TOLERANT);
    let other = String::from_utf8(quirky().to_vec()).unwrap().replacen("OLD^1", "NEW^2", 1);
    let message = config.channels[0].read(other.clone().into()).unwrap();
    assert_eq!(message.as_bytes(), other.as_bytes());
    let routes = config.channels[0].route(&message).unwrap();
    assert!(!routes.iter().any(|route| &*route.destination == "none"), "its PID is no segment");
}

#[test]
fn a_channels_zone_comes_before_a_destinations_offset_and_behind_what_the_message_says() {
    let folder = tempfile::tempdir().unwrap();
    let time = |tolerance: &str, of_message: &str| {
        let destinations = DESTINATIONS.replacen("fhir = { ", "fhir = { default_offset = \"-05:00\", ", 1);
        fs::create_dir_all(folder.path().join("channels")).unwrap();
        fs::write(folder.path().join("cannula.toml"), "").unwrap();
        fs::write(folder.path().join("channels/pumps.toml"), format!("{destinations}{tolerance}")).unwrap();
        let config = load(Some(&folder.path().join("cannula.toml"))).unwrap();
        let text = String::from_utf8(quirky().to_vec()).unwrap().replacen("2.6PID", "2.6\rPID", 1);
        let text = text
            .replacen("|20261025023000||", &format!("|20261025023000{of_message}||"), 1)
            .replace("023000123", "023000");
        bundle(&config.channels[0], &text.into()).0["effectiveDateTime"].as_str().unwrap().to_owned()
    };
    let zone = "[tolerance]\nzone = \"Europe/Berlin\"\n";
    assert_eq!(time("", ""), "2026-10-25T02:30:00-05:00");
    assert_eq!(time(zone, ""), "2026-10-25T02:30:00+02:00");
    assert_eq!(time(zone, "+0100"), "2026-10-25T02:30:00+01:00");
}

#[test]
fn text_of_every_set_goes_to_fhir_as_utf_8_and_text_in_another_set_than_it_says_by_the_one_configured() {
    let folder = tempfile::tempdir().unwrap();
    let tolerance = "[tolerance]\ncharset_wrong = \"accept\"\ncharset_unknown = \"accept\"\ncharset = \"8859/1\"\n";
    let config = loaded(folder.path(), tolerance);
    for (set, text, wanted) in [
        ("8859/5", &b"\xB8\xD2\xD0\xDD"[..], "Иван"),
        ("BIG-5", b"\xA5\x5C\xA6\x7C\xB3\x5E\xA4\x7E", "功帆訟才"),
        ("GB 18030-2000", b"\x81\x7C\x82\x5E\x83\x7E\x81\x5C", "亅俕儈乗"),
        ("KS X 1001", b"\xB1\xE8\xC3\xB6", "김철"),
        ("~ISO IR87", b"\x1B$B;3ED\x1B(B", "山田"),
        ("shift_jis", b"\x83\x7C\x83\x5E", "ポタ"),
        ("UNICODE UTF-8", b"\xC3\xBC", "ü"),
        ("UNICODE UTF-8", b"M\xFCller", "Müller"),
        ("KLINGON", b"M\xFCller", "Müller"),
    ] {
        let head = format!(
            "MSH|^~\\&|GW|4W|||20260314101500+0000||ORU^R01^ORU_R01|1|P|2.6||||||{set}\rPID|||7^^^H\rOBR|1||1^GW|1^X^L\r"
        );
        let received = [head.as_bytes(), b"OBX|1|ST|9^Note^L||", text, b"||||||F\r"].concat();
        let (observation, _) = bundle(&config.channels[0], &received.into());
        assert_eq!(observation["valueString"], wanted, "{set}");
    }
}
