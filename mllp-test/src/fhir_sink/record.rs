//! A small FHIR R4 server that keeps what it is given, so that a test can read the record back: transactions, batches,
//! single writes, conditional ones, searches. It takes no resource that refers to nothing, and can lack what real servers
//! lack.

use super::connection::{Killable, Switch};
use super::login::{Desk, LoginConfig, decoded};
use super::{fhir, outcome};
use crate::peer::{Peer, Service, stopped};
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Form, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, serve};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::future::IntoFuture;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a record lacks; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct RecordConfig {
    /// It does not look at `ifNoneExist`.
    pub ignores_conditions: bool,
    /// It takes no `POST [type]/_search`.
    pub refuses_post_search: bool,
    /// It does not tell where it put what it took.
    pub hides_locations: bool,
    /// It does not look at what is searched for: everything of the type is a match.
    pub ignores_search: bool,
    /// It keeps no identifiers.
    pub drops_identifiers: bool,
}

/// What goes wrong with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// Refused whole, with this status.
    Status(u16),
    /// Refused with 429 and this Retry-After.
    Wait(u64),
    /// Taken, and the connection closed without an answer.
    DropAfterCommit,
    /// In a batch: this entry is refused with this status.
    Entry(usize, u16),
    /// The same, without an OperationOutcome.
    BareEntry(usize, u16),
}

/// A running record. It ends when dropped; what it was given outlives its outages.
#[derive(Debug)]
pub struct Record(Peer<RecordService>);

#[derive(Debug)]
struct RecordService(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    desk: Option<Desk>,
}

#[derive(Debug, Default)]
struct Kept {
    config: RecordConfig,
    /// By `Type/id`.
    resources: BTreeMap<String, Value>,
    last_id: u64,
    /// `POST Observation` for each request, in order, without bodies.
    requests: Vec<String>,
    writes: u64,
    faults: HashMap<u64, RecordFault>,
}

