//! Names that come out the same each time: identifiers, fullUrls and search queries.

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal SHA-256 of the parts. Each is framed by its length, so that no two lists read alike.
pub fn fingerprint<'p>(parts: impl IntoIterator<Item = &'p str>) -> String {
    let digest = digest(parts);
    let mut text = String::with_capacity(64);
    for byte in digest {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// `urn:uuid:` of a name: a version 8 UUID (RFC 9562) of its SHA-256.
pub fn urn_uuid<'p>(parts: impl IntoIterator<Item = &'p str>) -> String {
    let digest = digest(parts);
    let mut text = String::with_capacity(45);
    text.push_str("urn:uuid:");
    for (i, byte) in digest.into_iter().take(16).enumerate() {
        let byte = match i {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// `name=system%7Cvalue` for a conditional request or reference. Every character a query gives a meaning is encoded;
/// FHIR's own `\`, `,`, `$` and `|` within a value are escaped first.
pub fn token_query(name: &str, system: &str, value: &str) -> String {
    let mut query = String::with_capacity(name.len() + system.len() + value.len() + 16);
    query.push_str(name);
    query.push('=');
    encode(&mut query, system);
    query.push_str("%7C");
    encode(&mut query, value);
    query
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn digest<'p>(parts: impl IntoIterator<Item = &'p str>) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().into()
}

fn encode(query: &mut String, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b'\\' | b',' | b'$' | b'|') {
            query.push_str("%5C");
        }
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                query.push(char::from(byte))
            }
            _ => {
                query.push('%');
                query.push(char::from(HEX[usize::from(byte >> 4)].to_ascii_uppercase()));
                query.push(char::from(HEX[usize::from(byte & 15)].to_ascii_uppercase()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_can_never_become_a_query() {
        assert_eq!(
            token_query("identifier", "urn:oid:1.2", "A&_format=x#|+ é"),
            "identifier=urn:oid:1.2%7CA%26_format%3Dx%23%5C%7C%2B%20%C3%A9"
        );
        assert_eq!(token_query("identifier", "http://h.example/mrn", "4711"), "identifier=http://h.example/mrn%7C4711");
    }

    #[test]
    fn parts_never_run_together() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
        assert_ne!(fingerprint(["a", ""]), fingerprint(["a"]));
        assert_eq!(fingerprint(["a"]).len(), 64);
    }

    #[test]
    fn a_name_is_always_the_same_uuid_of_version_8() {
        let urn = urn_uuid(["Observation", "x"]);
        assert_eq!(urn, urn_uuid(["Observation", "x"]));
        assert_eq!((urn.len(), &urn[23..24]), (45, "8"));
        assert!(matches!(&urn[28..29], "8" | "9" | "a" | "b"), "{urn}");
    }
}
