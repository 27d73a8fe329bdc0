//! Codes, units and LOINC, from the CSV tables under channels/tables/ that the project ships and a site may overlay.
//!
//! A table names a code only where it is sure: an unknown code is passed on as it was sent, and a unit that no row
//! knows is never guessed.

mod resolve;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use super::{loinc::row_fault, transaction::Profiles, units::unit_fault};
use resolve::PARTITION;
pub use resolve::{Fit, Resolved, device_level, is_private, is_refid, parts};

static BUILT_IN: LazyLock<Arc<Nomenclature>> = LazyLock::new(|| Arc::new(Loader::built_in().nomenclature));

/// The tables in force.
#[derive(Debug, Clone, Default)]
pub struct Nomenclature {
    terms: HashMap<u32, Term>,
    refids: HashMap<Arc<str>, u32>,
    units: HashMap<u32, Arc<str>>,
    unit_names: HashMap<Arc<str>, Arc<str>>,
    unit_rows: BTreeMap<(Option<u32>, Arc<str>), UnitRow>,
    legal_units: HashSet<Arc<str>>,
    loinc: HashMap<u32, Vec<Loinc>>,
    pub(super) profiles: Profiles,
}

/// What a code is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A medical device system.
    Mds,
    /// A virtual medical device.
    Vmd,
    /// An 11073 channel.
    Channel,
    /// A measurement, setting or status.
    Metric,
    /// Says something of a device itself: model, serial number, clock.
    Attribute,
    /// Something that happened.
    Event,
    /// An enumerated value, body site, service or other.
    Other,
}

/// One MDC term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Context-free code: partition × 65536 + term.
    pub code: u32,
    /// Reference identifier, `MDC_…`.
    pub refid: Arc<str>,
    /// What it is of.
    pub kind: Kind,
    /// Where the row is from.
    pub source: Arc<str>,
}

/// One row of the units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitRow {
    /// Context-free code of the MDC dimension; none of a text that gateways send without a coding system.
    pub code: Option<u32>,
    /// Reference identifier, or that text.
    pub name: Arc<str>,
    /// UCUM.
    pub ucum: Arc<str>,
    /// Where the row is from.
    pub source: Arc<str>,
}

/// One LOINC coding of an MDC code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loinc {
    /// LOINC number.
    pub code: Arc<str>,
    /// LOINC name.
    pub display: Arc<str>,
    /// UCUM unit the LOINC concept is for; none for a panel.
    pub ucum: Option<Arc<str>>,
    /// FHIR observation category.
    pub category: Arc<str>,
    /// Where the row is from.
    pub source: Arc<str>,
}

impl Nomenclature {
    /// The tables the project ships, embedded.
    pub fn built_in() -> Arc<Nomenclature> {
        BUILT_IN.clone()
    }

    /// Built-in rows overlaid by these files (`mdc-terms.csv`, `mdc-units.csv`, `mdc-loinc.csv`, `pcd-profiles.csv`: name and
    /// bytes).
    /// Every fault is (file, line, what is wrong and what to do).
    pub fn with_files(files: &[(&str, &[u8])]) -> Result<Arc<Nomenclature>, Vec<(String, u64, String)>> {
        let mut loader = Loader { shipped: Some(Nomenclature::built_in()), ..Loader::built_in() };
        for (name, bytes) in files {
            loader.file(name, bytes);
        }
        if loader.faults.is_empty() { Ok(Arc::new(loader.nomenclature)) } else { Err(loader.faults) }
    }

    /// The term of a context-free code.
    pub fn term(&self, code: u32) -> Option<&Term> {
        self.terms.get(&code)
    }

    /// Every term, by number.
    pub fn terms(&self) -> Vec<&Term> {
        let mut terms: Vec<&Term> = self.terms.values().collect();
        terms.sort_unstable_by_key(|term| term.code);
        terms
    }

    /// Other identifiers that a number is sent under.
    pub fn aliases(&self, term: &Term) -> Vec<&str> {
        let own = self.refids.iter().filter(|(refid, number)| **number == term.code && **refid != term.refid);
        let mut names: Vec<&str> = own.map(|(refid, _)| &**refid).collect();
        names.sort_unstable();
        names
    }

