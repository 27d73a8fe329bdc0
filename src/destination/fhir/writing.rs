//! One lane's writing: how a translated transaction becomes the requests its server takes.
//!
//! What must never happen: what the server took sent again while this lane remembers it; an observation of a patient that
//! was not found; a message reported as not taken of which a part was. What a lane remembers of the message outstanding
//! ends with the engine, and then idempotency, or a search before the repeat, takes its place.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde_json::Value;

use super::{
    super::{Outgoing, Refusals, Verdict},
    answer::Answer,
    entries::{Entries, Item, Write},
    http::{Call, Http},
    search::{Searches, literal},
    settings::{BundleMode, Idempotency, PatientMode, RepeatSearch, WriteSettings},
};
use crate::destination::Meter;

/// Set where the message may have been sent before.
const POSSIBLE_REPEAT: HeaderName = HeaderName::from_static("x-cannula-possible-repeat");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");
/// Refused entries told in a reason.
const TOLD_MAX: usize = 3;

/// A server and how it is written to; lanes share it.
pub(super) struct Server {
    pub(super) http: Http,
    pub(super) settings: Arc<WriteSettings>,
    pub(super) searches: Searches,
    pub(super) meter: Meter,
}

/// One lane's.
pub(super) struct Writer {
    server: Arc<Server>,
    refusals: Refusals,
    progress: Progress,
}

/// What became of the entries of the message outstanding.
#[derive(Default)]
struct Progress {
    id: u64,
    /// By fullUrl, or by place where there is none: the literal reference, as far as it is known.
    taken: BTreeMap<String, Option<String>>,
    refused: Vec<String>,
}

/// A correction, a withdrawal or a later phase of something whose first form is not found.
const UNFOUND: &str = "the observation that this replaces is not found at the server, which keeps no identifiers: mend it in the record by hand";

impl Writer {
    pub(super) fn new(server: Arc<Server>) -> Writer {
        Writer { server, refusals: Refusals::default(), progress: Progress::default() }
    }

    pub(super) async fn write(&mut self, outgoing: &Outgoing) -> Verdict {
        if self.server.settings.takes_it_as_it_is() {
            return self.transaction(outgoing, outgoing.body.clone()).await;
        }
        let Some(entries) = Entries::read(&outgoing.body) else {
            return Verdict::rejected("the Bundle cannot be taken apart: report this as a fault of the engine");
        };
        if self.progress.id != outgoing.id {
            self.progress = Progress { id: outgoing.id, ..Progress::default() };
        }
        // Each attempt asks anew for all that was not taken.
        self.progress.refused.clear();
        let mut believed = Vec::new();
        let verdict = self.attempt(outgoing, entries.clone(), &mut believed).await;
        if believed.is_empty() || !matches!(verdict, Verdict::Rejected { .. }) {
            return verdict;
        }
        // What was remembered may be merged or gone: once more with what the server says now.
        believed.iter().for_each(|reference| self.server.searches.forget(reference));
        self.progress.refused.clear();
        self.attempt(outgoing, entries, &mut Vec::new()).await
    }

    async fn attempt(&mut self, outgoing: &Outgoing, mut entries: Entries, believed: &mut Vec<String>) -> Verdict {
        let prepared = self.prepare(outgoing, &mut entries, believed).await;
        let verdict = match (prepared, self.server.settings.bundle) {
            (Err(verdict), _) => verdict,
            (Ok(()), BundleMode::Transaction) if entries.items.is_empty() => {
                Verdict::Accepted { answer: "all of it was there".to_owned() }
            }
            (Ok(()), BundleMode::Transaction) => self.transaction(outgoing, entries.bundle("transaction")).await,
            (Ok(()), BundleMode::Batch | BundleMode::Single) => self.each(outgoing, entries).await,
        };
        match verdict {
            Verdict::Unavailable { reason, .. } if !self.progress.taken.is_empty() => {
                Verdict::ambiguous(format!("{reason}; {} of its resources were taken", self.progress.taken.len()))
            }
            verdict => verdict,
        }
    }

