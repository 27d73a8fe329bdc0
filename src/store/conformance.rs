//! What every store promises, as one suite: `conformance!(module, store)` makes a test of each promise for the store that
//! the expression makes (a pair of the store and whatever must live as long).

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Appended, Attempt, Content, Kept, LaneId, Query, Receipt, Received, RepeatCheck, Route, SearchKeys, Sequence,
    Settlement, State, Store, StoreError, Stored, Waiting,
};
use crate::translate::{EpisodeChange, NOTE_BYTES_MAX};

macro_rules! conformance {
    ($module:ident, $make:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            conformance!(@each $make =>
                a_lane_gives_messages_in_the_order_they_were_stored
                the_same_head_is_given_until_it_is_settled
                next_waits_for_a_message_and_is_woken_by_it
                a_repeat_is_answered_with_the_first_sequence_and_stored_once
                a_key_used_again_for_other_content_is_stored_and_marked
                content_that_comes_back_under_its_key_after_another_is_stored_again
                a_repeat_outside_its_window_is_a_new_message
                a_retransmission_is_stored_and_says_which_message_it_resends
                a_retransmission_to_be_dropped_is_answered_and_not_stored
                the_same_content_sent_anew_under_its_own_key_is_no_reuse
                only_the_head_of_a_lane_can_be_settled
                what_follows_the_head_is_settled_with_it_in_order
                a_settled_entry_cannot_be_settled_again
                what_is_owed_to_a_sender_is_settled_in_any_order_and_told_page_by_page
                lanes_do_not_wait_for_each_other
                a_dead_letter_can_be_retried_at_the_tail_of_its_lane
                a_dead_letter_can_be_discarded
                what_waits_in_a_lane_can_be_given_up_unsent
                a_replayed_message_is_queued_again_as_a_possible_repeat
                an_ambiguous_attempt_makes_the_head_a_possible_repeat
                what_a_delivery_is_to_remember_is_remembered_with_its_settlement_alone
                a_message_routed_nowhere_is_recorded_as_that
                a_message_is_found_by_what_it_was_received_with
                what_was_taken_is_gone_through_once_and_in_order_from_any_place_on
                a_message_tells_its_history
                a_paused_destination_is_told
                a_closed_store_answers_closed
                appends_made_in_order_are_stored_in_order_without_waiting
            );
        }
    };
    (@each $make:expr => $($promise:ident)+) => {
        $(#[tokio::test]
        async fn $promise() {
            let (store, _keep) = $make;
            $crate::store::conformance::within($crate::store::conformance::$promise(store)).await;
        })+
    };
}
pub(super) use conformance;

/// Any promise not kept in this time is broken.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an answer in time")
}

pub(super) fn noon() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().expect("a time")
}

pub(super) fn lane(number: u16) -> LaneId {
    LaneId { channel: "pumps".into(), destination: "ehr".into(), lane: number }
}

pub(super) fn received(content: &str, lanes: &[u16]) -> Received {
    let routes = lanes.iter().map(|lane| Route { destination: "ehr".into(), lane: *lane }).collect();
    let keys = SearchKeys {
        control_id: content.into(),
        patient: vec![b"patient-1".to_vec()],
        device: vec![b"device-1".to_vec(), b"device-2".to_vec()],
    };
    let message = Bytes::from(format!("MSH|^~\\&|{content}"));
    Received { channel: "pumps".into(), at: noon(), message, routes, repeat: None, ack: None, keys, findings: vec![] }
}

pub(super) fn with_key(content: &str, key: &str) -> Received {
    let repeat = Some(RepeatCheck { key: key.into(), window: Duration::from_secs(3600), content: None });
    Received { repeat, ..received(content, &[0]) }
}

pub(super) async fn stored(store: &dyn Store, received: Received) -> Stored {
    match within(store.append(received)).await.expect("stored") {
        Appended::New(stored) => stored,
        Appended::Repeat(_) => panic!("taken for a repeat"),
    }
}

pub(super) async fn head(store: &dyn Store, number: u16) -> Waiting {
    within(store.next(&lane(number))).await.expect("a head")
}

