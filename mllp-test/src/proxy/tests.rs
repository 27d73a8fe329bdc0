#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::frame::framed;
use std::future::Future;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOUND: Duration = Duration::from_secs(20);

/// A proxy with a listener of the test's own behind it.
struct Bench {
    proxy: Proxy,
    target: TcpListener,
}

impl Bench {
    async fn new(conditions: Conditions) -> Bench {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start("127.0.0.1:0", target.local_addr().unwrap().to_string(), 7).await.unwrap();
        proxy.set(conditions);
        Bench { proxy, target }
    }

    /// Both ends of a connection.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (target, _) = in_time(self.target.accept()).await.unwrap();
        target.set_nodelay(true).unwrap();
        client.set_nodelay(true).unwrap();
        (client, target)
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(BOUND, work).await.expect("within the bound")
}

fn to_target(flow: Flow) -> Conditions {
    Conditions { to_target: flow, to_client: Flow::default() }
}

fn cut(at: At, how: How) -> Flow {
    Flow { cut: Some(Cut { at, how }), ..Flow::default() }
}

async fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    in_time(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// What comes until the end, and how it ends.
async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let ended = in_time(stream.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop))
}

fn frames(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| framed(format!("MSH|{number:0>90}").as_bytes())).collect()
}

#[tokio::test]
async fn a_good_line_passes_both_ways_and_passes_the_end_on() {
    let bench = Bench::new(Conditions::default()).await;
    let (mut client, mut target) = bench.connect().await;
    client.write_all(b"there").await.unwrap();
    assert_eq!(read_exactly(&mut target, 5).await, b"there");
    target.write_all(b"back").await.unwrap();
    assert_eq!(read_exactly(&mut client, 4).await, b"back");
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut target).await.0, b"");
    target.write_all(b"after").await.unwrap();
    drop(target);
    assert_eq!(read_to_end(&mut client).await.0, b"after");
    assert_eq!((bench.proxy.connections(), bench.proxy.cuts()), (1, 0));
}

#[tokio::test]
async fn latency_delays_and_one_byte_pieces_arrive_whole() {
    let latency = Duration::from_millis(2);
    let bench = Bench::new(to_target(Flow { latency, piece_bytes: 1, ..Flow::default() })).await;
    let (mut client, mut target) = bench.connect().await;
    let started = Instant::now();
    client.write_all(b"0123456789").await.unwrap();
    let mut first = [0; 10];
    let came_first = in_time(target.read(&mut first)).await.unwrap();
    assert!(came_first < 10, "it came in pieces");
    let rest = read_exactly(&mut target, 10 - came_first).await;
    assert_eq!([&first[..came_first], &rest].concat(), b"0123456789");
    assert!(started.elapsed() >= latency * 10, "each piece waits");
}

#[tokio::test]
async fn writes_apart_are_merged_into_one() {
    let merge = Duration::from_millis(300);
    let bench = Bench::new(to_target(Flow { merge, ..Flow::default() })).await;
    let (mut client, mut target) = bench.connect().await;
    client.write_all(b"one").await.unwrap();
    sleep(Duration::from_millis(20)).await;
    client.write_all(b"two").await.unwrap();
    let mut read = [0; 16];
    let length = in_time(target.read(&mut read)).await.unwrap();
    assert_eq!(&read[..length], b"onetwo");
}

#[tokio::test]
async fn a_cut_after_bytes_lets_exactly_those_pass() {
    for (count, sent) in [(0, 0), (7, 7)] {
        let bench = Bench::new(to_target(cut(At::Bytes(count), How::Close))).await;
        let (mut client, mut target) = bench.connect().await;
        client.write_all(b"0123456789").await.unwrap();
        assert_eq!(read_to_end(&mut target).await.0.len(), sent);
        let _ = read_to_end(&mut client).await;
        assert_eq!(bench.proxy.cuts(), 1);
    }
}

#[tokio::test]
async fn a_cut_in_a_frame_leaves_the_frames_before_whole_and_this_one_torn() {
    let bench = Bench::new(to_target(cut(At::InFrame(3), How::Close))).await;
    let (mut client, mut target) = bench.connect().await;
    let sent = frames(4);
    client.write_all(&sent).await.unwrap();
    let (came, _) = read_to_end(&mut target).await;
    let frame = sent.len() / 4;
    assert!(came.len() > 2 * frame && came.len() < 3 * frame, "{} bytes of {frame} each", came.len());
    assert_eq!(came, sent[..came.len()]);
}

