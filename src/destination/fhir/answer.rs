//! What a FHIR server's answer means. Pure.
//!
//! | status | verdict |
//! |--------|---------|
//! | 2xx but 202, transaction-response with all entries 2xx, or without any, or no body | Accepted: a transaction is all or nothing, so the status speaks for it |
//! | 202 with no more than that | Ambiguous: the server put it aside, and may still refuse it |
//! | 2xx, transaction-response with entries, but fewer than were sent | Ambiguous |
//! | 2xx, an entry 4xx, or an OperationOutcome with an error | Rejected |
//! | 2xx, an entry neither 2xx nor 4xx | Ambiguous: part of it may be stored |
//! | 2xx, a body longer than the limit, typed as JSON | Accepted, for the same reason |
//! | 2xx, anything else (a portal's page, a proxy's greeting) | Ambiguous |
//! | 3xx, 401, 403, 405, 406, 407, 415, 421, 431; 404 and 410 without an OperationOutcome | Unavailable: the address or the credentials are wrong, not the message |
//! | 425, 429, 501, 503, 505, 511 | Unavailable, after `Retry-After` |
//! | 408, other 5xx | Ambiguous: the server, or the one behind a gateway, may have stored the message before it failed |
//! | 409 | Unavailable, the [`CONFLICTS_MAX`]nd time Rejected: it may be a version conflict that passes |
//! | other 4xx | Rejected |
//! | of one entry of a batch: 3xx, 404, 405, 406, 410, 415, 421, 431 | Rejected: the server itself answered, so the address is right, and it does not take this resource |
//!
//! Reasons are built from status, `issue.code` and `issue.expression` alone: `diagnostics`, `details` and `location`
//! texts quote the resource.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::Value;

use super::super::{Refusals, Verdict};
use crate::told::count;

const CONFLICTS_MAX: u32 = 2;

/// Who must act on a refusal, and how.
const MEND: &str = "ask who runs the server what it objects to; have the sender mend the message, or change [destination.fhir], then send it again";
const REGISTER: &str =
    "the server does not have it, or what it refers to: have that registered there, then send it again";
const SHORTEN: &str = "have who runs the server raise its limit, or set bundle = \"single\", then send it again";
const MERGE: &str = "none or several at the server match a search that may find one, such as that for the patient: register the patient there, or \
                     merge the several, then send it again";
const ANOTHER_WRITER: &str = "find what else writes this resource, then send it again";
const NOT_TAKEN: &str = "the server does not take this kind of resource in this way: ask who runs it to grant that, or change what is written in [destination.fhir], then send it again";
/// Issues told in a reason.
const ISSUES_MAX: usize = 3;

/// Status, what the headers ask for, and as much of the body as may be read.
pub(super) struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    typed_json: bool,
    /// To one entry of a batch.
    of_entry: bool,
    /// Where the resource is.
    location: Option<String>,
    body: Body,
    raw: Vec<u8>,
}

enum Body {
    Empty,
    TooLong,
    Response(Vec<Entry>),
    Outcome(Vec<Issue>),
    /// Another resource.
    Resource,
    Other,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "resourceType")]
    resource_type: String,
    /// A word in a Bundle; a Device has something else there.
    #[serde(default, rename = "type")]
    kind: Value,
    #[serde(default)]
    entry: Vec<Entry>,
    #[serde(default)]
    issue: Vec<Issue>,
}

#[derive(Deserialize)]
struct Entry {
    response: Option<EntryResponse>,
}

#[derive(Clone, Deserialize)]
struct EntryResponse {
    #[serde(default)]
    status: String,
    location: Option<String>,
    #[serde(default)]
    outcome: Outcome,
}

#[derive(Clone, Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    issue: Vec<Issue>,
}

#[derive(Clone, Deserialize)]
struct Issue {
    #[serde(default)]
    severity: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    expression: Vec<String>,
}

impl Answer {
    /// The answer before its body is read.
    pub(super) fn head(status: StatusCode, headers: &HeaderMap) -> Answer {
        let content_type = text(headers, CONTENT_TYPE).unwrap_or_default();
        Answer {
            status,
            retry_after: retry_after(headers),
            typed_json: content_type.contains("json"),
            of_entry: false,
            location: text(headers, LOCATION).map(str::to_owned),
            body: Body::Empty,
            raw: Vec::new(),
        }
    }

