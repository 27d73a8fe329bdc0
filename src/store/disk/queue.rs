//! What waits for the committer, in the order it was asked for.
//!
//! Pushing never waits: order is given in the call. Appends are bounded by count and refused beyond; everything else is
//! bounded by the lanes it comes from.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{learn::Learning, lock};
use crate::store::{
    StoreError,
    request::{Answer, Request},
};

/// Bytes of messages to one batch, so that none waits long for the others' writing.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_REQUESTS: usize = 4096;

/// Who is told.
#[derive(Debug)]
pub(super) enum Answerer {
    To(oneshot::Sender<Result<Answer, StoreError>>),
    Nobody,
}
impl Answerer {
    pub fn answer(self, answer: Result<Answer, StoreError>) {
        if let Answerer::To(sender) = self {
            // Nobody waits any more: what was stored stays stored.
            let _ = sender.send(answer);
        }
    }
}

/// A request and who asked.
pub(super) type Asked = (Request, Answerer);

/// Word from the ledger's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpointed {
    Safe,
    Failed,
}

/// What the committer is to do next.
#[derive(Default)]
pub(super) struct Work {
    pub asked: VecDeque<Asked>,
    pub checkpointed: Option<Checkpointed>,
    /// A ledger made again, or why it could not be.
    pub learned: Option<Learning>,
    /// A search found that the ledger does not read.
    pub doubted: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    woken: Condvar,
    max: usize,
}

#[derive(Default)]
struct Waiting {
    asked: VecDeque<Asked>,
    /// The committer waits for the first of them.
    sleeps: bool,
    checkpointed: Option<Checkpointed>,
    learned: Option<Learning>,
    doubted: bool,
    close: Vec<oneshot::Sender<Result<(), StoreError>>>,
    stop: bool,
    /// Set once nothing is taken any more.
    fault: Option<StoreError>,
}

impl Queue {
    pub fn new(max: usize) -> Queue {
        Queue { waiting: Mutex::default(), woken: Condvar::new(), max }
    }

    pub fn push(&self, request: Request, answerer: Answerer) {
        let mut waiting = lock(&self.waiting);
        let full = waiting.asked.len() >= self.max && matches!(request, Request::Append(_));
        let refusal = waiting.fault.clone().or(full.then_some(StoreError::Full));
        if let Some(refusal) = refusal {
            drop(waiting);
            return answerer.answer(Err(refusal));
        }
        waiting.asked.push_back((request, answerer));
        // Waking nobody is a call to the kernel too.
        let wakes = mem::take(&mut waiting.sleeps);
        drop(waiting);
        if wakes {
            self.woken.notify_one();
        }
    }

    pub fn checkpointed(&self, word: Checkpointed) {
        lock(&self.waiting).checkpointed = Some(word);
        self.woken.notify_one();
    }

    /// Forgets what was said of a ledger that is given up with its committer.
    pub fn forget_words(&self) {
        let mut waiting = lock(&self.waiting);
        (waiting.checkpointed, waiting.learned, waiting.doubted) = (None, None, false);
    }

    pub fn learned(&self, word: Learning) {
        lock(&self.waiting).learned = Some(word);
        self.woken.notify_one();
    }

    pub fn doubt(&self) {
        lock(&self.waiting).doubted = true;
        self.woken.notify_one();
    }

    /// What the ledger's thread said last, if nobody heard it yet.
    pub fn last_word(&self) -> Option<Checkpointed> {
        lock(&self.waiting).checkpointed.take()
    }

    /// Asks for a proper end; what was pushed before is still done.
    pub fn close(&self, answerer: oneshot::Sender<Result<(), StoreError>>) {
        let mut waiting = lock(&self.waiting);
        // Dropped unanswered where there is nothing to close: the caller is told why from the store's fault, and the store
        // is not opened any more.
        match waiting.fault {
            None => waiting.close.push(answerer),
            Some(_) => waiting.stop = true,
        }
        self.woken.notify_one();
    }

    /// Asks for an end without a checkpoint.
    pub fn stop(&self) {
        lock(&self.waiting).stop = true;
        self.woken.notify_one();
    }