    /// Everything that must be known before something is written.
    async fn prepare(
        &mut self,
        outgoing: &Outgoing,
        entries: &mut Entries,
        believed: &mut Vec<String>,
    ) -> Result<(), Verdict> {
        let settings = &self.server.settings;
        if settings.patient == PatientMode::Lookup {
            for reference in entries.patients() {
                let patient = self.patient(&reference, believed).await?;
                entries.refer(&reference, &patient);
            }
        }
        if settings.idempotency == Idempotency::PutId {
            entries.put_by_id();
        }
        if settings.patient == PatientMode::ConditionalCreate {
            entries.create_patients();
        }
        self.leave_out_taken(entries);
        if settings.idempotency == Idempotency::None {
            self.search_first(outgoing, entries, believed).await?;
        }
        Ok(())
    }

    fn leave_out_taken(&self, entries: &mut Entries) {
        for (name, literal) in &self.progress.taken {
            entries.items.retain(|item| name_of(item) != *name);
            if let Some(literal) = literal {
                entries.refer(name, literal);
            }
        }
    }

    /// The one patient a conditional reference means.
    async fn patient(&self, reference: &str, believed: &mut Vec<String>) -> Result<String, Verdict> {
        let Server { http, searches, meter, .. } = &*self.server;
        if let Some(known) = searches.remembered(reference) {
            meter.looked_up("remembered");
            believed.push(reference.to_owned());
            return Ok(known);
        }
        let query = reference.trim_start_matches("Patient?");
        let found = searches.matches(http, "Patient", query).await.inspect_err(|_| meter.looked_up("failed"))?;
        match found.as_slice() {
            [patient] => {
                meter.looked_up("found");
                searches.remember(reference, &literal(patient));
                Ok(literal(patient))
            }
            [] => {
                meter.looked_up("none");
                Err(Verdict::rejected(
                    "no patient at the server has the identifier in PID-3: register the patient there, then send this again",
                ))
            }
            several => {
                meter.looked_up("several");
                let count = several.len();
                Err(Verdict::rejected(format!(
                    "{count} patients at the server have the identifier in PID-3: merge them there, then send this again"
                )))
            }
        }
    }

    /// For a server that has no conditional requests: what it has already is left out or replaced by id. Observations are
    /// searched for only where they may have been sent; what many messages share, such as a device, each time.
    async fn search_first(
        &self,
        outgoing: &Outgoing,
        entries: &mut Entries,
        believed: &mut Vec<String>,
    ) -> Result<(), Verdict> {
        for at in (0..entries.items.len()).rev() {
            let item = &entries.items[at];
            let is_replaced = matches!(item.write, Write::Replace(_));
            let is_own = matches!(item.kind.as_str(), "Observation" | "Provenance" | "DiagnosticReport");
            if is_own && !is_replaced && !outgoing.possible_repeat {
                entries.items[at].write = Write::Create(None);
                continue;
            }
            let found = self.find(item, believed).await?;
            match found {
                Some(literal) if is_replaced => {
                    let id = literal.split('/').next_back().unwrap_or_default().to_owned();
                    entries.items[at].write = Write::Put(id);
                }
                Some(literal) => {
                    let item = entries.items.remove(at);
                    entries.refer(&item.full_url, &literal);
                }
                None if is_replaced && self.is_known_by_content(item) => return Err(Verdict::rejected(UNFOUND)),
                None => entries.items[at].write = Write::Create(None),
            }
        }
        Ok(())
    }

    /// The server keeps no identifier of ours, so what an observation was before is told by what it says.
    fn is_known_by_content(&self, item: &Item) -> bool {
        self.server.settings.repeat_search == RepeatSearch::Content && item.kind == "Observation"
    }

    /// Where the server has this already.
    async fn find(&self, item: &Item, believed: &mut Vec<String>) -> Result<Option<String>, Verdict> {
        let Server { http, searches, .. } = &*self.server;
        let content = self.is_known_by_content(item).then(|| content_query(&item.resource)).flatten();
        let Some(query) = content.as_deref().or(item.query()) else { return Ok(None) };
        let reference = format!("{}?{query}", item.kind);
        if item.kind == "Device"
            && let Some(known) = searches.remembered(&reference)
        {
            believed.push(reference);
            return Ok(Some(known));
        }
        let mut found = searches.matches(http, &item.kind, query).await?;
        if content.is_some() {
            found.retain(|other| says_the_same(other, &item.resource));
        }
        if found.len() > 1 && item.kind != "Observation" {
            let reason =
                format!("several resources match {}: merge them at the server, then send this again", item.named());
            return Err(Verdict::rejected(reason));
        }
        let found = found.first().map(literal);
        if let (Some(literal), "Device") = (&found, item.kind.as_str()) {
            searches.remember(&reference, literal);
        }
        Ok(found)
    }

