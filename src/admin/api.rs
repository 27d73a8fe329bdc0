//! The JSON API. Lists are paged by `limit` and `cursor`; `next` is the cursor of the following page.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::{AuditEntry, Engine, Problem};
use crate::{
    channel::Channel,
    delivery::DestinationStatus,
    hl7::Message,
    pcd::{
        self,
        conformance::{Mark, Shown},
    },
    store::{self, Backup, DeadLetter, Event, Sequence, State as Became, Stats, StoreError, Summary},
    translate::Context,
};

pub(super) type Shared = State<Arc<Engine>>;
pub(super) type Answer<T> = Result<T, Problem>;

pub(super) const PAGE_DEFAULT: usize = 100;
pub(super) const PAGE_MAX: usize = 1_000;
/// Messages one replay request may put back.
const REPLAY_MAX: usize = 100_000;

#[derive(Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<u64>,
}

impl<T> Page<T> {
    pub(super) fn new(items: Vec<T>, limit: usize, id: impl Fn(&T) -> u64) -> Json<Page<T>> {
        let next = if items.len() == limit { items.last().map(id) } else { None };
        Json(Page { items, next })
    }
}

#[derive(Serialize)]
pub(super) struct ChannelStatus {
    name: Arc<str>,
    description: String,
    listener: Value,
    destinations: Vec<DestinationStatus>,
}

/// Channels in force; those that are gone but still have messages waiting or dead come last, without a listener.
pub(super) async fn channels(State(engine): Shared) -> Json<Page<ChannelStatus>> {
    let channels = engine.channels.load_full();
    let mut items: Vec<ChannelStatus> = channels.iter().map(|channel| status_of(&engine, channel)).collect();
    for destination in engine.delivery.status() {
        match items.iter_mut().find(|known| known.name == destination.channel) {
            Some(known) if known.listener.is_null() => known.destinations.push(destination),
            Some(_) => {}
            None => items.push(ChannelStatus {
                name: destination.channel.clone(),
                description: "no longer configured".into(),
                listener: Value::Null,
                destinations: vec![destination],
            }),
        }
    }
    Json(Page { items, next: None })
}

pub(super) async fn channel(State(engine): Shared, Path(name): Path<String>) -> Answer<Json<ChannelStatus>> {
    let channel = channel_named(&engine, &name)?;
    Ok(Json(status_of(&engine, &channel)))
}

fn status_of(engine: &Engine, channel: &Channel) -> ChannelStatus {
    let address = channel.listener.address;
    let listener = (engine.listeners)().into_iter().find(|listener| listener.address == address);
    let state = if listener.is_some() { "listening" } else { "closed" };
    ChannelStatus {
        name: channel.name.clone(),
        description: channel.description.clone(),
        listener: json!({
            "address": address.to_string(),
            "state": state,
            "connections": listener.map_or(0, |listener| listener.connections),
        }),
        destinations: engine.delivery.status().into_iter().filter(|d| d.channel == channel.name).collect(),
    }
}

fn channel_named(engine: &Engine, name: &str) -> Answer<Arc<Channel>> {
    let channels = engine.channels.load();
    let found = channels.iter().find(|channel| &*channel.name == name);
    found.cloned().ok_or_else(|| Problem::not_found("no channel of that name; GET /api/channels lists them"))
}

/// A name that is neither configured nor has anything in the store is a mistake, and an empty list would hide it.
pub(super) fn known(engine: &Engine, channel: Option<&str>, destination: Option<&str>) -> Answer<()> {
    let (channels, lanes) = (engine.channels.load(), engine.store.lanes());
    let fits = |of: &str, name: &str| {
        channel.is_none_or(|channel| channel == of) && destination.is_none_or(|destination| destination == name)
    };
    let configured = channels.iter().any(|of| of.destinations.iter().any(|to| fits(&of.name, &to.name)));
    let nothing_asked = channel.is_none() && destination.is_none();
    if nothing_asked || configured || lanes.iter().any(|known| fits(&known.lane.channel, &known.lane.destination)) {
        return Ok(());
    }
    Err(Problem::not_found("no such channel or destination; GET /api/channels lists them"))
}

const NOTHING_TO_PARK: &str =
    "nothing to park: no message is held, and none is waiting for another attempt after one that failed";

