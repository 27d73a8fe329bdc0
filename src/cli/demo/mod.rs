//! `cannula demo`: the engine with the sample channels, simulated gateways that feed it, stub EHRs that receive, and the
//! account between them. The gateways and stubs are `mllp-test`'s, which shares no code with the engine.

mod site;

use std::{
    collections::HashSet,
    io::Write,
    time::{Duration, Instant},
};

use clap::Args;
use mllp_test::{
    Account, Expect, FhirSink, FhirSinkConfig, Kind, MessageId, Simulation, SimulationConfig, Sink, SinkAccount,
    SinkConfig, account::Route, v2,
};
use serde_json::Value;

use super::{Failure, Outcome, block_on, run};
use crate::{
    app::{App, Source},
    clock::Clock,
    config,
    store::Store,
};
use site::{Addresses, Site};

const PUMPS: u32 = 40;
const CGMS: u32 = 20;
/// The devices live so much faster than real ones, so that a short demo sees alarms, events and a day of glucose.
const SPEED: f64 = 60.0;
/// How long the backlog may take to drain at the end.
const DRAIN: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(super) struct DemoArgs {
    /// End after so many seconds; without it, at Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
    /// Messages a second from all gateways together
    #[arg(long, default_value_t = 250.0)]
    rate: f64,
    /// Take each stub EHR down for so many seconds, one after the other (needs --seconds)
    #[arg(long, default_value_t = 0, requires = "seconds")]
    outage: u64,
}

pub(super) fn demo(args: &DemoArgs) -> Outcome {
    run::log_to_stderr(config::LogFormat::Text, "warn");
    if args.seconds.is_some_and(|seconds| args.outage * 3 > seconds) {
        return Err(Failure::Failed(
            "--outage may be at most a third of --seconds: two outages and the time between".into(),
        ));
    }
    block_on(async {
        let demo = Demo::start(args).await?;
        let seconds = demo.live(args).await?;
        demo.finish(seconds).await
    })
}

/// Everything the demo runs.
struct Demo {
    site: Site,
    app: App,
    gateways: Simulation,
    ehr: FhirSink,
    legacy: Sink,
    alarm_manager: Sink,
}

impl Demo {
    async fn start(args: &DemoArgs) -> Result<Demo, Failure> {
        let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await?;
        let legacy = Sink::start("127.0.0.1:0", SinkConfig::default()).await?;
        let alarm_manager = Sink::start("127.0.0.1:0", SinkConfig::default()).await?;
        let addresses = Addresses::of(ehr.address(), legacy.address(), alarm_manager.address())?;
        let site = Site::make(&addresses)?;
        let config = config::load(Some(&site.configuration())).map_err(Failure::Configuration)?;
        let app = App::start(config, Source::Fixed, Clock::system()).await?;
        let simulated = SimulationConfig {
            pumps: PUMPS,
            cgms: CGMS,
            connections: 8,
            cgm_address: Some(addresses.cgm_gateway.to_string()),
            alarm_address: Some(addresses.alarms.to_string()),
            rate: Some(args.rate),
            speed: SPEED,
            ..SimulationConfig::to(addresses.bedside.to_string())
        };
        let gateways = Simulation::start(simulated)?;
        println!("engine: http://{}/api/channels  http://{0}/metrics", app.admin_address());
        println!(
            "{PUMPS} pumps and {CGMS} CGMs send to {} and {}; store and files in {}",
            addresses.bedside,
            addresses.cgm_gateway,
            site.path().display()
        );
        Ok(Demo { site, app, gateways, ehr, legacy, alarm_manager })
    }

