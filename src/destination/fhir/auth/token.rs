//! Access tokens by client credentials: SMART Backend Services, or a client secret (RFC 6749 section 4.4).
//!
//! One login serves all lanes: whoever comes while it runs waits for its outcome. A token is used until shortly before it
//! expires, or until the server refuses it. Of a token endpoint's answer only its status and its error code are told.

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use reqwest::{
    Client, RequestBuilder, Response, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use rustls::crypto::ring;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    super::super::Verdict,
    super::{
        answer::retry_after,
        egress,
        http::{FORM, cause, form, read_body},
        settings::{Login, Proof},
    },
    header,
    key::SigningKey,
};
use crate::destination::Meter;

/// SMART allows five minutes; the rest is for clocks that differ.
const ASSERTION_SECONDS: i64 = 240;
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Before a token expires; of one that lives shortly, a quarter of its life.
const MARGIN_MAX: Duration = Duration::from_secs(30);
/// Of a token whose answer does not say.
const LIFE_UNTOLD: Duration = Duration::from_secs(60);
/// The lanes that waited for a login which failed do not each try it again.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(in super::super) struct Tokens {
    login: Login,
    /// Where the login is proved by a key.
    key: Option<SigningKey>,
    client: Client,
    discovery: Url,
    configured: Option<Endpoint>,
    state: Mutex<State>,
    meter: Meter,
}

#[derive(Default)]
struct State {
    /// As discovered; forgotten with each failure.
    endpoint: Option<Endpoint>,
    token: Option<Token>,
    failure: Option<(Instant, Verdict)>,
}

/// Where to log in.
#[derive(Clone)]
struct Endpoint {
    url: Url,
    /// As written, letter for letter: the audience of assertions.
    text: String,
}

struct Token {
    header: HeaderValue,
    fresh_until: Instant,
}

impl Tokens {
    pub(super) fn new(login: &Login, client: Client, base: &Url, meter: &Meter) -> Result<Tokens, String> {
        let key = match &login.proof {
            Proof::Key { pem, kid } => {
                let fault = |fault| format!("auth.key: {fault}");
                Some(SigningKey::read(&pem.0, kid.as_deref()).map_err(fault)?)
            }
            Proof::SecretInHeader(_) | Proof::SecretInForm(_) => None,
        };
        let discovery = format!("{}/.well-known/smart-configuration", base.as_str().trim_end_matches('/'));
        let discovery = Url::parse(&discovery).map_err(|error| format!("url: {error}"))?;
        let configured = login.token_url.as_deref().map(|text| endpoint(text, base)).transpose();
        let configured = configured.map_err(|fault| format!("auth.token_url {fault}"))?;
        Ok(Tokens {
            login: login.clone(),
            key,
            client,
            discovery,
            configured,
            state: Mutex::default(),
            meter: meter.clone(),
        })
    }

    pub(super) async fn header(&self) -> Result<HeaderValue, Verdict> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| now < token.fresh_until) {
            return Ok(token.header.clone());
        }
        if let Some((_, failure)) = state.failure.as_ref().filter(|(at, _)| now.duration_since(*at) < FAILURE_KEPT) {
            return Err(failure.clone());
        }
        let outcome = self.log_in(&mut state).await;
        self.meter.logged_in(outcome.is_ok());
        match outcome {
            Ok(token) => {
                let header = token.header.clone();
                *state = State { token: Some(token), failure: None, endpoint: state.endpoint.take() };
                Ok(header)
            }
            Err(failure) => {
                *state = State { failure: Some((Instant::now(), failure.clone())), ..State::default() };
                Err(failure)
            }
        }
    }

    /// The token of this header is not used again.
    pub(super) async fn forget(&self, header: &HeaderValue) {
        self.state.lock().await.token.take_if(|token| token.header == header);
    }

    async fn log_in(&self, state: &mut State) -> Result<Token, Verdict> {
        let endpoint = match self.configured.as_ref().or(state.endpoint.as_ref()) {
            Some(known) => known.clone(),
            None => state.endpoint.insert(self.discover().await?).clone(),
        };
        let asked = Instant::now();
        let response =
            self.request(&endpoint)?.send().await.map_err(|error| unreached("the token endpoint", &error))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let body =
            body(response).await.map_err(|fault| told(&format!("the token endpoint answered {status} {fault}")))?;
        if status != 200 {
            return Err(Verdict::Unavailable { reason: self.refusal(status, &body), retry_after: wait });
        }
        token(&body, asked).map_err(|fault| told(&format!("the token endpoint answered {fault}: check token_url")))
    }

    async fn discover(&self) -> Result<Endpoint, Verdict> {
        const WHAT: &str = "the login could not be discovered: .well-known/smart-configuration";
        let request = self.client.get(self.discovery.clone()).header(ACCEPT, "application/json");
        let response = request.send().await.map_err(|error| unreached(WHAT, &error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(told(&format!("{WHAT} answered {status}: set auth.token_url")));
        }
        let body = body(response).await.map_err(|fault| told(&format!("{WHAT} answered {fault}")))?;
        let configuration: Configuration = serde_json::from_slice(&body)
            .map_err(|_| told(&format!("{WHAT} names no token_endpoint: set auth.token_url")))?;
        if let Some(key) = &self.key
            && let Some(taken) = &configuration.algorithms
            && !taken.iter().any(|algorithm| algorithm == key.algorithm())
        {
            let reason = format!(
                "the server does not take {} keys: configure the other kind (RSA or EC P-384)",
                key.algorithm()
            );
            return Err(told(&reason));
        }
        let endpoint = endpoint(&configuration.token_endpoint, &self.discovery);
        endpoint.map_err(|fault| told(&format!("{WHAT}: the token_endpoint {fault}")))
    }

    fn request(&self, endpoint: &Endpoint) -> Result<RequestBuilder, Verdict> {
        let mut pairs = vec![("grant_type", "client_credentials".to_owned())];
        if !self.login.scopes.is_empty() {
            pairs.push(("scope", self.login.scopes.join(" ")));
        }
        let mut request = self.client.post(endpoint.url.clone()).header(ACCEPT, "application/json");
        match (&self.login.proof, &self.key) {
            (Proof::Key { .. }, Some(key)) => {
                pairs.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                let assertion = assertion(key, &self.login.client_id, &endpoint.text);
                pairs.push(("client_assertion", assertion.ok_or_else(|| told("the key could not sign: replace it"))?));
            }
            (Proof::SecretInForm(secret), _) => {
                pairs.push(("client_id", self.login.client_id.clone()));
                pairs.push(("client_secret", secret.0.to_string()));
            }
            (Proof::SecretInHeader(secret), _) => {
                // RFC 6749 section 2.3.1: each half is form-encoded first.
                let pair = format!("{}:{}", form_value(&self.login.client_id), form_value(&secret.0));
                let basic = header(&format!("Basic {}", STANDARD.encode(pair))).map_err(|fault| told(&fault))?;
                request = request.header(AUTHORIZATION, basic);
            }
            (Proof::Key { .. }, None) => {
                return Err(told("the key is not there: report this as a fault of the engine"));
            }
        }
        Ok(request.header(CONTENT_TYPE, FORM).body(form(&pairs)))
    }

    /// Who must act, by RFC 6749 section 5.2.
    fn refusal(&self, status: u16, body: &[u8]) -> String {
        let error =
            serde_json::from_slice::<Value>(body).unwrap_or_default()["error"].as_str().unwrap_or_default().to_owned();
        let act = match error.as_str() {
            "invalid_client" if self.key.is_some() => {
                "the client or its key is not known: have the EHR's administrator register client_id and what `cannula jwks` prints, and check this machine's clock"
            }
            "invalid_client" => {
                "the client or its secret is not known: check client_id and secret with the EHR's administrator"
            }
            "invalid_scope" => "the scopes are refused: have the EHR's administrator grant them, or mend auth.scopes",
            "unauthorized_client" => {
                "the client may not log in for itself: have the EHR's administrator allow client credentials"
            }
            "unsupported_grant_type" => "it takes no client credentials: check auth.token_url",
            "invalid_grant" | "invalid_request" => {
                "the login is refused: check client_id, token_url and this machine's clock"
            }
            _ if matches!(status, 429 | 500..=599) => {
                return format!("the token endpoint answered {status}: the login waits for it");
            }
            _ => return format!("the token endpoint answered {status}: check auth.token_url and client_id"),
        };
        format!("the token endpoint answered {status} {error}: {act}")
    }
}