pub(super) fn accepted() -> Settlement {
    Settlement::Accepted(Receipt {
        sent_sha256: [7; 32],
        configuration: 1,
        answer: "AA".into(),
        attempts: 1,
        at: noon(),
        episodes: vec![],
    })
}

/// An accepted delivery that changes these notes; an empty one is forgotten.
pub(super) fn remembering(notes: &[(&str, &str)]) -> Settlement {
    let Settlement::Accepted(receipt) = accepted() else { unreachable!() };
    let change = |(episode, note): &(&str, &str)| EpisodeChange {
        episode: Bytes::copy_from_slice(episode.as_bytes()),
        note: (!note.is_empty()).then(|| Bytes::copy_from_slice(note.as_bytes())),
        open: true,
    };
    Settlement::Accepted(Receipt { episodes: notes.iter().map(change).collect(), ..receipt })
}

pub(super) fn dead(reason: &str) -> Settlement {
    Settlement::Dead { reason: reason.into(), attempts: 3 }
}

/// Takes the head of a lane and settles it; answers its content.
pub(super) async fn settle_head(store: &dyn Store, number: u16, settlement: Settlement) -> Waiting {
    let head = head(store, number).await;
    within(store.settle(&lane(number), head.entry, settlement)).await.expect("settled");
    head
}

fn content(waiting: &Waiting) -> String {
    String::from_utf8_lossy(&waiting.message[9..]).into_owned()
}

fn waiting(store: &dyn Store, number: u16) -> u64 {
    store.lanes().iter().find(|status| status.lane == lane(number)).map_or(0, |status| status.waiting)
}

pub(super) async fn a_lane_gives_messages_in_the_order_they_were_stored(store: Arc<dyn Store>) {
    for number in 0..700 {
        drop(store.append(received(&number.to_string(), &[0])));
    }
    for number in 0..700 {
        assert_eq!(content(&settle_head(&*store, 0, accepted()).await), number.to_string());
    }
    assert_eq!(waiting(&*store, 0), 0);
}

pub(super) async fn the_same_head_is_given_until_it_is_settled(store: Arc<dyn Store>) {
    stored(&*store, received("a", &[0])).await;
    stored(&*store, received("b", &[0])).await;
    let (first, again) = (head(&*store, 0).await, head(&*store, 0).await);
    assert_eq!((first.entry, content(&first)), (again.entry, content(&again)));
    assert!(!first.possible_repeat);
    within(store.settle(&lane(0), first.entry, accepted())).await.expect("settled");
    assert_eq!(content(&head(&*store, 0).await), "b");
}

pub(super) async fn next_waits_for_a_message_and_is_woken_by_it(store: Arc<dyn Store>) {
    let mut next = std::pin::pin!(store.next(&lane(3)));
    assert!(futures_util::poll!(next.as_mut()).is_pending());
    let id = stored(&*store, received("late", &[3])).await.sequence();
    let head = within(next).await.expect("a head");
    assert_eq!((head.id, head.received_at), (id, noon()));
}

pub(super) async fn a_repeat_is_answered_with_the_first_sequence_and_stored_once(store: Arc<dyn Store>) {
    let first = store.append(with_key("same", "k"));
    let second = store.append(with_key("same", "k"));
    let Appended::New(first) = within(first).await.expect("stored") else { panic!("the first is new") };
    assert_eq!(within(second).await, Ok(Appended::Repeat(first.clone())));
    assert_eq!(within(store.append(with_key("same", "k"))).await, Ok(Appended::Repeat(first)));
    assert_eq!(waiting(&*store, 0), 1);
}

pub(super) async fn a_key_used_again_for_other_content_is_stored_and_marked(store: Arc<dyn Store>) {
    assert!(!stored(&*store, with_key("one", "k")).await.reused());
    let other = stored(&*store, with_key("other", "k")).await;
    assert!(other.reused());
    let again = within(store.append(with_key("other", "k"))).await.expect("answered");
    assert!(matches!(again, Appended::Repeat(known) if known.sequence() == other.sequence()));
    assert_eq!(waiting(&*store, 0), 2);
}

pub(super) async fn content_that_comes_back_under_its_key_after_another_is_stored_again(store: Arc<dyn Store>) {
    for (content, reused) in [("one", false), ("other", true), ("one", true)] {
        assert_eq!(stored(&*store, with_key(content, "k")).await.reused(), reused);
    }
    assert_eq!(waiting(&*store, 0), 3);
}

