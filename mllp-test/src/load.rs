//! Load: many connections, each a sender of its own, at a rate or as fast as the answers come. Every message is a valid
//! PCD-01 observation report with an id of its own.

use crate::account::{SenderAccount, SenderBook};
use crate::id::{Kind, MessageId};
use crate::pcd::{self, Draft, Origin, Term};
use crate::sender::{self, Outbound, SenderConfig};
use jiff::Timestamp;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What to send, where, and how fast.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// How each connection behaves.
    pub sender: SenderConfig,
    /// Connections at the same time.
    pub connections: u32,
    /// Devices (and patients) behind each connection, in turn; each is a sender for the accounts.
    pub devices: u32,
    /// Metric OBX segments in a message.
    pub obx: usize,
    /// Pads messages to so many bytes.
    pub message_bytes: usize,
    /// Messages a second over all connections; 0 is as fast as possible.
    pub rate: f64,
    /// Ends after so many messages.
    pub messages: Option<u64>,
    /// Ends after so long.
    pub time: Option<Duration>,
    /// The run number in every id.
    pub run: u32,
    /// A word to plant as patients' family name.
    pub canary: Option<String>,
    /// The ledger file.
    pub ledger: Option<PathBuf>,
}

impl LoadConfig {
    /// One connection in lockstep, ten metrics, as fast as possible, without end.
    pub fn to(address: impl Into<String>) -> LoadConfig {
        LoadConfig {
            sender: SenderConfig::to(address),
            connections: 1,
            devices: 1,
            obx: 10,
            message_bytes: 0,
            rate: 0.0,
            messages: None,
            time: None,
            run: new_run(),
            canary: None,
            ledger: None,
        }
    }
}

/// A run number that differs from run to run.
pub fn new_run() -> u32 {
    crate::mix(Timestamp::now().as_nanosecond() as u64, u64::from(std::process::id())) as u32
}

/// Sends until the number or the time is reached, then waits for the outstanding answers.
pub async fn run(config: LoadConfig) -> io::Result<SenderAccount> {
    let book = Arc::new(SenderBook::open(config.ledger.as_deref())?);
    run_with(config, book.clone()).await;
    Ok(book.account())
}

/// [`run`] with a book of the caller's, who may look into it meanwhile.
pub async fn run_with(config: LoadConfig, book: Arc<SenderBook>) {
    let config = Arc::new(config);
    let left = Arc::new(AtomicU64::new(config.messages.unwrap_or(u64::MAX)));
    let mut tasks = JoinSet::new();
    for connection in 0..config.connections.max(1) {
        let (give, take) = mpsc::channel(config.sender.window.clamp(16, 1024));
        tasks.spawn(sender::run(config.sender.clone(), take, book.clone()));
        tasks.spawn(generate(config.clone(), connection, left.clone(), give));
    }
    tasks.join_all().await;
}

async fn generate(config: Arc<LoadConfig>, connection: u32, left: Arc<AtomicU64>, give: mpsc::Sender<Outbound>) {
    let started = Instant::now();
    let end = config.time.map(|time| started + time);
    let rate = config.rate / f64::from(config.connections.max(1));
    let devices = config.devices.max(1);
    for number in 0u64.. {
        let due = if rate > 0.0 { started + Duration::from_secs_f64(number as f64 / rate) } else { started };
        if end.is_some_and(|end| due.max(Instant::now()) >= end) || !take_one(&left) {
            return;
        }
        sleep_until(due).await;
        let sender = connection * devices + (number % u64::from(devices)) as u32;
        let id = MessageId { run: config.run, sender, seq: number / u64::from(devices) + 1 };
        let outbound = Outbound { id, kind: Kind::R01, message: message(&config, id, Timestamp::now()) };
        // While the receiver is away the channel is full; the end of the time must still be seen.
        let given = tokio::select! {
            given = give.send(outbound) => given.is_ok(),
            () = sleep_until(end.unwrap_or(started)), if end.is_some() => false,
        };
        if !given {
            return;
        }
    }
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

const METRICS: [(Term, Term); 5] = [
    ("157784^MDC_FLOW_FLUID_PUMP^MDC", pcd::ML_PER_HOUR),
    ("157884^MDC_VOL_FLUID_TBI^MDC", pcd::ML),
    ("157872^MDC_VOL_FLUID_TBI_REMAIN^MDC", pcd::ML),
    ("157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC", pcd::ML),
    ("157916^MDC_TIME_PD_REMAIN^MDC", pcd::MIN),
];

/// The message of this id: a pump's report whose values come from the id alone.
pub fn message(config: &LoadConfig, id: MessageId, at: Timestamp) -> Vec<u8> {
    let origin = Origin {
        gateway: "PUMP_GATEWAY",
        gateway_eui: 0x0A00_27FF_FE00_0001,
        patient: id.sender,
        canary: config.canary.clone(),
    };
    let at = pcd::dtm(at);
    let mut draft = Draft::begin(Kind::R01, id, &origin, &at);
    draft.order(&origin, &id.to_string(), "999999^Medication Unknown", &at, "");
    let device = pcd::eui_64(0x0A00_A1FF_FE00_0000 + u64::from(id.sender));
    draft.device("70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC", "1.0.0.0", &device);
    draft.device_time("1.0.0.1", &at);
    draft.device("70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC", "1.1.0.0", "");
    for number in 0..config.obx {
        // One source channel for each round of metrics: a channel reports each of them once.
        let (channel, metric) = (1 + number / METRICS.len(), number % METRICS.len());
        if metric == 0 {
            draft.device("70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC", &format!("1.1.{channel}.0"), "");
        }
        let (term, units) = METRICS[metric];
        let value = pcd::decimal((id.seq + number as u64) % 10_000, 1);
        draft.number(term, &format!("1.1.{channel}.{}", metric + 1), &value, units);
    }
    draft.pad_to(config.message_bytes);
    draft.finish()
}
