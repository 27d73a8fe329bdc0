//! Unique device identifiers as labels carry them: GS1, HIBCC and ICCBBA (FDA, UDI formats by issuing agency).
//!
//! A UDI names a model, its lot and its serial number. It is never the identity of an observation: every reading of a device
//! has the same.

/// Who issues the device identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// GS1: a GTIN.
    Gs1,
    /// HIBCC.
    Hibcc,
    /// ICCBBA, devices with tissue or cells.
    Iccbba,
    /// ICCBBA, blood containers.
    IccbbaBlood,
}

/// What a UDI says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udi {
    /// Who issued it.
    pub issuer: Issuer,
    /// The fixed part: maker and model.
    pub device_identifier: String,
    /// Lot or batch.
    pub lot: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Date of manufacture, `YYYY-MM[-DD]`.
    pub manufactured: Option<String>,
    /// Date of expiry, `YYYY-MM[-DD]`.
    pub expires: Option<String>,
}

impl Udi {
    fn new(issuer: Issuer, device_identifier: &str) -> Udi {
        let device_identifier = device_identifier.to_owned();
        Udi { issuer, device_identifier, lot: None, serial: None, manufactured: None, expires: None }
    }

    /// Reads the text of a label, as people read it or as a scanner does. `None` for what is no UDI.
    pub fn parse(text: &str) -> Option<Udi> {
        let text = text.trim();
        match text.as_bytes().first()? {
            b'(' => gs1_read(text),
            b'+' => hibcc(&text[1..]),
            b'=' | b'&' => iccbba(text),
            _ => gs1_scanned(text),
        }
    }
}

/// Application identifiers that a UDI has, and their length where it is fixed.
const GS1_PARTS: [(&str, Option<usize>); 5] =
    [("01", Some(14)), ("11", Some(6)), ("17", Some(6)), ("10", None), ("21", None)];

/// `(01)00844588003288(17)141120(10)7654321D(21)10987654d321`.
fn gs1_read(text: &str) -> Option<Udi> {
    let mut parts = Vec::new();
    for part in text.split('(').skip(1) {
        parts.push(part.split_once(')')?);
    }
    gs1(parts.into_iter())
}

/// The same as a scanner sends it: no brackets, and a group separator behind what has no fixed length.
fn gs1_scanned(text: &str) -> Option<Udi> {
    let mut rest = text.strip_prefix("]d2").or_else(|| text.strip_prefix("]C1")).unwrap_or(text);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (identifier, after) = rest.split_at_checked(2)?;
        let (_, length) = GS1_PARTS.iter().find(|(known, _)| *known == identifier)?;
        let end = length.unwrap_or_else(|| after.find('\u{1d}').unwrap_or(after.len()));
        let (value, after) = after.split_at_checked(end)?;
        parts.push((identifier, value));
        rest = after.strip_prefix('\u{1d}').unwrap_or(after);
    }
    gs1(parts.into_iter())
}

fn gs1<'t>(mut parts: impl Iterator<Item = (&'t str, &'t str)>) -> Option<Udi> {
    let (first, gtin) = parts.next()?;
    if first != "01" || gtin.len() != 14 || !gtin_holds(gtin) {
        return None;
    }
    let mut udi = Udi::new(Issuer::Gs1, gtin);
    for (identifier, value) in parts {
        match identifier {
            "10" => udi.lot = Some(value.to_owned()),
            "21" => udi.serial = Some(value.to_owned()),
            "11" => udi.manufactured = gs1_date(value),
            "17" => udi.expires = gs1_date(value),
            _ => {}
        }
    }
    Some(udi)
}

/// The GTIN's check digit (GS1 General Specifications, mod 10).
fn gtin_holds(gtin: &str) -> bool {
    let digits: Option<Vec<u32>> = gtin.chars().map(|c| c.to_digit(10)).collect();
    let weighed =
        |digits: Vec<u32>| digits.iter().enumerate().map(|(i, d)| if i % 2 == 0 { d * 3 } else { *d }).sum::<u32>();
    digits.is_some_and(|digits| weighed(digits) % 10 == 0)
}