    /// With its body; `None` where that is longer than the limit.
    pub(super) fn with_body(mut self, body: Option<Vec<u8>>) -> Answer {
        self.body = match body {
            None => Body::TooLong,
            Some(body) if body.trim_ascii().is_empty() => Body::Empty,
            Some(body) => {
                self.raw = body;
                parse(&self.raw)
            }
        };
        self
    }

    /// The body is XML, or a page.
    pub(super) fn is_xml(&self) -> bool {
        let body = self.raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.raw);
        !self.typed_json && body.trim_ascii_start().starts_with(b"<")
    }

    /// The body, where it is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.raw).ok()
    }

    /// Where the server put what was sent: `Observation/4711`.
    pub(super) fn placed(&self, kind: &str) -> Option<String> {
        let mut parts = self.location.as_deref()?.split(['/', '?']).skip_while(|part| *part != kind).skip(1);
        let id = parts.next().filter(|id| !id.is_empty())?;
        Some(format!("{kind}/{id}"))
    }

    /// The answer to each entry of a batch, or what is wrong with the whole.
    pub(super) fn entries(&self, sent: usize, id: u64, refusals: &mut Refusals) -> Result<Vec<Answer>, Verdict> {
        match &self.body {
            Body::Response(entries) if self.is_success() && entries.len() == sent => {
                Ok(entries.iter().map(Entry::answer).collect())
            }
            Body::Response(_) if self.is_success() => {
                Err(Verdict::ambiguous("the answer to the batch has another number of entries than were sent"))
            }
            Body::Empty | Body::TooLong if self.is_success() => {
                Err(Verdict::ambiguous("the answer to the batch does not tell of its entries: raise max_response"))
            }
            _ => Err(match self.verdict(id, refusals) {
                Verdict::Accepted { .. } => Verdict::ambiguous("the answer to the batch is none: check url"),
                other => other,
            }),
        }
    }

    /// What it means where one resource was sent.
    pub(super) fn verdict_of_one(&self, id: u64, refusals: &mut Refusals) -> Verdict {
        match self.body {
            Body::Resource if self.is_success() => Verdict::Accepted { answer: self.status().to_string() },
            _ => self.verdict(id, refusals),
        }
    }

    /// What it means where a transaction of so many entries was sent.
    pub(super) fn verdict_of_all(&self, sent: usize, id: u64, refusals: &mut Refusals) -> Verdict {
        match (self.verdict(id, refusals), &self.body) {
            (Verdict::Accepted { .. }, Body::Response(entries)) if (1..sent).contains(&entries.len()) => {
                let answered = count(entries.len(), "entry");
                Verdict::ambiguous(format!("{answered} answered of {sent} sent: ask who runs the server"))
            }
            (verdict, _) => verdict,
        }
    }

    /// It has entries, whatever they say.
    pub(super) fn tells_of_entries(&self) -> bool {
        matches!(&self.body, Body::Response(entries) if !entries.is_empty())
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The table above.
    pub(super) fn verdict(&self, id: u64, refusals: &mut Refusals) -> Verdict {
        match self.status() {
            200..=299 => self.success(),
            404 | 410 if self.of_entry => Verdict::rejected(self.refused(REGISTER)),
            300..=399 | 405 | 406 | 407 | 415 | 421 | 431 if self.of_entry => {
                Verdict::rejected(self.refused(NOT_TAKEN))
            }
            300..=399 => Verdict::unavailable(format!(
                "{}: a redirect, which is not followed: set url to the server's own address",
                self.status()
            )),
            401 | 403 => Verdict::unavailable(self.reason("the credentials are refused: renew them")),
            404 | 410 if !matches!(self.body, Body::Outcome(_)) => {
                Verdict::unavailable(self.reason("no FHIR server answers there: check url"))
            }
            405 | 406 | 407 | 415 | 421 | 431 => {
                Verdict::unavailable(self.reason("the server does not take transactions there: check url"))
            }
            425 | 429 | 501 | 503 | 505 | 511 => {
                Verdict::Unavailable { reason: self.reason("the server asks to wait"), retry_after: self.retry_after }
            }
            502 | 504 => Verdict::ambiguous(self.reason("a gateway lost the server behind it")),
            408 | 500..=599 => Verdict::ambiguous(self.reason("the server failed on the message, or lost it half-way")),
            409 => match refusals.another(id, CONFLICTS_MAX, self.reason("conflict")) {
                Verdict::Rejected { reason } => Verdict::rejected(format!("{reason}; {ANOTHER_WRITER}")),
                waits => waits,
            },
            404 | 410 => Verdict::rejected(self.refused(REGISTER)),
            412 => Verdict::rejected(self.refused(MERGE)),
            413 => Verdict::rejected(self.refused(SHORTEN)),
            _ => Verdict::rejected(self.refused(MEND)),
        }
    }

    fn refused(&self, remedy: &str) -> String {
        format!("{}; {remedy}", self.reason("refused"))
    }

    fn success(&self) -> Verdict {
        let accepted = || Verdict::Accepted { answer: self.status().to_string() };
        let put_aside = || {
            Verdict::ambiguous("202: put aside, perhaps to be refused later: have the server answer when it is stored")
        };
        match &self.body {
            Body::Response(entries) if !entries.is_empty() => entries_verdict(entries).unwrap_or_else(accepted),
            Body::Empty | Body::Response(_) if self.status == StatusCode::ACCEPTED && !self.of_entry => put_aside(),
            Body::Empty | Body::Response(_) => accepted(),
            Body::Outcome(issues) if issues.iter().any(Issue::is_error) => Verdict::rejected(self.refused(MEND)),
            Body::Outcome(_) => accepted(),
            Body::TooLong if self.typed_json => {
                Verdict::Accepted { answer: format!("{}, its body over the limit and unread", self.status()) }
            }
            Body::TooLong | Body::Resource | Body::Other => {
                Verdict::ambiguous(format!("{} with a body that is not FHIR: check url", self.status()))
            }
        }
    }

    /// How long the server asked every request to wait.
    pub(super) fn asks_to_wait(&self) -> Option<Duration> {
        self.retry_after.filter(|_| matches!(self.status(), 429 | 503))
    }

    pub(super) fn reason(&self, otherwise: &str) -> String {
        let Body::Outcome(issues) = &self.body else { return format!("{}: {otherwise}", self.status()) };
        let told: Vec<String> = issues.iter().filter(|i| i.is_error()).take(ISSUES_MAX).map(Issue::told).collect();
        if told.is_empty() {
            return format!("{}: {otherwise}", self.status());
        }
        format!("{}: {otherwise} ({})", self.status(), told.join(", "))
    }
}

