//! Delivery to a FHIR server: each message is one transaction Bundle, POSTed to the base URL.
//!
//! A request that may have reached the server is `Ambiguous`; the Bundle's conditional creates make the repeat harmless.
//! A request that may not be made, for want of a login, is `Unavailable`: it waits and no message dies of it.

mod answer;
mod auth;
mod egress;
mod http;
mod settings;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};

use super::{Destination, Outgoing, Refusals, Sender, Verdict};
use crate::translate::Format;
pub use auth::SigningKey;
use http::{Call, Http};
pub use settings::{ClientTls, FhirAuth, FhirSettings, Login, Proof};

/// Set where the message may have been sent before.
const POSSIBLE_REPEAT: HeaderName = HeaderName::from_static("x-cannula-possible-repeat");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A FHIR server.
pub(super) struct Fhir {
    http: Arc<Http>,
}

impl Fhir {
    pub(super) fn new(settings: &FhirSettings) -> Result<Fhir, String> {
        Ok(Fhir { http: Arc::new(Http::open(settings)?) })
    }
}

impl Destination for Fhir {
    fn sender(&self, _lane: u16) -> Box<dyn Sender> {
        Box::new(Requests { http: self.http.clone(), refusals: Refusals::default() })
    }
}

/// One lane's requests.
struct Requests {
    http: Arc<Http>,
    refusals: Refusals,
}

impl Sender for Requests {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if outgoing.format != Format::FhirBundle {
                return Verdict::rejected("a FHIR destination takes Bundles only: set translate = \"pcd-to-fhir\"");
            }
            match self.http.exchange(&transaction(outgoing)).await {
                Ok(answer) => answer.verdict(outgoing.id, &mut self.refusals),
                Err(verdict) => verdict,
            }
        })
    }
}

fn transaction(outgoing: &Outgoing) -> Call {
    let mut headers = vec![(REQUEST_ID, HeaderValue::from(outgoing.id))];
    if outgoing.possible_repeat {
        headers.push((POSSIBLE_REPEAT, HeaderValue::from_static("true")));
    }
    Call { method: Method::POST, path: String::new(), headers, body: outgoing.body.clone() }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
