#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

const CLEAN: &str = "MSH|^~\\&|GW^1^L|4W|||20260314101500+0000||ORU^R01^ORU_R01|1|P|2.6\rPID|||7^^^H||A^B\r\
    OBR|1||||||20260314101500\rOBX|1|NM|1^A^MDC|1.1.1.1|80|2^B^MDC|||||R|||20260314101500+0000\rNTE|1||a\\F\\b\r";

fn message(text: &str) -> Message {
    Message::parse(text.as_bytes().to_vec()).unwrap()
}

fn with(from: &str, to: &str) -> String {
    assert!(CLEAN.contains(from), "{from}");
    CLEAN.replacen(from, to, 1)
}

fn met(rules: &Rules, text: &str) -> Vec<&'static str> {
    rules.met(&message(text)).iter().map(Quirk::id).collect()
}

#[test]
fn a_clean_message_has_no_quirk_and_nothing_else_is_read_in_its_place() {
    let everything = Rules { accepted: Quirk::all().collect(), zone: Zone::named("Europe/Berlin"), ..Rules::default() };
    for rules in [Rules::default(), everything] {
        assert_eq!(met(&rules, CLEAN), [""; 0]);
        assert_eq!(rules.notes(&message(CLEAN)), []);
        assert!(rules.repaired(&message(CLEAN)).is_none());
    }
}

#[test]
fn each_quirk_is_found_once_with_its_first_place() {
    let no_zone = with("101500+0000||ORU", "101500||ORU").replace("101500+0000", "101500");
    for (text, quirk, place, places) in [
        (format!("\u{FEFF}{CLEAN}"), "byte_order_mark", "MSH", 1),
        (CLEAN.replace('\r', "\n"), "line_feed", "MSH", 1),
        (with("\rPID", "\r\r\nPID"), "blank_line", "MSH", 1),
        (format!("\r{CLEAN}"), "blank_line", "MSH", 1),
        (format!("{CLEAN}\r\r"), "blank_line", "NTE[1]", 1),
        (CLEAN.trim_end().to_owned(), "no_terminator", "NTE[1]", 1),
        (with("\rPID|||7", "PID|||7"), "glued_segments", "MSH", 1),
        (with("\rOBR|1", "OBR|1"), "glued_segments", "PID[1]", 1),
        (with("+0000\rNTE|1", "+0000NTE|1"), "glued_segments", "OBX[1]", 1),
        (with("a\\F\\b", "a\\\\F\\\\b"), "doubled_escape", "NTE[1]", 1),
        (with("A^B", "A^Bé"), "charset_unnamed", "", 1),
        (with("|||20260314101500+0000\r", "|||20260314101500000+0000\r"), "milliseconds", "OBX[1]-14", 1),
        (no_zone, "no_zone", "MSH-7", 3),
        (with("1.1.1.1", "1.1"), "obx_4_form", "OBX[1]-4", 1),
        (with("1.1.1.1", "left"), "obx_4_form", "OBX[1]-4", 1),
        (with("|||||R|", "|||||X|"), "x_with_value", "OBX[1]-5", 1),
    ] {
        let notes = Rules::default().notes(&message(&text));
        let told: Vec<_> = notes.iter().map(|note| (note.quirk.id(), note.places)).collect();
        assert_eq!(
            told.iter().filter(|(id, _)| *id != "line_feed" || quirk == "line_feed").count(),
            1,
            "{quirk}: {told:?}"
        );
        let note = notes.iter().find(|note| note.quirk.id() == quirk).unwrap_or_else(|| panic!("{quirk}: {told:?}"));
        let is_of_all = quirk == "charset_unnamed";
        assert!(is_of_all || (note.place.as_str(), note.places) == (place, places), "{quirk}: {note:?}");
        assert!(met(&Rules::default(), &text).contains(&quirk), "{quirk}");
    }
}

#[test]
fn a_code_that_is_not_of_a_device_may_have_any_sub_id() {
    assert_eq!(met(&Rules::default(), &with("1^A^MDC|1.1.1.1", "1^A^LN|left")), [""; 0]);
}

#[test]
fn what_is_read_in_the_place_of_a_time_is_told_at_each_place_and_read_again_is_the_same() {
    let mut rules = Rules { zone: Zone::named("Europe/Berlin"), ..Rules::default() };
    rules.accepted.insert(Quirk::Milliseconds);
    let text = "MSH|^~\\&|GW||||20261025023000||ORU^R01|1|P|2.6\rOBR|1||||||20261025013000\r\
        OBX|1|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20261025023000~20260724101500||||||R|||20260329023000000\r";
    let sent = message(text);
    let read = rules.repaired(&sent).unwrap();
    let wanted = text
        .replace("|20261025023000||ORU", "|20261025023000+0200||ORU")
        .replace("|20261025013000\r", "|20261025013000+0200\r")
        .replace("|20261025023000~20260724101500|", "|20261025023000+0200~20260724101500+0200|")
        .replace("|20260329023000000\r", "|20260329023000.000+0100\r");
    assert_eq!(String::from_utf8_lossy(read.as_bytes()), wanted);
    assert_eq!(read.received(), text.as_bytes(), "what was received is kept");
    assert!(rules.repaired(&read).is_none());
    let told = rules.repairs_told(&sent);
    let of =
        |place: &str| told.iter().filter(|(_, at, _)| at == place).map(|(quirk, ..)| quirk.id()).collect::<Vec<_>>();
    assert_eq!(of("MSH-7"), ["no_zone", "dst_fold"]);
    assert_eq!(of("OBR[1]-7"), ["no_zone"]);
    assert_eq!(of("OBX[1]-14"), ["milliseconds", "no_zone", "dst_gap"]);
    let met: Vec<_> = rules.met(&sent).iter().map(Quirk::id).collect();
    assert_eq!(met, ["milliseconds", "no_zone", "dst_fold", "dst_gap"], "each once");
}