pub(super) async fn a_repeat_outside_its_window_is_a_new_message(store: Arc<dyn Store>) {
    let early = Received { at: noon() - Duration::from_secs(3601), ..with_key("same", "k") };
    let first = stored(&*store, early).await;
    let second = stored(&*store, with_key("same", "k")).await;
    assert!(second.sequence() > first.sequence() && !second.reused());
}

/// A message whose last bytes, `content`, tell a retransmission.
pub(super) fn with_content(control: &str, content: &str, drop: bool) -> Received {
    let mut received = with_key(&format!("{control}|{content}"), control);
    let parts = vec![0..4, received.message.len() - content.len()..received.message.len()];
    if let Some(check) = &mut received.repeat {
        check.content = Some(Content { parts, drop });
    }
    received
}

pub(super) async fn a_retransmission_is_stored_and_says_which_message_it_resends(store: Arc<dyn Store>) {
    let early = Received { at: noon() - Duration::from_secs(3601), ..with_content("0", "same", false) };
    stored(&*store, early).await;
    let first = stored(&*store, with_content("1", "same", false)).await;
    let other = stored(&*store, with_content("2", "other", false)).await;
    assert_eq!((first.resends(), other.resends()), (None, None));
    let again = stored(&*store, with_content("3", "same", false)).await;
    assert_eq!((again.resends(), again.reused()), (Some(first.sequence()), false));
    assert_eq!(waiting(&*store, 0), 4);
    let told = |kept: Kept| kept.events.into_iter().find(|event| event.what == "retransmission");
    assert!(told(within(store.read(first.sequence())).await.expect("kept")).is_none());
    let event = told(within(store.read(again.sequence())).await.expect("kept")).expect("it is told");
    assert_eq!(event.detail, format!("same content as message {}", first.sequence().as_u64()));
}

pub(super) async fn a_retransmission_to_be_dropped_is_answered_and_not_stored(store: Arc<dyn Store>) {
    let first = store.append(with_content("1", "same", true));
    let second = store.append(with_content("2", "same", true));
    let Appended::New(first) = within(first).await.expect("stored") else { panic!("the first is new") };
    for answer in [within(second).await, within(store.append(with_content("3", "same", true))).await] {
        let Ok(Appended::Repeat(known)) = answer else { panic!("{answer:?}") };
        assert_eq!((known.sequence(), known.resends()), (first.sequence(), Some(first.sequence())));
    }
    stored(&*store, with_content("3", "other", true)).await;
    assert_eq!(waiting(&*store, 0), 2);
}

pub(super) async fn the_same_content_sent_anew_under_its_own_key_is_no_reuse(store: Arc<dyn Store>) {
    let first = stored(&*store, with_content("1", "same", false)).await;
    let sent_anew = Received { message: Bytes::from("MSH|^~\\&|later|same"), ..with_content("1", "same", false) };
    let parts = vec![0..4, sent_anew.message.len() - 4..sent_anew.message.len()];
    let check = sent_anew.repeat.clone().expect("a rule");
    let repeat = Some(RepeatCheck { content: Some(Content { parts, drop: false }), ..check });
    let again = stored(&*store, Received { repeat, ..sent_anew }).await;
    assert_eq!((again.reused(), again.resends()), (false, Some(first.sequence())));
    assert!(stored(&*store, with_content("1", "other", false)).await.reused());
}

pub(super) async fn only_the_head_of_a_lane_can_be_settled(store: Arc<dyn Store>) {
    stored(&*store, received("a", &[0, 1])).await;
    stored(&*store, received("b", &[0])).await;
    let (zero, one) = (head(&*store, 0).await, head(&*store, 1).await);
    assert_eq!(within(store.settle(&lane(0), one.entry, accepted())).await, Err(StoreError::NotFound));
    let behind = Sequence(zero.entry.0 + 100);
    assert_eq!(within(store.settle(&lane(0), behind, accepted())).await, Err(StoreError::NotFound));
    assert_eq!((waiting(&*store, 0), waiting(&*store, 1)), (2, 1));
}

