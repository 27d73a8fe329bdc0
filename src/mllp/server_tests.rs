#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Bytes on sockets. The deadlines run on a paused clock, over an in-memory pipe instead of a socket.

use super::*;
use bytes::BytesMut;
use std::collections::VecDeque;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, oneshot},
    time::timeout,
};

#[path = "server_tls_tests.rs"]
mod tls;

/// Bound on every wait; never reached where things are right.
const BOUND: Duration = Duration::from_secs(20);

/// Answers each frame with its own content when the test lets it, or at once.
struct Echo {
    /// Every frame taken, with what releases its answer.
    taken: mpsc::UnboundedSender<(Bytes, oneshot::Sender<Answer>)>,
    at_once: bool,
}

impl FrameHandler for Echo {
    fn frame(&self, _peer: SocketAddr, frame: Bytes, _received: Instant) -> BoxFuture<'static, Answer> {
        let (release, released) = oneshot::channel();
        self.taken.send((frame.clone(), release)).unwrap();
        let now = self.at_once;
        Box::pin(async move { if now { echo(&frame) } else { released.await.unwrap() } })
    }

    fn oversized(&self, _peer: SocketAddr, _head: Bytes) -> Answer {
        echo(b"too large")
    }

    fn label(&self) -> Arc<str> {
        "ward".into()
    }
}

fn echo(content: &[u8]) -> Answer {
    Answer { messages: vec![Bytes::copy_from_slice(content)], ..Answer::default() }
}

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 100_000,
        connections_max: 100,
        connections_per_address_max: 100,
        pipelined_frames_max: 8,
        idle_timeout: Duration::ZERO,
        frame_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(30),
        allow: vec![],
    }
}

struct Bench {
    server: Server,
    metrics: Arc<Metrics>,
    budget: Budget,
    taken: mpsc::UnboundedReceiver<(Bytes, oneshot::Sender<Answer>)>,
}

impl Bench {
    async fn new(limits: Limits, at_once: bool, budget_kib: usize) -> Bench {
        Bench::with(limits, at_once, budget_kib, None)
    }

    fn with(limits: Limits, at_once: bool, budget_kib: usize, tls: Option<Acceptor>) -> Bench {
        let (taken, seen) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new().unwrap());
        let budget = Budget::of_bytes(budget_kib * 2 * 1024);
        let handler = Arc::new(Echo { taken, at_once });
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, limits, tls, handler, budget.clone(), metrics.clone()).unwrap();
        let server = server.serve(Arc::new(Threads::of_caller()));
        Bench { server, metrics, budget, taken: seen }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).await.unwrap()
    }

    async fn taken(&mut self) -> (Bytes, oneshot::Sender<Answer>) {
        timeout(BOUND, self.taken.recv()).await.expect("a frame is taken").unwrap()
    }

    fn hits(&self, limit: &str) -> u64 {
        self.metrics.limits_hit.with_label_values(&["ward", limit]).get()
    }

    fn bad(&self, reason: &str) -> u64 {
        self.metrics.bad_frames.with_label_values(&["ward", reason]).get()
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    [b"\x0b", content, b"\x1c\r"].concat()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), content: &[u8]) {
    stream.write_all(&framed(content)).await.unwrap();
}

/// The next so many answers.
async fn answers(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<Vec<u8>> {
    let mut buffer = BytesMut::new();
    let mut found = VecDeque::new();
    let reading = async {
        while found.len() < count {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "ended after {} answers", found.len());
            while let Some(end) = buffer.windows(2).position(|pair| pair == b"\x1c\r") {
                found.push_back(buffer.split_to(end + 2)[1..end].to_vec());
            }
        }
    };
    timeout(BOUND, reading).await.expect("answers in time");
    assert!(buffer.is_empty(), "half an answer behind");
    found.into()
}

