//! v2 → v2: steps applied in order, each one verb. What no step names leaves as it came, byte for byte.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use super::{
    TranslateError, Unmapped, glucose,
    table::{Row, Table},
};
use crate::hl7::{
    Message, Path,
    edit::{self, EditError},
    escape, unescape,
};
use crate::told::count;

/// One step.
#[derive(Clone)]
pub enum Step {
    /// Writes a text at every place the path leaves open. A segment that is not there is not made.
    Set {
        /// Where.
        path: Path,
        /// The text, escaped when it is written.
        to: String,
    },
    /// Copies a value with its components, within each segment where both paths leave the same ones open; where nothing
    /// was sent, the target is emptied.
    Copy {
        /// The value; a field with all its repetitions.
        from: Path,
        /// Where it is written.
        to: Path,
    },
    /// Replaces codes by a table.
    Map {
        /// The segments in which a code is looked for; those left out by `Missing::Drop`.
        each: Option<String>,
        /// The field, of which component 1 is looked up and components 1 to 3 are written; or a component, of which
        /// the whole is looked up and written.
        path: Path,
        /// From and to.
        table: Arc<Table>,
        /// What a code without a row does.
        missing: Missing,
    },
    /// Empties a field or part of one, or removes segments.
    Delete {
        /// What.
        path: DeleteTarget,
    },
}

/// A segment id (whole segments) or a path.
#[derive(Clone)]
pub enum DeleteTarget {
    /// Every segment of that id.
    Segment(String),
    /// The value at every place the path leaves open.
    Path(Path),
}

/// What a code without a row does. In each case it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is sent as it came.
    Keep,
    /// Its segment is left out.
    Drop,
    /// The message becomes a dead letter.
    Dead,
}

/// Applies the steps in order; codes without a row are added to `unmapped`.
pub fn apply(steps: &[Step], message: &Message, unmapped: &mut Vec<Unmapped>) -> Result<Message, TranslateError> {
    let mut edited = message.clone();
    let mut rows: Vec<usize> = (0..obx_numbers(message).count()).collect();
    for (number, step) in steps.iter().enumerate() {
        let before = edited;
        let mut left_out = HashSet::new();
        edited = apply_one(step, &before, unmapped, number + 1, &mut left_out)?;
        let kept = obx_numbers(&before).map(|segment| !left_out.contains(&segment));
        let kept: Vec<usize> = rows.into_iter().zip(kept).filter_map(|(row, kept)| kept.then_some(row)).collect();
        rows = kept;
    }
    glucose::refused(message, &edited, &rows).map_or(Ok(edited), Err)
}

/// Which segments of the message are OBX.
fn obx_numbers(message: &Message) -> impl Iterator<Item = usize> {
    message.segments().filter(|segment| segment.id() == "OBX").map(|segment| segment.number())
}

/// Where each place that a step writes came from, in the order of the steps; what no step names leaves as it was sent. Of a
/// place that several steps write the last says what stands there.
pub fn origins(steps: &[Step], message: &Message) -> Vec<(String, String)> {
    let numbered = steps.iter().enumerate().map(|(at, step)| (format!("step {}", at + 1), step));
    let own = numbered.map(|(number, step)| match step {
        Step::Set { path, .. } => (path.to_string(), format!("constant ({number}, set)")),
        Step::Copy { from, to } => (to.to_string(), format!("{from} ({number}, copy)")),
        Step::Map { path, table, .. } => (path.to_string(), format!("{path} by {} ({number}, map)", table.name())),
        Step::Delete { path: DeleteTarget::Path(path) } => (path.to_string(), format!("emptied ({number}, delete)")),
        Step::Delete { path: DeleteTarget::Segment(id) } => (id.clone(), format!("removed ({number}, delete)")),
    });
    let rest = ("everything else".to_owned(), format!("as sent ({})", count(message.segments().count(), "segment")));
    own.chain([rest]).collect()
}