    /// The LOINC rows of a code, for any unit, best first.
    pub fn loinc_rows(&self, code: u32) -> &[Loinc] {
        self.loinc.get(&code).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every unit, by number, then the texts without one.
    pub fn units(&self) -> impl Iterator<Item = &UnitRow> {
        let (texts, numbers): (Vec<_>, Vec<_>) = self.unit_rows.values().partition(|row| row.code.is_none());
        numbers.into_iter().chain(texts)
    }

    /// OIDs of MSH-21.3 and the transactions they name.
    pub fn profiles(&self) -> Vec<(&str, &'static str)> {
        self.profiles.rows()
    }

    /// UCUM of an MDC dimension, by number or identifier.
    pub fn unit(&self, code: &str, refid: &str) -> Option<&Arc<str>> {
        let whole = |code: u32| if code < PARTITION { code + 4 * PARTITION } else { code };
        let by_number = code.parse().ok().and_then(|code: u32| self.units.get(&whole(code)));
        by_number.or_else(|| refid.starts_with("MDC").then(|| self.unit_names.get(refid)).flatten())
    }

    /// Whether the identifier of a unit is of another size than its number: MILLI where the table's has MICRO.
    pub(super) fn unit_sizes_differ(&self, code: &str, refid: &str) -> bool {
        let sizes = |name: &str| {
            let parts = name.split('_').filter(|part| SIZES.iter().any(|(_, size)| size == part));
            parts.map(str::to_owned).collect::<Vec<_>>()
        };
        let number = code.parse().ok().map(|code: u32| if code < PARTITION { code + 4 * PARTITION } else { code });
        let Some(number) = number.filter(|_| refid.starts_with("MDC_DIM_")) else { return false };
        let mut rows = self.unit_rows.range((Some(number), "".into())..=(Some(number), "~".into())).peekable();
        if rows.peek().is_some() {
            return rows.all(|((_, name), _)| sizes(name) != sizes(refid));
        }
        // Without a row the number itself tells the size of what is counted, which stands first in the identifier.
        let size = SIZES.iter().find(|(place, _)| number % SIZE_PLACES == *place).map(|(_, size)| *size);
        let said = refid.split('_').nth(2).filter(|part| SIZES.iter().any(|(_, size)| size == part));
        (size.is_some() || number % SIZE_PLACES == 0) && size != said
    }

    /// UCUM of a unit's name in whatever capitals.
    pub(super) fn unit_named_alike(&self, name: &str) -> Option<&Arc<str>> {
        self.unit_names.get(name).or_else(|| {
            self.unit_names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, ucum)| ucum)
        })
    }

    /// UCUM of a unit text sent without a coding system, where it can mean only one.
    pub fn unit_alias(&self, text: &str) -> Option<&Arc<str>> {
        self.unit_names.get(text)
    }

    /// Whether `code` is legal UCUM of at most 100 bytes. Units of the tables were proved when they were read.
    pub fn is_ucum(&self, code: &str) -> bool {
        self.legal_units.contains(code) || (code.len() <= UCUM_BYTES_MAX && octofhir_ucum::validate(code).is_ok())
    }

    /// LOINC codings of a code for a value in `ucum`, best first. `{beat}/min` and `/min` count as one unit.
    pub fn loinc(&self, code: u32, ucum: Option<&str>) -> impl Iterator<Item = &Loinc> {
        let rows = self.loinc.get(&code).map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter(move |row| match (&row.ucum, ucum) {
            (None, None) => true,
            (Some(row), Some(sent)) => same_but_annotation(row, sent),
            _ => false,
        })
    }
}

/// Parentheses nest, and the unit parser with them: a unit sent to exhaust the stack must not reach it.
const UCUM_BYTES_MAX: usize = 100;

/// Parts of a unit's identifier that say how large it is.
/// By the last five bits of a dimension's number (ISO/IEEE 11073-10101, A.3): 0 is the unit itself.
const SIZES: [(u32, &str); 9] = [
    (2, "HECTO"),
    (3, "KILO"),
    (4, "MEGA"),
    (16, "DECI"),
    (17, "CENTI"),
    (18, "MILLI"),
    (19, "MICRO"),
    (20, "NANO"),
    (21, "PICO"),
];
const SIZE_PLACES: u32 = 32;

/// `{beat}/min` = `/min`: a UCUM annotation changes nothing.
pub(crate) fn same_but_annotation(a: &str, b: &str) -> bool {
    a == b || plain(a).eq(plain(b))
}

fn plain(unit: &str) -> impl Iterator<Item = char> {
    let mut inside = false;
    unit.chars().filter(move |c| {
        let kept = !inside && *c != '{';
        inside = *c == '{' || (inside && *c != '}');
        kept
    })
}

