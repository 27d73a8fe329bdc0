#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bench;
mod chance;
mod channels;
mod episodes;
mod gate;
mod peers;
mod poison;
mod simulation;
mod together;
mod told;
mod unrecorded;

use tokio::time::Instant;

use super::*;
use crate::{
    channel::OnReject,
    destination::{FileLayout, FileSettings, Verdict},
    store::{Settlement, StoreError},
    translate::{TranslateError, Translated, Unsent},
};
use bench::*;

fn unavailable() -> Verdict {
    Verdict::unavailable("down")
}

#[tokio::test(start_paused = true)]
async fn a_lane_sends_one_message_at_a_time_and_settles_each_with_a_receipt() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=3);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    for id in 1..=3 {
        let call = calls.next().await;
        assert_eq!(call.id(), id);
        assert_eq!(call.outgoing.control_id, format!("c7-{id}"));
        assert!(!call.outgoing.possible_repeat);
        assert_eq!(status(&delivery).in_flight, 1);
        calls.expect_none().await;
        assert_eq!(shelf.outcomes().len() as u64, id - 1);
        call.accept();
        shelf.until_settled(id as usize).await;
    }
    shelf.with(|contents| {
        let Settlement::Accepted(receipt) = &contents.settled[0].2 else { panic!() };
        assert_eq!((receipt.configuration, receipt.attempts, receipt.answer.as_str()), (7, 1, "AA"));
        use sha2::{Digest, Sha256};
        assert_eq!(receipt.sent_sha256, <[u8; 32]>::from(Sha256::digest(b"MSH|^~\\&|||||||ORU^R01|c7-1|\r")));
    });
    shelf.put("ehr", 0, [4]);
    assert_eq!(calls.next().await.id(), 4, "woken by the store");
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_order_and_makes_no_dead_letter() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    for _ in 0..500 {
        let call = calls.next().await;
        assert_eq!((call.id(), call.outgoing.possible_repeat), (1, false));
        call.answer(unavailable());
    }
    until_state(&delivery, "retrying").await;
    assert_eq!(status(&delivery).last_error.as_deref(), Some("down"));
    assert_eq!(stands_at(&delivery), [1]);
    at_rest().await;
    let next_try = status(&delivery).next_try.unwrap().as_second();
    assert!((91..=150).contains(&next_try), "by the clock that stands at 90: {next_try}");
    assert_eq!(status(&delivery).waiting, 2);
    assert_eq!(status(&delivery).oldest_age_seconds, Some(90.0));
    let up = delivery.metrics.destination_up.with_label_values(&["pumps", "ehr"]);
    assert_eq!(up.get(), 0);
    calls.next().await.accept();
    calls.next().await.accept();
    shelf.until_settled(2).await;
    assert_eq!(shelf.outcomes(), [(1, "accepted AA 501".into()), (2, "accepted AA 1".into())]);
    assert_eq!((status(&delivery).state.as_str(), status(&delivery).last_error, up.get()), ("running", None, 1));
    assert_eq!(stands_at(&delivery), [0; 0]);
    assert_eq!(status(&delivery).next_try, None);
    shelf.with(|contents| assert_eq!(contents.attempts.len(), 1, "one reason is noted once"));
    let attempts = |outcome| delivery.metrics.attempts.with_label_values(&["pumps", "ehr", outcome]).get();
    assert_eq!((attempts("unavailable"), attempts("accepted"), attempts("rejected")), (500, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_receivers_retry_after_is_kept_and_told_as_the_next_try() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let asked = Duration::from_secs(600);
    calls.next().await.answer(Verdict::Unavailable { reason: "busy".into(), retry_after: Some(asked) });
    let before = Instant::now();
    at_rest().await;
    let next_try = status(&delivery).next_try.unwrap().as_second();
    assert_eq!(next_try, 90 + 600, "by the clock that stands at 90");
    calls.next().await.accept();
    assert!(before.elapsed() >= asked);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_message_is_parked_and_the_lane_goes_on() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    calls.next().await.answer(Verdict::rejected("422"));
    calls.next().await.accept();
    shelf.until_settled(2).await;
    assert_eq!(shelf.outcomes(), [(1, "dead 422 1".into()), (2, "accepted AA 1".into())]);
    assert_eq!(status(&delivery).dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_held_lane_stands_until_retried_or_parked_and_stops_no_other() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    let hold = Service { on_reject: OnReject::Hold, ..service(receiver, 7) };
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 2, hold)]).unwrap();
    calls.next().await.answer(Verdict::rejected("422"));
    until_state(&delivery, "held").await;
    calls.expect_none().await;
    assert!(shelf.outcomes().is_empty());

    shelf.put("ehr", 1, [3]);
    let other = calls.next().await;
    assert_eq!(other.lane, 1);
    other.accept();
    shelf.until_settled(1).await;
    assert_eq!(status(&delivery).state, "held");
    assert_eq!(stands_at(&delivery), [1], "and names the message that holds it");

    delivery.retry("pumps", "ehr").await.unwrap();
    let again = calls.next().await;
    assert_eq!(again.id(), 1);
    again.answer(Verdict::rejected("422"));
    until_state(&delivery, "held").await;

    delivery.park("pumps", "ehr").await.unwrap();
    assert_eq!(calls.next().await.id(), 2);
    assert_eq!(shelf.outcomes()[1], (1, "dead parked by a person; its last attempt: 422 2".into()));
    assert_eq!(status(&delivery).state, "running");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_gets_through_is_parked_by_the_operator_and_the_lane_goes_on() {
    for poison in [unavailable(), Verdict::ambiguous("down")] {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (receiver, mut calls) = receiver();
        delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
        // Before anything is stuck: of no message.
        assert_eq!(delivery.park("pumps", "ehr").await, Ok(false));
        assert!(delivery.park("pumps", "erh").await.is_err());
        shelf.put("ehr", 0, 1..=3);
        calls.next().await.answer(poison.clone());
        let again = calls.next().await;
        assert_eq!(delivery.park("pumps", "ehr").await, Ok(true));
        at_rest().await;
        assert!(shelf.outcomes().is_empty(), "its attempt may still get through");
        again.answer(poison.clone());
        let next = calls.next().await;
        assert_eq!(shelf.outcomes(), [(1, "dead parked by a person; its last attempt: down 2".into())]);
        let up = delivery.metrics.destination_up.with_label_values(&["pumps", "ehr"]);
        assert_eq!((next.id(), status(&delivery).state.as_str(), up.get()), (2, "running", 1));
        next.answer(poison);
        let again = calls.next().await;
        assert_eq!(again.id(), 2, "the next message is not parked for it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_park_for_a_held_lane_leaves_alone_what_only_waits() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    let hold = Service { on_reject: OnReject::Hold, ..service(receiver, 7) };
    shelf.put("ehr", 0, [1]);
    delivery.apply(vec![configured("ehr", 2, hold)]).unwrap();
    calls.next().await.answer(Verdict::rejected("422"));
    until_state(&delivery, "held").await;
    shelf.put("ehr", 1, [2]);
    calls.next().await.answer(unavailable());
    at_rest().await;
    delivery.park("pumps", "ehr").await.unwrap();
    calls.next().await.accept();
    shelf.until_settled(2).await;
    assert_eq!(
        shelf.outcomes(),
        [(1, "dead parked by a person; its last attempt: 422 1".into()), (2, "accepted AA 2".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lane_past_what_did_not_get_through_no_longer_counts_as_down() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    for mended in
        [Ok(Translated::unsent(Unsent::NoObservation, vec![])), Err(TranslateError::new("OBX[3]-5", "no row"))]
    {
        shelf.put("ehr", 0, [1]);
        delivery.apply(vec![configured("ehr", 1, service(receiver.clone(), 7))]).unwrap();
        calls.next().await.answer(unavailable());
        until_state(&delivery, "retrying").await;
        let dropping = translating(service(receiver.clone(), 8), move |_, _| mended.clone());
        delivery.apply(vec![configured("ehr", 1, dropping)]).unwrap();
        until_state(&delivery, "running").await;
        assert_eq!(delivery.metrics.destination_up.with_label_values(&["pumps", "ehr"]).get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_message_is_sent_again_marked_as_possible_repeat() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    calls.next().await.answer(Verdict::ambiguous("no answer"));
    let again = calls.next().await;
    assert_eq!((again.id(), again.outgoing.possible_repeat), (1, true));
    again.accept();
    let next = calls.next().await;
    assert_eq!((next.id(), next.outgoing.possible_repeat), (2, false));
    shelf.with(|contents| assert_eq!(contents.attempts, [(1, "ambiguous".to_owned()), (1, "repeat".to_owned())]));
}

#[tokio::test(start_paused = true)]
async fn a_translation_that_fails_or_panics_makes_a_dead_letter_and_the_lane_goes_on() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=4);
    let poisoned = translating(service(receiver, 7), |_, context| match context.id {
        1 => panic!("poison"),
        2 => Err(TranslateError::new("OBX[3]-5", "no row")),
        3 => Ok(Translated::unsent(Unsent::NoObservation, vec![])),
        _ => Ok(body(7, context)),
    });
    delivery.apply(vec![configured("ehr", 1, poisoned)]).unwrap();
    assert_eq!(calls.next().await.id(), 4);
    let panicked = "dead translation: the translation panicked: a fault of the engine, report it 0";
    assert_eq!(
        shelf.outcomes(),
        [
            (1, panicked.into()),
            (2, "dead translation: OBX[3]-5: no row 0".into()),
            (3, "accepted nothing to send: it holds no observation 0".into())
        ]
    );
    assert_eq!(delivery.metrics.attempts.with_label_values(&["pumps", "ehr", "failed"]).get(), 2);
    assert_eq!(delivery.metrics.unsent.with_label_values(&["pumps", "ehr", "no_observation"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_panics_is_ambiguous_and_the_lane_goes_on() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    drop(calls.next().await);
    let again = calls.next().await;
    assert!(again.outgoing.possible_repeat);
    again.accept();
    shelf.until_settled(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_lets_what_is_outstanding_end_and_is_kept_over_restarts() {
    let shelf = Shelf::new();
    let first = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    first.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    let outstanding = calls.next().await;
    first.pause("pumps", "ehr").await.unwrap();
    outstanding.accept();
    shelf.until_settled(1).await;
    assert_eq!(status(&first).state, "paused");
    first.drain(BOUND).await;
    calls.expect_none().await;

    let second = delivery(&shelf);
    let (to, mut calls) = receiver();
    second.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    until_state(&second, "paused").await;
    calls.expect_none().await;
    second.resume("pumps", "ehr").await.unwrap();
    assert_eq!(calls.next().await.id(), 2);
    assert!(shelf.paused().is_empty());
    assert!(second.pause("pumps", "nowhere").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pause_and_a_resume_at_once_are_applied_in_the_order_they_were_stored() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, _calls) = receiver();
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    let (open, gate) = tokio::sync::oneshot::channel();
    shelf.with(|contents| contents.pause_gates.push_back(gate));
    let (first, second) = (delivery.clone(), delivery.clone());
    let pausing = tokio::spawn(async move { first.pause("pumps", "ehr").await });
    at_rest().await;
    let resuming = tokio::spawn(async move { second.resume("pumps", "ehr").await });
    at_rest().await;
    open.send(()).unwrap();
    for asked in [pausing, resuming] {
        timeout(BOUND, asked).await.unwrap().unwrap().unwrap();
    }
    assert_eq!((shelf.paused().len(), status(&delivery).state.as_str()), (0, "running"));
}

#[tokio::test(start_paused = true)]
async fn retry_resume_and_reload_end_a_back_off_now() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    let day = Duration::from_secs(86_400);
    let slow = |configuration| {
        let service = Service { retry_first: day, retry_max: day, ..service(to.clone(), configuration) };
        delivery.apply(vec![configured("ehr", 1, service)]).unwrap();
    };
    slow(7);
    calls.next().await.answer(unavailable());
    until_state(&delivery, "retrying").await;
    delivery.retry("pumps", "ehr").await.unwrap();
    calls.next().await.answer(unavailable());
    delivery.pause("pumps", "ehr").await.unwrap();
    delivery.resume("pumps", "ehr").await.unwrap();
    calls.next().await.answer(unavailable());
    at_rest().await;
    slow(8);
    calls.next().await.accept();
    shelf.until_settled(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_without_space_or_failed_is_waited_for_and_the_receiver_is_not_asked_again() {
    for fault in [StoreError::Full, StoreError::Failed("EIO".into())] {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (to, mut calls) = receiver();
        shelf.put("ehr", 0, 1..=2);
        shelf.with(|contents| contents.settle_faults.extend([fault.clone(), fault.clone(), fault]));
        delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
        calls.next().await.accept();
        assert_eq!(calls.next().await.id(), 2);
        assert_eq!(shelf.outcomes(), [(1, "accepted AA 1".into())]);
        assert_eq!(status(&delivery).state, "running");
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_found_durable_after_its_failure_is_not_missed() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    shelf.with(|contents| contents.settle_faults.extend([StoreError::Failed("EIO".into()), StoreError::NotFound]));
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    calls.next().await.accept();
    calls.next().await.accept();
    shelf.until_settled(1).await;
    assert_eq!(status(&delivery).state, "running");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_the_store_knows_nothing_of_ends_the_lane_without_spinning() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    shelf.with(|contents| contents.settle_faults.push_back(StoreError::NotFound));
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    calls.next().await.accept();
    until_state(&delivery, "failed").await;
    calls.expect_none().await;
    shelf.with(|contents| assert_eq!(contents.nexts, 1));
    timeout(BOUND, delivery.drain(BOUND)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_waited_for_and_so_is_a_store_that_failed() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    shelf.with(|contents| contents.next_fault = Some(StoreError::Failed("too many open files".into())));
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    until_state(&delivery, "retrying").await;
    assert_eq!(status(&delivery).last_error.as_deref(), Some("the store failed: too many open files"));
    let tried_again = async {
        while shelf.with(|contents| contents.nexts) < 3 {
            at_rest().await;
        }
    };
    timeout(BOUND, tried_again).await.unwrap();
    shelf.with(|contents| contents.next_fault = None);
    let call = calls.next().await;
    assert_eq!((call.id(), status(&delivery).state.as_str()), (1, "running"));
    shelf.with(|contents| contents.next_fault = Some(StoreError::NotFound));
    call.accept();
    until_state(&delivery, "retrying").await;
    shelf.with(|contents| contents.next_fault = None);
    assert_eq!(calls.next().await.id(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reload_applies_to_the_next_attempt_and_to_what_waits() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (old, mut old_calls) = receiver();
    let (new, mut new_calls) = receiver();
    shelf.put("ehr", 0, 1..=3);
    delivery.apply(vec![configured("ehr", 1, service(old.clone(), 1))]).unwrap();
    let outstanding = old_calls.next().await;
    delivery.apply(vec![configured("ehr", 1, service(old, 2))]).unwrap();
    assert_eq!(outstanding.outgoing.control_id, "c1-1");
    outstanding.accept();
    let second = old_calls.next().await;
    assert_eq!(second.outgoing.control_id, "c2-2", "the new mapping");
    second.answer(unavailable());
    until_state(&delivery, "retrying").await;
    delivery.apply(vec![configured("ehr", 1, service(new, 3))]).unwrap();
    let again = new_calls.next().await;
    assert_eq!(again.outgoing.control_id, "c3-2", "the new receiver, though the old one was asked before");
    again.accept();
    new_calls.next().await.accept();
    shelf.until_settled(3).await;
    old_calls.expect_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_gone_keeps_its_messages_in_sight_until_it_is_back() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=3);
    delivery.apply(vec![configured("ehr", 1, service(to.clone(), 1))]).unwrap();
    let outstanding = calls.next().await;
    delivery.apply(vec![]).unwrap();
    delivery.apply(vec![configured("ehr", 1, service(to.clone(), 1))]).unwrap();
    delivery.apply(vec![]).unwrap();
    outstanding.accept();
    shelf.until_settled(1).await;
    until_state(&delivery, "orphaned").await;
    assert_eq!(status(&delivery).waiting, 2);
    calls.expect_none().await;
    assert_eq!(Arc::strong_count(&to), 1, "its connection is closed");
    assert!(delivery.retry("pumps", "ehr").await.is_err());
    delivery.apply(vec![configured("ehr", 1, service(to, 1))]).unwrap();
    let next = calls.next().await;
    assert_eq!(next.id(), 2);
    until_state(&delivery, "running").await;
    calls.expect_none().await;
}

#[tokio::test(start_paused = true)]
async fn lanes_above_the_new_number_are_served_too() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 6, [1]);
    delivery.apply(vec![configured("ehr", 2, service(to, 1))]).unwrap();
    let call = calls.next().await;
    assert_eq!(call.lane, 6);
    call.accept();
    // A dead letter of a lane that had nothing waiting when delivery began.
    shelf.put("ehr", 4, [2]);
    delivery.refresh_metrics();
    assert_eq!(calls.next().await.lane, 4);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_what_is_outstanding_end_and_takes_nothing_more() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 2, service(to.clone(), 1))]).unwrap();
    let outstanding = calls.next().await;
    let draining = tokio::spawn({
        let delivery = delivery.clone();
        async move { delivery.drain(BOUND).await }
    });
    at_rest().await;
    assert!(!draining.is_finished());
    outstanding.accept();
    timeout(BOUND, draining).await.unwrap().unwrap();
    assert_eq!(shelf.outcomes(), [(1, "accepted AA 1".into())]);
    calls.expect_none().await;
    assert!(delivery.apply(vec![configured("ehr", 3, service(to, 1))]).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_grace_and_notes_what_was_outstanding_as_ambiguous() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, [1]);
    shelf.put("ehr", 1, [2]);
    delivery.apply(vec![configured("ehr", 2, service(to, 1))]).unwrap();
    let (first, second) = (calls.next().await, calls.next().await);
    let waiting = if first.id() == 1 {
        second.answer(unavailable());
        first
    } else {
        first.answer(unavailable());
        second
    };
    timeout(BOUND, delivery.drain(Duration::from_secs(5))).await.unwrap();
    waiting.given_up().await;
    assert!(shelf.outcomes().is_empty());
    shelf.with(|contents| {
        contents.attempts.sort();
        assert_eq!(contents.attempts, [(1, "ambiguous".into()), (2, "unavailable".into())]);
    });
    assert_eq!(delivery.tasks.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn gauges_follow_the_store_and_go_with_their_destination() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(to, 1))]).unwrap();
    let text = delivery.metrics.text().unwrap();
    assert!(
        text.contains(r#"cannula_destination_up{channel="pumps",destination="ehr"} 1"#),
        "before any answer: {text}"
    );
    calls.next().await.answer(Verdict::rejected("no"));
    shelf.until_settled(1).await;
    delivery.refresh_metrics();
    let text = delivery.metrics.text().unwrap();
    for line in [
        r#"cannula_waiting{channel="pumps",destination="ehr"} 1"#,
        r#"cannula_oldest_waiting_seconds{channel="pumps",destination="ehr"} 90"#,
        r#"cannula_dead_letters{channel="pumps",destination="ehr"} 1"#,
        r#"cannula_destination_up{channel="pumps",destination="ehr"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    calls.next().await.accept();
    shelf.until_settled(2).await;
    delivery.apply(vec![]).unwrap();
    shelf.with(|contents| contents.settled.clear());
    delivery.refresh_metrics();
    let text = delivery.metrics.text().unwrap();
    assert!(!text.contains("cannula_waiting{") && !text.contains("cannula_destination_up{"), "{text}");
}

#[test]
fn two_destinations_may_not_write_into_one_directory() {
    let file = || Settings::File(FileSettings { directory: "/out".into(), layout: FileLayout::PerMessage });
    let to = |name| Configured { settings: Some(file()), ..configured(name, 1, service(receiver().0, 1)) };
    assert_eq!(shared_directories(&[to("a")]).len(), 0);
    let faults = shared_directories(&[to("a"), to("b")]);
    assert!(faults.len() == 1 && faults[0].contains("give each its own"), "{faults:?}");
}
