//! Several messages of one lane in one send.

use super::{bench::*, *};
use crate::{
    destination::Outgoing,
    translate::{Context, EpisodeChange, Translated, Unsent},
};

/// The ids in what was sent, in order.
fn ids(outgoing: &Outgoing) -> Vec<u64> {
    let text = String::from_utf8_lossy(&outgoing.body).into_owned();
    let controls = text.split("MSH|").skip(1).filter_map(|message| message.split('|').nth(8)?.split('-').nth(1));
    controls.map(|id| id.parse().unwrap()).collect()
}

fn poisoned() -> Verdict {
    Verdict::rejected("one of them")
}

/// Answers all that comes by `verdict` of its ids until so many messages are settled; what was sent.
async fn answered(
    shelf: &Shelf,
    calls: &mut Calls,
    settled: usize,
    verdict: impl Fn(&[u64]) -> Verdict,
) -> Vec<(Vec<u64>, bool)> {
    let mut sent = Vec::new();
    while shelf.outcomes().len() < settled {
        let call = calls.next().await;
        let ids = ids(&call.outgoing);
        sent.push((ids.clone(), call.outgoing.possible_repeat));
        call.answer(verdict(&ids));
        at_rest().await;
    }
    sent
}

fn accepted() -> Verdict {
    Verdict::Accepted { answer: "200".into() }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_the_head_goes_along_and_each_is_settled_in_turn_with_its_own_receipt() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(3);
    shelf.put("ehr", 0, 1..=4);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let sent = answered(&shelf, &mut calls, 4, |_| accepted()).await;
    assert_eq!(sent, [(vec![1, 2, 3], false), (vec![4], false)]);
    let settled = shelf.outcomes();
    assert_eq!(settled[1], (2, "accepted 200, 3 messages in one 1".to_owned()));
    assert_eq!(settled[3], (4, "accepted 200 1".to_owned()));
    shelf.with(|contents| {
        use sha2::{Digest, Sha256};
        let Settlement::Accepted(receipt) = &contents.settled[1].2 else { panic!() };
        assert_eq!(receipt.sent_sha256, <[u8; 32]>::from(Sha256::digest(b"MSH|^~\\&|||||||ORU^R01|c7-2|\r")));
    });
}

