#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Bytes on a socket to a server, an intake and an in-memory store: what each kind of input gets, and that the good frame
//! behind it still works.

mod batches;
mod charsets;
mod promises;
mod quirks;
mod reopened;
mod rows;

use super::*;
use crate::{
    channel::{AckWhen, Condition, Conformance, Filter, Listener, Repeat, Retransmission},
    hl7::{Charset, Path},
    mllp::server::{Budget, Limits, Server},
    pcd::conformance::Profile,
    store::{MemoryStore, Query, Sequence},
    threads::Threads,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Bound on every wait; never reached where things are right.
const BOUND: Duration = Duration::from_secs(30);
const CANARY: &str = "CANARYNAME";
/// While the store is full.
const HOLD: Duration = Duration::from_secs(10);

/// A message of the usual kind; MSH-15 and MSH-16 empty.
fn message(id: &str) -> String {
    format!(
        "MSH|^~\\&|GW^0123456789ABCDEF^EUI-64|4W|EHR|H|20260314101500+0000||ORU^R01^ORU_R01|{id}|P|2.6|||||||\r\
         PID|||7^^^H||{CANARY}^ANN\rOBR|1||||||20260314\r\
         OBX|1|NM|1^A^MDC|1.1.1.1|80|2^B^MDC|||||R|||20260314101500+0000\r"
    )
}

fn asking(message: &str, accept: &str, application: &str) -> String {
    message.replacen("|P|2.6|||||", &format!("|P|2.6|||{accept}|{application}|"), 1)
}

fn channel(name: &str, accept: &[&str]) -> Channel {
    let wanted: Vec<String> = accept.iter().map(|kind| (*kind).to_owned()).collect();
    let conditions = if wanted.is_empty() { vec![] } else { vec![Condition::new(path("MSH-9"), &wanted)] };
    Channel {
        name: name.into(),
        description: String::new(),
        listener: Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            limits: limits(),
            tls: None,
            ack: AckWhen::Stored,
            batch: false,
            conformance: Conformance::Report,
            profile: Profile::default(),
            charset: None,
            charset_default: Charset::from_label("8859/1").unwrap(),
            processing_ids: vec!["P".to_owned()],
            versions: vec![],
        },
        accept: Filter::new(conditions, None),
        repeat: Repeat {
            key: vec![path("MSH-3"), path("MSH-10")],
            window: Duration::from_secs(24 * 3600),
            retransmission: Retransmission::Mark,
        },
        device: crate::channel::DeviceRules::default(),
        tolerance: crate::pcd::tolerance::Tolerance::default(),
        destinations: vec![],
        summaries: vec![],
        hash: 0,
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 16 << 20,
        connections_max: 100,
        connections_per_address_max: 100,
        pipelined_frames_max: 16,
        idle_timeout: Duration::ZERO,
        frame_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(30),
        allow: vec![],
    }
}

/// An intake that nobody else has a part of.
fn intake(
    channels: Vec<Arc<Channel>>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    hold: Duration,
) -> Arc<Intake> {
    let owed = Owed::new(store.clone(), clock.clone(), metrics.clone());
    Intake::new(channels, store, clock, metrics, Arc::default(), owed, hold)
}

struct Site {
    server: Server,
    store: MemoryStore,
    metrics: Arc<Metrics>,
    conformity: Arc<Conformity>,
}

impl Site {
    async fn new() -> Site {
        Site::with(channel("pumps", &["ORU^R01", "ORU^R40", "RGV^O15"])).await
    }

    async fn with(channel: Channel) -> Site {
        let limits = channel.listener.limits.clone();
        let (store, metrics) = (MemoryStore::default(), Arc::new(Metrics::new().unwrap()));
        let intake = intake(vec![Arc::new(channel)], Arc::new(store.clone()), Clock::system(), metrics.clone(), HOLD);
        let conformity = Arc::new(Conformity::default());
        intake.set_conformity(conformity.clone());
        let (address, budget) = ("127.0.0.1:0".parse().unwrap(), Budget::of_bytes(1 << 26));
        let server = Server::bind(address, limits, None, intake, budget, metrics.clone()).unwrap();
        let server = server.serve(Arc::new(Threads::of_caller()));
        Site { server, store, metrics, conformity }
    }

