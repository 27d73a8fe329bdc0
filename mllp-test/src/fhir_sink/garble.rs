//! Answers of no use to a transaction that was committed: what a client may not take for a refusal, and must not read
//! without limit.

use super::connection::Switch;
use super::fhir;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// How an answer is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbling {
    /// The last entry's status is 503.
    Partial,
    /// A page for people, with status 200.
    NotFhir,
    /// JSON that ends in the middle.
    TornBody,
    /// A byte every tenth of a second.
    SlowBody,
    /// 100 MB of JSON.
    HugeBody,
}

const HUGE_BYTES: usize = 100_000_000;
const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";

pub(super) fn garbled(garbling: Garbling, mut response: Value, switch: &Switch) -> Response {
    match garbling {
        Garbling::Partial => {
            if let Some(last) = response["entry"].as_array_mut().and_then(|entries| entries.last_mut()) {
                last["response"] = json!({ "status": "503 Service Unavailable" });
            }
            fhir(StatusCode::OK, &response)
        }
        Garbling::NotFhir => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>Welcome</body></html>").into_response()
        }
        Garbling::TornBody => {
            let text = response.to_string();
            ([(header::CONTENT_TYPE, FHIR_JSON)], text[..text.len() / 2].to_owned()).into_response()
        }
        Garbling::SlowBody => {
            switch.dribble();
            fhir(StatusCode::OK, &response)
        }
        Garbling::HugeBody => ([(header::CONTENT_TYPE, FHIR_JSON)], huge()).into_response(),
    }
}

/// Made once: every answer shares it.
fn huge() -> Bytes {
    static HUGE: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut text = br#"{"resourceType":"Bundle","type":"transaction-response","entry":[],"id":""#.to_vec();
        text.resize(HUGE_BYTES, b'x');
        Bytes::from(text)
    };
    HUGE.get_or_init(make).clone()
}
