//! What the faults of peers share: proxies at a site, and waits for what must come. A fault that nobody felt must never
//! count as one that was survived.

use crate::account::Expect;
use crate::latency::Latency;
use crate::proxy::{At, Conditions, Cut, Flow, How, Proxy};
use crate::script::Script;
use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::engine::PATIENCE;
use crate::verify::site::{Receiver, Site};
use crate::verify::traffic::Traffic;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(5);
/// A p99 below this is no sign of trouble: the machine itself is that restless.
const RESTLESS: Duration = Duration::from_millis(500);

/// Puts a proxy between the engine and a receiver whose plan has a `via`; it is known by the receiver's name.
pub(super) async fn before_receiver(site: &mut Site, name: &'static str) -> Result<(), Broken> {
    let plan = site.plan.receivers.iter().find(|plan| plan.name == name);
    let ports = plan.and_then(|plan| Some((plan.via?, plan.port)));
    let (via, port) = ports.ok_or_else(|| Broken::checker(format!("no port for a proxy before {name}")))?;
    open(site, name, via, port).await
}

/// A proxy on the site's address from one port to another.
pub(super) async fn open(site: &mut Site, name: &'static str, port: u16, target: u16) -> Result<(), Broken> {
    let at = |port| format!("{}:{port}", site.address);
    let proxy = Proxy::start(&at(port), at(target), u64::from(port)).await?;
    site.props.insert(name, Box::new(Arc::new(proxy)));
    Ok(())
}

/// The proxy of this name.
pub(super) fn line(site: &mut Site, name: &str) -> Result<Arc<Proxy>, Broken> {
    site.prop::<Arc<Proxy>>(name).cloned()
}

/// Connections that end at this place on their way to the target.
pub(super) fn cut_there(at: At, how: How) -> Conditions {
    Conditions { to_target: Flow { cut: Some(Cut { at, how }), ..Flow::default() }, to_client: Flow::default() }
}

/// Connections that end at this place on the way back.
pub(super) fn cut_back(at: At, how: How) -> Conditions {
    Conditions { to_client: Flow { cut: Some(Cut { at, how }), ..Flow::default() }, to_target: Flow::default() }
}

/// The receiver misbehaves by these rules from now on.
pub(super) fn follow(site: &Site, name: &str, rules: &[&str]) -> Result<(), Broken> {
    let rules = rules.iter().copied();
    match site.receiver(name)? {
        Receiver::Mllp(sink) => sink.follow(Script::parse(rules).map_err(Broken::checker)?),
        Receiver::Fhir(sink) => sink.follow(Script::parse(rules).map_err(Broken::checker)?),
    }
    Ok(())
}

/// How often the receiver has misbehaved so far.
pub(super) fn treated(site: &Site, name: &str) -> Result<u64, Broken> {
    Ok(match site.receiver(name)? {
        Receiver::Mllp(sink) => sink.treated(),
        Receiver::Fhir(sink) => sink.treated(),
    })
}

/// Waits until `count` has come to `wanted`.
pub(super) async fn until(
    wanted: u64,
    patience: Duration,
    what: &str,
    count: impl Fn() -> Result<u64, Broken>,
) -> Result<(), Broken> {
    let give_up = Instant::now() + patience;
    loop {
        let now = count()?;
        if now >= wanted {
            return Ok(());
        }
        ensure(Instant::now() < give_up, Column::Liveness, || {
            format!("{what}: {now} of {wanted} within {patience:?}")
        })?;
        sleep(POLL).await;
    }
}

/// Waits until the receiver has taken so many more messages.
pub(super) async fn delivered_more(site: &Site, name: &str, messages: u64) -> Result<(), Broken> {
    let wanted = site.receiver(name)?.received() + messages;
    until(wanted, PATIENCE, &format!("{name} takes messages again"), || Ok(site.receiver(name)?.received())).await
}

/// Waits until the receiver has misbehaved so many more times than `before`.
pub(super) async fn misbehaved(site: &Site, name: &str, before: u64, times: u64) -> Result<(), Broken> {
    until(before + times, PATIENCE, &format!("{name} met its faults"), || treated(site, name)).await
}

/// Waits until the receiver has everything these gateways had acknowledged at the call.
pub(super) async fn caught_up(site: &Site, name: &str, gateways: &str, patience: Duration) -> Result<(), Broken> {
    let wanted = traffic(site, gateways)?.acked();
    until(wanted, patience, &format!("{name} has what was acknowledged"), || Ok(site.receiver(name)?.received())).await
}

/// What the gateways at this place of the plan's `traffic` send.
pub(super) fn of_gateways(place: u32) -> Expect {
    // A site numbers the runs of its gateways on from one that ends in 00.
    Expect::when(move |id, _| id.run & 0xff == place)
}

/// Gateways by name.
pub(super) fn traffic<'s>(site: &'s Site, name: &str) -> Result<&'s Traffic, Broken> {
    let found = site.traffic.iter().find(|traffic| traffic.plan.name == name);
    found.ok_or_else(|| Broken::checker(format!("no gateways are named {name}")))
}

/// What other gateways see of a fault that is not theirs, from its making on.
pub(super) struct Bystander {
    gateways: &'static str,
    latency: Latency,
    errors: u64,
    acked: u64,
}

impl Bystander {
    pub(super) fn of(site: &Site, gateways: &'static str) -> Result<Bystander, Broken> {
        let book = &traffic(site, gateways)?.book;
        Ok(book.with(|account| Bystander {
            gateways,
            latency: account.latency.clone(),
            errors: account.naked + account.timeouts + account.mismatched + account.connect_failures,
            acked: account.acked,
        }))
    }

    /// The time in which 99 % were acknowledged, since the making.
    pub(super) fn p99(&self, site: &Site) -> Result<Duration, Broken> {
        let book = &traffic(site, self.gateways)?.book;
        Ok(book.with(|account| account.latency.since(&self.latency)).percentile(0.99))
    }

    /// I7: no error since the making, and a p99 at most twice that of the quiet time before.
    pub(super) fn unharmed(&self, site: &Site, quiet: Duration) -> Result<(), Broken> {
        let now = Bystander::of(site, self.gateways)?;
        let (errors, acked, p99) = (now.errors - self.errors, now.acked - self.acked, self.p99(site)?);
        let name = self.gateways;
        ensure(acked > 0, Column::Isolation, || format!("nothing of {name} was acknowledged during the fault"))?;
        ensure(errors == 0, Column::Isolation, || format!("{name} met {errors} errors during the fault"))?;
        ensure(p99 <= (quiet * 2).max(RESTLESS), Column::Isolation, || {
            format!("{name}: 99 % within {p99:?} during the fault, {quiet:?} before")
        })
    }
}