/// Waits until the server has closed; a reset counts too.
async fn ended(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = timeout(BOUND, stream.read_to_end(&mut rest)).await.expect("the connection ends");
    rest
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_frames_whatever_is_ready_first() {
    let mut bench = Bench::new(limits(), false, 1024).await;
    let mut peer = bench.connect().await;
    peer.write_all(&[framed(b"one"), framed(b"two"), framed(b"three")].concat()).await.unwrap();
    let mut taken = vec![bench.taken().await, bench.taken().await, bench.taken().await];
    while let Some((content, release)) = taken.pop() {
        release.send(echo(&content)).unwrap();
    }
    assert_eq!(answers(&mut peer, 3).await, [&b"one"[..], b"two", b"three"]);
}

#[tokio::test]
async fn a_peer_that_has_ended_its_side_still_gets_its_answers() {
    let mut bench = Bench::new(limits(), false, 1024).await;
    let mut peer = bench.connect().await;
    peer.write_all(&[framed(b"one"), framed(b"two")].concat()).await.unwrap();
    peer.shutdown().await.unwrap();
    for _ in 0..2 {
        let (content, release) = bench.taken().await;
        release.send(echo(&content)).unwrap();
    }
    assert_eq!(answers(&mut peer, 2).await, [&b"one"[..], b"two"]);
    assert_eq!(ended(&mut peer).await, b"");
}

#[tokio::test]
async fn no_more_frames_are_taken_than_may_be_pending() {
    let mut bench = Bench::new(Limits { pipelined_frames_max: 2, ..limits() }, false, 1024).await;
    let mut peer = bench.connect().await;
    for n in 0..50 {
        send(&mut peer, format!("frame {n}").as_bytes()).await;
    }
    // Two queued, and one whose answer is being waited for.
    let mut held: VecDeque<_> = [bench.taken().await, bench.taken().await, bench.taken().await].into();
    for n in 0..50 {
        assert!(bench.taken.try_recv().is_err(), "a frame above the limit was taken before frame {n} was answered");
        let (content, release) = held.pop_front().unwrap();
        release.send(echo(&content)).unwrap();
        assert_eq!(answers(&mut peer, 1).await, [format!("frame {n}").into_bytes()]);
        if n < 47 {
            held.push_back(bench.taken().await);
        }
    }
}

#[tokio::test]
async fn frames_wait_for_the_byte_budget_and_give_it_back_when_answered() {
    let mut bench = Bench::new(limits(), false, 3).await;
    let (mut one, mut two) = (bench.connect().await, bench.connect().await);
    send(&mut one, &[b'1'; 2048]).await;
    let (first, release_first) = bench.taken().await;
    assert_eq!((bench.budget.available(), bench.metrics.in_flight_bytes.get()), (1, 2048));
    send(&mut two, &[b'2'; 2048]).await;
    assert!(timeout(Duration::from_millis(100), bench.taken.recv()).await.is_err(), "taken over the budget");
    release_first.send(echo(&first)).unwrap();
    let (second, release_second) = bench.taken().await;
    assert_eq!(second[0], b'2');
    release_second.send(echo(&second)).unwrap();
    answers(&mut one, 1).await;
    answers(&mut two, 1).await;
    bench.server.drain(BOUND).await;
    assert_eq!((bench.budget.available(), bench.metrics.in_flight_bytes.get()), (3, 0));
}

#[tokio::test]
async fn a_large_frame_has_its_share_of_the_budget_before_it_is_read() {
    let bench = Bench::new(Limits { frame_bytes_max: 1 << 20, ..limits() }, true, 2048).await;
    let mut peer = bench.connect().await;
    let content = vec![b'x'; 600_000];
    send(&mut peer, &content).await;
    assert_eq!(answers(&mut peer, 1).await, [content]);
    // Without the budget its reading stops, and ends after the frame timeout.
    let limits = Limits { frame_bytes_max: 1 << 20, frame_timeout: Duration::from_millis(50), ..limits() };
    let starved = Bench::new(limits, true, 100).await;
    let mut peer = starved.connect().await;
    let _hog = starved.budget.hog_partial().unwrap();
    let _ = peer.write_all(&framed(&vec![b'x'; 600_000])).await;
    assert_eq!(ended(&mut peer).await, b"");
    assert_eq!(starved.hits("in_flight_bytes") + starved.hits("frame_timeout"), 1);
}

#[tokio::test]
async fn connections_over_a_cap_are_closed_and_the_others_go_on() {
    let bench = Bench::new(Limits { connections_max: 2, ..limits() }, true, 1024).await;
    let (mut one, mut two) = (bench.connect().await, bench.connect().await);
    for peer in [&mut one, &mut two] {
        send(peer, b"hello").await;
        answers(peer, 1).await;
    }
    assert_eq!(bench.server.connections(), 2);
    assert_eq!(ended(&mut bench.connect().await).await, b"");
    assert_eq!(bench.hits("connections"), 1);
    send(&mut one, b"still here").await;
    assert_eq!(answers(&mut one, 1).await, [b"still here"]);
    // A place given back is a place for another.
    drop(two);
    let mut another = wait_for_place(&bench).await;
    send(&mut another, b"mine").await;
    assert_eq!(answers(&mut another, 1).await, [b"mine"]);
}

/// Connects until a connection is let in: the server learns of a close in its own time.
async fn wait_for_place(bench: &Bench) -> TcpStream {
    let waiting = async {
        while bench.server.connections() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, waiting).await.expect("a place is given back");
    bench.connect().await
}

#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let bench = Bench::new(Limits { connections_per_address_max: 1, ..limits() }, true, 1024).await;
    let mut one = bench.connect().await;
    send(&mut one, b"hello").await;
    answers(&mut one, 1).await;
    assert_eq!(ended(&mut bench.connect().await).await, b"");
    assert_eq!(bench.hits("connections_per_address"), 1);
}

