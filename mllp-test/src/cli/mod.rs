//! The commands. Nothing is decided here but what to print.

mod args;
mod conform;
mod proxy;
mod spec;
mod verify;
mod ward;

pub use args::Cli;

use args::{
    Command, FhirSinkArgs, JoinArgs, Lack, LoadArgs, Mode, SendArgs, SenderArgs, SimulateArgs, SinkArgs, TlsArgs,
};
use mllp_test::account::{Account, Expect, Route, SenderBook, read_sender, read_sink};
use mllp_test::conversation::{Conversation, Told};
use mllp_test::fhir_sink::{FhirAction, LoginConfig, Record, RecordConfig};
use mllp_test::script::Script;
use mllp_test::sender::SenderConfig;
use mllp_test::sink::SinkAction;
use mllp_test::tls::{ClientTls, ServerTls};
use mllp_test::v2::{AckMode, messages_in};
use mllp_test::{
    FhirSink, FhirSinkConfig, Kind, LoadConfig, MessageId, SenderAccount, Simulation, SimulationConfig, Sink,
    SinkAccount, SinkConfig, load,
};
use serde::Serialize;
use serde_json::json;
use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

/// How long a sender that sends nothing again tries for a connection.
const CONNECT_FOR: Duration = Duration::from_secs(5);

impl Cli {
    /// Does what was asked; false when something was wrong that is already printed.
    pub async fn run(self) -> Result<bool, Failure> {
        let json = self.json;
        match self.command {
            Command::Send(args) => args.run(json).await,
            Command::Load(args) => args.run(json).await,
            Command::Sink(args) => args.run(json).await,
            Command::FhirSink(args) => args.run(json).await,
            Command::Proxy(args) => args.run().await,
            Command::Simulate(args) => args.run(json).await,
            Command::Ward(args) => args.run(json).await,
            Command::Spec(args) => args.run(json).await,
            Command::Conform(args) => args.run(json).await,
            Command::Join(args) => args.run(json),
            Command::Verify(args) => args.run(json).await,
        }
    }
}

impl SendArgs {
    async fn run(self, json: bool) -> Result<bool, Failure> {
        let tls = self.tls.client()?;
        let mut conversation = Conversation::begin(&self.address, tls, self.ack_timeout).await?;
        let mut all_positive = true;
        let mut tell = |told: Told| {
            all_positive &= told.ack.is_positive() && told.place.is_some();
            show_ack(json, &told);
        };
        let mut silent = false;
        for file in &self.files {
            let bytes = std::fs::read(file).map_err(|fault| format!("{}: {fault}", file.display()))?;
            let messages = if self.raw { vec![bytes] } else { messages_in(&bytes) };
            for (number, message) in (1u64..).zip(messages) {
                let place = format!("{} {number}", file.display());
                match conversation.say(&place, &message, &mut tell).await {
                    Ok(0) if !json => println!("{place}: a batch without acknowledgements"),
                    Ok(_) => {}
                    Err(none) => {
                        silent = true;
                        show_silence(json, &place, &none.to_string());
                    }
                }
            }
        }
        for place in conversation.end(&mut tell).await {
            silent = true;
            let why = format!(
                "taken, but the application ACK that MSH-16 asks for did not come within {:?}",
                self.ack_timeout
            );
            show_silence(json, &place, &why);
        }
        Ok(all_positive && !silent)
    }
}

fn show_ack(json: bool, told: &Told) {
    let Told { place, late, ack } = told;
    let control_id = String::from_utf8_lossy(&ack.control_id);
    if json {
        let errors = &ack.errors;
        println!(
            "{}",
            json!({ "message": place, "late": late, "code": ack.code, "control_id": control_id, "errors": errors })
        );
        return;
    }
    let place = place.as_deref().unwrap_or("an answer to none of these messages");
    let late = if *late { ", late: another message was sent since" } else { "" };
    println!("{place}: {} {}{late}", ack.code, printable(&control_id));
    ack.errors.iter().for_each(|error| println!("    {}", printable(error)));
}

/// For a terminal: a control character in an answer is told, and is no command.
fn printable(text: &str) -> String {
    let told = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(told).collect()
}

fn show_silence(json: bool, place: &str, why: &str) {
    if json { println!("{}", json!({ "message": place, "no_answer": why })) } else { println!("{place}: {why}") }
}

impl TlsArgs {
    fn client(&self) -> io::Result<Option<ClientTls>> {
        let own = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
        self.tls_ca.as_deref().map(|ca| ClientTls::read(ca, own)).transpose()
    }
}

