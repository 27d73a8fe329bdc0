//! The engine's store and delivery under a deterministic scheduler, on a disk that loses what was not synced: thousands of
//! short lives, each from a seed, with crashes, power cuts, failing calls and receivers that do as they please.
//!
//! `CANNULA_SIM_SEEDS=10000` sets how many seeds are tried, `CANNULA_SIM_FROM` the first of them, `CANNULA_SIM_SEED=N` runs
//! that one alone; `CANNULA_SIM_JOBS` is how many are run at once. A seed is the same run each time.

mod account;
mod episodes;
mod gates;
mod senders;
mod world;

use std::{ops::Range, sync::Arc};

use account::Figures;
use world::{Sabotage, World};

use crate::{delivery::backoff, metrics::Metrics};

const SEEDS: u64 = 300;
/// Steps of one life of all parts; then everything is mended and must get through.
const STEPS: Range<u64> = 60..260;

/// How one seed ended.
struct Ran {
    seed: u64,
    broken: Option<String>,
    trace: Vec<String>,
    figures: Figures,
}

fn run(seed: u64, sabotage: Option<Sabotage>, metrics: &Arc<Metrics>) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    backoff::FIXED.set(Some(0.5));
    runtime.block_on(async {
        let mut world = World::new(seed, sabotage, Arc::clone(metrics));
        world.start().await;
        let steps = STEPS.start + world.dice.roll(STEPS.end - STEPS.start);
        for _ in 0..steps {
            if world.with(|account| account.broken.is_some()) {
                break;
            }
            world.step().await;
        }
        if world.with(|account| account.broken.is_none()) {
            world.heal().await;
        }
        if world.with(|account| account.broken.is_none()) {
            world.close_and_look_again().await;
        }
        let (broken, figures) = world.with(|account| (account.broken.take(), account.figures));
        Ran { seed, broken, trace: world.trace, figures }
    })
}

impl Ran {
    /// What a person needs to look into it.
    fn report(&self) -> String {
        let Ran { seed, trace, .. } = self;
        let broken = self.broken.as_deref().unwrap_or("nothing");
        let again = format!("CANNULA_SIM_SEED={seed} cargo test --lib simulated_");
        format!(
            "seed {seed} breaks a promise: {broken}\nsteps:\n  {}\nseed {seed}: {broken}\nagain: {again}",
            trace.join("\n  ")
        )
    }
}

/// What happened in each of the seeds, of which none may break a promise.
fn run_all(seeds: Range<u64>, metrics: &Arc<Metrics>) -> Vec<Figures> {
    let jobs = number("CANNULA_SIM_JOBS").unwrap_or(2).max(1);
    let share = |job: u64| {
        let mine = (seeds.start + job..seeds.end).step_by(jobs as usize);
        let run = |seed| {
            let ran = run(seed, None, metrics);
            assert!(ran.broken.is_none(), "{}", ran.report());
            ran.figures
        };
        mine.map(run).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..jobs).map(|job| scope.spawn(move || share(job))).collect();
        running.into_iter().flat_map(|job| job.join().expect("no promise is broken")).collect()
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn seeds() -> Range<u64> {
    match number("CANNULA_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("CANNULA_SIM_FROM").unwrap_or(0);
            from..from + number("CANNULA_SIM_SEEDS").unwrap_or(SEEDS)
        }
    }
}

#[test]
fn simulated_crashes_and_faults_lose_pass_repeat_and_invent_nothing() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (began, seeds) = (std::time::Instant::now(), seeds());
    let all = run_all(seeds, &metrics);
    let sum = |figure: fn(&Figures) -> u64| all.iter().map(figure).sum::<u64>();
    let sums = format!("{:?}", Figures::sum(&all));
    println!("{} seeds in {:?}: {sums}", all.len(), began.elapsed());
    if all.len() as u64 >= SEEDS {
        let happened: [fn(&Figures) -> u64; 13] = [
            |each| each.repeats,
            |each| each.sender_repeats,
            |each| each.dead,
            |each| each.requeued,
            |each| each.kills,
            |each| each.power_cuts,
            |each| each.crashed_recoveries,
            |each| each.failed_calls,
            |each| each.failures,
            |each| each.reopened,
            |each| each.ledgers_lost,
            |each| each.refused,
            |each| each.segments_released,
        ];
        assert!(happened.into_iter().all(|figure| sum(figure) > 50), "something hardly ever happened: {sums}");
        assert!(sum(|each| each.learned) > 10, "a ledger was hardly ever made again: {sums}");
    }
}

#[test]
fn a_simulated_seed_is_the_same_run_each_time() {
    let metrics = Arc::new(Metrics::new().unwrap());
    for seed in 0..40 {
        let (first, second) = (run(seed, None, &metrics), run(seed, None, &metrics));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.figures, second.figures);
    }
}

/// Every promise broken on purpose is noticed, as what it is, within so many seeds.
#[test]
fn each_broken_promise_is_caught_by_the_simulation() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let expected: [(Sabotage, &str); 8] = [
        (Sabotage::SyncNever, "ack"),
        (Sabotage::SyncLater, "ack"),
        (Sabotage::Swap, "order"),
        (Sabotage::Drop, "lost"),
        (Sabotage::Forget, "memory"),
        (Sabotage::Duplicate, "repeat"),
        (Sabotage::Unmarked, "repeat"),
        (Sabotage::Corrupt, "changed"),
    ];
    for (sabotage, kind) in expected {
        let caught = (0..100).find_map(|seed| run(seed, Some(sabotage), &metrics).broken);
        let caught = caught.unwrap_or_else(|| panic!("{sabotage:?} is not caught"));
        assert!(caught.starts_with(kind), "{sabotage:?} is taken for something else: {caught}");
    }
}
