//! What `try` and `explain` say an engine would answer is what it answers; and what they print acts on no terminal.

use std::fs;

use serde_json::Value;

use crate::{
    acks::{Ack, Gateway, message},
    engine::Site,
};

const CHANNEL: &str = "[listener]\naddress = \"LISTENER\"\nbatch = true\n[accept]\nwhere = { \"MSH-9\" = [\"ORU^R01\"] }\n\
    [tolerance]\nblank_line = \"refuse\"\ncontrol_character = \"accept\"\n\
    [[tolerance.sender]]\nname = \"GW\"\nx_with_value = \"refuse\"\n\
    [[destination]]\nname = \"copy\"\ntype = \"file\"\ndirectory = \"out\"\n";

fn tried(site: &Site, content: &str) -> Value {
    fs::write(site.path("tried.hl7"), content).unwrap();
    let (code, json, fault) = site.command(&["try", "pumps", "tried.hl7", "--json"]);
    assert_eq!(code, 0, "{fault}");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn what_try_says_is_answered_is_what_the_engine_answers() {
    let mut site = Site::new(&[("pumps", CHANNEL)]);
    site.start();
    let x_with_value = |text: &str| text.replacen("|||||R\r", "|||||X\r", 1);
    let setting = |of: &str| Some(of.to_owned());
    for (sent, error, expected) in [
        (message("1", "AL", "AL"), None, None),
        (message("2", "", ""), None, None),
        (
            x_with_value(&message("3", "AL", "NE")),
            Some("102"),
            setting("`x_with_value` of [[tolerance.sender]] GW of channel pumps"),
        ),
        (x_with_value(&message("4", "", "").replacen("GW^", "OTHER^", 1)), None, None),
        (
            message("5", "", "").replacen('\r', "\r\r", 1),
            Some("100"),
            setting("`blank_line` of [tolerance] of channel pumps"),
        ),
        (
            message("6", "NE", "AL").replacen("|P|2.6", "|T|2.6", 1),
            Some("202"),
            setting("`processing_ids` of [listener] of channel pumps"),
        ),
        (message("7", "AL", "NE").replacen("ORU^R01^ORU_R01", "ADT^A01^ADT_A01", 1), Some("200"), None),
        (
            message("8", "ER", "NE").replacen("8859/1", "KLINGON", 1),
            Some("103"),
            setting("`charset_unknown` of [tolerance] of channel pumps"),
        ),
    ] {
        let told = tried(&site, &sent);
        let codes: Vec<&str> =
            told["answer"]["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&sent);
        let answers: Vec<Ack> = codes.iter().map(|_| gateway.ack()).collect();
        assert_eq!(answers.iter().map(|ack| ack.code.as_str()).collect::<Vec<_>>(), codes, "{sent}");
        assert_eq!(answers.last().and_then(|ack| ack.error.as_deref()), error, "{sent}");
        let refusal = &told["answer"]["refusal"];
        assert_eq!(refusal["code"].as_u64().map(|code| code.to_string()).as_deref(), error, "{told}");
        assert_eq!(refusal["setting"].as_str().map(str::to_owned), expected, "{told}");
        // Nothing more comes than what was told.
        gateway.send(&message("LAST", "AL", "NE"));
        assert_eq!(gateway.ack().control_id, "LAST");
    }
}

#[test]
fn explain_as_a_channel_names_what_refuses_the_message() {
    let site = Site::new(&[("pumps", CHANNEL)]);
    let sent = message("1", "AL", "NE").replacen("|||||R\r", "|||||X\r", 1);
    fs::write(site.path("one.hl7"), sent).unwrap();
    let (code, told, fault) = site.command(&["explain", "one.hl7", "--channel", "pumps"]);
    assert_eq!(code, 0, "{fault}");
    let line = told.lines().nth(1).unwrap();
    assert!(
        line.starts_with("The engine answers CE 102 at OBX^1^5: ") && line.contains("`x_with_value` of "),
        "{told}"
    );
    let (_, tried, _) = site.command(&["try", "pumps", "one.hl7"]);
    assert!(tried.starts_with("-- the engine answers CE 102") && tried.contains("so nothing is sent"), "{tried}");
    let (_, plain, _) = site.command(&["explain", "one.hl7"]);
    assert!(!plain.contains("engine answers"), "no channel was named: {plain}");
}

#[test]
fn a_faulty_file_of_another_channel_or_none_keeps_nobody_from_explain_and_try() {
    let site = Site::new(&[("pumps", CHANNEL)]);
    site.write_channel("broken", "nonsense = 1\n");
    fs::write(site.path("one.hl7"), message("1", "AL", "NE")).unwrap();
    for command in [&["explain", "one.hl7", "--channel", "pumps"][..], &["try", "pumps", "one.hl7"]] {
        let (code, told, aside) = site.command(command);
        assert!(code == 0 && told.contains("engine answers CA"), "{command:?} {told}{aside}");
        assert!(aside.lines().count() == 1 && aside.contains("broken.toml; see cannula check"), "{aside}");
    }
    for command in [&["explain", "one.hl7", "--channel", "broken"][..], &["try", "broken", "one.hl7"], &["check"]] {
        let (code, _, fault) = site.command(command);
        assert!(code == 64 && fault.contains("broken.toml:1:1: unknown key"), "{command:?} {fault}");
    }
    site.write_channel("broken", CHANNEL);
    site.write_channel("pumps", "nonsense = 1\n");
    assert_eq!(site.command(&["try", "pumps", "one.hl7"]).0, 64, "its own fault");
}

#[test]
fn an_answer_that_waits_or_does_not_come_is_told_as_that() {
    let channel =
        CHANNEL.replace("batch = true", "ack = \"delivered\"").replace("[\"ORU^R01\"]", "[\"ORU^R01\", \"ACK\"]");
    let site = Site::new(&[("pumps", &channel)]);
    let bad = |text: String| text.replacen("|P|2.6", "|T|2.6", 1);
    let ack = message("6", "AL", "AL").replacen("ORU^R01^ORU_R01", "ACK^R01^ACK", 1);
    for (sent, told) in [
        (message("1", "AL", "AL"), "CA, and AA once every destination took it"),
        (message("2", "", ""), "AA once every destination took it"),
        (message("3", "AL", "ER"), "CA"),
        (message("4", "NE", "NE"), "nothing, as MSH-15 and MSH-16 ask; it is taken"),
        (bad(message("5", "NE", "NE")), "nothing, as MSH-15 and MSH-16 ask, and it is not taken: 202 at MSH^1^11: "),
        (ack, "nothing: an acknowledgement is not answered, nor taken"),
    ] {
        fs::write(site.path("one.hl7"), &sent).unwrap();
        let (code, tried, fault) = site.command(&["try", "pumps", "one.hl7"]);
        assert_eq!(code, 0, "{fault}");
        let line = tried.lines().next().unwrap().strip_prefix("-- the engine answers ").unwrap();
        assert!(if told.ends_with(' ') { line.starts_with(told) } else { line == told }, "{line}, not {told}");
    }
}

#[test]
fn each_message_of_a_batch_is_explained_and_tried() {
    let site = Site::new(&[("pumps", CHANNEL)]);
    let two = [message("1", "AL", "NE"), message("2", "AL", "NE").replacen("|||||R\r", "|||||X\r", 1)].concat();
    let batch = format!("BHS|^~\\&|GW|W|EHR|H|20260314||||B\r{two}BTS|2\r");
    fs::write(site.path("batch.hl7"), &batch).unwrap();
    let (code, told, fault) = site.command(&["explain", "batch.hl7", "--channel", "pumps"]);
    assert_eq!(code, 0, "{fault}");
    for part in [
        "The engine answers a batch of what each of the 2",
        "== message 1 of 2",
        "== message 2 of 2",
        "The engine answers CA.",
        "The engine answers CE 102",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let (code, json, _) = site.command(&["explain", "batch.hl7", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json.as_array().map(Vec::len)), (0, Some(2)));
    let (code, tried, _) = site.command(&["try", "pumps", "batch.hl7"]);
    assert!(code == 0 && tried.matches("-- copy:").count() == 2, "{tried}");
    let (code, _, fault) = site.command(&["try", "pumps", "batch.hl7", "--destination", "copy", "--body"]);
    assert!(code == 1 && fault.contains("into a file of its own"), "{fault}");
    fs::write(site.path("cut.hl7"), batch.replace("BTS|2\r", "")).unwrap();
    let (code, told, fault) = site.command(&["explain", "cut.hl7", "--channel", "pumps"]);
    assert!(code == 0 && told.contains("not whole (a batch or file header has no trailer; send BTS"), "{told}{fault}");
    assert!(told.contains("The engine answers AE 102: ") && told.contains("== message 2 of 2"), "{told}");
    fs::write(site.path("two.hl7"), format!("\x0b{}\x1c\r\x0b{}\x1c\r", message("1", "", ""), message("2", "", "")))
        .unwrap();
    let (code, told, _) = site.command(&["explain", "two.hl7"]);
    assert!(code == 0 && told.starts_with("two.hl7 holds 2 messages") && told.contains("== message 2 of 2"), "{told}");
    for (content, remedy) in [
        (message("1", "", "").replacen("|^~\\&|", "|^~\\\\&|", 1), "`doubled_escape = \"accept\"`"),
        (message("1", "", "").replacen("A^ANN", "A\rand more", 1), "must be sent escaped"),
    ] {
        fs::write(site.path("odd.hl7"), content).unwrap();
        let (code, _, fault) = site.command(&["explain", "odd.hl7"]);
        assert!(code == 1 && fault.contains(remedy), "{fault}");
    }
    fs::write(site.path("trailer.hl7"), "BTS|0\rFTS|1\r").unwrap();
    let (code, _, fault) = site.command(&["try", "pumps", "trailer.hl7"]);
    assert!(code == 1 && fault.contains("begins with FHS or BHS") && fault.contains("answers AE 100"), "{fault}");
}

#[test]
fn control_characters_of_a_sender_are_told_and_its_name_is_one() {
    let mut site = Site::new(&[("pumps", CHANNEL)]);
    let sent = message("1", "AL", "NE").replacen("|GW^0123456789ABCDEF^EUI-64", "|G\x1b[2J\x07\u{9b}^^", 1);
    let sent = sent.replacen("8859/1", "UNICODE UTF-8", 1).replacen("|||||R\r", "|||||B\r", 1);
    fs::write(site.path("one.hl7"), &sent).unwrap();
    let commands: [&[&str]; 6] = [
        &["explain", "one.hl7"],
        &["explain", "one.hl7", "--json"],
        &["explain", "one.hl7", "--channel", "pumps"],
        &["explain", "one.hl7", "--channel", "pumps", "--json"],
        &["try", "pumps", "one.hl7"],
        &["try", "pumps", "one.hl7", "--json"],
    ];
    for command in commands {
        let (code, told, fault) = site.command(command);
        assert_eq!(code, 0, "{command:?}: {fault}");
        assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{command:?}: {told:?}");
    }
    let (_, told, _) = site.command(commands[2]);
    assert!(told.contains("from G\\x1b[2J\\x07"), "{told}");

    site.write_channel("pumps", &CHANNEL.replace("batch = true", "conformance = \"report\""));
    site.start();
    let mut gateway = Gateway::connect(site.listener);
    gateway.send(&sent);
    assert_eq!(gateway.ack().code, "CA");
    let senders = site.json("/api/conformance")["items"].clone();
    assert_eq!(senders.as_array().unwrap().len(), 1, "{senders}");
    assert!(senders[0]["nonconforming"] == 1 && senders[0]["quirks"][0]["messages"] == 1, "{senders}");
    let id = site.json("/api/messages")["items"][0]["id"].to_string();
    for command in
        [&["conformance"][..], &["devices"], &["devices", "--json"], &["messages", "show", &id], &["messages", "list"]]
    {
        let (code, told, _) = site.command(command);
        assert!(code == 0 && told.chars().all(|c| c == '\n' || !c.is_control()), "{command:?}: {told:?}");
    }
}
