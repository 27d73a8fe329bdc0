//! Devices over the API: who reports, who is silent, and what happened to one.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    api::{Answer, Asked, Named, PAGE_DEFAULT, PAGE_MAX, Page, Shared, asked, audited, known, named},
};
use crate::devices::{DeviceQuery, DeviceState, DeviceStatus, Event};

/// Query of `GET /api/devices`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesAsked {
    channel: Option<String>,
    state: Option<DeviceState>,
    limit: Option<usize>,
    cursor: Option<u64>,
}

pub(super) async fn list(State(engine): Shared, query: Asked<DevicesAsked>) -> Answer<Json<Page<DeviceStatus>>> {
    let DevicesAsked { channel, state, limit, cursor } = asked(query)?;
    known(&engine, channel.as_deref(), None)?;
    let limit = limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let (items, next) = engine.devices.page(&DeviceQuery { channel, state, after: cursor, limit });
    Ok(Json(Page { items, next }))
}

#[derive(Serialize)]
pub(super) struct DeviceView {
    #[serde(flatten)]
    status: DeviceStatus,
    history: Vec<Event>,
}

pub(super) async fn one(State(engine): Shared, id: Named<u64>) -> Answer<Json<DeviceView>> {
    let found = engine.devices.one(named(id)?);
    let (status, history) =
        found.ok_or_else(|| Problem::not_found("no device of that id; GET /api/devices lists them"))?;
    Ok(Json(DeviceView { status, history }))
}

pub(super) async fn forget(State(engine): Shared, id: Named<u64>) -> Answer<StatusCode> {
    let id = named(id)?;
    audited(&engine, "device.forget", &id.to_string()).await?;
    match engine.devices.forget(id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("no device of that id; GET /api/devices lists them")),
    }
}
