//! What a sender can rely on.

use super::*;
use crate::devices::DeviceQuery;

const CONDITIONS: [&str; 5] = ["", "AL", "NE", "ER", "SU"];

/// The answers due by the standard's own words, told apart from how the code decides.
fn due(accept: &str, application: &str, outcome: &str) -> Vec<String> {
    let good = outcome == "A";
    let wanted = |condition: &str| condition == "AL" || condition == if good { "SU" } else { "ER" };
    match (wanted(accept), wanted(application)) {
        _ if accept.is_empty() && application.is_empty() => vec![format!("A{outcome}")],
        (true, true) if good => vec!["CA".to_owned(), "AA".to_owned()],
        (true, _) => vec![format!("C{outcome}")],
        (false, true) => vec![format!("A{outcome}")],
        (false, false) => vec![],
    }
}

#[tokio::test]
async fn every_pair_of_msh_15_and_16_gets_exactly_what_it_asks_for() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    let outcomes = [("A", "ANN", "EVE"), ("E", "ANN", "E\x01E"), ("R", "ORU^R01^ORU_R01", "ZZZ^Z99")];
    let mut number = 0;
    for accept in CONDITIONS {
        for application in CONDITIONS {
            for (outcome, from, to) in outcomes {
                number += 1;
                let id = format!("PAIR{number}");
                peer.send(asking(&message(&id).replacen(from, to, 1), accept, application)).await;
                peer.send(message(&format!("GOOD{number}"))).await;
                let answers = peer.answers_before(&format!("GOOD{number}")).await;
                let codes: Vec<String> = answers.iter().map(|answer| answer.code.clone()).collect();
                assert_eq!(codes, due(accept, application, outcome), "`{accept}` `{application}` {outcome}");
                assert!(answers.iter().all(|answer| answer.control_id == id.as_bytes()));
            }
        }
    }
    assert_eq!(site.stored().await.len(), 25 + 75, "what is taken is stored whether an answer is wanted or not");
    drop(peer);
    site.server.drain(BOUND).await;
    for (code, count) in [("AA", 75 + 11), ("CA", 10), ("CE", 10), ("AE", 7), ("AR", 7), ("CR", 10)] {
        assert_eq!(site.metrics.acks_sent.with_label_values(&["pumps", code]).get(), count, "{code}");
    }
}

#[tokio::test]
async fn a_repeated_control_id_is_answered_again_but_stored_once() {
    let site = Site::new().await;
    for (accept, application) in [("", ""), ("AL", "AL")] {
        let repeated = asking(&message(&format!("REPEAT{accept}")), accept, application);
        let count = 1 + usize::from(!accept.is_empty());
        let mut first = Vec::new();
        for connection in 0..3 {
            let mut peer = site.connect().await;
            peer.send(&repeated).await;
            let mut answers = Vec::new();
            for _ in 0..count {
                answers.push(peer.answer().await.unwrap().raw);
            }
            if connection == 0 {
                first = answers;
            } else {
                assert_eq!(answers, first, "to the byte");
            }
        }
    }
    assert_eq!(site.stored().await.len(), 2);
    assert_eq!(site.metrics.repeats.with_label_values(&["pumps"]).get(), 4);
    assert_eq!(site.metrics.control_id_reuse.with_label_values(&["pumps"]).get(), 0);
}

#[tokio::test]
async fn the_answer_to_a_repeat_tells_when_the_first_was_received() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut answers = Vec::new();
    for at in ["2026-03-14T10:15:00Z", "2026-03-14T11:15:00Z"] {
        let clock = Clock::fixed(at.parse().unwrap());
        let metrics = Arc::new(Metrics::new().unwrap());
        let intake = intake(vec![Arc::new(channel("pumps", &[]))], store.clone(), clock, metrics, HOLD);
        let asking = asking(&message("TWICE"), "AL", "AL");
        answers.push(intake.frame(peer_address(), asking.into(), Instant::now()).await.messages);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|answer| answer.windows(14).any(|part| part == b"20260314101500")));
    assert_ne!(answers[0][0], answers[0][1], "two acknowledgements, two control ids");
}

