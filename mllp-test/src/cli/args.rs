//! What can be written on the command line, with its help.

use super::spec::SpecArgs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mllp_test::fhir_sink::FhirAction;
use mllp_test::proxy::Flow;
use mllp_test::script::{Script, ScriptFault, duration, outage};
use mllp_test::sink::SinkAction;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The witness beside an HL7 v2 interface engine: gateways, receivers, and the books of both.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Send the messages in files, one at a time, and print each answer.
    #[command(after_help = "Example: mllp-test send 127.0.0.1:2575 samples/*.hl7\n\
        Example: mllp-test send localhost:2575 --tls-ca ca.pem --tls-cert gateway.pem --tls-key gateway.key samples/*.hl7")]
    Send(SendArgs),
    /// Send generated messages as fast as wanted and account for every answer.
    #[command(
        after_help = "Example: mllp-test load 127.0.0.1:2575 --connections 8 --window 32 --rate 2000 --seconds 30s --resend"
    )]
    Load(LoadArgs),
    /// Receive over MLLP, account for every message, misbehave on order.
    #[command(
        after_help = "Example: mllp-test sink 127.0.0.1:6661 --script nth=100:AE --script every=50:late:2s --down 20..30\n\
        Example: mllp-test sink 127.0.0.1:6661 --tls-cert sink.pem --tls-key sink.key --tls-client-ca ca.pem\n\
        Actions: AE AR CE CR none ignore wrong-msa2 previous double unframed split close drop slow:TIME late:TIME\n\
        Conditions: nth=N every=N first=N after=N id=CONTROL-ID, or none for every message"
    )]
    Sink(SinkArgs),
    /// Receive FHIR transactions, account for every message in them, misbehave on order.
    #[command(
        after_help = "Example: mllp-test fhir-sink 127.0.0.1:8080 --script nth=100:429:2s --script every=500:drop-after-commit\n\
        Example: mllp-test fhir-sink 127.0.0.1:8080 --client-id gw --jwks jwks.json --token-life 1s\n\
        Example: mllp-test fhir-sink 127.0.0.1:8080 --record --patient 'urn:oid:2.999.1|4711' --lacks conditions --lacks locations\n\
        Actions: any status 300 to 599 (429:TIME gives Retry-After), refuse-entry, close, drop-after-commit, partial, not-fhir,\n\
        torn-body, slow-body, huge-body, slow:TIME, late:TIME"
    )]
    FhirSink(FhirSinkArgs),
    /// A TCP proxy that makes the line between two programs bad.
    #[command(
        after_help = "Example: mllp-test proxy 127.0.0.1:2574 127.0.0.1:2575 --there latency:20ms --there loss:0.05 --back reset@frame=100\n\
        Rules: latency:TIME jitter:TIME loss:SHARE pieces:BYTES merge:TIME bytes-per-second:N frames-per-second:N hold,\n\
        and where each connection ends: close, reset or half-close @bytes=N, @frame=N (inside it) or @after-frame=N"
    )]
    Proxy(ProxyArgs),
    /// Simulated infusion pump and CGM gateways.
    #[command(
        after_help = "Example: mllp-test simulate 127.0.0.1:2575 --pumps 200 --cgms 50 --rate 100 --seconds 60s --account in.ledger"
    )]
    Simulate(SimulateArgs),
    /// A day of a ward in minutes: devices fall silent, lose messages, set their clocks, and the engine must notice
    /// that and nothing else; exit 1 if it does not. The engine is built with the feature `sabotage`: its clock is told.
    #[command(
        after_help = "Example: mllp-test ward --devices 500 --hours 24 --compress 480 --engine target/debug/cannula"
    )]
    Ward(WardArgs),
    /// Run the table of bad inputs against any MLLP receiver or sender; exit 1 if a row fails.
    #[command(
        after_help = "Example: mllp-test spec 127.0.0.1:2575 --strict 127.0.0.1:2576 --frame-timeout 60s --splits 12\n\
        Example: mllp-test spec 127.0.0.1:2575 --row 12 --row 33 --verbose --junit spec.xml\n\
        Example: mllp-test spec localhost:2575 --tls-ca ca.pem --tls-cert gateway.pem --tls-key gateway.key --tls-bad expired.pem\n\
        Example: mllp-test spec --outbound 127.0.0.1:6661 --feed 127.0.0.1:2577 --sender-timeout 1s\n\
        Example: mllp-test spec --print-channel\n\
        The receiver must take ORU^R01 of HL7 2.6 with MSH-11 P and no other type, and Latin-1 where MSH-18 is empty.\n\
        A sender must send one message after the other, each with a control id."
    )]
    Spec(Box<SpecArgs>),
    /// Check messages against the IHE PCD framework, or play a conformant reporter against a listener.
    #[command(after_help = "Example: mllp-test conform captured/ --strict\n\
        Example: mllp-test conform 127.0.0.1:2575 --transaction PCD-01 --transaction PCD-04")]
    Conform(ConformArgs),
    /// Join a sender's ledger with those of the destinations; exit 1 if a promise was broken.
    #[command(after_help = "Example: mllp-test join in.ledger ehr.ledger alarms.ledger=R40 --dead dead-ids.txt")]
    Join(JoinArgs),
    /// Prove the engine's guarantees from outside, fault by fault; exit 1 if a promise was broken.
    #[command(after_help = "Example: mllp-test verify --quick --jobs 3 --report verify-report\n\
        Example: mllp-test verify --release-matrix --report release-report --seed 7\n\
        Example: mllp-test verify --faults F1,F3 --count F1=300\n\
        Example: mllp-test verify --self-test --engine target/sabotage/debug/cannula")]
    Verify(VerifyArgs),
}

/// What a gateway trusts and shows.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Send over TLS, to a receiver with a certificate of these authorities, in PEM form.
    #[arg(long, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// The certificate to show, in PEM form.
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// Where the receiver listens.
    pub(super) address: String,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Text files; each MSH begins a message, lines may end in CR, LF or CRLF.
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Send each file's bytes as one frame, unchanged.
    #[arg(long)]
    pub(super) raw: bool,
    /// How long to wait for each answer.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) ack_timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct SenderArgs {
    /// Where the receiver listens.
    pub(super) address: String,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Messages that may wait for their answers on a connection; 1 is lockstep.
    #[arg(long, default_value_t = 1)]
    pub(super) window: usize,
    /// How long to wait for each answer.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) ack_timeout: Duration,
    /// How long to wait for outstanding answers at the end.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) drain: Duration,
    /// End after this time.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
    /// End after so many messages.
    #[arg(long)]
    pub(super) messages: Option<u64>,
    /// Write an append-only ledger to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) account: Option<PathBuf>,
    /// Plant this word as family name of every patient.
    #[arg(long, value_name = "WORD")]
    pub(super) canary: Option<String>,
    /// The run number in every id, in hexadecimal; a new one if not given.
    #[arg(long, value_parser = run_number)]
    pub(super) run: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    pub(super) sender: SenderArgs,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    pub(super) connections: u32,
    /// Devices behind each connection.
    #[arg(long, default_value_t = 1)]
    pub(super) devices: u32,
    /// Send what was not answered again after reconnecting, under the same control ids.
    #[arg(long)]
    pub(super) resend: bool,
    /// Metric OBX segments in each message.
    #[arg(long, default_value_t = 10)]
    pub(super) obx: usize,
    /// Pad messages to so many bytes.
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub(super) size: usize,
    /// Messages a second in all; 0 is as fast as the answers come.
    #[arg(long, default_value_t = 0.0)]
    pub(super) rate: f64,
}

#[derive(Debug, Args)]
pub(super) struct SinkArgs {
    /// Where to listen.
    pub(super) address: String,
    /// Receive over TLS, with this certificate, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Take only senders with a certificate of these authorities, in PEM form.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// A rule, WHEN:WHAT or WHAT; may be given several times.
    #[arg(long, value_name = "RULE", value_parser = rule::<SinkAction>)]
    pub(super) script: Vec<String>,
    /// Seconds since the start without listening, FROM..TO; may be given several times.
    #[arg(long, value_name = "FROM..TO", value_parser = outage)]
    pub(super) down: Vec<Range<Duration>>,
    /// The mode of answers.
    #[arg(long, value_enum, default_value = "as-asked")]
    pub(super) ack: Mode,
    /// Write an append-only ledger to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) account: Option<PathBuf>,
    /// End after this time; otherwise at Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Mode {
    AsAsked,
    Original,
    Enhanced,
}

#[derive(Debug, Args)]
pub(super) struct FhirSinkArgs {
    /// Where to listen; transactions are taken at any path, a record at /fhir.
    pub(super) address: String,
    /// Who must log in first, at /token, by client credentials; with --jwks, --secret-file or both.
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,
    /// The client's public keys, as `cannula jwks` prints them.
    #[arg(long, value_name = "FILE", requires = "client_id")]
    pub(super) jwks: Option<PathBuf>,
    /// A file with the client's secret.
    #[arg(long, value_name = "FILE", requires = "client_id")]
    pub(super) secret_file: Option<PathBuf>,
    /// What the client may ask for; any scope if not given; may be given several times.
    #[arg(long, value_name = "SCOPE", requires = "client_id")]
    pub(super) scope: Vec<String>,
    /// How long a token is good.
    #[arg(long, default_value = "300s", value_name = "TIME", value_parser = seconds, requires = "client_id")]
    pub(super) token_life: Duration,
    /// A record that keeps what it is given instead: transactions, batches, single writes and searches, without an account.
    #[arg(long, conflicts_with_all = ["script", "account"])]
    pub(super) record: bool,
    /// The record has this patient: SYSTEM|VALUE of an identifier; may be given several times.
    #[arg(long, value_name = "SYSTEM|VALUE", requires = "record")]
    pub(super) patient: Vec<String>,
    /// What the record lacks; may be given several times.
    #[arg(long, value_enum, requires = "record")]
    pub(super) lacks: Vec<Lack>,
    /// A rule, WHEN:WHAT or WHAT; may be given several times.
    #[arg(long, value_name = "RULE", value_parser = rule::<FhirAction>)]
    pub(super) script: Vec<String>,
    /// Seconds since the start without listening, FROM..TO; may be given several times.
    #[arg(long, value_name = "FROM..TO", value_parser = outage)]
    pub(super) down: Vec<Range<Duration>>,
    /// Write an append-only ledger to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) account: Option<PathBuf>,
    /// End after this time; otherwise at Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
}

/// What real servers have been met without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Lack {
    /// It does not look at ifNoneExist, and takes no conditional update.
    Conditions,
    /// It takes no POST of a search.
    PostSearch,
    /// It does not tell where it put what it took.
    Locations,
    /// It does not look at what is searched for.
    Search,
    /// It keeps no identifiers but of patients.
    Identifiers,
}

#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Where to listen.
    pub(super) address: String,
    /// Where to connect for each connection.
    pub(super) target: String,
    /// A rule for what goes to the target; may be given several times.
    #[arg(long, value_name = "RULE", value_parser = line_rule)]
    pub(super) there: Vec<String>,
    /// A rule for what comes back; may be given several times.
    #[arg(long, value_name = "RULE", value_parser = line_rule)]
    pub(super) back: Vec<String>,
    /// Listens for so long, then for so long not, again and again; such as 2s..2s.
    #[arg(long, value_name = "UP..DOWN", value_parser = flapping)]
    pub(super) flap: Option<Range<Duration>>,
    /// Decides all that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// End after this time; otherwise at Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(super) seconds: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    pub(super) sender: SenderArgs,
    /// Where CGM gateways send, if elsewhere.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) cgm_address: Option<String>,
    /// Where pump alarms go, over a connection of their own, if elsewhere.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) alarm_address: Option<String>,
    /// How many pumps.
    #[arg(long, default_value_t = 20)]
    pub(super) pumps: u32,
    /// How many CGMs.
    #[arg(long, default_value_t = 10)]
    pub(super) cgms: u32,
    /// Connections for each kind of device; 0 gives each device its own.
    #[arg(long, default_value_t = 1)]
    pub(super) connections: u32,
    /// Simulated time between a pump's reports.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) pump_interval: Duration,
    /// Messages a second in all: sets how often pumps report.
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// How much faster than real time the devices live.
    #[arg(long, default_value_t = 1.0)]
    pub(super) speed: f64,
    /// When the devices' time begins, as 2026-01-31T08:00:00Z; now if not given.
    #[arg(long)]
    pub(super) start: Option<jiff::Timestamp>,
    /// Decides all that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

#[derive(Debug, Args)]
pub(super) struct WardArgs {
    /// The engine under test; the `cannula` beside this program if not given.
    #[arg(long, value_name = "PATH")]
    pub(super) engine: Option<PathBuf>,
    /// How many devices; each reports every minute.
    #[arg(long, default_value_t = 500)]
    pub(super) devices: u32,
    /// How long, in the ward's time.
    #[arg(long, default_value_t = 24.0)]
    pub(super) hours: f64,
    /// At most so many times faster than real time; 0 is as fast as the answers come.
    #[arg(long, default_value_t = 480.0)]
    pub(super) compress: f64,
    /// Do not stop the engine for twenty minutes of the ward in the middle.
    #[arg(long)]
    pub(super) no_restart: bool,
    /// When the ward's time begins, as 2026-01-31T08:00:00Z; now if not given.
    #[arg(long)]
    pub(super) start: Option<jiff::Timestamp>,
    /// Decides what goes wrong.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where the engine works, made new; removed if all is well.
    #[arg(long, value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ConformArgs {
    /// Files, folders with files *.hl7 and *.txt, or the address of a listener.
    #[arg(required = true)]
    pub(super) targets: Vec<PathBuf>,
    /// Exit 1 on errors in files too. Faults of a listener always do.
    #[arg(long)]
    pub(super) strict: bool,
    /// Send a listener only this transaction; may be given several times.
    #[arg(long, value_name = "PCD-01")]
    pub(super) transaction: Vec<String>,
    /// How long a listener has for each answer, as an alert reporter's watchdog gives it.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) confirm: Duration,
}

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// The sender's ledger; more than one with --sender.
    pub(super) sender: PathBuf,
    /// Ledgers of destinations, each FILE or FILE=KINDS such as alarms.ledger=R40,R42 where it should get only those.
    #[arg(required = true)]
    pub(super) destinations: Vec<String>,
    /// Further senders' ledgers.
    #[arg(long = "sender", value_name = "FILE")]
    pub(super) more_senders: Vec<PathBuf>,
    /// A file with the ids that the engine shows as dead letters or waiting, one a line.
    #[arg(long, value_name = "FILE")]
    pub(super) dead: Option<PathBuf>,
    /// The destinations must have got the very bytes that were sent.
    #[arg(long)]
    pub(super) verbatim: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The engine under test; the `cannula` beside this program if not given.
    #[arg(long, value_name = "PATH")]
    pub(super) engine: Option<PathBuf>,
    /// An engine built with the feature `sabotage`, for faults at named points.
    #[arg(long, value_name = "PATH")]
    pub(super) crash_engine: Option<PathBuf>,
    /// Every fault, as often as with each change. This is the default.
    #[arg(long)]
    pub(super) quick: bool,
    /// Every fault, as often as before a release. Goes on where it stopped when given the same --report.
    #[arg(long, conflicts_with = "quick")]
    pub(super) release_matrix: bool,
    /// Only these faults.
    #[arg(long, value_name = "F1,F3", value_delimiter = ',', conflicts_with_all = ["quick", "release_matrix"])]
    pub(super) faults: Vec<String>,
    /// So many cycles of this fault; may be given several times.
    #[arg(long, value_name = "F1=300", value_parser = fault_count)]
    pub(super) count: Vec<(String, u32)>,
    /// The number of the first cycle, to run some of an earlier run again.
    #[arg(long, default_value_t = 0)]
    pub(super) first: u32,
    /// Decides all that is left to chance; that of the report that is continued, or a new one, if not given.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Faults at the same time.
    #[arg(long, default_value_t = 3)]
    pub(super) jobs: usize,
    /// Where report.json, report.md and the folders of broken cycles go.
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
    /// Check the checker: every promise that this engine, built with the feature `sabotage`, breaks must be caught.
    #[arg(long, conflicts_with_all = ["quick", "release_matrix", "faults", "count", "first"])]
    pub(super) self_test: bool,
    /// List the faults and end.
    #[arg(long)]
    pub(super) list: bool,
}

fn fault_count(text: &str) -> Result<(String, u32), String> {
    let wrong = || format!("`{text}` is no count; write for example F1=300");
    let (id, count) = text.split_once('=').ok_or_else(wrong)?;
    Ok((id.to_owned(), count.parse().map_err(|_| wrong())?))
}

/// `30` and `30s` both are thirty seconds.
fn seconds(text: &str) -> Result<Duration, ScriptFault> {
    if text.ends_with(|c: char| c.is_ascii_digit()) { duration(&format!("{text}s")) } else { duration(text) }
}

/// A rule is checked here, so that a wrong one is a fault of the command line.
fn rule<A: FromStr<Err = ScriptFault>>(text: &str) -> Result<String, ScriptFault> {
    Script::<A>::parse([text]).map(|_| text.to_owned())
}

/// The same for a proxy's rule.
fn line_rule(text: &str) -> Result<String, ScriptFault> {
    Flow::parse([text]).map(|_| text.to_owned())
}

/// Two times, not from one to the other.
fn flapping(text: &str) -> Result<Range<Duration>, ScriptFault> {
    let (up, down) = text.split_once("..").ok_or_else(|| ScriptFault::Duration(text.to_owned()))?;
    Ok(seconds(up)?..seconds(down)?)
}

fn run_number(text: &str) -> Result<u32, std::num::ParseIntError> {
    u32::from_str_radix(text, 16)
}
