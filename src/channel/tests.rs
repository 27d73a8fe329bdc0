#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::destination::{MllpSettings, Settings};

const PUMP: &str = "MSH|^~\\&|PUMP_GATEWAY^0012210000000001^EUI-64|4W|||20260115120000+0000||ORU^R01^ORU_R01|77|P|2.6|||AL|NE\n\
PID|||12345^^^GENHOSP^MR||Doe^Jane^^^^^L\n\
PV1||I|4 West^401^1\n\
OBR|1|1^GW|1^GW|70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|||20260115120000+0000\n\
OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|125.0|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R\n\
OBX|2|ST|184514^MDC_DRUG_NAME_LABEL^MDC|1.1.1.2|Dopa\\T\\mine||||||R\n";

fn message(text: &str) -> Message {
    Message::parse(text.replace('\n', "\r").into_bytes()).unwrap()
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn condition(at: &str, wanted: &[&str]) -> Condition {
    Condition::new(path(at), &wanted.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

fn when(text: &str) -> Filter {
    Filter::new(Vec::new(), Some(Expression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"))))
}

fn destination(name: &str, filter: Filter, order: Order, lanes: u16) -> Arc<Destination> {
    Arc::new(Destination {
        name: name.into(),
        settings: Settings::Mllp(MllpSettings {
            address: "127.0.0.1:1".into(),
            timeout: Duration::from_secs(1),
            awaits_application: false,
            tls: None,
        }),
        plan: Plan::Unchanged,
        filter,
        order,
        lanes,
        retry_first: Duration::from_secs(1),
        retry_max: Duration::from_secs(1),
        retry_refused: 0,
        resend_window: std::num::NonZeroUsize::MIN,
        on_reject: OnReject::Park,
    })
}

fn channel(accept: Filter, destinations: Vec<Arc<Destination>>) -> Channel {
    Channel {
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
        accept,
        repeat: Repeat {
            key: vec![path("MSH-3"), path("MSH-10")],
            window: Duration::from_secs(60),
            retransmission: Retransmission::Off,
        },
        device: DeviceRules::default(),
        tolerance: crate::pcd::tolerance::Tolerance::default(),
        destinations,
        summaries: vec![],
        hash: 0,
    }
}

#[test]
fn a_value_for_a_field_is_compared_by_the_components_it_gives() {
    let message = message(PUMP);
    for (at, wanted, holds) in [
        ("MSH-9", "ORU^R01", true),
        ("MSH-9", "ORU", true),
        ("MSH-9", "ORU^R01^ORU_R01", true),
        ("MSH-9", "ORU^R01^ORU_R01^", true),
        ("MSH-9", "ORU^R0", false),
        ("MSH-9", "OR", false),
        ("MSH-9", "ORU^R01^ORU_R40", false),
        ("MSH-9.1", "ORU", true),
        ("MSH-9.1", "ORU^R01", false),
        ("MSH-3.1", "PUMP_GATEWAY", true),
        ("PID-8", "", true),
        ("PID-3", "", false),
        ("ZZZ-1", "", true),
        ("ZZZ-1", "x", false),
    ] {
        let filter = Filter::new(vec![condition(at, &[wanted])], None);
        assert_eq!(filter.takes(&message), Ok(holds), "{at} = {wanted:?}");
    }
}

#[test]
fn any_segment_may_meet_a_condition_but_every_condition_must_be_met() {
    let message = message(PUMP);
    let flow = || condition("OBX-3.1", &["158014", "157784"]);
    let drug = || condition("OBX-5", &["Dopa&mine"]);
    assert_eq!(Filter::new(vec![flow(), drug()], None).takes(&message), Ok(true));
    assert_eq!(Filter::new(vec![flow(), condition("OBX[2]-3.1", &["157784"])], None).takes(&message), Ok(false));
    assert_eq!(Filter::default().takes(&message), Ok(true));
}

#[test]
fn a_senders_own_delimiters_do_not_change_what_a_condition_means() {
    let odd = message("MSH$%*#@$GW$$$$20260115$$ORU%R01$1$P$2.6\nPID$$$1%%%H\nOBX$1$ST$157784%X\n");
    for (at, wanted) in [("MSH-9", "ORU^R01"), ("PID-3", "1^^^H"), ("OBX-3.2", "X")] {
        assert_eq!(Filter::new(vec![condition(at, &[wanted])], None).takes(&odd), Ok(true), "{at}");
    }
}

#[test]
fn an_expression_sees_decoded_values_of_one_message() {
    let message = message(PUMP);
    for (text, holds) in [
        (r#"msg["PV1-3.1"] == "4 West""#, true),
        (r#"msg["PV1-3.1"] != "4 West""#, false),
        (r#"msg["OBX[2]-5"] == "Dopa&mine""#, true),
        (r#""157784" in msg.all("OBX-3.1") && !("1" in msg.all("OBX-3.1"))"#, true),
        (r#"msg.all("OBX-3.1").len() == 2"#, true),
        (r#"msg["ZZZ-1"] == """#, true),
        (r#"msg["MSH-3.1"].starts_with("PUMP") || 1 == 2"#, true),
        (r#"msg["PID-3.1"] != "" && parse_int(msg["PID-3.1"]) > 12344"#, true),
        (r#"/* msg["x"] */ msg["PID-3.1"] == "12345" // msg"#, true),
        (r#"if msg["PV1-2"] == "I" { true } else { false }"#, true),
        (r#""msg" == "ms" + 'g' && true"#, true),
    ] {
        assert_eq!(when(text).takes(&message), Ok(holds), "{text}");
    }
}

#[test]
fn what_is_wrong_with_an_expression_shows_when_it_is_compiled_with_its_place() {
    for (text, line, column) in [
        ("msg[\"PV1-3.1\"] ==", 1, 18),
        ("true &&\n  msg[\"PV1\"] == \"\"", 2, 11),
        ("msg[\"PV\" + \"1-3\"] == \"\"", 1, 1),
        ("[msg][0][\"PV1-3\"] == \"\"", 1, 2),
        ("`${msg[\"PV1-3\"]}` == \"\"", 1, 1),
        ("nsg[\"PV1-3\"] == \"\"", 1, 1),
        ("msg[\"PV1-3\"]", 1, 1),
        ("msg[\"PV1-3\"].no_such() == \"\"", 1, 14),
        ("parse_int(msg[\"OBX-5\"]) > 5", 1, 1),
        ("eval(\"true\")", 1, 1),
        ("let x = 1; true", 1, 1),
        ("loop { }", 1, 1),
        ("|x| x", 1, 1),
        ("", 1, 1),
    ] {
        let error = Expression::compile(text).err().unwrap_or_else(|| panic!("{text:?} was compiled"));
        assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
    }
}

#[test]
fn an_expression_cannot_read_files_or_the_clock_or_run_for_long() {
    for text in [
        "import \"x\" as x; true",
        "timestamp() == timestamp()",
        "sleep(1) == ()",
        "print(\"x\") == ()",
        "debug(1) == ()",
    ] {
        assert!(Expression::compile(text).is_err(), "{text}");
    }
    for (open, close) in [("(", ")"), ("!", ""), ("[", "]"), ("if true { ", " }"), ("`${", "}`"), ("msg[", "]")] {
        let deep = format!("{}true{}", open.repeat(100_000), close.repeat(100_000));
        assert!(Expression::compile(&deep).is_err(), "{open}");
    }
    let long = format!("{} == 0", vec!["1"; 200_000].join(" + "));
    assert!(Expression::compile(&long).is_err());
}

#[test]
fn a_failing_expression_names_no_content() {
    let filter = when(r#"msg["PID-5.1"] == "" || parse_int(msg["PID-5.1"]) > 1"#);
    let why = filter.takes(&message(PUMP)).unwrap_err();
    assert!(!why.contains("Doe"), "{why}");
    let failed = channel(filter, Vec::new()).accepts(&message(PUMP)).unwrap_err();
    assert_eq!(failed.channel.as_ref(), "pumps");
}

#[test]
fn a_message_goes_to_every_destination_whose_filter_takes_it_in_file_order() {
    let channel = channel(
        Filter::default(),
        vec![
            destination("b", Filter::default(), Order::Strict, 1),
            destination("never", Filter::new(vec![condition("MSH-9", &["ADT"])], None), Order::Strict, 1),
            destination("a", when(r#"msg["PV1-2"] == "I""#), Order::Strict, 1),
        ],
    );
    let routes = channel.route(&message(PUMP)).unwrap();
    assert_eq!(routes.iter().map(|route| &*route.destination).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn a_key_has_the_lane_it_has_always_had() {
    // Computed once with `printf KEY | sha256sum`; messages wait in stores under these numbers.
    for (key, lanes, lane) in [("12345", 8, 2), ("12345", 1, 0), ("0012210000000001", 1000, 302)] {
        assert_eq!(lane_of(key.as_bytes(), lanes), lane, "{key} of {lanes}");
    }
}

#[test]
fn messages_of_one_patient_or_value_share_a_lane_and_those_without_share_lane_0() {
    let lane = |order: Order, text: &str| {
        let message = message(text);
        destination("d", Filter::default(), order, 8).lane(&message, pcd::device_keys(&message).first())
    };
    let by_bed = || Order::Path(path("PV1-3.3"));
    assert_eq!(lane(Order::Patient, PUMP), lane_of(b"12345", 8));
    assert_eq!(lane(by_bed(), PUMP), lane_of(b"1", 8));
    assert_eq!(lane(Order::Strict, PUMP), 0);
    let pump =
        format!("{PUMP}OBX|3||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||^^0012210000A10003^EUI-64\n");
    assert_eq!(lane(Order::Device, &pump), lane_of(b"0012210000A10003", 8));
    assert_eq!(lane(Order::Device, PUMP), lane_of(b"0012210000000001", 8));
    let unknown = PUMP.replace("12345^^^GENHOSP^MR", "");
    assert_eq!(lane(Order::Patient, &unknown), 0);
    assert_eq!(lane(by_bed(), &PUMP.replace("PV1||I|4 West^401^1\n", "")), 0);
}

#[test]
fn a_repeat_key_cannot_be_confused_with_another_that_runs_together_the_same() {
    let channel = channel(Filter::default(), Vec::new());
    let key = |sender: &str, id: &str| {
        let text = PUMP.replace("PUMP_GATEWAY^0012210000000001^EUI-64", sender).replace("|77|", &format!("|{id}|"));
        channel.repeat_check(&message(&text)).map(|check| check.key)
    };
    assert_ne!(key("AB", "C1"), key("A", "BC1"));
    assert_eq!(key("AB", "C1"), key("AB", "C1"));
    assert_ne!(key("", "C1"), key("C1", ""));
    assert!(key("", "C1").is_some(), "a sender without a name repeats itself too");
    assert_eq!(key("", ""), None);
}

#[test]
fn text_is_read_in_the_listeners_charset() {
    let latin = |msh_18: &str| {
        let head = format!("MSH|^~\\&|GW||||20260115||ORU^R01|1|P|2.6||||||{msh_18}\rPID|||1||M");
        Message::parse([head.as_bytes(), b"\xFCller\r"].concat()).unwrap()
    };
    let filter = || Filter::new(vec![condition("PID-5", &["Müller"])], None);
    let mut channel = channel(filter(), vec![destination("d", filter(), Order::Strict, 1)]);
    assert!(!channel.accepts(&latin("")).unwrap());
    channel.listener.charset_default = Charset::from_label("8859/1").unwrap();
    assert!(channel.accepts(&latin("")).unwrap());
    assert_eq!(channel.route(&latin("")).unwrap().len(), 1);
    assert!(!channel.accepts(&latin("UNICODE UTF-8")).unwrap());
    channel.listener.charset = Charset::from_label("8859/1");
    assert!(channel.accepts(&latin("UNICODE UTF-8")).unwrap());
}

proptest! {
    #[test]
    fn any_text_compiles_to_an_expression_or_an_error_in_it(text in "[msgal\\[\\].(\"PV1-3)=&!|' `${}/*\\\\\n]{0,60}") {
        if let Err(error) = Expression::compile(&text) {
            let line = text.split('\n').nth(error.line - 1).unwrap_or("");
            prop_assert!(error.column >= 1 && error.column <= line.chars().count() + 2, "{text:?}: {error}");
        }
    }

    #[test]
    fn keys_spread_over_the_lanes_and_never_past_them(lanes in 1_u16..64) {
        let mut used = BTreeMap::new();
        for key in 0..u32::from(lanes) * 50 {
            *used.entry(lane_of(&key.to_be_bytes(), lanes)).or_insert(0_u32) += 1;
        }
        prop_assert!(used.keys().all(|lane| *lane < lanes));
        prop_assert_eq!(used.len(), usize::from(lanes));
    }
}

#[test]
fn what_stands_before_msh_is_no_part_of_the_message_that_goes_out() {
    let channel = channel(Filter::default(), vec![destination("legacy", Filter::default(), Order::Strict, 1)]);
    let usual = PUMP.replace('\n', "\r");
    for before in ["\u{FEFF}", "\r\n ", "\u{FEFF}\r"] {
        let message = message(&format!("{before}{PUMP}"));
        let context = Context { id: 1, received_at: jiff::Timestamp::UNIX_EPOCH, origins: false };
        let sent = channel.translate("legacy", &message, context, &nothing_remembered).unwrap();
        assert_eq!(sent.body, usual.as_bytes(), "{before:?}");
        assert!(message.received().len() > usual.len(), "it is kept as received");
    }
}
