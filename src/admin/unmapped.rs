//! `GET /api/unmapped`: the codes that no table has, which need a person. No value of a patient's is among them.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{Engine, Problem};
use crate::{
    channel::Channel,
    delivery::UnmappedList,
    translate::{LOOKED_UP, Plan},
};

/// Query of `GET /api/unmapped`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    channel: Option<String>,
    table: Option<String>,
}

pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<UnmappedList>, Problem> {
    let Query(wanted) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let table = wanted.table.map(|name| known_table(&engine, &name)).transpose()?;
    let mut list = engine.delivery.unmapped().list(wanted.channel.as_deref(), table.as_deref());
    let (channels, nomenclature) = (engine.channels.load(), engine.nomenclature.load());
    // A row that a person has filled in is not asked for again.
    list.items.retain(|code| !code.has_row(plans_of(&channels, &code.channel), &nomenclature));
    Ok(Json(list))
}

fn plans_of<'c>(channels: &'c [Arc<Channel>], name: &str) -> impl Iterator<Item = &'c Plan> {
    let channel = channels.iter().find(|channel| *channel.name == *name);
    channel.into_iter().flat_map(|channel| &channel.destinations).map(|destination| &destination.plan)
}

/// The table by its name, with or without `.csv`. An empty list would hide a name that is wrong.
fn known_table(engine: &Engine, name: &str) -> Result<String, Problem> {
    let channels = engine.channels.load();
    let plans = channels.iter().flat_map(|channel| &channel.destinations).map(|destination| &destination.plan);
    let met = engine.delivery.unmapped().list(None, None).items.into_iter().map(|code| code.table);
    let built_in = LOOKED_UP.iter().map(|name| (*name).to_owned());
    let known: BTreeSet<String> = built_in.chain(plans.flat_map(Plan::tables)).chain(met).collect();
    let stem = |name: &str| name.strip_suffix(".csv").unwrap_or(name).to_owned();
    let found = known.iter().find(|known| stem(known) == stem(name)).cloned();
    found.ok_or_else(|| {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Problem::bad_request(format!("{name} is no table in which codes are looked up; those are {known}"))
    })
}
