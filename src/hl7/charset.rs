//! MSH-18 (table 0211): which characters the bytes are.
//!
//! What must never happen: a byte that is no legal character is replaced and goes on as if it had been sent. So intake
//! asks [`Message::check_text`] first, and an edit refuses text the message's set cannot hold.

use std::{borrow::Cow, fmt};

use encoding_rs::{DecoderResult, Encoding};

use super::{Message, escape::unescape_with};

/// The character set of one message.
///
/// Names are those of table 0211, or the labels of the WHATWG Encoding Standard, which gateways send as well (`utf-8`,
/// `iso-8859-1`). `8859/1` and `8859/9` are read as windows-1252 and windows-1254, as browsers do: the bytes 80–9F, which
/// those sets leave to control codes no device sends, are the letters Windows gateways mean by them; they are never
/// written. `ASCII` is seven bits and no more. `ISO IR87` is read as ISO-2022-JP; `ISO IR159` likewise, without the
/// supplementary kanji of JIS X 0212, which are refused. `UNICODE` alone is UTF-8, which an MLLP frame can carry; UTF-16,
/// UTF-32 and `CNS 11643-1992` are not supported: docs/CONFIG.md has the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Charset {
    name: &'static str,
    encoding: &'static Encoding,
    seven_bit: bool,
}

/// Why the text of a message cannot be read. Carries no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// MSH-18 names no known set (0357 code 103).
    #[error("MSH-18 names a character set that is not supported; the sender must use one of table 0211 that is")]
    Unknown,
    /// The bytes are not legal in that set (102).
    #[error(
        "bytes are not legal in the message's character set, first at byte {offset}; the sender must name the set it writes in MSH-18"
    )]
    Illegal {
        /// Byte offset into the message.
        offset: usize,
    },
}

/// Table 0211, without what cannot stand in a frame.
static TABLE_0211: [(&str, &Encoding); 19] = [
    ("UNICODE UTF-8", encoding_rs::UTF_8),
    ("ASCII", encoding_rs::UTF_8),
    ("8859/1", encoding_rs::WINDOWS_1252),
    ("8859/2", encoding_rs::ISO_8859_2),
    ("8859/3", encoding_rs::ISO_8859_3),
    ("8859/4", encoding_rs::ISO_8859_4),
    ("8859/5", encoding_rs::ISO_8859_5),
    ("8859/6", encoding_rs::ISO_8859_6),
    ("8859/7", encoding_rs::ISO_8859_7),
    ("8859/8", encoding_rs::ISO_8859_8),
    ("8859/9", encoding_rs::WINDOWS_1254),
    ("8859/15", encoding_rs::ISO_8859_15),
    ("ISO IR14", encoding_rs::ISO_2022_JP),
    ("ISO IR87", encoding_rs::ISO_2022_JP),
    ("ISO IR159", encoding_rs::ISO_2022_JP),
    ("GB 18030-2000", encoding_rs::GB18030),
    ("KS X 1001", encoding_rs::EUC_KR),
    ("BIG-5", encoding_rs::BIG5),
    ("UNICODE", encoding_rs::UTF_8),
];

impl Charset {
    /// What a message is taken for where neither MSH-18 nor its channel says: it holds ASCII and tells other sets apart.
    pub const UTF_8: Charset = Charset { name: "UNICODE UTF-8", encoding: encoding_rs::UTF_8, seven_bit: false };

