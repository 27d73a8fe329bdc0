//! Plays a conformant reporter against a listener: an example of each transaction, the ways to ask for acknowledgements,
//! and a message that must be refused; every answer is held against D01, on the connection it was asked on.

use super::{Transaction, ack, check, message::Message, samples};
use crate::{
    frame::{Deframer, framed},
    load::new_run,
    send::NoAnswer,
};
use serde::Serialize;
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ACK_BYTES_MAX: usize = 1 << 16;

/// How a listener did with one message.
#[derive(Debug, Clone, Serialize)]
pub struct Played {
    /// What was sent.
    pub what: String,
    /// Until the answer; none where none came or was asked for.
    pub seconds: Option<f64>,
    /// What was wrong.
    pub faults: Vec<String>,
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.faults.is_empty() { "ok   " } else { "FAIL " }, self.what)?;
        if let Some(seconds) = self.seconds {
            write!(f, " ({:.1} ms)", seconds * 1000.0)?;
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n      D01: {fault}"))
    }
}

struct Turn {
    what: String,
    message: String,
    expects: Expects,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    Acceptance,
    Refusal,
    /// Told by the next answer, which must be the next message's.
    Silence,
}

/// Sends all on one connection; only the transactions named, or all. Each answer is due within `confirm`, which is an
/// alert reporter's watchdog.
pub async fn play(address: &str, only: &[String], confirm: Duration) -> Result<Vec<Played>, NoAnswer> {
    let connected = timeout(confirm, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| NoAnswer::Timeout(confirm))??;
    stream.set_nodelay(true)?;
    let mut line = Line { stream, answers: Deframer::new(ACK_BYTES_MAX), confirm };
    let mut played = Vec::new();
    for turn in turns(only) {
        let begun = Instant::now();
        let answer = line.exchange(&turn).await;
        let seconds = matches!(answer, Ok(Some(_))).then(|| begun.elapsed().as_secs_f64());
        let is_lost = answer.is_err();
        let faults = match answer {
            Ok(None) => Vec::new(),
            Ok(Some(ack)) => faults(&turn, &ack),
            Err(none) => vec![none.to_string()],
        };
        played.push(Played { what: turn.what, seconds, faults });
        if is_lost {
            // What comes later could be this message's answer.
            break;
        }
    }
    Ok(played)
}

fn turns(only: &[String]) -> Vec<Turn> {
    let run = new_run();
    let mut turns: Vec<Turn> = Vec::new();
    let mut turn = |of: Transaction, msh_15: &str, msh_16: &str, expects: Expects| {
        let name = serde_json::to_value(of).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        if !only.is_empty() && !only.contains(&name) {
            return;
        }
        let control_id = format!("CONFORM{run:08x}.{}", turns.len());
        let mut message = samples::example(of, &control_id, msh_15, msh_16);
        let mut what = format!("{name}, MSH-15 `{msh_15}` MSH-16 `{msh_16}`");
        if expects == Expects::Refusal {
            // A processing id that no table has.
            message = message.replacen("|P|2.6|", "|X|2.6|", 1);
            what += ", a bad one";
        }
        turns.push(Turn { what, message, expects });
    };
    for of in samples::EXAMPLES {
        turn(of, "AL", "NE", Expects::Acceptance);
    }
    let of = Transaction::Pcd01;
    turn(of, "", "", Expects::Acceptance);
    turn(of, "NE", "AL", Expects::Acceptance);
    for (msh_15, msh_16) in [("NE", "NE"), ("ER", "NE")] {
        turn(of, msh_15, msh_16, Expects::Silence);
        turn(of, "AL", "NE", Expects::Acceptance);
    }
    for (msh_15, msh_16) in [("AL", "NE"), ("", ""), ("ER", "NE")] {
        turn(of, msh_15, msh_16, Expects::Refusal);
    }
    turns
}

struct Line {
    stream: TcpStream,
    answers: Deframer,
    confirm: Duration,
}

impl Line {
    async fn exchange(&mut self, turn: &Turn) -> Result<Option<Vec<u8>>, NoAnswer> {
        let whole = async {
            self.stream.write_all(&framed(turn.message.as_bytes())).await?;
            if turn.expects == Expects::Silence {
                return Ok(None);
            }
            loop {
                if let Some(answer) = self.answers.next_message().map_err(|_| NoAnswer::NotAnAck)? {
                    return Ok(Some(answer.to_vec()));
                }
                if self.stream.read_buf(&mut self.answers.buffer).await? == 0 {
                    return Err(NoAnswer::Closed);
                }
            }
        };
        timeout(self.confirm, whole).await.map_err(|_| NoAnswer::Timeout(self.confirm))?
    }
}

fn faults(turn: &Turn, answer: &[u8]) -> Vec<String> {
    let (Some(sent), Some(ack)) = (Message::read(turn.message.as_bytes()), Message::read(answer)) else {
        return vec!["the answer has no MSH".into()];
    };
    let mut faults: Vec<String> =
        ack::answers(&sent, &ack, turn.expects == Expects::Acceptance).into_iter().map(str::to_owned).collect();
    match check(answer).filter(|verdict| verdict.transaction == Transaction::Ack) {
        None => faults.push("MSH-9.1 is not ACK".into()),
        Some(verdict) => {
            let of_answers = verdict.findings.iter().filter(|finding| finding.rule == "D01");
            faults.extend(of_answers.map(|f| format!("{}-{}: {}", f.segment, f.field, f.words)));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{Sink, SinkConfig, v2::AckMode};

    /// Waited in full once: a sink that takes everything has no answer where only errors are to be told.
    const CONFIRM: Duration = Duration::from_secs(3);

    async fn against(ack_mode: AckMode) -> Vec<Played> {
        let sink = Sink::start("127.0.0.1:0", SinkConfig { ack_mode, ..SinkConfig::default() }).await.unwrap();
        play(&sink.address().to_string(), &["PCD-01".into(), "PCD-04".into()], CONFIRM).await.unwrap()
    }

    #[tokio::test]
    async fn a_receiver_that_answers_as_asked_fails_only_where_it_accepts_what_is_bad() {
        let played = against(AckMode::AsAsked).await;
        let (bad, good): (Vec<_>, Vec<_>) = played.iter().partition(|turn| turn.what.ends_with("a bad one"));
        assert!(good.len() == 8 && good.iter().all(|turn| turn.faults.is_empty()), "{good:#?}");
        assert!(!bad.is_empty() && bad[0].faults.iter().any(|fault| fault.contains("MSA-1")), "{bad:#?}");
    }

    #[tokio::test]
    async fn a_receiver_that_knows_one_mode_only_is_found_out() {
        let played = against(AckMode::Original).await;
        assert!(played[0].faults.iter().any(|fault| fault.contains("MSA-1")), "{played:#?}");
    }

    #[tokio::test]
    async fn one_transaction_can_be_chosen_and_a_closed_port_is_told() {
        assert!(turns(&["PCD-10".into()]).iter().all(|turn| turn.what.starts_with("PCD-10")));
        assert!(play("127.0.0.1:1", &[], CONFIRM).await.is_err());
    }
}
