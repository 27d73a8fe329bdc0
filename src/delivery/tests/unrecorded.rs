//! A lane that goes on while answers are on their way to the disk.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{bench::*, *};
use crate::translate::{Context, EpisodeChange, Recall};

/// Messages `1..=count` for a lane with this window, whose first recordings wait to be let go.
fn waiting_for_the_disk(
    count: u64,
    held: usize,
    resend_window: usize,
    change: impl FnOnce(Service) -> Service,
) -> (Shelf, Arc<Delivery>, Calls, VecDeque<oneshot::Sender<()>>) {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, calls) = receiver();
    let (go, recordings) = (0..held).map(|_| oneshot::channel()).unzip();
    shelf.with(|contents| contents.recordings = recordings);
    shelf.put("ehr", 0, 1..=count);
    let service = Service { resend_window, ..service(receiver, 7) };
    delivery.apply(vec![configured("ehr", 1, change(service))]).unwrap();
    (shelf, delivery, calls, go)
}

fn as_it_is(service: Service) -> Service {
    service
}

#[tokio::test(start_paused = true)]
async fn so_many_are_sent_before_the_first_is_recorded_and_no_more() {
    for resend_window in 1..5 {
        let (shelf, _delivery, mut calls, go) = waiting_for_the_disk(9, 9, resend_window, as_it_is);
        for id in 1..=resend_window as u64 {
            let call = calls.next().await;
            assert_eq!((call.id(), call.outgoing.possible_repeat), (id, false));
            call.accept();
        }
        for (id, go) in (resend_window as u64 + 1..).zip(go) {
            calls.expect_none().await;
            go.send(()).unwrap();
            if id > 9 {
                continue;
            }
            let call = calls.next().await;
            assert_eq!(call.id(), id);
            call.accept();
        }
        shelf.until_settled(9).await;
        let expected: Vec<_> = (1..=9).map(|id| (id, "accepted AA 1".to_owned())).collect();
        assert_eq!(shelf.outcomes(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_recorded_behind_what_was_answered_before_it() {
    let (shelf, _delivery, mut calls, mut go) = waiting_for_the_disk(4, 2, 4, as_it_is);
    calls.next().await.accept();
    calls.next().await.accept();
    calls.next().await.answer(Verdict::rejected("422"));
    calls.expect_none().await;
    assert_eq!(shelf.outcomes(), []);
    go.pop_front().unwrap().send(()).unwrap();
    calls.expect_none().await;
    go.pop_front().unwrap().send(()).unwrap();
    calls.next().await.accept();
    shelf.until_settled(4).await;
    assert_eq!(shelf.outcomes().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(shelf.outcomes()[2].1, "dead 422 1");
}

#[tokio::test(start_paused = true)]
async fn a_store_without_space_is_asked_for_each_anew_and_the_receiver_for_none() {
    for fault in [StoreError::Full, StoreError::Failed("gone".into())] {
        let (shelf, delivery, mut calls, mut go) = waiting_for_the_disk(4, 1, 3, as_it_is);
        shelf.with(|contents| contents.settle_faults.push_back(fault));
        for id in 1..=3 {
            let call = calls.next().await;
            assert_eq!(call.id(), id);
            call.accept();
            at_rest().await;
        }
        go.pop_front().unwrap().send(()).unwrap();
        let call = calls.next().await;
        assert_eq!((call.id(), call.outgoing.possible_repeat), (4, false));
        call.accept();
        shelf.until_settled(4).await;
        let expected: Vec<_> = (1..=4).map(|id| (id, "accepted AA 1".to_owned())).collect();
        assert_eq!(shelf.outcomes(), expected);
        assert_eq!(status(&delivery).state, "running");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_recorded_before_the_lane_pauses_or_ends() {
    let (shelf, delivery, mut calls, mut go) = waiting_for_the_disk(3, 1, 3, as_it_is);
    calls.next().await.accept();
    let second = calls.next().await;
    delivery.pause("pumps", "ehr").await.unwrap();
    second.accept();
    calls.expect_none().await;
    let ended = tokio::spawn({
        let delivery = delivery.clone();
        async move { delivery.drain(BOUND).await }
    });
    at_rest().await;
    assert!(!ended.is_finished());
    go.pop_front().unwrap().send(()).unwrap();
    ended.await.unwrap();
    assert_eq!(shelf.outcomes(), [(1, "accepted AA 1".into()), (2, "accepted AA 1".into())]);
}

#[tokio::test(start_paused = true)]
async fn the_next_is_translated_as_if_what_was_answered_were_recorded() {
    let counting = |_: &crate::hl7::Message, context: Context, recall: &Recall<'_>| {
        let count = recall(b"count").map_or(0, |note| note[0]) + 1;
        let change = EpisodeChange { episode: "count".into(), note: Some(vec![count].into()), open: true };
        let text = format!("MSH|^~\\&|||||||ORU^R01|{}-{count}|\r", context.id);
        Ok(Translated { body: text.into(), episodes: vec![change], ..body(7, context) })
    };
    let service = |service| Service { translate: Box::new(counting), ..service };
    let (_shelf, _delivery, mut calls, _go) = waiting_for_the_disk(3, 3, 3, service);
    for expected in ["1-1", "2-2", "3-3"] {
        let call = calls.next().await;
        assert_eq!(call.outgoing.control_id, expected);
        call.accept();
    }
}
