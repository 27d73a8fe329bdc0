//! `GET /api/conformance`: what each sender breaks, and its quirks, since the engine started. Names of senders, never of patients.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};

use super::{Engine, Problem};
use crate::{
    intake::SenderConformance,
    pcd::{
        conformance::{RULES, Rule},
        tolerance::Quirk,
    },
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Query of `GET /api/conformance`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendersQuery {
    /// Only senders of this channel.
    channel: Option<String>,
    /// Only what breaks this rule.
    rule: Option<String>,
    /// Only those with this quirk.
    quirk: Option<String>,
    limit: Option<usize>,
    /// Senders passed over, in the order of their names.
    cursor: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct SendersPage {
    items: Vec<SenderConformance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

pub(super) async fn conformance(
    State(engine): State<Arc<Engine>>,
    query: Result<Query<SendersQuery>, QueryRejection>,
) -> Result<Json<SendersPage>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    // An empty list would hide a wrong name.
    if let Some(wanted) = query.rule.as_deref().filter(|wanted| Rule::of(wanted).is_none()) {
        let known = RULES.iter().map(|rule| rule.id).collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!("{wanted} is no rule; the rules are {known}")));
    }
    if let Some(wanted) = query.quirk.as_deref().filter(|wanted| Quirk::all().all(|quirk| quirk.id() != *wanted)) {
        let known = Quirk::all().map(Quirk::id).collect::<Vec<_>>().join(", ");
        return Err(Problem::bad_request(format!("{wanted} is no quirk; the quirks are {known}")));
    }
    let mut items = engine.conformity.senders.list();
    items.retain(|sender| query.channel.as_deref().is_none_or(|channel| channel == &*sender.channel));
    if let Some(wanted) = &query.rule {
        items.iter_mut().for_each(|sender| sender.rules.retain(|rule| rule.rule == wanted));
        items.retain(|sender| !sender.rules.is_empty());
    }
    if let Some(wanted) = &query.quirk {
        items.iter_mut().for_each(|sender| sender.quirks.retain(|met| met.quirk.id() == wanted));
        items.retain(|sender| !sender.quirks.is_empty());
    }
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let start = query.cursor.unwrap_or(0).min(items.len());
    let end = start.saturating_add(limit).min(items.len());
    let next = (end < items.len()).then_some(end);
    Ok(Json(SendersPage { items: items.drain(start..end).collect(), next }))
}
