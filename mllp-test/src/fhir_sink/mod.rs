//! A FHIR R4 server for transactions that keeps the books and misbehaves on order. It commits a Bundle whole or not at
//! all, and enters it in the account before its answer is written. It holds hashes of identities, never resources.

mod bundle;
mod connection;
mod garble;
mod login;
mod record;
mod script;
#[cfg(test)]
mod tests;

pub use garble::Garbling;
pub use login::LoginConfig;
pub use record::{Record, RecordConfig, RecordFault};
pub use script::FhirAction;

use crate::account::{SinkAccount, SinkBook};
use crate::peer::{Peer, Service, stopped};
use crate::script::{Followed, Script};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bundle::{Bundle, Known};
use connection::{Killable, Switch};
use login::Desk;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

/// How a FHIR sink behaves. The default takes every sound transaction.
#[derive(Debug, Clone)]
pub struct FhirSinkConfig {
    /// Faults by request.
    pub script: Script<FhirAction>,
    /// Times when it does not listen, since the start.
    pub outages: Vec<Range<Duration>>,
    /// The largest request body taken.
    pub body_bytes_max: usize,
    /// How many identities (`ifNoneExist`, conditional PUT) are remembered; older ones are forgotten.
    pub identities_max: usize,
    /// The ledger file.
    pub ledger: Option<PathBuf>,
    /// Who must log in first, at `/token`; nobody where it is not given.
    pub login: Option<LoginConfig>,
}

impl Default for FhirSinkConfig {
    fn default() -> Self {
        FhirSinkConfig {
            script: Script::default(),
            outages: Vec::new(),
            body_bytes_max: 64 << 20,
            identities_max: 4 << 20,
            ledger: None,
            login: None,
        }
    }
}

/// A running FHIR sink.
#[derive(Debug)]
pub struct FhirSink(Peer<FhirService>);

impl FhirSink {
    /// Listens on `address`, such as `127.0.0.1:0`.
    pub async fn start(address: &str, config: FhirSinkConfig) -> io::Result<FhirSink> {
        let outages = config.outages.clone();
        let book = SinkBook::open(config.ledger.as_deref())?;
        let known = Mutex::new(Known::new(config.identities_max));
        let script = Followed::new(config.script.clone());
        let desk = config.login.clone().map(Desk::new);
        let sink = FhirService { sink: Arc::new(Sink { config, script, book, known, desk }) };
        Peer::start(address, sink, &outages).await.map(FhirSink)
    }

    /// Where it listens, also while it is down.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The base URL to post transactions to.
    pub fn url(&self) -> String {
        format!("http://{}/fhir", self.address())
    }

    /// Stops listening and closes every connection; the account stays.
    pub async fn down(&self) {
        self.0.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        self.0.up().await
    }

    /// The account as it stands.
    pub fn account(&self) -> SinkAccount {
        self.0.service().sink.book.account()
    }

    /// Follows another script from now on; its requests are counted from 1.
    pub fn follow(&self, script: Script<FhirAction>) {
        self.0.service().sink.script.change(script);
    }

    /// Requests treated by a rule so far: the faults this sink made.
    pub fn treated(&self) -> u64 {
        self.0.service().sink.script.treated()
    }

    /// Logins that succeeded so far.
    pub fn logins(&self) -> u64 {
        self.0.service().sink.desk.as_ref().map_or(0, Desk::logins)
    }

    /// What was wrong with the logins that were refused for what they were.
    pub fn login_faults(&self) -> Vec<String> {
        self.0.service().sink.desk.as_ref().map(Desk::faults).unwrap_or_default()
    }

    /// Answers logins with this status and OAuth error from now on, or again as it should.
    pub fn refuse_logins(&self, refusal: Option<(u16, &str)>) {
        if let Some(desk) = &self.0.service().sink.desk {
            desk.refuse(refusal.map(|(status, error)| (status, error.to_owned())));
        }
    }

    /// Knows only these keys, a JWK set, from now on.
    pub fn register_keys(&self, jwks: Value) {
        self.0.service().sink.desk.iter().for_each(|desk| desk.register(jwks.clone()));
    }

    /// Voids every token given.
    pub fn revoke_tokens(&self) {
        self.0.service().sink.desk.iter().for_each(Desk::revoke);
    }

    /// Times a message came that was taken already, without copying the account.
    pub fn repeats(&self) -> u64 {
        self.0.service().sink.book.with(|account| account.repeats)
    }

    /// Different messages taken so far, without copying the account.
    pub fn received(&self) -> u64 {
        self.0.service().sink.book.with(|account| account.received)
    }
}

#[derive(Debug)]
struct FhirService {
    sink: Arc<Sink>,
}

#[derive(Debug)]
struct Sink {
    config: FhirSinkConfig,
    script: Followed<FhirAction>,
    book: SinkBook,
    known: Mutex<Known>,
    desk: Option<Desk>,
}

type Shared = State<(Arc<Sink>, watch::Receiver<bool>)>;

impl Service for FhirService {
    async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        // Any base path will do: the destination's URL is the tester's choice.
        let app = Router::new()
            .route("/metadata", get(metadata))
            .route("/{base}/metadata", get(metadata))
            .route("/{base}/.well-known/smart-configuration", get(smart_configuration))
            .route("/token", post(token))
            .fallback(post(transaction))
            .layer(DefaultBodyLimit::max(self.sink.config.body_bytes_max))
            .with_state((self.sink.clone(), stop.clone()));
        let service = app.into_make_service_with_connect_info::<Switch>();
        let mut stopping = stop.clone();
        let server = axum::serve(Killable(listener), service)
            .with_graceful_shutdown(async move { stopped(&mut stopping).await })
            .into_future();
        // It fails only where accepting does, which axum tries again by itself.
        let _ = server.await;
    }
}