/// Status and place of what was written.
type Written = Result<(u16, String), (u16, &'static str)>;

impl Record {
    /// Listens on loopback.
    pub async fn start(config: RecordConfig) -> std::io::Result<Record> {
        Record::listen("127.0.0.1:0", config, None, &[]).await
    }

    /// Listens on `address`, but for the outages since the start; who wants something must log in, where that is given.
    pub async fn listen(
        address: &str,
        config: RecordConfig,
        login: Option<LoginConfig>,
        outages: &[Range<Duration>],
    ) -> std::io::Result<Record> {
        let kept = Mutex::new(Kept { config, ..Kept::default() });
        let service = RecordService(Arc::new(Shared { kept, desk: login.map(Desk::new) }));
        Peer::start(address, service, outages).await.map(Record)
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}/fhir", self.0.address())
    }

    /// Stops listening and closes every connection.
    pub async fn down(&self) {
        self.0.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> std::io::Result<()> {
        self.0.up().await
    }

    /// What was wrong with the logins that were refused for what they were.
    pub fn login_faults(&self) -> Vec<String> {
        self.0.service().0.desk.as_ref().map(Desk::faults).unwrap_or_default()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        crate::lock(&self.0.service().0.kept)
    }

    /// Puts a resource there; its literal reference.
    pub fn put(&self, resource: Value) -> String {
        let mut kept = self.kept();
        let kind = resource["resourceType"].as_str().unwrap_or_default().to_owned();
        kept.create(&kind, resource)
    }

    /// Takes a resource away.
    pub fn remove(&self, reference: &str) {
        self.kept().resources.remove(reference);
    }

    /// Everything of one type.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        self.kept().of(kind).map(|(_, resource)| resource.clone()).collect()
    }

    /// How many there are of each type.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for reference in self.kept().resources.keys() {
            *counts.entry(reference.split('/').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Requests so far: method and path, with the query.
    pub fn requests(&self) -> Vec<String> {
        self.kept().requests.clone()
    }

    /// What goes wrong with the `nth` write from the start, from 1.
    pub fn fault(&self, nth: u64, fault: RecordFault) {
        self.kept().faults.insert(nth, fault);
    }
}

impl Service for RecordService {
    async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let app = Router::new().route("/token", post(token)).fallback(answer).with_state(self.0.clone());
        let service = app.into_make_service_with_connect_info::<Switch>();
        let mut stopping = stop.clone();
        let server = serve(Killable(listener), service)
            .with_graceful_shutdown(async move { stopped(&mut stopping).await })
            .into_future();
        // It fails only where accepting does, which is tried again by itself.
        let _ = server.await;
    }
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    match &shared.desk {
        Some(desk) => desk.log_in(&headers, &form),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut kept = crate::lock(&shared.kept);
    let path = uri.path().trim_start_matches("/fhir").trim_start_matches('/').to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    let mark = if query.is_empty() { "" } else { "?" };
    kept.requests.push(format!("{method} {path}{mark}{query}"));
    if path == "metadata" {
        return fhir(StatusCode::OK, &kept.statement());
    }
    if let Some(desk) = &shared.desk {
        if path == ".well-known/smart-configuration" {
            return axum::Json(desk.configuration(&headers)).into_response();
        }
        if !desk.admits(&headers) {
            return outcome(StatusCode::UNAUTHORIZED, "login", "Bundle", "no token that is good");
        }
    }
    if let Some(kind) = path.strip_suffix("/_search") {
        if kept.config.refuses_post_search {
            return refused(405, "not-supported");
        }
        return kept.searched(kind, &String::from_utf8_lossy(&body));
    }
    if method == Method::GET && path.contains('/') {
        return kept
            .resources
            .get(&path)
            .map_or_else(|| refused(404, "not-found"), |found| fhir(StatusCode::OK, found));
    }
    if method == Method::GET {
        return kept.searched(&path, &query);
    }
    kept.writes += 1;
    let nth = kept.writes;
    let fault = kept.faults.get(&nth).copied();
    match fault {
        Some(RecordFault::Status(status)) => return refused(status, "processing"),
        Some(RecordFault::Wait(seconds)) => {
            let mut response = refused(429, "throttled");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return response;
        }
        _ => {}
    }
    let Ok(resource) = serde_json::from_slice::<Value>(&body) else { return refused(400, "structure") };
    let response = if path.is_empty() {
        kept.bundle(&resource, fault)
    } else {
        let condition = headers.get("if-none-exist").and_then(|value| value.to_str().ok());
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        kept.single(&method, &target, condition, resource)
    };
    if fault == Some(RecordFault::DropAfterCommit) { switch.kill() } else { response }
}

fn refused(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    outcome(status, code, "Bundle.entry[0].resource", "the record refuses it")
}

impl Kept {
    fn of<'k>(&'k self, kind: &'k str) -> impl Iterator<Item = (&'k String, &'k Value)> {
        self.resources.iter().filter(move |(_, resource)| resource["resourceType"] == kind)
    }

    fn create(&mut self, kind: &str, mut resource: Value) -> String {
        self.last_id += 1;
        let id = format!("{}", 1000 + self.last_id);
        resource["id"] = json!(id);
        if self.config.drops_identifiers && kind != "Patient" {
            resource.as_object_mut().map(|members| members.remove("identifier"));
        }
        let reference = format!("{kind}/{id}");
        self.resources.insert(reference.clone(), resource);
        reference
    }

    /// The references of what a percent-encoded query finds.
    fn find(&self, kind: &str, query: &str) -> Vec<String> {
        let parameters: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), decoded(value)))
            .collect();
        let fits = |resource: &Value| parameters.iter().all(|(name, value)| fits(resource, name, value));
        self.of(kind).filter(|(_, resource)| fits(resource)).map(|(reference, _)| reference.clone()).collect()
    }

    /// As by `Prefer: handling=strict`: what it cannot search by is refused, rather than everything or nothing found.
    fn searched(&self, kind: &str, query: &str) -> Response {
        let mut names = query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty());
        match names.find(|name| !SEARCHED.contains(name)) {
            Some(_) => outcome(
                StatusCode::BAD_REQUEST,
                "not-supported",
                kind,
                "the record does not search by such a parameter",
            ),
            None => fhir(StatusCode::OK, &self.search(kind, query)),
        }
    }

    fn search(&self, kind: &str, query: &str) -> Value {
        let found = match self.config.ignores_search {
            true => self.of(kind).map(|(reference, _)| reference.clone()).collect(),
            false => self.find(kind, query),
        };
        let found = found.into_iter();
        let entries: Vec<Value> =
            found.map(|it| json!({ "resource": self.resources[&it], "search": { "mode": "match" } })).collect();
        json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len(), "entry": entries })
    }

    fn single(&mut self, method: &Method, target: &str, condition: Option<&str>, resource: Value) -> Response {
        let written = self.write(method.as_str(), target, condition, resource);
        match written {
            Err((status, code)) => refused(status, code),
            Ok((status, place)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                let mut response = Response::new(axum::body::Body::empty());
                *response.status_mut() = status;
                if !self.config.hides_locations
                    && let Ok(place) = HeaderValue::from_str(&format!("http://record/fhir/{place}/_history/1"))
                {
                    response.headers_mut().insert(header::LOCATION, place);
                }
                response
            }
        }
    }

    /// One write, as an entry of a batch or alone.
    fn write(&mut self, method: &str, target: &str, condition: Option<&str>, resource: Value) -> Written {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let (kind, id) = path.split_once('/').map_or((path, None), |(kind, id)| (kind, Some(id)));
        if resource["resourceType"] != *kind {
            return Err((400, "invalid"));
        }
        if !self.refers_to_what_is_there(&resource) {
            return Err((422, "not-found"));
        }
        match (method, query, id) {
            ("POST", None, None) => match condition.filter(|_| !self.config.ignores_conditions) {
                None => Ok((201, self.create(kind, resource))),
                Some(query) => match self.find(kind, query).as_slice() {
                    [] => Ok((201, self.create(kind, resource))),
                    [one] => Ok((200, one.clone())),
                    _ => Err((412, "multiple-matches")),
                },
            },
            ("PUT", Some(query), None) if !self.config.ignores_conditions => match self.find(kind, query).as_slice() {
                [] => Ok((201, self.create(kind, resource))),
                [one] => Ok((200, self.replace(one.clone(), resource))),
                _ => Err((412, "multiple-matches")),
            },
            ("PUT", None, Some(id)) if resource["id"] == *id => {
                let reference = format!("{kind}/{id}");
                let status = if self.resources.contains_key(&reference) { 200 } else { 201 };
                Ok((status, self.replace(reference, resource)))
            }
            _ => Err((400, "not-supported")),
        }
    }

    fn replace(&mut self, reference: String, mut resource: Value) -> String {
        resource["id"] = json!(reference.split('/').nth(1));
        self.resources.insert(reference.clone(), resource);
        reference
    }

    fn refers_to_what_is_there(&self, resource: &Value) -> bool {
        let mut there = true;
        super::bundle::each_reference(resource, &mut |reference| there &= self.resources.contains_key(reference));
        there
    }

    fn bundle(&mut self, bundle: &Value, fault: Option<RecordFault>) -> Response {
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let written = match bundle["type"].as_str() {
            Some("batch") => self.batch(&entries, fault),
            Some("transaction") => match self.transaction(entries) {
                Ok(written) => written.into_iter().map(Ok).collect(),
                Err((status, code)) => return refused(status, code),
            },
            _ => return refused(400, "invalid"),
        };
        let response = |written: &Written| match written {
            Ok((status, _)) if self.config.hides_locations => json!({ "status": status.to_string() }),
            Ok((status, place)) => {
                json!({ "status": format!("{status} OK"), "location": format!("{place}/_history/1") })
            }
            Err((status, "")) => json!({ "status": format!("{status} No") }),
            Err((status, code)) => json!({ "status": format!("{status} No"), "outcome": {
                "resourceType": "OperationOutcome", "issue": [{ "severity": "error", "code": code }] } }),
        };
        let entries: Vec<Value> = written.iter().map(|written| json!({ "response": response(written) })).collect();
        let kind = format!("{}-response", bundle["type"].as_str().unwrap_or_default());
        fhir(StatusCode::OK, &json!({ "resourceType": "Bundle", "type": kind, "entry": entries }))
    }

    fn batch(&mut self, entries: &[Value], fault: Option<RecordFault>) -> Vec<Written> {
        let mut written = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            written.push(match fault {
                Some(RecordFault::Entry(n, status)) if n == at => Err((status, "business-rule")),
                Some(RecordFault::BareEntry(n, status)) if n == at => Err((status, "")),
                _ => self.entry(entry, entry["resource"].clone()),
            });
        }
        written
    }

    fn entry(&mut self, entry: &Value, resource: Value) -> Written {
        let request = &entry["request"];
        let text = |name: &str| request[name].as_str();
        self.write(text("method").unwrap_or_default(), text("url").unwrap_or_default(), text("ifNoneExist"), resource)
    }

    /// All or nothing: references between entries and conditional ones are resolved first, in the order of the entries.
    fn transaction(&mut self, entries: Vec<Value>) -> Result<Vec<(u16, String)>, (u16, &'static str)> {
        let before = (self.resources.clone(), self.last_id);
        let written = self.try_transaction(entries);
        if written.is_err() {
            (self.resources, self.last_id) = before;
        }
        written
    }

    fn try_transaction(&mut self, entries: Vec<Value>) -> Result<Vec<(u16, String)>, (u16, &'static str)> {
        let mut places: HashMap<String, String> = HashMap::new();
        let mut written: Vec<Option<(u16, String)>> = vec![None; entries.len()];
        // What refers to another entry comes after it.
        while written.iter().any(Option::is_none) {
            let before = places.len();
            let open = written.iter().filter(|it| it.is_none()).count();
            for (at, entry) in entries.iter().enumerate().filter(|(at, _)| written[*at].is_none()).collect::<Vec<_>>() {
                let mut resource = entry["resource"].clone();
                if !self.resolve(&mut resource, &places)? {
                    continue;
                }
                let (status, place) = self.entry(entry, resource)?;
                if let Some(full_url) = entry["fullUrl"].as_str() {
                    places.insert(full_url.to_owned(), place.clone());
                }
                written[at] = Some((status, place));
            }
            let is_stuck = written.iter().filter(|it| it.is_none()).count() == open;
            if is_stuck && places.len() == before {
                return Err((400, "invalid"));
            }
        }
        Ok(written.into_iter().flatten().collect())
    }

    /// False where it refers to an entry that is not written yet.
    fn resolve(&self, resource: &mut Value, places: &HashMap<String, String>) -> Result<bool, (u16, &'static str)> {
        let mut found = Vec::new();
        super::bundle::each_reference(resource, &mut |reference| found.push(reference.to_owned()));
        for reference in found {
            let place = if reference.starts_with("urn:uuid:") {
                match places.get(&reference) {
                    Some(place) => place.clone(),
                    None => return Ok(false),
                }
            } else if let Some((kind, query)) = reference.split_once('?') {
                match self.find(kind, query).as_slice() {
                    [one] => one.clone(),
                    [] => return Err((412, "not-found")),
                    _ => return Err((412, "multiple-matches")),
                }
            } else {
                continue;
            };
            refer(resource, &reference, &place);
        }
        Ok(true)
    }

    fn statement(&self) -> Value {
        let resource = |kind: &str| {
            json!({ "type": kind, "conditionalCreate": !self.config.ignores_conditions, "updateCreate": true,
                "interaction": [{ "code": "create" }, { "code": "read" }, { "code": "update" }, { "code": "search-type" }] })
        };
        let resources = KINDS.map(resource);
        json!({ "resourceType": "CapabilityStatement", "status": "active", "kind": "instance", "fhirVersion": "4.0.1",
            "rest": [{ "mode": "server", "interaction": [{ "code": "transaction" }, { "code": "batch" }],
                "resource": resources }] })
    }
}

