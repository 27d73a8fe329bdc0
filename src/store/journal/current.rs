//! The segment being written, and how a batch is planned into it and its successors. A segment is begun only when the
//! one before it is durable to its end, and has its name only once its own header is.

use super::{
    JournalError, Options, Record,
    files::{Files, Handle, fault, is_no_space},
    layout::{self, Key, SEGMENT_HEADER, SegmentHeader, record_bytes},
    mark::MarkFile,
    read::Extent,
    recover::{self, Tail},
    segment_path,
    spares::{self, CHUNK, Need, Spares},
};
use std::path::{Path, PathBuf};

/// The segment being written.
pub(super) struct Current {
    pub(super) file: Handle,
    pub(super) path: PathBuf,
    pub(super) extent: Extent,
    pub(super) key: Key,
    /// Known durable.
    pub(super) durable_to: u32,
    /// Zero-filled ahead.
    prepared: u32,
    /// Where it ends; less than its size where the disk was full when it was to grow.
    pub(super) limit: u32,
}

impl Current {
    /// The last segment as found, its torn tail cut.
    pub(super) fn mended(
        files: &dyn Files,
        directory: &Path,
        extent: Extent,
        tail: &Tail,
    ) -> Result<Current, JournalError> {
        let path = segment_path(directory, extent.header.number);
        recover::mend(files, &path, tail)?;
        let file = files.open_segment(&path).map_err(fault("open", &path))?;
        let bytes = file.length().map_err(fault("measure", &path))?;
        let size = extent.header.size;
        let prepared = u32::try_from(bytes).unwrap_or(size).min(size);
        Ok(Current { file, path, key: extent.header.key(), durable_to: extent.end, prepared, limit: size, extent })
    }

    pub(super) fn sync(&mut self, files: &dyn Files) -> Result<(), JournalError> {
        if self.durable_to < self.extent.end {
            files.sync(&self.file).map_err(fault("sync", &self.path))?;
            self.durable_to = self.extent.end;
        }
        Ok(())
    }

    /// Zero-fills to `end` and some way on. On a full disk the segment stays as long as it is.
    pub(super) fn grow(&mut self, files: &dyn Files, end: u32) -> Result<(), JournalError> {
        if end <= self.prepared {
            return Ok(());
        }
        let to = end.next_multiple_of(CHUNK).min(self.limit);
        match spares::zero_fill(files, &self.file, self.prepared, to, || false) {
            Ok(_) => {
                self.prepared = to;
                Ok(())
            }
            Err(error) if is_no_space(&error) => {
                self.limit = self.prepared.max(self.extent.end);
                Err(JournalError::Full)
            }
            Err(error) => Err(fault("prepare", &self.path)(error)),
        }
    }
}

/// Where a batch will go.
pub(super) struct Plan {
    pub(super) need: Need,
    /// How far it fills the current segment.
    pub(super) current_end: u32,
}

impl Plan {
    pub(super) fn of(records: &[Record], current: &Current, options: &Options) -> Result<Plan, JournalError> {
        let (mut end, mut limit, mut segments, mut bytes) = (current.extent.end, current.limit, 0, SEGMENT_HEADER);
        let mut current_end = end;
        for record in records {
            let size = record_bytes(record, options.segment_bytes)?;
            if size > limit - end {
                (end, limit) = (SEGMENT_HEADER, options.segment_bytes);
                segments += 1;
            }
            end += size;
            if segments == 0 {
                current_end = end;
            } else {
                bytes = bytes.max(end);
            }
        }
        Ok(Plan { need: Need { segments, bytes, left: limit - end, keeps_reserve: true }, current_end })
    }
}

/// Makes a spare the segment that `header` describes. It has its name only once its header is durable.
pub(super) fn begin(
    files: &dyn Files,
    directory: &Path,
    spares: &Spares,
    mark: &mut MarkFile,
    header: SegmentHeader,
) -> Result<Current, JournalError> {
    let spare = spares.take()?;
    let header = SegmentHeader { whole: spare.bytes == header.size, ..header };
    let file = files.open_segment(&spare.path).map_err(fault("open", &spare.path))?;
    files.write_at(&file, &header.encode(), 0).map_err(fault("write", &spare.path))?;
    files.sync(&file).map_err(fault("sync", &spare.path))?;
    let path = segment_path(directory, header.number);
    files.rename(&spare.path, &path).map_err(fault("rename", &spare.path))?;
    files.sync_directory(directory).map_err(fault("sync", directory))?;
    mark.update(files, |mark| (mark.last, mark.durable_to) = (header.number, 0))?;
    let extent = Extent { header, end: SEGMENT_HEADER, first: None, last: None };
    let (key, durable_to, limit) = (header.key(), SEGMENT_HEADER, header.size);
    Ok(Current { file, path, extent, key, durable_to, prepared: spare.bytes, limit })
}

/// Of the segment to follow `previous`.
pub(super) fn next_header(previous: Option<&Extent>, number: u64, highest: u64, options: &Options) -> SegmentHeader {
    SegmentHeader {
        size: options.segment_bytes,
        number,
        generation: layout::new_generation(),
        previous_end: previous.map_or(0, |extent| extent.end),
        lost: false,
        whole: false,
        previous_first: previous.and_then(|extent| extent.first).unwrap_or(0),
        previous_last: previous.and_then(|extent| extent.last).unwrap_or(0),
        highest,
    }
}
