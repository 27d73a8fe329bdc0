//! One file as it was read, its lines, and the faults found in it.

use std::{
    cell::RefCell,
    ops::Range,
    path::{Path, PathBuf},
};

use super::Fault;

/// A file being read. Faults gather here so that reading goes on past each.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
    faults: RefCell<Vec<Fault>>,
}

/// What is wrong with a value and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub what: String,
    pub remedy: String,
    /// Byte in the value's text where it begins.
    pub at: usize,
}

impl Problem {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { what: what.into(), remedy: remedy.into(), at: 0 }
    }
}

impl Source {
    pub fn new(path: &Path, text: String) -> Source {
        Source { path: path.to_owned(), text, faults: RefCell::new(Vec::new()) }
    }

    /// Notes a fault that begins at byte `at` of the file.
    pub fn fault(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        self.faults.borrow_mut().push(self.told(at, what, remedy));
    }

    /// The same, not noted: for what is no fault.
    pub fn told(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let (line, column) = line_column(&self.text, at);
        let (what, remedy) = (what.into(), remedy.into());
        Fault { file: self.path.clone(), line, column, what, remedy }
    }

    /// The line of byte `at`, from 1.
    pub fn line(&self, at: usize) -> usize {
        line_column(&self.text, at).0
    }

    /// Notes a problem in the value whose span is given: at its place inside a text, else at the value.
    pub fn problem(&self, key: &str, span: &Range<usize>, problem: Problem) {
        let at = if problem.at == 0 { span.start } else { text_offset(&self.text, span, problem.at) };
        self.fault(at, format!("{key}: {}", problem.what), problem.remedy);
    }

    /// Every fault so far, in the order of the file.
    pub fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults
    }
}

/// Line and column, both from 1, of byte `at`; columns count characters.
pub(super) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Byte in the file of byte `at` of the text that the string literal at `span` stands for. A literal with a line-ending
/// backslash, where the two run apart over lines, gives the literal's start.
fn text_offset(file: &str, span: &Range<usize>, at: usize) -> usize {
    let Some(literal) = file.get(span.clone()) else { return span.start };
    let (quotes, escapes) = match literal.as_bytes() {
        [b'\'', b'\'', b'\'', ..] => (3, false),
        [b'"', b'"', b'"', ..] => (3, true),
        [b'"', ..] => (1, true),
        _ => (1, false),
    };
    let mut rest = &literal[quotes..];
    if quotes == 3 {
        rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')).unwrap_or(rest);
    }
    let mut offset = literal.len() - rest.len();
    let mut decoded = 0;
    while decoded < at {
        let Some(next) = literal.get(offset..).and_then(|rest| rest.chars().next()) else { return span.start };
        let (written, stands_for) = match next {
            '\\' if escapes => match escape_length(&literal[offset + 1..]) {
                Some(length) => length,
                None => return span.start,
            },
            other => (other.len_utf8(), other.len_utf8()),
        };
        offset += written;
        decoded += stands_for;
    }
    span.start + offset
}

/// Bytes an escape takes in the file, backslash included, and bytes of UTF-8 it stands for.
fn escape_length(after_backslash: &str) -> Option<(usize, usize)> {
    let digits = match after_backslash.chars().next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        c if c.is_whitespace() => return None,
        _ => return Some((2, 1)),
    };
    let code = u32::from_str_radix(after_backslash.get(1..=digits)?, 16).ok()?;
    Some((digits + 2, char::from_u32(code)?.len_utf8()))
}