fn parse(body: &[u8]) -> Body {
    match serde_json::from_slice::<Resource>(body) {
        Ok(resource) => match (resource.resource_type.as_str(), resource.kind.as_str().unwrap_or_default()) {
            ("Bundle", "transaction-response" | "batch-response") => Body::Response(resource.entry),
            ("OperationOutcome", _) => Body::Outcome(resource.issue),
            ("", _) => Body::Other,
            _ => Body::Resource,
        },
        Err(_) => Body::Other,
    }
}

/// `None` where every entry was taken.
fn entries_verdict(entries: &[Entry]) -> Option<Verdict> {
    let statuses = || entries.iter().map(Entry::status).enumerate();
    let told = |(n, status): (usize, Option<u16>)| match status {
        Some(status) => format!("entry[{n}] answered {status}"),
        None => format!("entry[{n}] has no status"),
    };
    if let Some(refused) = statuses().find(|(_, s)| s.is_some_and(|s| (400..500).contains(&s) && !may_pass(s))) {
        return Some(Verdict::rejected(format!("{}; {MEND}", told(refused))));
    }
    let unclear = statuses().find(|(_, s)| !s.is_some_and(|s| (200..300).contains(&s)))?;
    Some(Verdict::ambiguous(told(unclear)))
}

fn may_pass(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 409 | 425 | 429)
}

impl Entry {
    /// As if it had been sent alone. One without a status says nothing: the server may have taken it.
    fn answer(&self) -> Answer {
        let response = self.response.clone();
        let issues = response.as_ref().map(|response| response.outcome.issue.clone()).unwrap_or_default();
        let status = self.status().and_then(|status| StatusCode::from_u16(status).ok());
        Answer {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            retry_after: None,
            typed_json: true,
            of_entry: true,
            location: response.and_then(|response| response.location),
            body: if issues.is_empty() { Body::Empty } else { Body::Outcome(issues) },
            raw: Vec::new(),
        }
    }

    /// `201 Created` → 201.
    fn status(&self) -> Option<u16> {
        self.response.as_ref()?.status.get(..3)?.parse().ok()
    }
}

impl Issue {
    fn is_error(&self) -> bool {
        matches!(self.severity.as_str(), "error" | "fatal")
    }

