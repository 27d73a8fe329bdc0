//! HTTPS with an authority of the site's own, and certificates for clients.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use mllp_test::{FhirSink, FhirSinkConfig, fhir_sink::LoginConfig};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    destination::{Meter, Secret},
    mllp::tls::authority::{Authority, Certified},
};

const BOUND: Duration = Duration::from_secs(20);
const RSA: &str = include_str!("../../../tests/keys/rsa-2048.pem");

fn identity_by(authority: &Authority) -> Option<Secret> {
    let Certified { cert, key } = authority.certify("pump-gateway");
    Some(Secret(format!("{cert}\n{key}").into()))
}

fn ca_of(authority: &Authority) -> Option<Secret> {
    Some(Secret(authority.pem.as_str().into()))
}

/// Ends TLS before `to`, as a reverse proxy does; clients must have a certificate of `clients`.
async fn proxy(to: SocketAddr, Certified { cert, key }: Certified, clients: Option<&Authority>) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(der(&authority.pem)).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![der(&cert)], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    address
}

async fn send(settings: &FhirSettings) -> Verdict {
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [{
        "resource": { "resourceType": "Observation" }, "request": { "method": "POST", "url": "Observation" } }] });
    let outgoing = Outgoing {
        id: 1,
        body: Bytes::from(bundle.to_string()),
        format: Format::FhirBundle,
        control_id: Bytes::new(),
        possible_repeat: false,
    };
    let mut sender = Fhir::new(settings, &Meter::detached()).unwrap().sender(0);
    tokio::time::timeout(BOUND, sender.send(&outgoing)).await.unwrap()
}

fn settings(address: SocketAddr, tls: ClientTls) -> FhirSettings {
    FhirSettings { tls, ..FhirSettings::new(format!("https://{address}/fhir"), BOUND) }
}

fn reason(verdict: Verdict) -> String {
    let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
    reason
}

#[tokio::test]
async fn only_a_server_of_the_sites_own_authority_gets_the_message() {
    let sink = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = || ClientTls { ca: ca_of(&ours), identity: None };
    let right = proxy(sink.address(), ours.certify("127.0.0.1"), None).await;
    assert!(matches!(send(&settings(right, ca())).await, Verdict::Accepted { .. }));
    for certificate in [other.certify("127.0.0.1"), ours.certify("ehr.example")] {
        let wrong = proxy(sink.address(), certificate, None).await;
        let reason = reason(send(&settings(wrong, ca())).await);
        assert!(reason.starts_with("cannot connect: invalid peer certificate"), "{reason}");
    }
    assert_eq!(sink.account().unnamed, 1, "one message came through");
}

#[tokio::test]
async fn a_client_shows_its_certificate_to_the_server_and_to_the_token_endpoint() {
    let jwks = json!({ "keys": [SigningKey::read(RSA, None).unwrap().jwk()] });
    let login = LoginConfig {
        client_id: "pump-gateway".into(),
        jwks,
        secret: None,
        scopes: vec![],
        token_life: Duration::from_secs(300),
        told_life: None,
        https: true,
    };
    let config = FhirSinkConfig { login: Some(login), ..FhirSinkConfig::default() };
    let sink = FhirSink::start("127.0.0.1:0", config).await.unwrap();
    let ours = Authority::new();
    let address = proxy(sink.address(), ours.certify("127.0.0.1"), Some(&ours)).await;
    let login = Login {
        client_id: "pump-gateway".into(),
        proof: Proof::Key { pem: Secret(RSA.into()), kid: None },
        scopes: vec![],
        token_url: None,
    };
    let with = |identity| FhirSettings {
        auth: FhirAuth::Login(login.clone()),
        ..settings(address, ClientTls { ca: ca_of(&ours), identity })
    };
    let verdict = send(&with(identity_by(&ours))).await;
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?} {:?}", sink.login_faults());
    for identity in [None, identity_by(&Authority::new())] {
        // No login: the refusal is the server's own.
        let settings = FhirSettings { auth: FhirAuth::None, ..with(identity.clone()) };
        let refused = reason(send(&settings).await);
        assert!(refused.contains("check tls.cert") || refused.contains("cannot connect"), "{refused}");
        reason(send(&with(identity)).await);
    }
    assert_eq!((sink.logins(), sink.account().unnamed), (1, 1));
}

#[test]
fn certificates_that_cannot_work_are_refused_and_not_shown() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = Authority::new();
    let (certificate, key) = (ours.certify("a").cert, ours.certify("b").key);
    let text = |text: &str| Some(Secret(text.into()));
    let mut faults = Vec::new();
    for (ca, identity) in [
        (text("hunter2"), None),
        (text("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----"), None),
        (ca_of(&ours), text("hunter2")),
        (ca_of(&ours), text(&certificate)),
        (ca_of(&ours), text(&format!("{certificate}\n{key}"))),
    ] {
        let settings =
            FhirSettings { tls: ClientTls { ca, identity }, ..FhirSettings::new("https://ehr.example/fhir", BOUND) };
        let fault = Fhir::new(&settings, &Meter::detached()).err().expect("refused");
        assert!(fault.starts_with("tls."), "it is the site's own: {fault}");
        faults.push(fault.clone());
        assert!(!fault.contains("hunter2") && !fault.contains("BEGIN"), "{fault}");
    }
    assert!(faults.last().unwrap().starts_with("tls.key is not the private key of tls.cert: "), "{faults:?}");
}