pub(super) async fn what_follows_the_head_is_settled_with_it_in_order(store: Arc<dyn Store>) {
    for content in ["a", "b", "c", "d", "e"] {
        stored(&*store, received(content, &[0])).await;
    }
    let first = head(&*store, 0).await;
    let behind = store.following(&lane(0), first.entry, 3);
    let settle = |waiting: &Waiting, settlement| store.settle(&lane(0), waiting.entry, settlement);
    let early = settle(&behind[1], accepted());
    let asked = [settle(&first, accepted()), settle(&behind[0], dead("refused")), settle(&behind[1], accepted())];
    let late = settle(&first, accepted());
    assert_eq!(within(early).await, Err(StoreError::NotFound), "before what it follows");
    for answer in asked {
        assert_eq!(within(answer).await, Ok(()));
    }
    assert_eq!(within(late).await, Err(StoreError::NotFound));
    assert_eq!((head(&*store, 0).await.entry, waiting(&*store, 0)), (behind[2].entry, 2));
}

pub(super) async fn a_settled_entry_cannot_be_settled_again(store: Arc<dyn Store>) {
    stored(&*store, received("a", &[0])).await;
    let head = head(&*store, 0).await;
    let both = (store.settle(&lane(0), head.entry, accepted()), store.settle(&lane(0), head.entry, accepted()));
    assert_eq!((within(both.0).await, within(both.1).await), (Ok(()), Err(StoreError::NotFound)));
}

pub(super) async fn what_is_owed_to_a_sender_is_settled_in_any_order_and_told_page_by_page(store: Arc<dyn Store>) {
    let owed = LaneId::to_sender("pumps".into());
    let to_sender = Route { destination: super::TO_SENDER.into(), lane: 0 };
    let owing = |n: u32| {
        let received = received(&n.to_string(), &[0]);
        Received { routes: [received.routes.clone(), vec![to_sender.clone()]].concat(), ..received }
    };
    let mut ids = Vec::new();
    for number in 0..700 {
        // The message, its delivery, and the ACK.
        ids.push(stored(&*store, owing(number)).await.sequence().0);
    }
    let kept = |place: usize| place % 7 == 3;
    for place in (0..ids.len()).rev().filter(|place| !kept(*place)) {
        within(store.settle(&owed, Sequence(ids[place] + 2), accepted())).await.expect("settled");
    }
    let again = store.settle(&owed, Sequence(ids[0] + 2), accepted());
    assert_eq!(within(again).await, Err(StoreError::NotFound));
    let (mut told, mut from) = (Vec::new(), Sequence(0));
    loop {
        let page = store.queued(&owed, from, 9);
        let Some(last) = page.last() else { break };
        from = Sequence(last.entry.0 + 1);
        told.extend(page);
    }
    let left: Vec<u64> = (0..ids.len()).filter(|place| kept(*place)).map(|place| ids[place]).collect();
    assert_eq!(told.iter().map(|each| each.id.0).collect::<Vec<_>>(), left);
    assert!(told.iter().all(|each| each.entry.0 == each.id.0 + 2 && each.received_at == noon()));
    assert_eq!(store.stats().waiting, 700, "an ACK that is owed is no delivery that waits");
    settle_head(&*store, 0, accepted()).await;
    let found = within(store.read(Sequence(ids[0]))).await.expect("read").summary;
    assert_eq!((found.state, found.deliveries.len()), (State::Delivered, 2));
    assert_eq!(within(store.replay(vec![found.id], None)).await, Ok(1), "a replay owes the sender nothing");
    assert!(store.queued(&lane(5), Sequence(0), 9).is_empty());
}

pub(super) async fn lanes_do_not_wait_for_each_other(store: Arc<dyn Store>) {
    for content in ["a", "b"] {
        stored(&*store, received(content, &[0, 1])).await;
    }
    settle_head(&*store, 1, accepted()).await;
    assert_eq!(content(&head(&*store, 1).await), "b");
    assert_eq!(content(&head(&*store, 0).await), "a");
}

