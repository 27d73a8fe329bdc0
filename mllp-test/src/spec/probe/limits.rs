//! Frames without end, floods and peers that do not read: each must end by a limit, with no more taken than the limit
//! says, and harm nobody else.

use super::super::case::{Expected, due};
use super::super::line::{Line, Way, Writing, good_over_a_new_connection};
use super::super::message::{Mode, good};
use super::super::{Ids, Options};
use super::{Probe, Unproved, needed, seen};
use crate::frame::framed;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The length of what has no end.
const FLOOD_BYTES: usize = 2 << 30;
/// What the sockets between may hold of it.
const SOCKET_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 256 << 10;

pub(super) fn probes() -> Vec<Probe> {
    let flood = |what, check| Probe { row: 16, what, sent: "the one byte, up to 2 GB", expected: CLOSED, check };
    vec![
        Probe {
            row: 4,
            what: "a frame that does not end",
            sent: "VT and the good message",
            expected: "closed after the frame timeout, without an answer",
            check: |options, ids| Box::pin(unended(options, ids)),
        },
        Probe {
            row: 14,
            what: "a frame over the largest size",
            sent: "VT, the good message and as many bytes as make one too many, no FS",
            expected: "AE or CE with ERR-3 104, MSA-2 as sent; then closed",
            check: |options, ids| Box::pin(oversized(options, ids, options.max_message + 1)),
        },
        Probe {
            row: 15,
            what: "a frame of up to 2 GB",
            sent: "VT, the good message and 2 GB, as far as they are taken",
            expected: "AE or CE with ERR-3 104, MSA-2 as sent, before more is taken than the limit and what sockets hold; closed",
            check: |options, ids| Box::pin(oversized(options, ids, FLOOD_BYTES)),
        },
        flood("a flood of VT", |options, ids| Box::pin(flooded(options, ids, 0x0B))),
        flood("a flood of FS", |options, ids| Box::pin(flooded(options, ids, 0x1C))),
        flood("a flood of CR", |options, ids| Box::pin(flooded(options, ids, b'\r'))),
        Probe {
            row: 17,
            what: "a byte now and then",
            sent: "VT, then a byte every sixth of the frame timeout",
            expected: "closed when the frame timeout is over, counted from VT",
            check: |options, ids| Box::pin(trickled(options, ids)),
        },
        Probe {
            row: 20,
            what: "more connections than one peer may have",
            sent: "20 connections more than --max-connections, then the good message over the first",
            expected: "20 closed; the first one and, once they are gone, a new one taken",
            check: |options, ids| Box::pin(crowd(options, ids)),
        },
        Probe {
            row: 22,
            what: "a peer that reads no answer",
            sent: "the good message, then messages with long control ids until nothing is taken any more",
            expected: "closed after the write timeout; the good message, sent again over a new connection, taken",
            check: |options, ids| Box::pin(unread(options, ids)),
        },
    ]
}

const CLOSED: &str =
    "closed before more is taken than the limit and what sockets hold; a good message over a new connection taken";

async fn unended(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let limit = needed(&options.frame_timeout, "takes the receiver's frame timeout: give it with --frame-timeout 60s")?;
    let mut line = Line::connect(&options.at(), limit + options.ack_timeout).await?;
    let draft = ids.draft("0", Mode::Enhanced);
    line.writing.write(&[b"\x0b", draft.text().as_bytes()].concat(), Way::Whole).await?;
    line.reading.closed(&mut Vec::new()).await?;
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok("none; closed".to_owned())
}

