//! The table of bad inputs as a check of any MLLP peer: what a receiver must refuse, what it must take all the same, what
//! it must not answer at all; and what a sender does with the answers it gets. A row that could not be tried is skipped
//! with the reason, and never counts as passed.
//!
//! Each row is sent whole with a good message behind it in the same write, and again byte by byte, in original and in
//! enhanced mode, and cut in two at as many places as wanted; the good message must be answered each time. Silence needs
//! no waiting: the good message's answer is the next one.

mod case;
mod channel;
mod escaped;
mod hello;
mod junit;
mod line;
mod message;
mod outbound;
mod probe;
mod report;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

pub use case::Area;
pub use channel::{Addresses, channels};
pub use outbound::{OutboundOptions, run as run_outbound};
pub use report::{Report, RowResult, Verdict};

use crate::tls::ClientTls;
use case::{Case, Listener, Sent, shown_answers};
use line::{At, Heard, Way, exchange};
use message::{Draft, Mode};
use probe::Probe;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Rows up to this size are sent byte by byte, and cut at every place.
const SMALL_BYTES: usize = 16 << 10;
/// Larger ones are sent in pieces as a network makes them, and cut at no more places than this.
const PIECE_BYTES: usize = 1460;
const LARGE_SPLITS: usize = 4;
/// A receiver may take so long for each megabyte.
const PER_MEGABYTE: Duration = Duration::from_secs(1);

/// Where a row is cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splits {
    /// Nowhere.
    None,
    /// At so many places of each row, as the seed chooses.
    Some(usize),
    /// Between every two bytes.
    All,
}

/// Which receiver, and what of its settings the rows need to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens. It must take ORU^R01 of HL7 2.6 with MSH-11 P, and no other type.
    pub address: String,
    /// Where content is checked before the answer.
    pub strict: Option<String>,
    /// Where batches are taken.
    pub batch: Option<String>,
    /// What is trusted and shown at these three, where they listen with TLS.
    pub client: Option<ClientTls>,
    /// Where it listens with TLS, and the certificates to try.
    pub tls: Option<Tls>,
    /// Only these rows; all where empty.
    pub only: Vec<u8>,
    /// How long to wait for each answer.
    pub ack_timeout: Duration,
    /// Where rows are cut in two.
    pub splits: Splits,
    /// Decides what is left to chance.
    pub seed: u64,
    /// Connections at the same time.
    pub jobs: usize,
    /// The longest message it takes.
    pub max_message: usize,
    /// When it closes a connection whose frame does not end.
    pub frame_timeout: Option<Duration>,
    /// When it closes a connection that takes no answer.
    pub write_timeout: Option<Duration>,
    /// How many connections of one peer it takes.
    pub max_connections: Option<usize>,
    /// Its process on this machine, whose memory is to be looked at.
    pub pid: Option<u32>,
    /// Where a receiver listens that can store little, or nothing any more: it is filled first.
    pub full: Option<String>,
}

impl Options {
    /// Every row that a receiver with usual settings can be asked, whole and byte by byte.
    pub fn to(address: impl Into<String>) -> Options {
        Options {
            address: address.into(),
            strict: None,
            batch: None,
            client: None,
            tls: None,
            only: Vec::new(),
            ack_timeout: Duration::from_secs(5),
            splits: Splits::None,
            seed: 1,
            jobs: 1,
            max_message: 16 << 20,
            frame_timeout: None,
            write_timeout: None,
            max_connections: None,
            pid: None,
            full: None,
        }
    }

    fn wants(&self, row: u8) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    fn at(&self) -> At {
        self.where_is(&self.address)
    }

    fn where_is(&self, address: &str) -> At {
        At { address: address.to_owned(), tls: self.client.clone() }
    }
}

/// A TLS listener and who may call there, each with the receiver's authorities.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Where it listens.
    pub address: String,
    /// One that shows no certificate.
    pub unnamed: Option<ClientTls>,
    /// One whose certificate it must take, and has bound to the sender PUMP_GATEWAY.
    pub good: Option<ClientTls>,
    /// Ones whose certificates it must refuse, with a name to tell: expired, of another CA, revoked, of another name.
    pub bad: Vec<(String, ClientTls)>,
}

/// Runs the rows, tells each result as it comes, and answers all of them.
pub async fn run(options: &Options, mut tell: impl FnMut(&RowResult)) -> Report {
    let mut items: Vec<Item> = rows::all().into_iter().map(|case| Item::Case(Arc::new(case))).collect();
    items.extend(probe::all().into_iter().map(Item::Probe));
    items.retain(|item| options.wants(item.row()));
    // A receiver whose store is full takes nothing more.
    items.sort_by_key(|item| (item.row() == probe::STORE_FULL, case::area(item.row()), item.row()));
    let run = crate::load::new_run();
    let mut report = Report::of(&options.address);
    for (number, item) in items.iter().enumerate() {
        let ids = Ids { run, item: number };
        let result = match item {
            Item::Case(case) => run_case(case, ids, options).await,
            Item::Probe(probe) => probe.run(options, ids).await,
        };
        tell(&result);
        report.rows.push(result);
    }
    report.rows.sort_by_key(|row| row.area);
    report
}

enum Item {
    Case(Arc<Case>),
    Probe(Probe),
}

