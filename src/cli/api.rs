//! Commands that ask the running engine: `messages`, `dead`, `replay`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::{Common, Failure, Outcome, block_on, terminal};

/// Which messages.
#[derive(Args, Clone)]
pub(super) struct Selection {
    /// Channel name
    #[arg(long)]
    channel: Option<String>,
    /// Received at or after, such as 2026-01-05T08:00:00Z
    #[arg(long)]
    from: Option<Timestamp>,
    /// Received before
    #[arg(long)]
    to: Option<Timestamp>,
    /// MSH-10
    #[arg(long)]
    control_id: Option<String>,
    /// Routed to this destination
    #[arg(long)]
    destination: Option<String>,
    /// waiting, delivered, dead, discarded or unrouted
    #[arg(long)]
    state: Option<String>,
    /// Of this device, as devices lists it (audited)
    #[arg(long)]
    device: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Subcommand)]
pub(super) enum MessagesAction {
    /// Newest first; never shows content
    List(Selection),
    /// One message's history, and its content with --raw (which is audited)
    Show {
        /// Message id, as listed
        #[arg(value_parser = super::number)]
        id: u64,
        /// Print the message as received
        #[arg(long)]
        raw: bool,
    },
    /// Write messages as received into a directory, one ID.hl7 each (each read is audited)
    Export {
        #[command(flatten)]
        selection: Selection,
        /// Made where it does not exist
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Subcommand)]
pub(super) enum DeadAction {
    /// Dead letters, oldest first
    List {
        /// Channel name
        #[arg(long)]
        channel: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Put a dead letter at the end of its lane again
    Retry {
        /// Entry, as listed
        #[arg(value_parser = super::number)]
        entry: u64,
    },
    /// Give a dead letter up; this is recorded
    Discard {
        /// Entry, as listed
        #[arg(value_parser = super::number)]
        entry: u64,
    },
    /// Make dead letters of all that waits for a destination that is no longer configured
    ParkWaiting(Gone),
    /// Give up all that waits for a destination that is no longer configured; this is recorded
    DiscardWaiting(Gone),
}

/// A destination that is no longer configured.
#[derive(Args)]
pub(super) struct Gone {
    /// Channel name
    #[arg(long)]
    channel: String,
    /// Destination name
    #[arg(long)]
    destination: String,
}

impl Gone {
    async fn give_up(&self, api: &Api, action: &str) -> Outcome {
        let Gone { channel, destination } = self;
        let path = format!("/api/channels/{channel}/destinations/{destination}/{action}");
        let done = api.json(Method::POST, &path, None).await?;
        api.print_one(&done, |done| format!("deliveries ended unsent: {}", done["deliveries"]));
        Ok(())
    }
}

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// Channel name
    #[arg(long)]
    channel: String,
    /// Received at or after
    #[arg(long)]
    from: Timestamp,
    /// Received before
    #[arg(long)]
    to: Timestamp,
    /// Only to this destination
    #[arg(long)]
    destination: Option<String>,
    /// Count, send nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn messages(common: &Common, action: MessagesAction) -> Outcome {
    let api = Api::of(common)?;
    block_on(async {
        match action {
            MessagesAction::List(selection) => {
                let mut pairs = selection.pairs();
                pairs.push(("devices", true.to_string()));
                let page = api.list("/api/messages", pairs, selection.limit).await?;
                api.print(&page, message_line);
            }
            MessagesAction::Show { id, raw: true } => {
                let raw = api.call(Method::GET, &format!("/api/messages/{id}/raw"), None).await?;
                terminal::write_bytes((raw.replace('\r', "\n") + "\n").as_bytes())?;
            }
            MessagesAction::Show { id, raw: false } => {
                let message = api.json(Method::GET, &format!("/api/messages/{id}"), None).await?;
                api.print_one(&message, message_history);
            }
            MessagesAction::Export { selection, out } => export(&api, &selection, &out).await?,
        }
        Ok(())
    })
}

async fn export(api: &Api, selection: &Selection, out: &std::path::Path) -> Outcome {
    std::fs::create_dir_all(out)?;
    let messages = api.list("/api/messages", selection.pairs(), selection.limit).await?;
    for message in &messages {
        let id = message["id"].as_u64().unwrap_or_default();
        let raw = api.bytes(&format!("/api/messages/{id}/raw")).await?;
        std::fs::write(out.join(format!("{id:012}.hl7")), raw)?;
    }
    println!("{} written to {}", super::count(messages.len(), "message"), out.display());
    Ok(())
}

