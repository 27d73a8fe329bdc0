#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use super::*;
use crate::config::load;

const PUMPS: &str = "[listener]\naddress = \"127.0.0.1:2575\"\n[accept]\nwhere = { \"MSH-3.1\" = \"PUMP\" }\n\
    [[destination]]\nname = \"legacy\"\ntype = \"mllp\"\naddress = \"127.0.0.1:1\"\n\
    where = { \"PV1-2\" = \"I\" }\nstep = [{ set = { path = \"MSH-12\", to = \"2.3\" } }]\n";
const SENT: &str = "MSH|^~\\&|PUMP||||20260115||ORU^R01|1|P|2.6\nPV1||I\n";
const EXPECTED: &str = "MSH|^~\\&|PUMP||||20260115||ORU^R01|1|P|2.3\nPV1||I\n";

/// What checking says of a folder with these files in channels/, the folder's own path left out.
fn checked(files: &[(&str, &str)]) -> Result<usize, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cannula.toml"), "").unwrap();
    for (path, text) in files {
        let path = folder.path().join("channels").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let config = load(Some(&folder.path().join("cannula.toml"))).map_err(|faults| panic!("{faults:?}")).unwrap();
    let prefix = format!("{}/channels/", folder.path().display());
    check_samples(&config).map_err(|faults| faults.iter().map(|f| f.to_string().replace(&prefix, "")).collect())
}

#[test]
fn the_shipped_channels_prove_their_samples() {
    let config = load(None).map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>()).unwrap();
    if std::env::var_os("CANNULA_BLESS").is_some() {
        config.channels.iter().for_each(|channel| bless(&config, channel));
    }
    let checked = check_samples(&config).map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>());
    assert!(
        checked.as_ref().is_ok_and(|count| *count >= 19),
        "{checked:#?}; CANNULA_BLESS=1 takes what is sent as FHIR"
    );
    assert!(config.channels.len() >= 4);
}

/// Takes for expected what is sent as FHIR now.
fn bless(config: &Config, channel: &Channel) {
    let mut remembered: BTreeMap<String, Remembered> = BTreeMap::new();
    let samples = Samples::open(config, channel).unwrap_or_else(|fault| panic!("{fault}"));
    for name in samples.names() {
        let message = Message::parse(with_cr(&fs::read(samples.folder.join(format!("{name}{IN}"))).unwrap())).unwrap();
        for destination in channel.route(&message).unwrap().into_iter().map(|route| route.destination) {
            let remembered = remembered.entry(destination.to_string()).or_default();
            let context = Context { id: SAMPLE_ID, received_at: SAMPLE_RECEIVED_AT, origins: false };
            let recall = |episode: &[u8]| remembered.recall(episode);
            let sent = channel.translate(&destination, &message, context, &recall).unwrap();
            remembered.change(&sent.episodes);
            if sent.is_sent() && sent.format == Format::FhirBundle {
                let body: Value = serde_json::from_slice(&sent.body).unwrap();
                let file = samples.folder.join(format!("{name}.{destination}.out.json"));
                fs::write(file, format!("{body:#}\n")).unwrap();
            }
        }
    }
}

#[test]
fn a_sample_that_the_engine_would_refuse_is_a_fault_that_names_the_setting() {
    let out = "pumps/01.legacy.out.hl7";
    let own = "[[tolerance.sender]]\nname = \"PUMP\"\nno_zone = \"refuse\"\n";
    let timed = |text: &str| text.replacen("|20260115||", "|20260115101500||", 1);
    let checked = |channel: &str, sent: &str, expected: &str| {
        checked(&[("pumps.toml", channel), ("pumps/01.in.hl7", sent), (out, expected)])
    };
    assert_eq!(checked(PUMPS, &timed(SENT), &timed(EXPECTED)), Ok(1));
    let strict = format!("{PUMPS}{own}");
    let told = checked(&strict, &timed(SENT), &timed(EXPECTED)).unwrap_err();
    assert!(
        told[0].starts_with("pumps/01.in.hl7:1:1: the engine answers AE 102 at MSH^1^7: ")
            && told[0].contains("it is for `no_zone` of [[tolerance.sender]] PUMP of channel pumps; mend the sample"),
        "{told:?}"
    );
    let in_training = |text: &str| text.replacen("|P|2.", "|T|2.", 1);
    let told = checked(PUMPS, &in_training(SENT), &in_training(EXPECTED)).unwrap_err();
    assert!(told[0].contains("AR 202 at MSH^1^11") && told[0].contains("`processing_ids` of [listener]"), "{told:?}");
    let text = |text: &str| text.replacen("PV1||I\n", "PV1||I\nNTE|1||a\u{7}b\n", 1);
    let told = checked(PUMPS, &text(SENT), &text(EXPECTED)).unwrap_err();
    assert!(
        told[0].starts_with("pumps/01.in.hl7:3:1: ") && told[0].contains("`control_character` of [tolerance]"),
        "{told:?}"
    );
    let told = checked(PUMPS, &format!("BHS|^~\\&|\n{SENT}BTS|1\n"), EXPECTED).unwrap_err();
    assert!(told[0].contains("is a batch; write each of its messages"), "{told:?}");
}