/// What is used of a SMART configuration.
#[derive(Deserialize)]
struct Configuration {
    token_endpoint: String,
    #[serde(rename = "token_endpoint_auth_signing_alg_values_supported")]
    algorithms: Option<Vec<String>>,
}

/// A token endpoint, which must be as well protected as the server itself.
fn endpoint(text: &str, base: &Url) -> Result<Endpoint, String> {
    let url = Url::parse(text).map_err(|_| "is not a URL".to_owned())?;
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && base.scheme() == "http";
    if !is_safe {
        return Err("must begin with https://".to_owned());
    }
    if egress::is_forbidden_host(&url) {
        return Err("is a link-local address, where no secret may go".to_owned());
    }
    Ok(Endpoint { url, text: text.to_owned() })
}

/// RFC 7523, as SMART Backend Services has it. No `iat`: SMART asks for none, and clocks differ.
fn assertion(key: &SigningKey, client_id: &str, audience: &str) -> Option<String> {
    let mut unique = [0; 16];
    ring::default_provider().secure_random.fill(&mut unique).ok()?;
    let header = json!({ "alg": key.algorithm(), "kid": key.kid(), "typ": "JWT" });
    let claims = json!({
        "iss": client_id, "sub": client_id, "aud": audience,
        "exp": Timestamp::now().as_second() + ASSERTION_SECONDS, "jti": URL_SAFE_NO_PAD.encode(unique),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Some(format!("{signed}.{signature}"))
}

/// The token of a 200, or what is wrong with the answer.
fn token(body: &[u8], asked: Instant) -> Result<Token, &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "200 and no JSON")?;
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty()).ok_or("200 without access_token")?;
    if !answer["token_type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err("200 with a token that is no bearer token");
    }
    let header = header(&format!("Bearer {token}")).map_err(|_| "200 with a token that no header can carry")?;
    let seconds = answer["expires_in"].as_u64().or_else(|| answer["expires_in"].as_str()?.parse().ok());
    let life = seconds.map_or(LIFE_UNTOLD, |seconds| Duration::from_secs(seconds.min(86_400)));
    Ok(Token { header, fresh_until: asked + life - MARGIN_MAX.min(life / 4) })
}

async fn body(response: Response) -> Result<Vec<u8>, &'static str> {
    let read = read_body(response, ANSWER_BYTES_MAX).await;
    read.map_err(|_| "and broke off")?.ok_or("with a body that is too long")
}

fn form_value(text: &str) -> String {
    form(&[("", text.to_owned())]).trim_start_matches('=').to_owned()
}

fn told(reason: &str) -> Verdict {
    Verdict::unavailable(reason)
}

/// Nothing of the message was sent, whatever became of the login.
fn unreached(what: &str, error: &reqwest::Error) -> Verdict {
    let why = if error.is_timeout() {
        "did not answer within the timeout".to_owned()
    } else {
        format!("is not reached: {}", cause(error))
    };
    Verdict::unavailable(format!("{what} {why}"))
}