#[derive(Default)]
struct Loader {
    nomenclature: Nomenclature,
    /// What a site's own rows may not contradict; none while that is read.
    shipped: Option<Arc<Nomenclature>>,
    faults: Vec<(String, u64, String)>,
}

impl Loader {
    fn built_in() -> Loader {
        let mut loader = Loader::default();
        loader.file("mdc-terms.csv", include_bytes!("../../channels/tables/mdc-terms.csv"));
        loader.file("mdc-units.csv", include_bytes!("../../channels/tables/mdc-units.csv"));
        loader.file("mdc-loinc.csv", include_bytes!("../../channels/tables/mdc-loinc.csv"));
        loader.file("pcd-profiles.csv", include_bytes!("../../channels/tables/pcd-profiles.csv"));
        loader
    }

    fn file(&mut self, name: &str, bytes: &[u8]) {
        let read: fn(&mut Loader, &[&str], &mut Overlay) -> Result<(), String> = match &*whole_table(name) {
            "mdc-terms.csv" => Loader::term,
            "mdc-units.csv" => Loader::unit,
            "mdc-loinc.csv" => Loader::loinc,
            "pcd-profiles.csv" => |loader, columns, _| loader.nomenclature.profiles.row(columns),
            _ => return self.faults.push((name.to_owned(), 0, UNKNOWN_FILE.to_owned())),
        };
        let mut overlay = Overlay::default();
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).flexible(true).from_reader(bytes);
        for record in reader.records() {
            let (line, fault) = match record {
                Ok(record) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    let columns: Vec<&str> = record.iter().map(str::trim).collect();
                    (line, read(self, &columns, &mut overlay).err())
                }
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    (line, Some("the line is not UTF-8 CSV; save the file as CSV with commas in UTF-8".to_owned()))
                }
            };
            self.faults.extend(fault.map(|what| (name.to_owned(), line, what)));
        }
    }

    fn term(&mut self, columns: &[&str], overlay: &mut Overlay) -> Result<(), String> {
        let [code, refid, partition, term, kind, rest @ ..] = columns else { return Err(short("mdc-terms.csv")) };
        let number =
            code.parse::<u32>().map_err(|_| format!("cf_code `{code}` is not a number; write the MDC code"))?;
        let parts = (partition.parse::<u32>(), term.parse::<u32>());
        if !matches!(parts, (Ok(p), Ok(t)) if p.checked_mul(PARTITION).and_then(|p| p.checked_add(t)) == Some(number)) {
            return Err(format!("{code} is not partition * 65536 + term; correct one of the three"));
        }
        let kind = kind_of(kind).ok_or_else(|| format!("`{kind}` is no kind; use one of {KINDS}"))?;
        let refid: Arc<str> = Arc::from(*refid);
        self.nomenclature.refids.insert(refid.clone(), number);
        let first = overlay.seen.insert(number);
        if first {
            let source = source(rest);
            self.nomenclature.terms.insert(number, Term { code: number, refid, kind, source });
        }
        Ok(())
    }

    fn unit(&mut self, columns: &[&str], _: &mut Overlay) -> Result<(), String> {
        let [code, refid, ucum, rest @ ..] = columns else { return Err(short("mdc-units.csv")) };
        octofhir_ucum::validate(ucum).map_err(|_| format!("`{ucum}` is not UCUM; see https://ucum.org"))?;
        if let Some(fault) = self.shipped.as_ref().and_then(|shipped| unit_fault(shipped, code, refid, ucum)) {
            return Err(fault);
        }
        let ucum: Arc<str> = Arc::from(*ucum);
        let mut number = None;
        if !code.is_empty() {
            let read = code.parse().map_err(|_| format!("cf_code `{code}` is not a number; write the MDC code"))?;
            self.nomenclature.units.insert(read, ucum.clone());
            number = Some(read);
        }
        let name: Arc<str> = Arc::from(*refid);
        self.nomenclature.unit_names.insert(name.clone(), ucum.clone());
        let row = UnitRow { code: number, name: name.clone(), ucum: ucum.clone(), source: source(rest) };
        self.nomenclature.unit_rows.insert((number, name), row);
        self.nomenclature.legal_units.insert(ucum);
        Ok(())
    }

    fn loinc(&mut self, columns: &[&str], overlay: &mut Overlay) -> Result<(), String> {
        let [code, _refid, loinc, display, ucum, category, rest @ ..] = columns else {
            return Err(short("mdc-loinc.csv"));
        };
        let number = code.parse().map_err(|_| format!("cf_code `{code}` is not a number; write the MDC code"))?;
        if !loinc_digit_holds(loinc) {
            return Err(format!("`{loinc}` fails the LOINC check digit; correct the number"));
        }
        if let Some(fault) = row_fault(loinc, display, ucum) {
            return Err(fault);
        }
        let rows = self.nomenclature.loinc.entry(number).or_default();
        if overlay.seen.insert(number) {
            rows.clear();
        }
        let ucum = (!ucum.is_empty()).then(|| Arc::from(*ucum));
        self.nomenclature
            .legal_units
            .extend(ucum.clone().filter(|ucum: &Arc<str>| octofhir_ucum::validate(ucum).is_ok()));
        rows.push(Loinc {
            code: Arc::from(*loinc),
            display: Arc::from(*display),
            ucum,
            category: Arc::from(*category),
            source: source(rest),
        });
        Ok(())
    }
}

