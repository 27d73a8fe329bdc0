//! What a FHIR destination is configured with, resolved. Secrets are never shown.

use std::{sync::Arc, time::Duration};

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
    /// How resources are written.
    pub write: Arc<WriteSettings>,
    /// Bound on requests.
    pub rate: Rate,
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
            write: Arc::default(),
            rate: Rate::default(),
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

/// How resources are written. The default needs a server that has transactions, conditional create and conditional references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteSettings {
    /// What makes a repeat harmless.
    pub idempotency: Idempotency,
    /// What one request holds.
    pub bundle: BundleMode,
    /// Messages of one lane in one transaction at most.
    pub messages_per_bundle: usize,
    /// How the patient is named.
    pub patient: PatientMode,
    /// How searches are sent.
    pub search: SearchMethod,
    /// How an observation that may have been taken is searched for, with [`Idempotency::None`].
    pub repeat_search: RepeatSearch,
    /// How long what a search found is believed.
    pub cache_ttl: Duration,
    /// What is written beside observations.
    pub beside: Vec<Beside>,
}

/// A kind of resource that is written beside observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Its name in FHIR.
    pub kind: &'static str,
    /// What is there is replaced.
    pub updates: bool,
    /// The setting under which none is written.
    pub without: &'static str,
}

impl Default for WriteSettings {
    fn default() -> WriteSettings {
        WriteSettings {
            idempotency: Idempotency::IfNoneExist,
            bundle: BundleMode::Transaction,
            messages_per_bundle: 1,
            patient: PatientMode::Reference,
            search: SearchMethod::Post,
            repeat_search: RepeatSearch::Identifier,
            cache_ttl: Duration::from_secs(600),
            beside: Vec::new(),
        }
    }
}

impl WriteSettings {
    /// The keys of `[destination.fhir]` it is made of, as they would be written.
    pub fn choices(&self) -> Vec<(&'static str, String)> {
        let idempotency = match self.idempotency {
            Idempotency::IfNoneExist => "if-none-exist",
            Idempotency::PutId => "put-id",
            Idempotency::None => "none",
        };
        let bundle = match self.bundle {
            BundleMode::Transaction => "transaction",
            BundleMode::Batch => "batch",
            BundleMode::Single => "single",
        };
        let patient = match self.patient {
            PatientMode::Reference => "reference",
            PatientMode::Lookup => "lookup",
            PatientMode::ConditionalCreate => "conditional-create",
        };
        let search = if self.search == SearchMethod::Post { "post" } else { "get" };
        let repeat_search = if self.repeat_search == RepeatSearch::Identifier { "identifier" } else { "content" };
        vec![
            ("idempotency", idempotency.to_owned()),
            ("bundle", bundle.to_owned()),
            ("messages_per_bundle", self.messages_per_bundle.to_string()),
            ("patient", patient.to_owned()),
            ("search", search.to_owned()),
            ("repeat_search", repeat_search.to_owned()),
            ("cache", format!("{}s", self.cache_ttl.as_secs())),
        ]
    }
}

/// What makes a repeat harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Conditional create.
    IfNoneExist,
    /// An id made of the resource's identity, and update-as-create.
    PutId,
    /// Nothing at the server: what may have been taken is searched for first.
    None,
}

/// What one request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleMode {
    /// The whole message, all or nothing.
    Transaction,
    /// What does not refer to each other, each taken or refused by itself.
    Batch,
    /// One resource.
    Single,
}

/// How the patient is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatientMode {
    /// A conditional reference, which the server resolves.
    Reference,
    /// Searched for, then named by its id.
    Lookup,
    /// Created where the server has none.
    ConditionalCreate,
}

/// How searches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchMethod {
    /// `POST [type]/_search`: identifiers stay out of the URL.
    Post,
    /// `GET [type]?…`, for servers that take nothing else.
    Get,
}

/// What tells that the server has an observation already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatSearch {
    /// Its identifier.
    Identifier,
    /// Its patient, code, time and value.
    Content,
}

/// Bound on requests of all lanes together; none where not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests begun in a second, and at once after a pause.
    pub per_second: Option<u32>,
    /// Requests without an answer.
    pub concurrent: Option<u32>,
}