    async fn transaction(&mut self, outgoing: &Outgoing, body: Bytes) -> Verdict {
        let call = Call { method: Method::POST, path: String::new(), headers: headers(outgoing), body };
        match self.server.http.exchange(&call).await {
            Ok(answer) => answer.verdict(outgoing.id, &mut self.refusals),
            Err(verdict) => verdict,
        }
    }

    /// Step by step: first what refers to nothing else of the message, then what refers to that, and so on.
    async fn each(&mut self, outgoing: &Outgoing, mut entries: Entries) -> Verdict {
        let total = entries.items.len() + self.progress.taken.len();
        while !entries.items.is_empty() {
            let waits_for = |item: &Item| {
                entries.items.iter().any(|other| !other.full_url.is_empty() && item.refers_to(&other.full_url))
            };
            let ready: Vec<usize> =
                entries.items.iter().filter(|item| !waits_for(item)).map(|item| item.place).collect();
            if ready.is_empty() {
                return Verdict::rejected(
                    "its resources refer to each other in a circle: set bundle = \"transaction\"",
                );
            }
            if let Err(later) = self.step(outgoing, &mut entries, &ready).await {
                return later;
            }
        }
        if self.progress.refused.is_empty() {
            return Verdict::Accepted { answer: format!("{total} resources") };
        }
        let told = self.progress.refused.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
        let refused = self.progress.refused.len();
        Verdict::rejected(format!("{told} ({refused} of {total} resources refused, the others taken)"))
    }

    /// Writes what is ready. The error is why the rest must wait.
    async fn step(&mut self, outgoing: &Outgoing, entries: &mut Entries, ready: &[usize]) -> Result<(), Verdict> {
        let now = entries.of(ready);
        let mut later = None;
        if self.server.settings.bundle == BundleMode::Batch {
            let body = now.bundle("batch");
            let call = Call { method: Method::POST, path: String::new(), headers: headers(outgoing), body };
            let answer = self.server.http.exchange(&call).await?;
            let answers = answer.entries(now.items.len(), outgoing.id, &mut self.refusals)?;
            for (item, answer) in now.items.iter().zip(&answers) {
                if let Err(verdict) = self.outcome(outgoing, item, answer, entries).await
                    // What may have been taken outweighs what certainly was not.
                    && !matches!(later, Some(Verdict::Ambiguous { .. }))
                {
                    later = Some(verdict);
                }
            }
        } else {
            for item in &now.items {
                let answer = self.server.http.exchange(&single(outgoing, item)).await?;
                self.outcome(outgoing, item, &answer, entries).await?;
            }
        }
        later.map_or(Ok(()), Err)
    }

    /// What became of one resource: taken out of `entries` where that is settled.
    async fn outcome(
        &mut self,
        outgoing: &Outgoing,
        item: &Item,
        answer: &Answer,
        entries: &mut Entries,
    ) -> Result<(), Verdict> {
        match answer.verdict_of_one(outgoing.id, &mut self.refusals) {
            Verdict::Accepted { .. } => {
                let mut place = None;
                if entries.is_referred_to(&item.full_url) {
                    let literal = self.placed(item, answer).await?;
                    entries.refer(&item.full_url, &literal);
                    place = Some(literal);
                }
                self.progress.taken.insert(name_of(item), place);
                entries.items.retain(|other| other.place != item.place);
                Ok(())
            }
            Verdict::Rejected { reason } => {
                self.refuse(item, reason, entries);
                Ok(())
            }
            Verdict::Unavailable { reason, retry_after } => {
                Err(Verdict::Unavailable { reason: format!("{}: {reason}", item.named()), retry_after })
            }
            Verdict::Ambiguous { reason } => Err(Verdict::ambiguous(format!("{}: {reason}", item.named()))),
        }
    }