pub(super) fn dead(common: &Common, action: DeadAction) -> Outcome {
    let api = Api::of(common)?;
    block_on(async {
        match action {
            DeadAction::List { channel, limit } => {
                let pairs = channel.map(|channel| ("channel", channel)).into_iter().collect();
                let letters = api.list("/api/dead", pairs, limit).await?;
                api.print(&letters, dead_line);
            }
            DeadAction::Retry { entry } => {
                let retried = api.json(Method::POST, &format!("/api/dead/{entry}/retry"), None).await?;
                api.print_one(&retried, retried_line);
            }
            DeadAction::Discard { entry } => {
                api.call(Method::POST, &format!("/api/dead/{entry}/discard"), None).await?;
                println!("{entry} discarded");
            }
            DeadAction::ParkWaiting(gone) => gone.give_up(&api, "park-waiting").await?,
            DeadAction::DiscardWaiting(gone) => gone.give_up(&api, "discard-waiting").await?,
        }
        Ok(())
    })
}

pub(super) fn replay(common: &Common, args: &ReplayArgs) -> Outcome {
    let api = Api::of(common)?;
    let mut body = json!({ "channel": args.channel, "from": args.from, "to": args.to, "dry_run": args.dry_run });
    if let Some(destination) = &args.destination {
        body["destination"] = json!(destination);
    }
    block_on(async {
        let done = api.json(Method::POST, "/api/replay", Some(body)).await?;
        api.print_one(&done, |done| match done["dry_run"].as_bool() {
            Some(true) => format!("{} would be sent again", counted(done, "messages", "message")),
            _ => {
                let [messages, entries] =
                    [("messages", "message"), ("entries", "delivery")].map(|(key, what)| counted(done, key, what));
                format!("{messages} put back, {entries}")
            }
        });
        Ok(())
    })
}

/// How many of what an answer tells under a key.
fn counted(answer: &Value, key: &str, what: &str) -> String {
    super::count(answer[key].as_u64().unwrap_or_default(), what)
}

/// Figures of the running engine; `None` where none answers.
pub(super) fn running_stats(common: &Common) -> Result<Option<Value>, Failure> {
    let api = Api::of(common)?;
    block_on(async { Ok(api.json(Method::GET, "/api/store", None).await.ok()) })
}

/// Has the running engine write a backup.
pub(super) fn running_backup(common: &Common, directory: &Path) -> Result<Value, Failure> {
    let api = Api::of(common)?;
    block_on(api.json(Method::POST, "/api/store/backup", Some(json!({ "directory": directory }))))
}

impl Selection {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let text = [
            ("channel", self.channel.clone()),
            ("from", self.from.map(|at| at.to_string())),
            ("to", self.to.map(|at| at.to_string())),
            ("control_id", self.control_id.clone()),
            ("destination", self.destination.clone()),
            ("state", self.state.clone()),
            ("device", self.device.clone()),
        ];
        text.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
    }
}

/// The admin API of the engine whose configuration this is.
pub(super) struct Api {
    client: Client,
    base: String,
    json: bool,
}

impl Api {
    pub(super) fn of(common: &Common) -> Result<Api, Failure> {
        let base = format!("http://{}", common.load_engine()?.admin);
        Ok(Api { client: Client::builder().no_proxy().build()?, base, json: common.json })
    }

    async fn bytes(&self, path: &str) -> Result<Vec<u8>, Failure> {
        Ok(self.answer(Method::GET, path, None).await?.bytes().await?.to_vec())
    }

    pub(super) async fn post(&self, path: &str) -> Result<String, Failure> {
        self.call(Method::POST, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<String, Failure> {
        Ok(self.answer(method, path, body).await?.text().await?)
    }

    async fn json(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        Ok(serde_json::from_str(&self.call(method, path, body).await?)?)
    }

    /// What is answered to this body.
    pub(super) async fn told(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// One thing.
    pub(super) async fn one(&self, path: &str) -> Result<Value, Failure> {
        self.json(Method::GET, path, None).await
    }

    async fn answer(&self, method: Method, path: &str, body: Option<Value>) -> Result<reqwest::Response, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable = |error: reqwest::Error| {
            Failure::Failed(format!("{} does not answer ({error}); is the engine running?", self.base))
        };
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refused(status, &response.text().await.unwrap_or_default())),
        }
    }

