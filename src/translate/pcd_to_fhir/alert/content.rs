//! What an alert's Observation says, from the one message at hand: each message of an alert tells all of it.

use super::super::{Translation, administration::quantity, outcome::SAME, value::bounds};
use crate::{
    fhir::{CodeableConcept, Coding, Component, Decimal, Quantity, ReferenceRange, Text, Value, systems},
    pcd::{AlarmState, Alert, Named, Observed},
};

/// None of HL7's categories fits.
pub(super) fn category() -> CodeableConcept<'static> {
    Coding::of(systems::OWN_CODES, "device-alert").into()
}

pub(super) fn code<'a>(translation: &Translation<'_>, alert: &Alert) -> CodeableConcept<'a> {
    let mut concept = named(translation, &alert.event);
    if let Some(text) = &alert.text {
        concept.text = Some(text.clone().into());
    }
    concept
}

/// Whether it is there.
pub(super) fn value<'a>(alert: &Alert) -> Option<Value<'a>> {
    let state = alert.state.as_ref()?;
    Some(Value::Concept(word(state.as_str(), matches!(state, AlarmState::Other(_)))))
}

pub(super) fn interpretation<'a>(alert: &Alert) -> Vec<CodeableConcept<'a>> {
    let active = (alert.state == Some(AlarmState::Active)).then(|| Coding::of(systems::MEASUREMENT_STATUS, "in-alarm"));
    let flags = alert.flags.iter().filter_map(|flag| SAME.iter().copied().find(|known| known == flag));
    active.into_iter().chain(flags.map(|flag| Coding::of(systems::INTERPRETATION, flag))).map(Into::into).collect()
}

/// Phase, inactivation, priority, type and source, then what was measured.
pub(super) fn components<'a>(translation: &Translation<'_>, alert: &Alert) -> Vec<Component<'a>> {
    let mut facets: Vec<(u32, &'static str, String)> = Vec::new();
    if let Some(phase) = &alert.phase {
        facets.push((68_481, "MDC_ATTR_EVENT_PHASE", phase.as_str().to_owned()));
    }
    let inactivation = alert.inactivation.iter().map(|state| state.as_str().to_owned());
    facets.extend(inactivation.map(|state| (68_483, "MDC_ATTR_ALARM_INACTIVATION_STATE", state)));
    if let Some(priority) = &alert.priority {
        facets.push((68_484, "MDC_ATTR_ALARM_PRIORITY", priority.as_str().to_owned()));
    }
    if let Some(kind) = &alert.kind {
        facets.push((68_485, "MDC_ATTR_ALERT_TYPE", kind.as_str().to_owned()));
    }
    let facets = facets.into_iter().map(|(code, refid, sent)| Component {
        code: mdc(code, refid),
        value: Some(Value::Concept(word(&sent, !is_code(&sent)))),
        ..Component::default()
    });
    let source = alert.source.as_ref().map(|source| Component {
        code: mdc(68_480, "MDC_ATTR_ALERT_SOURCE"),
        value: Some(Value::Concept(named(translation, source))),
        ..Component::default()
    });
    let measured = alert.observed.iter().map(|observed| measured(translation, observed));
    facets.chain(source).chain(measured).collect()
}

fn measured<'a>(translation: &Translation<'_>, observed: &Observed) -> Component<'a> {
    let amount = quantity(translation, &observed.value.value, &observed.value.unit);
    let text = || Value::Text(Text::Owned(observed.value.text()));
    Component {
        code: named(translation, &observed.what),
        value: Some(amount.map_or_else(text, Value::Quantity)),
        reference_range: limits(translation, observed).into_iter().collect(),
        ..Component::default()
    }
}

/// OBX-7, told as what it is: a reader would take it for what is normal.
fn limits<'a>(translation: &Translation<'_>, observed: &Observed) -> Option<ReferenceRange<'a>> {
    let sent = observed.limits.trim();
    if sent.is_empty() {
        return None;
    }
    let bound = |text: &str| -> Option<Quantity<'a>> {
        Decimal::parse(text)?;
        quantity(translation, text.trim(), &observed.value.unit)
    };
    let (low, high) = bounds(sent).map_or((None, None), |(low, high)| (bound(low), bound(high)));
    let text = (low.is_none() && high.is_none()).then(|| Text::Owned(sent.to_owned()));
    let kind = Some(Coding::of(systems::REFERENCE_RANGE_TYPE, "alarm-limits").into());
    Some(ReferenceRange { low, high, kind, text })
}

fn mdc<'a>(code: u32, refid: &'static str) -> CodeableConcept<'a> {
    let code = Some(code.to_string().into());
    Coding { system: Some(systems::MDC.into()), code, display: Some(refid.into()) }.into()
}

/// A code as it was sent: with its number where it is one of the nomenclature, else in words.
fn named<'a>(translation: &Translation<'_>, named: &Named) -> CodeableConcept<'a> {
    let resolved = translation.settings.nomenclature.resolve(&named.code, &named.name);
    let is_mdc = named.name.starts_with("MDC") || named.name.is_empty() && resolved.term.is_some();
    let words = Some(Text::Owned(named.words.clone())).filter(|words| !words.is_empty());
    let number = resolved.code.filter(|_| is_mdc).map(|number| number.to_string());
    let Some(number) = number else { return CodeableConcept { coding: Vec::new(), text: words } };
    let display = resolved.term.map(|term| term.refid.to_string()).unwrap_or_else(|| named.name.clone());
    let display = (!display.is_empty()).then(|| display.into());
    let coding = Coding { system: Some(systems::MDC.into()), code: Some(number.into()), display };
    CodeableConcept { coding: vec![coding], text: words }
}

/// A word of one of IHE's enumerations, which have no code system of their own; what is none of them, as words.
fn word<'a>(sent: &str, as_words: bool) -> CodeableConcept<'a> {
    if as_words {
        return CodeableConcept::text(sent.to_owned());
    }
    let code = Some(sent.to_owned().into());
    Coding { system: Some(systems::OWN_CODES.into()), code, display: None }.into()
}

/// What can stand as a FHIR code.
fn is_code(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