pub(super) async fn a_dead_letter_can_be_retried_at_the_tail_of_its_lane(store: Arc<dyn Store>) {
    stored(&*store, received("bad", &[0])).await;
    stored(&*store, received("good", &[0])).await;
    let bad = settle_head(&*store, 0, dead("no such patient")).await;
    let letters = within(store.dead(None, None, 10)).await.expect("dead letters");
    assert_eq!((letters.len(), letters[0].entry, letters[0].id), (1, bad.entry, bad.id));
    assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("no such patient", 3));
    assert_eq!(store.dead_counts(), vec![(("pumps".into(), "ehr".into()), 1)]);
    within(store.retry_dead(bad.entry)).await.expect("retried");
    assert_eq!(within(store.retry_dead(bad.entry)).await, Err(StoreError::NotFound));
    assert_eq!(content(&settle_head(&*store, 0, accepted()).await), "good");
    let again = head(&*store, 0).await;
    assert_eq!((again.id, again.possible_repeat), (bad.id, true));
    assert_ne!(again.entry, bad.entry);
    assert!(store.dead_counts().is_empty());
}

pub(super) async fn a_dead_letter_can_be_discarded(store: Arc<dyn Store>) {
    let id = stored(&*store, received("bad", &[0])).await.sequence();
    let bad = settle_head(&*store, 0, dead("no")).await;
    assert_eq!(within(store.read(id)).await.expect("kept").summary.state, State::Dead);
    within(store.discard_dead(bad.entry)).await.expect("discarded");
    assert_eq!(within(store.discard_dead(bad.entry)).await, Err(StoreError::NotFound));
    assert_eq!(within(store.read(id)).await.expect("kept").summary.state, State::Discarded);
    assert!(within(store.dead(None, None, 10)).await.expect("dead letters").is_empty());
}

pub(super) async fn what_waits_in_a_lane_can_be_given_up_unsent(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for number in 0..1_200 {
        ids.push(stored(&*store, received(&number.to_string(), &[0, 1, 2])).await.sequence());
    }
    let give_up = |number, discard| store.give_up(&lane(number), "gone".into(), discard);
    assert_eq!((within(give_up(0, false)).await, within(give_up(0, false)).await), (Ok(1_000), Ok(200)));
    assert_eq!((within(give_up(1, true)).await, within(give_up(1, true)).await), (Ok(1_000), Ok(200)));
    assert_eq!((within(give_up(0, false)).await, within(give_up(9, true)).await), (Ok(0), Ok(0)));
    assert_eq!((waiting(&*store, 0), waiting(&*store, 1), waiting(&*store, 2)), (0, 0, 1_200));
    let letters = within(store.dead(None, None, 1_000)).await.expect("dead letters");
    assert_eq!(letters.len(), 1_000);
    assert_eq!((letters[0].id, letters[0].lane, &*letters[0].reason), (ids[0], 0, "gone"));
    assert_eq!(store.dead_counts().iter().map(|(_, dead)| dead).sum::<u64>(), 1_200);
    let states = within(store.read(ids[7])).await.expect("kept").summary.deliveries;
    let states: Vec<State> = states.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [State::Dead, State::Discarded, State::Waiting]);
    assert_eq!(head(&*store, 2).await.id, ids[0]);
    within(store.retry_dead(letters[0].entry)).await.expect("retried");
    assert_eq!(settle_head(&*store, 0, accepted()).await.id, ids[0]);
}

pub(super) async fn a_replayed_message_is_queued_again_as_a_possible_repeat(store: Arc<dyn Store>) {
    let id = stored(&*store, received("a", &[0, 1])).await.sequence();
    let first = settle_head(&*store, 0, accepted()).await;
    settle_head(&*store, 1, accepted()).await;
    assert_eq!(within(store.replay(vec![id], Some("elsewhere".into()))).await, Ok(0));
    assert_eq!(within(store.replay(vec![id, Sequence(9999)], Some("ehr".into()))).await, Ok(2));
    assert_eq!(within(store.read(id)).await.expect("kept").summary.state, State::Waiting);
    let again = settle_head(&*store, 0, accepted()).await;
    assert_eq!((again.id, again.possible_repeat, content(&again)), (id, true, "a".to_owned()));
    assert_ne!(again.entry, first.entry);
    settle_head(&*store, 1, accepted()).await;
    assert_eq!(within(store.read(id)).await.expect("kept").summary.state, State::Delivered);
}