/// What it says it takes; it takes any.
const KINDS: [&str; 7] =
    ["Observation", "Patient", "Device", "DeviceMetric", "MedicationAdministration", "DiagnosticReport", "Provenance"];
/// Parameters that are searched by.
const SEARCHED: [&str; 5] = ["identifier", "_tag", "code", "patient", "date"];

fn fits(resource: &Value, name: &str, value: &str) -> bool {
    let tokens = |list: &Value, code: &str| -> Vec<String> {
        let list = list.as_array().cloned().unwrap_or_default();
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
        list.iter().map(|it| format!("{}|{}", text(it, "system"), text(it, code))).collect()
    };
    match name {
        "identifier" => tokens(&resource["identifier"], "value").iter().any(|it| it == value),
        "_tag" => tokens(&resource["meta"]["tag"], "code").iter().any(|it| it == value),
        "code" => tokens(&resource["code"]["coding"], "code").iter().any(|it| it == value),
        "patient" => resource["subject"]["reference"] == *value,
        "date" => resource["effectiveDateTime"].as_str() == value.strip_prefix("eq"),
        _ => false,
    }
}

fn refer(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value.as_str() {
            Some(text) if name == "reference" && text == from => *value = json!(to),
            _ => refer(value, from, to),
        }),
        Value::Array(values) => values.iter_mut().for_each(|value| refer(value, from, to)),
        _ => {}
    }
}