#[tokio::test]
async fn a_control_id_used_for_other_content_is_a_new_message_and_counted() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    for value in ["80", "81", "82"] {
        peer.send(message("REUSED").replacen("|80|", &format!("|{value}|"), 1)).await;
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
    assert_eq!(site.stored().await.len(), 3);
    assert_eq!(site.metrics.control_id_reuse.with_label_values(&["pumps"]).get(), 2);
}

#[tokio::test]
async fn pipelined_messages_are_stored_and_answered_in_the_order_sent() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    let messages: Vec<String> = (0..100).map(|n| message(&format!("SEQ{n}"))).collect();
    let stream: Vec<u8> = messages.iter().flat_map(|message| framed(message.as_bytes())).collect();
    peer.stream.write_all(&stream).await.unwrap();
    for n in 0..100 {
        let answer = peer.answer().await.unwrap();
        assert_eq!((answer.code.as_str(), answer.control_id), ("AA", format!("SEQ{n}").into_bytes()));
    }
    assert_eq!(site.stored().await, messages);
    drop(peer);
    site.server.drain(BOUND).await;
    assert_eq!(site.metrics.messages_received.with_label_values(&["pumps"]).get(), 100);
    assert_eq!(site.metrics.ack_seconds.with_label_values(&["pumps"]).get_sample_count(), 100);
}

#[tokio::test]
async fn a_message_sent_right_before_the_peer_closes_is_stored() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    peer.send(message("LAST")).await;
    drop(peer);
    let stored = async {
        while site.store.stats().messages == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, stored).await.expect("stored");
}

