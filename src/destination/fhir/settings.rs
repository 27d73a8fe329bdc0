//! What a FHIR destination is configured with, resolved. Secrets are never shown.

use std::time::Duration;

use crate::destination::Secret;

/// A FHIR server.
#[derive(Debug, Clone, PartialEq)]
pub struct FhirSettings {
    /// Base URL; http or https.
    pub url: String,
    /// Whole request, answer included.
    pub timeout: Duration,
    /// Answers are read up to this many bytes.
    pub response_bytes_max: usize,
    /// Extra headers, resolved from references.
    pub headers: Vec<(String, Secret)>,
    /// How requests are authorised.
    pub auth: FhirAuth,
    /// Certificates of the connection, and of that to the token endpoint.
    pub tls: ClientTls,
}

impl FhirSettings {
    /// The defaults: no authorisation, the system's certificate authorities.
    pub fn new(url: impl Into<String>, timeout: Duration) -> FhirSettings {
        FhirSettings {
            url: url.into(),
            timeout,
            response_bytes_max: 1 << 20,
            headers: Vec::new(),
            auth: FhirAuth::None,
            tls: ClientTls::default(),
        }
    }
}

/// How requests are authorised.
#[derive(Debug, Clone, PartialEq)]
pub enum FhirAuth {
    /// Not at all, or by `headers`.
    None,
    /// A token of a login by client credentials.
    Login(Login),
    /// HTTP Basic.
    Basic {
        /// May not hold a colon.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// A token that does not change.
    Bearer {
        /// Without the word Bearer.
        token: Secret,
    },
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// As registered.
    pub client_id: String,
    /// What proves it.
    pub proof: Proof,
    /// Asked for; none: what the client is registered for.
    pub scopes: Vec<String>,
    /// Not given: as the FHIR server's `.well-known/smart-configuration` says.
    pub token_url: Option<String>,
}

/// What proves that a client is itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Proof {
    /// SMART Backend Services: an assertion signed by its private key.
    Key {
        /// PEM.
        pem: Secret,
        /// The key's name in the registered set; not given: its RFC 7638 thumbprint.
        kid: Option<String>,
    },
    /// A secret, in the Authorization header.
    SecretInHeader(Secret),
    /// A secret, in the form.
    SecretInForm(Secret),
}

/// PEM files of TLS connections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClientTls {
    /// Trusted in place of the system's authorities.
    pub ca: Option<Secret>,
    /// The client's certificate chain, then its private key.
    pub identity: Option<Secret>,
}