pub(super) async fn steer(
    State(engine): Shared,
    Path((channel, destination, action)): Path<(String, String, String)>,
) -> Answer<Response> {
    let known = ["pause", "resume", "retry", "park", "park-waiting", "discard-waiting"];
    if !known.contains(&action.as_str()) {
        return Err(Problem::not_found(format!("the actions are {}", known.join(", "))));
    }
    audited(&engine, &format!("destination.{action}"), &format!("{channel}/{destination}")).await?;
    if let Some(what) = action.strip_suffix("-waiting") {
        let given_up = engine.delivery.give_up(&channel, &destination, what == "discard").await;
        let given_up = given_up.map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
        return Ok(Json(json!({ "deliveries": given_up })).into_response());
    }
    let done = match action.as_str() {
        "pause" => engine.delivery.pause(&channel, &destination).await,
        "resume" => engine.delivery.resume(&channel, &destination).await,
        "park" => match engine.delivery.park(&channel, &destination).await {
            Ok(false) => return Err(Problem::new(StatusCode::CONFLICT, NOTHING_TO_PARK)),
            parked => parked.map(drop),
        },
        _ => engine.delivery.retry(&channel, &destination).await,
    };
    done.map(|()| StatusCode::NO_CONTENT.into_response()).map_err(Problem::not_found)
}

pub(super) async fn reload(State(engine): Shared) -> Answer<Json<Value>> {
    audited(&engine, "reload", "").await?;
    match (engine.reload)().await {
        Ok(channels) => Ok(Json(json!({ "channels": channels }))),
        Err(faults) => {
            let detail = "the configuration has faults; the one before stays in force";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_faults(faults))
        }
    }
}

/// Query of `GET /api/messages`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageQuery {
    channel: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    control_id: Option<String>,
    patient: Option<String>,
    device: Option<String>,
    destination: Option<String>,
    state: Option<store::State>,
    /// Each message with the device it is of, for which it is read.
    #[serde(default)]
    devices: bool,
    limit: Option<usize>,
    cursor: Option<u64>,
}

/// A message in a list.
#[derive(Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    summary: Summary,
    /// The device it is of, by its channel's rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

impl MessageQuery {
    fn page(&self) -> usize {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }

    fn query(self, limit: usize) -> store::Query {
        store::Query {
            channel: self.channel,
            from: self.from,
            to: self.to.and_then(before),
            control_id: self.control_id.map(String::into_bytes),
            patient: self.patient.map(String::into_bytes),
            device: self.device.map(String::into_bytes),
            destination: self.destination,
            state: self.state,
            limit,
            cursor: self.cursor.map(Sequence::from_u64),
        }
    }
}

/// `to` is the first moment no longer meant, so that periods that follow each other share no message.
fn before(to: Timestamp) -> Option<Timestamp> {
    to.checked_sub(jiff::Span::new().nanoseconds(1)).ok()
}

pub(super) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;
pub(super) type Named<T> = Result<Path<T>, axum::extract::rejection::PathRejection>;

pub(super) fn named<T>(path: Named<T>) -> Answer<T> {
    path.map(|Path(name)| name).map_err(|error| Problem::bad_request(error.body_text()))
}

pub(super) fn asked<T>(query: Asked<T>) -> Answer<T> {
    query.map(|Query(query)| query).map_err(|error| Problem::bad_request(error.body_text()))
}

pub(super) async fn messages(State(engine): Shared, query: Asked<MessageQuery>) -> Answer<Json<Page<Listed>>> {
    let query = asked(query)?;
    let with_devices = query.devices;
    known(&engine, query.channel.as_deref(), query.destination.as_deref())?;
    let limit = query.page();
    if query.patient.is_some() || query.device.is_some() {
        // Whom was asked for is not written down: the log holds no patients.
        audited(&engine, "messages.search", "by patient or device").await?;
    }
    let mut listed = Vec::new();
    for summary in engine.store.find(query.query(limit)).await? {
        let device = if with_devices { device_of(&engine, &summary).await } else { None };
        listed.push(Listed { summary, device });
    }
    Ok(Page::new(listed, limit, |listed| listed.summary.id.as_u64()))
}

/// None where no device is named, the channel is gone or the message is not kept.
async fn device_of(engine: &Engine, summary: &Summary) -> Option<String> {
    let channels = engine.channels.load_full();
    let channel = channels.iter().find(|channel| channel.name == summary.channel)?;
    let message = channel.read(engine.store.read(summary.id).await.ok()?.message).ok()?;
    channel.device.identification.device_of(&message)
}

#[derive(Serialize)]
pub(super) struct MessageView {
    #[serde(flatten)]
    summary: Summary,
    timeline: Vec<Event>,
    findings: Vec<Shown>,
}

pub(super) async fn message(State(engine): Shared, id: Named<u64>) -> Answer<Json<MessageView>> {
    let id = named(id)?;
    let kept = engine.store.read(Sequence::from_u64(id)).await?;
    let findings = kept.findings.iter().map(Mark::shown).collect();
    Ok(Json(MessageView { summary: kept.summary, timeline: kept.events, findings }))
}

