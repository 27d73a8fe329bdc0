//! I1 as the kernel sees it: for every positive answer, the write of its message to the journal and a sync of that file
//! were over before the answer was written to the socket. Told by strace, which needs no part of the engine.

use crate::MessageId;
use crate::verify::broken::ensure;
use crate::verify::site::Plan;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Broken, Column, Fault, Site};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

const ANSWERS: u64 = 20;

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "I1",
    what: "on the medium before the ACK (strace)",
    quick: 1,
    release: 10,
    group: 1,
    patience: Duration::from_secs(300),
    needs: |tools| tools.programs(&["strace"]),
    plan: |_| plan(),
    prepare: |site| Box::pin(async { traced(site) }),
    cycle: |site, _| Box::pin(medium_before_ack(site)),
    ..Fault::BASE
}];

fn plan() -> Plan {
    let gateways = TrafficPlan { mode: Mode::Lockstep, connections: 2, rate: 20.0, obx: 1, ..TrafficPlan::USUAL };
    Plan { traffic: vec![gateways], ..Plan::strict() }
}

/// With `-D` the engine stays this process's child, and the tracer is beside it.
fn traced(site: &mut Site) -> Result<(), Broken> {
    let trace = site.folder.join("trace").display().to_string();
    let calls = "trace=pwrite64,fdatasync,sendto,sendmsg,write,writev";
    let words = ["strace", "-D", "-f", "-q", "-y", "-s", "8000", "-e", calls, "-o", &trace];
    site.engine.wrapper = words.map(str::to_owned).to_vec();
    Ok(())
}

async fn medium_before_ack(site: &mut Site) -> Result<(), Broken> {
    site.under_load(ANSWERS).await?;
    let trace = fs::read_to_string(site.folder.join("trace"))?;
    let mut seen = Seen::default();
    trace.lines().for_each(|line| seen.line(line));
    ensure(seen.early.is_empty(), Column::Lost, || {
        format!("answered before they were on the medium: {:?}", seen.early)
    })?;
    let answers = seen.answers;
    ensure(answers >= ANSWERS, Column::Checker, || format!("only {answers} answers are in the trace"))?;
    // Nothing was done to the engine; the cycle is what was looked at.
    site.injected(1);
    Ok(())
}

/// What the trace has shown so far, line by line.
#[derive(Debug, Default)]
struct Seen {
    /// Messages written to a file and not yet synced there.
    written: HashMap<String, HashSet<MessageId>>,
    durable: HashSet<MessageId>,
    /// Calls begun by a thread and not over: the file, and what the call makes of which messages.
    begun: HashMap<String, Call>,
    answers: u64,
    early: Vec<String>,
}

#[derive(Debug)]
enum Call {
    Write(String, HashSet<MessageId>),
    Sync(HashSet<MessageId>),
}

impl Seen {
    fn line(&mut self, line: &str) {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { return };
        let call = call.trim_start();
        if call.starts_with("<... ") {
            let good = call.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
            let begun = self.begun.remove(thread);
            begun.filter(|_| good).into_iter().for_each(|begun| self.over(begun));
            return;
        }
        let Some(begun) = self.begin(call) else { return };
        if call.ends_with("<unfinished ...>") {
            self.begun.insert(thread.to_owned(), begun);
        } else if call.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-')) {
            self.over(begun);
        }
    }

    /// An answer counts when its write begins, a sync covers only writes that were over when it began.
    fn begin(&mut self, call: &str) -> Option<Call> {
        let (name, arguments) = call.split_once('(')?;
        let file = arguments.split_once('<')?.1.split_once('>')?.0;
        match name {
            "pwrite64" if file.ends_with(".journal") => Some(Call::Write(file.to_owned(), ids(arguments).collect())),
            "fdatasync" if file.ends_with(".journal") => {
                Some(Call::Sync(self.written.get(file).cloned().unwrap_or_default()))
            }
            "sendto" | "sendmsg" | "write" | "writev" => {
                arguments.split("MSA|").skip(1).for_each(|answer| self.answer(answer));
                None
            }
            _ => None,
        }
    }

    fn over(&mut self, call: Call) {
        match call {
            Call::Write(file, ids) => self.written.entry(file).or_default().extend(ids),
            Call::Sync(ids) => self.durable.extend(ids),
        }
    }

    fn answer(&mut self, text: &str) {
        let positive = text.starts_with("AA|") || text.starts_with("CA|");
        let Some(id) = ids(text).next().filter(|_| positive) else { return };
        self.answers += 1;
        if !self.durable.contains(&id) {
            self.early.push(id.to_string());
        }
    }
}

fn ids(text: &str) -> impl Iterator<Item = MessageId> + '_ {
    text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.')).filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const WRITE: &str = r#"7 pwrite64(9</s/1.journal>, "\1|0000005e.0.1|", 15, 0) = 15"#;
    const SYNC: &str = "7 fdatasync(9</s/1.journal>) = 0";
    const ANSWER: &str = r#"8 sendto(3<TCP:[1]>, "\vMSH|\rMSA|CA|0000005e.0.1\r", 20, 0, NULL, 0) = 20"#;

    fn early(lines: &[&str]) -> (u64, usize) {
        let mut seen = Seen::default();
        lines.iter().for_each(|line| seen.line(line));
        (seen.answers, seen.early.len())
    }

    #[test]
    fn an_answer_after_write_and_sync_is_right() {
        assert_eq!(early(&[WRITE, SYNC, ANSWER]), (1, 0));
    }

    #[test]
    fn an_answer_before_the_sync_is_over_is_seen() {
        assert_eq!(early(&[WRITE, ANSWER, SYNC]), (1, 1));
        assert_eq!(early(&[SYNC, WRITE, ANSWER]), (1, 1));
        let begun = "7 fdatasync(9</s/1.journal> <unfinished ...>";
        let over = "7 <... fdatasync resumed>) = 0";
        assert_eq!(early(&[WRITE, begun, ANSWER, over]), (1, 1));
        assert_eq!(early(&[WRITE, begun, over, ANSWER]), (1, 0));
        assert_eq!(early(&[begun, WRITE, over, ANSWER]), (1, 1), "the write was not over when the sync began");
    }

    #[test]
    fn a_sync_that_failed_or_was_of_another_file_does_not_count() {
        assert_eq!(early(&[WRITE, "7 fdatasync(9</s/1.journal>) = -1 EIO (Input/output error)", ANSWER]), (1, 1));
        assert_eq!(early(&[WRITE, "7 fdatasync(9</s/2.journal>) = 0", ANSWER]), (1, 1));
    }

    #[test]
    fn a_refusal_needs_no_medium() {
        assert_eq!(early(&[&ANSWER.replace("CA", "CR")]), (0, 0));
    }
}