/// A frame that goes on up to `length` content bytes as long as it is taken.
async fn oversized(options: &Options, ids: Ids, length: usize) -> Result<String, Unproved> {
    let before = resident(options)?;
    let draft = ids.draft("0", Mode::Enhanced);
    let head = [b"\x0b", draft.text().as_bytes()].concat();
    let patience = options.ack_timeout + Duration::from_secs((options.max_message >> 20) as u64);
    let Line { mut reading, mut writing } = Line::connect(&options.at(), patience).await?;
    let taken = AtomicUsize::new(0);
    let write = async {
        let _ = writing.write(&head, Way::Whole).await;
        flood(&mut writing, b'x', length + 1 - head.len(), &taken).await;
        // Not ended before the answer is read: a sender that is still there sees it.
        std::future::pending::<()>().await;
    };
    let mut answers = Vec::new();
    let mut taken_before = 0;
    let read = async {
        let due = due(&draft, Expected::Error(104));
        let answer = reading.answer().await.map_err(|fault| format!("instead of {due}: {fault}"))?;
        taken_before = taken.load(Ordering::Relaxed);
        answers.push(answer.clone());
        due.judge(&answer)?;
        reading.closed(&mut answers).await
    };
    let judged = tokio::select! {
        judged = read => judged,
        () = write => Ok(()),
    };
    judged?;
    bounded(taken_before, options)?;
    grown(before, options)?;
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok(seen(&answers, &format!("closed; {taken_before} bytes taken before it answered")))
}

/// Writes the byte up to `length` times, as long as it is taken.
async fn flood(writing: &mut Writing, byte: u8, length: usize, taken: &AtomicUsize) {
    let chunk = vec![byte; CHUNK_BYTES];
    let mut left = length;
    while left > 0 {
        let piece = &chunk[..CHUNK_BYTES.min(left)];
        if writing.write(piece, Way::Whole).await.is_err() {
            return;
        }
        left -= piece.len();
        taken.fetch_add(piece.len(), Ordering::Relaxed);
    }
}

async fn flooded(options: &Options, ids: Ids, byte: u8) -> Result<String, Unproved> {
    let before = resident(options)?;
    let patience = options.ack_timeout + Duration::from_secs((options.max_message >> 20) as u64);
    let Line { mut reading, mut writing } = Line::connect(&options.at(), patience).await?;
    let taken = AtomicUsize::new(0);
    let write = async {
        flood(&mut writing, byte, FLOOD_BYTES, &taken).await;
        std::future::pending::<()>().await;
    };
    let mut answers = Vec::new();
    let closed = tokio::select! {
        closed = reading.closed(&mut answers) => closed,
        () = write => Ok(()),
    };
    closed?;
    let taken = taken.into_inner();
    bounded(taken, options)?;
    grown(before, options)?;
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok(format!("none; closed, {taken} bytes taken before"))
}

fn bounded(taken: usize, options: &Options) -> Result<(), String> {
    let bound = options.max_message + SOCKET_BYTES;
    if taken <= bound { Ok(()) } else { Err(format!("{taken} bytes were taken, of which {bound} are the bound")) }
}

