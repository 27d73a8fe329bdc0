//! The sentence for messages that tell of no single event: observations of pumps, glucose sensors, monitors and
//! laboratories, and what is none of these.

use super::{
    Containment, Level, Role, Row, Transaction, administration,
    event::Reading,
    headline::{self, VALUES_MAX, after, in_brackets},
    pump_event::Infusion,
};

pub(super) fn of(reading: Reading<'_, '_>, transaction: Transaction) -> String {
    let msh_9 = reading.message().msh().field(9);
    let part = |n| reading.text(msh_9.component(n).raw());
    let message_type = [part(1), part(2)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("^");
    if transaction == Transaction::Patient {
        return administration::of(reading, &part(2), &message_type);
    }
    // Managing a device is about the device itself: its battery, its software.
    let is_value =
        |row: &&Row<'_>| row.role == Role::Metric || transaction == Transaction::Pcd15 && row.role == Role::Attribute;
    let values: Vec<&Row<'_>> = reading.report.rows.iter().filter(is_value).collect();
    if values.is_empty() && reading.report.rows.is_empty() && transaction != Transaction::Observation {
        let title = transaction.title();
        let title = format!("{}{}", title[..1].to_uppercase(), &title[1..]);
        return format!("{title}{}: {}.", in_brackets(&message_type), whereabouts(reading));
    }
    let pumps = if transaction == Transaction::Pcd15 { Vec::new() } else { pumps(reading) };
    if !pumps.is_empty() {
        return format!("{}, {}.", pumps.join("; "), whereabouts(reading));
    }
    let subject = subject(reading, transaction);
    let glucose = values.iter().copied().filter(|row| is_glucose(row)).collect::<Vec<_>>();
    match glucose.as_slice() {
        [] => format!("{subject}: {}, {}.", measured(reading, &values), whereabouts(reading)),
        readings => format!("{subject}: {}, {}.", glucose_told(reading, readings), whereabouts(reading)),
    }
}

fn whereabouts(reading: Reading<'_, '_>) -> String {
    let patient = headline::patient(reading, 0);
    headline::location(reading, 0).map_or(patient.clone(), |place| format!("{patient}, {place}"))
}

/// What the observations are of: the device, or the service of a laboratory.
fn subject(reading: Reading<'_, '_>, transaction: Transaction) -> String {
    let device = reading.report.rows.iter().any(|row| matches!(row.role, Role::Device(_)));
    let prefix = match transaction {
        Transaction::Pcd15 => "Device management, ",
        Transaction::Pcd09 => "Implanted device, ",
        _ => "",
    };
    let request = reading.report.groups.first().and_then(|group| group.request);
    let service = request.and_then(|obr| reading.named(obr.field(4))).map(|named| named.words).unwrap_or_default();
    let subject = match (device, service.is_empty()) {
        (true, _) => headline::device(reading, 0),
        (false, false) => service,
        (false, true) => "observation report".to_owned(),
    };
    let mut letters = format!("{prefix}{subject}").chars().collect::<Vec<_>>();
    letters.iter_mut().take(1).for_each(|first| *first = first.to_ascii_uppercase());
    letters.into_iter().collect()
}

/// The values that matter most first, and how many there are.
fn measured(reading: Reading<'_, '_>, values: &[&Row<'_>]) -> String {
    let rank = |row: &Row<'_>| {
        let refid = reading.what(row).name;
        FIRST.iter().position(|first| *first == refid).unwrap_or(FIRST.len())
    };
    let mut ordered: Vec<&Row<'_>> = values.iter().copied().filter(|row| reading.quantity(row).is_some()).collect();
    let without = values.len() - ordered.len();
    ordered.sort_by_cached_key(|row| rank(row));
    let mut told: Vec<String> = ordered.iter().take(VALUES_MAX).map(|row| value(reading, row)).collect();
    let more = ordered.len() - told.len();
    told.extend((more > 0).then(|| format!("{more} more")));
    told.extend((without > 0).then(|| format!("{without} without a value")));
    if told.is_empty() { "no observations".to_owned() } else { told.join(", ") }
}

fn value(reading: Reading<'_, '_>, row: &Row<'_>) -> String {
    let value = reading.quantity(row).map_or_else(|| "no value".to_owned(), |quantity| quantity.told());
    let flags = in_brackets(&flags(reading, row));
    let own = if value.chars().count() > VALUE_CHARS_MAX { "a long value".to_owned() } else { value };
    let what = reading.what(row).words;
    if what.is_empty() { format!("{own}{flags}") } else { format!("{what} {own}{flags}") }
}

fn flags(reading: Reading<'_, '_>, row: &Row<'_>) -> String {
    let flags = row.obx.field(8).repetitions().map(|flag| reading.text(flag.component(1).raw()));
    let words = flags.filter_map(|flag| {
        FLAGS.iter().find(|(code, _)| *code == flag).map(|(_, words)| *words).filter(|words| !words.is_empty())
    });
    words.collect::<Vec<_>>().join(", ")
}

fn is_glucose(row: &Row<'_>) -> bool {
    let named = row.code.mdc_or_alike().map(|triplet| triplet.text).unwrap_or_default();
    row.is(160_212, b"MDC_CONC_GLU_ISF") || row.is(160_020, b"MDC_CONC_GLU_GEN") || named == b"MDC_CONC_GLU_ISF"
}

/// The newest reading, and how many came with it.
fn glucose_told(reading: Reading<'_, '_>, readings: &[&Row<'_>]) -> String {
    let at = |row: &Row<'_>| reading.moment(row.obx, 14);
    // Without a time each, the last one sent is the newest.
    let newest = readings.iter().copied().reduce(|newest, row| match (at(newest), at(row)) {
        (Some(known), Some(next)) if known.seconds_until(&next).is_some_and(|seconds| seconds < 0) => newest,
        _ => row,
    });
    let Some(newest) = newest else { return String::new() };
    let time = at(newest).map(|at| format!(" at {}", at.text())).unwrap_or_default();
    let trend = reading.report.rows.iter().find(|row| row.is(8_418_008, b"MDC_CONC_GLU_TREND"));
    let trend = trend.and_then(|row| reading.quantity(row)).map(|trend| format!(", trend {}", trend.told()));
    let more = match readings.len() - 1 {
        0 => String::new(),
        more => format!(", {more} other reading{}", if more == 1 { "" } else { "s" }),
    };
    format!("{}{time}{}{more}", value(reading, newest), trend.unwrap_or_default())
}

/// Each infusion that a pump tells of: of every source, else of every pump of a rack, else of the whole message.
fn pumps(reading: Reading<'_, '_>) -> Vec<String> {
    let is_pump = |row: &Row<'_>| matches!(row.role, Role::Device(_)) && reading.what(row).name.contains("PUMP");
    let groups = 0..reading.report.groups.len();
    groups
        .filter(|group| reading.rows(*group).any(|row| is_pump(row) && !reading.what(row).name.contains("INSULIN")))
        .flat_map(|group| infusions(reading, group))
        .collect()
}

fn infusions(reading: Reading<'_, '_>, group: usize) -> Vec<String> {
    let devices = |wanted: &dyn Fn(&Row<'_>) -> bool| -> Vec<&Row<'_>> {
        reading.rows(group).filter(|row| matches!(row.role, Role::Device(_)) && wanted(row)).collect()
    };
    let mut places = devices(&|row| reading.what(row).name.contains("SOURCE"));
    if places.is_empty() {
        places = devices(&|row| row.role == Role::Device(Level::Vmd));
    }
    let device = headline::device(reading, group);
    let told = |label: String, place: Option<Containment>| {
        let parts = headline::infusion(&Infusion::read(reading, group, place));
        let parts = if parts.is_empty() { "no infusion told of".to_owned() } else { parts.join(", ") };
        format!("{device}{label}: {parts}")
    };
    let mut lines: Vec<String> = match places.as_slice() {
        [] => vec![told(String::new(), None)],
        [one] => vec![told(String::new(), one.place.map(Containment::key))],
        several => {
            let label = |row: &Row<'_>| after(", ", &reading.what(row).words);
            several.iter().map(|row| told(label(row), row.place.map(Containment::key))).collect()
        }
    };
    for line in &mut lines {
        let mut letters = line.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        *line = first.into_iter().chain(letters).collect();
    }
    lines
}

/// Longer ones are waveforms, pictures and reports.
const VALUE_CHARS_MAX: usize = 60;

/// What a nurse looks at first.
const FIRST: [&str; 13] = [
    "MDC_ECG_CARD_BEAT_RATE",
    "MDC_ECG_HEART_RATE",
    "MDC_PULS_OXIM_SAT_O2",
    "MDC_RESP_RATE",
    "MDC_TTHOR_RESP_RATE",
    "MDC_PRESS_BLD_ART_ABP_SYS",
    "MDC_PRESS_BLD_ART_ABP_DIA",
    "MDC_PRESS_BLD_NONINV_SYS",
    "MDC_PRESS_BLD_NONINV_DIA",
    "MDC_PULS_OXIM_PULS_RATE",
    "MDC_PULS_RATE",
    "MDC_AWAY_CO2_ET",
    "MDC_TEMP_BODY",
];

const FLAGS: [(&str, &str); 20] = [
    ("N", ""),
    ("L", "low"),
    ("LL", "critically low"),
    ("H", "high"),
    ("HH", "critically high"),
    ("A", "abnormal"),
    ("AA", "critically abnormal"),
    ("<", "below what the device can measure"),
    (">", "above what the device can measure"),
    ("INV", "invalid"),
    ("QUES", "questionable"),
    ("CAL", "calibrating"),
    ("TEST", "test"),
    ("DEMO", "demonstration"),
    ("EARLY", "early estimate"),
    ("ALACT", "alarm active"),
    ("ALINH", "alarm inhibited"),
    ("NAV", "not available"),
    ("BUSY", "measuring"),
    ("OFF", "off"),
];
