//! Documents and pictures in OBX-5 (ED) or beside it (RP). R4's Observation has no value for them; they stand in the
//! extension that R5's Observation.valueAttachment has for R4. What is not the encoding it says refuses the message.

use super::Translation;
use crate::{
    fhir::{Attachment, Text},
    hl7::Repetition,
};

/// ED: source application ^ type ^ subtype ^ encoding ^ data (v2.6 ch. 2A.24).
pub(super) fn encapsulated<'a>(
    translation: &Translation<'a>,
    repetition: Repetition<'a>,
) -> Result<Attachment<'a>, &'static str> {
    let part = |n| translation.text(repetition.component(n).raw());
    let (content, encoding) = (part(5), part(4));
    let data = match encoding.to_ascii_lowercase().as_str() {
        "base64" => base64_sent(&content).ok_or("is not the Base64 that ED.4 says; ask the sender to mend it")?.into(),
        "hex" => {
            base64(&hexadecimal(&content).ok_or("is not the Hex that ED.4 says; ask the sender to mend it")?).into()
        }
        "" | "a" => base64(content.as_bytes()).into(),
        _ => return Err("has an encoding (ED.4) that is none of A, Hex and Base64; ask the sender to mend it"),
    };
    Ok(Attachment { content_type: media_type(&part(2), &part(3)), data: Some(data), ..Attachment::default() })
}

/// RP: pointer ^ application ^ type ^ subtype (v2.6 ch. 2A.65).
pub(super) fn referenced<'a>(
    translation: &Translation<'a>,
    repetition: Repetition<'a>,
) -> Result<Attachment<'a>, &'static str> {
    let part = |n| translation.text(repetition.component(n).raw());
    let pointer = part(1);
    if pointer.is_empty() {
        return Err("points to nothing; ask the sender to fill RP.1");
    }
    let url = if pointer.contains(char::is_whitespace) { Text::Owned(pointer.replace(' ', "%20")) } else { pointer };
    if url.contains(char::is_whitespace) {
        return Err("is no address; ask the sender to mend RP.1");
    }
    Ok(Attachment { content_type: media_type(&part(3), &part(4)), url: Some(url), ..Attachment::default() })
}

/// Tables 0191 and 0291 as a media type; what they do not tell stays out.
fn media_type(kind: &str, subtype: &str) -> Option<Text<'static>> {
    let subtype = subtype.to_ascii_lowercase();
    if subtype.contains('/') {
        return Some(subtype.into());
    }
    let kind = match kind.to_ascii_lowercase().as_str() {
        "ap" | "application" => "application",
        "im" | "image" => "image",
        "au" | "audio" => "audio",
        "video" => "video",
        "text" | "tx" | "ft" => "text",
        "multipart" => "multipart",
        "" | "sd" | "si" if subtype == "pdf" => "application",
        _ => return None,
    };
    match subtype.as_str() {
        "" if kind == "text" => Some("text/plain".into()),
        "" => None,
        "octet-stream" | "rtf" | "pdf" | "x-hl7-cda-level-one" => Some(format!("application/{subtype}").into()),
        _ => Some(format!("{kind}/{subtype}").into()),
    }
}

/// Base64 as sent, without the line ends some senders put into it.
fn base64_sent(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let digits = text.trim_end_matches('=');
    let legal = digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (legal && !digits.is_empty() && text.len().is_multiple_of(4) && text.len() - digits.len() <= 2).then_some(text)
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let whole = digits.len().is_multiple_of(2) && !digits.is_empty();
    whole.then(|| digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let part = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = part(0) << 16 | part(1) << 8 | part(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_hexadecimal_become_base64() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(hexadecimal("25 50 44 46").as_deref(), Some(&b"%PDF"[..]));
        assert_eq!((hexadecimal("255"), hexadecimal("2G"), hexadecimal("")), (None, None, None));
    }

    #[test]
    fn what_is_no_base64_is_not_passed_on_as_such() {
        assert_eq!(base64_sent("Zm9v\r\nYg==").as_deref(), Some("Zm9vYg=="));
        for text in ["", "====", "Zm9", "Zm9v!", "Z===", "Zm=v"] {
            assert_eq!(base64_sent(text), None, "{text}");
        }
    }

    #[test]
    fn a_media_type_is_told_by_type_and_subtype_together() {
        let told = |kind, subtype| media_type(kind, subtype).map(Text::into_owned);
        assert_eq!(told("AP", "PDF").as_deref(), Some("application/pdf"));
        assert_eq!(told("", "PDF").as_deref(), Some("application/pdf"));
        assert_eq!(told("IM", "JPEG").as_deref(), Some("image/jpeg"));
        assert_eq!(told("TEXT", "").as_deref(), Some("text/plain"));
        assert_eq!(told("", "application/dicom").as_deref(), Some("application/dicom"));
        assert_eq!(told("ZZ", "x"), None);
    }
}
