//! What a certificate says that rustls does not tell: until when it is good, and whom it names (RFC 5280 4.1, 4.2.1.6).
//!
//! Read are certificates of the operator's own files and those whose signatures rustls has proved. Nothing here decides
//! whether one is good, and no bytes make it panic: what cannot be read is `None`.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its last moment.
    pub(super) not_after: Timestamp,
    /// The subject's common names, then its DNS names.
    pub(super) names: Vec<String>,
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF8String, PrintableString, TeletexString, IA5String.
const TEXTS: [u8; 4] = [0x0C, 0x13, 0x14, 0x16];
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const DNS_NAME: u8 = 0x82;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];

/// Reads a certificate in DER form.
pub(super) fn read(der: &[u8]) -> Option<Facts> {
    let mut signed = Der(Der(Der(der).take(SEQUENCE)?).take(SEQUENCE)?);
    signed.skip(VERSION);
    signed.take(INTEGER)?;
    let (_algorithm, _issuer) = (signed.take(SEQUENCE)?, signed.take(SEQUENCE)?);
    let mut validity = Der(signed.take(SEQUENCE)?);
    let _not_before = validity.next()?;
    let (tag, text) = validity.next()?;
    let mut names = common_names(signed.take(SEQUENCE)?)?;
    let _public_key = signed.take(SEQUENCE)?;
    while let Some((tag, content)) = signed.next() {
        if tag == EXTENSIONS {
            names.extend(dns_names(Der(content).take(SEQUENCE)?)?);
        }
    }
    Some(Facts { not_after: time(tag, text)?, names })
}

fn common_names(subject: &[u8]) -> Option<Vec<String>> {
    let (mut names, mut sets) = (Vec::new(), Der(subject));
    while !sets.0.is_empty() {
        let mut attributes = Der(sets.take(SET)?);
        while !attributes.0.is_empty() {
            let mut attribute = Der(attributes.take(SEQUENCE)?);
            let kind = attribute.take(OID)?;
            let (tag, value) = attribute.next()?;
            if kind == COMMON_NAME && TEXTS.contains(&tag) {
                names.extend(String::from_utf8(value.to_vec()));
            }
        }
    }
    Some(names)
}

fn dns_names(extensions: &[u8]) -> Option<Vec<String>> {
    let (mut names, mut all) = (Vec::new(), Der(extensions));
    while !all.0.is_empty() {
        let mut extension = Der(all.take(SEQUENCE)?);
        if extension.take(OID)? != SUBJECT_ALT_NAME {
            continue;
        }
        let mut content = None;
        while let Some((tag, value)) = extension.next() {
            content = (tag == OCTET_STRING).then_some(value);
        }
        let mut alternatives = Der(Der(content?).take(SEQUENCE)?);
        while !alternatives.0.is_empty() {
            let (tag, value) = alternatives.next()?;
            if tag == DNS_NAME {
                names.extend(String::from_utf8(value.to_vec()));
            }
        }
    }
    Some(names)
}

/// UTCTime has two digits of the year, of 1950 to 2049.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let whole = match (tag, text.as_bytes().first()?) {
        (UTC_TIME, b'5'..=b'9') => format!("19{text}"),
        (UTC_TIME, _) => format!("20{text}"),
        (GENERALIZED_TIME, _) => text.to_owned(),
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%SZ", whole).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Bytes of which one element after the other is taken.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element's tag and content. Tags of more than one byte and lengths of more than four are in no certificate.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let digits = usize::from(first & 0x7F);
            let (bytes, behind) = rest.split_at_checked(digits).filter(|_| (1..=4).contains(&digits))?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Passes over the next element if it has this tag.
    fn skip(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["pumps.ward.example".to_owned(), "10.4.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "General Hospital");
        params.distinguished_name.push(DnType::CommonName, "Pumpen Süd");
        params.not_after = date_time_ymd(year, 2, 28);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_tells_its_end_and_its_names() {
        for (year, end) in
            [(1999, "1999-02-28T00:00:00Z"), (2026, "2026-02-28T00:00:00Z"), (2051, "2051-02-28T00:00:00Z")]
        {
            let facts = read(&certificate(year)).unwrap();
            assert_eq!(facts.not_after, end.parse().unwrap());
            assert_eq!(facts.names, ["Pumpen Süd", "pumps.ward.example"]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = certificate(2030);
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in [0, 0x30, 0x7F, 0x80, 0x84, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}