    async fn connect(&self) -> Peer {
        Peer { stream: TcpStream::connect(self.server.address()).await.unwrap(), buffer: Vec::new() }
    }

    /// Messages in the store, oldest first.
    async fn stored(&self) -> Vec<Bytes> {
        let mut found = self.store.find(Query { limit: 1000, ..Query::default() }).await.unwrap();
        found.sort_by_key(|summary| summary.id);
        let mut messages = Vec::new();
        for summary in found {
            messages.push(self.read(summary.id).await);
        }
        messages
    }

    /// The same of one control id.
    async fn stored_by(&self, control_id: &str) -> Vec<Bytes> {
        let query = Query { control_id: Some(control_id.as_bytes().to_vec()), limit: 1000, ..Query::default() };
        let mut messages = Vec::new();
        for summary in self.store.find(query).await.unwrap() {
            messages.push(self.read(summary.id).await);
        }
        messages
    }

    async fn read(&self, id: Sequence) -> Bytes {
        self.store.read(id).await.unwrap().message
    }

    fn count(&self, family: &prometheus::IntCounterVec, label: &str) -> u64 {
        family.with_label_values(&["pumps", label]).get()
    }
}

struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

fn framed(content: &[u8]) -> Vec<u8> {
    [b"\x0b", content, b"\x1c\r"].concat()
}

impl Peer {
    async fn send(&mut self, content: impl AsRef<[u8]>) {
        self.stream.write_all(&framed(content.as_ref())).await.unwrap();
    }

    /// The next answer, or `None` where the connection ends.
    async fn answer(&mut self) -> Option<Reply> {
        self.frame().await.map(|frame| Reply::read(&frame))
    }

    /// The same, whatever it is.
    async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\x1c\r") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(frame[1..end].to_vec());
            }
            let read = timeout(BOUND, self.stream.read_buf(&mut self.buffer)).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                assert!(self.buffer.is_empty(), "half an answer");
                return None;
            }
        }
    }

    /// Every answer up to the one to the message `id`, which must be positive.
    async fn answers_before(&mut self, id: &str) -> Vec<Reply> {
        let mut before = Vec::new();
        loop {
            let answer = self.answer().await.expect("the good frame is answered");
            if answer.control_id == id.as_bytes() {
                assert_eq!(answer.code, "AA");
                return before;
            }
            before.push(answer);
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Reply {
    raw: Bytes,
    code: String,
    control_id: Vec<u8>,
    error: Option<String>,
    location: String,
}

impl Reply {
    /// Reads by the answer's own delimiters, with none of the code under test.
    fn read(raw: &[u8]) -> Reply {
        let raw = Bytes::copy_from_slice(raw);
        assert!(!raw.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()), "an answer tells patient data");
        let (separator, component) = (raw[3], raw[4]);
        let segment = |id: &[u8]| {
            let found = raw.split(|b| *b == b'\r').find(|segment| segment.starts_with(id))?;
            Some(found.split(|b| *b == separator).map(<[u8]>::to_vec).collect::<Vec<_>>())
        };
        let msa = segment(b"MSA").expect("MSA");
        let err = segment(b"ERR");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            code: text(&msa[1]),
            control_id: msa[2].clone(),
            error: err.as_ref().map(|err| text(err[3].split(|b| *b == component).next().unwrap())),
            location: err.map_or_else(String::new, |err| text(&err[2])),
            raw: raw.clone(),
        }
    }
}

/// The usual message with one text in place of another.
fn with(from: &str, to: &str) -> String {
    let usual = message("BAD");
    assert!(usual.contains(from), "{from}");
    usual.replacen(from, to, 1)
}

/// As `with`, one byte of a Latin letter.
fn with_latin(message: &str) -> Vec<u8> {
    message.bytes().map(|byte| if byte == b'*' { 0xE9 } else { byte }).collect()
}
