//! Any verdicts, in any order, over any lanes: nothing is lost, nothing passes another, nothing is repeated without
//! the mark.

use proptest::{collection::vec, prelude::*};

use super::{
    super::*,
    bench::{BOUND, Shelf, configured, delivery, service, status, told},
    peers::{delivery_of, put, until_none_waits},
};
use crate::{
    channel::OnReject,
    destination::{Destination, Outgoing, Sender, Verdict},
    store::{Settlement, StoreError, memory::MemoryStore},
};
use futures_util::future::BoxFuture;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Accept,
    Reject,
    Unavailable,
    /// No answer, though the message was taken.
    TakenUnanswered,
    /// No answer, and the message was not taken.
    LostUnanswered,
    Panic,
}

/// What the receiver saw: lane, id, mark, and whether it took the message.
type Call = (u16, u64, bool, bool);
type Seen = Arc<Mutex<Vec<Call>>>;

/// Answers lane by lane from a script, and accepts when that has run out.
struct Scripted {
    scripts: Vec<Vec<Answer>>,
    seen: Seen,
}

struct ScriptedLane {
    lane: u16,
    script: std::vec::IntoIter<Answer>,
    seen: Seen,
}

impl Destination for Scripted {
    fn sender(&self, lane: u16) -> Box<dyn Sender> {
        // A sender that is made again after a panic goes on where the script was.
        let so_far = self.seen.lock().unwrap().iter().filter(|seen| seen.0 == lane).count();
        let script: Vec<Answer> = self.scripts[usize::from(lane)].iter().skip(so_far).copied().collect();
        Box::new(ScriptedLane { lane, script: script.into_iter(), seen: self.seen.clone() })
    }
}

impl Sender for ScriptedLane {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        let answer = self.script.next().unwrap_or(Answer::Accept);
        let taken = matches!(answer, Answer::Accept | Answer::TakenUnanswered);
        self.seen.lock().unwrap().push((self.lane, outgoing.id, outgoing.possible_repeat, taken));
        Box::pin(async move {
            // Virtual time, in which a restart may come.
            tokio::time::sleep(Duration::from_millis(10)).await;
            match answer {
                Answer::Accept => Verdict::Accepted { answer: "AA".into() },
                Answer::Reject => Verdict::rejected("no"),
                Answer::Unavailable => Verdict::unavailable("down"),
                Answer::TakenUnanswered | Answer::LostUnanswered => Verdict::ambiguous("silence"),
                Answer::Panic => panic!("in the sender"),
            }
        })
    }
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    use Answer::*;
    let one = prop_oneof![
        4 => Just(Accept), 1 => Just(Reject), 2 => Just(Unavailable),
        1 => Just(TakenUnanswered), 1 => Just(LostUnanswered), 1 => Just(Panic)
    ];
    vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_passed_or_repeated_unmarked(
        scripts in vec(answers(), 4),
        hold in any::<bool>(),
        fulls in 0usize..4,
        reloads in 0u64..3,
        window in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(scripts, hold, fulls, reloads, window));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restarts_at_any_moment_lose_pass_and_repeat_nothing_unmarked(
        scripts in vec(answers(), 4),
        lives in vec(0u64..5_000, 0..6),
        window in 1usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run_with_restarts(scripts, lives, window));
    }
}

const EACH: u64 = 8;

