//! What is tolerated of each sender: the quirks it has, which of them are refused, and what is read in their place.
//!
//! The message is stored as received, always. Where a quirk is accepted whose meaning is a guess, all that read the message
//! (filters, devices, conformance, translation, `explain`) read the same guess, and say so. What must never happen: a guess
//! that nobody asked for, or one that is not told.

mod quirk;
mod scan;
#[cfg(test)]
mod tests;
mod zone;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::Serialize;

pub use quirk::{ABOUT, About, Quirk, Quirks};
pub use zone::Zone;

use scan::{Spot, scan};

use super::printable;
use crate::hl7::{
    Charset, CharsetError, Header, Message, ParseError, edit,
    repair::{self, Misframed},
};

/// What a channel tolerates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tolerance {
    /// Of senders that have no rules of their own.
    pub usual: Rules,
    /// By a sender's MSH-3.1 or MSH-3.2.
    pub senders: Vec<(String, Rules)>,
}

/// What is tolerated of one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Taken; where a repair is a guess, it is made.
    pub accepted: Quirks,
    /// Refused.
    pub refused: Quirks,
    /// Of times without one.
    pub zone: Option<Zone>,
    /// Of text that is not in the set it should be in.
    pub charset: Option<Charset>,
}

impl Default for Rules {
    fn default() -> Rules {
        let usual =
            |word: &str| -> Quirks { Quirk::all().filter(|q| q.about().settings.first() == Some(&word)).collect() };
        Rules { accepted: usual("accept"), refused: usual("refuse"), zone: None, charset: None }
    }
}

/// A quirk of one message: told to who may read the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Which.
    pub quirk: Quirk,
    /// Where it was met first, such as `OBX[3]-14`; empty for the whole message.
    pub place: String,
    /// Where that is in the message, bytes.
    #[serde(skip)]
    pub offset: usize,
    /// Places it was met at.
    pub places: usize,
    /// What it is.
    pub what: &'static str,
    /// What is read there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

impl Tolerance {
    /// What holds for the sender of a message.
    pub fn of(&self, message: &Message) -> &Rules {
        if self.senders.is_empty() {
            return &self.usual;
        }
        let name = message.msh().field(3).first();
        self.by_name([name.component(1).raw(), name.component(2).raw()])
    }

    /// The message in a frame, mended as far as its sender's rules say and as `Message::parse` reads it; `None` where there is
    /// nothing to mend.
    pub fn mended(&self, frame: &Bytes, fixed: Option<Charset>) -> Option<Result<Message, ParseError>> {
        if !self.mends_frames() {
            return None;
        }
        let header = Header::read(frame).0;
        let wanted = self.by_name([header.component(3, 1), header.component(3, 2)]).mended();
        if wanted == Misframed::default() { None } else { repair::mend(frame, wanted, fixed) }
    }

    /// The table that has the quirk refused for a message's sender, as it is written in the channel's file.
    pub fn table_that_refuses(&self, message: &Message, quirk: Quirk) -> String {
        let rules = self.of(message);
        let own = self.senders.iter().find(|(_, own)| std::ptr::eq(own, rules));
        match own {
            Some((name, _)) if !self.usual.refused.has(quirk) => format!("[[tolerance.sender]] {name}"),
            _ => "[tolerance]".to_owned(),
        }
    }

    /// Whether frames of any sender are mended before they are read.
    pub fn mends_frames(&self) -> bool {
        let rules = std::iter::once(&self.usual).chain(self.senders.iter().map(|(_, rules)| rules));
        rules.into_iter().any(|rules| rules.mended() != Misframed::default())
    }

    fn by_name(&self, names: [&[u8]; 2]) -> &Rules {
        let is = |known: &str| names.iter().any(|name| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes()));
        self.senders.iter().find(|(known, _)| is(known)).map_or(&self.usual, |(_, rules)| rules)
    }
}

impl Rules {
    /// The quirks of a message that was read in the set its listener rules; those of its text where they are accepted, since the
    /// check of the text tells them else.
    pub fn met(&self, message: &Message) -> Quirks {
        let mut met = Quirks::default();
        if self.charset.is_some() {
            let quirk = message.check_text().err().map(of_text).filter(|quirk| self.accepted.has(*quirk));
            quirk.into_iter().for_each(|quirk| met.insert(quirk));
        }
        scan(self, message, &mut |quirk, _| met.insert(quirk));
        met
    }

    /// The first refused of these.
    pub fn refuses(&self, met: Quirks) -> Option<Quirk> {
        // Text and control characters are refused by the checks of the text, with their place.
        let told = [Quirk::CharsetUnknown, Quirk::CharsetWrong, Quirk::ControlCharacter];
        met.iter().find(|quirk| self.refused.has(*quirk) && !told.contains(quirk))
    }