#[test]
fn a_sample_that_is_sent_as_expected_is_counted_however_its_lines_end() {
    let out = "pumps/01.legacy.out.hl7";
    assert_eq!(checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", SENT), (out, EXPECTED)]), Ok(1));
    let (sent, expected) = (SENT.replace('\n', "\r"), EXPECTED.trim_end().replace('\n', "\r\n"));
    assert_eq!(checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", &sent), (out, &expected)]), Ok(1));
}

#[test]
fn a_difference_is_named_with_its_segment_and_without_its_value() {
    for (expected, place) in [
        (EXPECTED.replace("||I", "||O"), "pumps/01.legacy.out.hl7:2:1: segment 2 is sent otherwise than expected"),
        (format!("{EXPECTED}OBR|1\n"), "pumps/01.legacy.out.hl7:2:1: 2 segments sent where 3 expected"),
        (SENT.to_owned(), "pumps/01.legacy.out.hl7:1:1: segment 1"),
    ] {
        let out = ("pumps/01.legacy.out.hl7", expected.as_str());
        let faults = checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", SENT), out]).unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with(place), "{faults:?}");
    }
}

#[test]
fn a_result_that_is_missing_too_many_or_of_no_sample_is_a_fault() {
    let faults = checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", SENT)]).unwrap_err();
    assert!(faults[0].contains("no expected result is there; add 01.legacy.out.hl7"), "{faults:?}");

    let outpatient = SENT.replace("||I", "||O");
    let files = [("pumps.toml", PUMPS), ("pumps/01.in.hl7", &outpatient), ("pumps/01.legacy.out.hl7", EXPECTED)];
    let faults = checked(&files).unwrap_err();
    assert!(faults[0].starts_with("pumps/01.legacy.out.hl7:1:1: the message is not sent to"), "{faults:?}");
    assert_eq!(checked(&files[..2]), Ok(1));

    let stray = ("pumps/02.legacy.out.hl7", EXPECTED);
    let faults = checked(&[("pumps.toml", PUMPS), stray]).unwrap_err();
    assert!(faults[0].starts_with("pumps/02.legacy.out.hl7:1:1: the result belongs to no sample"), "{faults:?}");
}

#[test]
fn a_sample_the_channel_would_not_get_is_a_fault() {
    let other = SENT.replace("|PUMP|", "|OTHER|");
    let faults = checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", &other)]).unwrap_err();
    assert!(faults[0].contains("`accept` does not take"), "{faults:?}");

    let first = PUMPS.replace("\"MSH-3.1\" = \"PUMP\"", "\"MSH-9\" = \"ORU\"");
    let files = [("all.toml", first.as_str()), ("pumps.toml", PUMPS), ("pumps/01.in.hl7", SENT)];
    let faults = checked(&files).unwrap_err();
    assert!(faults[0].contains("channel all, which comes first"), "{faults:?}");

    let faults = checked(&[("pumps.toml", PUMPS), ("pumps/01.in.hl7", "PV1||I\n")]).unwrap_err();
    assert!(faults[0].starts_with("pumps/01.in.hl7:1:1: the first segment is not MSH"), "{faults:?}");
}

#[test]
fn json_is_compared_as_values_with_every_digit_of_a_number() {
    let expected = br#"{ "b": [1, {"c": 5.60}], "a": null }"#;
    assert_eq!(json_difference(expected, br#"{"a":null,"b":[1,{"c":5.60}]}"#), None);
    for (sent, place) in [
        (&br#"{"a":null,"b":[1,{"c":5.6}]}"#[..], "b[1].c differs"),
        (br#"{"a":null,"b":[1]}"#, "b[1] differs"),
        (br#"{"b":[1,{"c":5.60}]}"#, "a differs"),
        (br#"{"a":null,"b":[1,{"c":5.60}],"d":1}"#, "d differs"),
        (br#"[]"#, "the whole differs"),
    ] {
        assert_eq!(json_difference(expected, sent), Some((1, place.to_owned())));
    }
    assert_eq!(json_difference(b"{\n\"a\"}", b"{}").map(|(line, _)| line), Some(2));
}
