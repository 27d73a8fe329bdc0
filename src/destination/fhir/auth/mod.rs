//! Who the engine is to a FHIR server: nobody, a fixed word, or a client that logs in for tokens.
//!
//! What must never happen: a secret, a key, an assertion or a token in a log, a reason or a URL; a dead letter because a
//! login failed. A failed login is nobody's message's fault, so each is `Unavailable`.

mod key;
#[cfg(test)]
mod tests;
mod token;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, Url, header::HeaderValue};

use super::super::Verdict;
use super::settings::FhirAuth;
use crate::destination::Meter;
pub use key::SigningKey;
use token::Tokens;

/// Makes Authorization headers; shared by the lanes.
pub(super) enum Authority {
    /// None.
    Nobody,
    /// The same for every request.
    Fixed(HeaderValue),
    /// By a login.
    Tokens(Box<Tokens>),
}

impl Authority {
    /// `client` is for the token endpoint alone. The error names what in the settings cannot work.
    pub(super) fn new(auth: &FhirAuth, client: Client, base: &Url, meter: &Meter) -> Result<Authority, String> {
        Ok(match auth {
            FhirAuth::None => Authority::Nobody,
            FhirAuth::Basic { user, password } => {
                Authority::Fixed(header(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.0))))?)
            }
            FhirAuth::Bearer { token } => Authority::Fixed(header(&format!("Bearer {}", token.0))?),
            FhirAuth::Login(login) => Authority::Tokens(Box::new(Tokens::new(login, client, base, meter)?)),
        })
    }

    /// The Authorization header, after a login where one is due; a login that failed is the request's verdict.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, Verdict> {
        match self {
            Authority::Nobody => Ok(None),
            Authority::Fixed(header) => Ok(Some(header.clone())),
            Authority::Tokens(tokens) => tokens.header().await.map(Some),
        }
    }

    /// The server refused this header (401): whether the next one may be another.
    pub(super) async fn refused(&self, header: &HeaderValue) -> bool {
        match self {
            Authority::Nobody | Authority::Fixed(_) => false,
            Authority::Tokens(tokens) => {
                tokens.forget(header).await;
                true
            }
        }
    }
}

fn header(text: &str) -> Result<HeaderValue, String> {
    let mut header = HeaderValue::try_from(text)
        .map_err(|_| "auth has characters a header cannot carry: mend what it refers to".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}