    /// The names of table 0211 that are read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE_0211.iter().map(|(name, _)| *name)
    }

    /// The set that a name of table 0211 or a WHATWG label means; letter case and blanks around it do not matter.
    pub fn from_label(label: &str) -> Option<Charset> {
        let label = label.trim();
        if let Some((name, encoding)) = TABLE_0211.iter().find(|(name, _)| name.eq_ignore_ascii_case(label)) {
            return Some(Charset { name, encoding, seven_bit: *name == "ASCII" });
        }
        if ["us-ascii", "ISO IR6", "ISO IR006"].iter().any(|ascii| label.eq_ignore_ascii_case(ascii)) {
            return Charset::from_label("ASCII");
        }
        let encoding = Encoding::for_label_no_replacement(label.as_bytes())?;
        let usable = encoding == encoding.output_encoding() && encoding != encoding_rs::X_USER_DEFINED;
        usable.then(|| Charset { name: encoding.name(), encoding, seven_bit: false })
    }

    /// The set that the repetitions of MSH-18 mean together: the first, but where that is ASCII and another shifts from
    /// ASCII to Japanese and back (`~ISO IR87`, the usual way in Japan), that one, which holds both.
    pub(super) fn of_alternatives(sets: &[Charset]) -> Option<Charset> {
        let first = sets.first()?;
        let shifting = sets.iter().find(|set| first.seven_bit && set.encoding == encoding_rs::ISO_2022_JP);
        shifting.or(Some(first)).copied()
    }

    /// Its name in table 0211, or the WHATWG name where it was asked for by one.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it shifts between alphabets, which it does with ESC.
    pub fn shifts(&self) -> bool {
        self.encoding == encoding_rs::ISO_2022_JP
    }

    /// `raw` as text, if every byte is legal.
    pub fn decode<'r>(&self, raw: &'r [u8]) -> Option<Cow<'r, str>> {
        if self.seven_bit && !raw.is_ascii() {
            return None;
        }
        self.encoding.decode_without_bom_handling_and_without_replacement(raw)
    }

    /// `text` as bytes, if the set has every character.
    pub fn encode<'t>(&self, text: &'t str) -> Option<Cow<'t, [u8]>> {
        if self.seven_bit && !text.is_ascii() {
            return None;
        }
        let (raw, _, unmappable) = self.encoding.encode(text);
        let windows_only = self.name.starts_with("8859/") && raw.iter().any(|byte| (0x80..0xA0).contains(byte));
        (!unmappable && !windows_only).then_some(raw)
    }

    /// Offset of the first byte that is not legal.
    fn first_illegal(&self, raw: &[u8]) -> Option<usize> {
        if self.seven_bit || self.encoding == encoding_rs::UTF_8 {
            let valid = if self.seven_bit { Encoding::ascii_valid_up_to(raw) } else { Encoding::utf8_valid_up_to(raw) };
            return (valid < raw.len()).then_some(valid);
        }
        let mut decoder = self.encoding.new_decoder_without_bom_handling();
        let mut text = [0; 4096];
        let mut at = 0;
        loop {
            let (result, read, _) = decoder.decode_to_utf8_without_replacement(&raw[at..], &mut text, true);
            at += read;
            match result {
                DecoderResult::InputEmpty => return None,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(length, after) => {
                    return Some(at.saturating_sub(usize::from(length) + usize::from(after)));
                }
            }
        }
    }

    /// `bytes` with every byte that belongs to a wide character replaced by one that is no delimiter; `None` where no
    /// such byte can look like a delimiter. In Big5, GB 18030, Shift JIS and ISO-2022-JP the second byte of a character
    /// may be `|`, `^`, `~` or `\`, which must not split the field it stands in.
    pub(super) fn structure(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let encoding = self.encoding;
        if encoding == encoding_rs::ISO_2022_JP {
            return bytes.contains(&ESC).then(|| hide_shifted(bytes));
        }
        let wide =
            [encoding_rs::BIG5, encoding_rs::GB18030, encoding_rs::GBK, encoding_rs::SHIFT_JIS].contains(&encoding);
        (wide && !bytes.is_ascii()).then(|| hide_pairs(bytes, encoding == encoding_rs::SHIFT_JIS))
    }
}