#[tokio::test]
async fn a_cut_after_a_frame_comes_before_its_answer() {
    let bench = Bench::new(to_target(cut(At::AfterFrame(2), How::Reset))).await;
    let (mut client, mut target) = bench.connect().await;
    client.write_all(&frames(1)).await.unwrap();
    read_exactly(&mut target, frames(1).len()).await;
    target.write_all(b"answer").await.unwrap();
    assert_eq!(read_exactly(&mut client, 6).await, b"answer");
    client.write_all(&frames(1)).await.unwrap();
    let (came, ended) = read_to_end(&mut client).await;
    assert_eq!(came, b"");
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_of_the_way_back_tears_the_answer() {
    let conditions = Conditions { to_client: cut(At::InFrame(1), How::Close), to_target: Flow::default() };
    let bench = Bench::new(conditions).await;
    let (mut client, mut target) = bench.connect().await;
    target.write_all(&frames(1)).await.unwrap();
    let (came, _) = read_to_end(&mut client).await;
    assert!(!came.is_empty() && came.len() < frames(1).len());
}

#[tokio::test]
async fn a_half_close_ends_one_direction_alone() {
    let bench = Bench::new(to_target(cut(At::Bytes(3), How::HalfClose))).await;
    let (mut client, mut target) = bench.connect().await;
    client.write_all(b"012345").await.unwrap();
    assert_eq!(read_to_end(&mut target).await.0, b"012");
    target.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(&mut client, 10).await, b"still here");
}

#[tokio::test]
async fn a_black_hole_passes_nothing_and_tells_no_end_until_it_heals() {
    let bench = Bench::new(Conditions::default()).await;
    let (mut client, mut target) = bench.connect().await;
    client.write_all(b"before").await.unwrap();
    read_exactly(&mut target, 6).await;
    bench.proxy.set(Conditions::black_hole());
    client.write_all(b"held").await.unwrap();
    drop(client);
    let mut byte = [0; 1];
    let quiet = timeout(Duration::from_millis(100), target.read(&mut byte)).await;
    assert!(quiet.is_err(), "neither a byte nor the end may pass");
    bench.proxy.heal();
    assert_eq!(read_to_end(&mut target).await.0, b"held");
}

#[tokio::test]
async fn a_line_that_is_not_read_fills_its_senders_window() {
    let bench = Bench::new(to_target(Flow { held: true, ..Flow::default() })).await;
    let (mut client, mut target) = bench.connect().await;
    let much = vec![b'x'; 64 << 20];
    let writing = tokio::spawn(async move { client.write_all(&much).await });
    sleep(Duration::from_millis(100)).await;
    assert!(!writing.is_finished(), "nobody reads");
    bench.proxy.heal();
    let mut came = vec![0; 64 << 20];
    in_time(target.read_exact(&mut came)).await.unwrap();
    in_time(writing).await.unwrap().unwrap();
}

#[tokio::test]
async fn frames_are_paced_one_by_one() {
    let bench = Bench::new(to_target(Flow { frames_per_second: 20.0, ..Flow::default() })).await;
    let (mut client, mut target) = bench.connect().await;
    let started = Instant::now();
    client.write_all(&frames(3)).await.unwrap();
    assert_eq!(read_exactly(&mut target, frames(3).len()).await, frames(3));
    assert!(started.elapsed() >= Duration::from_millis(100), "two pauses of 50 ms");
}

#[tokio::test]
async fn bytes_trickle_at_their_rate_and_a_lossy_line_loses_none() {
    let flow = Flow {
        bytes_per_second: 1000.0,
        loss: 0.1,
        jitter: Duration::from_millis(1),
        piece_bytes: 10,
        ..Flow::default()
    };
    let bench = Bench::new(Conditions::both(&flow)).await;
    let (mut client, mut target) = bench.connect().await;
    let started = Instant::now();
    client.write_all(&frames(1)).await.unwrap();
    assert_eq!(read_exactly(&mut target, frames(1).len()).await, frames(1));
    assert!(started.elapsed() >= Duration::from_millis(90));
}

#[tokio::test]
async fn an_order_resets_every_connection_and_new_ones_are_taken() {
    let bench = Bench::new(Conditions::default()).await;
    let (mut one, _target_one) = bench.connect().await;
    let (mut two, _target_two) = bench.connect().await;
    bench.proxy.cut(How::Reset);
    for client in [&mut one, &mut two] {
        assert_eq!(read_to_end(client).await.1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    let (mut client, mut target) = bench.connect().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut target, 1).await, b"x");
    assert_eq!((bench.proxy.connections(), bench.proxy.cuts()), (3, 2));
}

#[tokio::test]
async fn while_it_flaps_it_is_there_and_not_there_and_at_last_there() {
    let bench = Bench::new(Conditions::default()).await;
    let (mut client, _target) = bench.connect().await;
    let flapping = bench.proxy.flap(Duration::from_millis(10), Duration::from_millis(50), 2);
    in_time(async { tokio::join!(flapping, read_to_end(&mut client)).0 }).await.unwrap();
    bench.connect().await;
}

#[tokio::test]
async fn a_target_that_is_not_there_is_a_reset() {
    let bench = Bench::new(Conditions::default()).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    bench.proxy.retarget(gone.to_string());
    let mut client = TcpStream::connect(bench.proxy.address()).await.unwrap();
    assert!(read_to_end(&mut client).await.1.is_err());
}
