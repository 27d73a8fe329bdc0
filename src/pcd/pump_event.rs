//! One event of an infusion pump as PCD-10 tells it (IHE PCD TF-2 3.10, M.1).
//!
//! A pump has several sources, each with its own drug, flow and volumes. What must never happen: one source's event is
//! told with another's numbers. So what a source has of its own is read under the event's source alone, and nothing is
//! taken from a source beside it.

use serde::Serialize;

use super::{
    Coded, Containment, Nomenclature, Report, Role, Row,
    event::{Attribute, EntityId, Moment, Named, Quantity, Reading, enumeration, squeezed},
    report::Place,
};

enumeration! {
    /// MDC_ATTR_EVT_COND: what happened.
    PumpEventKind {
        /// Delivery began.
        DeliveryStart = "DELIV_START",
        /// Delivery stopped before it was complete.
        DeliveryStop = "DELIV_STOP",
        /// Delivery is complete.
        DeliveryComplete = "DELIV_COMP",
        /// The pump was connected or disconnected.
        CommunicationStatusChange = "COMM_STATUS_CHANGE" | "COMM_STATUS_CHG",
        /// A program was cleared.
        ProgramCleared = "PROG_CLEARED",
        /// A program sent to the pump was cleared.
        AutoProgramCleared = "AUTO_PROG_CLEARED",
        /// The pump is on another patient.
        PatientChange = "PATIENT_CHANGE" | "PT_CHANGE" | "PATIENT_CHG",
        /// The patient's identifier changed.
        PatientIdChange = "PATIENT_ID_CHANGE" | "PT_ID_CHANGE" | "PATIENT_ID_CHG",
        /// Weight or the like changed.
        PatientParameterChange = "PATIENT_PARAMETER_CHANGE" | "PT_PARAMETER_CHANGE" | "PATIENT_PARAMETER_CHG",
        /// Volume counters were set to nothing.
        VolumeCountersCleared = "VOL_COUNTERS_CLEARED",
        /// The pump's clock was set.
        DeviceTimeChanged = "DEVICE_TIME_CHANGED",
    }
}

/// Where on the pump it happened.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct PumpSource {
    /// MDC_ATTR_EVT_SOURCE: the OBX-4 of the source.
    pub place: String,
    /// What stands there; none where no row describes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<Named>,
    /// The channel's label, such as `Primary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// An infusion as its pump tells it: what is infused, how fast, and how much.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
pub struct Infusion {
    /// OBR-4, else the label of the drug.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drug: Option<Named>,
    /// Whether the pump infuses: `infusing`, `standby` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infusing: Option<String>,
    /// `delivering`, `not delivering` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// Why it does not deliver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_delivering_reason: Option<String>,
    /// `continuous`, `bolus` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The sources that deliver now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active_sources: Vec<String>,
    /// The flow now, else the one that is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Quantity>,
    /// Dose rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dose_rate: Option<Quantity>,
    /// Concentration of the drug.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concentration: Option<Quantity>,
    /// Volume since the last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_segment: Option<Quantity>,
    /// Volume since the counters were cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_cumulative: Option<Quantity>,
    /// Volume to be infused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_to_be_infused: Option<Quantity>,
    /// What remains of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_remaining: Option<Quantity>,
    /// Time until it is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_remaining: Option<Quantity>,
    /// The label of the drug, where OBR-4 tells the drug.
    #[serde(skip)]
    pub drug_label: Option<String>,
    /// The flow is that of a pump several of whose sources deliver, or another one: what flows from this one is not known.
    #[serde(skip)]
    pub is_flow_shared: bool,
    /// Where it was told.
    #[serde(skip)]
    pub places: InfusionPlaces,
}

/// Fields that an infusion was read from.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct InfusionPlaces {
    /// OBR-4, else the label of the drug.
    pub drug: Option<Place>,
    /// Whether it infuses, how it delivers, and in which mode.
    pub modes: [Option<Place>; 3],
    /// Why it does not deliver.
    pub reason: Option<Place>,
    /// The flow.
    pub flow: Option<Place>,
    /// Dose rate.
    pub dose_rate: Option<Place>,
    /// Volume since the last start.
    pub volume_segment: Option<Place>,
    /// Volume since the counters were cleared.
    pub volume_cumulative: Option<Place>,
}