    /// Runs until the time is over or Ctrl-C; answers for how many seconds.
    async fn live(&self, args: &DemoArgs) -> Result<f64, Failure> {
        let (began, mut signals) = (Instant::now(), run::Signals::new()?);
        let end = async {
            match args.seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = end => {}
            () = signals.stop() => println!("draining"),
            error = self.outages(args) => return Err(error.into()),
            never = self.report() => match never {},
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// A line a second.
    async fn report(&self) -> std::convert::Infallible {
        let (mut second, mut before) = (tokio::time::interval(Duration::from_secs(1)), 0);
        loop {
            second.tick().await;
            let sent = self.gateways.account();
            let stats = self.app.store().stats();
            println!(
                "sent {}  acknowledged {} (+{})  ehr {}  legacy {}  alarm-manager {}  waiting {}  dead {}",
                sent.sent,
                sent.acked,
                sent.acked - before,
                self.ehr.received(),
                self.legacy.received(),
                self.alarm_manager.received(),
                stats.waiting,
                stats.dead
            );
            let _ = std::io::stdout().flush();
            before = sent.acked;
        }
    }

    /// Takes the FHIR stub down in the first half and the v2 stubs in the second; never ends without an error.
    async fn outages(&self, args: &DemoArgs) -> std::io::Error {
        let Some(seconds) = args.seconds.filter(|_| args.outage > 0) else { return std::future::pending().await };
        let pause = Duration::from_secs_f64((seconds - 2 * args.outage) as f64 / 3.0);
        let outage = Duration::from_secs(args.outage);
        tokio::time::sleep(pause).await;
        println!("the FHIR stub goes down for {} s", args.outage);
        self.ehr.down().await;
        tokio::time::sleep(outage).await;
        if let Err(error) = self.ehr.up().await {
            return error;
        }
        tokio::time::sleep(pause).await;
        println!("the v2 stubs go down for {} s", args.outage);
        self.legacy.down().await;
        self.alarm_manager.down().await;
        tokio::time::sleep(outage).await;
        for stub in [&self.legacy, &self.alarm_manager] {
            if let Err(error) = stub.up().await {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Stops the gateways, lets the backlog drain, stops the engine and strikes the account.
    async fn finish(self, seconds: f64) -> Outcome {
        let sent = self.gateways.stop().await;
        let store = self.app.store();
        let drained = tokio::time::timeout(DRAIN, drained(&*store)).await.is_ok();
        let dead = dead_ids(&*store).await?;
        self.app.stop().await?;
        let study = study_account(&self.site)?;
        let (ehr, legacy, alarm_manager) = (self.ehr.account(), self.legacy.account(), self.alarm_manager.account());
        let route = |name, sink, expects| Route { name, sink, expects, dead: dead.clone() };
        let to_legacy = Expect::when(|id, kind| id.sender < PUMPS && matches!(kind, Kind::R01 | Kind::R42));
        let account = Account::join(
            &sent,
            [
                route("ehr (FHIR)", &ehr, Expect::kinds(&[Kind::R01])),
                route("legacy (v2)", &legacy, to_legacy),
                route("alarm-manager (v2)", &alarm_manager, Expect::kinds(&[Kind::R40])),
                route("study (file)", &study, Expect::kinds(&[Kind::R40])),
            ],
        );
        println!("{account}");
        println!("{:.0} messages a second over {seconds:.0} s", sent.acked as f64 / seconds);
        match (account.balances(), drained, account.acked == account.sent) {
            (true, true, true) => Ok(()),
            (_, false, _) => Err(Failure::Failed("the backlog did not drain; see what was logged above".into())),
            (_, _, false) => Err(Failure::Failed("not every message sent was acknowledged".into())),
            _ => Err(Failure::Failed("the account does not balance".into())),
        }
    }
}

async fn drained(store: &dyn Store) {
    let mut tenth = tokio::time::interval(Duration::from_millis(100));
    while store.stats().waiting > 0 {
        tenth.tick().await;
    }
}

/// Dead letters by the id the gateways gave.
async fn dead_ids(store: &dyn Store) -> Result<HashSet<MessageId>, Failure> {
    let mut ids = HashSet::new();
    let mut cursor = None;
    loop {
        let letters = store.dead(None, cursor, 1_000).await?;
        let Some(last) = letters.last() else { return Ok(ids) };
        cursor = Some(last.entry);
        for letter in &letters {
            ids.extend(v2::message_id(&store.read(letter.id).await?.message));
        }
    }
}

/// What the file destination took.
fn study_account(site: &Site) -> Result<SinkAccount, Failure> {
    let mut account = SinkAccount::default();
    for line in site.study()?.lines() {
        let line: Value = serde_json::from_str(line)?;
        match line["message"].as_str().and_then(|message| v2::message_id(message.as_bytes())) {
            Some(id) => {
                account.took(id);
            }
            None => account.unnamed += 1,
        }
    }
    Ok(account)
}