#[tokio::test(start_paused = true)]
async fn the_one_that_is_refused_is_found_and_the_others_are_taken_once_in_order() {
    for poison in 1..=9 {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (receiver, mut calls) = receiver_of(5);
        shelf.put("ehr", 0, 1..=9);
        delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
        let verdict = |ids: &[u64]| if ids.contains(&poison) { poisoned() } else { accepted() };
        let sent = answered(&shelf, &mut calls, 9, verdict).await;
        let taken = sent.iter().filter(|(ids, _)| !ids.contains(&poison)).flat_map(|(ids, _)| ids.clone());
        assert_eq!(taken.collect::<Vec<_>>(), (1..=9).filter(|id| *id != poison).collect::<Vec<_>>());
        let outcomes = shelf.outcomes();
        assert_eq!(outcomes.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        let dead: Vec<_> = outcomes.iter().filter(|(_, how)| how.starts_with("dead")).map(|(id, _)| *id).collect();
        assert_eq!(dead, [poison], "{sent:?}");
        assert!(sent.iter().any(|(ids, _)| *ids == [poison]), "it went alone before it was given up");
        let refusals = sent.iter().filter(|(ids, _)| ids.contains(&poison)).count();
        assert!(refusals <= 4, "halves of five: {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_too_many_are_refused_fewer_go_together_from_then_on() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(8);
    shelf.put("ehr", 0, 1..=40);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let verdict = |ids: &[u64]| if ids.len() > 5 { Verdict::rejected("413") } else { accepted() };
    let sent = answered(&shelf, &mut calls, 40, verdict).await;
    let lengths: Vec<_> = sent.iter().map(|(ids, _)| ids.len()).collect();
    assert_eq!(lengths, [8, 4, 2, 1, 1, 4, 5, 6, 3, 1, 1, 1, 3, 4, 5, 5]);
    assert!(shelf.outcomes().iter().all(|(_, how)| how.starts_with("accepted")));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_all_of_them_go_again_marked_and_no_other() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(4);
    shelf.put("ehr", 0, 1..=6);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let call = calls.next().await;
    assert_eq!(ids(&call.outgoing), [1, 2, 3, 4]);
    call.answer(Verdict::ambiguous("silence"));
    let sent = answered(&shelf, &mut calls, 6, |_| accepted()).await;
    assert_eq!(sent, [(vec![1, 2], true), (vec![3, 4, 5], true), (vec![6], false)]);
    let repeats = shelf.with(|contents| contents.attempts.clone());
    let marked = repeats.iter().filter(|(_, outcome)| outcome == "repeat").map(|(id, _)| *id);
    assert_eq!(marked.collect::<Vec<_>>(), [1, 2, 3, 4], "5 was not sent before");
}

/// After a restart the store knows of the head only.
#[tokio::test(start_paused = true)]
async fn behind_a_head_that_may_have_been_sent_so_may_what_went_along_with_it() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(2);
    shelf.put("ehr", 0, 1..=3);
    shelf.with(|contents| contents.suspect_head("ehr", 0));
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let verdict = |ids: &[u64]| if ids.len() > 1 { poisoned() } else { accepted() };
    let sent = answered(&shelf, &mut calls, 3, verdict).await;
    assert_eq!(
        sent,
        [(vec![1, 2], true), (vec![1], true), (vec![2], true), (vec![3], false)],
        "two at most went together"
    );
}

/// As when `messages_per_bundle` or `resend_window` was lowered while the engine was stopped.
#[tokio::test(start_paused = true)]
async fn what_may_have_been_sent_is_marked_also_where_each_goes_alone_now() {
    for reach in 1..=3 {
        let shelf = Shelf::new();
        let delivery = delivery(&shelf);
        let (receiver, mut calls) = receiver_of(1);
        shelf.put("ehr", 0, 1..=3);
        shelf.with(|contents| contents.suspect_head("ehr", 0));
        let configured = configured("ehr", 1, service(receiver, 7));
        delivery.may_have_sent([(configured.key.clone(), reach)].into());
        delivery.apply(vec![configured]).unwrap();
        let sent = answered(&shelf, &mut calls, 3, |_| accepted()).await;
        assert_eq!(sent, [(vec![1], true), (vec![2], reach > 1), (vec![3], reach > 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_is_translated_as_if_the_ones_before_it_were_accepted() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(3);
    shelf.put("ehr", 0, 1..=4);
    let remembering = |_: &crate::hl7::Message, context: Context, recall: &crate::translate::Recall<'_>| {
        let before = recall(b"course").map_or(0, |note| note[0]);
        let note = Some(vec![before + 1].into());
        let episodes = vec![EpisodeChange { episode: b"course".as_slice().into(), note, open: true }];
        let text = format!("MSH|^~\\&|||||||ORU^R01|after{before}-{}|\r", context.id);
        Ok(Translated { body: text.into(), episodes, ..body(7, context) })
    };
    let service = Service { translate: Box::new(remembering), ..service(receiver, 7) };
    delivery.apply(vec![configured("ehr", 1, service)]).unwrap();
    let told = |outgoing: &Outgoing| String::from_utf8_lossy(&outgoing.body).matches("after").count();
    let call = calls.next().await;
    let text = String::from_utf8_lossy(&call.outgoing.body).into_owned();
    assert!(["after0-1", "after1-2", "after2-3"].iter().all(|each| text.contains(each)), "{text}");
    call.answer(poisoned());
    let call = calls.next().await;
    assert_eq!((told(&call.outgoing), ids(&call.outgoing)), (1, vec![1]), "refused, nothing is remembered");
    assert!(String::from_utf8_lossy(&call.outgoing.body).contains("after0-1"));
    call.answer(accepted());
    let call = calls.next().await;
    assert!(String::from_utf8_lossy(&call.outgoing.body).contains("after1-2"));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_before_what_cannot_be_translated_or_is_not_sent() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(9);
    shelf.put("ehr", 0, 1..=5);
    let service = translating(service(receiver, 7), |_, context| match context.id {
        2 => Ok(Translated::unsent(Unsent::NoObservation, vec![])),
        4 => Err(TranslateError::new("OBX[3]-5", "no row")),
        _ => Ok(body(7, context)),
    });
    delivery.apply(vec![configured("ehr", 1, service)]).unwrap();
    let sent = answered(&shelf, &mut calls, 5, |_| accepted()).await;
    assert_eq!(sent.iter().map(|(ids, _)| ids.clone()).collect::<Vec<_>>(), [[1], [3], [5]]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_between_two_settlements_leaves_the_rest_waiting() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver_of(3);
    shelf.put("ehr", 0, 1..=3);
    delivery.apply(vec![configured("ehr", 1, service(receiver, 7))]).unwrap();
    let call = calls.next().await;
    shelf.with(|contents| {
        contents.settle_faults = std::iter::repeat_n(StoreError::Failed("disk".into()), 99).collect();
    });
    call.answer(accepted());
    shelf.until(|contents| contents.settle_faults.len() < 99).await;
    delivery.drain(BOUND).await;
    assert_eq!(shelf.outcomes(), [], "the store never took it");
    assert_eq!(shelf.with(|contents| contents.waiting("ehr", 0)), [1, 2, 3]);
}