/// One pump event.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct PumpEvent {
    /// What happened.
    pub event: PumpEventKind,
    /// The code of it.
    pub code: Named,
    /// Where on the pump; none where the message does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PumpSource>,
    /// The infusion then.
    pub infusion: Infusion,
    /// OBR-2: the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<EntityId>,
    /// When it happened: OBX-14 of the event, else OBR-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// Seconds from the event to the making of the message (MSH-7). A pump that was offline sends late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_after_seconds: Option<i64>,
    /// Further events in the message: the framework allows one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Named>,
    /// Why it must not be told as something that happened: its row is withdrawn or doubted, or names two events.
    #[serde(skip)]
    pub doubt: Option<&'static str>,
    /// Index of its group in the report.
    #[serde(skip)]
    pub group: usize,
    /// Withdrawn, deleted or not available by its status, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// How many sources the pump is described with.
    #[serde(skip)]
    pub sources: usize,
    /// OBX-5 of the event.
    #[serde(skip)]
    pub place: Place,
    /// Where `at` was told.
    #[serde(skip)]
    pub at_place: Option<Place>,
}

/// From when on an event is told as sent late.
pub(super) const LATE_AFTER_SECONDS: i64 = 60;

impl PumpEvent {
    /// The event of a report; none where no row tells one.
    pub fn of<'m>(report: &Report<'m>, codes: &'m Nomenclature) -> Option<PumpEvent> {
        PumpEvent::read(Reading { report, codes })
    }

    /// The event of a message; none where no row tells one.
    pub(super) fn read(reading: Reading<'_, '_>) -> Option<PumpEvent> {
        let mut rows = reading.report.rows.iter().filter(|row| EVT_COND.is(row));
        let row = rows.next()?;
        let code = reading.named(row.obx.field(5)).unwrap_or_default();
        let request = reading.report.group(row).request;
        let source = source(reading, row.group);
        let mut times = [Some((row.obx, 14)), request.map(|obr| (obr, 7))].into_iter().flatten();
        let at = times.find_map(|(segment, field)| Some((reading.moment(segment, field)?, segment.place(field))));
        let (at, at_place) = at.unzip();
        let sent_after = at.as_ref().zip(reading.made_at()).and_then(|(at, made)| at.seconds_until(&made));
        Some(PumpEvent {
            event: kind_of(&code),
            code,
            infusion: Infusion::read(reading, row.group, source.as_ref().and_then(|(_, place)| *place)),
            source: source.map(|(source, _)| source),
            order: request.and_then(|obr| EntityId::read(reading.message(), obr.field(2).first())),
            at,
            sent_after_seconds: sent_after,
            further: rows.filter_map(|row| reading.named(row.obx.field(5))).collect(),
            doubt: doubt(reading, row),
            status: reading.status(row),
            sources: reading.rows(row.group).filter(|row| is_source(reading, row)).count(),
            group: row.group,
            place: row.place_of(5),
            at_place,
        })
    }
}

impl Infusion {
    /// What the rows of a group tell of one source; of all of them where none is named.
    pub(super) fn read(reading: Reading<'_, '_>, group: usize, source: Option<Containment>) -> Infusion {
        let scope = Scope::new(reading, group, source);
        let ordered = request_drug(reading, group);
        let label = scope.own(&DRUG_LABEL);
        let labelled = || {
            let text = label.map(|row| reading.text(row.obx.raw(5))).filter(|text| !text.is_empty());
            text.map(|words| Named { words, ..Named::default() })
        };
        let segment_or = |attribute| {
            let told = scope.own(attribute).and_then(|row| reading.quantity(row))?;
            Some(Quantity { is_sure: told.is_sure && !scope.contradicts(attribute), ..told })
        };
        let place = |row: Option<&Row<'_>>| row.filter(|row| !row.obx.raw(5).is_empty()).map(|row| row.place_of(5));
        let request = reading.report.groups[group].request.filter(|_| ordered.is_some());
        let (infusing, delivery, mode) = (scope.once(&INFUSING), scope.own(&DELIVERY), scope.own(&MODE));
        let (reason, flow) = (scope.own(&REASON), scope.once(&CURRENT_FLOW).or_else(|| scope.once(&FLOW)));
        let active_sources = scope.once(&ACTIVE_SOURCES).map(|row| scope.words(row)).unwrap_or_default();
        let of_source = |row: &Row<'_>| source.is_none_or(|source| is_within(row, source));
        let of_others = active_sources.len() > 1
            || source.is_some_and(|source| names_others(reading, group, source, &active_sources));
        let is_flow_shared = of_others && flow.is_some_and(|row| !of_source(row));
        Infusion {
            places: InfusionPlaces {
                drug: request.map(|obr| obr.place(4)).or_else(|| place(label)),
                modes: [place(infusing), place(delivery), place(mode)],
                reason: place(reason),
                flow: place(flow),
                dose_rate: place(scope.own(&DOSE_RATE)),
                volume_segment: place(scope.own(&SEGMENT)),
                volume_cumulative: place(scope.own(&CUMULATIVE)),
            },
            drug_label: labelled().filter(|_| ordered.is_some()).map(|label| label.words),
            drug: ordered.or_else(labelled),
            infusing: scope.word(infusing),
            delivery: scope.word(delivery),
            not_delivering_reason: scope.word(reason),
            mode: scope.word(mode),
            active_sources,
            flow: flow
                .and_then(|row| reading.quantity(row))
                .map(|flow| Quantity { is_sure: flow.is_sure && !is_flow_shared, ..flow }),
            is_flow_shared,
            dose_rate: segment_or(&DOSE_RATE),
            concentration: segment_or(&CONCENTRATION),
            volume_segment: segment_or(&SEGMENT),
            volume_cumulative: segment_or(&CUMULATIVE),
            volume_to_be_infused: segment_or(&TO_BE_INFUSED),
            volume_remaining: segment_or(&REMAINING),
            time_remaining: segment_or(&TIME_REMAINING),
        }
    }
}

