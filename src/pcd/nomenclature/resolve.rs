//! What a sent number and identifier come to (IHE PCD TF-2 App. A.1, TF-3; ISO/IEEE 11073-10101).
//!
//! The number rules, since vendors print several identifiers for one; the identifier rules where the number is none (0,
//! 999999) or lacks its partition. Nothing is guessed: a bare number with no identifier of ours, or with another's, stays
//! as it was sent.

use super::{Kind, Nomenclature, Term};

/// Codes to a partition.
pub(super) const PARTITION: u32 = 1 << 16;
/// Sent by drafts of the framework for a term that has no number yet.
pub(super) const UNASSIGNED: u32 = 999_999;
/// Objects: the partition of devices, where a code's last two bits tell the level.
const OBJECTS: u32 = 1;
/// First of the terms that a partition leaves to manufacturers.
const PRIVATE_TERMS: u32 = 0xF000;
/// The partition that is a manufacturer's altogether.
const PRIVATE_PARTITION: u32 = 1024;

/// What a sent code and identifier come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'n> {
    /// Context-free code; none where the sender had no number for it (0, 999999) and no table has.
    pub code: Option<u32>,
    /// The row that names it, if any.
    pub term: Option<&'n Term>,
    /// Number and identifier are of two different rows, or the number is of no partition.
    pub mismatch: bool,
    /// How the two fit together.
    pub fit: Fit,
}

/// How a sent number and the identifier beside it fit the tables and each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// The number has a row, and the identifier is one of its names or was left out.
    Named,
    /// The number has a row; the identifier is none of its names and of no other row.
    OtherName,
    /// Number and identifier are of two different rows.
    OtherTerm,
    /// No number (0 or 999999), and the identifier has a row.
    ByName,
    /// No number, and an identifier no table knows, such as a provisional `MDCX_…`: to be told by it alone.
    NameOnly,
    /// A number without its partition (`4262`), and the identifier says which it is.
    Bare,
    /// A number without its partition, and nothing that says which.
    BareAlone,
    /// No row has the number, which is of a range left to manufacturers.
    Private,
    /// No row has the number, and it is not a manufacturer's.
    Unknown,
    /// Neither a number nor an identifier we know.
    Nothing,
}

impl Fit {
    /// The sender has something to mend.
    pub fn is_warned(self) -> bool {
        matches!(self, Fit::OtherName | Fit::OtherTerm | Fit::Bare | Fit::BareAlone | Fit::Nothing)
    }

    /// No table names it: it is passed on as sent and counted.
    pub fn is_unmapped(self) -> bool {
        matches!(self, Fit::NameOnly | Fit::BareAlone | Fit::Private | Fit::Unknown | Fit::Nothing)
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Fit::Named => "number and identifier agree",
            Fit::OtherName => "the number is known by another identifier",
            Fit::OtherTerm => "number and identifier are of two different terms",
            Fit::ByName => "no number; known by its identifier",
            Fit::NameOnly => "no number, and an identifier that no table has",
            Fit::Bare => "the number lacks its partition; the identifier tells which it is",
            Fit::BareAlone => "the number lacks its partition, and nothing tells which it is",
            Fit::Private => "a manufacturer's own number that no table has",
            Fit::Unknown => "a number that no table has",
            Fit::Nothing => "neither a number nor a known identifier",
        }
    }
}

impl Resolved<'_> {
    /// No code at all.
    pub const NONE: Resolved<'static> = Resolved { code: None, term: None, mismatch: false, fit: Fit::Nothing };

    /// What it is of: by its row, or for a device without one by its number's last two bits.
    pub fn kind(&self) -> Option<Kind> {
        self.term.map(|term| term.kind).or_else(|| self.code.and_then(device_level))
    }
}