    /// Its literal reference, which others need.
    async fn placed(&self, item: &Item, answer: &Answer) -> Result<String, Verdict> {
        if let Some(literal) = item.literal().or_else(|| answer.placed(&item.kind)) {
            return Ok(literal);
        }
        let found = match item.query() {
            Some(query) => self.server.searches.matches(&self.server.http, &item.kind, query).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let unknown = || format!("{} was taken, and the server does not say where: it needs a Location", item.named());
        found.first().map(literal).ok_or_else(|| Verdict::ambiguous(unknown()))
    }

    /// What refers to it cannot be written either.
    fn refuse(&mut self, item: &Item, reason: String, entries: &mut Entries) {
        self.progress.refused.push(format!("{}: {reason}", item.named()));
        entries.items.retain(|other| other.place != item.place);
        let dependents: Vec<Item> = entries
            .items
            .iter()
            .filter(|other| !item.full_url.is_empty() && other.refers_to(&item.full_url))
            .cloned()
            .collect();
        for dependent in dependents {
            if entries.items.iter().any(|other| other.place == dependent.place) {
                self.refuse(&dependent, format!("refers to {}, which was refused", item.named()), entries);
            }
        }
    }
}

impl WriteSettings {
    /// The translated transaction is what the server takes.
    fn takes_it_as_it_is(&self) -> bool {
        self.idempotency == Idempotency::IfNoneExist
            && self.bundle == BundleMode::Transaction
            && self.patient == PatientMode::Reference
    }
}

fn headers(outgoing: &Outgoing) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![(REQUEST_ID, HeaderValue::from(outgoing.id))];
    if outgoing.possible_repeat {
        headers.push((POSSIBLE_REPEAT, HeaderValue::from_static("true")));
    }
    headers
}

/// The request that writes one resource.
fn single(outgoing: &Outgoing, item: &Item) -> Call {
    let mut headers = headers(outgoing);
    let (method, path) = match &item.write {
        Write::Create(query) => {
            // A query is percent-encoded, so that a header can carry it.
            let query = query.as_deref().and_then(|query| HeaderValue::from_str(query).ok());
            headers.extend(query.map(|query| (IF_NONE_EXIST, query)));
            (Method::POST, item.kind.clone())
        }
        Write::Replace(query) => (Method::PUT, format!("{}?{query}", item.kind)),
        Write::Put(id) => (Method::PUT, format!("{}/{id}", item.kind)),
    };
    Call { method, path, headers, body: item.body().to_string().into() }
}

fn name_of(item: &Item) -> String {
    if item.full_url.is_empty() { item.place.to_string() } else { item.full_url.clone() }
}

/// Whether two observations have the same value: numbers by their amount, since servers drop zeros at the end, all else by
/// its JSON. Where neither has a value, by what is there in its place.
pub(super) fn says_the_same(one: &Value, other: &Value) -> bool {
    let amount = |observation: &Value| match &observation["valueQuantity"]["value"] {
        Value::Number(number) => Some(amount(&number.to_string())),
        _ => None,
    };
    let rest = |observation: &Value| {
        let said = |name: &str| name.starts_with("value") || matches!(name, "component" | "dataAbsentReason");
        let fields = observation.as_object().into_iter().flatten();
        let kept = fields.filter(|(name, _)| said(name.as_str()) && *name != "valueQuantity");
        kept.map(|(name, value)| (name.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    };
    amount(one) == amount(other) && rest(one) == rest(other)
}

/// A decimal without zeros at its end.
fn amount(digits: &str) -> String {
    match digits.contains(['e', 'E']) || !digits.contains('.') {
        true => digits.to_owned(),
        false => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// `patient`, `code` and `date` of an observation, where it has all of them and its patient is known by id.
fn content_query(observation: &Value) -> Option<String> {
    let patient = observation["subject"]["reference"].as_str().filter(|it| it.starts_with("Patient/"))?;
    let coding = &observation["code"]["coding"][0];
    let code = crate::fhir::token_query("code", coding["system"].as_str()?, coding["code"].as_str()?);
    let date = observation["effectiveDateTime"].as_str().or(observation["effectivePeriod"]["start"].as_str())?;
    let date = date.replace('+', "%2B");
    Some(format!("patient={patient}&{code}&date=eq{date}"))
}