/// The table a file is, or adds to: `mdc-terms+site.csv` adds to mdc-terms.csv.
pub(crate) fn whole_table(name: &str) -> String {
    name.split_once('+').map_or_else(|| name.to_owned(), |(table, _)| format!("{table}.csv"))
}

/// Codes this file has spoken of: its first row of a code replaces what earlier files said, later rows add to it.
#[derive(Default)]
struct Overlay {
    seen: HashSet<u32>,
}

const UNKNOWN_FILE: &str =
    "not a nomenclature table; name it mdc-terms.csv, mdc-units.csv, mdc-loinc.csv or pcd-profiles.csv";
const KINDS: &str = "mds, vmd, channel, metric, attribute, event, value, site, service";

fn short(name: &str) -> String {
    format!("too few columns; compare the header of the {name} that is shipped")
}

/// The column behind those a row needs.
fn source(rest: &[&str]) -> Arc<str> {
    Arc::from(rest.first().copied().unwrap_or_default())
}

fn kind_of(text: &str) -> Option<Kind> {
    Some(match text {
        "mds" => Kind::Mds,
        "vmd" => Kind::Vmd,
        "channel" => Kind::Channel,
        "metric" => Kind::Metric,
        "attribute" => Kind::Attribute,
        "event" => Kind::Event,
        "value" | "site" | "service" => Kind::Other,
        _ => return None,
    })
}

