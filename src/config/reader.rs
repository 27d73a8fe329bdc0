//! A typed reader over one table of a TOML document.
//!
//! Each read either gives the value, or notes a fault with its place and gives nothing; the caller goes on, so that one
//! run shows every fault. Keys that are unknown or not supported are faults as soon as a table is opened: no key is ever
//! ignored.

use std::{borrow::Cow, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{Absent, Key, Kind, Table},
    source::{Problem, Source},
};

/// One table, or nothing where an optional one was not written: then defaults hold.
pub(super) struct Reader<'d> {
    pub source: &'d Source,
    table: &'static Table,
    entries: Option<&'d DeTable<'d>>,
    /// What holds for keys that are not written, before their defaults.
    preset: Option<&'d DeTable<'d>>,
    /// Where the table begins, for what is missing in it.
    pub at: usize,
    prefix: String,
}

/// A string in the file.
pub(super) struct Written<'d> {
    pub text: Cow<'d, str>,
    pub span: Range<usize>,
}

/// One line of a table whose keys are the writer's own.
pub(super) struct Entry<'d> {
    pub key: Written<'d>,
    pub value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Reader<'d> {
    /// The document's root.
    pub fn root(source: &'d Source, table: &'static Table, document: &'d Spanned<DeTable<'d>>) -> Reader<'d> {
        Reader::open(source, table, Some(document.get_ref()), 0, String::new())
    }

    fn open(
        source: &'d Source,
        table: &'static Table,
        entries: Option<&'d DeTable<'d>>,
        at: usize,
        prefix: String,
    ) -> Reader<'d> {
        let reader = Reader { source, table, entries, preset: None, at, prefix };
        reader.check_keys();
        reader
    }

    /// The same, with values for keys that are not written.
    pub fn with_preset(mut self, preset: &'d DeTable<'d>) -> Reader<'d> {
        self.preset = Some(preset);
        self
    }

    fn check_keys(&self) {
        for (key, _) in self.entries.into_iter().flatten() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match self.table.keys.iter().find(|known| known.name == name) {
                None => {
                    let names: Vec<&str> = self.table.keys.iter().map(|key| key.name).collect();
                    let what = format!("unknown key {name:?} in {}", self.table.title);
                    self.source.fault(at, what, nearest(name, &names));
                }
                Some(Key { kind: Kind::Unsupported, .. }) => {
                    self.source.fault(at, format!("{} is not supported by this version", self.key(name)), "remove it");
                }
                Some(_) => {}
            }
        }
    }

    /// Faults for keys that belong to other types of `what`.
    pub fn only_for(&self, what: &str, kind: &str) {
        for (key, _) in self.entries.into_iter().flatten() {
            let known = self.table.keys.iter().find(|known| known.name == key.get_ref().as_ref());
            let Some(known) = known.filter(|known| !known.types.is_empty() && !known.types.contains(&kind)) else {
                continue;
            };
            let what = format!("{} does not belong to {what} of type {kind}", known.name);
            self.source.fault(key.span().start, what, format!("remove it; it is for {}", known.types.join(" and ")));
        }
    }

    /// The key was written, rightly or not.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Names of the keys written, in the order of the table's description.
    pub fn written_keys(&self) -> Vec<&'static str> {
        self.table.keys.iter().map(|key| key.name).filter(|name| self.has(name)).collect()
    }

    /// Where the key's value is, or else the table.
    pub fn place(&self, name: &str) -> usize {
        self.own(name).map_or(self.at, |value| value.span().start)
    }

    /// The key's value as written.
    pub fn written(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.value(name)
    }

    /// Whether the file has the key.
    pub fn is_written(&self, name: &str) -> bool {
        self.own(name).is_some()
    }

    /// Notes a problem of the key's value.
    pub fn problem(&self, name: &str, problem: Problem) {
        let span = self.own(name).map_or(self.at..self.at, Spanned::span);
        self.source.problem(&self.key(name), &span, problem);
    }

    /// A string.
    pub fn text<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        let Some(value) = self.value(name) else {
            // A default is ours: a test reads them all.
            return self.default_text(name).and_then(|text| parse(text).ok());
        };
        let text = self.string(name, value)?;
        parse(&text.text).map_err(|problem| self.problem(name, problem)).ok()
    }

    /// A string or a list of them.
    pub fn texts<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Problem>) -> Option<Vec<T>> {
        let Some(value) = self.value(name) else {
            let texts = self.default_text(name)?;
            return texts.split(", ").filter(|text| !text.is_empty()).map(|text| parse(text).ok()).collect();
        };
        let texts = self.strings(name, value)?;
        let count = texts.len();
        let report = |text: &Written, problem| self.source.problem(&self.key(name), &text.span, problem);
        let read = texts.iter().filter_map(|text| parse(&text.text).map_err(|problem| report(text, problem)).ok());
        let read: Vec<T> = read.collect();
        (read.len() == count).then_some(read)
    }

    /// One of a few strings; `values` in the order of the key's description.
    pub fn choice<T: Clone>(&self, name: &str, values: &[T]) -> Option<T> {
        let Kind::Choice(choices) = self.described(name)?.kind else { return None };
        self.text(name, |text| {
            let known = choices.iter().position(|choice| *choice == text);
            known.and_then(|at| values.get(at).cloned()).ok_or_else(|| {
                Problem::new(format!("{text:?} is none of {}", choices.join(", ")), nearest(text, choices))
            })
        })
    }

    /// true or false.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            None => self.default_text(name).map(|text| text == "true"),
            Some(value) => match value.get_ref() {
                DeValue::Boolean(flag) => Some(*flag),
                _ => self.wrong_type(name, value, "true or false"),
            },
        }
    }

    /// A whole number in the range of the key's description.
    pub fn count(&self, name: &str) -> Option<u64> {
        let Kind::Count(min, max) = self.described(name)?.kind else { return None };
        let Some(value) = self.value(name) else { return self.default_text(name)?.parse().ok() };
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(name, value, "a whole number");
        };
        let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let in_range = read.and_then(|n| u64::try_from(n).ok()).filter(|n| (min..=max).contains(n));
        if in_range.is_none() {
            self.problem(name, Problem::new("the number is out of range", format!("write one from {min} to {max}")));
        }
        in_range
    }

    /// A table inside this one.
    pub fn one(&self, name: &str) -> Option<Reader<'d>> {
        let described = self.described(name)?;
        let Kind::One(table) = described.kind else { return None };
        let Some(value) = self.value(name) else {
            if matches!(described.default, Absent::Required) {
                self.missing(name);
                return None;
            }
            return Some(Reader::open(self.source, table, None, self.at, self.key(name)));
        };
        self.table_at(name, table, value)
    }

    /// The tables of a `[[…]]`.
    pub fn many(&self, name: &str) -> Vec<Reader<'d>> {
        let Some(Key { kind: Kind::Many(table), default, .. }) = self.described(name) else { return Vec::new() };
        match self.value(name).map(|value| (value, value.get_ref())) {
            None => {
                if matches!(default, Absent::Required) {
                    self.missing(name);
                }
                Vec::new()
            }
            Some((_, DeValue::Array(items))) => {
                items.iter().filter_map(|item| self.table_at(name, table, item)).collect()
            }
            Some((value, _)) => {
                let _: Option<()> = self.wrong_type(name, value, &format!("[[{}]], a table each", self.key(name)));
                Vec::new()
            }
        }
    }

    /// The lines of a table whose keys are the writer's own.
    pub fn entries(&self, name: &str) -> Vec<Entry<'d>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            let _: Option<()> = self.wrong_type(name, value, "a table");
            return Vec::new();
        };
        let mut lines: Vec<Entry<'d>> = entries
            .iter()
            .map(|(key, value)| Entry { key: Written { text: Cow::Borrowed(key.get_ref()), span: key.span() }, value })
            .collect();
        lines.sort_by_key(|line| line.key.span.start);
        lines
    }

    /// An entry's string or strings.
    pub fn strings(&self, name: &str, value: &'d Spanned<DeValue<'d>>) -> Option<Vec<Written<'d>>> {
        match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| self.string(name, item)).collect(),
            _ => self.string(name, value).map(|text| vec![text]),
        }
    }

    /// A string.
    pub fn string(&self, name: &str, value: &'d Spanned<DeValue<'d>>) -> Option<Written<'d>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Written { text: Cow::Borrowed(text), span: value.span() }),
            _ => self.wrong_type(name, value, self.quoted(name)),
        }
    }

    /// The form of a key's string, as a person would write it.
    fn quoted(&self, name: &str) -> &'static str {
        match self.described(name).map(|key| &key.kind) {
            Some(Kind::Text("duration")) => "a duration in quotes like \"30s\"",
            Some(Kind::Text("size")) => "a size in quotes like \"16MiB\"",
            _ => "a string in quotes",
        }
    }

    /// `value` as a table described by `table`.
    pub fn table_at(&self, name: &str, table: &'static Table, value: &'d Spanned<DeValue<'d>>) -> Option<Reader<'d>> {
        match value.get_ref() {
            DeValue::Table(entries) => {
                Some(Reader::open(self.source, table, Some(entries), value.span().start, self.key(name)))
            }
            _ => self.wrong_type(name, value, "a table"),
        }
    }

    /// The key with the tables it is in, as faults name it.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// A key that must be there is not.
    pub fn missing(&self, name: &str) {
        let form = self.described(name).map_or("", |key| form(&key.kind));
        let what = format!("{} is missing in {}", self.key(name), self.table.title);
        self.source.fault(self.at, what, format!("add `{name}`, {form}"));
    }

    fn value(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.own(name).or_else(|| self.preset?.get(name))
    }

    /// As the file has it.
    fn own(&self, name: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        debug_assert!(self.described(name).is_some(), "{name} is not described in {}", self.table.title);
        self.entries.and_then(|entries| entries.get(name))
    }

    fn described(&self, name: &str) -> Option<&'static Key> {
        self.table.keys.iter().find(|key| key.name == name)
    }

    fn default_text(&self, name: &str) -> Option<&'static str> {
        match self.described(name)?.default {
            Absent::Is(text) => return Some(text),
            Absent::Required => self.missing(name),
            Absent::Optional => {}
        }
        None
    }

    fn wrong_type<T>(&self, name: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<T> {
        let what = format!("{}: {} where {wanted} was expected", self.key(name), type_name(value.get_ref()));
        self.source.fault(value.span().start, what, format!("write {wanted}"));
        None
    }
}