pub(super) async fn an_ambiguous_attempt_makes_the_head_a_possible_repeat(store: Arc<dyn Store>) {
    stored(&*store, received("a", &[0])).await;
    let note = |outcome: &str| Attempt { at: noon(), outcome: outcome.into(), reason: "no answer".into() };
    let entry = head(&*store, 0).await.entry;
    store.attempted(&lane(0), entry, note("unavailable"));
    assert!(!head(&*store, 0).await.possible_repeat);
    store.attempted(&lane(0), entry, note("ambiguous"));
    assert!(head(&*store, 0).await.possible_repeat);
}

pub(super) async fn what_a_delivery_is_to_remember_is_remembered_with_its_settlement_alone(store: Arc<dyn Store>) {
    let note = |destination: &str, episode: &str| {
        let note = store.recall("pumps", destination, episode.as_bytes());
        note.map(|note| String::from_utf8_lossy(&note).into_owned())
    };
    for content in ["a", "b", "c", "d"] {
        stored(&*store, received(content, &[0])).await;
    }
    let first = head(&*store, 0).await;
    let behind = Sequence(first.entry.0 + 2);
    let refused = store.settle(&lane(0), behind, remembering(&[("infusion", "not its turn")]));
    assert_eq!((within(refused).await, note("ehr", "infusion")), (Err(StoreError::NotFound), None));
    settle_head(&*store, 0, remembering(&[("infusion", "running"), ("alert", "active")])).await;
    assert_eq!(note("ehr", "infusion").as_deref(), Some("running"));
    assert_eq!((note("study", "infusion"), note("ehr", "infusio")), (None, None));
    settle_head(&*store, 0, dead("refused")).await;
    settle_head(&*store, 0, remembering(&[("infusion", "stopped"), ("alert", "")])).await;
    assert_eq!((note("ehr", "infusion").as_deref(), note("ehr", "alert")), (Some("stopped"), None));
    let long = "x".repeat(NOTE_BYTES_MAX + 1);
    settle_head(&*store, 0, remembering(&[("infusion", &long), ("alert", &long[1..])])).await;
    assert_eq!(note("ehr", "infusion"), None, "what is too long is not remembered, nor what it would replace");
    assert_eq!(note("ehr", "alert").as_deref(), Some(&long[1..]));
}

pub(super) async fn a_message_routed_nowhere_is_recorded_as_that(store: Arc<dyn Store>) {
    let id = stored(&*store, received("a", &[])).await.sequence();
    let kept = within(store.read(id)).await.expect("kept");
    assert_eq!((kept.summary.state, &kept.message[..]), (State::Unrouted, &b"MSH|^~\\&|a"[..]));
}

pub(super) async fn a_message_is_found_by_what_it_was_received_with(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(stored(&*store, received(&format!("c{number}"), &[0])).await.sequence());
    }
    settle_head(&*store, 0, accepted()).await;
    let find = |query: Query| {
        let found = store.find(query);
        async move { within(found).await.expect("found").iter().map(|each| each.id).collect::<Vec<_>>() }
    };
    let query = || Query { limit: 10, ..Query::default() };
    let newest_first: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(find(query()).await, newest_first);
    assert_eq!(find(Query { control_id: Some(b"c3".to_vec()), ..query() }).await, vec![ids[3]]);
    assert_eq!(find(Query { device: Some(b"device-2".to_vec()), ..query() }).await, newest_first);
    assert_eq!(find(Query { patient: Some(b"patient-2".to_vec()), ..query() }).await, vec![]);
    assert_eq!(find(Query { state: Some(State::Delivered), ..query() }).await, vec![ids[0]]);
    assert_eq!(find(Query { channel: Some("vents".into()), ..query() }).await, vec![]);
    assert_eq!(find(Query { destination: Some("ehr".into()), limit: 2, ..query() }).await, newest_first[..2]);
    assert_eq!(find(Query { cursor: Some(ids[3]), limit: 2, ..query() }).await, newest_first[2..4]);
    assert_eq!(find(Query { from: Some(noon() + Duration::from_secs(1)), ..query() }).await, vec![]);
}

