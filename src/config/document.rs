//! A TOML file parsed with the place of everything in it.

use toml::{Spanned, de::DeTable};

use super::source::Source;

/// The document's root; of a file with syntax errors, what could be made out of it.
pub(super) struct Document<'d> {
    pub root: Spanned<DeTable<'d>>,
    /// There were no syntax errors.
    pub sound: bool,
}

impl<'d> Document<'d> {
    /// Parses the file and notes every syntax error in it.
    pub fn parse(source: &'d Source) -> Document<'d> {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            source.fault(at, format!("not TOML: {what}"), "mend the line");
        }
        Document { root, sound: errors.is_empty() }
    }
}
