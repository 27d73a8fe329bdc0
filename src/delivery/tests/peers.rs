//! With a store that decides as the engine's does, and receivers on real sockets.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{super::*, bench::*};
use crate::{
    destination::{MllpSettings, Verdict},
    store::{Query, Received, Route, SearchKeys, State, memory::MemoryStore},
};

pub(super) async fn put(store: &MemoryStore, lane: u16) -> u64 {
    let received = Received {
        channel: "pumps".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        message: "MSH|^~\\&|PUMP|W4|EHR|H|20260101||ORU^R01|1|P|2.6\r".into(),
        routes: vec![Route { destination: "ehr".into(), lane }],
        repeat: None,
        ack: None,
        keys: SearchKeys::default(),
        findings: vec![],
    };
    match store.append(received).await.unwrap() {
        crate::store::Appended::New(stored) => stored.sequence().as_u64(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn delivery_of(store: &MemoryStore) -> Arc<Delivery> {
    Delivery::new(Arc::new(store.clone()), Clock::system(), Arc::new(Metrics::new().unwrap()))
}

pub(super) async fn until_none_waits(store: &MemoryStore, limit: Duration) {
    let empty = async {
        while store.lanes().iter().any(|lane| lane.waiting > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(limit, empty).await.expect("every message settled");
}

#[tokio::test(start_paused = true)]
async fn what_was_outstanding_at_a_stop_comes_again_marked_at_the_next_start() {
    let store = MemoryStore::default();
    let id = put(&store, 0).await;
    let (to, mut calls) = receiver();
    let first = delivery_of(&store);
    first.apply(vec![configured("ehr", 1, service(to.clone(), 1))]).unwrap();
    let outstanding = calls.next().await;
    first.drain(Duration::from_secs(1)).await;
    outstanding.given_up().await;

    let second = delivery_of(&store);
    second.apply(vec![configured("ehr", 1, service(to, 1))]).unwrap();
    let again = calls.next().await;
    assert_eq!((again.id(), again.outgoing.possible_repeat), (id, true));
    again.accept();
    until_none_waits(&store, BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_sent_again_goes_to_the_tail_of_its_lane() {
    let store = MemoryStore::default();
    let first = put(&store, 0).await;
    let (to, mut calls) = receiver();
    let delivery = delivery_of(&store);
    delivery.apply(vec![configured("ehr", 1, service(to, 1))]).unwrap();
    calls.next().await.answer(Verdict::rejected("422"));
    at_rest().await;
    let dead = store.dead(None, None, 10).await.unwrap();
    assert_eq!((dead[0].id.as_u64(), dead[0].reason.as_str(), dead[0].attempts), (first, "422", 1));
    assert_eq!(status(&delivery).dead, 1);

    let second = put(&store, 0).await;
    let outstanding = calls.next().await;
    store.retry_dead(dead[0].entry).await.unwrap();
    assert_eq!(outstanding.id(), second);
    outstanding.accept();
    let again = calls.next().await;
    assert_eq!(again.id(), first);
    again.accept();
    until_none_waits(&store, BOUND).await;
    assert_eq!(status(&delivery).dead, 0);
}

/// What the faulty receiver does with the frames it gets, over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    CutMidFrame,
    TakenThenClosed,
    WrongThenRight,
    TwoAnswers,
    Busy,
    Unframed,
}

const FAULTS: [Fault; 9] = [
    Fault::None,
    Fault::CutMidFrame,
    Fault::TakenThenClosed,
    Fault::None,
    Fault::WrongThenRight,
    Fault::TwoAnswers,
    Fault::None,
    Fault::Busy,
    Fault::Unframed,
];

/// Lane, message, and whether it was answered: what the receiver took, in order.
type Taken = Arc<Mutex<Vec<(u16, u64, bool)>>>;

/// A receiver that takes frames and misbehaves in turn.
async fn faulty(taken: Taken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let turn = Arc::new(Mutex::new(FAULTS.iter().copied().cycle()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (taken, turn) = (taken.clone(), turn.clone());
            tokio::spawn(async move { while_open(stream, &taken, || turn.lock().unwrap().next().unwrap()).await });
        }
    });
    address
}

async fn while_open(mut stream: TcpStream, taken: &Taken, next: impl Fn() -> Fault) -> Option<()> {
    loop {
        let first = stream.read_u8().await.ok()?;
        let fault = next();
        if fault == Fault::CutMidFrame {
            return None;
        }
        let mut frame = vec![first];
        while !frame.ends_with(b"\x1c\r") {
            frame.push(stream.read_u8().await.ok()?);
        }
        let text = String::from_utf8(frame).unwrap();
        let control_id = text.split('|').nth(9).unwrap();
        let (lane, id) = control_id.split_once('-').unwrap();
        let answered = !matches!(fault, Fault::TakenThenClosed | Fault::Unframed);
        if fault != Fault::Busy {
            taken.lock().unwrap().push((lane.parse().unwrap(), id.parse().unwrap(), answered));
        }
        let ack = |code: &str, id: &str, err: &str| {
            format!("\x0bMSH|^~\\&|E|H|C|H|20260101||ACK|1|P|2.6\rMSA|{code}|{id}\r{err}\x1c\r")
        };
        let right = ack("AA", control_id, "");
        let answer = match fault {
            Fault::TakenThenClosed => return None,
            Fault::Unframed => {
                let _ = stream.write_all(b"OK\r\n").await;
                return None;
            }
            Fault::WrongThenRight => [ack("AR", "another", ""), right].concat(),
            Fault::TwoAnswers => [right, ack("AR", control_id, "")].concat(),
            Fault::Busy => ack("AR", control_id, "ERR|||207|E\r"),
            Fault::None | Fault::CutMidFrame => right,
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

#[tokio::test]
async fn a_faulty_mllp_receiver_gets_every_message_in_order_and_repeats_only_what_it_left_unanswered() {
    const EACH: usize = 30;
    let store = MemoryStore::default();
    let mut expected = vec![vec![]; 3];
    for _ in 0..EACH {
        for lane in 0..3u16 {
            expected[usize::from(lane)].push(put(&store, lane).await);
        }
    }
    let taken = Taken::default();
    let address = faulty(taken.clone()).await.to_string();
    let settings = Settings::Mllp(MllpSettings {
        address,
        timeout: Duration::from_secs(20),
        awaits_application: false,
        tls: None,
    });
    let to = destination::open(&settings, &destination::Meter::detached()).unwrap();
    // Ids are the store's; the lane is told to the receiver by what is sent.
    let lane_of = expected.clone();
    let quick = Service {
        retry_first: Duration::from_millis(1),
        retry_max: Duration::from_millis(2),
        retry_refused: 0,
        resend_window: 1,
        ..translating(service(to, 1), move |_, context| {
            let lane = lane_of.iter().position(|ids| ids.contains(&context.id)).unwrap();
            let text = format!("MSH|^~\\&|C|H|E|H|20260101||ORU^R01|{lane}-{}|P|2.6\r", context.id);
            Ok(crate::translate::Translated { body: text.into(), ..body(1, context) })
        })
    };
    let delivery = delivery_of(&store);
    delivery.apply(vec![configured("ehr", 3, quick)]).unwrap();
    until_none_waits(&store, Duration::from_secs(60)).await;
    delivery.drain(Duration::from_secs(20)).await;

    let taken = taken.lock().unwrap().clone();
    for (lane, expected) in expected.iter().enumerate() {
        let mine: Vec<_> = taken.iter().filter(|taken| usize::from(taken.0) == lane).collect();
        for pair in mine.windows(2) {
            assert!(pair[0].1 != pair[1].1 || !pair[0].2, "answered and yet repeated: {pair:?}");
        }
        let mut order: Vec<u64> = mine.iter().map(|taken| taken.1).collect();
        order.dedup();
        assert_eq!(&order, expected, "lane {lane}");
    }
    let delivered = Query { state: Some(State::Delivered), limit: 1000, ..Query::default() };
    assert_eq!(store.find(delivered).await.unwrap().len(), 3 * EACH);
    assert_eq!(delivery.metrics.attempts.with_label_values(&["pumps", "ehr", "rejected"]).get(), 0);
}
