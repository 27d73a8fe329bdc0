//! Application ACKs owed to senders: a list by pages, and giving one up. No content.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use tracing::info;

use super::{
    Problem,
    api::{Answer, Asked, Named, PAGE_DEFAULT, PAGE_MAX, Page, Shared, asked, audited, named},
};
use crate::{
    intake::OwedAck,
    store::{Sequence, StoreError},
};

/// Query of `GET /api/owed-acks`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwedQuery {
    channel: Option<String>,
    limit: Option<usize>,
    cursor: Option<u64>,
}

pub(super) async fn list(State(engine): Shared, query: Asked<OwedQuery>) -> Answer<Json<Page<OwedAck>>> {
    let query = asked(query)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let found = engine.owed.list(query.channel.as_deref(), query.cursor.map(Sequence::from_u64), limit);
    Ok(Page::new(found, limit, |owed| owed.entry.as_u64()))
}

pub(super) async fn discard(State(engine): Shared, entry: Named<u64>) -> Answer<StatusCode> {
    let entry = named(entry)?;
    audited(&engine, "owed-ack.discard", &entry.to_string()).await?;
    engine.owed.discard(Sequence::from_u64(entry)).await.map_err(|error| match error {
        StoreError::NotFound => Problem::not_found("no ACK is owed under this entry; GET /api/owed-acks lists them"),
        error => error.into(),
    })?;
    info!(entry, "an owed application ACK was given up by a person");
    Ok(StatusCode::NO_CONTENT)
}
