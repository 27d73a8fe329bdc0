//! A typed report as lines of name and value, for the explanation's text. What was not sent has no line.

use super::{
    Alert, EntityId, Explanation, InfusionOrder, Moment, Named, PumpEvent, Quantity, Reply, TypedReport, headline,
};

type Fact = (&'static str, String);

/// The facts of an explanation, in the order a person asks for them.
pub(super) fn of(explanation: &Explanation) -> Vec<Fact> {
    let recognised = explanation.recognised;
    let mut facts = vec![("recognised by", recognised.by.to_string())];
    facts.extend(recognised.contradicted_by.map(|other| ("but MSH-9 says", other.title().to_owned())));
    match &explanation.report {
        Some(TypedReport::Alerts(alerts)) => facts.extend(alerts.iter().flat_map(alert)),
        Some(TypedReport::PumpEvent(event)) => facts.extend(pump_event(event)),
        Some(TypedReport::InfusionOrder(order)) => facts.extend(infusion_order(order)),
        Some(TypedReport::Reply(reply)) => facts.extend(self::reply(reply)),
        None => {}
    }
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn alert(alert: &Alert) -> Vec<Fact> {
    let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
    let first = if alert.initial { "yes, by its phase" } else { "no, by its phase" };
    let instance = alert.instance.as_ref().map(entity).unwrap_or_default();
    let from = alert.instance_from.map(|from| format!(" (from {from})")).unwrap_or_default();
    let mut facts = vec![
        ("event", named(Some(&alert.event))),
        ("text", alert.text.clone().unwrap_or_default()),
        ("phase", word(alert.phase.as_ref().map(super::Phase::as_str))),
        ("first message of it", if alert.phase.is_some() { first.to_owned() } else { String::new() }),
        ("state", word(alert.state.as_ref().map(super::AlarmState::as_str))),
        ("signals", alert.inactivation.iter().map(super::Inactivation::as_str).collect::<Vec<_>>().join(", ")),
        ("priority", word(alert.priority.as_ref().map(super::Priority::as_str))),
        ("type", word(alert.kind.as_ref().map(super::AlertType::as_str))),
        ("flags", alert.flags.join(", ")),
        ("source", named(alert.source.as_ref())),
    ];
    facts.extend(alert.observed.iter().map(|one| {
        let limits = if one.limits.is_empty() { String::new() } else { format!(", limits {}", one.limits) };
        ("observed", format!("{}: {}{limits}", named(Some(&one.what)), one.value.told()))
    }));
    facts.extend([
        ("confirm within", quantity(alert.confirm_within.as_ref())),
        ("location", alert.location.clone().unwrap_or_default()),
        ("at", moment(alert.at.as_ref())),
        ("sent after", alert.sent_after_seconds.map(|seconds| format!("{seconds} s")).unwrap_or_default()),
        ("status", alert.status.unwrap_or_default().to_owned()),
        ("alert id", if instance.is_empty() { String::new() } else { format!("{instance}{from}") }),
        ("this message's id", alert.report.as_ref().map(entity).unwrap_or_default()),
    ]);
    facts
}

fn pump_event(event: &PumpEvent) -> Vec<Fact> {
    let infusion = &event.infusion;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let amount = |of: &Option<Quantity>| quantity(of.as_ref());
    let source = event.source.as_ref().map(|source| {
        let label = headline::after(", label ", source.label.as_deref().unwrap_or_default());
        format!("{}{}{label}", source.place, headline::after(" ", &named(source.what.as_ref())))
    });
    vec![
        ("event", named(Some(&event.code))),
        ("source", source.unwrap_or_default()),
        ("drug", named(infusion.drug.as_ref())),
        ("infusing status", text(&infusion.infusing)),
        ("delivery status", text(&infusion.delivery)),
        ("not delivering", text(&infusion.not_delivering_reason)),
        ("mode", text(&infusion.mode)),
        ("active sources", infusion.active_sources.join(", ")),
        ("flow", amount(&infusion.flow)),
        ("dose rate", amount(&infusion.dose_rate)),
        ("concentration", amount(&infusion.concentration)),
        ("segment volume", amount(&infusion.volume_segment)),
        ("cumulative volume", amount(&infusion.volume_cumulative)),
        ("to be infused", amount(&infusion.volume_to_be_infused)),
        ("remaining", amount(&infusion.volume_remaining)),
        ("time remaining", amount(&infusion.time_remaining)),
        ("order", event.order.as_ref().map(entity).unwrap_or_default()),
        ("at", moment(event.at.as_ref())),
        ("sent after", event.sent_after_seconds.map(|seconds| format!("{seconds} s")).unwrap_or_default()),
        ("status", event.status.unwrap_or_default().to_owned()),
        ("further events", event.further.iter().map(|one| named(Some(one))).collect::<Vec<_>>().join("; ")),
    ]
}

fn infusion_order(order: &InfusionOrder) -> Vec<Fact> {
    let mut facts = vec![
        ("order control", order.control.clone()),
        ("placer order", order.placer.as_ref().map(entity).unwrap_or_default()),
        ("filler order", order.filler.as_ref().map(entity).unwrap_or_default()),
        ("at", moment(order.at.as_ref())),
        ("pump", order.pump.clone().unwrap_or_default()),
    ];
    for step in &order.steps {
        facts.extend([
            ("drug", named(step.drug.as_ref())),
            ("rate", quantity(step.rate.as_ref())),
            ("volume", quantity(step.volume.as_ref())),
            ("dose", quantity(step.dose.as_ref())),
            ("dose in", quantity(step.dose_in.as_ref())),
            ("route", named(step.route.as_ref())),
            ("through", named(step.through.as_ref())),
            ("method", named(step.method.as_ref())),
            ("start", moment(step.start.as_ref())),
            ("duration", step.duration.clone().unwrap_or_default()),
        ]);
    }
    let parameters = order.parameters.iter();
    facts.extend(parameters.map(|one| ("parameter", format!("{}: {}", named(Some(&one.what)), one.value.told()))));
    facts
}

fn reply(reply: &Reply) -> Vec<Fact> {
    let mut facts = vec![
        ("code", reply.code.clone()),
        ("answers message", reply.answers.clone()),
        ("text", reply.text.clone().unwrap_or_default()),
        ("alert id", reply.alert.as_ref().map(entity).unwrap_or_default()),
    ];
    facts.extend(
        reply.statuses.iter().map(|one| ("status", format!("{}: {}", named(Some(&one.what)), one.value.told()))),
    );
    facts.extend(reply.recipients.iter().map(|to| ("recipient", to.clone())));
    for error in &reply.errors {
        facts.extend([
            ("error", named(error.code.as_ref())),
            ("application error", named(error.application.as_ref())),
            ("error text", error.text.clone().unwrap_or_default()),
        ]);
    }
    facts
}

/// `infusion started [197288 MDC_EVT_PUMP_DELIV_START]`: the words, then what was sent where they are not it.
fn named(named: Option<&Named>) -> String {
    let Some(named) = named else { return String::new() };
    let sent = [&named.code, &named.name].into_iter().filter(|part| !part.is_empty() && **part != named.words);
    let sent = sent.cloned().collect::<Vec<_>>().join(" ");
    if sent.is_empty() { named.words.clone() } else { format!("{} [{sent}]", named.words) }
}

fn quantity(quantity: Option<&Quantity>) -> String {
    quantity.map(Quantity::told).unwrap_or_default()
}

fn moment(moment: Option<&Moment>) -> String {
    moment.map(|moment| format!("{}, {}", moment.text(), moment.place)).unwrap_or_default()
}

fn entity(id: &EntityId) -> String {
    let authority = [&id.universal_id, &id.namespace].into_iter().find(|part| !part.is_empty());
    match authority {
        Some(authority) if *authority != id.id => format!("{} of {authority}", id.text()),
        _ => id.text().to_owned(),
    }
}