const EVT_COND: Attribute = Attribute::new(&[68_487], &["MDC_ATTR_EVT_COND", "MDCX_ATTR_EVT_COND"]);
const EVT_SOURCE: Attribute = Attribute::new(&[68_488], &["MDC_ATTR_EVT_SOURCE", "MDCX_ATTR_EVT_SOURCE"]);
const INFUSING: Attribute = Attribute::new(
    &[184_519, 184_508],
    &["MDC_PUMP_INFUSING_STATUS", "MDC_DEV_PUMP_INFUSING_STATUS", "MDC_PUMP_STAT", "MDCX_PUMP_STAT"],
);
const CURRENT_FLOW: Attribute =
    Attribute::new(&[158_014], &["MDC_FLOW_FLUID_PUMP_CURRENT", "MDCX_FLOW_FLUID_PUMP_CURRENT"]);
const FLOW: Attribute = Attribute::new(&[157_784], &["MDC_FLOW_FLUID_PUMP"]);
const ACTIVE_SOURCES: Attribute =
    Attribute::new(&[158_016], &["MDC_DEV_PUMP_ACTIVE_SOURCES", "MDC_PUMP_ACTIVE_SOURCES"]);
const DELIVERY: Attribute =
    Attribute::new(&[158_005], &["MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS", "MDC_PUMP_CURRENT_DELIVERY_STATUS"]);
const REASON: Attribute =
    Attribute::new(&[158_006], &["MDC_DEV_PUMP_NOT_DELIVERING_REASON", "MDC_PUMP_NOT_DELIVERING_REASON"]);
const MODE: Attribute = Attribute::new(
    &[158_008, 184_504],
    &[
        "MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE",
        "MDC_PUMP_PROGRAM_DELIVERY_MODE",
        "MDC_PUMP_MODE",
        "MDCX_PUMP_MODE_CURRENT",
    ],
);
const LABEL: Attribute =
    Attribute::new(&[158_012], &["MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL", "MDC_PUMP_SOURCE_CHANNEL_LABEL"]);
const DRUG_LABEL: Attribute = Attribute::new(&[184_514], &["MDC_DRUG_NAME_LABEL", "MDCX_DRUG_NAME_LABEL"]);
const DOSE_RATE: Attribute = Attribute::new(&[157_924], &["MDC_RATE_DOSE"]);
const CONCENTRATION: Attribute = Attribute::new(&[157_760], &["MDC_CONC_DRUG"]);
const SEGMENT: Attribute = Attribute::new(&[157_992], &["MDC_VOL_FLUID_DELIV_SEGMENT", "MDCX_VOL_FLUID_DELIV_SEGMENT"]);
const CUMULATIVE: Attribute = Attribute::new(&[157_993], &["MDC_VOL_FLUID_DELIV_TOTAL", "MDCX_VOL_FLUID_DELIV_TOTAL"]);
const TO_BE_INFUSED: Attribute = Attribute::new(&[157_884], &["MDC_VOL_FLUID_TBI"]);
const REMAINING: Attribute = Attribute::new(&[157_872], &["MDC_VOL_FLUID_TBI_REMAIN"]);
const TIME_REMAINING: Attribute = Attribute::new(&[157_916], &["MDC_TIME_PD_REMAIN"]);

