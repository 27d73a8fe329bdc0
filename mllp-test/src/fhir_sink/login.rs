//! A token endpoint as strict as SMART Backend Services allows, with tokens that may live shortly. It checks assertions by
//! the public key alone, and remembers what was wrong with each.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Who may log in, and for how long.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// The one client there is.
    pub client_id: String,
    /// Its public keys, a JWK set.
    pub jwks: Value,
    /// Its secret, where it has one.
    pub secret: Option<String>,
    /// What it may ask for; none: anything.
    pub scopes: Vec<String>,
    /// How long a token is good.
    pub token_life: Duration,
    /// How long it says that a token is good; not given: as long as it is.
    pub told_life: Option<Duration>,
    /// Whether clients reach it by https, through a proxy.
    pub https: bool,
}

/// The token endpoint and the tokens it gave.
#[derive(Debug)]
pub struct Desk {
    config: LoginConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    jwks: Value,
    used: HashSet<String>,
    tokens: HashMap<String, Instant>,
    logins: u64,
    faults: Vec<String>,
    refusal: Option<(u16, String)>,
}

impl Desk {
    pub fn new(config: LoginConfig) -> Desk {
        let state = State { jwks: config.jwks.clone(), ..State::default() };
        Desk { config, state: Mutex::new(state) }
    }

    /// Answers every login so from now on, or as it should.
    pub fn refuse(&self, refusal: Option<(u16, String)>) {
        crate::lock(&self.state).refusal = refusal;
    }

    /// Only these keys are known from now on.
    pub fn register(&self, jwks: Value) {
        crate::lock(&self.state).jwks = jwks;
    }

    /// Every token given is void.
    pub fn revoke(&self) {
        crate::lock(&self.state).tokens.clear();
    }

    /// Logins that succeeded.
    pub fn logins(&self) -> u64 {
        crate::lock(&self.state).logins
    }

    /// What was wrong with those that did not.
    pub fn faults(&self) -> Vec<String> {
        crate::lock(&self.state).faults.clone()
    }

    /// Whether a request brings a token that is good.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let state = crate::lock(&self.state);
        token.and_then(|token| state.tokens.get(token)).is_some_and(|until| Instant::now() < *until)
    }

    /// The SMART configuration.
    pub fn configuration(&self, headers: &HeaderMap) -> Value {
        json!({
            "token_endpoint": self.endpoint(headers), "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic", "client_secret_post"],
            "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
            "capabilities": ["client-confidential-asymmetric", "permission-v2"],
        })
    }

    /// A login.
    pub fn log_in(&self, headers: &HeaderMap, form: &HashMap<String, String>) -> Response {
        if let Some((status, error)) = crate::lock(&self.state).refusal.clone() {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            return (status, json!({ "error": error, "error_description": "as told" }).to_string()).into_response();
        }
        match self.check(headers, form) {
            Ok(()) => self.give(),
            Err((error, what)) => {
                crate::lock(&self.state).faults.push(what.to_owned());
                let body = json!({ "error": error, "error_description": what });
                (StatusCode::BAD_REQUEST, body.to_string()).into_response()
            }
        }
    }

    fn give(&self) -> Response {
        let mut state = crate::lock(&self.state);
        state.logins += 1;
        let token = format!("token-{}-{:x}", state.logins, state.logins.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        state.tokens.insert(token.clone(), Instant::now() + self.config.token_life);
        let life = self.config.told_life.unwrap_or(self.config.token_life).as_secs();
        let body = json!({ "access_token": token, "token_type": "bearer", "expires_in": life, "scope": "" });
        ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    }

    fn endpoint(&self, headers: &HeaderMap) -> String {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let scheme = if self.config.https { "https" } else { "http" };
        format!("{scheme}://{host}/token")
    }

    /// What is wrong, with its OAuth error.
    fn check(&self, headers: &HeaderMap, form: &HashMap<String, String>) -> Result<(), (&'static str, &'static str)> {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return Err(("unsupported_grant_type", "grant_type"));
        }
        let known = |scope: &str| self.config.scopes.is_empty() || self.config.scopes.iter().any(|it| it == scope);
        if !field("scope").split(' ').filter(|scope| !scope.is_empty()).all(known) {
            return Err(("invalid_scope", "scope"));
        }
        if !field("client_assertion").is_empty() {
            if field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
                return Err(("invalid_request", "client_assertion_type"));
            }
            let audience = self.endpoint(headers);
            return self.check_assertion(field("client_assertion"), &audience).map_err(|what| ("invalid_client", what));
        }
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let basic = basic.and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
        let basic =
            basic.and_then(|pair| pair.split_once(':').map(|(id, secret)| [decoded(id), decoded(secret)].join(":")));
        let in_form = || format!("{}:{}", field("client_id"), field("client_secret"));
        let right = self.config.secret.as_ref().map(|secret| format!("{}:{secret}", self.config.client_id));
        if right == Some(basic.unwrap_or_else(in_form)) { Ok(()) } else { Err(("invalid_client", "secret")) }
    }

    fn check_assertion(&self, assertion: &str, audience: &str) -> Result<(), &'static str> {
        let (signed, signature) = assertion.rsplit_once('.').ok_or("no JWT")?;
        let (header, claims) = signed.split_once('.').ok_or("no JWT")?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "no base64url");
        let json = |text: &str| serde_json::from_slice::<Value>(&decode(text)?).map_err(|_| "no JSON");
        let (header, claims) = (json(header)?, json(claims)?);
        self.check_signature(&header, signed.as_bytes(), &decode(signature)?)?;
        if claims["iss"] != *self.config.client_id || claims["sub"] != claims["iss"] {
            return Err("iss or sub");
        }
        if claims["aud"] != *audience {
            return Err("aud");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !claims["exp"].as_u64().is_some_and(|exp| exp > now && exp <= now + 300) {
            return Err("exp");
        }
        let unique = claims["jti"].as_str().is_some_and(|jti| crate::lock(&self.state).used.insert(jti.to_owned()));
        if unique { Ok(()) } else { Err("jti") }
    }

    fn check_signature(&self, header: &Value, signed: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        let jwks = crate::lock(&self.state).jwks.clone();
        let keys = jwks["keys"].as_array().ok_or("no keys")?;
        let key = keys.iter().find(|key| key["kid"] == header["kid"] && key["kid"].is_string()).ok_or("kid")?;
        if header["typ"] != "JWT" || key["alg"] != header["alg"] {
            return Err("typ or alg");
        }
        let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default()).map_err(|_| "JWK");
        let verified = match header["alg"].as_str() {
            Some("RS384") => RsaPublicKeyComponents { n: number("n")?, e: number("e")? }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA384,
                signed,
                signature,
            ),
            Some("ES384") => {
                let point = [vec![4], number("x")?, number("y")?].concat();
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(signed, signature)
            }
            _ => return Err("alg"),
        };
        verified.map_err(|_| "signature")
    }
}

/// `application/x-www-form-urlencoded` (RFC 6749 section 2.3.1).
pub fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        let mut hex = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex().zip(hex()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()).unwrap_or(b'?'),
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