    /// What is read in the place of the message; `None` where that is the message itself.
    pub fn repaired(&self, message: &Message) -> Option<Message> {
        if !self.repairs() {
            return None;
        }
        let mut read = Cow::Borrowed(message);
        if let Some(charset) = self.charset
            && let Err(error) = message.check_text()
            && self.accepted.has(of_text(error))
            && let Ok(other) = message.clone().read_as(Some(charset), charset)
        {
            read = Cow::Owned(other);
        }
        let mut changes = Vec::new();
        scan(self, &read, &mut |_, spot| changes.extend(spot.change()));
        if !changes.is_empty() {
            changes.sort_by_key(|(range, _)| range.start);
            // Values with several quirks, such as a time without point and zone, are told more than once.
            changes.dedup();
            read = edit::replace(&read, changes).map_or(read, Cow::Owned);
        }
        match read {
            Cow::Borrowed(_) => None,
            Cow::Owned(read) => Some(read),
        }
    }

    /// Each quirk of the message once, with its first place and what is read there.
    pub fn notes(&self, message: &Message) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        let mut note = |quirk: Quirk, spot: Option<&Spot<'_>>| {
            if let Some(known) = notes.iter_mut().find(|known| known.quirk == quirk) {
                known.places += 1;
                return;
            }
            let (place, offset) = spot.map_or((String::new(), 0), |spot| (spot.place(message), spot.offset()));
            let read = spot.and_then(Spot::read).or_else(|| self.read_for(quirk));
            notes.push(Note { quirk, place, offset, places: 1, what: quirk.about().what, read });
        };
        if let Err(error) = message.check_text() {
            note(of_text(error), None);
        }
        scan(self, message, &mut |quirk, spot| note(quirk, Some(&spot)));
        notes.sort_by_key(|note| note.quirk);
        notes
    }

    /// Every place where something else is read than was sent: the quirk, the place, what is read.
    pub fn repairs_told(&self, message: &Message) -> Vec<(Quirk, String, String)> {
        let mut told = Vec::new();
        scan(self, message, &mut |quirk, spot| told.extend(spot.read().map(|read| (quirk, spot.place(message), read))));
        told
    }

    fn read_for(&self, quirk: Quirk) -> Option<String> {
        let of_text = matches!(quirk, Quirk::CharsetUnknown | Quirk::CharsetWrong) && self.accepted.has(quirk);
        self.charset.filter(|_| of_text).map(|charset| format!("in {charset}"))
    }

    /// What of a frame is mended before it is read.
    fn mended(&self) -> Misframed {
        let accepted = |quirk| self.accepted.has(quirk);
        Misframed { glued: accepted(Quirk::GluedSegments), doubled: accepted(Quirk::DoubledEscape) }
    }

    /// Whether `repaired` ever changes anything.
    fn repairs(&self) -> bool {
        let guesses = [Quirk::Milliseconds, Quirk::ControlCharacter];
        self.zone.is_some() || self.charset.is_some() || guesses.iter().any(|quirk| self.accepted.has(*quirk))
    }
}

/// A line for each, below what a message breaks.
pub(super) fn write_all(f: &mut fmt::Formatter<'_>, notes: &[Note]) -> fmt::Result {
    if notes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nQuirks")?;
    notes.iter().try_for_each(|note| writeln!(f, "  {}", printable(&note.to_string())))
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { quirk, place, places, what, read, .. } = self;
        write!(f, "{}", quirk.id())?;
        match (place.as_str(), places) {
            ("", _) => {}
            (place, 1) => write!(f, " {place}")?,
            (place, places) => write!(f, " {place} and {} more", places - 1)?,
        }
        write!(f, ": {what}")?;
        read.as_ref().map_or(Ok(()), |read| write!(f, " Read here: {read}."))
    }
}

/// The quirk that keeps text from being read.
pub fn of_text(error: CharsetError) -> Quirk {
    match error {
        CharsetError::Unknown => Quirk::CharsetUnknown,
        CharsetError::Illegal { .. } => Quirk::CharsetWrong,
    }
}

/// Of a mended message, those it was mended of; each with its first place.
fn misframed(message: &Message) -> impl Iterator<Item = (Quirk, usize)> + use<> {
    let (glued, doubled) = match message.is_repaired() {
        true => {
            let Misframed { glued, doubled } = repair::misframed_as_sent(&message.received(), message.charset().ok());
            let (parted, single) = repair::mended_places(message);
            (glued.then_some(parted.unwrap_or(0)), doubled.then_some(single.unwrap_or(0)))
        }
        false => repair::first_places(message),
    };
    let found = [glued.map(|at| (Quirk::GluedSegments, at)), doubled.map(|at| (Quirk::DoubledEscape, at))];
    found.into_iter().flatten()
}
