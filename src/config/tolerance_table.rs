//! `[tolerance]` of a channel: what is accepted and refused of its senders.

use super::{
    channel_file::charset,
    reader::{Reader, named_once},
    source::Problem,
    value,
};
use crate::pcd::tolerance::{Quirk, Rules, Tolerance, Zone};

/// Reads the table; what a sender has not of its own is the channel's.
pub(super) fn read(table: &Reader<'_>) -> Option<Tolerance> {
    let usual = rules(table, &Rules::default());
    // Faults of senders are told also where the channel's own rules are faulty.
    let under = usual.clone().unwrap_or_default();
    let own = |sender: &Reader<'_>| {
        let (name, rules) = (sender.text("name", value::trimmed), rules(sender, &under));
        Some((name?, rules?))
    };
    let tables = table.many("sender");
    named_once(&tables);
    let senders: Vec<_> = tables.iter().map(own).collect();
    let tolerance = Tolerance { usual: usual?, senders: senders.into_iter().collect::<Option<_>>()? };
    let own = || tolerance.senders.iter().map(|(_, rules)| rules);
    check_use(table, std::iter::once(&tolerance.usual).chain(own()));
    tables.iter().zip(own()).for_each(|(table, rules)| check_use(table, std::iter::once(rules)));
    Some(tolerance)
}

/// Faults for what is written and has a part in none of these rules, which are those it would hold for.
fn check_use<'r>(table: &Reader<'_>, rules: impl Iterator<Item = &'r Rules> + Clone) {
    let without_zone = rules.clone().all(|rules| rules.zone.is_none());
    for quirk in [Quirk::DstFold, Quirk::DstGap].into_iter().filter(|quirk| without_zone && table.has(quirk.id())) {
        let remedy = "name the zone of the sender's clock, such as `zone = \"Europe/Berlin\"`, or remove the line";
        table.problem(
            quirk.id(),
            Problem::new("without `zone` no time is read in one, and so none is of two hours", remedy),
        );
    }
    let needs_charset = |rules: &Rules| OF_TEXT.iter().any(|quirk| rules.accepted.has(*quirk));
    if table.has("charset") && !rules.clone().any(needs_charset) {
        let remedy = "accept `charset_wrong` or `charset_unknown`, or remove the line; what MSH-18 leaves open is for `charset_default` of [listener]";
        table.problem(
            "charset",
            Problem::new("no text is read in it, since neither quirk it is for is accepted", remedy),
        );
    }
}

/// Those that a charset is for.
const OF_TEXT: [Quirk; 2] = [Quirk::CharsetUnknown, Quirk::CharsetWrong];

fn rules(table: &Reader<'_>, under: &Rules) -> Option<Rules> {
    let mut rules = under.clone();
    let mut sound = true;
    for quirk in Quirk::settable().filter(|quirk| table.has(quirk.id())) {
        let settings = quirk.about().settings;
        let Some(setting) = table.choice(quirk.id(), settings) else {
            sound = false;
            continue;
        };
        rules.accepted.remove(quirk);
        rules.refused.remove(quirk);
        match setting {
            "accept" => rules.accepted.insert(quirk),
            "refuse" => rules.refused.insert(quirk),
            _ => {}
        }
    }
    if table.has("zone") {
        rules.zone = Some(table.text("zone", zone)?);
    }
    if table.has("charset") {
        rules.charset = Some(table.text("charset", charset)?);
    }
    check_charset(table, &rules).filter(|()| sound)?;
    Some(rules)
}

/// Text that is not in the set it should be in must be in some set.
fn check_charset(table: &Reader<'_>, rules: &Rules) -> Option<()> {
    let accepted = OF_TEXT.into_iter().find(|quirk| rules.accepted.has(*quirk) && table.has(quirk.id()));
    let Some(quirk) = accepted.filter(|_| rules.charset.is_none()) else { return Some(()) };
    let remedy = "name the set such text is in, such as `charset = \"8859/1\"`";
    table.problem(quirk.id(), Problem::new("text is accepted that is in no set that is known", remedy));
    None
}