/// Where a redirect points: no client may go there with a message.
const NOWHERE: &str = "http://127.0.0.1:9/elsewhere";

/// The resource types the sink claims to take; it takes any.
const RESOURCE_TYPES: [&str; 7] =
    ["Observation", "Device", "DeviceMetric", "MedicationAdministration", "Provenance", "DetectedIssue", "Flag"];

async fn metadata() -> Response {
    let resource = |type_: &str| {
        json!({
            "type": type_, "conditionalCreate": true, "conditionalUpdate": true, "updateCreate": true,
            "interaction": [{ "code": "create" }, { "code": "update" }],
        })
    };
    let resources = RESOURCE_TYPES.map(resource);
    let statement = json!({
        "resourceType": "CapabilityStatement", "status": "active", "kind": "instance", "fhirVersion": "4.0.1",
        "format": ["json"], "date": "2026-01-01",
        "rest": [{ "mode": "server", "interaction": [{ "code": "transaction" }], "resource": resources }],
    });
    fhir(StatusCode::OK, &statement)
}

async fn smart_configuration(State((sink, _)): Shared, headers: HeaderMap) -> Response {
    match &sink.desk {
        Some(desk) => axum::Json(desk.configuration(&headers)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn token(State((sink, _)): Shared, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    match &sink.desk {
        Some(desk) => desk.log_in(&headers, &form),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn transaction(
    State((sink, mut stop)): Shared,
    ConnectInfo(switch): ConnectInfo<Switch>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if sink.desk.as_ref().is_some_and(|desk| !desk.admits(&headers)) {
        return outcome(StatusCode::UNAUTHORIZED, "login", "Bundle", "no token that is good");
    }
    let bundle = Bundle::read(&body);
    let control_id =
        bundle.as_ref().ok().and_then(|bundle| bundle.ids.first()).map(ToString::to_string).unwrap_or_default();
    let plan = script::Plan::of(&sink.script.next(&control_id));
    if !wait(plan.slow, &mut stop).await {
        return switch.kill();
    }
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(fault) => return sink.refuse_shape(fault),
    };
    match plan.fault {
        Some(FhirAction::Close) => return switch.kill(),
        Some(FhirAction::Refuse(status, retry_after)) => return sink.refuse(&bundle, status, retry_after),
        Some(FhirAction::RefuseEntry) => return sink.refuse_entry(&bundle),
        _ => {}
    }
    let response = sink.commit(&bundle);
    if !wait(plan.late, &mut stop).await || plan.fault == Some(FhirAction::DropAfterCommit) {
        return switch.kill();
    }
    match plan.fault {
        Some(FhirAction::Garble(garbling)) => garble::garbled(garbling, response, &switch),
        _ => fhir(StatusCode::OK, &response),
    }
}

/// False when the sink went down meanwhile.
async fn wait(time: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    time.is_zero() || timeout(time, stopped(stop)).await.is_err()
}

impl Sink {
    fn commit(&self, bundle: &Bundle) -> Value {
        let done = crate::lock(&self.known).commit(bundle);
        let again = bundle.ids.iter().filter(|&&id| !self.book.took(id, bundle.kind, &[])).count();
        self.book.with(|account| {
            if bundle.ids.is_empty() {
                account.unnamed += 1;
            }
            for entry in &done {
                *account.resources.entry(format!("{} {}", entry.resource_type, entry.fate())).or_default() += 1;
            }
            // A whole repeat must find its Observations there already.
            let made_again = done.iter().any(|entry| entry.created && entry.resource_type == "Observation");
            if made_again && again == bundle.ids.len() {
                bundle.ids.iter().for_each(|&id| account.duplicated.add(id));
            }
        });
        let entries: Vec<Value> = done.iter().map(|entry| json!({ "response": entry.response() })).collect();
        json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": entries })
    }

    fn refuse(&self, bundle: &Bundle, status: StatusCode, retry_after: Option<Duration>) -> Response {
        match bundle.ids.as_slice() {
            [] => self.book.refused(None, status.as_str()),
            // Only a lasting refusal may end as a dead letter; after a passing one the order still holds.
            _ if script::is_passing(status) => self.book.with(|account| account.refused += 1),
            ids => ids.iter().for_each(|&id| self.book.refused(Some(id), status.as_str())),
        }
        let mut response = outcome(status, "processing", "Bundle.entry[0]", "refused by the test script");
        if status.is_redirection() {
            response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(NOWHERE));
        }
        if let Some(after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }

    /// A server that says 200 to the whole and 422 to a part of it.
    fn refuse_entry(&self, bundle: &Bundle) -> Response {
        bundle.ids.iter().for_each(|&id| self.book.refused(Some(id), "422"));
        let entry = json!({ "response": { "status": "422 Unprocessable Content" } });
        fhir(StatusCode::OK, &json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": [entry] }))
    }

    fn refuse_shape(&self, fault: bundle::ShapeFault) -> Response {
        self.book.with(|account| {
            account.refused += 1;
            *account.shape_faults.entry(fault.to_string()).or_default() += 1;
        });
        outcome(StatusCode::BAD_REQUEST, "structure", "Bundle", &fault.to_string())
    }
}

fn outcome(status: StatusCode, code: &str, expression: &str, text: &str) -> Response {
    let issue = json!({ "severity": "error", "code": code, "diagnostics": text, "expression": [expression] });
    fhir(status, &json!({ "resourceType": "OperationOutcome", "issue": [issue] }))
}

fn fhir(status: StatusCode, resource: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/fhir+json; charset=utf-8")], resource.to_string()).into_response()
}
