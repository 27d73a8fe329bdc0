//! The engine's own store, failing and opened anew under frames that are already with it.

use super::*;
use crate::store::{
    Options, Stats,
    simulation::{Machine, MemoryDisk, MemoryTree, SteppedStore},
};
use std::io;

/// A store moved on one turn at a time, on a disk that fails when told to, and an intake before it.
struct Stepped {
    machine: Machine,
    store: SteppedStore,
    intake: Arc<Intake>,
}

impl Stepped {
    fn new() -> Stepped {
        let metrics = Arc::new(Metrics::new().unwrap());
        let machine = Machine {
            disk: MemoryDisk::default(),
            ledger: MemoryTree::default(),
            options: Options { segment_bytes: 65_536, bytes_max: 1 << 20, ..Options::default() },
            metrics: metrics.clone(),
            clock: Clock::system(),
        };
        let store = machine.open().unwrap();
        let channels = vec![Arc::new(channel("pumps", &[]))];
        let intake = intake(channels, store.store.clone(), Clock::system(), metrics, HOLD);
        Stepped { machine, store, intake }
    }

    fn frame(&self, port: u16, id: &str) -> BoxFuture<'static, Answer> {
        let peer = SocketAddr::from(([10, 0, 0, 1], port));
        self.intake.frame(peer, message(id).into(), Instant::now())
    }

    fn fail_and_open_anew(&mut self) {
        self.machine.disk.fail_in(0, io::ErrorKind::Other);
        assert!(!self.store.turn(), "the store fails");
        self.store.reopen(&self.machine).unwrap();
    }

    fn stats(&self) -> Stats {
        self.store.store.stats()
    }
}

fn code(answer: &Answer) -> String {
    answer.messages.first().map_or_else(String::new, |message| Reply::read(message).code)
}

#[tokio::test]
async fn no_frame_is_stored_behind_one_refused_by_a_store_that_is_open_again_before_that_is_told() {
    let mut stepped = Stepped::new();
    let first = stepped.frame(5000, "FIRST");
    assert!(stepped.store.turn());
    let second = stepped.frame(5000, "SECOND");
    stepped.fail_and_open_anew();
    // Nobody has looked at an answer yet: the sender does not read the first one.
    let third = stepped.frame(5000, "THIRD");
    let elsewhere = stepped.frame(5001, "OTHER");
    assert!(stepped.store.turn());
    assert_eq!(stepped.stats().messages, 2, "the first, and the one of another connection");
    assert_eq!((code(&first.await).as_str(), code(&elsewhere.await).as_str()), ("AA", "AA"));
    let (second, third) = (second.await, third.await);
    assert!(second.close && third.close && third.codes.is_empty(), "both are repeated, in order");
    let repeated = [stepped.frame(5002, "SECOND"), stepped.frame(5002, "THIRD")];
    assert!(stepped.store.turn());
    for answer in repeated {
        assert_eq!(code(&answer.await), "AA");
    }
    assert_eq!(stepped.stats().messages, 4);
}

#[tokio::test]
async fn a_failure_between_two_frames_costs_a_connection_nothing_once_the_first_is_answered() {
    let mut stepped = Stepped::new();
    let first = stepped.frame(5000, "FIRST");
    assert!(stepped.store.turn());
    assert_eq!(code(&first.await), "AA");
    let elsewhere = stepped.frame(5001, "OTHER");
    stepped.fail_and_open_anew();
    let second = stepped.frame(5000, "SECOND");
    assert!(stepped.store.turn());
    assert_eq!(code(&second.await), "AA");
    assert!(elsewhere.await.close);
}
