#![allow(clippy::unwrap_used)]
use super::*;
use crate::measure::reference::Reference;
use crate::measure::wire::{control_id, put_ack};
use tokio::net::TcpListener;

fn load(address: SocketAddr, messages: u64, window: usize) -> Load {
    Load { window, messages: Some(messages), ..Load::to(address, 1, Duration::ZERO) }
}

/// A server that answers a connection's first `ids.len()` messages at once, each with what `answer` makes of all their ids.
async fn answering(messages: usize, answer: fn(&[Vec<u8>]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut buffer, mut scanned, mut ids) = (Vec::new(), 0, Vec::new());
        while ids.len() < messages {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
            take_frames(&mut buffer, &mut scanned, |frame| ids.push(control_id(frame).unwrap().to_vec()));
        }
        stream.write_all(&answer(&ids)).await.unwrap();
    });
    address
}

fn acks(parts: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|(code, id)| put_ack(&mut out, code, id));
    out
}

#[tokio::test]
async fn each_answer_that_is_not_the_expected_one_is_counted_for_what_it_is() {
    type Case = (&'static str, fn(&[Vec<u8>]) -> Vec<u8>, Answers, u64);
    let none = Answers::default();
    let cases: [Case; 7] = [
        ("all is well", |ids| acks(&[(b"CA", &ids[0]), (b"AA", &ids[1]), (b"CA", &ids[2])]), none, 3),
        ("silent, then gone", |ids| acks(&[(b"CA", &ids[0])]), Answers { lost: 2, ..none }, 1),
        (
            "another's",
            |ids| acks(&[(b"CA", b"12345678.1000.100000"), (b"CA", &ids[0]), (b"CA", &ids[1]), (b"CA", &ids[2])]),
            Answers { wrong: 1, ..none },
            3,
        ),
        ("no answer at all", |_| b"\x0bMSH|^~\\&|\r\x1c\r".to_vec(), Answers { wrong: 1, lost: 3, ..none }, 0),
        (
            "twice",
            |ids| acks(&[(b"CA", &ids[0]), (b"CA", &ids[0]), (b"CA", &ids[1]), (b"CA", &ids[2])]),
            Answers { repeated: 1, ..none },
            3,
        ),
        (
            "out of order",
            |ids| acks(&[(b"CA", &ids[1]), (b"CA", &ids[0]), (b"CA", &ids[2])]),
            Answers { reordered: 1, ..none },
            3,
        ),
        (
            "refused",
            |ids| acks(&[(b"CA", &ids[0]), (b"CE", &ids[1]), (b"AR", &ids[2])]),
            Answers { refused: 2, ..none },
            1,
        ),
    ];
    for (what, answer, expected, answered) in cases {
        let outcome = load(answering(3, answer).await, 3, 3).run(5).await;
        assert_eq!((outcome.answers, outcome.answered), (expected, answered), "{what}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_has_lost_every_connections_message() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = Load { connections: 4, ..load(gone, 1, 1) }.run(5).await;
    assert_eq!((outcome.answers, outcome.answered), (Answers { lost: 4, ..Answers::default() }, 0));
}

async fn reference(reference: Reference) -> SocketAddr {
    // Free a moment ago; the references say their address to whoever started them as a process.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    tokio::spawn(reference.serve(address));
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the reference does not listen");
        sleep(Duration::from_millis(5)).await;
    }
    address
}

#[tokio::test]
async fn every_reference_answers_each_message_once_whole_coalesced_and_in_pieces() {
    let file = std::env::temp_dir().join(format!("measure-durable-{}", std::process::id()));
    for (kind, echo) in [(Reference::Echo, true), (Reference::Ack, false), (Reference::Durable(file.clone()), false)] {
        let address = reference(kind.clone()).await;
        for (window, pieces) in [(1, false), (16, false), (16, true)] {
            let outcome = Load { connections: 3, echo, pieces, ..load(address, 200, window) }.run(5).await;
            assert_eq!((outcome.answers, outcome.answered), (Answers::default(), 600), "{kind:?}");
            assert_eq!((outcome.coalesced > 0, outcome.split > 0), (window > 1, pieces), "{kind:?}");
        }
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_bounded_flow_sends_no_more_than_may_be_under_way() {
    let address = reference(Reference::Ack).await;
    let flow = Arc::new(Flow::bounded(5));
    let sending = tokio::spawn(Load { flow: flow.clone(), ..load(address, 20, 1) }.run(5));
    let begun = Instant::now();
    while flow.sent.load(Ordering::Acquire) < 5 {
        assert!(begun.elapsed() < Duration::from_secs(10), "fewer are sent than may be");
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(flow.sent.load(Ordering::Acquire), 5, "more are sent than may be under way");
    flow.delivered.store(20, Ordering::Release);
    assert_eq!(sending.await.unwrap().answered, 20);
}