impl SenderArgs {
    fn sender(&self, resend: bool) -> io::Result<SenderConfig> {
        Ok(SenderConfig {
            tls: self.tls.client()?,
            window: self.window.max(1),
            ack_timeout: self.ack_timeout,
            resend,
            drain: self.drain,
            // One that sends again is to survive a receiver's restart, however long; for one that does not, nobody there
            // is the end.
            connect_for: (!resend).then_some(CONNECT_FOR),
            ..SenderConfig::to(&self.address)
        })
    }

    fn run_number(&self) -> u32 {
        self.run.unwrap_or_else(load::new_run)
    }
}

impl LoadArgs {
    async fn run(self, json: bool) -> Result<bool, Failure> {
        let book = Arc::new(SenderBook::open(self.sender.account.as_deref())?);
        let config = LoadConfig {
            sender: self.sender.sender(self.resend)?,
            connections: self.connections,
            devices: self.devices,
            obx: self.obx,
            message_bytes: self.size,
            rate: self.rate,
            messages: self.sender.messages,
            time: self.sender.seconds,
            run: self.sender.run_number(),
            canary: self.sender.canary.clone(),
            ledger: None,
        };
        let started = std::time::Instant::now();
        unless_interrupted(load::run_with(config, book.clone())).await;
        let account = book.account();
        print_sender(&account, started.elapsed(), json);
        if account.unreachable > 0 {
            let address = &self.sender.address;
            return Err(format!(
                "{} of {} connections given up: nobody took them at {address} for {CONNECT_FOR:?}; start the receiver, or wait for it with --resend",
                account.unreachable,
                self.connections.max(1)
            )
            .into());
        }
        // Nothing sent proves nothing.
        Ok(account.is_clean() && account.sent > 0)
    }
}

impl SimulateArgs {
    async fn run(self, json: bool) -> Result<bool, Failure> {
        let config = SimulationConfig {
            // As real gateways do.
            sender: self.sender.sender(true)?,
            cgm_address: self.cgm_address.clone(),
            alarm_address: self.alarm_address.clone(),
            pumps: self.pumps,
            cgms: self.cgms,
            connections: self.connections,
            pump_interval: self.pump_interval,
            rate: self.rate,
            speed: self.speed,
            start: self.start.unwrap_or_else(jiff::Timestamp::now),
            messages: self.sender.messages,
            seed: self.seed,
            run: self.sender.run_number(),
            canary: self.sender.canary.clone(),
            ledger: self.sender.account.clone(),
        };
        let started = std::time::Instant::now();
        let mut simulation = Simulation::start(config)?;
        let over =
            async { tokio::time::sleep(self.sender.seconds.unwrap_or(Duration::from_secs(u32::MAX.into()))).await };
        tokio::select! {
            () = simulation.finished() => {}
            _ = unless_interrupted(over) => {}
        }
        let account = simulation.stop().await;
        print_sender(&account, started.elapsed(), json);
        // Nothing sent proves nothing.
        Ok(account.is_clean() && account.sent > 0)
    }
}

impl SinkArgs {
    async fn run(self, json: bool) -> Result<bool, Failure> {
        let config = SinkConfig {
            script: Script::<SinkAction>::parse(self.script.iter().map(String::as_str))?,
            outages: self.down,
            ack_mode: match self.ack {
                Mode::AsAsked => AckMode::AsAsked,
                Mode::Original => AckMode::Original,
                Mode::Enhanced => AckMode::Enhanced,
            },
            ledger: self.account,
            tls: match self.tls_cert.zip(self.tls_key) {
                Some((cert, key)) => Some(ServerTls::read(&cert, &key, self.tls_client_ca.as_deref())?),
                None => None,
            },
            ..SinkConfig::default()
        };
        let sink = Sink::start(&self.address, config).await?;
        eprintln!("listening on {}", sink.address());
        until_over(self.seconds).await;
        sink.down().await;
        Ok(print_sink(&sink.account(), json))
    }
}

impl FhirSinkArgs {
    async fn run(self, json: bool) -> Result<bool, Failure> {
        if self.record {
            return self.run_record(json).await;
        }
        let login = self.login()?;
        let config = FhirSinkConfig {
            script: Script::<FhirAction>::parse(self.script.iter().map(String::as_str))?,
            outages: self.down,
            ledger: self.account,
            login,
            ..FhirSinkConfig::default()
        };
        let sink = FhirSink::start(&self.address, config).await?;
        eprintln!("listening on {}", sink.url());
        until_over(self.seconds).await;
        sink.down().await;
        sink.login_faults().iter().for_each(|fault| eprintln!("a login was refused: {fault}"));
        Ok(print_sink(&sink.account(), json))
    }

