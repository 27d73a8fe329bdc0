//! Frames that hold a batch.

use super::*;
use crate::devices::DeviceQuery;

fn taking_batches() -> Channel {
    let mut channel = channel("pumps", &["ORU^R01", "ORU^R40", "RGV^O15"]);
    channel.listener.batch = true;
    channel
}

fn batch(messages: &[String], count: &str) -> String {
    format!("BHS|^~\\&|GW|W|EHR|H|20260314||||BATCH-7\r{}BTS|{count}\r", messages.concat())
}

/// The codes, control ids and errors of the ACKs in a batch of them, which is checked to be one.
fn acks(frame: &[u8]) -> Vec<(String, String, Option<String>)> {
    let text = std::str::from_utf8(frame).unwrap();
    let (header, rest) = text.split_once('\r').unwrap();
    let fields: Vec<&str> = header.split('|').collect();
    assert_eq!((fields[0], fields[2], fields[4], fields[11]), ("BHS", "EHR", "GW", "BATCH-7"), "{text}");
    let (messages, trailer) = rest.split_at(rest.rfind("BTS|").unwrap());
    let acks: Vec<_> = messages.split_inclusive("MSH|").filter(|part| *part != "MSH|").collect();
    assert_eq!(trailer, format!("BTS|{}\r", acks.len()), "{text}");
    let ack = |part: &str| {
        let reply = Reply::read(format!("MSH|{part}").as_bytes());
        (reply.code, String::from_utf8(reply.control_id).unwrap(), reply.error)
    };
    acks.into_iter().map(ack).collect()
}

fn told(code: &str, id: &str) -> (String, String, Option<String>) {
    (code.to_owned(), id.to_owned(), None)
}

#[tokio::test]
async fn each_message_of_a_batch_goes_its_own_way_and_one_batch_answers_as_each_asks() {
    let site = Site::with(taking_batches()).await;
    let mut peer = site.connect().await;
    let messages = [
        message("B1"),
        asking(&message("B2"), "AL", "NE"),
        asking(&message("B3"), "NE", "NE"),
        asking(&message("B4"), "AL", "AL"),
        message("B5").replacen("ANN", "A\x01N", 1),
        message("B6").replacen("ORU^R01^ORU_R01", "ZZZ^Z99", 1),
    ];
    peer.send(batch(&messages, "6")).await;
    let fault = |code: &str, id: &str, error: &str| (code.to_owned(), id.to_owned(), Some(error.to_owned()));
    let due = [
        told("AA", "B1"),
        told("CA", "B2"),
        told("CA", "B4"),
        told("AA", "B4"),
        fault("AE", "B5", "102"),
        fault("AR", "B6", "200"),
    ];
    assert_eq!(acks(&peer.frame().await.unwrap()), due);
    peer.send(message("GOOD")).await;
    assert_eq!(peer.answer().await.unwrap().code, "AA");
    let kept: Vec<String> = messages[..4].iter().cloned().chain([message("GOOD")]).collect();
    assert_eq!(site.stored().await, kept, "in order and to the byte");
    assert_eq!(site.metrics.messages_received.with_label_values(&["pumps"]).get(), 7);
}

#[tokio::test]
async fn a_batch_that_is_not_whole_is_refused_whole_and_nothing_of_it_is_stored() {
    let site = Site::with(taking_batches()).await;
    let mut peer = site.connect().await;
    let two = [message("B1"), asking(&message("B2"), "AL", "NE")];
    let whole = batch(&two, "2");
    for (broken, code, location) in [
        (batch(&two, "3"), "102", "BTS^1^1"),
        (batch(&two, "x"), "102", "BTS^1^1"),
        (whole.replace("BTS|2\r", ""), "102", ""),
        (format!("FHS|^~\\&|||||||||BATCH-7\r{whole}"), "102", ""),
        (format!("FHS|^~\\&|||||||||BATCH-7\r{whole}FTS|2\r"), "102", "FTS^1^1"),
        (format!("{whole}{}", message("B3")), "100", ""),
    ] {
        peer.send(&broken).await;
        let answer = peer.answer().await.unwrap();
        assert_eq!((answer.code.as_str(), answer.control_id.as_slice()), ("AE", &b"BATCH-7"[..]), "{broken}");
        assert_eq!((answer.error.as_deref(), answer.location.as_str()), (Some(code), location), "{broken}");
    }
    assert_eq!(site.store.stats().messages, 0);
    peer.send(whole).await;
    assert_eq!(acks(&peer.frame().await.unwrap()), [told("AA", "B1"), told("CA", "B2")]);
    assert_eq!(site.store.stats().messages, 2);
}

