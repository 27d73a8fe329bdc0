//! One lane's writing: how a translated transaction becomes the requests its server takes.
//!
//! What must never happen: what the server took sent again while this lane remembers it; an observation of a patient that
//! was not found; a message reported as not taken of which a part was. What a lane remembers of the message outstanding
//! ends with the engine, and then idempotency, or a search before the repeat, takes its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};

use super::{
    super::{Outgoing, Refusals, Taken, Verdict},
    answer::Answer,
    entries::{Entries, Item, Write, is_preliminary},
    http::{Call, Http},
    matching::{content_query, is_another, says_the_same},
    search::{Searches, literal, survivor},
    settings::{BundleMode, Idempotency, PatientMode, RepeatSearch, WriteSettings},
};
use crate::destination::Meter;

/// Once in each entry of a bundle, and in no text, where quotes are escaped.
const ENTRY: &[u8] = b"\"fullUrl\":";
/// Set where the message may have been sent before.
const POSSIBLE_REPEAT: HeaderName = HeaderName::from_static("x-cannula-possible-repeat");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");
/// Refused entries told in a reason.
const TOLD_MAX: usize = 3;
/// Times a resource that was taken is looked for: an index may be late.
const UNPLACED_MAX: u32 = 5;

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
    /// Of each resource that goes by itself.
    refusals_of_parts: BTreeMap<String, Refusals>,
    /// Times a place of it was not found.
    unplaced: u32,
    /// Of the message outstanding, by fullUrl, or by place where there is none: the literal references.
    taken: Taken,
    refused: Vec<String>,
    /// Devices of this attempt that are put, and what they are remembered by.
    put: Vec<(String, String)>,
}

/// A correction, a withdrawal or a later phase of something whose first form is not found.
const UNFOUND: &str = "the observation that this replaces is not found at the server, which keeps no identifiers: mend it in the record by hand";

/// Of what the server took without a word of where.
const UNPLACED: &str = "the server neither says where, by a Location, nor finds it by its identifier, so that what refers to it \
                        cannot be written: ask who runs it for one of the two, or set bundle = \"transaction\" or \
                        device_detail = \"identifier-only\"";

impl Writer {
    pub(super) fn new(server: Arc<Server>) -> Writer {
        let taken = Taken { receiver: server.http.base().to_owned(), id: 0, parts: BTreeMap::new() };
        Writer {
            server,
            refusals: Refusals::default(),
            refusals_of_parts: BTreeMap::new(),
            unplaced: 0,
            taken,
            refused: Vec::new(),
            put: Vec::new(),
        }
    }

    /// What another sender to the same server is to go on from.
    pub(super) fn taken(&self) -> Option<Taken> {
        Some(&self.taken).filter(|taken| !taken.parts.is_empty()).cloned()
    }

    pub(super) fn go_on(&mut self, taken: Taken) {
        if taken.receiver == self.taken.receiver {
            self.taken = taken;
        }
    }

