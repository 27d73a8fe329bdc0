//! Delivery to a FHIR server: each message is one transaction Bundle, POSTed to the base URL.
//!
//! What must never happen: a redirect followed (the configured server is the only one that gets patient data, so no
//! proxy is taken from the environment either), an answer read without limit, content in a URL, a header or a reason.
//! A request that may have reached the server is `Ambiguous`; the Bundle's conditional creates make the repeat harmless.

mod answer;
mod egress;

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use super::{Destination, FhirSettings, Outgoing, Refusals, Sender, Verdict};
use crate::translate::Format;
use answer::Answer;

/// Set where the message may have been sent before.
const POSSIBLE_REPEAT: HeaderName = HeaderName::from_static("x-cannula-possible-repeat");
const FHIR_JSON: &str = "application/fhir+json";
/// Shorter than the idle limit of usual servers and proxies (60 s and more), so that a kept connection is seldom one
/// the server is about to close.
const IDLE_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A FHIR server; lanes share its connections.
pub(super) struct Fhir {
    client: Client,
    url: Url,
    response_bytes_max: usize,
}

impl Fhir {
    pub(super) fn new(settings: &FhirSettings) -> Result<Fhir, String> {
        let url = base_url(&settings.url)?;
        let client = client(settings, url.scheme() == "https")?;
        Ok(Fhir { client, url, response_bytes_max: settings.response_bytes_max })
    }
}

impl Destination for Fhir {
    fn sender(&self, _lane: u16) -> Box<dyn Sender> {
        Box::new(Requests {
            client: self.client.clone(),
            url: self.url.clone(),
            response_bytes_max: self.response_bytes_max,
            refusals: Refusals::default(),
        })
    }
}

/// Trusts the certificate authorities of the system; a hospital's own belongs there.
fn client(settings: &FhirSettings, secure: bool) -> Result<Client, String> {
    let builder = Client::builder();
    // Without TLS a machine that has no certificate authorities at all, as small containers, must do.
    let builder = if secure { builder } else { builder.tls_certs_only([]) };
    builder
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .dns_resolver(egress::Resolver)
        .default_headers(headers(settings)?)
        .timeout(settings.timeout)
        .connect_timeout(CONNECT_MAX.min(settings.timeout / 2))
        .pool_idle_timeout(IDLE_MAX)
        .tcp_keepalive(Duration::from_secs(30))
        .build()
        .map_err(|error| format!("HTTPS cannot be set up: {}: install ca-certificates", cause(&error)))
}

fn headers(settings: &FhirSettings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    headers.insert(ACCEPT, HeaderValue::from_static(FHIR_JSON));
    headers.insert("prefer", HeaderValue::from_static("return=minimal"));
    for (name, value) in &settings.headers {
        let key = HeaderName::try_from(name.as_str()).map_err(|_| format!("'{name}' is not a header name"))?;
        let mut value = HeaderValue::try_from(&*value.0)
            .map_err(|_| format!("the value of header {name} has characters a header cannot carry"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("url is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("url must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("url carries credentials: give them by reference in headers or auth".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("url must be the server's base address, without ? or #".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.parse().is_ok_and(egress::is_forbidden) {
        return Err("url is a link-local address, where no message may go".to_owned());
    }
    Ok(url)
}

/// One lane's requests.
struct Requests {
    client: Client,
    url: Url,
    response_bytes_max: usize,
    refusals: Refusals,
}

impl Sender for Requests {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if outgoing.format != Format::FhirBundle {
                return Verdict::rejected("a FHIR destination takes Bundles only: set translate = \"pcd-to-fhir\"");
            }
            match self.post(outgoing).await {
                Ok(answer) => answer.verdict(outgoing.id, &mut self.refusals),
                Err(verdict) => verdict,
            }
        })
    }
}

impl Requests {
    async fn post(&self, outgoing: &Outgoing) -> Result<Answer, Verdict> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header("x-request-id", outgoing.id.to_string())
            .body(outgoing.body.clone());
        if outgoing.possible_repeat {
            request = request.header(POSSIBLE_REPEAT, "true");
        }
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let head = Answer::head(response.status(), response.headers());
        match self.body(response).await {
            Ok(body) => Ok(head.with_body(body)),
            // The status alone settles a refusal; for a success the body might still have told of one.
            Err(error) if head.is_success() => {
                Err(Verdict::ambiguous(format!("{}, then the answer broke off: {}", head.status(), cause(&error))))
            }
            Err(_) => Ok(head),
        }
    }

    /// The answer's body up to the limit; `None` where it is longer.
    async fn body(&self, mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > self.response_bytes_max {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

/// No answer: whether the request can have reached the server decides.
fn unanswered(error: &reqwest::Error) -> Verdict {
    if error.is_connect() || error.is_builder() {
        Verdict::unavailable(format!("cannot connect: {}", cause(error)))
    } else if error.is_timeout() {
        Verdict::ambiguous("no answer within the timeout")
    } else {
        Verdict::ambiguous(format!("the connection ended without an answer: {}", cause(error)))
    }
}

/// The innermost cause: `Connection refused (os error 111)` says more than the layers around it.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests;