/// Each life ends after so many milliseconds, whatever is outstanding; the last one when all is done.
async fn run_with_restarts(scripts: Vec<Vec<Answer>>, lives: Vec<u64>, resend_window: usize) {
    let store = MemoryStore::default();
    let mut expected = vec![vec![]; 4];
    for _ in 0..EACH {
        for lane in 0..4u16 {
            expected[usize::from(lane)].push(put(&store, lane).await);
        }
    }
    let seen = Seen::default();
    let receiver = Arc::new(Scripted { scripts, seen: seen.clone() });
    for life in lives.into_iter().map(Some).chain([None]) {
        let delivery = delivery_of(&store);
        delivery.apply(vec![configured("ehr", 4, Service { resend_window, ..service(receiver.clone(), 1) })]).unwrap();
        match life {
            Some(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
            None => until_none_waits(&store, Duration::from_secs(100_000)).await,
        }
        delivery.drain(Duration::ZERO).await;
        assert_eq!(delivery.tasks.len(), 0);
    }
    let dead = store.dead(None, None, 1000).await.unwrap();
    let seen = seen.lock().unwrap();
    for (lane, expected) in expected.iter().enumerate() {
        let mine = check_lane(u16::try_from(lane).unwrap(), expected, &seen);
        for id in expected {
            let taken = mine.iter().any(|seen| seen.1 == *id && seen.3);
            assert!(taken || dead.iter().any(|dead| dead.id.as_u64() == *id), "{id} neither taken nor dead");
        }
    }
}

async fn run(scripts: Vec<Vec<Answer>>, hold: bool, fulls: usize, reloads: u64, resend_window: usize) {
    let shelf = Shelf::new();
    shelf.with(|contents| contents.settle_faults.extend(std::iter::repeat_n(StoreError::Full, fulls)));
    for lane in 0..4u16 {
        shelf.put("ehr", lane, (0..EACH).map(|n| u64::from(lane) * 100 + n));
    }
    let delivery = delivery(&shelf);
    let seen = Seen::default();
    let receiver = Arc::new(Scripted { scripts, seen: seen.clone() });
    let on_reject = if hold { OnReject::Hold } else { OnReject::Park };
    let configure = |configuration| {
        let service = Service { on_reject, resend_window, ..service(receiver.clone(), configuration) };
        delivery.apply(vec![configured("ehr", 4, service)]).unwrap();
    };
    for configuration in 0..=reloads {
        configure(configuration);
        tokio::task::yield_now().await;
    }
    let settled = |shelf: &Shelf| shelf.with(|contents| contents.settled.len());
    let all = async {
        while settled(&shelf) < 4 * EACH as usize {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if status(&delivery).state == "held" {
                delivery.park("pumps", "ehr").await.unwrap();
            }
        }
    };
    timeout(Duration::from_secs(100_000), all).await.expect("every message settled");
    timeout(BOUND, delivery.drain(BOUND)).await.expect("drained");
    check(&shelf, &seen.lock().unwrap());
}

fn check(shelf: &Shelf, seen: &[Call]) {
    for lane in 0..4u16 {
        let expected: Vec<u64> = (0..EACH).map(|n| u64::from(lane) * 100 + n).collect();
        let mine = check_lane(lane, &expected, seen);
        shelf.with(|contents| {
            let settled: Vec<_> = contents.settled.iter().filter(|settled| settled.0.lane == lane).collect();
            assert_eq!(settled.iter().map(|settled| settled.1).collect::<Vec<_>>(), expected);
            for (_, id, how) in settled {
                let taken = mine.iter().any(|seen| seen.1 == *id && seen.3);
                assert!(taken || matches!(how, Settlement::Dead { .. }), "{id} settled as {} but not taken", told(how));
            }
        });
    }
}

/// The calls of one lane: complete, in order, and no message sent again unmarked once it was taken.
fn check_lane(lane: u16, expected: &[u64], seen: &[Call]) -> Vec<Call> {
    let mine: Vec<Call> = seen.iter().filter(|seen| seen.0 == lane).copied().collect();
    let mut order: Vec<u64> = mine.iter().map(|seen| seen.1).collect();
    assert!(order.is_sorted(), "lane {lane} in order: {order:?}");
    order.dedup();
    assert_eq!(order, expected, "lane {lane} complete");
    for pair in mine.windows(2) {
        let repeated = pair[0].1 == pair[1].1;
        assert!(!(repeated && pair[0].3) || pair[1].2, "repeated without the mark: {pair:?}");
    }
    mine
}