/// More than a page of history and more bytes than are read at once.
pub(super) async fn what_was_taken_is_gone_through_once_and_in_order_from_any_place_on(store: Arc<dyn Store>) {
    let mut put = Vec::new();
    assert_eq!(gone_through(&*store, Sequence(0)).await, [], "nothing is missing of nothing");
    for number in 0..400 {
        let content = format!("{number}{}", "x".repeat(number % 7 * 40));
        let received = Received { channel: ["pumps", "vents"][number % 2].into(), ..received(&content, &[0, 1]) };
        let (channel, bytes) = (received.channel.clone(), received.message.clone());
        put.push((stored(&*store, received).await.sequence(), channel, noon(), bytes));
    }
    for first in [0, 1, 57, 399] {
        assert_eq!(gone_through(&*store, put[first].0).await, put[first..], "from {first} on");
    }
    assert_eq!(gone_through(&*store, Sequence(0)).await, put);
    let behind_the_last = store.stats().next_sequence;
    assert_eq!(gone_through(&*store, Sequence(behind_the_last)).await, []);
    assert_eq!(gone_through(&*store, Sequence(u64::MAX)).await, []);
}

async fn gone_through(store: &dyn Store, from: Sequence) -> Vec<(Sequence, Arc<str>, Timestamp, Bytes)> {
    let (mut next, mut found) = (Some(from), Vec::new());
    while let Some(from) = next {
        let taken = within(store.taken(from)).await.expect("read");
        assert!(taken.whole, "nothing is given up or damaged");
        assert!(taken.next.is_none_or(|next| next > from), "it goes on");
        let bytes: usize = taken.messages.iter().map(|each| each.message.len()).sum();
        assert!(bytes < 2 << 10, "{bytes} at once");
        found.extend(taken.messages.into_iter().map(|each| (each.id, each.channel, each.received_at, each.message)));
        next = taken.next;
    }
    found
}

pub(super) async fn a_message_tells_its_history(store: Arc<dyn Store>) {
    let id = stored(&*store, received("a", &[0])).await.sequence();
    let entry = head(&*store, 0).await.entry;
    let note = Attempt { at: noon(), outcome: "unavailable".into(), reason: "refused".into() };
    store.attempted(&lane(0), entry, note);
    let bad = settle_head(&*store, 0, dead("no such patient")).await;
    within(store.retry_dead(bad.entry)).await.expect("retried");
    settle_head(&*store, 0, accepted()).await;
    let kept = within(store.read(id)).await.expect("kept");
    let told: Vec<&str> = kept.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(told, ["received", "attempt", "dead", "retried", "accepted"]);
    assert!(kept.events[2].detail.contains("no such patient"));
    assert_eq!(kept.summary.state, State::Delivered);
    assert_eq!(within(store.read(Sequence(99))).await.err(), Some(StoreError::NotFound));
}

pub(super) async fn a_paused_destination_is_told(store: Arc<dyn Store>) {
    within(store.pause("pumps".into(), "ehr".into(), true)).await.expect("paused");
    assert_eq!(store.paused(), vec![("pumps".into(), "ehr".into())]);
    within(store.pause("pumps".into(), "ehr".into(), false)).await.expect("resumed");
    assert!(store.paused().is_empty());
}

pub(super) async fn a_closed_store_answers_closed(store: Arc<dyn Store>) {
    let pending = store.next(&lane(0));
    let waiting = tokio::spawn(pending);
    within(store.close()).await.expect("closed");
    assert_eq!(within(waiting).await.expect("no panic").err(), Some(StoreError::Closed));
    assert_eq!(within(store.append(received("a", &[0]))).await, Err(StoreError::Closed));
    assert_eq!(within(store.next(&lane(0))).await.err(), Some(StoreError::Closed));
}

pub(super) async fn appends_made_in_order_are_stored_in_order_without_waiting(store: Arc<dyn Store>) {
    let answers: Vec<_> = (0..50).map(|number| store.append(received(&number.to_string(), &[0]))).collect();
    let mut last = 0;
    for answer in answers {
        let Appended::New(stored) = within(answer).await.expect("stored") else { panic!("taken for a repeat") };
        assert!(stored.sequence().as_u64() > last);
        last = stored.sequence().as_u64();
    }
}
