//! Messages no attempt gets through: each ends as its destination is configured, and none stops what need not wait for it.

use super::{super::*, bench::*};
use crate::{channel::OnReject, destination::Verdict, translate::TranslateError};

fn gauge(delivery: &Delivery) -> i64 {
    delivery.metrics.held_lanes.with_label_values(&["pumps", "ehr"]).get()
}

/// What each kind of poison does to message 1.
fn poisoned(service: Service, kind: &str) -> Service {
    let kind = kind.to_owned();
    translating(service, move |_, context| match (context.id, kind.as_str()) {
        (1, "panic") => panic!("poison"),
        (1, "error") => Err(TranslateError::new("OBX[3]-5", "no row")),
        _ => Ok(body(7, context)),
    })
}

#[tokio::test(start_paused = true)]
async fn poison_never_stops_a_lane_that_parks() {
    for kind in ["panic", "error", "refused"] {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (to, mut calls) = receiver();
        shelf.put("ehr", 0, 1..=3);
        delivery.apply(vec![configured("ehr", 1, poisoned(service(to, 7), kind))]).unwrap();
        if kind == "refused" {
            calls.next().await.answer(Verdict::rejected("422"));
        }
        for id in 2..=3 {
            let call = calls.next().await;
            assert_eq!(call.id(), id, "{kind}");
            call.accept();
        }
        shelf.until_settled(3).await;
        assert!(shelf.outcomes()[0].1.starts_with("dead "), "{kind}: {:?}", shelf.outcomes());
    }
}

#[tokio::test(start_paused = true)]
async fn poison_always_holds_a_lane_that_holds_with_an_alarm_until_it_is_parked() {
    for kind in ["panic", "error", "refused"] {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (to, mut calls) = receiver();
        shelf.put("ehr", 0, 1..=2);
        shelf.put("ehr", 1, [3]);
        let hold = Service { on_reject: OnReject::Hold, ..service(to, 7) };
        delivery.apply(vec![configured("ehr", 2, poisoned(hold, kind))]).unwrap();
        for _ in 0..if kind == "refused" { 2 } else { 1 } {
            let call = calls.next().await;
            match call.id() {
                1 => call.answer(Verdict::rejected("422")),
                id => {
                    assert_eq!(id, 3, "{kind}: only the other lane goes on");
                    call.accept();
                }
            }
        }
        until_state(&delivery, "held").await;
        shelf.until_settled(1).await;
        calls.expect_none().await;
        assert_eq!(gauge(&delivery), 1, "{kind}");
        shelf.with(|contents| assert_eq!(contents.attempts.len(), 1, "{kind}: told in the timeline"));
        delivery.park("pumps", "ehr").await.unwrap();
        let next = calls.next().await;
        assert_eq!((next.id(), gauge(&delivery), status(&delivery).state.as_str()), (2, 0, "running"), "{kind}");
        assert!(shelf.outcomes()[1].1.starts_with("dead "), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mended_translation_ends_a_hold_and_delivers_the_message_in_its_place() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    let hold = || Service { on_reject: OnReject::Hold, ..service(to.clone(), 7) };
    delivery.apply(vec![configured("ehr", 1, poisoned(hold(), "error"))]).unwrap();
    until_state(&delivery, "held").await;
    delivery.apply(vec![configured("ehr", 1, hold())]).unwrap();
    for id in 1..=2 {
        let call = calls.next().await;
        assert_eq!((call.id(), gauge(&delivery)), (id, 0));
        call.accept();
    }
    shelf.until_settled(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_send_that_panics_each_time_is_refused_in_the_end() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    let mut sends = 0;
    let next = loop {
        let call = calls.next().await;
        if call.id() == 2 {
            break call;
        }
        sends += 1;
        drop(call);
    };
    assert_eq!(sends, 5);
    next.accept();
    shelf.until_settled(2).await;
    assert!(shelf.outcomes()[0].1.starts_with("dead sending panicked"), "{:?}", shelf.outcomes());
}

#[tokio::test(start_paused = true)]
async fn each_possible_repeat_that_may_have_arrived_is_counted_and_its_message_says_so_once() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (to, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    delivery.apply(vec![configured("ehr", 1, service(to, 7))]).unwrap();
    let silence = || Verdict::ambiguous("no answer");
    for verdict in [silence(), silence(), Verdict::unavailable("down"), Verdict::Accepted { answer: "AA".into() }] {
        calls.next().await.answer(verdict);
    }
    calls.next().await.accept();
    shelf.until_settled(2).await;
    // Not the first send, which was none, nor the one that certainly did not arrive.
    assert_eq!(delivery.metrics.redelivered.with_label_values(&["pumps", "ehr"]).get(), 2);
    let told = shelf.with(|contents| contents.attempts.iter().filter(|(_, outcome)| outcome == "repeat").count());
    assert_eq!(told, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_sent_again_as_often_as_configured_before_it_is_parked_or_held() {
    for on_reject in [OnReject::Park, OnReject::Hold] {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (to, mut calls) = receiver();
        shelf.put("ehr", 0, 1..=3);
        let patient = Service { on_reject, retry_refused: 2, ..service(to, 7) };
        delivery.apply(vec![configured("ehr", 1, patient)]).unwrap();
        // Taken in the end: nothing is parked, and the next message has all its tries again.
        calls.next().await.answer(Verdict::rejected("422"));
        until_state(&delivery, "retrying").await;
        calls.next().await.accept();
        for _ in 0..3 {
            let call = calls.next().await;
            assert_eq!((call.id(), call.outgoing.possible_repeat), (2, false));
            call.answer(Verdict::rejected("422"));
        }
        if on_reject == OnReject::Hold {
            until_state(&delivery, "held").await;
            delivery.park("pumps", "ehr").await.unwrap();
        }
        calls.next().await.accept();
        shelf.until_settled(3).await;
        let dead = match on_reject {
            OnReject::Park => "dead 422 3",
            OnReject::Hold => "dead parked by a person; its last attempt: 422 3",
        };
        let ends = ["accepted AA 2", dead, "accepted AA 1"];
        assert_eq!(shelf.outcomes(), (1..).zip(ends.map(str::to_owned)).collect::<Vec<_>>());
    }
}
