//! `[[destination.step]]`: one verb a step.

use std::sync::Arc;

use super::{channel_file::Surroundings, reader::Reader, source::Problem, value};
use crate::{
    hl7::Path,
    translate::steps::{DeleteTarget, Missing, Step},
};

/// Every step of a destination. Tables they use are added to `hashed`.
pub(super) fn read_all(
    destination: &Reader<'_>,
    around: &Surroundings<'_>,
    hashed: &mut Vec<Arc<[u8]>>,
) -> Option<Vec<Step>> {
    let read: Vec<Option<Step>> = destination.many("step").iter().map(|table| read(table, around, hashed)).collect();
    read.into_iter().collect()
}

fn read(table: &Reader<'_>, around: &Surroundings<'_>, hashed: &mut Vec<Arc<[u8]>>) -> Option<Step> {
    let verbs = table.written_keys();
    let [verb] = verbs[..] else {
        let what = if verbs.is_empty() { "a step without a verb" } else { "a step with several verbs" };
        table.source.fault(table.at, what, "write one of set, copy, map, delete in each [[destination.step]]");
        return None;
    };
    match verb {
        "set" => set(&table.one("set")?),
        "copy" => copy(&table.one("copy")?),
        "map" => map(&table.one("map")?, around, hashed),
        "delete" => delete(&table.one("delete")?),
        // Its fault was noted when the table was opened.
        _ => None,
    }
}

fn set(table: &Reader<'_>) -> Option<Step> {
    let (path, to) = (table.text("path", writable), table.text("to", value::any));
    Some(Step::Set { path: path?, to: to? })
}

fn copy(table: &Reader<'_>) -> Option<Step> {
    let (from, to) = (table.text("from", value::path), table.text("to", writable));
    Some(Step::Copy { from: from?, to: to? })
}

fn delete(table: &Reader<'_>) -> Option<Step> {
    let target = match table.written_keys()[..] {
        ["path"] => DeleteTarget::Path(table.text("path", writable)?),
        ["segment"] => DeleteTarget::Segment(table.text("segment", removable)?),
        _ => {
            table.source.fault(table.at, "delete takes a path or a segment", "write path = \"…\" or segment = \"…\"");
            return None;
        }
    };
    Some(Step::Delete { path: target })
}

fn map(table: &Reader<'_>, around: &Surroundings<'_>, hashed: &mut Vec<Arc<[u8]>>) -> Option<Step> {
    let each = table.text("each", value::segment);
    let path = table.text("path", writable);
    let named = table.text("table", |name| around.tables.table(name)).flatten();
    let missing = table.choice("missing", &[Missing::Keep, Missing::Drop, Missing::Dead]);
    hashed.extend(named.iter().map(|named| named.bytes.clone()));
    let path = path?;
    if each.as_deref().is_some_and(|each| each != path.segment()) {
        table.problem("each", Problem::new("the path is in another segment", format!("write {:?}", path.segment())));
    }
    if missing == Some(Missing::Drop) && path.segment() == "MSH" {
        table.problem("missing", Problem::new("dropping MSH leaves no message", "write \"keep\" or \"dead\""));
    }
    Some(Step::Map { each, path, table: named?.table, missing: missing? })
}

fn writable(text: &str) -> Result<Path, Problem> {
    let path = value::path(text)?;
    if path.segment() == "MSH" && path.field() <= 2 {
        return Err(Problem::new(format!("{text} cannot be written"), "leave the delimiters as they are sent"));
    }
    Ok(path)
}

fn removable(text: &str) -> Result<String, Problem> {
    match value::segment(text)? {
        id if id == "MSH" => Err(Problem::new("MSH cannot be removed", "name another segment")),
        id => Ok(id),
    }
}