/// Notes each of these tables whose `name` an earlier one has, in any case of its letters: the earlier one alone would hold.
pub(super) fn named_once(tables: &[Reader<'_>]) {
    let mut known: Vec<(String, usize)> = Vec::new();
    for table in tables {
        let Some(DeValue::String(name)) = table.written("name").map(Spanned::get_ref) else { continue };
        let name = name.trim().to_ascii_lowercase();
        match known.iter().find(|(other, _)| *other == name) {
            Some((_, line)) => {
                let what =
                    format!("the table in line {line} is of {name:?} too, and the first of them alone would hold");
                table.problem("name", Problem::new(what, "write both in one table"));
            }
            None => known.push((name, table.source.line(table.place("name")))),
        }
    }
}

/// The form a key takes, in words.
pub(super) fn form(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(form) => form,
        Kind::Texts(form) => form,
        Kind::Choice(_) => "a word",
        Kind::Flag => "true or false",
        Kind::Count(..) => "a whole number",
        Kind::One(_) => "a table",
        Kind::Many(_) => "a table each",
        Kind::Map(form, _) => form,
        Kind::Secrets => "secret references",
        Kind::Secret => "secret reference",
        Kind::Unsupported => "not supported by this version",
    }
}

/// "write `frame_timeout`" where one name is near, else all there are.
pub(super) fn nearest(written: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (strsim::jaro_winkler(written, name), name));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, name)) if score > 0.8 => format!("write `{name}`"),
        _ if known.is_empty() => "there is none to choose from".to_owned(),
        _ => format!("use one of {}", known.join(", ")),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