#[tokio::test]
async fn only_allowed_networks_are_let_in() {
    let elsewhere = Limits { allow: vec!["10.9.8.0/24".parse().unwrap()], ..limits() };
    let bench = Bench::new(elsewhere, true, 1024).await;
    assert_eq!(ended(&mut bench.connect().await).await, b"");
    assert_eq!(bench.hits("allow"), 1);
    bench.server.set_limits(Limits { allow: vec!["127.0.0.0/8".parse().unwrap()], ..limits() });
    let mut peer = bench.connect().await;
    send(&mut peer, b"hello").await;
    assert_eq!(answers(&mut peer, 1).await, [b"hello"]);
}

#[tokio::test]
async fn an_oversized_frame_is_answered_though_its_sender_goes_on_sending() {
    let bench = Bench::new(limits(), true, 1024).await;
    let mut peer = bench.connect().await;
    let (mut read, mut write) = peer.split();
    let sending = async {
        let _ = write.write_all(&[VT_BYTE]).await;
        while write.write_all(&[b'x'; 8192]).await.is_ok() {}
    };
    tokio::select! {
        got = answers(&mut read, 1) => assert_eq!(got, [b"too large"]),
        () = sending => panic!("reset before the answer was read"),
    }
    assert_eq!(bench.bad("oversized"), 1);
    drop(peer);
    send(&mut bench.connect().await, b"next").await;
}

const VT_BYTE: u8 = crate::mllp::VT;

#[tokio::test]
async fn a_drain_answers_what_was_taken_and_takes_no_more() {
    let mut bench = Bench::new(limits(), false, 1024).await;
    let mut peer = bench.connect().await;
    send(&mut peer, b"one").await;
    let (content, release) = bench.taken().await;
    let address = bench.server.address();
    let draining = tokio::spawn(bench.server.drain(BOUND));
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(BOUND, refused).await.expect("no new connection during a drain");
    assert!(!draining.is_finished());
    release.send(echo(&content)).unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"one"]);
    assert_eq!(ended(&mut peer).await, b"");
    drop(peer);
    timeout(BOUND, draining).await.expect("drained").unwrap();
}

#[tokio::test]
async fn a_drain_cuts_what_is_left_after_the_grace() {
    let mut bench = Bench::new(limits(), false, 1024).await;
    let mut peer = bench.connect().await;
    send(&mut peer, b"never answered").await;
    let _held = bench.taken().await;
    timeout(BOUND, bench.server.drain(Duration::from_millis(20))).await.expect("cut");
    assert_eq!(ended(&mut peer).await, b"");
    assert_eq!(bench.metrics.connections.with_label_values(&["ward"]).get(), 0);
}

#[tokio::test]
async fn peers_that_connect_and_leave_do_no_harm() {
    let bench = Bench::new(limits(), true, 1024).await;
    for n in 0..50 {
        let mut scan = bench.connect().await;
        if n % 2 == 0 {
            socket2::SockRef::from(&scan).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            let _ = scan.write_all(b"\x0bMSH|^~\\&|begun").await;
        }
    }
    let mut peer = bench.connect().await;
    send(&mut peer, b"hello").await;
    assert_eq!(answers(&mut peer, 1).await, [b"hello"]);
}

#[tokio::test]
async fn another_protocol_is_closed_with_its_reason() {
    let bench = Bench::new(limits(), true, 1024).await;
    for opening in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut peer = bench.connect().await;
        peer.write_all(opening).await.unwrap();
        peer.shutdown().await.unwrap();
        assert_eq!(ended(&mut peer).await, b"");
    }
    assert_eq!((bench.bad("protocol_mismatch"), bench.bad("noise")), (2, 0));
}

