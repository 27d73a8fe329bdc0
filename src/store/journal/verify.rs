//! Proving every record of a journal that no engine has open. Changes nothing.

use super::{
    Damage, JournalError, Position,
    files::{Disk, Files},
    lock, recover, segment_path,
};
use recover::{Examined, Found};
use std::path::Path;

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that are there.
    pub segments: u64,
    /// Records proved.
    pub records: u64,
    /// Bytes of segments gone through.
    pub bytes: u64,
    /// Of the first and the last record.
    pub sequences: (Option<u64>, Option<u64>),
    /// All that is not as it was written. Empty: the journal is whole.
    pub damage: Vec<Damage>,
    /// A batch that was never durable, to be cut when the engine starts. No damage.
    pub torn: Option<Damage>,
}

/// Proves every record in `directory`, telling `progress` after each segment how many bytes of how many are done.
/// `Locked` while an engine has it open; damage is in the report, never an error.
pub fn verify(directory: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Report, JournalError> {
    let files: &dyn Files = &Disk;
    let _lock = lock(files, directory, false)?;
    let found = Found::in_directory(files, directory)?;
    let Examined { extents, damage, tail, .. } =
        if found.is_new() { Examined::default() } else { recover::examine(files, directory, &found, None)? };
    let all = extents.values().map(|extent| u64::from(extent.end)).sum();
    let torn = tail.and_then(|tail| tail.torn);
    let mut report = Report { damage, torn, ..Report::default() };
    for (number, extent) in &extents {
        let path = segment_path(directory, *number);
        let survey = recover::survey(files, &path, &extent.header, extent.end)?.1;
        let short = (survey.end < extent.end).then(|| missing_end(&path, *number, survey.end, extent.end, survey.last));
        let gaps = survey.gaps.iter().map(|gap| recover::gap_damage(&path, *number, gap));
        for damage in gaps.chain(short) {
            if !report.damage.contains(&damage) {
                report.damage.push(damage);
            }
        }
        report.segments += 1;
        report.records += survey.records;
        report.bytes += u64::from(extent.end);
        report.sequences = (report.sequences.0.or(survey.first), survey.last.or(report.sequences.1));
        progress(report.bytes, all);
    }
    Ok(report)
}

fn missing_end(path: &Path, segment: u64, from: u32, to: u32, last: Option<u64>) -> Damage {
    Damage {
        path: path.to_owned(),
        from: Position { segment, offset: from },
        to: Position { segment, offset: to },
        what: "the end of the segment is missing or changed".into(),
        sequences: (last, None),
    }
}