/// Resident memory of the receiver, where its process is known.
fn resident(options: &Options) -> Result<Option<u64>, String> {
    let Some(pid) = options.pid else { return Ok(None) };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|fault| format!("the receiver's process {pid}: {fault}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| Some(kilobytes << 10)).ok_or_else(|| format!("no VmRSS of the process {pid}"))
}

/// A buffer that grows is copied to one of twice its size, and what is freed may stay the allocator's: twice a frame, and
/// something for the good messages.
fn grown(before: Option<u64>, options: &Options) -> Result<(), String> {
    let (Some(before), Some(after)) = (before, resident(options)?) else { return Ok(()) };
    let bound = options.max_message as u64 * 2 + (8 << 20);
    let growth = after.saturating_sub(before);
    if growth <= bound {
        Ok(())
    } else {
        Err(format!("its memory grew by {growth} bytes, of which {bound} are the bound"))
    }
}

async fn trickled(options: &Options, ids: Ids) -> Result<String, Unproved> {
    let limit = needed(&options.frame_timeout, "takes the receiver's frame timeout: give it with --frame-timeout 60s")?;
    let Line { mut reading, mut writing } = Line::connect(&options.at(), limit + options.ack_timeout).await?;
    let draft = ids.draft("0", Mode::Enhanced);
    let bytes = [b"\x0b", draft.text().as_bytes()].concat();
    let write = async {
        for byte in bytes.chunks(1) {
            if writing.write(byte, Way::Whole).await.is_err() {
                return;
            }
            sleep(limit / 6).await;
        }
    };
    let mut answers = Vec::new();
    tokio::select! {
        closed = reading.closed(&mut answers) => closed?,
        () = write => return Err(Unproved::Fault("the whole message was taken, a byte at a time".to_owned())),
    }
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok("none; closed".to_owned())
}

async fn crowd(options: &Options, ids: Ids) -> Result<String, Unproved> {
    const EXCESS: usize = 20;
    let limit = needed(
        &options.max_connections,
        "takes the number of connections one peer may have: give it with --max-connections 256",
    )?;
    let mut streams = Vec::new();
    for _ in 0..limit + EXCESS {
        let made = timeout(options.ack_timeout, TcpStream::connect(&options.address)).await;
        // A receiver that closes at once may also reset.
        streams.push(made.ok().and_then(Result::ok));
    }
    let give_up = Instant::now() + options.ack_timeout;
    let closed = |stream: &Option<TcpStream>| {
        stream.as_ref().is_none_or(
            |stream| !matches!(stream.try_read(&mut [0]), Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock),
        )
    };
    while streams.iter().filter(|stream| closed(stream)).count() < EXCESS {
        if Instant::now() > give_up {
            let open = streams.iter().filter(|stream| !closed(stream)).count();
            return Err(Unproved::Fault(format!("{open} connections are open, {limit} may be")));
        }
        sleep(Duration::from_millis(10)).await;
    }
    let Some(first) = streams.iter_mut().find(|stream| !closed(stream)).and_then(Option::take) else {
        return Err(Unproved::Fault("every connection was closed".to_owned()));
    };
    let mut line = Line::over(first, &options.at(), options.ack_timeout).await?;
    let id = ids.good("0");
    line.writing.write(&framed(good(&id).as_bytes()), Way::Whole).await?;
    line.reading.good(&id, &mut Vec::new()).await.map_err(|fault| format!("amid the crowd, {fault}"))?;
    drop((line, streams));
    newcomer(options, ids, give_up + options.ack_timeout).await?;
    Ok(format!("{EXCESS} closed"))
}

/// The receiver may need a moment to see that the crowd is gone.
async fn newcomer(options: &Options, ids: Ids, give_up: Instant) -> Result<(), String> {
    loop {
        match good_over_a_new_connection(&options.at(), &ids.good("1"), options.ack_timeout).await {
            Ok(()) => return Ok(()),
            Err(fault) if Instant::now() > give_up => return Err(fault),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn unread(options: &Options, ids: Ids) -> Result<String, Unproved> {
    const MESSAGES_MAX: usize = 4_000;
    let limit = needed(&options.write_timeout, "takes the receiver's write timeout: give it with --write-timeout 30s")?;
    let mut line = Line::connect(&options.at(), limit + options.ack_timeout).await?;
    let first = framed(good(&ids.good("0")).as_bytes());
    line.writing.write(&first, Way::Whole).await?;
    let mut sent = 0;
    // Its answer to each is as long, since the control id is echoed.
    while sent < MESSAGES_MAX {
        let long = ids.draft(&sent.to_string(), Mode::Enhanced).renamed(&"L".repeat(20_000));
        if line.writing.write(&framed(long.as_bytes()), Way::Whole).await.is_err() {
            break;
        }
        sent += 1;
    }
    if sent == MESSAGES_MAX {
        return Err(Unproved::Fault(format!("{sent} messages were taken and none of their answers")));
    }
    ended(&mut line, limit + options.ack_timeout).await?;
    good_over_a_new_connection(&options.at(), &ids.good("0"), options.ack_timeout).await?;
    Ok(format!("not read; closed after {sent} messages"))
}

/// The answers that wait, then the close.
async fn ended(line: &mut Line, patience: Duration) -> Result<(), String> {
    let drained = async {
        while let Some(answer) = line.reading.next().await? {
            drop::<Bytes>(answer);
        }
        Ok(())
    };
    timeout(patience, drained).await.unwrap_or_else(|_| Err(format!("not closed within {patience:?}")))
}