#[tokio::test]
async fn an_answer_can_end_the_connection() {
    let mut bench = Bench::new(limits(), false, 1024).await;
    let mut peer = bench.connect().await;
    peer.write_all(&[framed(b"one"), framed(b"two")].concat()).await.unwrap();
    let (content, release) = bench.taken().await;
    release.send(Answer { close: true, ..echo(&content) }).unwrap();
    assert_eq!(ended(&mut peer).await, framed(b"one"), "nothing is written behind it");
}

fn connection(limits: Limits, handler: Echo, metrics: &Arc<Metrics>) -> Connection {
    Connection {
        peer: "127.0.0.1:1".parse().unwrap(),
        limits: Arc::new(limits),
        handler: Arc::new(handler),
        in_flight: InFlight::new(Budget::of_bytes(1 << 21), metrics.in_flight_bytes.clone()),
        counters: Counters { metrics: metrics.clone(), label: "ward".into(), complaints: Arc::default() },
        stop: CancellationToken::new(),
    }
}

/// One connection over an in-memory pipe of `pipe` bytes, for a paused clock.
fn piped(limits: Limits, at_once: bool, pipe: usize) -> (DuplexStream, Piped) {
    let (taken, seen) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::new().unwrap());
    let connection = connection(limits, Echo { taken, at_once }, &metrics);
    let (ours, theirs) = duplex(pipe);
    tokio::spawn(async move {
        let (read, write) = tokio::io::split(theirs);
        connection.serve(read, write, &mut outlet().1).await;
    });
    (ours, Piped { metrics, taken: seen })
}

struct Piped {
    metrics: Arc<Metrics>,
    taken: mpsc::UnboundedReceiver<(Bytes, oneshot::Sender<Answer>)>,
}

impl Piped {
    fn hits(&self, limit: &str) -> u64 {
        self.metrics.limits_hit.with_label_values(&["ward", limit]).get()
    }
}

