//! The figures of a summary: their codes, units and decimals, and the values of one.

use crate::{
    fhir::{CodeableConcept, Coding, Decimal, Quantity, Value, systems},
    pcd::cgm::{CgmSummary, GlucoseUnit},
};

/// What a figure is, and how it is written.
#[derive(PartialEq, Eq)]
pub(in crate::translate) struct Figure {
    pub loinc: &'static str,
    pub text: &'static str,
    /// The guide's words for a unit, and its UCUM.
    pub unit: (&'static str, &'static str),
    pub decimals: usize,
}

const fn figure(
    loinc: &'static str,
    text: &'static str,
    unit: (&'static str, &'static str),
    decimals: usize,
) -> Figure {
    Figure { loinc, text, unit, decimals }
}

const PERCENT: (&str, &str) = ("%", "%");
pub(in crate::translate) static SUMMARY: Figure = figure("107931-8", "CGM summary", ("", ""), 0);
pub(in crate::translate) static RANGES: Figure = figure("106793-3", "Times in ranges", ("", ""), 0);
static MEAN_MASS: Figure = figure("97507-8", "Mean glucose", ("mg/dl", "mg/dL"), 1);
static MEAN_MOLAR: Figure = figure("105273-7", "Mean glucose", ("mmol/l", "mmol/L"), 2);
static GMI: Figure = figure("97506-0", "Glucose management indicator", PERCENT, 2);
static CV: Figure = figure("104638-2", "Coefficient of variation of glucose", PERCENT, 2);
static DAYS: Figure = figure("104636-6", "Days of wear", ("days", "d"), 0);
static ACTIVE: Figure = figure("104637-4", "Sensor active", PERCENT, 2);
/// The guide asks for two decimals at least.
static VERY_LOW: Figure = figure("104642-4", "Time very low (below 54 mg/dL, 3.0 mmol/L)", PERCENT, 2);
static LOW: Figure = figure("104641-6", "Time low (54 to 69 mg/dL, 3.0 to 3.8 mmol/L)", PERCENT, 2);
static IN_RANGE: Figure = figure("97510-2", "Time in range (70 to 180 mg/dL, 3.9 to 10.0 mmol/L)", PERCENT, 2);
static HIGH: Figure = figure("104640-8", "Time high (181 to 250 mg/dL, 10.1 to 13.9 mmol/L)", PERCENT, 2);
static VERY_HIGH: Figure = figure("104639-0", "Time very high (above 250 mg/dL, 13.9 mmol/L)", PERCENT, 2);

/// Places of the figures of a summary: five that are Observations of their own, then the ranges. Of the mean there are two,
/// by unit.
static FIGURES: [&[&Figure]; 10] = [
    &[&MEAN_MASS, &MEAN_MOLAR],
    &[&GMI],
    &[&CV],
    &[&DAYS],
    &[&ACTIVE],
    &[&VERY_LOW],
    &[&LOW],
    &[&IN_RANGE],
    &[&HIGH],
    &[&VERY_HIGH],
];
const SINGLE: usize = 5;

impl Figure {
    pub fn code(&self) -> CodeableConcept<'static> {
        CodeableConcept { coding: vec![Coding::of(systems::LOINC, self.loinc)], text: Some(self.text.into()) }
    }

    pub fn quantity(&self, value: &str) -> Value<'static> {
        let (unit, code) = (Some(self.unit.0.into()), Some(self.unit.1.into()));
        Value::Quantity(Quantity {
            value: Decimal::parse(value),
            comparator: None,
            unit,
            system: Some(systems::UCUM),
            code,
        })
    }

    fn written(&'static self, value: f64) -> (&'static Figure, String) {
        (self, format!("{value:.*}", self.decimals))
    }
}

/// A value for each place of [`FIGURES`], in decimals as they are written.
pub(in crate::translate) struct Values(Vec<(&'static Figure, String)>);

impl Values {
    /// `None` where there are too few readings for one of them.
    pub fn of(summary: &CgmSummary) -> Option<Values> {
        let mean = match summary.unit {
            GlucoseUnit::MgPerDl => &MEAN_MASS,
            GlucoseUnit::MmolPerL => &MEAN_MOLAR,
        };
        let ranges = summary.ranges?;
        Some(Values(vec![
            mean.written(summary.mean_in_unit()?),
            GMI.written(summary.gmi_percent?),
            CV.written(summary.cv_percent?),
            DAYS.written(summary.days_worn as f64),
            ACTIVE.written(summary.sensor_active_percent),
            VERY_LOW.written(ranges.very_low),
            LOW.written(ranges.low),
            IN_RANGE.written(ranges.in_range),
            HIGH.written(ranges.high),
            VERY_HIGH.written(ranges.very_high),
        ]))
    }

    /// What `value` finds of each place; `None` where it finds nothing for one, or what is no number.
    pub fn found(value: impl Fn(&Figure) -> Option<String>) -> Option<Values> {
        let told =
            |places: &&[&'static Figure]| places.iter().find_map(|figure| value(figure).map(|value| (*figure, value)));
        let found = FIGURES.iter().map(told).collect::<Option<Vec<_>>>()?;
        found.iter().all(|(_, value)| Decimal::parse(value).is_some()).then_some(Values(found))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&'static Figure, &str)> {
        self.0.iter().map(|(figure, value)| (*figure, value.as_str()))
    }

    /// Those that are Observations of their own.
    pub fn single(&self) -> impl Iterator<Item = (&'static Figure, &str)> {
        self.all().take(SINGLE)
    }

    /// Those that are components.
    pub fn ranges(&self) -> impl Iterator<Item = (&'static Figure, &str)> {
        self.all().skip(SINGLE)
    }
}