    /// What `path` answers with these in its query.
    pub(super) async fn asked(&self, path: &str, pairs: Vec<(&str, String)>) -> Result<Value, Failure> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))?;
        url.query_pairs_mut().extend_pairs(&pairs);
        self.json(Method::GET, &url.as_str()[self.base.len()..], None).await
    }

    /// All pages up to `limit` items.
    pub(super) async fn list(
        &self,
        path: &str,
        pairs: Vec<(&str, String)>,
        limit: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor = None;
        while items.len() < limit {
            let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))
                .map_err(|error| Failure::Failed(error.to_string()))?;
            url.query_pairs_mut()
                .extend_pairs(&pairs)
                .append_pair("limit", &(limit - items.len()).min(1_000).to_string());
            if let Some(cursor) = cursor {
                url.query_pairs_mut().append_pair("cursor", &format!("{cursor}"));
            }
            let path_and_query = url.as_str()[self.base.len()..].to_owned();
            let mut page = self.json(Method::GET, &path_and_query, None).await?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["next"].as_u64() {
                Some(next) => cursor = Some(next),
                None => return Ok(items),
            }
        }
        eprintln!("cannula: {} shown, and there may be more: give --limit a larger number", items.len());
        Ok(items)
    }

    pub(super) fn print(&self, items: &[Value], line: fn(&Value) -> String) {
        if self.json {
            println!("{}", terminal::json(&Value::Array(items.to_vec())));
        } else {
            items.iter().for_each(|item| println!("{}", terminal::lines(&line(item))));
        }
    }

    pub(super) fn print_one(&self, item: &Value, text: fn(&Value) -> String) {
        println!("{}", if self.json { terminal::json(item) } else { terminal::lines(&text(item)) });
    }
}

fn refused(status: StatusCode, body: &str) -> Failure {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    Failure::Failed(match problem["detail"].as_str() {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_string(),
    })
}

fn message_line(message: &Value) -> String {
    let text = |key: &str| message[key].as_str().unwrap_or("-").to_owned();
    let (at, channel, state) = (text("received_at"), text("channel"), text("state"));
    let deliveries = message["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let to: Vec<String> = deliveries
        .iter()
        .map(|d| format!("{}:{}", d["destination"].as_str().unwrap_or("-"), d["state"].as_str().unwrap_or("-")))
        .collect();
    let id = message["id"].to_string();
    let device = message["device"].as_str().map(|device| format!("  {device}")).unwrap_or_default();
    format!("{id:>12}  {at}  {channel}{device}  {} bytes  {state}  {}", message["bytes"], to.join(" "))
}

fn message_history(message: &Value) -> String {
    let mut lines = vec![message_line(message)];
    for event in message["timeline"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| event[key].as_str().unwrap_or("").to_owned();
        lines.push(format!("{:>12}  {}  {} {} {}", "", text("at"), text("what"), text("destination"), text("detail")));
    }
    for finding in message["findings"].as_array().map(Vec::as_slice).unwrap_or_default() {
        lines.push(format!("{:>12}  breaks {}", "", super::senders::finding(finding)));
    }
    lines.join("\n")
}

/// What was received after it and is there already must be told: the receiver gets it out of order.
fn retried_line(retried: &Value) -> String {
    let (entry, lane) = (&retried["entry"], &retried["lane"]);
    let (delivered, waiting) = (lane["delivered"].as_u64().unwrap_or(0), lane["waiting"].as_u64().unwrap_or(0));
    let again = format!("{entry} waits in its lane again");
    if lane.is_null() {
        return format!("{again}; whether later messages of its lane were delivered already could not be told");
    }
    let more = if lane["more"] == true { "at least " } else { "" };
    let destination = lane["destination"].as_str().unwrap_or_default();
    let mut lines = vec![again];
    if delivered > 0 || more == "at least " {
        lines.push(format!(
            "out of order: {more}{} of its lane that came after it {} delivered to {destination} already; compare what it changes there",
            super::count(usize::try_from(delivered).unwrap_or(usize::MAX), "message"),
            if delivered == 1 { "was" } else { "were" }
        ));
    }
    if waiting > 0 {
        lines.push(format!(
            "{} of its lane that came after it will go first",
            super::count(usize::try_from(waiting).unwrap_or(usize::MAX), "message")
        ));
    }
    lines.join("\n")
}

fn dead_line(letter: &Value) -> String {
    let text = |key: &str| letter[key].as_str().unwrap_or("-").to_owned();
    let place = format!("{}/{}", text("channel"), text("destination"));
    format!(
        "{:>12}  message {}  {}  {place}  {} after {} attempts",
        letter["entry"].to_string(),
        letter["id"],
        text("at"),
        text("reason"),
        letter["attempts"]
    )
}