impl Item {
    fn row(&self) -> u8 {
        match self {
            Item::Case(case) => case.row,
            Item::Probe(probe) => probe.row,
        }
    }
}

/// Ids that no other row, way or run has.
#[derive(Debug, Clone, Copy)]
struct Ids {
    run: u32,
    item: usize,
}

impl Ids {
    fn draft(self, turn: &str, mode: Mode) -> Draft {
        Draft { id: format!("SPEC{:08x}.{}.{turn}", self.run, self.item), mode }
    }

    fn good(self, turn: &str) -> String {
        format!("GOOD{:08x}.{}.{turn}", self.run, self.item)
    }
}

async fn run_case(case: &Arc<Case>, ids: Ids, options: &Options) -> RowResult {
    let address = match case.listener {
        Listener::Usual => Ok(&options.address),
        Listener::Strict => options.strict.as_ref().ok_or("needs a listener that checks content: --strict"),
        Listener::Batch => options.batch.as_ref().ok_or("needs a listener that takes batches: --batch"),
    };
    let sample = (case.make)(&ids.draft("0", Mode::Enhanced));
    let mut result = RowResult::new(case.row.to_string(), case.area(), case.what, &sample.expectation());
    result.sent = escaped::escaped(&sample.bytes);
    let address = match address {
        Ok(address) => address,
        Err(why) => return result.skipped(why),
    };
    let turns = turns(case, &sample, ids, options);
    result.ways = turns.len();
    match faulty(case, ids, &options.where_is(address), turns, sample.bytes.len(), options).await {
        Ok(answers) => RowResult { answer: shown_answers(&answers), ..result },
        Err(fault) => {
            let Faulty { turn, sent, heard } = *fault;
            result.sent = escaped::escaped(&sent.bytes);
            result.answer = shown_answers(&heard.answers);
            result.expected = sent.expectation();
            let mode = if turn.mode == Mode::Original { "original mode, " } else { "" };
            result.failed(format!("{mode}{}: {}", turn.way.told(), heard.fault.unwrap_or_default()))
        }
    }
}

/// One sending of a row.
#[derive(Debug, Clone, Copy)]
struct Turn {
    number: usize,
    mode: Mode,
    way: Way,
}

fn turns(case: &Case, sample: &Sent, ids: Ids, options: &Options) -> Vec<Turn> {
    let length = sample.bytes.len();
    let pieces = Way::Pieces(if length <= SMALL_BYTES { 1 } else { PIECE_BYTES });
    let modes: &[Mode] = if case.has_modes { &[Mode::Enhanced, Mode::Original] } else { &[Mode::Enhanced] };
    let mut ways: Vec<(Mode, Way)> = modes.iter().flat_map(|mode| [(*mode, Way::Whole), (*mode, pieces)]).collect();
    let places = match options.splits {
        Splits::None => 0,
        Splits::Some(places) => places.min(length),
        Splits::All => length,
    };
    let limit = if length <= SMALL_BYTES { length } else { LARGE_SPLITS };
    let every = places.min(limit) == length;
    for turn in 0..places.min(limit) as u64 {
        let place = if every { turn } else { crate::mix(options.seed ^ ids.item as u64, turn) % length as u64 };
        ways.push((Mode::Enhanced, Way::SplitAt(place as usize + 1)));
    }
    ways.into_iter().enumerate().map(|(number, (mode, way))| Turn { number, mode, way }).collect()
}

/// A turn in which something was wrong.
struct Faulty {
    turn: Turn,
    sent: Sent,
    heard: Heard,
}

/// Sends the row in all its turns, several at the same time; the answers of the first, or the first fault.
async fn faulty(
    case: &Arc<Case>,
    ids: Ids,
    at: &At,
    turns: Vec<Turn>,
    sample_bytes: usize,
    options: &Options,
) -> Result<Vec<bytes::Bytes>, Box<Faulty>> {
    let mut first = Vec::new();
    let mut faults: Vec<Faulty> = Vec::new();
    let mut running = JoinSet::new();
    // Large ones one by one: several at once may be more than a receiver plans its memory for.
    let jobs = if sample_bytes <= SMALL_BYTES { options.jobs.max(1) } else { 1 };
    let mut waiting = turns.into_iter();
    loop {
        while running.len() < jobs
            && faults.is_empty()
            && let Some(turn) = waiting.next()
        {
            let (case, at, ack_timeout) = (case.clone(), at.clone(), options.ack_timeout);
            running.spawn(async move {
                let name = turn.number.to_string();
                let sent = (case.make)(&ids.draft(&name, turn.mode));
                let limit = ack_timeout + PER_MEGABYTE * (sent.bytes.len() >> 20) as u32;
                let heard = exchange(&at, &sent, &ids.good(&name), turn.way, limit).await;
                Faulty { turn, sent, heard }
            });
        }
        match running.join_next().await {
            Some(Ok(ended)) if ended.heard.fault.is_some() => faults.push(ended),
            Some(Ok(ended)) if ended.turn.number == 0 => first = ended.heard.answers,
            Some(_) => {}
            None => break,
        }
    }
    faults.into_iter().min_by_key(|fault| fault.turn.number).map_or(Ok(first), |fault| Err(Box::new(fault)))
}
