//! What a destination remembers from one delivery to the next.

use super::{super::*, bench::*};
use crate::{
    destination::Verdict,
    translate::{EpisodeChange, Translated, Unsent},
};

/// Counts what the destination accepted; what is sent says which it is.
fn counting(service: Service) -> Service {
    let translate =
        |_: &crate::hl7::Message, context: crate::translate::Context, recall: &crate::translate::Recall<'_>| {
            let count = recall(b"count").map_or(0, |note| note[0]) + 1;
            let change = EpisodeChange { episode: "count".into(), note: Some(vec![count].into()), open: true };
            if context.id == 3 {
                return Ok(Translated::unsent(Unsent::Unchanged, vec![change]));
            }
            let body = format!("MSH|^~\\&|||||||ORU^R01|{}-{count}|\r", context.id).into_bytes();
            Ok(Translated { body: body.into(), episodes: vec![change], ..body_of(context) })
        };
    Service { translate: Box::new(translate), ..service }
}

fn control_id(call: &Call) -> String {
    String::from_utf8_lossy(&call.outgoing.control_id).into_owned()
}

fn body_of(context: crate::translate::Context) -> Translated {
    body(1, context)
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_translated_with_the_same_memory_and_only_an_accepted_delivery_changes_it() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=5);
    delivery.apply(vec![configured("ehr", 1, counting(service(receiver, 1)))]).unwrap();
    let mut sent = Vec::new();
    for verdict in [Verdict::ambiguous("silence"), Verdict::unavailable("down"), Verdict::rejected("no")] {
        let call = calls.next().await;
        sent.push(control_id(&call));
        call.answer(verdict);
    }
    for _ in 0..3 {
        let call = calls.next().await;
        sent.push(control_id(&call));
        call.accept();
    }
    shelf.until_settled(5).await;
    // 1 became a dead letter; of 3 nothing was sent, and it is remembered.
    assert_eq!(sent, ["1-1", "1-1", "1-1", "2-1", "4-3", "5-4"]);
    assert_eq!(shelf.outcomes()[2], (3, "accepted nothing to send: it changes nothing that is written 0".into()));
}

#[tokio::test(start_paused = true)]
async fn what_another_version_remembered_of_an_infusion_is_counted() {
    let shelf = Shelf::new();
    let delivery = delivery(&shelf);
    let (receiver, mut calls) = receiver();
    shelf.put("ehr", 0, 1..=2);
    let service = Service {
        translate: Box::new(|_, context, recall| {
            let (episode, note) = (b"infusion course of a pump".as_slice(), vec![1_u8]);
            recall(episode);
            let change = EpisodeChange { episode: episode.into(), note: Some(note.into()), open: true };
            Ok(Translated { episodes: vec![change], ..body_of(context) })
        }),
        ..service(receiver, 1)
    };
    delivery.apply(vec![configured("ehr", 1, service)]).unwrap();
    for _ in 0..2 {
        calls.next().await.accept();
    }
    shelf.until_settled(2).await;
    let counted = delivery.metrics.left_out.with_label_values(&["pumps", "ehr", "layout"]).get();
    assert_eq!(counted, 1, "the second is told of a note by the first");
}
