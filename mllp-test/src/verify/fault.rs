//! The form of a fault.

use super::chance::Chance;
use super::{Broken, Plan, Site, Tools};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What `prepare` and `cycle` answer.
pub type Step<'a> = Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// One row of the fault matrix.
#[derive(Debug)]
pub struct Fault {
    /// Such as `F1`.
    pub id: &'static str,
    /// What is done, in a few words.
    pub what: &'static str,
    /// Cycles with each change.
    pub quick: u32,
    /// Cycles before a release.
    pub release: u32,
    /// Cycles that share a site; the books are joined after them. At most 50.
    pub group: u32,
    /// The longest that one cycle may take.
    pub patience: Duration,
    /// Why this cannot be done here.
    pub needs: fn(&Tools) -> Result<(), String>,
    /// What the site is made of.
    pub plan: fn(&Tools) -> Plan,
    /// Whether engine and gateways run before the first cycle; otherwise the cycles start them.
    pub started: bool,
    /// Done before the engine is started for the first time, such as starting proxies.
    pub prepare: for<'a> fn(&'a mut Site) -> Step<'a>,
    /// Injects the fault once, heals it and sees the engine work again. It must tell [`Site::injected`].
    pub cycle: for<'a> fn(&'a mut Site, Chance) -> Step<'a>,
    /// Ends a group. Almost always [`super::settle::settle`], which audits everything.
    pub settle: for<'a> fn(&'a mut Site) -> Step<'a>,
}

impl Fault {
    /// To be completed by `..Fault::BASE`: no needs, the default plan, the full audit after each group of ten cycles.
    pub const BASE: Fault = Fault {
        id: "",
        what: "",
        quick: 1,
        release: 1,
        group: 10,
        patience: Duration::from_secs(300),
        needs: |_| Ok(()),
        plan: |_| Plan::default(),
        started: true,
        prepare: |_| Box::pin(async { Ok(()) }),
        cycle: |_, _| Box::pin(async { Err(Broken::checker("this fault has no cycle")) }),
        settle: |site| Box::pin(super::settle::settle(site)),
    };
}
