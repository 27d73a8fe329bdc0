//! The command `conform`: findings about files, and how a listener answers.

use super::{Failure, args::ConformArgs};
use mllp_test::conform::{Checked, RULES, Severity, Verdict, check_files, play};
use mllp_test::count;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf};

impl ConformArgs {
    pub(super) async fn run(self, json: bool) -> Result<bool, Failure> {
        let is_address = |target: &PathBuf| !target.exists() && target.to_string_lossy().contains(':');
        let (addresses, files): (Vec<PathBuf>, Vec<PathBuf>) = self.targets.iter().cloned().partition(is_address);
        let checked = check_files(&files)?;
        let errors = checked.iter().filter(|message| message.verdict.as_ref().is_some_and(Verdict::has_errors)).count();
        let mut good = !self.strict || errors == 0;
        let mut listeners = Vec::new();
        for address in &addresses {
            let played = play(&address.to_string_lossy(), &self.transaction, self.confirm).await?;
            // Nothing sent proves nothing.
            good &= !played.is_empty() && played.iter().all(|turn| turn.faults.is_empty());
            listeners.push((address, played));
        }
        if json {
            let listeners: Vec<_> =
                listeners.iter().map(|(address, played)| json!({ "address": address, "played": played })).collect();
            println!("{:#}", json!({ "messages": checked, "listeners": listeners }));
            return Ok(good);
        }
        for (address, played) in &listeners {
            println!("{}", address.display());
            played.iter().for_each(|turn| println!("{turn}"));
        }
        if !files.is_empty() {
            print_messages(&checked, errors);
        }
        Ok(good)
    }
}

fn print_messages(checked: &[Checked], errors: usize) {
    let mut breaches: BTreeMap<&str, usize> = BTreeMap::new();
    for message in checked {
        let place = format!("{} {}", message.file.display(), message.message);
        let Some(verdict) = &message.verdict else {
            println!("{place}: of no IHE PCD transaction");
            continue;
        };
        let name = serde_json::to_value(verdict.transaction).unwrap_or_default();
        println!("{place}: {}, {}", name.as_str().unwrap_or_default(), count(verdict.findings.len(), "finding"));
        for finding in &verdict.findings {
            println!("    {finding}");
        }
        let mut rules: Vec<&str> = verdict.findings.iter().map(|finding| finding.rule).collect();
        rules.dedup();
        rules.into_iter().for_each(|rule| *breaches.entry(rule).or_default() += 1);
    }
    println!("{}, {errors} with errors", count(checked.len(), "message"));
    for rule in RULES.iter().filter(|rule| breaches.contains_key(rule.id)) {
        let severity = if rule.severity == Severity::Error { "error" } else { "warning" };
        println!("{:>5} break {} ({severity}): {}", breaches[rule.id], rule.id, rule.what);
    }
}
