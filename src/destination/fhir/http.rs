//! Requests to one FHIR server, and what no answer means.
//!
//! What must never happen: a redirect followed (the configured server is the only one that gets patient data, so no
//! proxy is taken from the environment either), an answer read without limit, content in a URL, a header or a reason.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, Method, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    super::Verdict,
    answer::Answer,
    auth::Authority,
    egress,
    rate::Turns,
    settings::{ClientTls, FhirSettings},
};
use crate::destination::Meter;

pub(super) const FHIR_JSON: &str = "application/fhir+json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// Shorter than the idle limit of usual servers and proxies (60 s and more), so that a kept connection is seldom one
/// the server is about to close.
const IDLE_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A FHIR server; lanes share its connections and its logins.
pub(super) struct Http {
    client: Client,
    base: Url,
    response_bytes_max: usize,
    authority: Authority,
    turns: Turns,
}

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    /// Below the base URL; empty: the base itself.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

impl Http {
    /// Nothing is connected yet; the error names what in the settings cannot work.
    pub(super) fn open(settings: &FhirSettings, meter: &Meter) -> Result<Http, String> {
        let base = base_url(&settings.url)?;
        let built = |builder: ClientBuilder| builder.build().map_err(|error| unusable(&error, &settings.tls));
        let client = built(builder(settings, &base)?.default_headers(headers(settings)?))?;
        // What the server alone shall get does not go to whoever gives tokens.
        let for_tokens = built(builder(settings, &base)?)?;
        let authority = Authority::new(&settings.auth, for_tokens, &base, meter)?;
        let turns = Turns::new(settings.rate, meter.clone());
        Ok(Http { client, base, response_bytes_max: settings.response_bytes_max, authority, turns })
    }

    /// Whose it is.
    pub(super) fn base(&self) -> &str {
        self.base.as_str()
    }

    /// The answer, or what its absence means. A token that the server refuses is renewed and the request sent once more:
    /// a 401 says that nothing was done.
    pub(super) async fn exchange(&self, call: &Call) -> Result<Answer, Verdict> {
        let authorization = self.authority.header().await?;
        let answer = self.send(call, authorization.as_ref()).await?;
        match authorization {
            Some(header) if answer.status() == 401 && self.authority.refused(&header).await => {
                let renewed = self.authority.header().await?;
                self.send(call, renewed.as_ref()).await
            }
            _ => Ok(answer),
        }
    }

    async fn send(&self, call: &Call, authorization: Option<&HeaderValue>) -> Result<Answer, Verdict> {
        let mut request = self.client.request(call.method.clone(), self.url(&call.path)?).body(call.body.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let _turn = self.turns.next().await?;
        let response = request.send().await.map_err(|error| unanswered(&error))?;
        let head = Answer::head(response.status(), response.headers());
        if let Some(wait) = head.asks_to_wait() {
            self.turns.hold(wait);
        }
        match read_body(response, self.response_bytes_max).await {
            Ok(body) => Ok(head.with_body(body)),
            // The status alone settles a refusal; for a success the body might still have told of one.
            Err(error) if head.is_success() => {
                Err(Verdict::ambiguous(format!("{}, then the answer broke off: {}", head.status(), cause(&error))))
            }
            Err(_) => Ok(head),
        }
    }

    fn url(&self, path: &str) -> Result<Url, Verdict> {
        if path.is_empty() {
            return Ok(self.base.clone());
        }
        let text = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&text).map_err(|error| Verdict::unavailable(format!("url cannot be extended: {error}")))
    }
}

/// What is to be done where TLS cannot be set up: what the site gave comes before the machine's authorities.
fn unusable(error: &reqwest::Error, tls: &ClientTls) -> String {
    let cause = cause(error);
    match rustls_error(error) {
        Some(rustls::Error::InconsistentKeys(_)) => {
            "tls.key is not the private key of tls.cert: give a certificate and the key it was made for".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(_)) if tls.ca.is_some() => {
            format!(
                "tls.ca cannot be used ({cause}): give the authority's certificates as it published them, in PEM form"
            )
        }
        Some(_) if tls.identity.is_some() => {
            format!("tls.cert and tls.key cannot be used ({cause}): have them issued again, the key unencrypted")
        }
        _ => format!("HTTPS cannot be set up ({cause}): install ca-certificates, or set tls.ca"),
    }
}

/// Without TLS a machine that has no certificate authorities at all, as small containers, must do.
fn builder(settings: &FhirSettings, base: &Url) -> Result<ClientBuilder, String> {
    let builder = Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .dns_resolver(egress::Resolver)
        .timeout(settings.timeout)
        .connect_timeout(CONNECT_MAX.min(settings.timeout / 2))
        .pool_idle_timeout(IDLE_MAX)
        .tcp_keepalive(Duration::from_secs(30));
    let ClientTls { ca, identity } = &settings.tls;
    let builder = match ca {
        Some(ca) => builder.tls_certs_only(authorities(&ca.0)?),
        None if base.scheme() == "http" => builder.tls_certs_only([]),
        None => builder,
    };
    let Some(identity) = identity else { return Ok(builder) };
    let unreadable = |_| "tls.cert and tls.key are not a certificate and its unencrypted key in PEM form".to_owned();
    Ok(builder.identity(Identity::from_pem(identity.0.as_bytes()).map_err(unreadable)?))
}

fn authorities(pem: &str) -> Result<Vec<Certificate>, String> {
    let read = Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|authorities| !authorities.is_empty());
    read.ok_or_else(|| "tls.ca holds no certificate in PEM form".to_owned())
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
    if egress::is_forbidden_host(&url) {
        return Err("url is a link-local address, where no message may go".to_owned());
    }
    Ok(url)
}

/// An answer's body up to the limit; `None` where it is longer.
pub(super) async fn read_body(mut response: Response, bytes_max: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// `application/x-www-form-urlencoded`, which the query of a URL is too.
pub(super) fn form(pairs: &[(&str, String)]) -> String {
    let encoded = Url::parse_with_params("form:", pairs);
    encoded.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

/// No answer: whether the request can have reached the server decides.
fn unanswered(error: &reqwest::Error) -> Verdict {
    if error.is_connect() || error.is_builder() {
        Verdict::unavailable(format!("cannot connect: {}", cause(error)))
    } else if is_tls_alert(error) {
        // TLS 1.3 tells a client that its certificate is refused only after the handshake.
        Verdict::unavailable(format!(
            "the server ends the TLS connection: {}: check tls.cert with who runs it",
            cause(error)
        ))
    } else if error.is_timeout() {
        Verdict::ambiguous("no answer within the timeout")
    } else {
        Verdict::ambiguous(format!("the connection ended without an answer: {}", cause(error)))
    }
}

fn is_tls_alert(error: &reqwest::Error) -> bool {
    matches!(rustls_error(error), Some(rustls::Error::AlertReceived(_)))
}

/// What TLS says, however it is wrapped.
fn rustls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if inner.is_some() {
            return inner;
        }
        next = error.source();
    }
    None
}

/// The innermost cause: `Connection refused (os error 111)` says more than the layers around it.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