#[tokio::test]
async fn a_channel_with_conformance_reject_refuses_bad_content_before_it_is_stored() {
    let mut strict = channel("pumps", &[]);
    strict.listener.conformance = Conformance::Reject;
    let site = Site::with(strict).await;
    let mut peer = site.connect().await;
    for (n, (from, to, code, location)) in [
        ("OBR|1||||||20260314\r", "", "100", "OBR^1"),
        ("7^^^H", "", "101", "PID^1^3"),
        ("|80|", "|NaN|", "102", "OBX^1^5"),
        ("|NM|", "|QQ|", "103", "OBX^1^2"),
    ]
    .into_iter()
    .enumerate()
    {
        peer.send(asking(&with(from, to), "AL", "NE")).await;
        let answer = peer.answer().await.unwrap();
        assert_eq!((answer.code.as_str(), answer.error.as_deref()), ("CE", Some(code)));
        assert_eq!(answer.location, location);
        peer.send(message(&format!("GOOD{n}"))).await;
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
    assert_eq!(site.stored().await.len(), 4);
}

/// A report that keeps every rule of the framework.
const CONFORMING: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|4W|||20260301120000+0100||ORU^R01^ORU_R01|C1|P|2.6|||AL|NE|||||DEC^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r\
    PID|||4711^^^HOSP^MR||CANARYNAME^Jane^^^^^L\rPV1||I|4W^12^1\r\
    OBR|1||F1^GATEWAY|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260301115900+0100\r\
    OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||G^^ACDE480000000002^EUI-64\r\
    OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20260301115930+0100||||||R\r";

fn site_with(conformance: Conformance, profile: Profile) -> impl Future<Output = Site> {
    let mut channel = channel("pumps", &[]);
    (channel.listener.conformance, channel.listener.profile) = (conformance, profile);
    Site::with(channel)
}

fn broken_rule(site: &Site, rule: &str) -> u64 {
    site.metrics.broken_rules.with_label_values(&["pumps", rule]).get()
}

async fn findings_of(site: &Site, nth: usize) -> Vec<String> {
    let mut found = site.store.find(Query { limit: 1000, ..Query::default() }).await.unwrap();
    found.sort_by_key(|summary| summary.id);
    let kept = site.store.read(found[nth].id).await.unwrap();
    kept.findings.iter().map(|mark| format!("{} {}", mark.shown().rule, mark.shown().place)).collect()
}

#[tokio::test]
async fn the_strict_profile_refuses_by_the_first_error_and_says_which_rule() {
    let site = site_with(Conformance::Reject, Profile::Strict).await;
    let mut peer = site.connect().await;
    peer.send(CONFORMING).await;
    assert_eq!(peer.answer().await.unwrap().code, "CA");
    for (from, to, code, location) in [
        ("C1|P|2.6|||AL", "C2|P|2.6|||AL", None, ""),
        ("OBX|2|DTM", "OBX|7|DTM", Some("102"), "OBX^2^1"),
        ("1.6.1.1.1^ISO", "1.6.4.1^ISO", Some("103"), "MSH^1^21"),
        ("|4711^^^HOSP^MR|", "||", Some("101"), "PID^1^3"),
    ] {
        peer.send(CONFORMING.replacen(from, to, 1)).await;
        let answer = peer.answer().await.unwrap();
        let expected = if code.is_some() { "CE" } else { "CA" };
        assert_eq!((answer.code.as_str(), answer.error.as_deref()), (expected, code), "{to}");
        assert_eq!(answer.location, location, "{to}");
    }
    // A warning refuses nothing.
    peer.send(CONFORMING.replace("C1|P|2.6|||AL|NE", "C3|P|2.6|||AL|ER")).await;
    assert_eq!(peer.answer().await.unwrap().code, "CA");
    assert_eq!(site.stored().await.len(), 3);
    assert_eq!(findings_of(&site, 2).await, ["A07 MSH^1^16"]);
}

#[tokio::test]
async fn a_report_never_refuses_and_what_it_finds_is_kept_and_counted() {
    let site = site_with(Conformance::Report, Profile::Strict).await;
    let mut peer = site.connect().await;
    for (n, to) in ["OBX|7|DTM", "OBX|7|DTM", "OBX|2|NM"].into_iter().enumerate() {
        peer.send(CONFORMING.replace("|C1|", &format!("|R{n}|")).replace("OBX|2|DTM", to)).await;
        assert_eq!(peer.answer().await.unwrap().code, "CA");
    }
    peer.send(CONFORMING).await;
    assert_eq!(peer.answer().await.unwrap().code, "CA");
    assert_eq!(findings_of(&site, 0).await, ["A19 OBX^2^1"]);
    assert_eq!(findings_of(&site, 2).await, ["H07 OBX^2^5", "H08 OBX^2^6", "A25 OBX^2^5", "A26 OBX^2^6"]);
    assert_eq!(findings_of(&site, 3).await, [""; 0]);
    assert_eq!(["A19", "A25", "H07", "A01"].map(|rule| broken_rule(&site, rule)), [2, 1, 1, 0]);
    assert_eq!(site.metrics.nonconforming.with_label_values(&["pumps", "102"]).get(), 1);
    let senders = site.conformity.senders.list();
    let rules: Vec<_> = senders[0].rules.iter().map(|rule| (rule.rule, rule.messages)).collect();
    assert_eq!((senders.len(), senders[0].messages, senders[0].nonconforming), (1, 4, 3));
    assert_eq!(rules, [("A19", 2), ("A25", 1), ("A26", 1), ("H07", 1), ("H08", 1)]);
}

#[tokio::test]
async fn a_channel_that_examines_nothing_keeps_and_counts_no_finding() {
    let site = site_with(Conformance::Off, Profile::Strict).await;
    let mut peer = site.connect().await;
    peer.send(CONFORMING.replace("OBX|2|DTM", "OBX|2|NM")).await;
    assert_eq!(peer.answer().await.unwrap().code, "CA");
    assert_eq!(findings_of(&site, 0).await, [""; 0]);
    assert_eq!((broken_rule(&site, "H07"), site.conformity.senders.list()), (0, vec![]));
}

#[tokio::test]
async fn a_channel_can_take_what_is_refused_elsewhere() {
    let mut open = channel("pumps", &[]);
    open.listener.processing_ids = vec!["P".into(), "T".into()];
    open.listener.versions = vec!["2.5".into(), "3.".into()];
    let site = Site::with(open).await;
    let mut peer = site.connect().await;
    for (from, to, code) in [
        ("|P|2.6|", "|T|2.5.1|", "AA"),
        ("|P|2.6|", "|P|3.9|", "AA"),
        ("|P|2.6|", "|P|2.51|", "AR"),
        ("|P|2.6|", "|D|2.5|", "AR"),
        ("ORU^R01^ORU_R01|BAD|P|2.6", "ZZZ^Z99|OTHER|P|2.5", "AA"),
    ] {
        peer.send(with(from, to)).await;
        assert_eq!(peer.answer().await.unwrap().code, code, "{to}");
    }
}

#[tokio::test]
async fn shifted_japanese_text_may_hold_escape_and_other_text_may_not() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    let shifted = with("ANN", "\x1b$B;3ED\x1b(B");
    peer.send(shifted.replacen("|2.6|||||||", "|2.6||||||ISO IR87|", 1)).await;
    assert_eq!(peer.answer().await.unwrap().code, "AA");
    peer.send(&shifted).await;
    let answer = peer.answer().await.unwrap();
    assert_eq!((answer.error.as_deref(), answer.location.as_str()), (Some("102"), "PID^1^5"));
}

