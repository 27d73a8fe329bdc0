//! Certificates for tests: an authority, and what it vouches for.
#![allow(clippy::unwrap_used)]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::{Acceptor, Identity};

/// A certificate and its key in PEM form.
#[derive(Clone)]
pub(crate) struct Certified {
    pub cert: String,
    pub key: String,
}

/// An authority of a test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Ward authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// For the DNS name or address.
    pub fn certify(&self, name: &str) -> Certified {
        self.certify_until(name, 4000)
    }

    /// The same, good until the begin of the year.
    pub fn certify_until(&self, name: &str, year: i32) -> Certified {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name);
        params.not_after = date_time_ymd(year, 1, 1);
        Certified { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A listener with a certificate for 127.0.0.1; peers must show one of `clients`, where it is given.
    pub fn acceptor(&self, clients: Option<&Authority>, allowed: &[&str]) -> Acceptor {
        let own = self.certify("127.0.0.1");
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let client_ca = clients.map(|clients| &*clients.pem);
        let (cert, key) = (&*own.cert, &*own.key);
        Acceptor::new(&Identity { cert, key, client_ca, allowed_clients: &allowed, senders: &[] }).unwrap()
    }
}

/// Vouched for by nobody else.
pub(crate) fn self_signed(name: &str) -> Certified {
    let key = KeyPair::generate().unwrap();
    Certified { cert: params(name).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("CN of {name}"));
    params
}
