//! Receivers at the end of a measured way: MLLP or FHIR, on a thread of their own. Each message is entered in the book
//! before it is answered: how many of a run came, how many of them twice or behind a later one of their device, and how long
//! after they were sent.

use super::load::{Flow, now};
use super::message::{Id, Template};
use super::wire::{control_id, put_ack, take_frames};
use crate::id::SeqSet;
use crate::latency::Latency;
use crate::lock;
use memchr::memmem;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

const READ_BYTES: usize = 64 << 10;
const BUNDLE_TAKEN: &[u8] = b"{\"resourceType\":\"Bundle\",\"type\":\"transaction-response\"}";

/// What came of one run.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// Different messages.
    pub messages: u64,
    /// Messages that came before already.
    pub repeated: u64,
    /// Messages behind a later one of their device.
    pub reordered: u64,
    /// Messages of no run, or of another one.
    pub unknown: u64,
    /// From sending to arrival; of MLLP messages only.
    pub latency: Latency,
    /// When the first came.
    pub first: Option<Instant>,
    /// When the last came.
    pub last: Option<Instant>,
}

#[derive(Debug, Default)]
struct Book {
    run: u32,
    taken: Taken,
    devices: HashMap<u64, (SeqSet, u64)>,
}

/// A running receiver; it serves until the process ends.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    flow: Arc<Flow>,
    template: Template,
}

/// What it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HL7 v2 over MLLP; every message is answered CA.
    Mllp,
    /// FHIR over HTTP/1.1; every POST or PUT is answered as a transaction that succeeded.
    Fhir,
}

impl Receiver {
    /// Listens on a free local port. What comes is told to `flow`.
    pub fn start(speaks: Speaks, flow: Arc<Flow>) -> io::Result<Receiver> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { book: Mutex::default(), flow, template: Template::new() });
        let service = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(service.serve(listener, speaks)));
        Ok(Receiver { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins the book of another run.
    pub fn expect(&self, run: u32) {
        *lock(&self.shared.book) = Book { run, ..Book::default() };
    }

    /// The book of this run so far.
    pub fn taken(&self) -> Taken {
        lock(&self.shared.book).taken.clone()
    }

    /// Different messages of this run so far.
    pub fn count(&self) -> u64 {
        lock(&self.shared.book).taken.messages
    }

    /// Waits until so many different messages of this run came, or nothing came for `patience`; how many came.
    pub async fn wait_for(&self, messages: u64, patience: Duration) -> u64 {
        let (mut seen, mut changed) = (self.count(), Instant::now());
        while seen < messages && changed.elapsed() < patience {
            sleep(Duration::from_millis(2)).await;
            let now_seen = self.count();
            if now_seen != seen {
                (seen, changed) = (now_seen, Instant::now());
            }
        }
        seen
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, listener: std::net::TcpListener, speaks: Speaks) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = self.clone();
            tokio::spawn(async move {
                match speaks {
                    Speaks::Mllp => service.mllp(stream).await,
                    Speaks::Fhir => service.fhir(stream).await,
                }
            });
        }
    }

    async fn mllp(&self, mut stream: TcpStream) -> io::Result<()> {
        let (mut buffer, mut scanned, mut out) = (Vec::with_capacity(READ_BYTES), 0, Vec::new());
        while stream.read_buf(&mut buffer).await? > 0 {
            out.clear();
            take_frames(&mut buffer, &mut scanned, |frame| {
                let control_id = control_id(frame).unwrap_or_default();
                self.enter(Id::read(control_id), self.template.sent_at(frame));
                put_ack(&mut out, b"CA", control_id);
            });
            stream.write_all(&out).await?;
        }
        Ok(())
    }

    async fn fhir(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        while let Some(request) = request(&mut stream, &mut buffer).await? {
            let body = &buffer[request.head..request.end];
            if request.writes {
                self.enter(self.id_in(body), None);
            }
            buffer.drain(..request.end);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: {}\r\n\r\n",
                BUNDLE_TAKEN.len()
            );
            stream.write_all(&[head.as_bytes(), BUNDLE_TAKEN].concat()).await?;
        }
        Ok(())
    }

    /// The first id of this run in a body.
    fn id_in(&self, body: &[u8]) -> Option<Id> {
        let run = format!("{:08x}.", lock(&self.book).run);
        let at = memmem::find(body, run.as_bytes())?;
        Id::read(body.get(at..at + Id::BYTES)?)
    }

    fn enter(&self, id: Option<Id>, sent_at: Option<u64>) {
        let mut book = lock(&self.book);
        if book.enter(id) {
            if let Some(sent_at) = sent_at {
                book.taken.latency.record(Duration::from_nanos(now().saturating_sub(sent_at)));
            }
            self.flow.delivered.fetch_add(1, Ordering::Release);
        }
    }
}

impl Book {
    /// Whether it is one that did not come before.
    fn enter(&mut self, id: Option<Id>) -> bool {
        let Some(id) = id.filter(|id| id.run == self.run) else {
            self.taken.unknown += 1;
            return false;
        };
        let (seen, highest) = self.devices.entry(id.device()).or_default();
        if !seen.insert(id.place()) {
            self.taken.repeated += 1;
            return false;
        }
        if id.place() < *highest {
            self.taken.reordered += 1;
        }
        *highest = (*highest).max(id.place());
        self.taken.messages += 1;
        self.taken.last = Some(Instant::now());
        self.taken.first = self.taken.first.or(self.taken.last);
        true
    }
}

struct Request {
    head: usize,
    end: usize,
    writes: bool,
}

/// The next whole request at the front of `buffer`; `None` where the peer has ended.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let writes = text.starts_with("post ") || text.starts_with("put ");
    let end = head + length.unwrap_or(0);
    while buffer.len() < end {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Request { head, end, writes }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_book_tells_repeats_late_ones_and_strangers_from_each_other() {
        let mut book = Book { run: 7, ..Book::default() };
        let id = |run, number| Some(Id { run, connection: 0, number });
        // Numbers 0, 16, 32, 48 are of one device, 1 is of another.
        for (entered, new) in [
            (id(7, 0), true),
            (id(7, 32), true),
            (id(7, 16), true),
            (id(7, 1), true),
            (id(7, 32), false),
            (id(8, 48), false),
            (None, false),
        ] {
            assert_eq!(book.enter(entered), new, "{entered:?}");
        }
        let Taken { messages, repeated, reordered, unknown, .. } = book.taken;
        assert_eq!((messages, repeated, reordered, unknown), (4, 1, 1, 2));
    }

    #[tokio::test]
    async fn a_bundle_is_entered_by_the_id_in_its_body_however_it_is_cut() {
        let receiver = Receiver::start(Speaks::Fhir, Arc::new(Flow::default())).unwrap();
        receiver.expect(9);
        let mut stream = TcpStream::connect(receiver.address()).await.unwrap();
        let body = "{\"identifier\":{\"value\":\"00000009.1000.100000\"}}";
        let request = format!("POST /fhir HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        for piece in request.as_bytes().chunks(7) {
            stream.write_all(piece).await.unwrap();
        }
        stream.write_all(b"GET /fhir/metadata HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answers = Vec::new();
        while memmem::find_iter(&answers, b"transaction-response").count() < 2 {
            assert!(stream.read_buf(&mut answers).await.unwrap() > 0);
        }
        let taken = receiver.taken();
        assert_eq!((taken.messages, taken.unknown), (1, 0));
    }
}
