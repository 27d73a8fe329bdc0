//! What is found in the directory on opening: which segments there are, whether that is all there must be, and where the
//! last one ends. Decides between a torn tail, which is cut, and damage, which is reported; changes nothing by itself
//! but what `mend` is asked to.

use super::{
    Damage, JournalError, Options, Position,
    files::{self, Files, fault},
    layout::{self, SEGMENT_HEADER, SegmentHeader},
    mark::{self, Mark},
    read::Extent,
    segment_path,
    spares::{self, Spare},
    walk::{Gap, Survey, Walk},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The files of a journal's directory by what they are for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) mark: Option<Mark>,
    /// By number.
    pub(super) segments: BTreeMap<u64, PathBuf>,
    /// Released segments whose file was not given up before the engine stopped.
    pub(super) released: Vec<PathBuf>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) unfinished: Vec<PathBuf>,
}

impl Found {
    pub(super) fn in_directory(files: &dyn Files, directory: &Path) -> Result<Found, JournalError> {
        let mut found = Found { mark: mark::read(files, directory)?, ..Found::default() };
        let first = found.mark.map_or(0, |mark| mark.first);
        for path in files.list(directory).map_err(fault("list", directory))? {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            match (path.extension().and_then(|extension| extension.to_str()), number) {
                (Some("journal"), Some(number)) if number < first => found.released.push(path),
                (Some("journal"), Some(number)) => drop(found.segments.insert(number, path)),
                (Some("spare"), _) => found.spares.push(path),
                (Some("tmp"), _) => found.unfinished.push(path),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Files to reuse as segments; what is left over of them, or was never finished, is deleted.
    pub(super) fn stock(&self, files: &dyn Files, options: &Options) -> Result<Vec<Spare>, JournalError> {
        let mut ready = Vec::new();
        for path in self.spares.iter().chain(&self.released) {
            let whole = files.length(path).is_ok_and(|bytes| bytes == u64::from(options.segment_bytes));
            if !whole || ready.len() >= spares::KEPT_MAX {
                files.remove(path).map_err(fault("delete", path))?;
                continue;
            }
            let spare = path.with_extension("spare");
            files.rename(path, &spare).map_err(fault("rename", path))?;
            ready.push(Spare { path: spare, bytes: options.segment_bytes });
        }
        for path in &self.unfinished {
            files.remove(path).map_err(fault("delete", path))?;
        }
        Ok(ready)
    }

    /// Nothing was ever kept here.
    pub(super) fn is_new(&self) -> bool {
        self.segments.is_empty() && self.mark.is_none_or(|mark| mark.last < mark.first)
    }
}

/// What the segments together are, as far as their headers, the mark and the last one's records tell.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Proved segments; the last one's end is where its proved records end, before any cut.
    pub(super) extents: BTreeMap<u64, Extent>,
    pub(super) highest: u64,
    pub(super) damage: Vec<Damage>,
    /// Segments that must be there and are not, or cannot be believed.
    pub(super) lost: Vec<u64>,
    /// Segments whose files are shorter than they were.
    truncated: Vec<u64>,
    pub(super) tail: Option<Tail>,
}

/// The last segment.
#[derive(Debug)]
pub(super) struct Tail {
    /// After the last record that stays.
    pub(super) end: u32,
    /// What the records that stay are known to have had durable when they were written.
    pub(super) durable_to: u32,
    /// A batch torn before it was ever durable: `end` up to the last trace of it.
    pub(super) torn: Option<Damage>,
    /// Damage was found in it: it may not be written to any more.
    pub(super) damaged: bool,
    /// Writing to it failed in this process: not a byte of it may be written any more, not even to cut it.
    pub(super) failed: bool,
}

/// Examines all that was found; reads headers, and the records of the last segment alone. `durable`: where this process
/// knows the durable part of what it wrote to end, after a write that failed.
pub(super) fn examine(
    files: &dyn Files,
    directory: &Path,
    found: &Found,
    durable: Option<Position>,
) -> Result<Examined, JournalError> {
    let mut examined = Examined::default();
    let last_found = found.segments.keys().next_back().copied().unwrap_or(0);
    let first_found = found.segments.keys().next().copied().unwrap_or(1);
    let (first, last) = found.mark.map_or((first_found, last_found), |mark| (mark.first, mark.last.max(last_found)));
    if found.mark.is_none() {
        let from = Position { segment: first, offset: 0 };
        let what = "the MARK file is missing or unreadable, so that a missing segment would not be noticed";
        examined.damage.push(segment_damage(&directory.join("MARK"), from, what));
    }
    for number in first..=last {
        match found.segments.get(&number) {
            Some(path) => examined.header(files, number, path)?,
            None => examined.lose(number, &segment_path(directory, number), "the segment is missing"),
        }
    }
    examined.seal();
    examined.survey_before_lost(files, directory)?;
    examined.name_lost();
    match durable {
        Some(durable) if durable.segment == last => examined.prove_durable(files, directory, durable)?,
        durable => {
            durable.map_or(Ok(()), |durable| examined.prove_durable(files, directory, durable))?;
            examined.examine_tail(files, directory, last, found.mark)?;
        }
    }
    Ok(examined)
}

impl Examined {
    fn header(&mut self, files: &dyn Files, number: u64, path: &Path) -> Result<(), JournalError> {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        let file = files.open_to_read(path).map_err(fault("open", path))?;
        let length = file.length().map_err(fault("measure", path))?;
        let there = files::read_full(&*file, &mut bytes, 0).map_err(fault("read", path))?;
        match SegmentHeader::decode(&bytes[..there]) {
            Ok(header) if header.number != number => self.lose(number, path, "the header names another segment"),
            Ok(header) => {
                if header.whole && length < u64::from(header.size) {
                    let from = Position { segment: number, offset: u32::try_from(length).unwrap_or(header.size) };
                    self.damage.push(segment_damage(path, from, "the file was truncated"));
                    self.truncated.push(number);
                }
                self.highest = self.highest.max(header.highest);
                self.extents.insert(number, Extent { header, end: SEGMENT_HEADER, first: None, last: None });
            }
            Err(what) => self.lose(number, path, what),
        }
        Ok(())
    }

    fn lose(&mut self, number: u64, path: &Path, what: &str) {
        self.damage.push(segment_damage(path, Position { segment: number, offset: 0 }, what));
        self.lost.push(number);
    }

    /// Gives each segment the end its successor's header states.
    fn seal(&mut self) {
        let headers: Vec<SegmentHeader> = self.extents.values().map(|extent| extent.header).collect();
        for header in headers {
            let before = header.number.checked_sub(1).and_then(|number| self.extents.get_mut(&number));
            if let Some(extent) = before.filter(|before| header.previous_end > SEGMENT_HEADER && !before.header.lost) {
                extent.end = header.previous_end;
                extent.first = Some(header.previous_first);
                extent.last = Some(header.previous_last);
            }
        }
    }

    /// Nobody states where a segment before a lost one ends: it is surveyed as the last one is.
    fn survey_before_lost(&mut self, files: &dyn Files, directory: &Path) -> Result<(), JournalError> {
        for number in self.lost.clone() {
            let Some(extent) = number.checked_sub(1).and_then(|before| self.extents.get(&before).copied()) else {
                continue;
            };
            let path = segment_path(directory, extent.header.number);
            let (_, survey) = survey(files, &path, &extent.header, extent.header.size)?;
            self.damage.extend(survey.gaps.iter().map(|gap| gap_damage(&path, number - 1, gap)));
            self.note(number - 1, &survey);
        }
        Ok(())
    }

    /// Says between which sequences the records of a lost segment lay: its neighbours tell.
    fn name_lost(&mut self) {
        for damage in self.damage.iter_mut().filter(|damage| self.lost.contains(&damage.from.segment)) {
            let number = damage.from.segment;
            let after = self.extents.range(number + 1..).next().map(|(_, extent)| extent.header);
            let told = after.filter(|header| header.number == number + 1).map(|header| header.previous_first);
            let before = self.extents.range(..number).rev().find_map(|(_, extent)| extent.last);
            let first = told.and_then(|first| first.checked_sub(1)).filter(|before| *before > 0);
            damage.sequences = (before.or(first), after.map(|header| header.highest + 1));
        }
    }

    fn examine_tail(
        &mut self,
        files: &dyn Files,
        directory: &Path,
        last: u64,
        mark: Option<Mark>,
    ) -> Result<(), JournalError> {
        let Some(header) = self.extents.get(&last).map(|extent| extent.header) else { return Ok(()) };
        let path = segment_path(directory, last);
        let (mut walk, whole) = survey(files, &path, &header, header.size)?;
        let vouched = mark.filter(|mark| mark.last == last).map_or(0, |mark| mark.durable_to);
        let durable_to = whole.durable_to.max(vouched);
        let cut = whole.gaps.iter().map(|gap| gap.from).find(|from| *from >= durable_to);
        let kept = match cut {
            Some(cut) => survey(files, &path, &header, cut)?.1,
            None => whole.clone(),
        };
        let claimed = walk.claimed_at(kept.end).map_err(fault("read", &path))?;
        let traces = whole.end.max(kept.end + claimed);
        let lost = kept.end < vouched;
        // Where nothing of this segment is kept, what came before it says after which sequence something is missing.
        let told = Survey { last: kept.last.or(Some(header.highest).filter(|before| *before > 0)), ..kept.clone() };
        let torn = (traces > kept.end && !lost).then(|| torn_damage(&path, last, &told, traces));
        self.damage.extend(kept.gaps.iter().map(|gap| gap_damage(&path, last, gap)));
        let end = Position { segment: last, offset: kept.end };
        if let Some(closed) = mark.and_then(|mark| mark.closed_at).filter(|closed| *closed != end) {
            self.damage.push(closed_damage(&path, end, closed, told.last));
        } else if lost {
            self.damage.push(lost_end(&path, Position { segment: last, offset: vouched }, &told));
        }
        let damaged = header.lost || self.damage.iter().any(|damage| damage.path == path);
        self.note(last, &kept);
        self.tail =
            Some(Tail { end: kept.end, durable_to: whole.durable_to.min(kept.end), torn, damaged, failed: false });
        Ok(())
    }

    /// The segment in which a write failed: all that was durable must be proved again, and nothing after it counts.
    fn prove_durable(&mut self, files: &dyn Files, directory: &Path, durable: Position) -> Result<(), JournalError> {
        let Position { segment: number, offset } = durable;
        let Some(header) = self.extents.get(&number).map(|extent| extent.header) else { return Ok(()) };
        let path = segment_path(directory, number);
        let kept = survey(files, &path, &header, offset)?.1;
        self.damage.extend(kept.gaps.iter().map(|gap| gap_damage(&path, number, gap)));
        if kept.end != offset {
            self.damage.push(lost_end(&path, durable, &kept));
        }
        self.note(number, &kept);
        self.tail = Some(Tail { end: kept.end, durable_to: kept.end, torn: None, damaged: false, failed: true });
        Ok(())
    }

    fn note(&mut self, number: u64, survey: &Survey) {
        self.highest = self.highest.max(survey.highest.unwrap_or(0));
        if let Some(extent) = self.extents.get_mut(&number) {
            (extent.end, extent.first, extent.last) = (survey.end, survey.first, survey.last);
        }
    }

    /// Puts an empty segment, marked as that, in the place of each lost one, so that the loss stays visible to every later
    /// scan; the unbelievable file is kept aside for whoever can make something of it. A truncated file gets its length back,
    /// and shows what it lost when it is read.
    pub(super) fn stand_in(&mut self, files: &dyn Files, directory: &Path, size: u32) -> Result<(), JournalError> {
        for number in self.lost.clone() {
            let path = segment_path(directory, number);
            if files.exists(&path) {
                files.rename(&path, &path.with_extension("damaged")).map_err(fault("rename", &path))?;
            }
            let before = number.checked_sub(1).and_then(|before| self.extents.get(&before));
            let header = SegmentHeader {
                size,
                number,
                generation: layout::new_generation(),
                previous_end: before.map_or(0, |extent| extent.end),
                lost: true,
                whole: false,
                previous_first: before.and_then(|extent| extent.first).unwrap_or(0),
                previous_last: before.and_then(|extent| extent.last).unwrap_or(0),
                highest: self.highest,
            };
            write_stand_in(files, &path, &header)?;
            self.extents.insert(number, Extent { header, end: SEGMENT_HEADER, first: None, last: None });
        }
        for number in &self.truncated {
            let path = segment_path(directory, *number);
            let end = self.extents.get(number).map_or(1, |extent| extent.header.size) - 1;
            let file = files.open(&path).map_err(fault("open", &path))?;
            files.write_at(&file, &[0], u64::from(end)).map_err(fault("lengthen", &path))?;
            files.sync(&file).map_err(fault("sync", &path))?;
        }
        files.sync_directory(directory).map_err(fault("sync", directory))
    }
}

fn write_stand_in(files: &dyn Files, path: &Path, header: &SegmentHeader) -> Result<(), JournalError> {
    let unready = path.with_extension("tmp");
    let file = files.create(&unready).map_err(fault("create", &unready))?;
    files.write_at(&file, &header.encode(), 0).map_err(fault("write", &unready))?;
    files.sync(&file).map_err(fault("sync", &unready))?;
    files.rename(&unready, path).map_err(fault("rename", &unready))
}

/// Cuts the torn batch off, durably, and writes again what was never known durable: after a failed sync the kernel may
/// show bytes the disk does not have, and only a new write makes it try again.
pub(super) fn mend(files: &dyn Files, path: &Path, tail: &Tail) -> Result<(), JournalError> {
    let file = files.open(path).map_err(fault("open", path))?;
    if let Some(torn) = &tail.torn {
        let zeros = vec![0; (torn.to.offset - tail.end) as usize];
        files.write_at(&file, &zeros, u64::from(tail.end)).map_err(fault("cut the torn end of", path))?;
    }
    let mut unproved = vec![0; (tail.end - tail.durable_to) as usize];
    let from = u64::from(tail.durable_to);
    files::read_exact(&*file, &mut unproved, from).map_err(fault("read", path))?;
    files.write_at(&file, &unproved, from).map_err(fault("write", path))?;
    files.sync(&file).map_err(fault("sync", path))
}

/// Surveys the segment up to `limit`, or to where its file ends.
pub(super) fn survey(
    files: &dyn Files,
    path: &Path,
    header: &SegmentHeader,
    limit: u32,
) -> Result<(Walk, Survey), JournalError> {
    let file = files.open_to_read(path).map_err(fault("open", path))?;
    let mut walk = Walk::new(file, header.key(), limit);
    let survey = Survey::of(&mut walk).map_err(fault("read", path))?;
    Ok((walk, survey))
}

pub(super) fn gap_damage(path: &Path, segment: u64, gap: &Gap) -> Damage {
    Damage {
        path: path.to_owned(),
        from: Position { segment, offset: gap.from },
        to: Position { segment, offset: gap.to },
        what: "what was durable here is no longer proved by its checksum".into(),
        sequences: gap.sequences,
    }
}

fn torn_damage(path: &Path, segment: u64, kept: &Survey, to: u32) -> Damage {
    Damage {
        path: path.to_owned(),
        from: Position { segment, offset: kept.end },
        to: Position { segment, offset: to },
        what: "a batch that was never durable, and so never acknowledged, was torn".into(),
        sequences: (kept.last, None),
    }
}

/// Records up to `durable` were synced, and are proved no further than `kept`.
fn lost_end(path: &Path, durable: Position, kept: &Survey) -> Damage {
    Damage {
        path: path.to_owned(),
        from: Position { offset: kept.end, ..durable },
        to: durable,
        what: "what was durable at the end is gone or changed".into(),
        sequences: (kept.last, None),
    }
}

fn closed_damage(path: &Path, end: Position, closed: Position, last: Option<u64>) -> Damage {
    Damage {
        path: path.to_owned(),
        from: end,
        to: closed,
        what: "the journal was closed at another place than it ends now".into(),
        sequences: (last, None),
    }
}

fn segment_damage(path: &Path, from: Position, what: &str) -> Damage {
    Damage { path: path.to_owned(), from, to: from, what: what.into(), sequences: (None, None) }
}