impl Nomenclature {
    /// Reads a sent code and identifier together.
    pub fn resolve(&self, code: &str, refid: &str) -> Resolved<'_> {
        let named = self.code_of(refid);
        match decimal(code) {
            None | Some(0 | UNASSIGNED) => self.by_name(named, !refid.is_empty() && refid.starts_with("MDC")),
            Some(bare) if bare < PARTITION => self.bare(bare, named),
            Some(whole) => self.by_number(whole, refid, named),
        }
    }

    /// The number an identifier stands for. `MDC_PUMP_X` is printed for `MDC_DEV_PUMP_X` and the other way round.
    fn code_of(&self, refid: &str) -> Option<u32> {
        let known = |name: &str| self.refids.get(name).copied();
        known(refid).or_else(|| known(&other_pump_name(refid)?))
    }

    fn by_name(&self, named: Option<u32>, is_identifier: bool) -> Resolved<'_> {
        let fit = match named {
            Some(_) => Fit::ByName,
            None if is_identifier => Fit::NameOnly,
            None => Fit::Nothing,
        };
        self.resolved(named, fit)
    }

    fn bare(&self, bare: u32, named: Option<u32>) -> Resolved<'_> {
        match named.filter(|named| named % PARTITION == bare) {
            Some(named) => self.resolved(Some(named), Fit::Bare),
            None => self.resolved(Some(bare), Fit::BareAlone),
        }
    }

    fn by_number(&self, number: u32, refid: &str, named: Option<u32>) -> Resolved<'_> {
        let term = self.terms.get(&number);
        let fit = match (term, named) {
            (_, Some(named)) if named != number => Fit::OtherTerm,
            (Some(_), Some(_)) => Fit::Named,
            (Some(_), None) if refid.starts_with("MDC") => Fit::OtherName,
            (Some(_), None) => Fit::Named,
            (None, _) if is_private(number) => Fit::Private,
            (None, _) => Fit::Unknown,
        };
        self.resolved(Some(number), fit)
    }

    fn resolved(&self, code: Option<u32>, fit: Fit) -> Resolved<'_> {
        let mismatch = matches!(fit, Fit::OtherTerm | Fit::Bare | Fit::BareAlone);
        Resolved { code, term: code.and_then(|code| self.terms.get(&code)), mismatch, fit }
    }
}

/// Of a device's number, its level: of the four numbers of a device the first is of no level, the next three are MDS, VMD
/// and channel. `None` outside the devices of partition 1, where the rule does not hold.
pub fn device_level(code: u32) -> Option<Kind> {
    let (partition, term) = parts(code);
    let is_device = partition == OBJECTS && (0x1000..0x1800).contains(&term);
    match term % 4 {
        1 if is_device => Some(Kind::Mds),
        2 if is_device => Some(Kind::Vmd),
        3 if is_device => Some(Kind::Channel),
        _ => None,
    }
}

/// Partition and term of a context-free code.
pub fn parts(code: u32) -> (u32, u32) {
    (code / PARTITION, code % PARTITION)
}

/// The number is of a range left to manufacturers.
pub fn is_private(code: u32) -> bool {
    let (partition, term) = parts(code);
    partition == PRIVATE_PARTITION || term >= PRIVATE_TERMS
}

/// An identifier of the nomenclature, provisional ones (`MDCX_…`) included: letters, digits and underscores.
pub fn is_refid(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (text.starts_with("MDC_") || text.starts_with("MDCX_")) && text.bytes().all(plain)
}

/// Digits alone: what else `u32` would read, such as a sign, is no code.
fn decimal(code: &str) -> Option<u32> {
    let digits = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
    if digits { code.parse().ok() } else { None }
}