    /// Answers everything, now and from now on, with this fault.
    pub fn fail(&self, fault: &StoreError) {
        let asked = {
            let mut waiting = lock(&self.waiting);
            waiting.fault = Some(fault.clone());
            waiting.close.clear();
            mem::take(&mut waiting.asked)
        };
        asked.into_iter().for_each(|(_, answerer)| answerer.answer(Err(fault.clone())));
    }

    /// Takes requests again.
    pub fn heal(&self) {
        lock(&self.waiting).fault = None;
    }

    /// Waits for `patience`; answers at once, and true, where the end was asked for.
    pub fn rest(&self, patience: Duration) -> bool {
        let waiting = lock(&self.waiting);
        let resting = |waiting: &mut Waiting| !waiting.stop;
        let (waiting, _) =
            self.woken.wait_timeout_while(waiting, patience, resting).unwrap_or_else(PoisonError::into_inner);
        waiting.stop
    }

    /// The next batch's worth; waits for it, but no longer than `patience`.
    pub fn take(&self, patience: Duration) -> Work {
        let mut waiting = lock(&self.waiting);
        waiting.sleeps = true;
        let idle = |waiting: &mut Waiting| {
            let word = waiting.checkpointed.is_some() || waiting.learned.is_some() || waiting.doubted;
            waiting.asked.is_empty() && !word && waiting.close.is_empty() && !waiting.stop
        };
        let (mut waiting, _) =
            self.woken.wait_timeout_while(waiting, patience, idle).unwrap_or_else(PoisonError::into_inner);
        waiting.sleeps = false;
        let batch = batch_length(&waiting.asked);
        let rest = waiting.asked.split_off(batch);
        let asked = mem::replace(&mut waiting.asked, rest);
        let (checkpointed, learned) = (waiting.checkpointed.take(), waiting.learned.take());
        Work { asked, checkpointed, learned, doubted: mem::take(&mut waiting.doubted) }
    }

    /// Who asked for the end, if it was asked for and everything asked before is done; nobody where it is not a proper one.
    pub fn ending(&self) -> Option<Vec<oneshot::Sender<Result<(), StoreError>>>> {
        let mut waiting = lock(&self.waiting);
        let ends = waiting.asked.is_empty() && (waiting.stop || !waiting.close.is_empty());
        ends.then(|| mem::take(&mut waiting.close))
    }

    /// Has the last two such requests change places; false where there are not two.
    #[cfg(test)]
    pub fn swap_last(&self, is_such: impl Fn(&Asked) -> bool) -> bool {
        let mut waiting = lock(&self.waiting);
        let found: Vec<usize> =
            (0..waiting.asked.len()).rev().filter(|at| is_such(&waiting.asked[*at])).take(2).collect();
        let [last, before] = found[..] else { return false };
        waiting.asked.swap(last, before);
        true
    }

    /// Puts back, in front, what the next batch must decide.
    pub fn put_back(&self, asked: Vec<Asked>) {
        let mut waiting = lock(&self.waiting);
        asked.into_iter().rev().for_each(|each| waiting.asked.push_front(each));
    }
}

fn batch_length(asked: &VecDeque<Asked>) -> usize {
    let mut bytes = 0;
    let fits = |(request, _): &&Asked| {
        let before = bytes;
        if let Request::Append(new) = request {
            bytes += new.payload.len();
        }
        before == 0 || bytes <= BATCH_BYTES
    };
    asked.iter().take(BATCH_REQUESTS).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn what_was_postponed_is_done_before_the_end() {
        let queue = Queue::new(10);
        queue.push(Request::RetryDead { entry: 1, at: 0 }, Answerer::Nobody);
        queue.push(Request::DiscardDead { entry: 1, at: 0 }, Answerer::Nobody);
        queue.close(oneshot::channel().0);
        let mut asked = queue.take(Duration::ZERO).asked;
        assert_eq!(asked.len(), 2);
        queue.put_back(asked.split_off(1).into());
        assert!(queue.ending().is_none(), "one request is still to be decided");
        assert_eq!(queue.take(Duration::ZERO).asked.len(), 1);
        assert_eq!(queue.ending().map(|close| close.len()), Some(1));
    }
}
