//! Keys of `[tolerance]`: one for each quirk that can be set, by the table of quirks.

use super::{
    Absent::{Is, Optional, Required},
    Key,
    Kind::{self, Choice, Text},
    Table, key,
};
use crate::pcd::tolerance::{About, Quirk};

pub(in crate::config) static TOLERANCE: Table = Table {
    title: "[tolerance]",
    keys: &[
        usual(Quirk::ByteOrderMark),
        usual(Quirk::LineFeed),
        usual(Quirk::BlankLine),
        usual(Quirk::NoTerminator),
        usual(Quirk::GluedSegments),
        usual(Quirk::DoubledEscape),
        usual(Quirk::ControlCharacter),
        usual(Quirk::CharsetUnnamed),
        usual(Quirk::CharsetUnknown),
        usual(Quirk::CharsetWrong),
        usual(Quirk::Milliseconds),
        usual(Quirk::NoZone),
        usual(Quirk::DstFold),
        usual(Quirk::DstGap),
        usual(Quirk::Obx4Form),
        usual(Quirk::ValueWithX),
        ZONE,
        CHARSET,
        key(
            "sender",
            Kind::Many(&TOLERANCE_SENDER),
            Optional,
            "Senders of which other things are tolerated, a table each.",
        ),
    ],
};

pub(in crate::config) static TOLERANCE_SENDER: Table = Table {
    title: "[[tolerance.sender]]",
    keys: &[
        key("name", Text("text"), Required, "Its MSH-3.1 or MSH-3.2."),
        own(Quirk::ByteOrderMark),
        own(Quirk::LineFeed),
        own(Quirk::BlankLine),
        own(Quirk::NoTerminator),
        own(Quirk::GluedSegments),
        own(Quirk::DoubledEscape),
        own(Quirk::ControlCharacter),
        own(Quirk::CharsetUnnamed),
        own(Quirk::CharsetUnknown),
        own(Quirk::CharsetWrong),
        own(Quirk::Milliseconds),
        own(Quirk::NoZone),
        own(Quirk::DstFold),
        own(Quirk::DstGap),
        own(Quirk::Obx4Form),
        own(Quirk::ValueWithX),
        ZONE,
        CHARSET,
    ],
};

const ZONE: Key = key(
    "zone",
    Text("zone such as Europe/Berlin, or offset such as +01:00"),
    Optional,
    "Zone of the sender's clock: times of day without a zone are read in it, where MSH-7 has none either.",
);

const CHARSET: Key = key(
    "charset",
    Text("charset"),
    Optional,
    "The set text is in where it is not in the one it should be in; for `charset_wrong` and `charset_unknown`.",
);

/// Its default is the first of its settings.
const fn usual(quirk: Quirk) -> Key {
    let About { id, what, settings, .. } = quirk.about();
    key(id, Choice(settings), Is(settings[0]), what)
}

const fn own(quirk: Quirk) -> Key {
    let About { id, settings, .. } = quirk.about();
    key(id, Choice(settings), Optional, "As in `[tolerance]`, which holds where it is not written here.")
}
