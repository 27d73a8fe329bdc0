//! Finds the paths an expression names: `msg["PATH"]` and `msg.all("PATH")`.
//!
//! A path must be written out. One put together while a message waits could not be checked before.

use super::expression::ExpressionError;

/// A path as it stands in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub text: String,
    /// `msg.all(…)`, every value, rather than `msg[…]`, the first.
    pub all: bool,
    /// Place of the opening quote, both from 1.
    pub line: usize,
    pub column: usize,
}

/// Every path named in `expression`, in order; an error where `msg` is used in any other way.
pub(super) fn named_paths(expression: &str) -> Result<Vec<Named>, ExpressionError> {
    let tokens = tokens(expression);
    let mut named = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Template {
            return Err(ExpressionError {
                what: "a text with `${…}` in it, in which paths cannot be checked; join texts with +".to_owned(),
                line: token.line,
                column: token.column,
            });
        }
        if token.kind != Kind::Word("msg".to_owned()) || i > 0 && tokens[i - 1].kind == Kind::Sign('.') {
            continue;
        }
        named.push(usage(&tokens[i + 1..]).ok_or_else(|| ExpressionError {
            what: "`msg` is read as `msg[\"PATH\"]` or `msg.all(\"PATH\")` with the path written out".to_owned(),
            line: token.line,
            column: token.column,
        })?);
    }
    Ok(named)
}

/// What follows `msg`.
fn usage(rest: &[Token]) -> Option<Named> {
    let kinds: Vec<&Kind> = rest.iter().take(5).map(|token| &token.kind).collect();
    let (text, all, at) = match kinds.as_slice() {
        [Kind::Sign('['), Kind::Text(text), Kind::Sign(']'), ..] => (text, false, &rest[1]),
        [Kind::Sign('.'), Kind::Word(name), Kind::Sign('('), Kind::Text(text), Kind::Sign(')')] if name == "all" => {
            (text, true, &rest[3])
        }
        _ => return None,
    };
    Some(Named { text: text.clone(), all, line: at.line, column: at.column })
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Word(String),
    /// A text in double quotes that needs no unescaping; any other text is `Opaque`.
    Text(String),
    Opaque,
    /// A text with code in it.
    Template,
    Sign(char),
}

struct Token {
    kind: Kind,
    line: usize,
    column: usize,
}

/// Just enough of rhai's lexical grammar to tell code from text and comments. The expression has compiled, so every
/// text and comment in it ends.
fn tokens(expression: &str) -> Vec<Token> {
    let mut cursor = Cursor { rest: expression, line: 1, column: 1 };
    let mut tokens = Vec::new();
    while let Some(next) = cursor.rest.chars().next() {
        let (line, column) = (cursor.line, cursor.column);
        let kind = match next {
            _ if next.is_whitespace() => {
                cursor.advance(next.len_utf8());
                continue;
            }
            '/' if cursor.rest.starts_with("//") => {
                cursor.advance(cursor.rest.find('\n').unwrap_or(cursor.rest.len()));
                continue;
            }
            '/' if cursor.rest.starts_with("/*") => {
                cursor.advance(comment(cursor.rest));
                continue;
            }
            '"' | '\'' | '`' => quoted(&cursor.advance(quoted_len(cursor.rest, next))[1..], next),
            _ if next == '_' || next.is_alphanumeric() => {
                let end = cursor.rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(cursor.rest.len());
                Kind::Word(cursor.advance(end).to_owned())
            }
            _ => {
                cursor.advance(next.len_utf8());
                Kind::Sign(next)
            }
        };
        tokens.push(Token { kind, line, column });
    }
    tokens
}

fn quoted(after_quote: &str, quote: char) -> Kind {
    let inner = after_quote.strip_suffix(quote).unwrap_or(after_quote);
    match quote {
        '"' if !inner.contains('\\') => Kind::Text(inner.to_owned()),
        '`' if inner.contains("${") => Kind::Template,
        _ => Kind::Opaque,
    }
}

fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Length of the block comment at the start of `rest`; rhai's nest.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        let step = here.chars().next().map_or(1, char::len_utf8);
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += step;
        }
    }
    rest.len()
}

struct Cursor<'e> {
    rest: &'e str,
    line: usize,
    column: usize,
}

impl<'e> Cursor<'e> {
    fn advance(&mut self, bytes: usize) -> &'e str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        for c in taken.chars() {
            (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        taken
    }
}