#[tokio::test]
async fn a_trailer_without_its_header_is_told_as_that_where_batches_are_taken_and_where_not() {
    for channel in [taking_batches(), channel("pumps", &[])] {
        let site = Site::with(channel).await;
        let mut peer = site.connect().await;
        for (frame, id) in [
            (format!("{}BTS|1\r", message("B1")), "B1"),
            ("BTS|0\rFTS|1\r".to_owned(), ""),
            (format!("FTS|1\r{}", message("B1")), ""),
        ] {
            peer.send(&frame).await;
            let answer = peer.answer().await.unwrap();
            let told = (answer.code.as_str(), answer.error.as_deref(), answer.control_id.as_slice());
            assert_eq!(told, ("AE", Some("100"), id.as_bytes()), "{frame}");
            let raw = String::from_utf8_lossy(&answer.raw).into_owned();
            assert!(raw.contains("send the batch whole") && !raw.contains("channel set"), "{raw}");
        }
        assert_eq!(site.store.stats().messages, 0);
    }
}

#[tokio::test]
async fn a_batch_sent_again_after_a_crash_amid_it_is_stored_once() {
    let site = Site::with(taking_batches()).await;
    let messages: Vec<String> = (0..50).map(|n| message(&format!("B{n}"))).collect();
    // What a crash between two commits leaves: the first of them stored, and nobody answered.
    let mut peer = site.connect().await;
    for message in &messages[..20] {
        peer.send(message).await;
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
    for _ in 0..2 {
        let mut peer = site.connect().await;
        peer.send(batch(&messages, "50")).await;
        let due: Vec<_> = (0..50).map(|n| told("AA", &format!("B{n}"))).collect();
        assert_eq!(acks(&peer.frame().await.unwrap()), due);
        assert_eq!(site.stored().await, messages);
    }
}

#[tokio::test]
async fn a_failed_store_leaves_a_batch_unanswered_and_ends_the_connection() {
    let site = Site::with(taking_batches()).await;
    site.store.refuse(Some(StoreError::Failed("EIO".into())));
    let mut peer = site.connect().await;
    peer.send(batch(&[message("B1"), message("B2")], "2")).await;
    assert_eq!(peer.frame().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_finds_the_store_full_is_held_and_then_refused_message_by_message() {
    for mended in [false, true] {
        let store = MemoryStore::default();
        store.refuse(Some(StoreError::Full));
        let metrics = Arc::new(Metrics::new().unwrap());
        let channels = vec![Arc::new(taking_batches())];
        let intake = intake(channels, Arc::new(store.clone()), Clock::system(), metrics, HOLD);
        let peer = "10.0.0.1:5000".parse().unwrap();
        let frame = batch(&[message("B1"), message("B2").replacen("ANN", "A\x01N", 1), message("B3")], "3");
        let answer = tokio::spawn(intake.frame(peer, frame.into(), Instant::now()));
        tokio::time::sleep(HOLD / 2).await;
        if mended {
            store.refuse(None);
        }
        let answer = timeout(BOUND, answer).await.unwrap().unwrap();
        let codes: Vec<String> = acks(&answer.messages[0]).into_iter().map(|(code, ..)| code).collect();
        assert_eq!(codes, if mended { ["AA", "AE", "AA"] } else { ["AR", "AE", "AR"] });
        assert_eq!((store.stats().messages, answer.close), (if mended { 2 } else { 0 }, false));
    }
}

#[tokio::test]
async fn acknowledgements_in_a_batch_are_not_answered_and_a_batch_of_nothing_is_by_one() {
    let site = Site::with(taking_batches()).await;
    let mut peer = site.connect().await;
    let ack = |id: &str| format!("MSH|^~\\&|A|B|C|D|20260314||ACK^R01^ACK|{id}|P|2.6|||AL|AL\rMSA|AA|{id}\r");
    peer.send(batch(&[ack("1"), ack("2")], "2")).await;
    peer.send(batch(&[], "0")).await;
    assert_eq!(acks(&peer.frame().await.unwrap()), []);
    peer.send(batch(&[], "0").replacen("BATCH-7", "BATCH-8|BATCH-7", 1)).await;
    peer.send(message("GOOD")).await;
    assert_eq!(peer.answers_before("GOOD").await, []);
    assert_eq!(site.count(&site.metrics.bad_frames, "ack"), 2);
}

#[tokio::test]
async fn a_batch_with_a_message_for_a_channel_that_takes_none_is_refused_whole() {
    let mut batches = taking_batches();
    batches.accept = Filter::new(vec![Condition::new(path("MSH-9"), &["ORU^R01".to_owned()])], None);
    let channels = vec![Arc::new(batches), Arc::new(channel("others", &["ORU^R40"]))];
    let (store, metrics) = (MemoryStore::default(), Arc::new(Metrics::new().unwrap()));
    let devices = Arc::new(Devices::default());
    let intake = {
        let (store, clock): (Arc<dyn Store>, _) = (Arc::new(store.clone()), Clock::system());
        let owed = Owed::new(store.clone(), clock.clone(), metrics.clone());
        Intake::new(channels, store, clock, metrics.clone(), devices.clone(), owed, HOLD)
    };
    let peer = "10.0.0.1:5000".parse().unwrap();
    let stray = message("B2").replacen("ORU^R01^ORU_R01", "ORU^R40^ORU_R40", 1);
    let answer = intake.frame(peer, batch(&[message("B1"), stray], "2").into(), Instant::now()).await;
    let reply = Reply::read(&answer.messages[0]);
    assert_eq!((reply.code.as_str(), reply.error.as_deref()), ("AR", Some("200")));
    assert_eq!(store.stats().messages, 0);
    let (heard, _) = devices.page(&DeviceQuery { limit: 10, ..DeviceQuery::default() });
    assert_eq!(heard, [], "what is refused whole has not been heard");
    assert!(!metrics.text().unwrap().contains("cannula_unassociated_total{"));
}

#[tokio::test]
async fn an_observation_that_is_withdrawn_as_another_patients_is_told_to_a_person() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    for (n, status) in ["R", "D", "W", "W"].into_iter().enumerate() {
        peer.send(message(&format!("W{n}")).replace("|||||R|||", &format!("|||||{status}|||"))).await;
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
    assert_eq!(site.metrics.wrong_patient.with_label_values(&["pumps"]).get(), 2);
}

#[tokio::test]
async fn a_batch_is_weighed_by_its_messages_and_refused_where_they_take_more_memory_than_there_is() {
    let (store, metrics) = (MemoryStore::default(), Arc::new(Metrics::new().unwrap()));
    let channels = vec![Arc::new(taking_batches())];
    let intake = intake(channels, Arc::new(store.clone()), Clock::system(), metrics.clone(), HOLD);
    let frame = |count: usize| batch(&vec![message("B"); count], "");
    let weight = intake.weight(frame(10).as_bytes());
    assert!(weight > frame(10).len() + 10 * 1024, "{weight}");
    assert_eq!(intake.weight(message("B").as_bytes()), message("B").len());
    intake.set_batch_bytes_max(weight);
    let peer = "10.0.0.1:5000".parse().unwrap();
    let answer = intake.frame(peer, frame(11).into(), Instant::now()).await;
    let reply = Reply::read(&answer.messages[0]);
    assert_eq!((reply.code.as_str(), reply.error.as_deref(), answer.close), ("AE", Some("104"), false));
    assert!(String::from_utf8_lossy(&answer.messages[0]).contains("split it"));
    assert_eq!(metrics.limits_hit.with_label_values(&["pumps", "batch_memory"]).get(), 1);
    assert_eq!(store.stats().messages, 0);
    let answer = intake.frame(peer, frame(10).into(), Instant::now()).await;
    assert_eq!(acks(&answer.messages[0]).len(), 10);
    intake.set_batch_bytes_max(usize::MAX);
    let answer = intake.frame(peer, frame(10_001).into(), Instant::now()).await;
    assert_eq!(Reply::read(&answer.messages[0]).error.as_deref(), Some("198"));
    assert_eq!(metrics.limits_hit.with_label_values(&["pumps", "batch_messages"]).get(), 1);
}
