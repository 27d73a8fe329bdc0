//! The life of a connection: idle, scanned, cut behind a frame, half closed, half open; and the answer of a receiver that
//! cannot store.

use super::super::case::{Expected, due};
use super::super::escaped::escaped;
use super::super::line::{Line, Way, good_over_a_new_connection};
use super::super::message::{Mode, good};
use super::super::{Ids, Options};
use super::{Probe, STORE_FULL, Unproved, connect, needed, seen, skip};
use crate::frame::framed;
use crate::v2::Ack;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A receiver may hold a message so long before it says that it cannot store it.
const HELD_MAX: Duration = Duration::from_secs(10);

/// A store is filled by messages of this size, and by no more than so many bytes.
const FILLING_BYTES: usize = 100_000;
const FILLED_BYTES_MAX: usize = 1 << 30;

pub(super) fn probes() -> Vec<Probe> {
    vec![
        Probe {
            row: 18,
            what: "a connection without a byte",
            sent: "nothing for 2 seconds, then the good message",
            expected: "the good message taken",
            check: |options, ids| Box::pin(idle(options, ids)),
        },
        Probe {
            row: 19,
            what: "connections made and closed, made and reset",
            sent: "20 of each, then the good message over a new one",
            expected: "the good message taken",
            check: |options, ids| Box::pin(scanned(options, ids)),
        },
        Probe {
            row: 21,
            what: "a peer that is gone without a word",
            sent: "nothing",
            expected: "keepalive is on: its timer runs out within 90 seconds",
            check: |options, ids| Box::pin(kept_alive(options, ids)),
        },
        Probe {
            row: 23,
            what: "a peer that closes behind its frame",
            sent: "the good message and a close; the same again over a new connection",
            expected: "the second taken",
            check: |options, ids| Box::pin(closed_behind(options, ids)),
        },
        Probe {
            row: 24,
            what: "a peer that ends its side behind its frame",
            sent: "the good message, FIN",
            expected: "the good message taken, then FIN",
            check: |options, ids| Box::pin(half_closed(options, ids)),
        },
        Probe {
            row: STORE_FULL,
            what: "a good message that cannot be stored",
            sent: "messages of 100 kB until one is refused, then the good message",
            expected: "AR or CR with ERR-3 207 within 10 seconds, MSA-2 as sent, or closed",
            check: |options, ids| Box::pin(unstorable(options, ids)),
        },
    ]
}

async fn send_good(line: &mut Line, id: &str) -> Result<(), String> {
    line.writing.write(&framed(good(id).as_bytes()), Way::Whole).await
}

async fn idle(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let mut line = connect(options).await?;
    sleep(Duration::from_secs(2)).await;
    send_good(&mut line, &ids.good("0")).await?;
    line.reading.good(&ids.good("0"), &mut Vec::new()).await?;
    Ok("taken".to_owned())
}

async fn scanned(options: &Options, ids: Ids) -> Result<String, Unproved> {
    for number in 0..40 {
        let stream = TcpStream::connect(&options.address).await;
        let stream = stream.map_err(|fault| format!("connection {number}: {fault}"))?;
        if number % 2 == 1 {
            stream.set_zero_linger().map_err(|fault| fault.to_string())?;
        }
    }
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok("taken".to_owned())
}

/// The kernel shows the timer of the receiver's end of the connection, where that is on this machine.
async fn kept_alive(options: &Options, _ids: Ids) -> Result<String, Unproved> {
    const KEEPALIVE: &str = "02";
    let stream = TcpStream::connect(&options.address).await.map_err(|fault| fault.to_string())?;
    let (ours, theirs) = (stream.local_addr(), stream.peer_addr());
    let (Ok(SocketAddr::V4(ours)), Ok(SocketAddr::V4(theirs))) = (ours, theirs) else {
        return skip("the timers of an IPv6 connection are not looked at: give an IPv4 address");
    };
    // The receiver sets it once it has taken the connection.
    for _ in 0..options.ack_timeout.as_millis() / 20 {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let ends = format!(" {} {} ", shown(theirs), shown(ours));
        let Some(line) = table.lines().find(|line| line.contains(&ends)) else {
            return skip("the receiver's end is on another machine: cut the line there, and see it freed in 2 minutes");
        };
        let timer = line.split_whitespace().nth(5).unwrap_or_default();
        if let Some((KEEPALIVE, ticks)) = timer.split_once(':') {
            let seconds = u64::from_str_radix(ticks, 16).unwrap_or(u64::MAX) / 100;
            let told = format!("keepalive in {seconds} s");
            return if seconds <= 90 { Ok(told) } else { Err(Unproved::Fault(told)) };
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(Unproved::Fault("no keepalive timer runs at the receiver's end".to_owned()))
}

/// As `/proc/net/tcp` writes an address.
fn shown(address: std::net::SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

async fn closed_behind(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let mut line = connect(options).await?;
    send_good(&mut line, &ids.good("0")).await?;
    drop(line);
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok("taken".to_owned())
}

async fn half_closed(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let mut line = connect(options).await?;
    send_good(&mut line, &ids.good("0")).await?;
    line.writing.end().await?;
    let mut answers = Vec::new();
    line.reading.good(&ids.good("0"), &mut answers).await?;
    line.reading.closed(&mut answers).await?;
    Ok("taken, closed".to_owned())
}

async fn unstorable(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let full = needed(
        &options.full,
        "needs a listener of a receiver whose store is small or full, and whose destination is away: --full ADDRESS",
    )?;
    let mut line = Line::connect(&options.where_is(&full), HELD_MAX + options.ack_timeout).await?;
    let filled = fill(&mut line, options, ids).await?;
    let draft = ids.draft("0", Mode::Enhanced);
    line.writing.write(&framed(draft.text().as_bytes()), Way::Whole).await?;
    let Some(answer) = line.reading.next().await? else { return Ok("closed".to_owned()) };
    due(&draft, Expected::Reject(207)).judge(&answer).map_err(|fault| match Ack::read(&answer) {
        Some(ack) if ack.is_positive() => format!("the message was taken: {fault}"),
        _ => fault,
    })?;
    Ok(seen(&[answer], &format!("not stored, behind {filled} that were")))
}

/// Sends large messages until one is not taken; how many were.
async fn fill(line: &mut Line, options: &Options, ids: Ids) -> Result<usize, Unproved> {
    let bytes = FILLING_BYTES.min(options.max_message / 2);
    for number in 0..FILLED_BYTES_MAX / bytes.max(1) {
        let message =
            ids.draft(&format!("fill{number}"), Mode::Enhanced).text() + "NTE|1||" + &"x".repeat(bytes) + "\r";
        line.writing.write(&framed(message.as_bytes()), Way::Whole).await?;
        let answer = line.reading.answer().await.map_err(|fault| format!("message {number} to fill it: {fault}"))?;
        match Ack::read(&answer) {
            Some(ack) if ack.is_positive() => {}
            Some(ack) if ack.code.ends_with('R') => return Ok(number),
            _ => return Err(Unproved::Fault(format!("message {number} to fill it was answered {}", escaped(&answer)))),
        }
    }
    skip(&format!("{FILLED_BYTES_MAX} bytes were taken, and it is not full: give it a smaller store"))
}
