//! What an engine takes that does nothing: its start, its memory at rest, its memory for connections that are idle.

use super::way::{EIGHT_LANES, Shape, Way};
use super::{Found, Setting};
use crate::report::{Evidence, Goal, Line};
use crate::site::{Build, Site};
use crate::spread::figure;
use mllp_test::load::new_run;
use mllp_test::measure::{Id, Load, Outcome, Template, process, wire};
use mllp_test::verify::{Broken, Engine};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const CONNECTIONS: u64 = 5_000;
/// An id has room for so many connections; more are of further runs.
const CONNECTIONS_OF_A_RUN: u64 = 400;
/// The allocator gives back what is free after a second.
const CALM: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn start(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    let mut times = vec![Vec::new(); setting.builds.len()];
    for _ in 0..setting.rounds * 3 {
        for (build, times) in setting.builds.iter().zip(&mut times) {
            let destination = "type = \"mllp\"\naddress = \"127.0.0.1:9\"\n";
            let mut site = Site::make(&setting.folder, "start", build, destination)?;
            times.push(listening(&mut site.engine, site.listener).await?.as_secs_f64() * 1e3);
            site.engine.ready(PATIENCE).await?;
            site.stop().await?;
        }
    }
    for (build, times) in setting.builds.iter().zip(times) {
        let line = Line::new("start", &build.name, "start to listening, empty store", "ms", times.into());
        found.lines.push(
            line.goals(Goal::AtMost(100.0), Goal::AtMost(50.0))
                .detail("from the start of the process to the first connection"),
        );
    }
    Ok(found)
}

/// Starts the process; how long until its listener takes a connection.
pub(super) async fn listening(engine: &mut Engine, listener: SocketAddr) -> Result<Duration, Broken> {
    let begun = Instant::now();
    engine.spawn()?;
    while TcpStream::connect(listener).await.is_err() {
        if begun.elapsed() > PATIENCE || engine.exited()?.is_some() {
            return Err(Broken::checker(format!("the engine does not listen: {}", engine.last_words())));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(begun.elapsed())
}

/// Memory before the first message, then of connections that each sent one message and now say nothing.
pub(super) async fn idle(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for build in &setting.builds {
        let (mut rest, mut each) = (Vec::new(), Vec::new());
        let mut evidence = Evidence::new("idle", &build.name);
        for _ in 0..setting.rounds.min(3) {
            let (at_rest, of_each) = idle_once(setting, build, &mut evidence).await?;
            rest.push(at_rest / 1e6);
            each.push(of_each / 1024.0);
        }
        let what = "idle plaintext MLLP connection, the engine's own memory";
        let line = Line::new("idle", &build.name, what, "KiB", each.into()).goals(Goal::AtMost(4.0), Goal::AtMost(1.0));
        found.lines.push(line.detail(format!("{} connections that each sent one message", figure(CONNECTIONS as f64))));
        let line = Line::new("idle", &build.name, "resident at rest, empty store", "MB", rest.into());
        let line = line.goals(Goal::AtMost(20.0), Goal::AtMost(10.0));
        found.lines.push(line.detail("VmRSS, pages of the program file included"));
        found.evidence.push(evidence);
    }
    Ok(found)
}

/// Bytes at rest, and bytes of each idle connection.
async fn idle_once(setting: &Setting, build: &Build, evidence: &mut Evidence) -> Result<(f64, f64), Broken> {
    let Way { mut site, .. } = Way::open(setting, build, Shape { row: "idle", ..EIGHT_LANES }).await?;
    let pid = site.engine.pid()?;
    sleep(CALM).await;
    let at_rest = process::rss(pid) as f64;
    // What is made once, for the first messages, is not a connection's.
    let messages = Load { messages: Some(100), warm_up: Duration::ZERO, ..Load::to(site.listener, 16, Duration::ZERO) };
    evidence.load(&site.send(messages).await?.outcome);
    sleep(CALM).await;
    let before = process::own_rss(pid) as f64;
    let held = hold(site.listener).await?;
    evidence.load(&Outcome { answered: held.len() as u64, ..Outcome::default() });
    sleep(CALM).await;
    let after = process::own_rss(pid) as f64;
    drop(held);
    site.stop().await?;
    Ok((at_rest, (after - before) / CONNECTIONS as f64))
}

/// Opens the connections and sends one message over each.
async fn hold(listener: SocketAddr) -> Result<Vec<TcpStream>, Broken> {
    let (template, run) = (Template::new(), new_run());
    let mut held = Vec::new();
    for number in 0..CONNECTIONS {
        let run = run.wrapping_add((number / CONNECTIONS_OF_A_RUN) as u32);
        let id = Id { run, connection: number % CONNECTIONS_OF_A_RUN, number: 0 };
        let mut frame = Vec::new();
        template.put(&mut frame, id, 0);
        let mut stream = TcpStream::connect(listener).await?;
        stream.write_all(&frame).await?;
        let mut answer = Vec::new();
        while wire::frame_end(&answer, 0).is_none() {
            if timeout(PATIENCE, stream.read_buf(&mut answer)).await.map_err(Broken::checker)?? == 0 {
                return Err(Broken::checker(format!("connection {number} was closed without an answer")));
            }
        }
        held.push(stream);
    }
    Ok(held)
}