    fn login(&self) -> Result<Option<LoginConfig>, Failure> {
        let Some(client_id) = self.client_id.clone() else { return Ok(None) };
        let read = |file: &Path| std::fs::read_to_string(file).map_err(|fault| format!("{}: {fault}", file.display()));
        let jwks = self.jwks.as_deref().map(read).transpose()?;
        let jwks = jwks.map_or(Ok(json!({ "keys": [] })), |text| serde_json::from_str(&text))?;
        let secret = self.secret_file.as_deref().map(read).transpose()?.map(|secret| secret.trim().to_owned());
        let (scopes, token_life) = (self.scope.clone(), self.token_life);
        Ok(Some(LoginConfig { client_id, jwks, secret, scopes, token_life, told_life: None, https: false }))
    }

    async fn run_record(self, json: bool) -> Result<bool, Failure> {
        let lacks = |lack| self.lacks.contains(&lack);
        let config = RecordConfig {
            ignores_conditions: lacks(Lack::Conditions),
            refuses_post_search: lacks(Lack::PostSearch),
            hides_locations: lacks(Lack::Locations),
            ignores_search: lacks(Lack::Search),
            drops_identifiers: lacks(Lack::Identifiers),
        };
        let record = Record::listen(&self.address, config, self.login()?, &self.down).await?;
        for patient in &self.patient {
            let (system, value) = patient.split_once('|').ok_or("--patient is SYSTEM|VALUE")?;
            record.put(json!({ "resourceType": "Patient", "identifier": [{ "system": system, "value": value }] }));
        }
        eprintln!("listening on {}", record.url());
        until_over(self.seconds).await;
        record.login_faults().iter().for_each(|fault| eprintln!("a login was refused: {fault}"));
        let counts = record.counts();
        match json {
            true => println!("{:#}", json!(counts)),
            false => counts.iter().for_each(|(kind, count)| println!("{count:>8} {kind}")),
        }
        Ok(true)
    }
}

impl JoinArgs {
    fn run(self, json: bool) -> Result<bool, Failure> {
        let mut sender = SenderAccount::default();
        for path in std::iter::once(&self.sender).chain(&self.more_senders) {
            read_sender(path, self.verbatim, &mut sender).map_err(|fault| format!("{}: {fault}", path.display()))?;
        }
        let dead = self.dead.as_deref().map(ids_in).transpose()?.unwrap_or_default();
        let mut sinks: Vec<(&str, SinkAccount, Expect)> = Vec::new();
        for destination in &self.destinations {
            let (file, expects) = match destination.split_once('=') {
                Some((file, kinds)) => (file, Expect::kinds(&kinds.split(',').map(Kind::parse).collect::<Vec<_>>())),
                None => (destination.as_str(), Expect::all()),
            };
            let sink = read_sink(Path::new(file), self.verbatim).map_err(|fault| format!("{file}: {fault}"))?;
            sinks.push((file, sink, expects));
        }
        let routes = sinks.iter().map(|(name, sink, expects)| Route {
            name,
            sink,
            expects: expects.clone(),
            dead: dead.clone(),
        });
        let account = Account::join(&sender, routes);
        print(&account, json);
        // Nothing acknowledged proves nothing.
        Ok(account.balances() && account.acked > 0)
    }
}

fn ids_in(path: &Path) -> io::Result<HashSet<MessageId>> {
    Ok(std::fs::read_to_string(path)?.lines().filter_map(MessageId::find_in).collect())
}

fn print(what: &(impl Serialize + Display), json: bool) {
    match serde_json::to_string_pretty(what) {
        Ok(text) if json => println!("{text}"),
        _ => println!("{what}"),
    }
}

fn print_sender(account: &SenderAccount, took: Duration, json: bool) {
    if !json {
        println!("{account}");
        let rate = account.acked as f64 / took.as_secs_f64().max(0.001);
        println!("{rate:.0} acknowledged messages a second over {took:.1?}");
        return;
    }
    let latency = |share| account.latency.percentile(share).as_secs_f64();
    let mut value = serde_json::to_value(account).unwrap_or_default();
    value["unanswered"] = account.unanswered().into();
    value["seconds"] = took.as_secs_f64().into();
    value["ack_seconds"] = serde_json::json!({
        "p50": latency(0.5), "p90": latency(0.9), "p99": latency(0.99), "p999": latency(0.999),
        "max": account.latency.max().as_secs_f64(),
    });
    println!("{value:#}");
}

/// Without the sender's side a sink can only see disorder and faults of form.
fn print_sink(account: &SinkAccount, json: bool) -> bool {
    print(account, json);
    account.reordered.count + account.duplicated.count == 0
        && account.shape_faults.is_empty()
        && account.ledger_fault.is_none()
}

async fn until_over(time: Option<Duration>) {
    match time {
        Some(time) => drop(unless_interrupted(tokio::time::sleep(time)).await),
        None => drop(tokio::signal::ctrl_c().await),
    }
}

/// False when Ctrl-C came first.
async fn unless_interrupted(work: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = work => true,
        _ = tokio::signal::ctrl_c() => false,
    }
}