    /// Its code, and the element where that is a plain path: anything else might quote the resource.
    fn told(&self) -> String {
        // A server that puts something else here, such as a name, is not quoted.
        let code = if ISSUE_TYPES.contains(&self.code.as_str()) { self.code.as_str() } else { "unknown" };
        match self.expression.first().filter(|path| is_path(path)) {
            Some(path) => format!("{code} at {path}"),
            None => code.to_owned(),
        }
    }
}

/// FHIR R4 issue-type, the required binding of OperationOutcome.issue.code.
const ISSUE_TYPES: &[&str] = &[
    "invalid",
    "structure",
    "required",
    "value",
    "invariant",
    "security",
    "login",
    "unknown",
    "expired",
    "forbidden",
    "suppressed",
    "processing",
    "not-supported",
    "duplicate",
    "multiple-matches",
    "not-found",
    "deleted",
    "too-long",
    "code-invalid",
    "extension",
    "too-costly",
    "business-rule",
    "conflict",
    "transient",
    "lock-error",
    "no-store",
    "exception",
    "timeout",
    "incomplete",
    "throttled",
    "informational",
];

fn is_path(path: &str) -> bool {
    path.starts_with(|c: char| c.is_ascii_uppercase()) && is_plain(path, b".[]")
}

fn is_plain(text: &str, also: &[u8]) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds, or a date (RFC 9110 §10.2.3); a date is measured from the server's own `Date`, so that the two clocks need
/// not agree, and means nothing without one.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let wait = date(value)?.duration_since(date(text(headers, DATE)?)?);
    Duration::try_from(wait).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer::head(StatusCode::from_u16(status).unwrap(), &map).with_body(Some(body.as_bytes().to_vec()))
    }

    #[test]
    fn a_transaction_is_taken_as_a_whole_and_not_put_aside() {
        let of = |status, entries: usize| {
            let entries = vec![r#"{"response":{"status":"201"}}"#; entries].join(",");
            let body = format!(r#"{{"resourceType":"Bundle","type":"transaction-response","entry":[{entries}]}}"#);
            name(&answer(status, &[], &body).verdict_of_all(3, 7, &mut Refusals::default())).to_owned()
        };
        assert_eq!([of(200, 3), of(200, 0), of(202, 3)], ["accepted"; 3]);
        assert_eq!([of(200, 2), of(200, 1), of(202, 0)], ["ambiguous"; 3]);
        assert_eq!(
            [name(&verdict(200, "")), name(&verdict(204, "")), name(&verdict(202, ""))],
            ["accepted", "accepted", "ambiguous"]
        );
    }

    fn verdict(status: u16, body: &str) -> Verdict {
        answer(status, &[], body).verdict(7, &mut Refusals::default())
    }

    fn name(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Accepted { .. } => "accepted",
            Verdict::Rejected { .. } => "rejected",
            Verdict::Unavailable { .. } => "unavailable",
            Verdict::Ambiguous { .. } => "ambiguous",
        }
    }

    const OUTCOME: &str = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid",
        "diagnostics":"ROSE^MARY is not a name","expression":["Bundle.entry[2].resource"]}]}"#;

    #[test]
    fn every_status_has_the_verdict_of_the_table() {
        let table: &[(u16, &str, &str)] = &[
            (200, "", "accepted"),
            (201, "", "accepted"),
            (204, "", "accepted"),
            (301, "", "unavailable"),
            (307, OUTCOME, "unavailable"),
            (400, OUTCOME, "rejected"),
            (401, OUTCOME, "unavailable"),
            (403, "", "unavailable"),
            (404, OUTCOME, "rejected"),
            (404, "<html>nginx</html>", "unavailable"),
            (405, "", "unavailable"),
            (408, "", "ambiguous"),
            (409, "", "unavailable"),
            (410, "", "unavailable"),
            (412, OUTCOME, "rejected"),
            (413, "", "rejected"),
            (415, "", "unavailable"),
            (422, OUTCOME, "rejected"),
            (425, "", "unavailable"),
            (429, "", "unavailable"),
            (500, OUTCOME, "ambiguous"),
            (502, "", "ambiguous"),
            (503, "", "unavailable"),
            (504, "", "ambiguous"),
            (507, "", "ambiguous"),
            (511, "", "unavailable"),
            (524, "", "ambiguous"),
        ];
        for (status, body, expected) in table {
            assert_eq!(name(&verdict(*status, body)), *expected, "{status} {body}");
        }
    }

    #[test]
    fn a_success_is_believed_only_with_every_entry_taken() {
        let bundle = |statuses: &[&str]| {
            let entries: Vec<String> =
                statuses.iter().map(|s| format!(r#"{{"response":{{"status":"{s}"}}}}"#)).collect();
            format!(r#"{{"resourceType":"Bundle","type":"transaction-response","entry":[{}]}}"#, entries.join(","))
        };
        assert_eq!(name(&verdict(200, &bundle(&["201 Created", "200", "200 OK"]))), "accepted");
        let refused = verdict(200, &bundle(&["201 Created", "422 Unprocessable"]));
        assert_eq!(refused, Verdict::rejected(format!("entry[1] answered 422; {MEND}")));
        assert_eq!(name(&verdict(200, &bundle(&["201", "503"]))), "ambiguous");
        assert_eq!(name(&verdict(200, &bundle(&["201", "429"]))), "ambiguous");
        let bare = r#"{"resourceType":"Bundle","type":"transaction-response","entry":[{}]}"#;
        assert_eq!(name(&verdict(200, bare)), "ambiguous");
        assert_eq!(name(&verdict(200, OUTCOME)), "rejected");
        assert_eq!(name(&verdict(200, r#"{"resourceType":"Patient"}"#)), "ambiguous");
        assert_eq!(name(&verdict(200, "<html>Please log in</html>")), "ambiguous");
    }

    #[test]
    fn an_entry_that_is_refused_never_holds_up_its_lane_and_says_who_must_act() {
        let batch = |status: &str| {
            let entry = format!(r#"{{"response":{{"status":"{status}"}}}}"#);
            let body = format!(r#"{{"resourceType":"Bundle","type":"batch-response","entry":[{entry}]}}"#);
            let mut refusals = Refusals::default();
            answer(200, &[], &body).entries(1, 7, &mut refusals).unwrap()[0].verdict_of_one(7, &mut refusals)
        };
        for status in ["307", "404 Not Found", "405", "406", "410", "412", "413", "415", "422"] {
            let Verdict::Rejected { reason } = batch(status) else { panic!("{status}: {:?}", batch(status)) };
            assert!(reason.starts_with(&status[..3]) && reason.contains("send it again"), "{reason}");
        }
        for (status, expected) in
            [("401", "unavailable"), ("429", "unavailable"), ("503", "unavailable"), ("500", "ambiguous")]
        {
            assert_eq!(name(&batch(status)), expected, "{status}");
        }
    }

    #[test]
    fn every_refusal_of_a_message_says_who_must_act() {
        for status in [400, 402, 404, 412, 413, 422] {
            let Verdict::Rejected { reason } = verdict(status, OUTCOME) else { panic!("{status}") };
            assert!(reason.contains("; ") && reason.contains("send it again"), "{reason}");
        }
    }

    #[test]
    fn a_success_longer_than_the_limit_counts_only_where_it_is_typed_as_json() {
        let head = |kind: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            Answer::head(StatusCode::OK, &headers).with_body(None).verdict(7, &mut Refusals::default())
        };
        assert_eq!(name(&head("application/fhir+json;charset=utf-8")), "accepted");
        assert_eq!(name(&head("text/html")), "ambiguous");
    }

    #[test]
    fn reasons_name_code_and_element_but_never_quote_the_resource() {
        let told = format!("422: refused (invalid at Bundle.entry[2].resource); {MEND}");
        assert_eq!(verdict(422, OUTCOME), Verdict::rejected(told));
        let quoting = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"ROSEMARY",
            "expression":["Patient.name.where(family='ROSE')"]}]}"#;
        assert_eq!(verdict(400, quoting), Verdict::rejected(format!("400: refused (unknown); {MEND}")));
    }

    #[test]
    fn a_conflict_is_tried_once_more_and_then_refused() {
        let mut refusals = Refusals::default();
        let conflict = answer(409, &[], "");
        assert_eq!(name(&conflict.verdict(7, &mut refusals)), "unavailable");
        assert_eq!(name(&conflict.verdict(8, &mut refusals)), "unavailable");
        assert_eq!(name(&conflict.verdict(8, &mut refusals)), "rejected");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date_on_the_servers_own_clock() {
        let asked = |headers: &[(&'static str, &'static str)]| match answer(503, headers, "")
            .verdict(7, &mut Refusals::default())
        {
            Verdict::Unavailable { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(&[("retry-after", "120")]), Some(Duration::from_secs(120)));
        let date = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(asked(&[date, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(asked(&[date, ("date", "Sun, 06 Nov 1994 08:51:37 GMT")]), None, "already past");
        assert_eq!(asked(&[date]), None);
        assert_eq!(asked(&[("retry-after", "soon")]), None);
    }
}
