//! Two readings of the IHE PCD framework, the engine's and the witness's, written apart: whatever one finds in a message
//! the other finds too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use cannula::{
    hl7::Message,
    pcd::{Nomenclature, conformance},
};
use mllp_test::{conform, v2::messages_in};

use crate::engine::real_messages;

/// Changes tried on every message; CANNULA_CONFORM_CHANGES asks for more.
fn changes() -> u64 {
    std::env::var("CANNULA_CONFORM_CHANGES").ok().and_then(|count| count.parse().ok()).unwrap_or(60)
}

/// Rules found broken, each with whether any breach is an error, and where and why it was first.
type Broken = BTreeMap<&'static str, (bool, String)>;

/// `None` where the engine cannot read the message.
fn by_engine(message: &[u8]) -> Option<Broken> {
    let message = Message::parse(message.to_vec()).ok()?;
    let mut broken = Broken::new();
    for finding in conformance::check(&message, &Nomenclature::built_in()) {
        let first = || (false, format!("{}: {}", finding.place, finding.text));
        broken.entry(finding.rule.id).or_insert_with(first).0 |= finding.severity == conformance::Severity::Error;
    }
    // H is of the base standard, which the witness leaves to its table of bad inputs; E is the engine's own.
    broken.retain(|id, _| !id.starts_with(['H', 'E']));
    Some(broken)
}

fn by_witness(message: &[u8]) -> Broken {
    let mut broken = Broken::new();
    for finding in conform::check(message).map(|verdict| verdict.findings).unwrap_or_default() {
        let first = || (false, finding.to_string());
        broken.entry(finding.rule).or_insert_with(first).0 |= finding.severity == conform::Severity::Error;
    }
    broken
}

/// One message and where it is from.
struct Case {
    name: String,
    bytes: Vec<u8>,
}

fn samples() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("channels");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    // The order decides which changes are tried.
    let folders: BTreeSet<PathBuf> = folders.collect();
    let mut cases: Vec<Case> = folders.iter().flat_map(|folder| in_folder(folder)).collect();
    cases.extend(conform::EXAMPLES.into_iter().map(|of| Case {
        name: format!("the example of {of:?}"),
        bytes: conform::example(of, "CONFORM-1", "AL", "NE").into_bytes(),
    }));
    cases
}

fn in_folder(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "hl7"));
    files.sort();
    let read = |file: PathBuf| {
        let messages = messages_in(&fs::read(&file).unwrap());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        messages.into_iter().map(move |bytes| Case { name: name.clone(), bytes })
    };
    files.into_iter().flat_map(read).collect()
}

/// A well mixed number.
fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What stands in a field elsewhere, or should nowhere.
const WORDS: &str = "X R F Q NM ST SN CWE CE DTM 1 7 0.5 1e9 >300 90/60 20260105 20260105101112 20260230101112+0000 \
    20260105101112+0000 1.0.0.0 1.1.1.1 1.1 9.9.9.9 1.1.1.1.1.2 L AL NE P 2.6 QUES NAV INV NAV~X MSET^manual-setting^MDC \
    ^^^^^^U ^^^^^^L A^B^C^D A~B 265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM mL/h^mL/h^UCUM \
    265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/min^mL/min^UCUM 157784^MDC_FLOW_FLUID_PUMP^MDC 0^MDCX_SOMETHING^MDC \
    157784^MDC_RATE_DOSE^MDC 19712^MDC_FLOW_FLUID_PUMP^MDC 196616^MDC_EVT_ALARM^MDC \
    0A0027FFFE100001^^0A0027FFFE100001^EUI-64 \"\" ^pump-status-infusing end update inactive ^2.16.840&x&y&ISO >^1^:^4 Müller";

/// Segments that stand where they should or should not.
const STRAY: &[&str] = &[
    "NTE|1||x",
    "PRT|1|||||A^B",
    "PRT|1||||A^B",
    "PRT|1||||A~B",
    "ORC|RE",
    "PD1|1",
    "MSA|AA|X",
    "MSA|CE|X|text",
    "ERR|||102|E",
    "ERR|PID^1||102",
    "PV1||X|A^B^C^D^^N",
    "PID|1||||Unknown",
    "OBX|9|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.1.1.1.3|end||||||F",
    "OBR|2||1|2",
];