/// YYMMDD, where day 00 is the month alone.
fn gs1_date(text: &str) -> Option<String> {
    let part = |at: usize| text.get(at..at + 2).filter(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let (year, month, day) = (part(0)?, part(2)?, part(4)?);
    let century = if year > "50" { "19" } else { "20" };
    match ("01"..="12").contains(&month) {
        true if day == "00" => Some(format!("{century}{year}-{month}")),
        true if ("01"..="31").contains(&day) => Some(format!("{century}{year}-{month}-{day}")),
        _ => None,
    }
}

/// `+H123PARTNO1234567890120/16D20130202…`: the device identifier, and dates that are marked as such. Lot and serial number
/// share their place with a check character and are left in the text.
fn hibcc(text: &str) -> Option<Udi> {
    let mut parts = text.split('/');
    let primary = parts.next()?;
    let labeller = primary.get(..4)?;
    let legal =
        labeller.starts_with(|c: char| c.is_ascii_alphabetic()) && primary.bytes().all(|b| b.is_ascii_alphanumeric());
    if !legal || !(6..=23).contains(&primary.len()) {
        return None;
    }
    let mut udi = Udi::new(Issuer::Hibcc, primary);
    for part in parts {
        let date = |mark| part.strip_prefix(mark).and_then(|rest: &str| rest.get(..8)).and_then(iso_date);
        udi.manufactured = udi.manufactured.or_else(|| date("16D"));
        udi.expires = udi.expires.or_else(|| date("14D"));
    }
    Some(udi)
}

/// YYYYMMDD.
fn iso_date(text: &str) -> Option<String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..8]))
}

/// `=/A9999XYZ100T0944=,000025=>014032=}013032&,1000000000000XYZ123`, and `=)1TE123456A&)RZ12345678` for blood containers.
fn iccbba(text: &str) -> Option<Udi> {
    let mut structures = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest[1..].find(['=', '&']).map_or(rest.len(), |at| at + 1);
        structures.push(&rest[..end]);
        rest = &rest[end..];
    }
    let value = |mark: &str| structures.iter().find_map(|structure| structure.strip_prefix(mark));
    if let Some(container) = value("=)") {
        let lot = value("&)").map(str::to_owned);
        return (container.len() == 10).then(|| Udi { lot, ..Udi::new(Issuer::IccbbaBlood, container) });
    }
    let device =
        value("=/").filter(|device| device.len() == 16 && device.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    let lot = value("&,1").map(|lot| lot.trim_start_matches('0').to_owned());
    Some(Udi { lot, serial: value("=,").map(str::to_owned), ..Udi::new(Issuer::Iccbba, device) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_gs1_label_is_read_with_and_without_its_brackets() {
        let read = Udi::parse("(01)00844588003288(11)141231(17)150700(10)A213B1(21)1234").unwrap();
        let scanned = Udi::parse("010084458800328811141231171507001\u{30}A213B1\u{1d}211234").unwrap();
        assert_eq!(read, scanned);
        assert_eq!((read.issuer, &*read.device_identifier), (Issuer::Gs1, "00844588003288"));
        assert_eq!((read.lot.as_deref(), read.serial.as_deref()), (Some("A213B1"), Some("1234")));
        assert_eq!((read.manufactured.as_deref(), read.expires.as_deref()), (Some("2014-12-31"), Some("2015-07")));
    }

    #[test]
    fn hibcc_and_iccbba_labels_are_read() {
        let hibcc =
            Udi::parse("+H123PARTNO1234567890120/$$420020216LOT123456789012345/SXYZ456789012345678/16D20130202C")
                .unwrap();
        assert_eq!((hibcc.issuer, &*hibcc.device_identifier), (Issuer::Hibcc, "H123PARTNO1234567890120"));
        assert_eq!(hibcc.manufactured.as_deref(), Some("2013-02-02"));
        let other =
            Udi::parse("=/A9999XYZ100T0944=,000025=A99971312345600=>014032=}013032&,1000000000000XYZ123").unwrap();
        assert_eq!((other.issuer, &*other.device_identifier), (Issuer::Iccbba, "A9999XYZ100T0944"));
        assert_eq!((other.serial.as_deref(), other.lot.as_deref()), (Some("000025"), Some("XYZ123")));
        let blood = Udi::parse("=)1TE123456A&)RZ12345678").unwrap();
        assert_eq!((blood.issuer, &*blood.device_identifier), (Issuer::IccbbaBlood, "1TE123456A"));
    }

    #[test]
    fn what_is_no_udi_is_not_taken_for_one() {
        for text in [
            "",
            "0012210000A10001",
            "MX-7",
            "(01)00844588003289",
            "(21)1234",
            "(01)0084",
            "+1",
            "=/",
            "=",
            "&",
            "01008445880032",
            "+4915112345678",
            "é",
            "=é",
        ] {
            assert_eq!(Udi::parse(text), None, "{text}");
        }
    }
}