fn other_pump_name(refid: &str) -> Option<String> {
    match refid.strip_prefix("MDC_DEV_PUMP_") {
        Some(rest) => Some(format!("MDC_PUMP_{rest}")),
        None => refid.strip_prefix("MDC_PUMP_").map(|rest| format!("MDC_DEV_PUMP_{rest}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fit(code: &str, refid: &str) -> (Option<u32>, Fit) {
        let tables = Nomenclature::built_in();
        let resolved = tables.resolve(code, refid);
        (resolved.code, resolved.fit)
    }

    #[test]
    fn a_number_and_its_identifier_are_compared_and_the_number_rules() {
        assert_eq!(fit("157784", "MDC_FLOW_FLUID_PUMP"), (Some(157784), Fit::Named));
        assert_eq!(fit("157784", "Rate"), (Some(157784), Fit::Named));
        assert_eq!(fit("157784", ""), (Some(157784), Fit::Named));
        assert_eq!(fit("157784", "MDC_SOMETHING_ELSE"), (Some(157784), Fit::OtherName));
        assert_eq!(fit("157985", "MDC_FLOW_FLUID_PUMP"), (Some(157985), Fit::OtherTerm));
    }

    #[test]
    fn a_number_that_is_none_is_told_by_its_identifier() {
        assert_eq!(fit("0", "MDC_ATTR_EVT_COND"), (Some(68487), Fit::ByName));
        assert_eq!(fit("999999", "MDC_VOL_FLUID_TBI"), (Some(157884), Fit::ByName));
        assert_eq!(fit("0", "MDCX_SOMETHING_NEW"), (None, Fit::NameOnly));
        assert_eq!(fit("", "MDCX_SOMETHING_NEW"), (None, Fit::NameOnly));
        assert_eq!(fit("999999", "Medication Unknown"), (None, Fit::Nothing));
        assert_eq!(fit("+157784", "MDC_FLOW_FLUID_PUMP"), (Some(157784), Fit::ByName));
    }

    #[test]
    fn a_number_without_its_partition_is_whole_only_where_its_identifier_says_so() {
        assert_eq!(fit("4262", "MDC_DEV_ECG_VMD"), (Some(69798), Fit::Bare));
        assert_eq!(fit("29140", "MDC_CONC_GLU_ISF"), (Some(160212), Fit::Bare));
        assert_eq!(fit("29140", ""), (Some(29140), Fit::BareAlone));
        assert_eq!(fit("4262", "MDC_FLOW_FLUID_PUMP"), (Some(4262), Fit::BareAlone));
        assert!(Fit::Bare.is_warned() && Nomenclature::built_in().resolve("4262", "MDC_DEV_ECG_VMD").mismatch);
    }

    #[test]
    fn a_manufacturers_number_is_no_fault() {
        for number in ["127001", "67108865"] {
            let (code, fit) = fit(number, "VENDOR_OWN");
            assert_eq!((code.unwrap().to_string().as_str(), fit), (number, Fit::Private));
        }
        assert!(!Fit::Private.is_warned() && Fit::Private.is_unmapped());
        assert_eq!(fit("150000", "MDC_NEW_TERM"), (Some(150000), Fit::Unknown));
    }

    #[test]
    fn the_two_spellings_of_a_pumps_term_are_one() {
        let tables = Nomenclature::built_in();
        let known = tables.refids.keys().filter(|name| name.starts_with("MDC_DEV_PUMP_"));
        let mut compared = 0;
        for name in known {
            let other = other_pump_name(name).unwrap();
            let (code, alias) = (tables.resolve("0", name).code, tables.resolve("0", &other).code);
            assert!(alias.is_some(), "{other}");
            if !tables.refids.contains_key(&*other) {
                compared += usize::from(code == alias);
            }
        }
        assert!(compared > 5);
    }

    #[test]
    fn the_last_bits_of_a_device_are_its_level_in_every_row_we_have() {
        let tables = Nomenclature::built_in();
        let mut told = 0;
        for term in tables.terms.values().filter(|term| !is_private(term.code)) {
            let levels = [("_MDS", Kind::Mds), ("_VMD", Kind::Vmd), ("_CHAN", Kind::Channel)];
            let named = levels.iter().find(|(suffix, _)| term.refid.ends_with(suffix)).map(|(_, kind)| *kind);
            if let Some(named) = named.filter(|_| term.refid.starts_with("MDC_DEV_")) {
                assert_eq!(device_level(term.code), Some(named), "{}", term.refid);
                told += 1;
            }
        }
        assert!(told > 30, "{told}");
        assert_eq!((device_level(157784), device_level(69984)), (None, None));
    }
}
