//! A bounded queue that holds no memory while it is empty: most connections are silent most of the time, and a channel keeps
//! room for dozens of items for each of them.
//!
//! Any number may put; one takes. What must never happen: an item put into a queue that has ended, which nobody would take.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// The queue.
pub(super) struct Queue<T> {
    held: Mutex<Held<T>>,
    max: usize,
    /// Who takes, to be woken when an item was put or the end came.
    taker: AtomicWaker,
    /// An item was taken, or the end came.
    taken: Notify,
}

struct Held<T> {
    items: VecDeque<T>,
    ended: bool,
}

impl<T> Queue<T> {
    /// For so many items, at least one.
    pub(super) fn new(max: usize) -> Queue<T> {
        let held = Mutex::new(Held { items: VecDeque::new(), ended: false });
        Queue { held, max: max.max(1), taker: AtomicWaker::new(), taken: Notify::new() }
    }

    /// Gives the item back where there is no room for it or the queue has ended.
    pub(super) fn try_put(&self, item: T) -> Result<(), T> {
        let mut held = self.held();
        if held.ended || held.items.len() >= self.max {
            return Err(item);
        }
        held.items.push_back(item);
        drop(held);
        self.taker.wake();
        Ok(())
    }

    /// The same once there is room; gives the item back where the queue ends first.
    pub(super) async fn put(&self, mut item: T) -> Result<(), T> {
        while self.room().await {
            match self.try_put(item) {
                Ok(()) => return Ok(()),
                // Somebody else was quicker, or it has ended.
                Err(back) => item = back,
            }
        }
        Err(item)
    }

    /// Waits for room; false where the queue has ended. The room is the caller's only if nobody else puts.
    pub(super) async fn room(&self) -> bool {
        match self.has_room() {
            Some(room) => room,
            // In a box, as most need not wait.
            None => Box::pin(self.wait_for_room()).await,
        }
    }

    async fn wait_for_room(&self) -> bool {
        loop {
            let mut taken = pin!(self.taken.notified());
            taken.as_mut().enable();
            if let Some(room) = self.has_room() {
                return room;
            }
            taken.await;
        }
    }

    /// `None`: not yet.
    fn has_room(&self) -> Option<bool> {
        let held = self.held();
        (held.ended || held.items.len() < self.max).then_some(!held.ended)
    }

    /// The first item, once there is one; `None` once the queue has ended and is empty. One task takes.
    pub(super) fn take(&self) -> impl Future<Output = Option<T>> + Unpin {
        poll_fn(|context| self.poll_take(context))
    }

    fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.taker.register(context.waker());
        match self.try_take() {
            Some(item) => Poll::Ready(Some(item)),
            None if self.has_ended() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The first item, if there is one.
    pub(super) fn try_take(&self) -> Option<T> {
        let mut held = self.held();
        let item = held.items.pop_front()?;
        if held.items.is_empty() {
            held.items = VecDeque::new();
        }
        drop(held);
        self.taken.notify_one();
        Some(item)
    }

    /// Nothing is put any more.
    pub(super) fn end(&self) {
        self.held().ended = true;
        self.taker.wake();
        self.taken.notify_waiters();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.held().ended
    }

    /// Whole even after a panic elsewhere: each change is one step.
    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn items_come_in_order_and_no_more_wait_than_are_allowed() {
        let queue = Arc::new(Queue::new(2));
        assert_eq!((queue.try_put(1), queue.try_put(2), queue.try_put(3)), (Ok(()), Ok(()), Err(3)));
        let late = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.put(3).await, queue.put(4).await) }
        });
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert!(!late.is_finished());
        for expected in 1..=4 {
            assert_eq!(queue.take().await, Some(expected));
        }
        assert_eq!(late.await.ok(), Some((Ok(()), Ok(()))));
        assert_eq!((queue.try_take(), queue.held().items.capacity()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_wait_for_room_all_get_it() {
        let queue = Arc::new(Queue::new(1));
        let putting: Vec<_> = (0..20)
            .map(|item| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.put(item).await })
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.extend(queue.take().await);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        for put in putting {
            assert_eq!(put.await.ok(), Some(Ok(())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_told_to_all_who_wait_and_what_was_put_is_still_taken() {
        let queue = Arc::new(Queue::new(1));
        assert_eq!(queue.try_put(1), Ok(()));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.put(2).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        queue.end();
        assert_eq!(waiting.await.ok(), Some(Err(2)));
        assert_eq!((queue.take().await, queue.take().await, queue.try_put(3)), (Some(1), None, Err(3)));
        let queue = Arc::new(Queue::<u8>::new(1));
        let taking = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take().await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        queue.end();
        assert_eq!(taking.await.ok(), Some(None));
    }
}