#[test]
fn a_zone_in_msh_7_is_the_whole_messages_and_no_other_is_put_in_its_place() {
    let rules = Rules { zone: Zone::named("America/New_York"), ..Rules::default() };
    let text = with("|||20260314101500+0000\r", "|||20260314101500\r");
    assert_eq!(met(&rules, &text), [""; 0]);
    assert!(rules.repaired(&message(&text)).is_none());
}

#[test]
fn text_that_lies_about_its_set_is_read_in_the_one_configured_and_never_replaced() {
    let mut rules = Rules { charset: Charset::from_label("8859/1"), ..Rules::default() };
    let lies = |set: &str| {
        let text = CLEAN.replacen("|P|2.6\r", &format!("|P|2.6||||||{set}\r"), 1).replacen("A^B", "M*ller^B", 1);
        Message::parse(text.bytes().map(|byte| if byte == b'*' { 0xFC } else { byte }).collect::<Vec<u8>>()).unwrap()
    };
    for (set, quirk) in [("UNICODE UTF-8", Quirk::CharsetWrong), ("WE8ISO8859P1", Quirk::CharsetUnknown)] {
        let sent = lies(set);
        assert!(rules.repaired(&sent).is_none(), "not unless it is asked for");
        rules.accepted.insert(quirk);
        assert!(rules.met(&sent).has(quirk));
        let read = rules.repaired(&sent).unwrap();
        assert_eq!(read.text(read.segment("PID").unwrap().field(5).component(1).raw()), "Müller");
        assert_eq!((read.check_text(), read.as_bytes()), (Ok(()), sent.as_bytes()));
        assert!(rules.notes(&sent).iter().any(|note| note.quirk == quirk && note.read.as_deref() == Some("in 8859/1")));
    }
    assert!(rules.repaired(&message(CLEAN)).is_none(), "text that is right stays in its own set");
}

#[test]
fn control_characters_are_read_as_escaped_but_for_those_of_the_frame() {
    let mut rules = Rules::default();
    rules.accepted.insert(Quirk::ControlCharacter);
    let sent = message(&with("A^B", "A\0\x1B^B\x1C"));
    let read = rules.repaired(&sent).unwrap();
    assert_eq!(read.segment("PID").unwrap().field(5).raw(), b"A\\X00\\\\X1B\\^B\x1C");
    assert_eq!(read.text(read.segment("PID").unwrap().field(5).component(1).raw()), "A\0\x1B");
    let japanese = CLEAN.replacen("|P|2.6\r", "|P|2.6||||||ISO IR87\r", 1).replacen("A^B", "\x1B$B;3ED\x1B(B^B", 1);
    assert!(rules.repaired(&message(&japanese)).is_none(), "an alphabet's shift is no control character");
}

#[test]
fn a_senders_own_rules_are_found_by_either_of_its_names_in_any_case() {
    let own = Rules { zone: Zone::fixed(60), ..Rules::default() };
    for (name, is_own) in [("gw", true), ("1", true), ("4W", false), ("GW^1", false)] {
        let tolerance = Tolerance { senders: vec![(name.to_owned(), own.clone())], ..Tolerance::default() };
        assert_eq!(*tolerance.of(&message(CLEAN)) == own, is_own, "{name}");
    }
}

#[test]
fn a_frame_is_mended_only_for_the_sender_it_is_configured_for() {
    let mut own = Rules::default();
    own.accepted.insert(Quirk::GluedSegments);
    let frame = Bytes::from(with("\rPID|||7", "PID|||7"));
    let tolerance = |name: &str| Tolerance { senders: vec![(name.to_owned(), own.clone())], ..Tolerance::default() };
    let mended = tolerance("GW").mended(&frame, None).unwrap().unwrap();
    assert_eq!((mended.as_bytes(), &mended.received()), (CLEAN.as_bytes(), &frame));
    assert_eq!(own.met(&mended).iter().map(Quirk::id).collect::<Vec<_>>(), ["glued_segments"]);
    let both = Bytes::from(CLEAN.replacen("\rOBR|1", "OBR|1", 1).replace("a\\F\\b", "a\\\\F\\\\b"));
    let mut rules = own.clone();
    rules.accepted.insert(Quirk::DoubledEscape);
    let tolerant = Tolerance { usual: rules.clone(), senders: Vec::new() };
    let mended_of_both = tolerant.mended(&both, None).unwrap().unwrap();
    let places: Vec<String> = rules.notes(&mended_of_both).into_iter().map(|note| note.place).collect();
    assert_eq!((mended_of_both.as_bytes(), places), (CLEAN.as_bytes(), vec!["PID[1]".to_owned(), "NTE[1]".to_owned()]));
    assert!(tolerance("OTHER").mended(&frame, None).is_none());
    assert!(Tolerance::default().mended(&frame, None).is_none());
}