fn apply_one(
    step: &Step,
    message: &Message,
    unmapped: &mut Vec<Unmapped>,
    number: usize,
    left_out: &mut HashSet<usize>,
) -> Result<Message, TranslateError> {
    let edited = match step {
        Step::Set { path, to } => edit::set(message, path, to),
        Step::Copy { from, to } => edit::copy(message, from, to),
        Step::Delete { path: DeleteTarget::Path(path) } => edit::clear(message, path),
        Step::Delete { path: DeleteTarget::Segment(id) } => {
            left_out.extend(message.segments().filter(|segment| segment.id() == id).map(|segment| segment.number()));
            edit::remove_segments(message, &|s| s.id() != id)
        }
        Step::Map { path, table, missing, .. } => {
            return map(message, path, table, *missing, unmapped, number, left_out);
        }
    };
    edited.map_err(|error| refused(number, &error))
}

fn map(
    message: &Message,
    path: &Path,
    table: &Table,
    missing: Missing,
    unmapped: &mut Vec<Unmapped>,
    number: usize,
    left_out: &mut HashSet<usize>,
) -> Result<Message, TranslateError> {
    let reading = Reading { message, table, whole_field: path.component().is_none() };
    let mut outside_charset = false;
    let mapped = edit::rewrite(message, path, &mut |raw| {
        let row = reading.row(raw)?;
        let written = reading.written(raw, row);
        outside_charset |= written.is_none();
        written
    });
    let mapped = if outside_charset { Err(EditError::Charset) } else { mapped };
    let without_row = reading.codes_without_row(path);
    let none_missing = without_row.is_empty();
    unmapped.extend(without_row);
    let kept = match missing {
        Missing::Dead if !none_missing => {
            let what = format!("a code has no row in {}: add it to the table and retry the dead letter", table.name());
            return Err(TranslateError {
                unmapped: std::mem::take(unmapped),
                ..TranslateError::new(path.to_string(), what)
            });
        }
        Missing::Drop if !none_missing => {
            left_out.extend(reading.segments_without_row(path));
            mapped.and_then(|mapped| edit::remove_segments(&mapped, &|segment| !left_out.contains(&segment.number())))
        }
        _ => mapped,
    };
    kept.map_err(|error| refused(number, &error))
}

/// One message read through one table.
struct Reading<'r> {
    message: &'r Message,
    table: &'r Table,
    /// The path names a field, of which component 1 is the code.
    whole_field: bool,
}

impl<'r> Reading<'r> {
    /// The code in `raw`, a value at the path; `None` where there is none to look up.
    fn code(&self, raw: &[u8]) -> Option<String> {
        let text = self.message.charset().ok()?.decode(raw)?;
        let separator = char::from(self.message.delimiters().component);
        let code = if self.whole_field { text.split(separator).next()? } else { &text };
        (!code.is_empty()).then(|| unescape(code, &self.message.delimiters()).into_owned())
    }

    fn row(&self, raw: &[u8]) -> Option<&'r Row> {
        self.table.row(&self.code(raw)?)
    }

    fn codes_without_row(&self, path: &Path) -> Vec<Unmapped> {
        let mut found = Vec::new();
        for segment in path.segments(self.message) {
            let codes = path.values_in(segment).filter_map(|raw| self.code(raw));
            let codes = codes.filter(|code| self.table.row(code).is_none());
            found.extend(codes.map(|code| Unmapped::at(path, segment, self.message, self.table.name(), &code)));
        }
        found
    }

    /// `raw` with the row written into it, further components as they were; `None` where the message's character set
    /// cannot hold it.
    fn written(&self, raw: &[u8], row: &Row) -> Option<Vec<u8>> {
        let (charset, delimiters) = (self.message.charset().ok()?, self.message.delimiters());
        let separator = char::from(delimiters.component);
        let text = charset.decode(raw)?;
        let escaped = |text| escape(text, &delimiters).into_owned();
        if !self.whole_field {
            return charset.encode(&escaped(&row.to)).map(Cow::into_owned);
        }
        let mut components: Vec<String> = text.split(separator).map(str::to_owned).collect();
        let changes = [Some(&row.to), row.display.as_ref(), row.system.as_ref()];
        for (at, text) in changes.into_iter().enumerate().filter_map(|(at, text)| Some((at, text?))) {
            if components.len() <= at {
                components.resize(at + 1, String::new());
            }
            components[at] = escaped(text);
        }
        charset.encode(&components.join(&separator.to_string())).map(Cow::into_owned)
    }

    /// The segments that, as they came, hold a code without a row. Mapping adds and removes none.
    fn segments_without_row(&self, path: &Path) -> impl Iterator<Item = usize> {
        let lacks_row = |raw: &[u8]| self.code(raw).is_some_and(|code| self.table.row(&code).is_none());
        let faulty = path.segments(self.message).filter(move |segment| path.values_in(*segment).any(lacks_row));
        faulty.map(|segment| segment.number())
    }
}