fn zone(text: &str) -> Result<Zone, Problem> {
    let named = || Zone::named(text).filter(|_| text.contains('/') || text == "UTC");
    let fixed = || value::offset_minutes(text).ok().and_then(Zone::fixed);
    fixed().or_else(named).ok_or_else(|| {
        let remedy = "write a place's zone such as Europe/Berlin, or an offset such as +01:00";
        Problem::new(format!("{text:?} is no time zone"), remedy)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, path::Path};

    use super::super::{Config, Fault, load};
    use crate::pcd::tolerance::{Quirk, Rules};

    fn loaded(folder: &Path, tolerance: &str) -> Result<Config, Vec<Fault>> {
        fs::create_dir_all(folder.join("channels")).unwrap();
        fs::write(folder.join("cannula.toml"), "").unwrap();
        let channel = "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"f\"\ntype = \"file\"\ndirectory = \"/tmp\"\n";
        fs::write(folder.join("channels/pumps.toml"), format!("{channel}{tolerance}")).unwrap();
        load(Some(&folder.join("cannula.toml")))
    }

    #[test]
    fn a_channel_without_the_table_tolerates_what_the_table_of_quirks_says() {
        let folder = tempfile::tempdir().unwrap();
        let config = loaded(folder.path(), "").unwrap();
        let usual = &config.channels[0].tolerance.usual;
        assert_eq!(*usual, Rules::default());
        for quirk in [Quirk::CharsetWrong, Quirk::CharsetUnknown, Quirk::ControlCharacter] {
            assert!(usual.refused.has(quirk) && !usual.accepted.has(quirk), "{quirk:?}");
        }
        for quirk in [Quirk::GluedSegments, Quirk::DoubledEscape, Quirk::Milliseconds] {
            assert!(
                !usual.refused.has(quirk) && !usual.accepted.has(quirk),
                "{quirk:?} is no guess that is made unasked"
            );
        }
        assert!(usual.accepted.has(Quirk::LineFeed) && usual.accepted.has(Quirk::NoZone));
    }

    #[test]
    fn a_senders_table_is_laid_over_the_channels() {
        let folder = tempfile::tempdir().unwrap();
        let table = "[tolerance]\nline_feed = \"refuse\"\nzone = \"+01:00\"\n[[tolerance.sender]]\nname = \"MINDRAY\"\n\
            milliseconds = \"accept\"\nzone = \"Europe/Berlin\"\n";
        let tolerance = &loaded(folder.path(), table).unwrap().channels[0].tolerance;
        let (name, own) = &tolerance.senders[0];
        assert_eq!(name, "MINDRAY");
        assert!(own.refused.has(Quirk::LineFeed) && own.accepted.has(Quirk::Milliseconds));
        assert!(own.zone.is_some() && own.zone != tolerance.usual.zone);
        assert!(!tolerance.usual.accepted.has(Quirk::Milliseconds));
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for (table, fault) in [
            ("[tolerance]\nzone = \"Europe/Nowhere\"\n", "is no time zone; write a place's zone such as Europe/Berlin"),
            ("[tolerance]\nline_feed = \"as-sent\"\n", "\"as-sent\" is none of accept, refuse"),
            ("[tolerance]\ncharset_wrong = \"accept\"\n", "in no set that is known; name the set"),
            ("[tolerance]\nnoise = \"refuse\"\n", "noise"),
            ("[tolerance]\ndst_fold = \"refuse\"\n", "8:12: tolerance.dst_fold: without `zone` no time is read in one"),
            (
                "[tolerance]\nzone = \"Europe/Berlin\"\n[[tolerance.sender]]\nname = \"A\"\ncharset = \"8859/1\"\n",
                "11:11: tolerance.sender.charset: no text is read in it",
            ),
            ("[[tolerance.sender]]\nname = \"A\"\ndst_gap = \"refuse\"\n", "tolerance.sender.dst_gap: without `zone`"),
            ("[tolerance]\ncharset = \"8859/1\"\n", "tolerance.charset: no text is read in it, since neither quirk"),
            (
                "[[tolerance.sender]]\nname = \"Gw\"\n[[tolerance.sender]]\nname = \"GW\"\nline_feed = \"refuse\"\n",
                "10:8: tolerance.sender.name: the table in line 8 is of \"gw\" too, and the first of them alone would hold; write both",
            ),
            ("[[tolerance.sender]]\nline_feed = \"refuse\"\n", "tolerance.sender.name is missing"),
        ] {
            let faults = loaded(folder.path(), table).err().unwrap_or_else(|| panic!("{table} is taken"));
            let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|line| line.contains(fault)), "{table}: {told:?}");
        }
    }

    #[test]
    fn what_a_channel_sets_for_senders_that_have_the_rest_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let table = "[tolerance]\ndst_fold = \"refuse\"\ncharset = \"8859/1\"\n[[tolerance.sender]]\nname = \"A\"\n\
            zone = \"Europe/Berlin\"\ncharset_wrong = \"accept\"\n[[tolerance.sender]]\nname = \"B\"\n";
        let tolerance = &loaded(folder.path(), table).unwrap().channels[0].tolerance;
        assert!(tolerance.senders[0].1.refused.has(Quirk::DstFold) && tolerance.senders[0].1.charset.is_some());
    }

    #[test]
    fn every_quirk_that_can_be_set_has_its_key_in_both_tables_and_no_other_has() {
        for table in [&super::super::keys::TOLERANCE, &super::super::keys::TOLERANCE_SENDER] {
            for quirk in Quirk::all() {
                let key = table.keys.iter().find(|key| key.name == quirk.id());
                assert_eq!(key.is_some(), !quirk.about().settings.is_empty(), "{} in {}", quirk.id(), table.title);
            }
        }
    }
}
