//! The quirks that senders are known for: one table, from which configuration keys, counts and documentation are made.

use serde::{Serialize, Serializer};

/// One way in which a sender's messages are not what the standard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // `ABOUT` says what each is.
pub enum Quirk {
    ByteOrderMark,
    LineFeed,
    BlankLine,
    NoTerminator,
    GluedSegments,
    DoubledEscape,
    ControlCharacter,
    CharsetUnnamed,
    CharsetUnknown,
    CharsetWrong,
    Milliseconds,
    NoZone,
    DstFold,
    DstGap,
    Obx4Form,
    ValueWithX,
    Noise,
    NoFrameEnd,
}

/// What there is to know of a quirk.
pub struct About {
    /// Its name: in TOML, metrics, the API and documentation.
    pub id: &'static str,
    /// What it is and what is done with it.
    pub what: &'static str,
    /// What may be set for it, the first being what holds where nothing is.
    pub settings: &'static [&'static str],
    /// Table 0357 code of the refusal.
    pub code: u16,
}

/// Taken as what it plainly means.
const PLAIN: &[&str] = &["accept", "refuse"];
/// What it means is a guess, which is made only where it is asked for.
const GUESS: &[&str] = &["as-sent", "accept", "refuse"];
/// Refused unless it is asked for.
const STRICT: &[&str] = &["refuse", "accept"];
/// Outside of messages, before it is known who sends.
const COUNTED: &[&str] = &[];

const fn about(id: &'static str, settings: &'static [&'static str], code: u16, what: &'static str) -> About {
    About { id, what, settings, code }
}

/// In the order of [`Quirk`].
pub static ABOUT: [About; 18] = [
    about("byte_order_mark", PLAIN, 100, "A byte order mark before MSH; it is read over."),
    about("line_feed", PLAIN, 100, "Segments that end in LF or CRLF; read as if in CR."),
    about("blank_line", PLAIN, 100, "Blank lines or blanks between segments or before MSH; read over."),
    about("no_terminator", PLAIN, 100, "No CR after the last segment."),
    about(
        "glued_segments",
        GUESS,
        100,
        "A segment (PID, PV1, PV2, OBR, OBX, NTE, PRT, AL1, DG1 or IN1, its set id a number or empty) in the middle of a line: the CR before it is missing. `accept` parts them; `as-sent` leaves them in the field they stand in.",
    ),
    about(
        "doubled_escape",
        GUESS,
        102,
        "The escape character twice (`\\\\`), as programs write it that escape a text once too often, in MSH-2 too. `accept` reads two as one.",
    ),
    about(
        "control_character",
        STRICT,
        102,
        "A control character other than CR, LF and TAB in the message. `accept` reads it as if it were escaped (`\\X00\\`); VT and FS are refused in any case.",
    ),
    about(
        "charset_unnamed",
        PLAIN,
        101,
        "MSH-18 is empty and bytes are above 0x7F; they are read in the listener's `charset_default`.",
    ),
    about(
        "charset_unknown",
        STRICT,
        103,
        "MSH-18 names a set that is not known. `accept` reads the text in `charset`.",
    ),
    about(
        "charset_wrong",
        STRICT,
        102,
        "The text is not legal in the set that MSH-18 or the listener names. `accept` reads all of it in `charset`; what is not legal there either is refused.",
    ),
    about(
        "milliseconds",
        GUESS,
        102,
        "A time of 17 digits, milliseconds without their point (`20260124131540000`). `accept` reads it with the point.",
    ),
    about(
        "no_zone",
        PLAIN,
        102,
        "A time of day without a zone, where MSH-7 has none either. With `zone` it is read in that.",
    ),
    about(
        "dst_fold",
        PLAIN,
        102,
        "A time read in `zone` that came twice, since the clocks were set back; the first of the two is taken.",
    ),
    about(
        "dst_gap",
        PLAIN,
        102,
        "A time read in `zone` that never was, since the clocks were set forward; it is taken by the clock before.",
    ),
    about(
        "obx_4_form",
        PLAIN,
        102,
        "OBX-4 of an MDC code that is not four to six dotted numbers; one to three are read as far as they go, anything else is no place in the device.",
    ),
    about(
        "x_with_value",
        PLAIN,
        102,
        "OBX-11 is X, no result, and OBX-5 has a value; as FHIR the value goes out with the status `unknown`.",
    ),
    about("noise", COUNTED, 0, "Bytes between the frames, such as NULs and line ends; counted for who sends the next."),
    about("no_frame_end", COUNTED, 0, "A frame whose FS no CR follows."),
];

impl Quirk {
    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Quirk> {
        ALL.into_iter()
    }

    /// Those that may be set.
    pub fn settable() -> impl Iterator<Item = Quirk> {
        Quirk::all().filter(|quirk| !quirk.about().settings.is_empty())
    }

    /// What there is to know of it.
    pub const fn about(self) -> &'static About {
        &ABOUT[self as usize]
    }

    /// Its name.
    pub const fn id(self) -> &'static str {
        self.about().id
    }
}

const ALL: [Quirk; 18] = [
    Quirk::ByteOrderMark,
    Quirk::LineFeed,
    Quirk::BlankLine,
    Quirk::NoTerminator,
    Quirk::GluedSegments,
    Quirk::DoubledEscape,
    Quirk::ControlCharacter,
    Quirk::CharsetUnnamed,
    Quirk::CharsetUnknown,
    Quirk::CharsetWrong,
    Quirk::Milliseconds,
    Quirk::NoZone,
    Quirk::DstFold,
    Quirk::DstGap,
    Quirk::Obx4Form,
    Quirk::ValueWithX,
    Quirk::Noise,
    Quirk::NoFrameEnd,
];

impl Serialize for Quirk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// A set of quirks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quirks(u32);

impl Quirks {
    /// Adds one.
    pub fn insert(&mut self, quirk: Quirk) {
        self.0 |= 1 << quirk as u8;
    }

    /// Takes one out.
    pub fn remove(&mut self, quirk: Quirk) {
        self.0 &= !(1 << quirk as u8);
    }

    /// Whether it is among them.
    pub fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    pub fn and(self, other: Quirks) -> Quirks {
        Quirks(self.0 | other.0)
    }

    /// In order.
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::all().filter(move |quirk| self.has(*quirk))
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Quirks {
        let mut set = Quirks::default();
        quirks.into_iter().for_each(|quirk| set.insert(quirk));
        set
    }
}
