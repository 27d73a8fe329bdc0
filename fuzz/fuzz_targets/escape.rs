//! Escaped text has no structure and comes back as it was; any text can be unescaped.
#![no_main]

use cannula::hl7::{Delimiters, escape, unescape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let delimiters = Delimiters { truncation: Some(b'#'), ..Delimiters::default() };
    let escaped = escape(text, &delimiters);
    assert!(!escaped.contains(['|', '^', '~', '&', '#', '\r', '\n', '\x0B', '\x1C']));
    assert_eq!(unescape(&escaped, &delimiters), text);
    unescape(text, &delimiters);
});
