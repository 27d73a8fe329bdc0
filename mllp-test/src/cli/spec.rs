//! `spec`: the table of bad inputs, its options and its reports.

use super::Failure;
use super::args::TlsArgs;
use clap::Args;
use mllp_test::load;
use mllp_test::script::duration;
use mllp_test::spec::{self, Addresses, Options, OutboundOptions, Report, RowResult, Splits, Tls};
use mllp_test::tls::ClientTls;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct SpecArgs {
    /// Where the receiver listens.
    #[arg(required_unless_present_any = ["outbound", "print_channel"])]
    address: Option<String>,
    /// Only this row, 1 to 84, with --outbound 1 to 10; may be given several times.
    #[arg(long)]
    row: Vec<u8>,
    /// How long to wait for each answer.
    #[arg(long, default_value = "5s", value_parser = duration)]
    ack_timeout: Duration,
    /// Cut each row in two: between every two bytes (`all`), at so many places, or nowhere (`none`).
    #[arg(long, value_name = "all|N|none", default_value = "8", value_parser = splits)]
    splits: Splits,
    /// Decides at which places; a new one if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Connections at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// A listener of the receiver that checks content before it answers.
    #[arg(long, value_name = "ADDRESS")]
    strict: Option<String>,
    /// A listener of the receiver that takes batches.
    #[arg(long, value_name = "ADDRESS")]
    batch: Option<String>,
    /// The receiver's largest message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_message: usize,
    /// When the receiver closes a connection whose frame does not end.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    frame_timeout: Option<Duration>,
    /// When the receiver closes a connection that takes no answer.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    write_timeout: Option<Duration>,
    /// How many connections of one peer the receiver takes.
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// The receiver's process on this machine: its memory is looked at too.
    #[arg(long)]
    pid: Option<u32>,
    /// A listener of a receiver whose store is small or full and whose destination is away: it is filled, as the last row.
    #[arg(long, value_name = "ADDRESS")]
    full: Option<String>,
    /// What is trusted and shown over TLS; the certificate is to be bound to the sender PUMP_GATEWAY.
    #[command(flatten)]
    client: TlsArgs,
    /// A listener of the receiver with TLS, where the others have none; without it, --tls-ca says that they have.
    #[arg(long, value_name = "ADDRESS")]
    tls: Option<String>,
    /// A client certificate with its key in one file, PEM, that it must refuse: expired, of another CA, revoked, of another
    /// name; may be given several times.
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    tls_bad: Vec<PathBuf>,
    /// Try a sender instead: listen here, answer wrongly, and watch what it does.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "address")]
    outbound: Option<String>,
    /// A listener of an engine that delivers to --outbound; without it make the sender send when told.
    #[arg(long, value_name = "ADDRESS")]
    feed: Option<String>,
    /// How long the sender waits for an answer.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    sender_timeout: Duration,
    /// How long to wait for a message of the sender beside that.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    patience: Duration,
    /// Print the engine's channels under which it passes, and end.
    #[arg(long)]
    print_channel: bool,
    /// Print bytes, answer and expectation of rows that passed too.
    #[arg(long)]
    verbose: bool,
    /// Write the report to this file as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl SpecArgs {
    pub(super) async fn run(self, json: bool) -> Result<bool, Failure> {
        if self.print_channel {
            self.print_channels();
            return Ok(true);
        }
        let mut area = None;
        let tell = |result: &RowResult| {
            if json {
                return;
            }
            if area.replace(result.area) != Some(result.area) {
                println!("{}", result.area);
            }
            println!("{}", if self.verbose || result.has_failed() { result.in_full() } else { result.to_string() });
        };
        let report = match &self.outbound {
            Some(listen) => spec::run_outbound(&self.outbound_options(listen), tell).await?,
            None => spec::run(&self.options()?, tell).await,
        };
        self.end(&report, json)
    }

    fn end(&self, report: &Report, json: bool) -> Result<bool, Failure> {
        if json {
            println!("{}", serde_json::to_string_pretty(report)?);
        } else {
            println!("\n{}", report.summary());
        }
        if let Some(file) = &self.junit {
            std::fs::write(file, report.junit()).map_err(|fault| format!("{}: {fault}", file.display()))?;
        }
        Ok(report.is_clean())
    }

    fn options(&self) -> io::Result<Options> {
        let tls = self.tls_rows()?;
        let client = if self.tls.is_none() { self.client.client()? } else { None };
        Ok(Options {
            strict: self.strict.clone(),
            batch: self.batch.clone(),
            client,
            tls,
            only: self.row.clone(),
            ack_timeout: self.ack_timeout,
            splits: self.splits,
            seed: self.seed.unwrap_or_else(|| load::new_run().into()),
            jobs: self.jobs,
            max_message: self.max_message,
            frame_timeout: self.frame_timeout,
            write_timeout: self.write_timeout,
            max_connections: self.max_connections,
            pid: self.pid,
            full: self.full.clone(),
            ..Options::to(self.address.as_deref().unwrap_or_default())
        })
    }

    fn tls_rows(&self) -> io::Result<Option<Tls>> {
        let ca = self.client.tls_ca.as_deref();
        let Some(address) = self.tls.as_ref().or(self.address.as_ref().filter(|_| ca.is_some())) else {
            return Ok(None);
        };
        let mut tls = Tls { address: address.clone(), ..Tls::default() };
        if let Some(ca) = ca {
            tls.unnamed = Some(ClientTls::read(ca, None)?);
            tls.good = self.client.tls_cert.as_ref().map(|_| self.client.client()).transpose()?.flatten();
            for file in &self.tls_bad {
                tls.bad.push((file.display().to_string(), ClientTls::read(ca, Some((file, file)))?));
            }
        }
        Ok(Some(tls))
    }

    fn outbound_options(&self, listen: &str) -> OutboundOptions {
        OutboundOptions {
            listen: listen.to_owned(),
            feed: self.feed.clone(),
            only: self.row.clone(),
            sender_timeout: self.sender_timeout,
            patience: self.patience,
        }
    }

    fn print_channels(&self) {
        let usual = Addresses::default();
        let addresses = Addresses {
            usual: self.address.clone().unwrap_or(usual.usual),
            strict: self.strict.clone().unwrap_or(usual.strict),
            batch: self.batch.clone().unwrap_or(usual.batch),
            feed: self.feed.clone().unwrap_or(usual.feed),
            outbound: self.outbound.clone().unwrap_or(usual.outbound),
        };
        for (name, text) in spec::channels(&addresses) {
            println!("# channels/{name}.toml\n{text}");
        }
    }
}

fn splits(text: &str) -> Result<Splits, String> {
    match text {
        "all" => Ok(Splits::All),
        "none" => Ok(Splits::None),
        number => number.parse().map(Splits::Some).map_err(|_| format!("`{number}` is none of all, none and a number")),
    }
}