/// As `ended`, with no bound but the deadline under test: the clock is paused.
async fn ends(peer: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = peer.read_to_end(&mut rest).await;
    rest
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_never_ends_is_closed_after_the_frame_timeout() {
    let (mut peer, piped) = piped(limits(), true, 4096);
    peer.write_all(b"\x0bMSH|^~\\&|").await.unwrap();
    assert_eq!(ends(&mut peer).await, b"");
    assert_eq!(piped.hits("frame_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_keep_a_frame_alive() {
    let (peer, piped) = piped(limits(), true, 4096);
    let (mut read, mut write) = tokio::io::split(peer);
    write.write_all(b"\x0b").await.unwrap();
    let begun = tokio::time::Instant::now();
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            // A new start of the frame does not start its time anew.
            let _ = write.write_all(b"x\x0b").await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        _ = read.read_to_end(&mut rest) => {}
        () = dripping => {}
    }
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(piped.hits("frame_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn each_frame_has_its_own_time_though_it_begins_in_the_read_that_ends_another() {
    let (mut peer, piped) = piped(limits(), true, 4096);
    for piece in [&b"\x0bon"[..], b"e\x1c\r\x0btw", b"o\x1c\r\x0b\x1c\r\x0bth", b"ree\x1c\r"] {
        peer.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(answers(&mut peer, 3).await, [&b"one"[..], b"two", b"three"]);
    assert_eq!(piped.hits("frame_timeout"), 0);
}

#[tokio::test(start_paused = true)]
async fn silence_is_kept_for_ever_unless_an_idle_timeout_is_set() {
    let (mut peer, _piped) = piped(limits(), true, 4096);
    tokio::time::sleep(Duration::from_secs(7 * 24 * 3600)).await;
    send(&mut peer, b"still here").await;
    assert_eq!(answers(&mut peer, 1).await, [b"still here"]);

    let (mut peer, piped) = self::piped(Limits { idle_timeout: Duration::from_secs(5), ..limits() }, true, 4096);
    send(&mut peer, b"hello").await;
    assert_eq!(ends(&mut peer).await, framed(b"hello"));
    assert_eq!(piped.hits("idle_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_waits_for_its_answer_is_not_idle() {
    let (mut peer, mut piped) = piped(Limits { idle_timeout: Duration::from_secs(5), ..limits() }, false, 4096);
    send(&mut peer, b"one").await;
    let (content, release) = piped.taken.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    release.send(echo(&content)).unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"one"]);
    send(&mut peer, b"two").await;
    assert_eq!(piped.taken.recv().await.unwrap().0, b"two"[..]);
}

#[tokio::test(start_paused = true)]
async fn fs_without_cr_ends_its_frame_after_half_a_second() {
    let (mut peer, piped) = piped(limits(), true, 4096);
    peer.write_all(b"\x0bone\r\x1c").await.unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"one\r"]);
    peer.write_all(b"\r\x0btwo\r\x1c").await.unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"two\r"]);
    assert_eq!(piped.metrics.bad_frames.with_label_values(&["ward", "quiet_end"]).get(), 2);
}

#[tokio::test(start_paused = true)]
async fn fs_inside_a_segment_does_not_end_its_frame_however_late_the_rest_comes() {
    let (mut peer, piped) = piped(limits(), true, 4096);
    peer.write_all(b"\x0bone\x1c").await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    peer.write_all(b"more\r\x1c\r").await.unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"one\x1cmore\r"]);
    assert_eq!(piped.metrics.bad_frames.with_label_values(&["ward", "quiet_end"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_its_answers_is_closed_after_the_write_timeout() {
    let (mut peer, mut piped) = piped(limits(), true, 64);
    let content = vec![b'x'; 1000];
    let mut sent = 0;
    while peer.write_all(&framed(&content)).await.is_ok() {
        sent += 1;
    }
    assert_eq!(piped.hits("write_timeout"), 1);
    let mut taken = 0;
    while piped.taken.try_recv().is_ok() {
        taken += 1;
    }
    assert!(taken >= 1 && taken <= sent + 1, "what was handed on stays handed on");
}

#[tokio::test(start_paused = true)]
async fn a_frame_behind_others_that_wait_is_not_timed_meanwhile() {
    let limits = Limits { pipelined_frames_max: 1, ..limits() };
    let (mut peer, mut piped) = piped(limits, false, 4096);
    peer.write_all(&[framed(b"one"), framed(b"two"), framed(b"three"), b"\x0bfo".to_vec()].concat()).await.unwrap();
    let mut held = VecDeque::from([piped.taken.recv().await.unwrap(), piped.taken.recv().await.unwrap()]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    while let Some((content, release)) = held.pop_front() {
        release.send(echo(&content)).unwrap();
        if content != b"three"[..] && held.is_empty() {
            held.push_back(piped.taken.recv().await.unwrap());
        }
    }
    peer.write_all(b"ur\x1c\r").await.unwrap();
    let (content, release) = piped.taken.recv().await.unwrap();
    assert_eq!(content, b"four"[..]);
    release.send(echo(&content)).unwrap();
    assert_eq!(answers(&mut peer, 4).await, [&b"one"[..], b"two", b"three", b"four"]);
}

/// Set where this test runs itself again with few open files.
const FEW_FILES: &str = "CANNULA_TEST_FEW_FILES";

#[test]
fn a_connection_made_while_files_had_run_out_is_served_when_there_are_some_again() {
    if std::env::var_os(FEW_FILES).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(out_of_files());
    }
    let name = "mllp::server::tests::a_connection_made_while_files_had_run_out_is_served_when_there_are_some_again";
    let mut again = std::process::Command::new("sh");
    again.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name]).env(FEW_FILES, "1").output().expect("sh runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}

async fn out_of_files() {
    let bench = Bench::new(limits(), true, 1024).await;
    let mut hogs: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(hogs.len() > 10, "the limit bites");
    hogs.pop();
    let mut peer = bench.connect().await;
    send(&mut peer, b"hello").await;
    let early = timeout(Duration::from_millis(300), peer.readable()).await;
    assert!(early.is_err(), "accepted without a file left");
    drop(hogs);
    assert_eq!(answers(&mut peer, 1).await, [b"hello"]);
}

#[tokio::test]
async fn a_silent_connection_waits_in_little_memory() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let (taken, _seen) = mpsc::unbounded_channel();
    let connection = connection(limits(), Echo { taken, at_once: true }, &Arc::new(Metrics::new().unwrap()));
    let (read, write) = accepted.into_split();
    let (_outlet, mut late) = outlet();
    // Each connection's task is as large as its longest wait, also while it waits for nothing.
    let bytes = std::mem::size_of_val(&connection.serve(read, write, &mut late));
    assert!(bytes <= 1_700, "{bytes}");
}