#[tokio::test]
async fn the_first_channel_that_accepts_takes_the_message() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = MemoryStore::default();
    let channels = vec![channel("alarms", &["ORU^R40"]), channel("pumps", &["ORU^R01", "ORU^R40"])];
    let channels = channels.into_iter().map(Arc::new).collect();
    let intake = intake(channels, Arc::new(store.clone()), Clock::system(), metrics, HOLD);
    for (kind, expected) in [("ORU^R01", Some("pumps")), ("ORU^R40", Some("alarms")), ("ADT^A01", Some("alarms"))] {
        let frame = message(kind).replacen("ORU^R01", kind, 1).replacen("_R01", "", 1);
        let answer = intake.frame(peer_address(), frame.into(), Instant::now()).await;
        assert_eq!(answer.channel.as_deref(), expected, "{kind}");
    }
    intake.set_channels(vec![Arc::new(channel("reloaded", &[]))]);
    let answer = intake.frame(peer_address(), message("NEXT").into(), Instant::now()).await;
    assert_eq!(answer.channel.as_deref(), Some("reloaded"));
}

fn peer_address() -> SocketAddr {
    "10.0.0.1:5000".parse().unwrap()
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_by_its_head_and_the_connection_ends() {
    let mut small = channel("pumps", &[]);
    small.listener.limits.frame_bytes_max = 1000;
    let site = Site::with(small).await;
    let mut peer = site.connect().await;
    peer.send(message("SMALL")).await;
    assert_eq!(peer.answer().await.unwrap().code, "AA");
    peer.send(format!("{}{}", asking(&message("LARGE"), "AL", "NE"), "x".repeat(5000))).await;
    let answer = peer.answer().await.unwrap();
    assert_eq!((answer.code.as_str(), answer.error.as_deref()), ("CE", Some("104")));
    assert_eq!(answer.control_id, b"LARGE");
    assert_eq!(peer.answer().await, None);

    let mut peer = site.connect().await;
    peer.send("x".repeat(5000)).await;
    assert_eq!(peer.answer().await, None, "no MSH, no answer");
    assert_eq!(site.stored().await.len(), 1);
}

#[tokio::test]
async fn a_failed_store_is_no_positive_answer_and_the_connection_ends() {
    for fault in [StoreError::Failed("EIO".into()), StoreError::Closed] {
        let site = Site::new().await;
        site.store.refuse(Some(fault));
        for (accept, application, code) in [("", "", "AR"), ("AL", "NE", "CR"), ("NE", "AL", "AR")] {
            let mut peer = site.connect().await;
            peer.send(asking(&message("LOST"), accept, application)).await;
            let answer = peer.answer().await.unwrap();
            assert_eq!((answer.code.as_str(), answer.error.as_deref()), (code, Some("207")));
            assert_eq!(peer.answer().await, None);
        }
        site.store.refuse(None);
        let mut peer = site.connect().await;
        peer.send(message("LOST")).await;
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
}

#[tokio::test]
async fn no_frame_is_stored_behind_one_the_store_failed_for_though_it_works_again() {
    let (store, metrics) = (MemoryStore::default(), Arc::new(Metrics::new().unwrap()));
    let channels = vec![Arc::new(channel("pumps", &[]))];
    let intake = intake(channels, Arc::new(store.clone()), Clock::system(), metrics, HOLD);
    store.refuse(Some(StoreError::Failed("EIO".into())));
    let first = intake.frame(peer_address(), message("FIRST").into(), Instant::now());
    store.refuse(None);
    let second = intake.frame(peer_address(), message("SECOND").into(), Instant::now());
    let (first, second) = (first.await, second.await);
    assert!(first.close && second.close && second.codes.is_empty(), "the sender repeats both, in order");
    assert_eq!(store.stats().messages, 0);
    let again = intake.frame(peer_address(), message("FIRST").into(), Instant::now()).await;
    assert!(!again.close && store.stats().messages == 1);
}

#[tokio::test]
async fn messages_held_for_a_full_store_are_stored_in_order_once_there_is_room() {
    let site = Site::new().await;
    site.store.refuse(Some(StoreError::Full));
    let mut peer = site.connect().await;
    peer.send(message("HELD0")).await;
    // Answered on another connection: the first is with the intake by now, and held.
    let held = async {
        while site.metrics.messages_received.with_label_values(&["pumps"]).get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, held).await.unwrap();
    for n in 1..5 {
        peer.send(message(&format!("HELD{n}"))).await;
    }
    site.store.refuse(None);
    for n in 0..5 {
        let answer = peer.answer().await.unwrap();
        assert_eq!(answer.control_id, format!("HELD{n}").into_bytes());
        assert_eq!(answer.code, "AA");
    }
    let stored = site.stored().await;
    let sent: Vec<String> = (0..5).map(|n| message(&format!("HELD{n}"))).collect();
    assert_eq!(stored, sent);
}

#[tokio::test(start_paused = true)]
async fn a_store_full_for_longer_than_the_hold_is_told_and_the_connection_stays() {
    let store = MemoryStore::default();
    store.refuse(Some(StoreError::Full));
    let metrics = Arc::new(Metrics::new().unwrap());
    let channels = vec![Arc::new(channel("pumps", &[]))];
    let devices = Arc::new(Devices::default());
    let intake = {
        let (store, clock): (Arc<dyn Store>, _) = (Arc::new(store.clone()), Clock::system());
        let owed = Owed::new(store.clone(), clock.clone(), metrics.clone());
        Intake::new(channels, store, clock, metrics.clone(), devices.clone(), owed, HOLD)
    };
    let begun = tokio::time::Instant::now();
    let first = intake.frame(peer_address(), message("FULL").into(), Instant::now());
    // With a fault in its content, and in enhanced mode.
    let faulty = asking(&message("FULL2"), "AL", "NE").replacen("|80|", "|NaN|", 1);
    let second = intake.frame(peer_address(), faulty.into(), Instant::now());
    let answer = first.await;
    assert_eq!((begun.elapsed().as_secs(), answer.close), (0, false), "not held: the second may be stored before it");
    assert_eq!(Reply::read(&answer.messages[0]).code, "AR");
    let answer = second.await;
    assert_eq!((begun.elapsed().as_secs(), answer.close), (10, false));
    let reply = Reply::read(&answer.messages[0]);
    assert_eq!((reply.code.as_str(), reply.error.as_deref()), ("CR", Some("207")));
    assert_eq!(metrics.messages_received.with_label_values(&["pumps"]).get(), 2, "tries are not counted");
    assert_eq!(metrics.nonconforming.with_label_values(&["pumps", "102"]).get(), 1);
    let (heard, _) = devices.page(&DeviceQuery { limit: 10, ..DeviceQuery::default() });
    assert_eq!(heard.iter().map(|device| device.messages).collect::<Vec<_>>(), [2]);
    store.refuse(None);
    let answer = intake.frame(peer_address(), message("FULL").into(), Instant::now()).await;
    assert_eq!(Reply::read(&answer.messages[0]).code, "AA");
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_nothing_refuses_at_once_and_a_short_one_ends_in_time() {
    for hold in [Duration::ZERO, Duration::from_millis(30), Duration::from_millis(250)] {
        let store = MemoryStore::default();
        store.refuse(Some(StoreError::Full));
        let (channels, metrics) = (vec![Arc::new(channel("pumps", &[]))], Arc::new(Metrics::new().unwrap()));
        let intake = intake(channels, Arc::new(store), Clock::system(), metrics, hold);
        let begun = tokio::time::Instant::now();
        let answer = intake.frame(peer_address(), message("FULL").into(), Instant::now()).await;
        assert_eq!((begun.elapsed(), answer.close), (hold, false));
        let reply = Reply::read(&answer.messages[0]);
        assert_eq!((reply.code.as_str(), reply.error.as_deref()), ("AR", Some("207")));
    }
}

#[tokio::test(start_paused = true)]
async fn messages_held_behind_each_other_are_all_refused_when_their_own_hold_ends() {
    let store = MemoryStore::default();
    store.refuse(Some(StoreError::Full));
    let (channels, metrics) = (vec![Arc::new(channel("pumps", &[]))], Arc::new(Metrics::new().unwrap()));
    let intake = intake(channels, Arc::new(store), Clock::system(), metrics, HOLD);
    let begun = tokio::time::Instant::now();
    let frame = |id: &str| intake.frame(peer_address(), message(id).into(), Instant::now());
    let first = tokio::spawn(frame("FIRST"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let behind = [frame("SECOND"), frame("THIRD")];
    assert_eq!(Reply::read(&first.await.unwrap().messages[0]).code, "AR");
    for answer in behind {
        assert_eq!(Reply::read(&answer.await.messages[0]).code, "AR");
    }
    assert_eq!(begun.elapsed().as_secs(), 11);
}

#[tokio::test]
async fn an_acknowledgement_that_arrives_is_counted_and_not_answered() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    peer.send("MSH|^~\\&|A|B|C|D|20260314||ACK^R01^ACK|1|P|2.6|||AL|AL\rMSA|AA|1\r").await;
    peer.send(message("GOOD")).await;
    assert_eq!(peer.answers_before("GOOD").await, []);
    assert_eq!(site.count(&site.metrics.bad_frames, "ack"), 1);
    assert_eq!(site.stored().await.len(), 1);
}

/// Runs over the messages of a folder that a site has of its own gateways.
#[tokio::test]
async fn real_messages_are_taken_and_stored_as_sent() {
    let Some(folder) = std::env::var_os("CANNULA_TEST_MESSAGES") else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return;
    };
    let mut open = channel("pumps", &[]);
    open.listener.processing_ids = ["P", "T", "D", ""].map(str::to_owned).to_vec();
    open.listener.versions = vec!["2.".to_owned()];
    open.repeat.key = vec![];
    let site = Site::with(open).await;
    let mut peer = site.connect().await;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        let acknowledges = Header::read(&bytes).0.component(9, 1) == b"ACK";
        if acknowledges || !bytes.starts_with(b"MSH") || bytes.iter().any(|b| matches!(b, 0x0B | 0x1C)) {
            continue;
        }
        peer.send(&bytes).await;
        peer.send(message("PROBE")).await;
        let mut answers = Vec::new();
        loop {
            let answer = peer.answer().await.expect("the connection stays");
            if answer.control_id == b"PROBE" {
                break;
            }
            answers.push(answer);
        }
        let faults: Vec<_> = answers.iter().filter_map(|answer| answer.error.clone()).collect();
        match faults.as_slice() {
            [] => taken.push(bytes),
            codes => println!("{}: refused with {codes:?}", path.display()),
        }
    }
    let stored = site.stored().await;
    let missing = taken.iter().filter(|bytes| !stored.iter().any(|message| message == *bytes)).count();
    println!("{} taken", taken.len());
    assert_eq!(missing, 0, "taken and not stored as sent");
}

#[tokio::test]
async fn a_connection_is_known_until_it_has_ended_whatever_ended_before_it() {
    let (store, metrics) = (MemoryStore::default(), Arc::new(Metrics::new().unwrap()));
    let channels = vec![Arc::new(channel("pumps", &["ORU^R01"]))];
    let intake = intake(channels, Arc::new(store), Clock::system(), metrics.clone(), HOLD);
    let (address, budget) = ("127.0.0.1:0".parse().unwrap(), Budget::of_bytes(1 << 26));
    let server = Server::bind(address, limits(), None, intake.clone(), budget, metrics).unwrap();
    let server = server.serve(Arc::new(Threads::of_caller()));
    let mut peer = Peer { stream: TcpStream::connect(server.address()).await.unwrap(), buffer: Vec::new() };
    peer.send(message("GOOD")).await;
    assert_eq!(peer.answer().await.unwrap().code, "AA");
    // One before it from the same address and port, whose end is noticed only now.
    intake.closed(peer.stream.local_addr().unwrap());
    assert_eq!(intake.shared.open().len(), 1);
    server.drain(BOUND).await;
    assert!(intake.shared.open().is_empty());
}