fn refused(number: usize, error: &EditError) -> TranslateError {
    TranslateError::new(format!("step {number}"), format!("{error}; mend the step or the message's sender"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const SENT: &str = "MSH|^~\\&|GW||||20260115||ORU^R01^ORU_R01|1|P|2.6\r\
        PID|||1^^^H||Doe^Jane\r\
        OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC^^^^v1|1.1.1.1|125.0\r\
        NTE|1||first\r\
        OBX|2|NM|999^MDC_OTHER^MDC|1.1.1.2|1~2\r\
        OBX|3||||3\r\
        ZPX|\\X41\\|a\\S\\b\r";

    fn table() -> Arc<Table> {
        let csv = "from,to,to_display,to_system\n157784,7071,Rate & flow,L\n";
        Arc::new(Table::read("t.csv", csv.as_bytes()).unwrap())
    }

    fn map(path: &str, missing: Missing) -> Step {
        Step::Map { each: None, path: Path::parse(path).unwrap(), table: table(), missing }
    }

    /// What is sent, and the codes without a row.
    fn applied(steps: &[Step]) -> Result<(String, Vec<String>), TranslateError> {
        let mut unmapped = Vec::new();
        let edited = apply(steps, &Message::parse(SENT.as_bytes()).unwrap(), &mut unmapped)?;
        assert!(unmapped.iter().all(|unmapped| unmapped.table == "t.csv"));
        let text = String::from_utf8(edited.as_bytes().to_vec()).unwrap();
        Ok((text, unmapped.into_iter().map(|unmapped| unmapped.code).collect()))
    }

    #[test]
    fn without_steps_nothing_changes() {
        assert_eq!(applied(&[]).unwrap(), (SENT.to_owned(), vec![]));
    }

    #[test]
    fn steps_change_what_they_name_in_order_and_nothing_else() {
        let path = |text: &str| Path::parse(text).unwrap();
        let steps = [
            Step::Set { path: path("MSH-12"), to: "2.3".into() },
            Step::Set { path: path("PID-5.1"), to: "O|Neil^".into() },
            Step::Copy { from: path("MSH-12"), to: path("ZPX-3") },
            Step::Delete { path: DeleteTarget::Path(path("OBX[2]-5")) },
            Step::Delete { path: DeleteTarget::Segment("NTE".into()) },
        ];
        let wanted = SENT
            .replace("|2.6\r", "|2.3\r")
            .replace("Doe^Jane", "O\\F\\Neil\\S\\^Jane")
            .replace("a\\S\\b\r", "a\\S\\b|2.3\r")
            .replace("|1~2\r", "|\r")
            .replace("NTE|1||first\r", "");
        assert_eq!(applied(&steps).unwrap().0, wanted);
    }

    #[test]
    fn a_mapped_code_is_written_escaped_with_text_and_system_and_further_components_stay() {
        let (sent, unmapped) = applied(&[map("OBX-3", Missing::Keep)]).unwrap();
        assert_eq!(sent, SENT.replace("157784^MDC_FLOW_FLUID_PUMP^MDC^", "7071^Rate \\T\\ flow^L^"));
        assert_eq!(unmapped, ["999"]);
        let (component, _) = applied(&[map("OBX-3.1", Missing::Keep)]).unwrap();
        assert_eq!(component, SENT.replace("157784^", "7071^"));
    }

    #[test]
    fn a_code_without_a_row_is_kept_or_leaves_its_segment_out_or_kills_the_message() {
        let (kept, _) = applied(&[map("OBX(OBX-3.1=999)-3", Missing::Keep)]).unwrap();
        assert_eq!(kept, SENT);
        let (dropped, unmapped) = applied(&[map("OBX-3", Missing::Drop)]).unwrap();
        assert!(!dropped.contains("OBX|2") && dropped.contains("OBX|1") && dropped.contains("OBX|3"), "{dropped}");
        assert_eq!(unmapped, ["999"]);
        let error = applied(&[map("OBX-3", Missing::Dead)]).unwrap_err();
        let missing = vec![Unmapped::new("t.csv", "999", "MDC_OTHER", "MDC")];
        assert_eq!((error.place.as_str(), error.unmapped), ("OBX-3", missing));
        assert!(error.what.contains("t.csv") && !error.what.contains("999"), "{}", error.what);
    }

    #[test]
    fn a_code_of_glucose_is_not_mapped_to_the_loinc_number_of_another_unit() {
        let mapped = |number: &str, unit: &str| {
            let csv = format!("from,to,to_display,to_system\n160212,{number},Glucose,LN\n");
            let table = Arc::new(Table::read("t.csv", csv.as_bytes()).unwrap());
            let path = Path::parse("OBX-3").unwrap();
            let step = Step::Map { each: None, path, table, missing: Missing::Keep };
            let sent = SENT.replace(
                "157784^MDC_FLOW_FLUID_PUMP^MDC^^^^v1|1.1.1.1|125.0",
                &format!("160212^MDC_CONC_GLU_ISF^MDC|1.1.1.1|125.0|{unit}"),
            );
            apply(&[step], &Message::parse(sent.into_bytes()).unwrap(), &mut Vec::new())
        };
        assert!(mapped("99504-3", "mg/dL^^UCUM").is_ok() && mapped("105272-9", "mmol/L^^UCUM").is_ok());
        assert!(mapped("105272-9", "").is_ok(), "without a unit nothing is contradicted");
        let error = mapped("105272-9", "264274^MDC_DIM_MILLI_G_PER_DL^MDC").map(|_| ()).unwrap_err();
        assert!(error.place == "OBX[1]-3" && error.what.contains("mg/dL"), "{error}");
        assert!(mapped("99504-3", "mmol/L^^UCUM").is_err());
        for spelled in ["mg%", "MG/DL", "mmol/L^^UCUM~mg/dL^^UCUM", "1^x^L^mg/dL^^UCUM"] {
            assert!(mapped("105272-9", spelled).is_err(), "{spelled}");
        }
        assert!(mapped("99504-3", "mM").is_err() && mapped("105272-9", "mM").is_ok());
    }

    #[test]
    fn whichever_steps_made_it_so_glucose_leaves_in_no_unit_it_was_not_sent_in() {
        let own = |to: &str| {
            let (from, system) = if to.contains('/') { ("mg/dL", "UCUM") } else { ("160212", "LN") };
            let csv = format!("from,to,to_display,to_system\n{from},{to},,{system}\n");
            Arc::new(Table::read("t.csv", csv.as_bytes()).unwrap())
        };
        let path = |text: &str| Path::parse(text).unwrap();
        let set = |at: &str, to: &str| Step::Set { path: path(at), to: to.into() };
        let delete = |at: &str| Step::Delete { path: DeleteTarget::Path(path(at)) };
        let map = |at: &str, to: &str, missing| Step::Map { each: None, path: path(at), table: own(to), missing };
        let leaves = |code: &str, value: &str, unit: &str, steps: &[Step]| {
            let row = |n: u8, rest: &str| format!("OBX|{n}|NM|{rest}\r");
            let sent =
                format!("{}{}{}", SENT, row(4, "1^X^MDC|1.1.1.3|4"), row(5, &format!("{code}|1.1.1.4|{value}|{unit}")));
            apply(steps, &Message::parse(sent.into_bytes()).unwrap(), &mut Vec::new()).map(|_| ())
        };
        let (mdc, loinc, unit) = ("160212^MDC_CONC_GLU_ISF^MDC", "99504-3^^LN", "mg/dL^^UCUM");
        let last = |field: &str| format!("OBX(OBX-1=5)-{field}");
        let wrong = [
            vec![set(&last("3.1"), "105272-9"), set(&last("3.3"), "LN")],
            vec![set(&last("3.4"), "105272-9"), set(&last("3.6"), "LN")],
            vec![set(&last("6.1"), "mmol/L")],
            vec![map(&last("6"), "mmol/L", Missing::Keep)],
            vec![delete(&last("6")), set(&last("6.1"), "mmol/L"), set(&last("6.3"), "UCUM")],
            vec![map("OBX-3", "105272-9", Missing::Drop)],
        ];
        for (n, steps) in wrong.iter().enumerate() {
            assert!(leaves(mdc, "100", unit, steps).is_err(), "{n}");
        }
        assert!(
            leaves("1^^L", "100", unit, &[set(&last("3.1"), "14749-6")]).is_err(),
            "a number of glucose by any name"
        );
        let retyped = [set(&last("5"), "40"), set(&last("6.1"), "mmol/L")];
        assert!(leaves(mdc, "<^40", unit, &retyped).is_err(), "the value is what it was");
        // What its sender contradicts is not the steps' doing.
        for (code, unit) in [("2345-7^Glu^LOINC", "mmol/L"), ("2345-7^Glu^LOINC", "MMOL/L")] {
            let kept = [set(&last("3.3"), "LN"), set(&last("3.2"), "Glucose"), set(&last("6.1"), "mmol/L")];
            assert!(leaves(code, "5.5", unit, &kept).is_ok(), "{unit}");
        }
        // The number and the unit agree, and the value is of neither.
        let both = [set(&last("3.1"), "105272-9"), set(&last("6.1"), "mmol/L")];
        let error = leaves(loinc, "100", unit, &both).unwrap_err();
        assert!(error.place == "OBX[5]-3" && error.what.contains("leave the value as it was"), "{error}");
        for (code, unit, steps) in [
            (mdc, unit, vec![set(&last("3.1"), "99504-3"), set(&last("3.3"), "LN")]),
            (mdc, unit, vec![delete(&last("6"))]),
            (mdc, "", vec![set(&last("6.1"), "mg/dL")]),
            (loinc, "mmol/L^^UCUM", vec![set(&last("3.1"), "105272-9")]),
            // As it came, it is its sender's.
            (loinc, "mmol/L^^UCUM", vec![set("MSH-6", "X")]),
            (mdc, unit, vec![Step::Delete { path: DeleteTarget::Segment("OBX".into()) }]),
            ("1^MDC_CONC_CREA^MDC", unit, vec![set(&last("6.1"), "mmol/L")]),
        ] {
            assert_eq!(leaves(code, "100", unit, &steps), Ok(()), "{code} {unit}");
        }
    }

    #[test]
    fn a_text_outside_the_messages_charset_kills_the_message_rather_than_be_sent_wrong() {
        let csv = "from,to\n157784,Ω\n".as_bytes();
        let step = Step::Map {
            each: None,
            path: Path::parse("OBX-3").unwrap(),
            table: Arc::new(Table::read("t.csv", csv).unwrap()),
            missing: Missing::Keep,
        };
        let latin = SENT.replace("|2.6\r", "|2.6||||||8859/1\r");
        let message = Message::parse(latin.into_bytes()).unwrap();
        let error = apply(&[step], &message, &mut Vec::new()).map(|_| ()).unwrap_err();
        assert_eq!(error.place, "step 1");
    }

    #[test]
    fn steps_on_real_messages_change_only_what_they_name() {
        let Ok(folder) = std::env::var("CANNULA_TEST_MESSAGES") else {
            return println!("skipped: CANNULA_TEST_MESSAGES is not set");
        };
        let steps = [
            Step::Set { path: Path::parse("MSH-6.1").unwrap(), to: "X&Y".into() },
            Step::Map { each: None, path: Path::parse("OBX-3").unwrap(), table: table(), missing: Missing::Keep },
            Step::Delete { path: DeleteTarget::Segment("NTE".into()) },
        ];
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut tried = 0;
        for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "hl7")) {
            let Ok(message) = Message::parse(std::fs::read(&file).unwrap()) else { continue };
            let Ok(edited) = apply(&steps, &message, &mut Vec::new()) else { continue };
            let kept = |message: &Message| -> Vec<Vec<u8>> {
                let untouched = message.segments().filter(|s| !matches!(s.id(), "MSH" | "OBX" | "NTE"));
                untouched.map(|segment| segment.raw().to_vec()).collect()
            };
            assert_eq!(kept(&edited), kept(&message), "{}", file.display());
            assert_eq!(edited.text(edited.msh().field(6).component(1).raw()), "X&Y", "{}", file.display());
            assert!(edited.segment("NTE").is_none());
            tried += 1;
        }
        assert!(tried > 0, "no message in the folder");
    }
}
