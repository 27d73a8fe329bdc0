//! Other protocols on the port.

use super::super::case::{Case, Sent, Then};
use super::super::hello::client_hello;

pub(super) fn rows() -> Vec<Case> {
    let foreign = |row, what, bytes: Vec<u8>| {
        Case::wire(row, what, move |_| Sent::silently(bytes.clone()).then(Then::Closed)).in_one_mode()
    };
    vec![
        foreign(25, "TLS where plain MLLP is", client_hello(0x0303, &[0x1301, 0x1302, 0xC02F, 0xC030])),
        foreign(26, "HTTP", b"GET / HTTP/1.1\r\nHost: mllp\r\n\r\n".to_vec()),
    ]
}
