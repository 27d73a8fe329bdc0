//! Threads for what wakes often and computes little: the connections of gateways, and lanes. Each has a runtime of its own.
//!
//! A task stays on the thread it was given, which is the one with the fewest then. So a frame that is read or a message that
//! is settled wakes no other thread than the store's, where a runtime of several threads wakes another one for each. Gateways
//! and lanes have threads apart: nothing that a lane translates delays an acknowledgement.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use futures_util::FutureExt;
use tokio::runtime::{Builder, Handle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Threads that run tasks until this is dropped; what is left of their tasks then is dropped too.
pub struct Threads {
    each: Vec<Thread>,
    _stop: DropGuard,
}

struct Thread {
    runtime: Handle,
    tasks: Arc<AtomicUsize>,
}

/// A task counted while it is there.
struct Counted(Arc<AtomicUsize>);

impl Threads {
    /// For gateways: one for every two processors, since the others are for the store and the lanes.
    pub fn for_gateways() -> io::Result<Threads> {
        Threads::start("gateways", processors().div_ceil(2))
    }

    /// For lanes, whose translations may have every processor.
    pub fn for_lanes() -> io::Result<Threads> {
        Threads::start("lanes", processors())
    }

    fn start(name: &str, count: usize) -> io::Result<Threads> {
        let stop = CancellationToken::new();
        let start = |number: usize| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), stop.clone());
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                runtime.block_on(stop.cancelled());
                // What hangs in a call to the system does not keep a stopped engine from ending.
                runtime.shutdown_background();
            })?;
            Ok(Thread::on(handle))
        };
        let each = (1..=count).map(start).collect::<io::Result<_>>()?;
        Ok(Threads { each, _stop: stop.drop_guard() })
    }

    /// The caller's runtime in their place, whatever threads it has.
    #[cfg(test)]
    pub fn of_caller() -> Threads {
        Threads { each: vec![Thread::on(Handle::current())], _stop: CancellationToken::new().drop_guard() }
    }

    /// Runs it on the thread with the fewest tasks.
    pub fn spawn<F>(&self, tracker: &TaskTracker, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = self.each.iter().min_by_key(|thread| thread.tasks.load(Ordering::Relaxed));
        let Some(Thread { runtime, tasks }) = fewest else { return };
        let counted = Counted::one_more(tasks);
        // No async block: it would have room for the task twice.
        drop(tracker.spawn_on(task.map(|()| drop(counted)), runtime));
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Thread {
    fn on(runtime: Handle) -> Thread {
        Thread { runtime, tasks: Arc::default() }
    }
}

impl Counted {
    fn one_more(tasks: &Arc<AtomicUsize>) -> Counted {
        tasks.fetch_add(1, Ordering::Relaxed);
        Counted(tasks.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::collections::HashMap;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn tasks_spread_evenly_over_threads_and_stay_on_theirs() {
        let threads = Threads::start("test", 3).unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (tracker, end) = (TaskTracker::new(), CancellationToken::new());
        for _ in 0..9 {
            let (tell, end) = (tell.clone(), end.clone());
            threads.spawn(&tracker, async move {
                let at = thread::current().id();
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                    assert_eq!(thread::current().id(), at);
                }
                tell.send(at).unwrap();
                end.cancelled().await;
            });
        }
        let mut found: HashMap<_, usize> = HashMap::new();
        for _ in 0..9 {
            *found.entry(told.recv().await.unwrap()).or_default() += 1;
        }
        assert_eq!(found.into_values().collect::<Vec<_>>(), [3, 3, 3]);
        end.cancel();
        tracker.close();
        tracker.wait().await;
        assert!(threads.each.iter().all(|thread| thread.tasks.load(Ordering::Relaxed) == 0), "places are given back");
    }

    #[tokio::test]
    async fn what_is_left_when_they_are_dropped_is_dropped() {
        let threads = Threads::start("test", 1).unwrap();
        let tracker = TaskTracker::new();
        threads.spawn(&tracker, std::future::pending());
        tracker.close();
        drop(threads);
        tracker.wait().await;
    }
}