pub(super) async fn raw(State(engine): Shared, id: Named<u64>) -> Answer<Response> {
    let id = named(id)?;
    let kept = engine.store.read(Sequence::from_u64(id)).await?;
    audited(&engine, "message.raw", &id.to_string()).await?;
    Ok(([(CONTENT_TYPE, "x-application/hl7-v2+er7")], kept.message).into_response())
}

pub(super) async fn explain(State(engine): Shared, id: Named<u64>, headers: HeaderMap) -> Answer<Response> {
    let id = named(id)?;
    let kept = engine.store.read(Sequence::from_u64(id)).await?;
    audited(&engine, "message.explain", &id.to_string()).await?;
    let channels = engine.channels.load();
    let channel = channels.iter().find(|channel| channel.name == kept.summary.channel);
    let read = channel.map_or_else(|| Message::parse(kept.message.clone()), |own| own.read(kept.message.clone()));
    let message = read.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let codes = engine.nomenclature.load();
    let context = Context { id, received_at: kept.summary.received_at, origins: true };
    let explanation = match channel {
        Some(channel) => channel.explain(&message, kept.message, &codes, context),
        None => pcd::explain(&message, &codes),
    };
    let as_text = headers.get("accept").is_some_and(|accept| accept == "text/plain");
    Ok(if as_text { explanation.to_string().into_response() } else { Json(explanation).into_response() })
}

pub(super) async fn replay_one(
    State(engine): Shared,
    id: Named<u64>,
    query: Asked<BTreeMap<String, String>>,
) -> Answer<Json<Value>> {
    let (id, destination) = (named(id)?, asked(query)?.remove("destination").map(Arc::from));
    engine.store.read(Sequence::from_u64(id)).await?;
    audited(&engine, "message.replay", &id.to_string()).await?;
    let entries = engine.store.replay(vec![Sequence::from_u64(id)], destination).await?;
    info!(id, entries, "message replayed");
    Ok(Json(json!({ "messages": 1, "entries": entries })))
}

/// Body of `POST /api/replay`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Count only.
    #[serde(default)]
    dry_run: bool,
    channel: String,
    from: Timestamp,
    to: Timestamp,
    destination: Option<String>,
}

pub(super) async fn replay(
    State(engine): Shared,
    request: Result<Json<ReplayRequest>, axum::extract::rejection::JsonRejection>,
) -> Answer<Json<Value>> {
    let Json(request) = request.map_err(|error| Problem::bad_request(error.body_text()))?;
    known(&engine, Some(&request.channel), request.destination.as_deref())?;
    let ids = replayed_ids(&engine, &request).await?;
    if request.dry_run {
        return Ok(Json(json!({ "messages": ids.len(), "entries": 0, "dry_run": true })));
    }
    let scope = format!("{} {} {}", request.channel, request.from, request.to);
    audited(&engine, "replay", &scope).await?;
    let (channel, messages) = (request.channel, ids.len());
    let entries = engine.store.replay(ids, request.destination.map(Arc::from)).await?;
    info!(channel, messages, entries, "messages replayed");
    Ok(Json(json!({ "messages": messages, "entries": entries, "dry_run": false })))
}

/// Ids in the range, oldest first, so that order within a lane is kept.
async fn replayed_ids(engine: &Engine, request: &ReplayRequest) -> Answer<Vec<Sequence>> {
    let mut query = store::Query {
        channel: Some(request.channel.clone()),
        from: Some(request.from),
        to: before(request.to),
        destination: request.destination.clone(),
        limit: PAGE_MAX,
        ..store::Query::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = engine.store.find(query.clone()).await?;
        ids.extend(page.iter().map(|summary| summary.id));
        if ids.len() > REPLAY_MAX {
            let detail = format!("more than {REPLAY_MAX} messages; choose a shorter range and replay in parts");
            return Err(Problem::bad_request(detail));
        }
        query.cursor = ids.last().copied();
        if page.len() < PAGE_MAX {
            ids.reverse();
            return Ok(ids);
        }
    }
}

/// Query of `GET /api/dead`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadQuery {
    channel: Option<String>,
    limit: Option<usize>,
    cursor: Option<u64>,
}

pub(super) async fn dead(State(engine): Shared, query: Asked<DeadQuery>) -> Answer<Json<Page<DeadLetter>>> {
    let query = asked(query)?;
    known(&engine, query.channel.as_deref(), None)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let letters = engine.store.dead(query.channel, query.cursor.map(Sequence::from_u64), limit).await?;
    Ok(Page::new(letters, limit, |letter| letter.entry.as_u64()))
}

