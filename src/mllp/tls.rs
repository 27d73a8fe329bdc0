//! TLS under MLLP: the one place that knows rustls for it. A listener proves itself and, where it has a `client_ca`, its
//! peers (IHE ATNA ITI-19 over TLS 1.2 and 1.3, BCP 195); a caller proves its receiver.
//!
//! What must never happen: a peer that did not prove itself gets a message in; a private key or content of a certificate
//! in a fault or a log. No session is resumed, so each connection is proved by the certificates in force.

mod accept;
#[cfg(test)]
pub(crate) mod authority;
mod certificate;
mod connect;
mod refused;

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

pub use accept::{Acceptor, Identity};
pub use connect::Connector;
pub(super) use connect::{Secured, refusal_of_ours, throw_away};
pub(super) use refused::Refused;

/// What in the files cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key that names the file.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Fault {
    fn new(key: &'static str, what: impl Into<String>, remedy: &'static str) -> Fault {
        Fault { key, what: what.into(), remedy }
    }
}

const ISSUE_AGAIN: &str = "have it issued again, in PEM form";
const WITH_ITS_KEY: &str = "give a certificate and the unencrypted key it was made for, both in PEM form";

/// The last moment of the certificates in a PEM file: of the one that ends first.
pub fn not_after(pem: &str) -> Option<Timestamp> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
    certificates.filter_map(|der| certificate::read(&der)).map(|facts| facts.not_after).min()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A chain of certificates, the peer's own first.
fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(Fault::new("cert", "the file holds no certificate in PEM form", WITH_ITS_KEY)),
    }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Fault::new("key", "the file holds no unencrypted private key in PEM form", WITH_ITS_KEY))
}

/// The authorities of a file, named by `key`.
fn authorities(key: &'static str, pem: &str) -> Result<RootCertStore, Fault> {
    let give = "give the authority's certificates as it published them, in PEM form";
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| Fault::new(key, "a certificate in the file cannot be read", give))?;
        roots
            .add(certificate)
            .map_err(|error| Fault::new(key, format!("an authority cannot be used: {error}"), give))?;
    }
    if roots.is_empty() {
        return Err(Fault::new(key, "the file holds no certificate in PEM form", give));
    }
    Ok(roots)
}

/// What a certificate and its key are refused for.
fn unusable(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            Fault::new("key", "it is not the private key of `cert`", "give a certificate and the key it was made for")
        }
        rustls::Error::InvalidCertificate(_) => {
            Fault::new("cert", format!("the certificate cannot be used: {error}"), ISSUE_AGAIN)
        }
        _ => Fault::new("key", format!("the certificate and its key cannot be used: {error}"), WITH_ITS_KEY),
    }
}

/// Of all that decides a connection, so that a reload can tell whether anything has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of<'p>(parts: impl IntoIterator<Item = Option<&'p str>>) -> Fingerprint {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.map_or(0, |part| part.len() as u64 + 1).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        Fingerprint(hash.finalize().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}
