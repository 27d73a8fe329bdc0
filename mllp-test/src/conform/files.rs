//! Messages in files and folders, checked one after the other; a control id that comes twice for different messages of one
//! sender is found only here.

use super::{Finding, Severity, Verdict, check, rules};
use crate::v2::{self, messages_in};
use serde::Serialize;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// One message of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The file.
    pub file: PathBuf,
    /// Which message of it, from 1.
    pub message: usize,
    /// What is to be said of it; none where it is no IHE PCD message.
    pub verdict: Option<Verdict>,
}

/// Checks every message in the files, and in the files `*.hl7` and `*.txt` of the folders.
pub fn check_files(paths: &[PathBuf]) -> io::Result<Vec<Checked>> {
    let mut seen = HashMap::new();
    let mut checked = Vec::new();
    for file in files(paths)? {
        let bytes =
            fs::read(&file).map_err(|fault| io::Error::new(fault.kind(), format!("{}: {fault}", file.display())))?;
        for (number, message) in (1..).zip(messages_in(&bytes)) {
            let mut verdict = check(&message);
            if let Some(verdict) = &mut verdict {
                verdict.findings.extend(reused(&mut seen, &message));
                verdict.findings.sort_by_key(|finding| finding.rule);
            }
            checked.push(Checked { file: file.clone(), message: number, verdict });
        }
    }
    Ok(checked)
}

fn files(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> =
                fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
            inside.retain(|file| is_messages(file));
            inside.sort();
            files.append(&mut inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn is_messages(file: &Path) -> bool {
    file.is_file() && file.extension().is_some_and(|extension| extension == "hl7" || extension == "txt")
}

/// A05 over all messages of a run: sender and control id, with the hash of the message that had them first.
fn reused(seen: &mut HashMap<(Vec<u8>, Vec<u8>), u64>, message: &[u8]) -> Option<Finding> {
    let field = |number| v2::field(message, "MSH", number).unwrap_or_default().to_vec();
    let (sender, control_id, hash) = (field(3), field(10), v2::hash(message));
    if control_id.is_empty() || *seen.entry((sender, control_id)).or_insert(hash) == hash {
        return None;
    }
    let rule = rules::row("A05")?;
    Some(Finding {
        rule: rule.id,
        severity: Severity::Error,
        section: rule.section,
        segment: "MSH".into(),
        number: 1,
        field: 10,
        words: "the control id was another message's of this sender",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_control_id_of_two_messages_of_one_sender_is_found_and_a_repeat_is_none() {
        let message = |sender: &str, id: &str, patient: &str| {
            format!("MSH|^~\\&|{sender}||||||ORU^R40|{id}|P|2.6\rPID|||{patient}\r").into_bytes()
        };
        let mut seen = HashMap::new();
        assert!(reused(&mut seen, &message("GW", "1", "A")).is_none());
        assert!(reused(&mut seen, &message("GW", "1", "A")).is_none(), "the same message again");
        assert!(reused(&mut seen, &message("GW2", "1", "B")).is_none(), "another sender's");
        assert_eq!(reused(&mut seen, &message("GW", "1", "B")).unwrap().rule, "A05");
    }
}
