//! References to secrets, followed. No fault repeats what is referred to, or what stands in a reference's place.

use std::fs;

use toml::{Spanned, de::DeValue};

use super::{channel_file::Surroundings, keys, reader::Reader, source::Problem};
use crate::destination::Secret;

/// A secret file is read up to here.
const SECRET_BYTES_MAX: usize = 64 << 10;
/// A bundle of all public authorities has some 200 KB.
const CERTIFICATES_BYTES_MAX: usize = 1 << 20;

/// What a secret may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One line, such as a password.
    Line,
    /// A PEM file.
    Pem,
}

/// The secret that key `name` refers to; a fault where it is not written.
pub(super) fn required(table: &Reader<'_>, name: &str, shape: Shape, around: &Surroundings<'_>) -> Option<Secret> {
    let Some(value) = table.written(name) else {
        table.missing(name);
        return None;
    };
    follow(table, name, value, shape, around)
}

/// The secret that a value of `table`, at key `name`, refers to.
pub(super) fn follow<'d>(
    table: &Reader<'d>,
    name: &str,
    value: &'d Spanned<DeValue<'d>>,
    shape: Shape,
    around: &Surroundings<'_>,
) -> Option<Secret> {
    let report = |problem| table.source.problem(&table.key(name), &value.span(), problem);
    let remedy = "move it to a file or the environment and write { file = \"…\" } or { env = \"…\" }";
    if !value.get_ref().is_table() {
        report(Problem::new("a secret stands in the file itself", remedy));
        return None;
    }
    let reference = table.table_at(name, &keys::SECRET, value)?;
    let text = match reference.written_keys()[..] {
        ["env"] => from_env(&reference),
        ["file"] => reference.text("file", |name| read_file(name, SECRET_BYTES_MAX, around)),
        _ => {
            report(Problem::new("not a secret reference", "write { file = \"…\" } or { env = \"…\" }"));
            None
        }
    }?;
    let is_illegal = |c: char| c.is_control() && !(shape == Shape::Pem && c.is_ascii_whitespace());
    if text.is_empty() || text.chars().any(is_illegal) {
        report(Problem::new("the secret is empty or holds a control character", "mend what is referred to"));
        return None;
    }
    Some(Secret(text.into()))
}

/// A file of certificates or a key, named by its path.
pub(super) fn pem_file(table: &Reader<'_>, name: &str, around: &Surroundings<'_>) -> Option<String> {
    table.text(name, |path| {
        if path.contains("-----") {
            return Err(Problem::new("the file's content stands here", "write the name of the file"));
        }
        read_file(path, CERTIFICATES_BYTES_MAX, around)
    })
}

fn from_env(reference: &Reader<'_>) -> Option<String> {
    reference.text("env", |name| {
        let missing = format!("the environment variable {name:?} is not set or not UTF-8");
        std::env::var(name).map_err(|_| Problem::new(missing, "set it where the engine is started"))
    })
}

fn read_file(name: &str, bytes_max: usize, around: &Surroundings<'_>) -> Result<String, Problem> {
    let path = around.base.join(name);
    around.secret_files.borrow_mut().push(path.clone());
    let remedy = format!("let the engine's user read {}", path.display());
    let text = fs::read_to_string(&path)
        .map_err(|error| Problem::new(format!("the secret cannot be read: {}", error.kind()), remedy))?;
    if text.len() > bytes_max {
        return Err(Problem::new("the file is too long for what it shall be", "refer to the right file"));
    }
    Ok(text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(&text).to_owned())
}
