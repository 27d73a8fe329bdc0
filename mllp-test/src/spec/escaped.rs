//! Bytes as a person reads them: framing and control bytes by name, others by number, long runs cut with their length
//! told.

const HEAD: usize = 240;
const TAIL: usize = 40;

/// The bytes in one line; of more than some three hundred the head and the tail.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    if bytes.len() <= HEAD + TAIL {
        push(&mut text, bytes);
        return text;
    }
    push(&mut text, &bytes[..HEAD]);
    text.push_str(&format!(" … ({} bytes in all) … ", bytes.len()));
    push(&mut text, &bytes[bytes.len() - TAIL..]);
    text
}

fn push(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            0x00 => text.push_str("<NUL>"),
            0x0B => text.push_str("<VT>"),
            0x1C => text.push_str("<FS>"),
            0x1B => text.push_str("<ESC>"),
            b'\r' => text.push_str("<CR>"),
            b'\n' => text.push_str("<LF>"),
            b' '..=b'~' => text.push(byte.into()),
            other => text.push_str(&format!("<{other:02X}>")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_can_be_read_and_a_long_message_is_cut_with_its_length() {
        assert_eq!(escaped(b"\x0bMSH|\xe9\x01\r\n\0\x1b\x1c\r"), "<VT>MSH|<E9><01><CR><LF><NUL><ESC><FS><CR>");
        let long = escaped(&[b'x'; 5000]);
        assert!(long.contains("(5000 bytes in all)") && long.len() < 400, "{long}");
    }
}
