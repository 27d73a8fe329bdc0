//! What is printed of senders' text: a control character that stands in it is told, and is no command to a terminal.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::pcd::printable;

/// Lines of text.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// JSON, which leaves DEL and the upper control characters as they are.
pub(super) fn json(value: &Value) -> String {
    let text = format!("{value:#}");
    let acts = |c: &char| c.is_control() && *c != '\n';
    if !text.contains(|c| acts(&c)) {
        return text;
    }
    let told = |c: char| if acts(&c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(told).collect()
}

/// Bytes as they are, for a file or a program; to a terminal as lines.
pub(super) fn write_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.is_terminal() {
        true => out.write_all(lines(&String::from_utf8_lossy(bytes).replace('\r', "\n")).as_bytes()),
        false => out.write_all(bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_act_on_a_terminal_is_told_in_text_and_in_json() {
        assert_eq!(lines("a\x1b[2J\u{7}\nb\u{9b}"), "a\\x1b[2J\\x07\nb\\x9b");
        let value = json!({ "a": "x\u{1b}\u{7f}\u{9b}ü" });
        let text = json(&value);
        assert!(text.is_char_boundary(0) && text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap_or_default(), value);
    }
}
