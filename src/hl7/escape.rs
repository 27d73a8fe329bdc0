//! Escape sequences (HL7 v2.6 ch. 2.7): text in, bytes that cannot become structure out, and back.
//!
//! What must never happen: a character of a value ends a field, a segment or a frame. So every delimiter and every
//! control character but TAB leaves here as a sequence. What cannot be read as a sequence is kept as it was sent.

use std::borrow::Cow;

use super::Delimiters;

/// `text` with this message's delimiters and all control characters but TAB escaped, so that it can never become
/// structure: not a component, not a segment, not an MLLP frame. [`unescape`] gives exactly `text` back.
pub fn escape<'t>(text: &'t str, delimiters: &Delimiters) -> Cow<'t, str> {
    let Some(first) = text.bytes().position(|byte| sequence(byte, delimiters).is_some()) else {
        return Cow::Borrowed(text);
    };
    let mark = char::from(delimiters.escape);
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    for c in text[first..].chars() {
        match u8::try_from(c).ok().filter(u8::is_ascii).and_then(|byte| sequence(byte, delimiters)) {
            Some(Sequence::Letter(letter)) => escaped.extend([mark, letter, mark]),
            Some(Sequence::Hex(byte)) => {
                escaped.extend([mark, 'X', hex_digit(byte >> 4), hex_digit(byte & 15), mark]);
            }
            None => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// `text` (already decoded) with its escape sequences replaced: `\F\ \S\ \T\ \R\ \E\ \P\` by the message's delimiters,
/// `\X..\` by the UTF-8 text of its bytes, `\.br\` by a line feed. A sequence that is unknown, malformed or of a
/// delimiter the message does not define is kept as sent, and so is a lone escape character.
pub fn unescape<'t>(text: &'t str, delimiters: &Delimiters) -> Cow<'t, str> {
    unescape_with(text, delimiters, |hex| String::from_utf8(hex).ok())
}

/// [`unescape`], the bytes of `\X..\` read by `decode`; where it gives `None` the sequence is kept as sent.
pub(super) fn unescape_with<'t>(
    text: &'t str,
    delimiters: &Delimiters,
    decode: impl Fn(Vec<u8>) -> Option<String>,
) -> Cow<'t, str> {
    let mark = char::from(delimiters.escape);
    if !text.contains(mark) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(mark) {
        plain.push_str(before);
        match after.split_once(mark).and_then(|(body, tail)| Some((meaning(body, delimiters, &decode)?, tail))) {
            Some((meaning, tail)) => {
                plain.push_str(&meaning);
                rest = tail;
            }
            None => {
                plain.push(mark);
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// How a byte of text has to be written.
enum Sequence {
    Letter(char),
    Hex(u8),
}

fn sequence(byte: u8, delimiters: &Delimiters) -> Option<Sequence> {
    let letter = match byte {
        _ if byte == delimiters.field => 'F',
        _ if byte == delimiters.component => 'S',
        _ if byte == delimiters.repetition => 'R',
        _ if byte == delimiters.escape => 'E',
        _ if Some(byte) == delimiters.subcomponent => 'T',
        _ if Some(byte) == delimiters.truncation => 'P',
        b'\t' => return None,
        _ if byte.is_ascii_control() => return Some(Sequence::Hex(byte)),
        _ => return None,
    };
    Some(Sequence::Letter(letter))
}

/// What stands between two escape characters means, if it means anything.
fn meaning(body: &str, delimiters: &Delimiters, decode: impl Fn(Vec<u8>) -> Option<String>) -> Option<String> {
    let delimiter = match body {
        "F" => Some(delimiters.field),
        "S" => Some(delimiters.component),
        "R" => Some(delimiters.repetition),
        "E" => Some(delimiters.escape),
        "T" => delimiters.subcomponent,
        "P" => delimiters.truncation,
        ".br" => Some(b'\n'),
        _ => return body.strip_prefix('X').and_then(hex_bytes).and_then(decode),
    };
    delimiter.map(|byte| char::from(byte).to_string())
}

fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(hex_value(pair[0])? << 4 | hex_value(pair[1])?)).collect()
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standard() -> Delimiters {
        Delimiters { truncation: Some(b'#'), ..Delimiters::default() }
    }

    #[test]
    fn every_delimiter_has_its_letter() {
        assert_eq!(escape(r"a|b^c~d\e&f#g", &standard()), r"a\F\b\S\c\R\d\E\e\T\f\P\g");
        assert_eq!(unescape(r"a\F\b\S\c\R\d\E\e\T\f\P\g", &standard()), r"a|b^c~d\e&f#g");
    }

    #[test]
    fn the_letters_follow_the_message_and_not_the_usual_characters() {
        let odd = Delimiters {
            field: b'$',
            component: b'%',
            repetition: b'*',
            escape: b'@',
            subcomponent: Some(b'!'),
            truncation: None,
        };
        assert_eq!(escape("1|2$3@4!5", &odd), "1|2@F@3@E@4@T@5");
        assert_eq!(unescape(r"@F@\F\", &odd), r"$\F\");
    }

    #[test]
    fn line_ends_and_frame_bytes_become_hexadecimal() {
        assert_eq!(escape("a\r\nb\x0B\x1C\0c\td", &standard()), "a\\X0D\\\\X0A\\b\\X0B\\\\X1C\\\\X00\\c\td");
    }

    #[test]
    fn hexadecimal_and_line_breaks_are_read() {
        assert_eq!(unescape(r"a\.br\b\XC3A9\c\X0d\d", &standard()), "a\nb\u{e9}c\rd");
    }

    #[test]
    fn what_is_no_sequence_is_kept_as_sent() {
        for kept in
            [r"\Q\", r"\X4\", r"\XZZ\", r"\X\", r"\", r"a\b", r"\H\bold\N\", r"\XFF\", r"\\", r"\.sp+3\", r"\ZZ"]
        {
            assert_eq!(unescape(kept, &standard()), kept);
        }
    }

    #[test]
    fn a_sequence_after_a_lone_escape_character_is_still_read() {
        assert_eq!(unescape(r"C:\dir\F\x", &standard()), r"C:\dir|x");
    }

    #[test]
    fn a_delimiter_the_message_does_not_define_is_neither_written_nor_read() {
        let three = Delimiters { subcomponent: None, ..Delimiters::default() };
        assert_eq!(escape("a&b#", &three), "a&b#");
        assert_eq!(unescape(r"a\T\b\P\", &three), r"a\T\b\P\");
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(text in any::<String>()) {
            let escaped = escape(&text, &standard());
            prop_assert_eq!(unescape(&escaped, &standard()), text.as_str());
        }

        #[test]
        fn escaped_text_has_no_structure(text in any::<String>()) {
            let escaped = escape(&text, &standard());
            prop_assert!(!escaped.contains(['|', '^', '~', '&', '#', '\r', '\n', '\x0B', '\x1C']));
        }

        #[test]
        fn unescape_takes_any_text(text in r"[\\XFSTREP.br0-9a-f]{0,40}") {
            unescape(&text, &standard());
        }
    }
}
