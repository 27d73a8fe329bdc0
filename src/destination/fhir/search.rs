//! Searches at the server, and what they found, remembered for a while.
//!
//! What must never happen: an identifier in a URL where the server takes it elsewhere; one in a reason; a resource taken for
//! what was searched for that does not have it. A search changes nothing, so whatever goes wrong with it leaves the message
//! waiting.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    super::Verdict,
    http::{Call, FORM, Http},
    matching::{Fit, fit},
    settings::SearchMethod,
};

/// What a search found.
pub(super) struct Matches {
    /// They have what was searched for.
    pub(super) resources: Vec<Value>,
    /// The server answers with resources that have nothing of it.
    strays: bool,
}

/// References remembered; the oldest is forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Searches by one method, shared by lanes.
pub(super) struct Searches {
    method: SearchMethod,
    ttl: Duration,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    references: HashMap<String, (String, Instant)>,
    oldest_first: VecDeque<String>,
}

impl Searches {
    pub(super) fn new(method: SearchMethod, ttl: Duration) -> Searches {
        Searches { method, ttl, found: Mutex::default() }
    }

    /// Resources of `kind` that have what `query` asks for, percent-encoded as in a URL. A server that has none and answers with
    /// others did not search: what it has cannot be told.
    pub(super) async fn matches(&self, http: &Http, kind: &str, query: &str) -> Result<Vec<Value>, Verdict> {
        let Matches { resources, strays } = self.answered(http, kind, query).await?;
        if resources.is_empty() && strays {
            return Err(Verdict::unavailable(format!(
                "searching {kind}: the server answers with others than were searched for, which are not believed: ask who runs it to have {} searched",
                names(query)
            )));
        }
        Ok(resources)
    }

    /// The same, where others may be passed over.
    pub(super) async fn answered(&self, http: &Http, kind: &str, query: &str) -> Result<Matches, Verdict> {
        let call = match self.method {
            SearchMethod::Post => Call {
                method: Method::POST,
                path: format!("{kind}/_search"),
                headers: vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))],
                body: Bytes::from(query.to_owned()),
            },
            SearchMethod::Get => {
                Call { method: Method::GET, path: format!("{kind}?{query}"), headers: Vec::new(), body: Bytes::new() }
            }
        };
        let answer = http.exchange(&call).await.map_err(|verdict| waits(kind, verdict))?;
        if !answer.is_success() {
            let remedy = match (answer.status(), self.method) {
                (404 | 405 | 501, SearchMethod::Post) => "it takes no POST of a search: set search = \"get\"",
                (401 | 403, _) => "the credentials do not allow it: have the scope for it granted",
                _ => "it is not answered: ask who runs the server",
            };
            let reason = format!("searching {kind}: {}", answer.reason(remedy));
            return Err(Verdict::Unavailable { reason, retry_after: answer.asks_to_wait() });
        }
        let bundle = answer.json().filter(|bundle| bundle["type"] == "searchset");
        let bundle = bundle.ok_or_else(|| {
            Verdict::unavailable(format!(
                "searching {kind}: {} without a searchset: check url and max_response",
                answer.status()
            ))
        })?;
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let found = entries
            .into_iter()
            .filter(|entry| !matches!(entry["search"]["mode"].as_str(), Some("include" | "outcome")));
        let found = found.map(|mut entry| entry["resource"].take());
        let found = found.filter(|resource| resource["resourceType"] == kind && resource["id"].is_string());
        let mut matches = Matches { resources: Vec::new(), strays: false };
        for resource in found {
            match fit(&resource, query) {
                Fit::Match => matches.resources.push(resource),
                Fit::Near => {}
                Fit::Stray => matches.strays = true,
            }
        }
        Ok(matches)
    }

    /// What was found for this reference not long ago.
    pub(super) fn remembered(&self, reference: &str) -> Option<String> {
        let found = self.found();
        let (literal, at) = found.references.get(reference)?;
        (at.elapsed() < self.ttl).then(|| literal.clone())
    }

    pub(super) fn remember(&self, reference: &str, literal: &str) {
        if self.ttl.is_zero() {
            return;
        }
        let mut found = self.found();
        let before = found.references.insert(reference.to_owned(), (literal.to_owned(), Instant::now()));
        if before.is_none() {
            found.oldest_first.push_back(reference.to_owned());
        }
        while found.references.len() > REMEMBERED_MAX
            && let Some(oldest) = found.oldest_first.pop_front()
        {
            found.references.remove(&oldest);
        }
    }

    pub(super) fn forget(&self, reference: &str) {
        let mut found = self.found();
        if found.references.remove(reference).is_some() {
            found.oldest_first.retain(|kept| kept != reference);
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parameters of a query, without what they ask for.
fn names(query: &str) -> String {
    query.split('&').filter_map(|pair| pair.split('=').next()).collect::<Vec<_>>().join(", ")
}

/// The literal reference of a patient, or of the one into whom they were merged.
pub(super) fn survivor(patient: &Value) -> String {
    let links = patient["link"].as_array().into_iter().flatten();
    let replaced = links.filter(|link| link["type"] == "replaced-by");
    let mut target = replaced.filter_map(|link| {
        let reference = link["other"]["reference"].as_str()?.split("/_history/").next()?;
        let (before, id) = reference.rsplit_once('/')?;
        (!id.is_empty() && (before == "Patient" || before.ends_with("/Patient"))).then(|| format!("Patient/{id}"))
    });
    target.next().unwrap_or_else(|| literal(patient))
}

/// `Patient/4711`.
pub(super) fn literal(resource: &Value) -> String {
    let text = |name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("resourceType"), text("id"))
}

/// Nothing was written, whether or not the search came through.
fn waits(kind: &str, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Ambiguous { reason } => Verdict::unavailable(format!("searching {kind}: {reason}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_found_is_believed_for_its_time_and_bounded() {
        let searches = Searches::new(SearchMethod::Post, Duration::from_secs(60));
        searches.remember("Patient?identifier=a", "Patient/1");
        assert_eq!(searches.remembered("Patient?identifier=a").as_deref(), Some("Patient/1"));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(searches.remembered("Patient?identifier=a"), None);
        for n in 0..=REMEMBERED_MAX {
            searches.remember(&n.to_string(), "Patient/2");
        }
        assert_eq!(searches.found().references.len(), REMEMBERED_MAX);
        assert_eq!(searches.found().oldest_first.len(), REMEMBERED_MAX);
        searches.forget("7");
        assert_eq!(searches.remembered("7"), None);
        let off = Searches::new(SearchMethod::Post, Duration::ZERO);
        off.remember("x", "Patient/3");
        assert_eq!(off.remembered("x"), None);
    }
}