fn doubt(reading: Reading<'_, '_>, row: &Row<'_>) -> Option<&'static str> {
    let coded = Coded::read(row.obx.field(5).first());
    let named = |code: &str, name: &str| kind_of(&Named { code: code.into(), name: name.into(), ..Named::default() });
    let two = coded.mdc_or_alike().is_some_and(|one| {
        let (number, name) = (reading.text(one.code), reading.text(one.text));
        let kinds = (named(&number, ""), named("", &name));
        let is_known = |kind: &PumpEventKind| !matches!(kind, PumpEventKind::Other(_));
        is_known(&kinds.0) && is_known(&kinds.1) && kinds.0 != kinds.1
    });
    match (reading.is_sure(row), two) {
        (false, _) => Some(DOUBTED),
        (true, true) => Some(TWO_EVENTS),
        (true, false) => None,
    }
}

const DOUBTED: &str = "the event is withdrawn, deleted or doubted (OBX-11, OBX-8): if it was told before, mend the administration in the record by hand";
const TWO_EVENTS: &str = "number and identifier are of two events; ask the sender which one is meant";

/// By the identifier's last words, since drafts spell the first ones otherwise; else by number.
fn kind_of(code: &Named) -> PumpEventKind {
    let name = code.name.strip_prefix("MDCX_").or_else(|| code.name.strip_prefix("MDC_")).unwrap_or(&code.name);
    let name = ["EVT_PUMP_", "EVT_"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    match (PumpEventKind::read(name), code.code.as_str()) {
        (PumpEventKind::Other(_), "197288") => PumpEventKind::DeliveryStart,
        (PumpEventKind::Other(_), "197292") => PumpEventKind::DeliveryComplete,
        (PumpEventKind::Other(sent), _) if sent.is_empty() => PumpEventKind::Other(code.words.clone()),
        (kind, _) => kind,
    }
}

/// The source that MDC_ATTR_EVT_SOURCE names, and its place where that is one.
fn source(reading: Reading<'_, '_>, group: usize) -> Option<(PumpSource, Option<Containment>)> {
    let row = reading.rows(group).find(|row| EVT_SOURCE.is(row))?;
    let place = reading.text(row.obx.raw(5));
    let Some(key) = Containment::parse(place.as_bytes()).map(Containment::key) else {
        return Some((PumpSource { place, what: None, label: None }, None)).filter(|found| !found.0.place.is_empty());
    };
    let device = |row: &&Row<'_>| matches!(row.role, Role::Device(_)) && row.place.map(Containment::key) == Some(key);
    let what = reading.rows(group).find(device).map(|row| reading.what(row));
    let label = reading.rows(group).find(|row| LABEL.is(row) && is_within(row, key));
    let label = label.map(|row| reading.text(row.obx.raw(5))).filter(|label| !label.is_empty());
    Some((PumpSource { place, what, label }, Some(key)))
}

/// Whether what delivers is said to be other sources than this one. Where either is called otherwise than these, nothing is
/// known.
fn names_others(reading: Reading<'_, '_>, group: usize, source: Containment, active: &[String]) -> bool {
    const KINDS: [&str; 2] = ["primary", "secondary"];
    let kind_of = |text: &str| KINDS.iter().position(|kind| squeezed(text).contains(kind));
    let here = |row: &&Row<'_>| is_source(reading, row) && row.place.map(Containment::key) == Some(source);
    let own = reading.rows(group).find(here).and_then(|row| kind_of(&reading.what(row).name));
    let active: Option<Vec<usize>> = active.iter().map(|text| kind_of(text)).collect();
    own.zip(active).is_some_and(|(own, active)| !active.is_empty() && !active.contains(&own))
}

fn is_source(reading: Reading<'_, '_>, row: &Row<'_>) -> bool {
    matches!(row.role, Role::Device(_)) && reading.what(row).name.contains("SOURCE")
}

/// OBR-4, which an infusion has its drug in; not where it names a device or a service.
fn request_drug(reading: Reading<'_, '_>, group: usize) -> Option<Named> {
    let request = reading.report.groups[group].request?;
    let drug = reading.named(request.field(4))?;
    let no_drug = drug.name.starts_with("MDC") || drug.code.is_empty() && drug.name.is_empty();
    let service =
        reading.text(request.field(4).component(3).raw()) == "SCT" && squeezed(&drug.name).contains("monitor");
    (!no_drug && !service).then_some(drug)
}

fn is_within(row: &Row<'_>, key: Containment) -> bool {
    row.place.is_some_and(|place| place.key() == key || place.above().any(|up| up.key() == key))
}

/// Rows that may speak of a source.
struct Scope<'r, 'm> {
    reading: Reading<'r, 'm>,
    group: usize,
    source: Option<Containment>,
    /// Channels with something of their own, of the source or where none is named of the whole group.
    channels: Vec<Containment>,
}

impl<'r, 'm> Scope<'r, 'm> {
    fn new(reading: Reading<'r, 'm>, group: usize, source: Option<Containment>) -> Scope<'r, 'm> {
        let mut scope = Scope { reading, group, source, channels: Vec::new() };
        let metrics = reading.rows(group).filter(|row| row.role == Role::Metric);
        for row in metrics.filter(|row| source.is_none_or(|source| is_within(row, source))) {
            let own = channel(row).filter(|channel| !scope.is_shared(*channel) && !scope.channels.contains(channel));
            // Two are as good as many: with more than one, none of them is the source.
            scope.channels.extend(own.filter(|_| scope.channels.len() < 2));
        }
        scope
    }

    /// What every source has of its own: in the source, else what the pump tells for all.
    fn own(&self, attribute: &Attribute) -> Option<&'r Row<'m>> {
        let rows = || self.reading.rows(self.group).filter(|row| attribute.is(row) && self.may_speak(row));
        let within = |row: &&Row<'_>| self.source.is_some_and(|source| is_within(row, source));
        rows().find(within).or_else(|| rows().next())
    }

    /// The source tells it twice, and not the same.
    fn contradicts(&self, attribute: &Attribute) -> bool {
        let Some(first) = self.own(attribute) else { return false };
        let same = |row: &Row<'_>| row.obx.raw(5) == first.obx.raw(5) && row.obx.raw(6) == first.obx.raw(6);
        let within = |row: &Row<'_>| match self.source.filter(|source| is_within(first, *source)) {
            Some(source) => is_within(row, source),
            None => parent(row) == parent(first),
        };
        let mut rows = self.reading.rows(self.group).filter(|row| attribute.is(row) && self.may_speak(row));
        rows.any(|row| within(row) && !same(row))
    }

    /// What the pump has once, wherever it tells it; not where several tell it and none is the source.
    fn once(&self, attribute: &Attribute) -> Option<&'r Row<'m>> {
        let mut rows = self.reading.rows(self.group).filter(|row| attribute.is(row) && !self.is_of_another_pump(row));
        self.own(attribute).or_else(|| rows.next().filter(|_| rows.next().is_none()))
    }

    fn may_speak(&self, row: &Row<'_>) -> bool {
        !self.is_of_another_pump(row)
            && channel(row).is_none_or(|channel| {
                Some(channel) == self.source || self.is_shared(channel) || self.channels == [channel]
            })
    }

    /// In another MDS or VMD than the source.
    fn is_of_another_pump(&self, row: &Row<'_>) -> bool {
        let (Some(source), Some(place)) = (self.source, row.place) else { return false };
        [1, 2].into_iter().any(|level| {
            let (one, two) = (source.part(level), place.part(level));
            one != 0 && two != 0 && one != two
        })
    }

    /// A channel that tells of the delivery of the pump as a whole.
    fn is_shared(&self, channel: Containment) -> bool {
        let devices = self.reading.rows(self.group).filter(|row| matches!(row.role, Role::Device(_)));
        let mut here = devices.filter(|row| row.place.map(Containment::key) == Some(channel));
        here.any(|row| {
            let refid = self.reading.what(row).name;
            refid.contains("DELIVERY") || refid.contains("_INFO")
        })
    }

    fn words(&self, row: &Row<'_>) -> Vec<String> {
        let one = |one| self.reading.word(one).map(|word| super::words::of(&word));
        row.obx.field(5).repetitions().filter_map(one).collect()
    }

    fn word(&self, row: Option<&Row<'_>>) -> Option<String> {
        row.map(|row| self.words(row).join(", ")).filter(|word| !word.is_empty())
    }
}

/// What a row is in: with another row of the same, it is of the same thing.
fn parent(row: &Row<'_>) -> Option<Containment> {
    row.place.and_then(|place| place.above().next())
}

/// The 11073 channel a row is in. The short forms of OBX-4 have none.
fn channel(row: &Row<'_>) -> Option<Containment> {
    let place = row.place.filter(|place| place.levels() >= 4)?;
    std::iter::once(place.key()).chain(place.above()).find(|up| up.levels() == 3)
}
