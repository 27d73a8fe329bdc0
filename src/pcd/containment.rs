//! OBX-4 as the place of a row in a device's containment tree (IHE PCD TF-2 B.8.1–4).
//!
//! Ordinals name places inside one message only: a gateway may number the same pump otherwise in the next one, so
//! nothing here may be used as a lasting key alone.

use std::fmt;

/// Levels of the tree. The first three are devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Medical device system.
    Mds,
    /// Virtual medical device.
    Vmd,
    /// The 11073 channel, which is not one of our channels.
    Channel,
    /// A measurement, setting or status.
    Metric,
    /// A part or attribute of a metric.
    Facet,
}

/// An OBX-4 of one to six dotted numbers, such as `1.2.1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Containment {
    parts: [u64; PARTS_MAX],
    sent: u8,
}

const PARTS_MAX: usize = 6;

impl Containment {
    /// Reads OBX-4. `None` for anything but one to six dotted numbers, such as the lab's free text sub-ids.
    pub fn parse(raw: &[u8]) -> Option<Containment> {
        let text = std::str::from_utf8(raw).ok()?;
        let mut place = Containment { parts: [0; PARTS_MAX], sent: 0 };
        for part in text.split('.') {
            let slot = place.parts.get_mut(usize::from(place.sent))?;
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *slot = if digits { part.parse().ok()? } else { return None };
            place.sent += 1;
        }
        Some(place)
    }

    /// The level this place is of. Short forms are met in the wild: `1` is a device, `1.0.1` a metric.
    pub fn level(&self) -> Level {
        match (self.depth(), self.sent) {
            (0 | 1, _) => Level::Mds,
            (depth, sent @ 2..=3) if depth == usize::from(sent) => Level::Metric,
            (2, _) => Level::Vmd,
            (3, _) => Level::Channel,
            (4, _) => Level::Metric,
            _ => Level::Facet,
        }
    }

    /// The places above, nearest first: of `1.2.0.5` these are `1.2` and `1`. Levels no row describes are among them.
    pub fn above(self) -> impl Iterator<Item = Containment> {
        let depth = self.depth();
        (1..depth).rev().filter(move |&keep| self.parts[keep - 1] != 0).map(move |keep| self.cut(keep))
    }

    /// This place without the zeros at its end, by which `1.2.0.0` is what `1.2.1.5` is in.
    pub fn key(self) -> Containment {
        self.cut(self.depth())
    }

    /// The number at level `n`, from 1; 0 where it is anonymous or was not sent.
    pub fn part(&self, n: usize) -> u64 {
        n.checked_sub(1).and_then(|n| self.parts.get(n)).copied().unwrap_or(0)
    }

    /// How many levels it names, zeros at its end counted as sent.
    pub fn levels(&self) -> usize {
        usize::from(self.sent)
    }

    fn cut(&self, keep: usize) -> Containment {
        let mut parts = [0; PARTS_MAX];
        parts[..keep].copy_from_slice(&self.parts[..keep]);
        Containment { parts, sent: keep as u8 }
    }

    /// Number of the last part that is not zero.
    fn depth(&self) -> usize {
        self.parts.iter().rposition(|part| *part != 0).map_or(0, |last| last + 1)
    }
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts[..usize::from(self.sent)].iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn level(text: &str) -> Option<Level> {
        Containment::parse(text.as_bytes()).map(|place| place.level())
    }

    #[test]
    fn trailing_zeros_name_the_level() {
        assert_eq!(level("1.0.0.0"), Some(Level::Mds));
        assert_eq!(level("1.2.0.0"), Some(Level::Vmd));
        assert_eq!(level("1.2.1.0"), Some(Level::Channel));
        assert_eq!(level("1.2.1.5"), Some(Level::Metric));
        assert_eq!(level("1.2.1.5.1"), Some(Level::Facet));
        assert_eq!(level("1.2.1.5.1.2"), Some(Level::Facet));
    }

    #[test]
    fn flattened_and_short_forms_are_taken() {
        assert_eq!(level("1.0.0.7"), Some(Level::Metric));
        assert_eq!(level("1"), Some(Level::Mds));
        assert_eq!(level("1.0.1"), Some(Level::Metric));
        assert_eq!(level("21766848.1.1.4"), Some(Level::Metric));
    }

    #[test]
    fn what_is_not_a_place_is_not_taken_for_one() {
        for text in ["", "LOC", "1..2", "1.a", "-1.0.0.0", "1.2.3.4.5.6.7", "99999999999999999999.0.0.0", "1.0.0.0 "] {
            assert_eq!(level(text), None, "{text}");
        }
    }

    #[test]
    fn anonymous_levels_are_skipped_on_the_way_up() {
        let up = |text: &str| {
            Containment::parse(text.as_bytes()).unwrap().above().map(|p| p.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(up("1.2.3.4.1"), ["1.2.3.4", "1.2.3", "1.2", "1"]);
        assert_eq!(up("1.2.0.5"), ["1.2", "1"]);
        assert_eq!(up("1.0.0.5"), ["1"]);
        assert_eq!(up("1.0.0.0"), Vec::<String>::new());
    }
}