    pub(super) async fn write(&mut self, outgoing: &Outgoing) -> Verdict {
        if self.taken.id != outgoing.id {
            (self.taken.id, self.taken.parts, self.unplaced) = (outgoing.id, BTreeMap::new(), 0);
            self.refusals_of_parts.clear();
        }
        if self.server.settings.takes_it_as_it_is() {
            return self.transaction(outgoing, outgoing.body.clone()).await;
        }
        let Some(entries) = Entries::read(&outgoing.body) else {
            return Verdict::rejected("the Bundle cannot be taken apart: report this as a fault of the engine");
        };
        // Each attempt asks anew for all that was not taken.
        self.refused.clear();
        let mut believed = Vec::new();
        let verdict = self.attempt(outgoing, entries.clone(), &mut believed).await;
        if believed.is_empty() || !matches!(verdict, Verdict::Rejected { .. }) {
            return verdict;
        }
        // What was remembered may be merged or gone: once more with what the server says now.
        believed.iter().for_each(|reference| self.server.searches.forget(reference));
        self.refused.clear();
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
        if let Verdict::Accepted { .. } = verdict {
            self.put.iter().for_each(|(name, literal)| self.server.searches.remember(name, literal));
        }
        match verdict {
            Verdict::Unavailable { reason, .. } if !self.taken.parts.is_empty() => {
                Verdict::ambiguous(format!("{reason}; {} of its resources were taken", self.taken.parts.len()))
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
        let settings = self.server.settings.clone();
        if settings.patient == PatientMode::Lookup {
            for reference in entries.patients() {
                let patient = self.patient(&reference, believed).await?;
                entries.refer(&reference, &patient);
            }
        }
        self.put.clear();
        if settings.idempotency == Idempotency::PutId {
            let created: Vec<usize> =
                entries.items.iter().filter(|item| item.is_created()).map(|it| it.place).collect();
            entries.put_by_id();
            self.leave_out_put(entries, &created, believed);
            self.leave_out_overtaken(entries).await?;
        }
        if settings.patient == PatientMode::ConditionalCreate {
            entries.create_patients();
        }
        let searches_first = settings.idempotency == Idempotency::None;
        let taken = self.leave_out_taken(entries).await?;
        if searches_first {
            self.search_first(outgoing, entries, taken, believed).await?;
        }
        Ok(())
    }

    /// A device that is written once is not put again with each message, while what the server has is believed.
    fn leave_out_put(&mut self, entries: &mut Entries, created: &[usize], believed: &mut Vec<String>) {
        for at in (0..entries.items.len()).rev() {
            let item = &entries.items[at];
            let is_device = matches!(item.kind.as_str(), "Device" | "DeviceMetric") && created.contains(&item.place);
            let Some(literal) = item.literal().filter(|_| is_device) else { continue };
            let name = format!("put {literal}");
            if self.server.searches.remembered(&name).is_some() {
                let item = entries.items.remove(at);
                entries.refer(&item.full_url, &literal);
                believed.push(name);
            } else {
                self.put.push((name, literal));
            }
        }
    }

    /// What comes late must not take the place of what was told since: a preliminary result that of a final one. Neither its
    /// sender nor an order of arrival says that it is late, so each one is looked for.
    async fn leave_out_overtaken(&self, entries: &mut Entries) -> Result<(), Verdict> {
        for at in (0..entries.items.len()).rev() {
            let item = &entries.items[at];
            let Some(literal) = item.literal().filter(|_| item.is_preliminary()) else { continue };
            let call = Call { method: Method::GET, path: literal.clone(), headers: Vec::new(), body: Bytes::new() };
            let answer = match self.server.http.exchange(&call).await {
                // A look changes nothing.
                Err(Verdict::Ambiguous { reason }) => return Err(Verdict::unavailable(reason)),
                answer => answer?,
            };
            let known = match answer.status() {
                404 | 410 => continue,
                _ if answer.is_success() => answer.json().unwrap_or_default(),
                _ => {
                    return Err(Verdict::unavailable(
                        answer.reason("what may be final there cannot be read: ask for the right to"),
                    ));
                }
            };
            let is_it = known["resourceType"] == "Observation" && known["status"].is_string();
            if is_it && !is_preliminary(&known) {
                let item = entries.items.remove(at);
                entries.refer(&item.full_url, &literal);
            }
        }
        Ok(())
    }

    /// Leaves out what was taken, and refers to it by its place, which is looked for where it was not told.
    async fn leave_out_taken(&mut self, entries: &mut Entries) -> Result<Vec<Item>, Verdict> {
        let (taken, rest) = std::mem::take(&mut entries.items)
            .into_iter()
            .partition::<Vec<_>, _>(|item| self.taken.parts.contains_key(&name_of(item)));
        entries.items = rest;
        for item in &taken {
            if entries.is_referred_to(&item.full_url) {
                let known = self.taken.parts[&name_of(item)].clone();
                let literal = self.placed(item, known).await?;
                entries.refer(&item.full_url, &literal);
            }
        }
        Ok(taken)
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
        // One who was merged into another may still be there beside them.
        let found: BTreeSet<String> = found.iter().map(survivor).collect();
        match found.iter().collect::<Vec<_>>().as_slice() {
            [patient] => {
                meter.looked_up("found");
                searches.remember(reference, patient);
                Ok((*patient).clone())
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
    /// searched for only where they may have been sent; what many messages share, such as a device, each time. What was found
    /// is there for one entry: two may say the same.
    async fn search_first(
        &self,
        outgoing: &Outgoing,
        entries: &mut Entries,
        taken: Vec<Item>,
        believed: &mut Vec<String>,
    ) -> Result<(), Verdict> {
        let mut claimed: Vec<String> = self.taken.parts.values().flatten().cloned().collect();
        for item in taken.iter().filter(|item| self.is_known_by_content(item)) {
            if self.taken.parts[&name_of(item)].is_none() {
                claimed.extend(self.find(item, &claimed, believed).await?);
            }
        }
        for at in (0..entries.items.len()).rev() {
            let item = &entries.items[at];
            let is_replaced = matches!(item.write, Write::Replace(_));
            let is_own = matches!(item.kind.as_str(), "Observation" | "Provenance" | "DiagnosticReport");
            if is_own && !is_replaced && !outgoing.possible_repeat {
                entries.items[at].write = Write::Create(None);
                continue;
            }
            let found = self.find(item, &claimed, believed).await?;
            claimed.extend(found.iter().filter(|_| is_own).cloned());
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

    /// Where the server has this already, other than what is claimed.
    async fn find(
        &self,
        item: &Item,
        claimed: &[String],
        believed: &mut Vec<String>,
    ) -> Result<Option<String>, Verdict> {
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
        let mut found = match item.kind.as_str() {
            // One too many does no harm; a server that does not search by tags would hold its lane for ever.
            "Provenance" => searches.answered(http, &item.kind, query).await?.resources,
            kind => searches.matches(http, kind, query).await?,
        };
        if content.is_some() {
            found.retain(|other| says_the_same(other, &item.resource) && !is_another(&item.resource, other));
        }
        if found.len() > 1 && item.kind != "Observation" {
            let reason =
                format!("several resources match {}: merge them at the server, then send this again", item.named());
            return Err(Verdict::rejected(reason));
        }
        let found = found.iter().map(literal).find(|literal| !claimed.contains(literal));
        if let (Some(literal), "Device") = (&found, item.kind.as_str()) {
            searches.remember(&reference, literal);
        }
        Ok(found)
    }

    async fn transaction(&mut self, outgoing: &Outgoing, body: Bytes) -> Verdict {
        let sent = memchr::memmem::find_iter(&body, ENTRY).count();
        let call = Call { method: Method::POST, path: String::new(), headers: headers(outgoing), body };
        match self.server.http.exchange(&call).await {
            Ok(answer) => {
                let verdict = answer.verdict_of_all(sent, outgoing.id, &mut self.refusals);
                if matches!(verdict, Verdict::Accepted { .. }) && !answer.tells_of_entries() {
                    self.server.meter.unanswered();
                }
                verdict
            }
            Err(verdict) => verdict,
        }
    }

    /// Step by step: first what refers to nothing else of the message, then what refers to that, and so on.
    async fn each(&mut self, outgoing: &Outgoing, mut entries: Entries) -> Verdict {
        let total = entries.items.len() + self.taken.parts.len();
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
        if self.refused.is_empty() {
            return Verdict::Accepted { answer: format!("{total} resources") };
        }
        let told = self.refused.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; ");
        let refused = self.refused.len();
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
        let refusals = self.refusals_of_parts.entry(name_of(item)).or_default();
        match answer.verdict_of_one(outgoing.id, refusals) {
            Verdict::Accepted { .. } => {
                let told = item.literal().or_else(|| answer.placed(&item.kind));
                // First of all: whatever becomes of the others, it is not sent again.
                self.taken.parts.insert(name_of(item), told.clone());
                entries.items.retain(|other| other.place != item.place);
                if entries.is_referred_to(&item.full_url) {
                    let literal = self.placed(item, told).await?;
                    entries.refer(&item.full_url, &literal);
                }
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

    /// The literal reference of what was taken, which others need.
    async fn placed(&mut self, item: &Item, told: Option<String>) -> Result<String, Verdict> {
        if let Some(literal) = told {
            return Ok(literal);
        }
        let found = match item.query() {
            Some(query) => self.server.searches.matches(&self.server.http, &item.kind, query).await.unwrap_or_default(),
            None => Vec::new(),
        };
        match found.first().map(literal) {
            Some(literal) => {
                self.taken.parts.insert(name_of(item), Some(literal.clone()));
                Ok(literal)
            }
            None => {
                let reason = format!("{} was taken, and {UNPLACED}", item.named());
                self.unplaced += 1;
                Err(if self.unplaced < UNPLACED_MAX { Verdict::ambiguous(reason) } else { Verdict::rejected(reason) })
            }
        }
    }

    /// What refers to it cannot be written either.
    fn refuse(&mut self, item: &Item, reason: String, entries: &mut Entries) {
        self.refused.push(format!("{}: {reason}", item.named()));
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