impl fmt::Debug for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Charset({})", self.name)
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Message {
    /// Proves that the whole message is legal text in its character set.
    pub fn check_text(&self) -> Result<(), CharsetError> {
        match self.charset()?.first_illegal(self.as_bytes()) {
            Some(offset) => Err(CharsetError::Illegal { offset }),
            None => Ok(()),
        }
    }

    /// `raw` (part of this message) decoded by its character set and unescaped. Undecodable bytes, which intake has
    /// refused before, become U+FFFD.
    pub fn text<'r>(&self, raw: &'r [u8]) -> Cow<'r, str> {
        let charset = self.charset().unwrap_or(Charset::UTF_8);
        let decoded = charset.decode(raw).unwrap_or_else(|| charset.encoding.decode_without_bom_handling(raw).0);
        let decode = |hex: Vec<u8>| charset.decode(&hex).map(Cow::into_owned);
        match decoded {
            Cow::Borrowed(text) => unescape_with(text, &self.delimiters(), decode),
            Cow::Owned(text) => Cow::Owned(unescape_with(&text, &self.delimiters(), decode).into_owned()),
        }
    }
}

/// [`Charset::structure`] of an MSH, whose set is not known before its MSH-18 is found, in which a wide character in MSH-3 to
/// MSH-6 may have a separator for its half: the reading by which MSH-18 names a set that is read so. `None` where no such
/// reading is needed.
pub(super) fn structure_of_msh(msh: &[u8], separator: u8) -> Option<Vec<u8>> {
    if msh.is_ascii() && !msh.contains(&ESC) {
        return None;
    }
    let readings = [hide_pairs(msh, false), hide_pairs(msh, true), hide_shifted(msh)];
    readings.into_iter().find(|reading| {
        let name = reading.split(|byte| *byte == separator).nth(17).and_then(|name| std::str::from_utf8(name).ok());
        let sets = name.into_iter().flat_map(|name| name.split('~')).filter_map(Charset::from_label);
        sets.into_iter().any(|set| set.structure(msh).as_ref() == Some(reading))
    })
}

/// No delimiter and no line end.
const HIDDEN: u8 = 0xFF;
const ESC: u8 = 0x1B;

fn hide_pairs(bytes: &[u8], shift_jis: bool) -> Vec<u8> {
    let is_lead = |byte: u8| match byte {
        0x81..=0x9F | 0xE0..=0xFC => true,
        0xA0..=0xDF | 0xFD..=0xFE => !shift_jis,
        _ => false,
    };
    let mut structure = bytes.to_vec();
    let mut at = 0;
    while at + 1 < structure.len() {
        // No character's second byte is below 0x30, so a line end after a stray lead byte still ends its segment.
        if is_lead(structure[at]) && structure[at + 1] >= 0x30 {
            structure[at + 1] = HIDDEN;
            at += 1;
        }
        at += 1;
    }
    structure
}