/// Whether this is written as a LOINC number is: digits, and their check digit (mod 10).
pub fn loinc_digit_holds(loinc: &str) -> bool {
    let Some((number, check)) = loinc.split_once('-') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(number) || !digits(check) || number.len() > 7 || check.len() != 1 {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| (u32::from(b - b'0'), i % 2 == 0))
        .map(|(digit, doubled)| if doubled { digit * 2 / 10 + digit * 2 % 10 } else { digit })
        .sum();
    check.parse() == Ok((10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shipped_tables_hold_no_fault() {
        let loader = Loader::built_in();
        assert_eq!(loader.faults, []);
        assert!(loader.nomenclature.terms.len() > 400);
    }

    #[test]
    fn what_glucose_monitors_send_beside_the_glucose_is_known() {
        let tables = Nomenclature::built_in();
        for (number, refid, kind) in [
            ("528409", "MDC_DEV_SPEC_PROFILE_CGM", Kind::Mds),
            ("8418008", "MDC_CONC_GLU_TREND", Kind::Metric),
            ("8418040", "MDC_CGM_SENSOR_RUN_TIME", Kind::Metric),
            ("8418044", "MDC_CGM_SENSOR_SAMPLE_INTERVAL", Kind::Metric),
            ("8418060", "MDC_CGM_DEV_STAT", Kind::Metric),
        ] {
            let resolved = tables.resolve(number, refid);
            let known = resolved.term.map(|term| (&*term.refid, term.kind));
            assert_eq!((known, resolved.mismatch), (Some((refid, kind)), false), "{number}");
        }
    }

    #[test]
    fn a_loinc_code_holds_only_for_its_own_unit() {
        let tables = Nomenclature::built_in();
        let code = |ucum| tables.loinc(160212, ucum).map(|row| row.code.to_string()).collect::<Vec<_>>();
        assert_eq!(code(Some("mg/dL")), ["99504-3"]);
        assert_eq!(code(Some("mmol/L")), ["105272-9"]);
        assert_eq!(code(None), Vec::<String>::new());
        assert_eq!(tables.loinc(147842, Some("{beat}/min")).count(), 1);
    }

    #[test]
    fn a_unit_nested_a_million_deep_is_no_unit() {
        let tables = Nomenclature::built_in();
        assert!(!tables.is_ucum(&"(".repeat(1_000_000)));
        assert!(tables.is_ucum("ug/kg/min") && !tables.is_ucum(&"(".repeat(UCUM_BYTES_MAX)));
    }

    #[test]
    fn a_site_table_replaces_the_rows_of_a_code_and_keeps_the_others() {
        let own = b"cf_code,refid,loinc,display,ucum,category,source\n147842,X,8889-8,Heart rate by Pulse oximetry,/min,vital-signs,site\n";
        let tables = Nomenclature::with_files(&[("mdc-loinc.csv", own)]).unwrap();
        let code = |mdc| tables.loinc(mdc, Some("/min")).map(|row| row.code.to_string()).collect::<Vec<_>>();
        assert_eq!(code(147842), ["8889-8"]);
        assert_eq!(code(151562), ["9279-1"]);
    }

    #[test]
    fn a_loinc_row_whose_unit_measures_another_property_is_refused() {
        let fault = |row: &str| {
            let table = format!(
                "cf_code,refid,loinc,display,ucum,category,source\n160212,MDC_CONC_GLU_ISF,{row},laboratory,s\n"
            );
            let read = Nomenclature::with_files(&[("mdc-loinc.csv", table.as_bytes())]);
            read.err().map(|mut faults| faults.remove(0).2).unwrap_or_default()
        };
        assert!(fault("105272-9,,mg/dL").contains("write 99504-3"), "{}", fault("105272-9,,mg/dL"));
        assert!(fault("99504-3,,mmol/L").contains("write 105272-9"));
        assert!(fault("99504-3,,").contains("has no unit") && fault("2340-8,,mmol/L").contains("[Mass/volume]"));
        assert!(fault("2951-2,Sodium [Moles/volume] in Serum or Plasma,mg/dL").contains("something else"));
        for right in ["105272-9,,mmol/L", "99504-3,,g/L", "2951-2,Sodium [Moles/volume] in Serum or Plasma,meq/L"] {
            assert_eq!(fault(right), "", "{right}");
        }
    }

    #[test]
    fn a_unit_row_that_contradicts_the_shipped_ones_is_refused() {
        let fault = |row: &str| {
            let table = format!("cf_code,refid,ucum,source\n{row},site\n");
            let read = Nomenclature::with_files(&[("mdc-units.csv", table.as_bytes())]);
            read.err().map(|mut faults| faults.remove(0).2).unwrap_or_default()
        };
        for wrong in [
            ",mg/dL,mmol/L",
            ",MG/DL,mmol/L",
            ",mg%,mmol/L",
            ",mM,mg/dL",
            ",g/L,mmol/L",
            "264274,MDC_DIM_OWN,mmol/L",
            "264274,MDC_DIM_MILLI_G_PER_DL,mmol/L",
            "2130,MDC_DIM_OWN,mmol/L",
            "999,MDC_DIM_MILLI_G_PER_DL,mmol/L",
            ",mcg,mg",
            ",mL/h,L/h",
            ",ug/L,mg/L",
            ",°C,[degF]",
        ] {
            assert!(fault(wrong).contains("would be wrong"), "{wrong}: {}", fault(wrong));
        }
        for right in [
            "264274,MDC_DIM_MILLI_G_PER_DL,mg/dL",
            "264864,MDC_DIM_BEAT_PER_MIN,/min",
            ",bpm,{beat}/min",
            ",C,Cel",
            ",mg%,mg/dL",
            ",units,[iU]",
            ",mmHg,mm[Hg]",
            ",cc,cm3",
            "999,MDC_DIM_OWN,ug/h",
        ] {
            assert_eq!(fault(right), "", "{right}");
        }
    }

    #[test]
    fn every_fault_of_a_site_table_is_told_with_its_line() {
        let loinc = b"cf_code,refid,loinc,display,ucum,category,source\n1,X,123456-7,Dose,mg,procedure,s\nx,X,8889-8,R,/min,v,s\n";
        let units = b"cf_code,refid,ucum,source\n1,MDC_DIM_X,mmHg,site\n";
        let faults = Nomenclature::with_files(&[("mdc-loinc.csv", loinc), ("mdc-units.csv", units), ("x.csv", b"")]);
        let lines: Vec<_> = faults.unwrap_err().into_iter().map(|(file, line, _)| (file, line)).collect();
        let expected = [("mdc-loinc.csv", 2), ("mdc-loinc.csv", 3), ("mdc-units.csv", 2), ("x.csv", 0)];
        assert_eq!(lines, expected.map(|(file, line)| (file.to_owned(), line)));
    }
}
