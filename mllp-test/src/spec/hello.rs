//! The first message of a TLS client (RFC 5246, 7.4.1.2), made by hand: to see what a receiver makes of TLS where it has
//! none, and of versions and suites that it must refuse.

/// A ClientHello of this version (0x0301 is TLS 1.0) that offers these suites and nothing newer.
pub(super) fn client_hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let version = version.to_be_bytes();
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    // supported_groups with P-256 and P-384, ec_point_formats uncompressed, signature_algorithms with SHA-256 and SHA-1.
    let extensions: [&[u8]; 3] = [
        &[0x00, 0x0A, 0x00, 0x06, 0x00, 0x04, 0x00, 0x17, 0x00, 0x18],
        &[0x00, 0x0B, 0x00, 0x02, 0x01, 0x00],
        &[0x00, 0x0D, 0x00, 0x0A, 0x00, 0x08, 0x04, 0x01, 0x04, 0x03, 0x02, 0x01, 0x02, 0x03],
    ];
    let body = [&version[..], &[0x5A; 32], &[0], &sized(&suites), &[1, 0], &sized(&extensions.concat())].concat();
    let length = (body.len() as u32).to_be_bytes();
    let handshake = [&[1], &length[1..], &body[..]].concat();
    [&[0x16, 0x03, 0x01], &sized(&handshake)[..]].concat()
}

/// Behind its length in two bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