/// Answers a retry with what it passes, or is passed by, in its lane.
pub(super) async fn settle_dead(State(engine): Shared, path: Named<(u64, String)>) -> Answer<Response> {
    let (entry, action) = named(path)?;
    if !matches!(action.as_str(), "retry" | "discard") {
        return Err(Problem::not_found("the actions are retry and discard"));
    }
    audited(&engine, &format!("dead.{action}"), &entry.to_string()).await?;
    let sequence = Sequence::from_u64(entry);
    let lane = if action == "retry" { behind(&engine, sequence).await } else { None };
    match action.as_str() {
        "retry" => engine.store.retry_dead(sequence).await,
        _ => engine.store.discard_dead(sequence).await,
    }
    .map_err(|error| match error {
        StoreError::NotFound => Problem::not_found("no dead letter with this entry; GET /api/dead lists them"),
        error => error.into(),
    })?;
    info!(entry, action, "dead letter settled");
    if action == "discard" {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(Retried { entry, lane }).into_response())
}

/// Answer to the retry of a dead letter.
#[derive(Serialize)]
struct Retried {
    entry: u64,
    /// `None` where that could not be told.
    lane: Option<Behind>,
}

/// Messages that were received after a dead letter and go the same way: what is sent again comes after them, out of order.
#[derive(Serialize)]
struct Behind {
    destination: Arc<str>,
    /// Delivered already.
    delivered: usize,
    /// They wait, and go first.
    waiting: usize,
    /// There are more than were counted.
    more: bool,
}

/// What stands behind a dead letter in its lane, among the newest messages of its destination.
async fn behind(engine: &Engine, entry: Sequence) -> Option<Behind> {
    let before = Sequence::from_u64(entry.as_u64().checked_sub(1)?);
    let letter = engine.store.dead(None, Some(before), 1).await.ok()?.pop().filter(|letter| letter.entry == entry)?;
    let (channel, destination) = (letter.channel.to_string(), letter.destination.to_string());
    let query = store::Query {
        channel: Some(channel),
        destination: Some(destination),
        limit: PAGE_MAX,
        ..store::Query::default()
    };
    let newest = engine.store.find(query).await.ok()?;
    let more = newest.len() == PAGE_MAX && newest.last().is_some_and(|oldest| oldest.id > letter.id);
    let later = newest.iter().filter(|message| message.id > letter.id);
    let states: Vec<Became> = later
        .flat_map(|message| &message.deliveries)
        .filter_map(|delivery| {
            let same = delivery.destination == letter.destination && delivery.lane == letter.lane;
            same.then_some(delivery.state)
        })
        .collect();
    let count = |wanted| states.iter().filter(|state| **state == wanted).count();
    let (delivered, waiting) = (count(Became::Delivered), count(Became::Waiting));
    Some(Behind { destination: letter.destination, delivered, waiting, more })
}

pub(super) async fn store(State(engine): Shared) -> Json<Stats> {
    Json(engine.store.stats())
}

/// Body of `POST /api/store/backup`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// On the engine's machine; made where it does not exist.
    directory: PathBuf,
}

/// Answers when the backup is complete. It is completed also where the caller does not wait for that.
pub(super) async fn backup(
    State(engine): Shared,
    request: Result<Json<BackupRequest>, axum::extract::rejection::JsonRejection>,
) -> Answer<Json<Backup>> {
    let Json(request) = request.map_err(|error| Problem::bad_request(error.body_text()))?;
    audited(&engine, "store.backup", &request.directory.display().to_string()).await?;
    Ok(Json((engine.backup)(request.directory).await?))
}

/// Query of `GET /api/audit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    limit: Option<usize>,
    cursor: Option<u64>,
}

pub(super) async fn audit(State(engine): Shared, query: Asked<AuditQuery>) -> Answer<Json<Page<AuditEntry>>> {
    let query = asked(query)?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let log = engine.audit.clone();
    let read = tokio::task::spawn_blocking(move || log.entries(query.cursor.unwrap_or(0), limit));
    let entries = read.await.map_err(internal)?.map_err(internal)?;
    Ok(Page::new(entries, limit, |entry| entry.number))
}

/// Writes the action down before it is done.
pub(super) async fn audited(engine: &Engine, action: &str, object: &str) -> Answer<()> {
    let (log, at) = (engine.audit.clone(), engine.clock.now());
    let (action, object) = (action.to_owned(), object.to_owned());
    let written = tokio::task::spawn_blocking(move || log.record(at, &action, &object));
    written.await.map_err(internal)?.map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
