//! Remarks: NTE of the row and of its order, further methods of OBX-17, and a unit that was changed.

use super::{Origin, Trace, Translation, concept, measured::Measured, references, time};
use crate::{
    fhir::{Annotation, Text, Value},
    pcd::{Coded, Nth, Row},
};

/// What was remarked on the row.
pub(super) fn of<'a>(translation: &Translation<'a>, row: &Row<'a>, trace: &mut Trace) -> Vec<Annotation<'a>> {
    let mut notes = Vec::new();
    let order = &translation.report.group(row).notes;
    for nte in row.notes.iter().chain(order) {
        let Some(note) = annotation(translation, *nte) else { continue };
        trace.note(format_args!("note[{}]", notes.len()), nte.place(3));
        notes.push(note);
    }
    // R4 has room for one method; the others are said in words.
    for method in row.obx.field(17).repetitions().skip(1).filter(|method| !method.is_empty()) {
        let concept = concept::concept(translation, &Coded::read(method));
        let coding = concept.coding.into_iter().next();
        let words = concept.text.or_else(|| coding.and_then(|coding| coding.display.or(coding.code)));
        if let Some(words) = words {
            trace.note(format_args!("note[{}]", notes.len()), row.place_of(17));
            notes.push(Annotation { text: Text::Owned(format!("Method: {words}")), ..Annotation::default() });
        }
    }
    notes
}

/// A value in another unit than the device showed says what it showed.
pub(super) fn conversion<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    measured: &Measured<'a>,
    notes: &mut Vec<Annotation<'a>>,
    trace: &mut Trace,
) {
    let (Some(from), Some(Value::Quantity(_))) = (measured.converted_from, &measured.value) else { return };
    let sent = translation.text(row.obx.raw(5));
    let text = Text::Owned(format!("Converted from {} {from}", sent.replace('^', "")));
    trace.note(format_args!("note[{}]", notes.len()), Origin::of([Some(row.place_of(5)), Some(row.place_of(6))]));
    notes.push(Annotation { text, ..Annotation::default() });
}

fn annotation<'a>(translation: &Translation<'a>, nte: Nth<'a>) -> Option<Annotation<'a>> {
    let mut lines = nte.field(3).repetitions().map(|line| translation.text(line.raw()));
    let first = lines.next()?;
    let rest: Vec<_> = lines.collect();
    let text = if rest.is_empty() { first } else { [&[first], &*rest].concat().join("\n").into() };
    if text.trim().is_empty() || text == "\"\"" {
        return None;
    }
    let author = Some(nte.field(5).first()).filter(|author| !author.is_empty());
    let at = [6, 7].into_iter().find_map(|field| time::remark(translation, nte.field(field).component(1).raw()));
    let author = author.and_then(|author| {
        let id = translation.text(author.component(1).raw()).into_owned();
        references::person_name(translation, author).or(Some(id).filter(|id| !id.is_empty()))
    });
    Some(Annotation { author_string: author.map(Into::into), time: at, text })
}