/// What every message has in each field: the likeliest things to stand in another's.
struct Pool(HashMap<(String, usize), Vec<String>>);

impl Pool {
    fn of(cases: &[Case]) -> Pool {
        let mut pool: HashMap<(String, usize), Vec<String>> = HashMap::new();
        for line in cases.iter().flat_map(|case| lines(&case.bytes)) {
            for (number, field) in line.split('|').enumerate().skip(1) {
                pool.entry((line.chars().take(3).collect(), number)).or_default().push(field.to_owned());
            }
        }
        Pool(pool)
    }

    /// One message with a field, a segment or the order of two changed, as the number says.
    fn changed(&self, message: &[u8], number: u64) -> Vec<u8> {
        let mut lines = lines(message);
        let pick =
            |salt: u64, below: usize| (mix(number.wrapping_mul(61).wrapping_add(salt)) % below.max(1) as u64) as usize;
        let at = pick(1, lines.len());
        match pick(2, 16) {
            0 if at > 0 => drop(lines.remove(at)),
            1 if at > 0 => lines.insert(at, lines[at].clone()),
            2 if at > 0 => {
                let other = 1 + pick(3, lines.len() - 1);
                lines.swap(at, other);
            }
            3 => lines.insert(at + 1, STRAY[pick(4, STRAY.len())].to_owned()),
            way => {
                let mut fields: Vec<&str> = lines[at].split('|').collect();
                let field = 1 + pick(5, 20.max(fields.len() - 1));
                let place = (fields[0].chars().take(3).collect(), field);
                let words: Vec<&str> = match self.0.get(&place) {
                    Some(words) if way > 9 => words.iter().map(String::as_str).collect(),
                    _ => WORDS.split(' ').chain([""]).collect(),
                };
                // Without MSH-2 all else has no meaning.
                if !(at == 0 && field == 1) {
                    fields.resize(fields.len().max(field + 1), "");
                    fields[field] = words[pick(6, words.len())];
                    lines[at] = fields.join("|");
                }
            }
        }
        (lines.join("\r") + "\r").into_bytes()
    }
}

fn lines(message: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(message).split('\r').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// By rule and side, the messages in which only that side finds it broken.
#[derive(Default)]
struct Differences(BTreeMap<(&'static str, &'static str), Vec<String>>);

impl Differences {
    fn compare(&mut self, name: &str, message: &[u8]) {
        let Some(engine) = by_engine(message) else { return };
        let witness = by_witness(message);
        for (side, broken, other) in [("engine", &engine, &witness), ("witness", &witness, &engine)] {
            for (rule, (is_error, why)) in broken {
                match other.get(rule) {
                    None => self.0.entry((rule, side)).or_default().push(format!("{name}, {why}")),
                    // Told once, by the side to which it is an error.
                    Some((other, _)) if is_error > other => {
                        self.0.entry((rule, "error to one")).or_default().push(format!("{name}, {side}, {why}"));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn assert_none(&self) {
        let told = self.0.iter().map(|((rule, side), places)| {
            let first = &places[..places.len().min(5)];
            format!("{rule} only by the {side}, in {} messages:\n    {}", places.len(), first.join("\n    "))
        });
        let told: Vec<String> = told.collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

fn cases() -> Vec<Case> {
    samples().into_iter().chain(real_messages().iter().flat_map(|folder| in_folder(folder))).collect()
}

#[test]
fn the_engine_and_the_witness_find_the_same_rules_broken_in_every_sample_and_real_message() {
    let mut differences = Differences::default();
    for case in cases() {
        differences.compare(&case.name, &case.bytes);
    }
    differences.assert_none();
}

#[test]
fn the_engine_and_the_witness_find_the_same_rules_broken_in_changed_messages() {
    let mut differences = Differences::default();
    let cases = cases();
    let pool = Pool::of(&cases);
    for (case, seed) in cases.iter().zip(0..) {
        for number in 0..changes() {
            let bytes = pool.changed(&case.bytes, mix(seed) ^ number);
            differences.compare(&format!("{} change {number}", case.name), &bytes);
        }
    }
    differences.assert_none();
}