/// Hides what stands between a shift to two-byte characters (`ESC $ …`) and the shift back (`ESC ( …`), or the line end,
/// at which every segment starts over in ASCII.
fn hide_shifted(bytes: &[u8]) -> Vec<u8> {
    let mut structure = bytes.to_vec();
    let mut shifted = false;
    let mut at = 0;
    while at < bytes.len() {
        let skip = match &bytes[at..] {
            [ESC, b'$', b'(', ..] => 4,
            [ESC, b'$' | b'(', ..] => 3,
            _ => 1,
        };
        let end = (at + skip).min(bytes.len());
        match bytes[at] {
            ESC if skip > 1 => shifted = bytes[at + 1] == b'$',
            b'\r' | b'\n' => shifted = false,
            _ => {}
        }
        if skip > 1 || shifted {
            structure[at..end].fill(HIDDEN);
        }
        at = end;
    }
    structure
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn message(charset: &str, name: &[u8]) -> Message {
        let head = format!("MSH|^~\\&|A|B|C|D|20260314||ADT^A01|1|P|2.6||||||{charset}\rPID|1||42||");
        Message::parse([head.as_bytes(), name, b"^next|M\r"].concat()).expect("a message")
    }

    fn family_name(message: &Message) -> Cow<'_, str> {
        message.text(message.segment("PID").expect("PID").field(5).component(1).raw())
    }

    #[test]
    fn each_set_of_the_table_is_read() {
        for (charset, name, text) in [
            ("", &b"M\xC3\xBCller"[..], "Müller"),
            ("ASCII", b"Muller", "Muller"),
            ("8859/1", b"M\xFCller", "Müller"),
            ("8859/2", b"\xA3ukasz", "Łukasz"),
            ("8859/5", b"\xB8\xD2\xD0\xDD", "Иван"),
            ("8859/7", b"\xC1\xE8\xDE\xED\xE1", "Αθήνα"),
            ("8859/9", b"\xDD", "İ"),
            ("8859/15", b"\xA4", "€"),
            ("UNICODE UTF-8", b"M\xC3\xBCller", "Müller"),
            ("utf-8", b"M\xC3\xBCller", "Müller"),
            ("iso-8859-1", b"M\xFCller", "Müller"),
            ("ISO IR87", b"\x1B$B;3ED\x1B(B", "山田"),
            ("~ISO IR87", b"\x1B$B;3ED\x1B(B", "山田"),
            ("ASCII~ISO IR14~ISO IR87", b"\x1B$B;3ED\x1B(B", "山田"),
            ("GB 18030-2000", b"\xD6\xD0\xCE\xC4", "中文"),
            ("KS X 1001", b"\xB1\xE8", "김"),
            ("BIG-5", b"\xA4\xA4\xA4\xE5", "中文"),
            ("8859/1~UNICODE UTF-8", b"M\xFCller", "Müller"),
        ] {
            let message = message(charset, name);
            assert_eq!(message.check_text(), Ok(()), "{charset}");
            assert_eq!(family_name(&message), text, "{charset}");
        }
    }

    #[test]
    fn a_set_that_is_not_supported_is_refused_and_not_guessed() {
        for charset in [
            "KLINGON",
            "UNICODE UTF-16",
            "UNICODE UTF-32",
            "CNS 11643-1992",
            "utf-16le",
            "iso-2022-kr",
            "8859/16x",
            "8859/1~KLINGON",
        ] {
            assert_eq!(message(charset, b"X").check_text(), Err(CharsetError::Unknown), "{charset}");
        }
    }

    #[test]
    fn bytes_that_are_not_legal_are_refused_with_their_place() {
        for (charset, name) in [
            ("ASCII", &b"M\xFCller"[..]),
            ("UNICODE UTF-8", b"M\xFCller"),
            ("", b"M\xFCller"),
            ("ISO IR87", b"M\xFCller"),
            ("BIG-5", b"M\x81\x3Fr"),
        ] {
            let message = message(charset, name);
            let offset = message.segment("PID").unwrap().field_range(5).unwrap().start + 1;
            assert_eq!(message.check_text(), Err(CharsetError::Illegal { offset }), "{charset}");
        }
    }

    #[test]
    fn the_place_is_right_far_into_a_long_message() {
        let mut name = vec![0xB0; 100_000];
        name.push(0xFF);
        let message = message("KS X 1001", &name);
        let offset = message.segment("PID").unwrap().field_range(5).unwrap().start + 100_000;
        assert_eq!(message.check_text(), Err(CharsetError::Illegal { offset }));
    }

    #[test]
    fn the_second_byte_of_a_wide_character_splits_no_field() {
        for (charset, name, text) in [
            ("BIG-5", &b"\xA5\x5C\xA6\x7C\xB3\x5E"[..], "功老頂"),
            ("GB 18030-2000", b"\x81\x7C\x82\x5E\x83\x7E", "亅俕儈"),
            ("shift_jis", b"\x83\x7C\x83\x5E\xB1\x83\x5C", "ポタアソ"),
            ("ISO IR87", b"\x1B$B%|%^%~\x1B(B", ""),
        ] {
            let message = message(charset, name);
            let pid = message.segment("PID").unwrap();
            assert_eq!(pid.field(5).component(2).raw(), b"next", "{charset}");
            assert_eq!(pid.field(6).raw(), b"M", "{charset}");
            if !text.is_empty() {
                let (expected, _, _) = Charset::from_label(charset).unwrap().encoding.decode(name);
                assert_eq!(family_name(&message), expected, "{charset}");
                assert_eq!(message.check_text(), Ok(()), "{charset}");
            }
        }
    }

    #[test]
    fn a_stray_lead_byte_does_not_swallow_the_end_of_its_segment() {
        let message = Message::parse(&b"MSH|^~\\&|A||||||ADT|1|P|2.6||||||BIG-5\rPID|\xA4\rPV1|\x81|x\r"[..]).unwrap();
        assert_eq!(message.segments().len(), 3);
        assert!(message.check_text().is_err());
    }

    #[test]
    fn two_byte_characters_that_are_not_ended_do_not_swallow_the_end_of_their_segment() {
        for end in ["\r", "\n", "\r\n"] {
            let text = ["MSH|^~\\&|A||||||ADT|1|P|2.6||||||ISO IR87", "PID|\x1B$B%|", "PV1|x|y"].join(end);
            let message = Message::parse(text).unwrap();
            assert_eq!((message.segments().len(), message.segment("PV1").unwrap().field_count()), (3, 2));
        }
    }

    #[test]
    fn text_that_does_not_fit_is_not_written() {
        let set = |label| Charset::from_label(label).unwrap();
        assert_eq!(set("8859/1").encode("Müller").as_deref(), Some(&b"M\xFCller"[..]));
        assert_eq!(set("8859/1").encode("5 €"), None);
        assert_eq!(set("windows-1252").encode("5 €").as_deref(), Some(&b"5 \x80"[..]));
        assert_eq!(set("ASCII").encode("é"), None);
        assert_eq!(set("8859/7").encode("é"), None);
        assert_eq!(set("ISO IR87").encode("山田").as_deref(), Some(&b"\x1B$B;3ED\x1B(B"[..]));
    }

    #[test]
    fn a_hexadecimal_escape_is_read_in_the_messages_own_set() {
        assert_eq!(family_name(&message("8859/1", br"M\XFC\ller")), "Müller");
        assert_eq!(family_name(&message("UNICODE UTF-8", br"M\XC3BC\ller")), "Müller");
        assert_eq!(family_name(&message("ASCII", br"M\XFC\ller")), r"M\XFC\ller");
    }

    #[test]
    fn a_channel_gives_a_default_for_an_empty_msh_18_or_rules_over_it() {
        let latin = Charset::from_label("8859/1").unwrap();
        let unnamed = message("", b"M\xFCller").read_as(None, latin).unwrap();
        assert_eq!((unnamed.check_text(), family_name(&unnamed).as_ref()), (Ok(()), "Müller"));
        let misnamed = message("UNICODE UTF-8", b"M\xFCller");
        assert!(misnamed.clone().read_as(None, latin).unwrap().check_text().is_err());
        let ruled = misnamed.read_as(Some(latin), Charset::UTF_8).unwrap();
        assert_eq!((ruled.check_text(), family_name(&ruled).as_ref()), (Ok(()), "Müller"));
    }

    #[test]
    fn a_channels_set_also_rules_where_the_fields_end() {
        let big5 = Charset::from_label("BIG-5").unwrap();
        let message = message("", b"\xA6\x7C");
        assert_eq!(message.segment("PID").unwrap().field(6).component(2).raw(), b"next");
        let message = message.read_as(Some(big5), Charset::UTF_8).unwrap();
        assert_eq!(message.segment("PID").unwrap().field(6).raw(), b"M");
    }
}
