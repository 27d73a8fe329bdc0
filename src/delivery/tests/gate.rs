//! While `lanes` changes: messages of one key keep their order though they are in two lanes.

use super::{super::*, bench::*, peers::*};
use crate::{
    destination::Verdict,
    store::{StoreError, memory::MemoryStore},
};

fn lanes(service: Service, lanes: u16) -> Vec<Configured> {
    vec![configured("ehr", lanes, service)]
}

#[tokio::test(start_paused = true)]
async fn what_was_routed_the_old_way_goes_first_and_in_parallel_then_everything_does() {
    let store = MemoryStore::default();
    let delivery = delivery_of(&store);
    let (to, mut calls) = receiver();
    delivery.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    let (a, b, c) = (put(&store, 0).await, put(&store, 1).await, put(&store, 0).await);
    let first = [calls.next().await, calls.next().await];
    delivery.apply(lanes(service(to, 1), 4)).unwrap();
    let new = [put(&store, 2).await, put(&store, 3).await, put(&store, 1).await];
    delivery.routes_changed().await;
    let later = put(&store, 3).await;
    calls.expect_none().await;
    assert_eq!(first.iter().map(Call::id).collect::<BTreeSet<_>>(), BTreeSet::from([a, b]));
    for call in first {
        call.accept();
    }
    let last_old = calls.next().await;
    assert_eq!(last_old.id(), c);
    calls.expect_none().await;
    last_old.answer(Verdict::unavailable("down"));
    let last_old = calls.next().await;
    assert_eq!(last_old.id(), c, "also while it does not get through");
    last_old.accept();
    for wanted in new {
        let call = calls.next().await;
        assert_eq!(call.id(), wanted, "routed while the way changed: one at a time");
        calls.expect_none().await;
        call.accept();
    }
    let call = calls.next().await;
    assert_eq!(call.id(), later);
    let beside = put(&store, 0).await;
    assert_eq!(calls.next().await.id(), beside, "all lanes again");
    call.accept();
}

#[tokio::test(start_paused = true)]
async fn a_change_with_nothing_waiting_and_a_second_change_before_the_first_is_over_hold_nothing_up() {
    let store = MemoryStore::default();
    let delivery = delivery_of(&store);
    let (to, mut calls) = receiver();
    delivery.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    for count in [4, 1, 8] {
        delivery.apply(lanes(service(to.clone(), 1), count)).unwrap();
        delivery.routes_changed().await;
    }
    let both = [put(&store, 0).await, put(&store, 7).await];
    let outstanding = [calls.next().await, calls.next().await];
    assert_eq!(outstanding.iter().map(Call::id).collect::<BTreeSet<_>>(), BTreeSet::from(both));
    delivery.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    let (third, fourth) = (put(&store, 1).await, put(&store, 0).await);
    delivery.apply(lanes(service(to, 1), 3)).unwrap();
    delivery.routes_changed().await;
    calls.expect_none().await;
    for call in outstanding {
        call.accept();
    }
    for wanted in [third, fourth] {
        let call = calls.next().await;
        assert_eq!(call.id(), wanted);
        calls.expect_none().await;
        call.accept();
    }
    until_none_waits(&store, BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn a_way_changed_between_two_starts_is_noticed_and_what_waits_goes_in_the_stores_order() {
    let store = MemoryStore::default();
    let first = delivery_of(&store);
    let (to, _calls) = receiver();
    first.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    first.drain(BOUND).await;
    let waiting = [put(&store, 1).await, put(&store, 0).await, put(&store, 1).await];
    let kept = first.ways();
    for (count, in_order) in [(4, true), (2, false)] {
        let second = delivery_of(&store);
        let (to, mut calls) = receiver();
        second.came_by(kept.clone());
        second.apply(lanes(service(to, 1), count)).unwrap();
        assert_eq!(second.ways() != kept, in_order, "kept as changing until nothing waits that came before");
        second.routes_changed().await;
        let call = calls.next().await;
        if in_order {
            assert_eq!(call.id(), waiting[0]);
            calls.expect_none().await;
        } else {
            assert_ne!(calls.next().await.lane, call.lane, "nothing has changed: in parallel");
        }
        second.drain(Duration::ZERO).await;
    }
}

/// What a failed store finds durable when it is opened anew was routed the old way, and has later places than all it knew.
#[tokio::test(start_paused = true)]
async fn a_change_while_the_store_is_failed_is_over_only_once_it_works_and_all_given_to_it_has_its_place() {
    let store = MemoryStore::default();
    let delivery = delivery_of(&store);
    let (to, mut calls) = receiver();
    delivery.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    delivery.apply(lanes(service(to, 1), 4)).unwrap();
    store.refuse(Some(StoreError::Failed("EIO".into())));
    delivery.routes_changed().await;
    store.refuse(None);
    let (found, new) = (put(&store, 1).await, put(&store, 3).await);
    let call = calls.next().await;
    assert_eq!(call.id(), found);
    calls.expect_none().await;
    call.accept();
    let call = calls.next().await;
    assert_eq!(call.id(), new);
    call.accept();
    until_none_waits(&store, BOUND).await;
    tokio::time::sleep(BOUND).await;
    let both = [put(&store, 0).await, put(&store, 3).await];
    let outstanding = [calls.next().await.id(), calls.next().await.id()];
    assert_eq!(BTreeSet::from(outstanding), BTreeSet::from(both), "all lanes again");
}

#[tokio::test(start_paused = true)]
async fn a_change_while_the_store_is_failed_ends_nothing_of_the_next_change_and_does_not_outlive_the_engine() {
    let store = MemoryStore::default();
    let delivery = delivery_of(&store);
    let (to, mut calls) = receiver();
    delivery.apply(lanes(service(to.clone(), 1), 2)).unwrap();
    delivery.apply(lanes(service(to.clone(), 1), 4)).unwrap();
    store.refuse(Some(StoreError::Failed("EIO".into())));
    delivery.routes_changed().await;
    store.refuse(None);
    delivery.apply(lanes(service(to, 1), 3)).unwrap();
    tokio::time::sleep(BOUND).await;
    let (old, new) = (put(&store, 3).await, put(&store, 2).await);
    let call = calls.next().await;
    assert_eq!(call.id(), old);
    calls.expect_none().await;
    call.accept();
    assert_eq!(calls.next().await.id(), new, "intake still routes by the change before");
    store.refuse(Some(StoreError::Failed("EIO".into())));
    delivery.routes_changed().await;
    delivery.drain(Duration::ZERO).await;
    assert!(delivery.tasks.is_empty(), "nothing is left to run");
}
