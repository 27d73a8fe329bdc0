#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use mllp_test::{FhirSink, FhirSinkConfig, fhir_sink::LoginConfig};
use serde_json::json;
use tokio::time::timeout;

use super::super::{Fhir, FhirAuth, FhirSettings, Login, Proof, SigningKey};
use crate::{
    destination::{Destination, Meter, Outgoing, Secret, Verdict},
    translate::Format,
};

const BOUND: Duration = Duration::from_secs(30);
const RSA: &str = include_str!("../../../../tests/keys/rsa-2048.pem");

fn p384() -> String {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem()
}

fn secret(text: &str) -> Secret {
    Secret(text.into())
}

fn by_key(pem: &str) -> Proof {
    Proof::Key { pem: secret(pem), kid: None }
}

fn login(proof: Proof) -> Login {
    let scopes = vec!["system/Observation.cu".to_owned(), "system/Device.cu".to_owned()];
    Login { client_id: "pump-gateway".into(), proof, scopes, token_url: None }
}

/// A desk that knows the client by this key.
fn desk(pem: &str) -> LoginConfig {
    LoginConfig {
        client_id: "pump-gateway".into(),
        jwks: json!({ "keys": [SigningKey::read(pem, None).unwrap().jwk()] }),
        secret: Some("hunter2:%+ä".into()),
        scopes: vec!["system/Observation.cu".into(), "system/Device.cu".into()],
        token_life: Duration::from_secs(300),
        told_life: None,
        https: false,
    }
}

async fn sink(login: LoginConfig) -> FhirSink {
    let config = FhirSinkConfig { login: Some(login), ..FhirSinkConfig::default() };
    FhirSink::start("127.0.0.1:0", config).await.unwrap()
}

fn fhir(sink: &FhirSink, login: Login) -> Fhir {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = FhirSettings { auth: FhirAuth::Login(login), ..FhirSettings::new(sink.url(), BOUND) };
    Fhir::new(&settings, &Meter::detached()).unwrap()
}

fn outgoing(id: u64) -> Outgoing {
    let bundle = json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": [{ "resource": { "resourceType": "Observation" }, "request": {
            "method": "POST", "url": "Observation", "ifNoneExist": format!("identifier=urn:x%7C{id}") } }],
    });
    Outgoing {
        id,
        body: Bytes::from(bundle.to_string()),
        format: Format::FhirBundle,
        control_id: Bytes::new(),
        possible_repeat: false,
    }
}

async fn send(fhir: &Fhir, id: u64) -> Verdict {
    timeout(BOUND, fhir.sender(0).send(&outgoing(id))).await.unwrap()
}

fn accepted() -> Verdict {
    Verdict::Accepted { answer: "200".into() }
}

/// Why nothing was sent. Never a dead letter, and never a secret in it.
fn reason(verdict: Verdict) -> String {
    let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert!(!reason.contains("hunter2") && !reason.contains("token-") && !reason.contains("as told"), "{reason}");
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_by_key_serves_all_lanes() {
    for pem in [RSA, &p384()] {
        let sink = sink(desk(pem)).await;
        let fhir = fhir(&sink, login(by_key(pem)));
        let verdicts = futures_util::future::join_all((0..8).map(|id| send(&fhir, id))).await;
        assert_eq!(verdicts, vec![accepted(); 8], "{:?}", sink.login_faults());
        assert_eq!((sink.logins(), sink.login_faults()), (1, vec![]));
    }
}

#[tokio::test]
async fn a_named_key_is_registered_and_asked_for_by_its_name() {
    let proof = Proof::Key { pem: secret(RSA), kid: Some("2026-01".into()) };
    let jwks = json!({ "keys": [SigningKey::read(RSA, Some("2026-01")).unwrap().jwk()] });
    let sink = sink(LoginConfig { jwks, ..desk(RSA) }).await;
    assert_eq!(send(&fhir(&sink, login(proof)), 1).await, accepted(), "{:?}", sink.login_faults());
    // The same key by its own name is not registered there.
    let refused = reason(send(&fhir(&sink, login(by_key(RSA))), 2).await);
    assert!(refused.contains("400 invalid_client") && refused.contains("cannula jwks"), "{refused}");
    assert_eq!(sink.login_faults(), ["kid"]);
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_renewed_and_the_message_sent_once_more() {
    let sink = sink(desk(RSA)).await;
    let fhir = fhir(&sink, login(by_key(RSA)));
    assert_eq!(send(&fhir, 1).await, accepted());
    sink.revoke_tokens();
    assert_eq!(send(&fhir, 2).await, accepted());
    assert_eq!(send(&fhir, 3).await, accepted());
    assert_eq!(sink.logins(), 2);
}

#[tokio::test]
async fn tokens_that_are_never_good_leave_the_message_waiting_after_one_more_try() {
    let told_life = Some(Duration::from_secs(300));
    let sink = sink(LoginConfig { token_life: Duration::ZERO, told_life, ..desk(RSA) }).await;
    let refused = reason(send(&fhir(&sink, login(by_key(RSA))), 1).await);
    assert!(refused.starts_with("401: "), "{refused}");
    assert_eq!(sink.logins(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_before_the_time_it_is_said_to_end() {
    let told_life = Some(Duration::from_secs(2));
    let sink = sink(LoginConfig { told_life, ..desk(RSA) }).await;
    let fhir = fhir(&sink, login(by_key(RSA)));
    let begun = Instant::now();
    let mut id = 0;
    while sink.logins() < 2 {
        assert!(begun.elapsed() < BOUND, "never renewed");
        assert_eq!(send(&fhir, id).await, accepted());
        id += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(1400), "renewed after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_login_that_fails_says_who_must_act_and_costs_no_message() {
    let sink = sink(desk(RSA)).await;
    for (status, error, told) in [
        (400, "invalid_client", "the EHR's administrator register client_id"),
        (401, "invalid_client", "cannula jwks"),
        (400, "invalid_scope", "auth.scopes"),
        (400, "unauthorized_client", "allow client credentials"),
        (400, "unsupported_grant_type", "auth.token_url"),
        (400, "something else", "answered 400: check auth.token_url"),
        (503, "temporarily_unavailable", "answered 503: the login waits"),
    ] {
        sink.refuse_logins(Some((status, error)));
        let reason = reason(send(&fhir(&sink, login(by_key(RSA))), 1).await);
        assert!(reason.contains(told) && !reason.contains("something"), "{reason}");
    }
    sink.refuse_logins(None);
    assert_eq!((sink.account().received, sink.account().refused), (0, 0), "nothing was sent without a token");
    assert_eq!(send(&fhir(&sink, login(by_key(RSA))), 1).await, accepted());
}

#[tokio::test]
async fn lanes_that_waited_for_a_failed_login_do_not_each_repeat_it_and_a_later_one_succeeds() {
    let key = p384();
    // Registered is another key.
    let sink = sink(desk(RSA)).await;
    let stranger = fhir(&sink, login(by_key(&key)));
    let verdicts = futures_util::future::join_all((0..8).map(|id| send(&stranger, id))).await;
    verdicts.into_iter().for_each(|verdict| assert!(reason(verdict).contains("invalid_client")));
    assert_eq!(sink.login_faults(), ["kid"]);
    sink.refuse_logins(Some((503, "")));
    let fhir = fhir(&sink, login(by_key(RSA)));
    reason(send(&fhir, 1).await);
    sink.refuse_logins(None);
    let begun = Instant::now();
    while send(&fhir, 1).await != accepted() {
        assert!(begun.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_scope_that_was_not_granted_and_a_key_that_is_not_registered_are_told_apart() {
    let sink = sink(LoginConfig { scopes: vec!["system/Observation.r".into()], ..desk(RSA) }).await;
    let refused = reason(send(&fhir(&sink, login(by_key(RSA))), 1).await);
    assert!(refused.contains("invalid_scope") && refused.contains("grant them"), "{refused}");
    // The right name, and another key behind it.
    let sink = self::sink(desk(RSA)).await;
    let proof = Proof::Key { pem: secret(&p384()), kid: Some(SigningKey::read(RSA, None).unwrap().kid().to_owned()) };
    let refused = reason(send(&fhir(&sink, login(proof)), 1).await);
    assert!(refused.contains("invalid_client"), "{refused}");
    assert_eq!(sink.login_faults(), ["typ or alg"]);
}

#[tokio::test]
async fn a_login_by_secret_works_in_the_header_and_in_the_form() {
    let sink = sink(desk(RSA)).await;
    let url = format!("http://{}/token", sink.address());
    let in_form = Login { token_url: Some(url), ..login(Proof::SecretInForm(secret("hunter2:%+ä"))) };
    assert_eq!(send(&fhir(&sink, in_form), 1).await, accepted(), "{:?}", sink.login_faults());
    let in_header = Proof::SecretInHeader(secret("hunter2:%+ä"));
    assert_eq!(send(&fhir(&sink, login(in_header)), 2).await, accepted(), "{:?}", sink.login_faults());
    let wrong = reason(send(&fhir(&sink, login(Proof::SecretInHeader(secret("hunter2")))), 3).await);
    assert!(wrong.contains("check client_id and secret"), "{wrong}");
}

#[tokio::test]
async fn a_login_that_cannot_be_discovered_or_reached_waits_and_names_the_remedy() {
    let open = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let refused = reason(send(&fhir(&open, login(by_key(RSA))), 1).await);
    assert!(refused.contains("smart-configuration answered 404: set auth.token_url"), "{refused}");
    let sink = sink(desk(RSA)).await;
    let elsewhere = Login { token_url: Some("http://127.0.0.1:1/token".into()), ..login(by_key(RSA)) };
    let refused = reason(send(&fhir(&sink, elsewhere), 1).await);
    assert!(refused.contains("the token endpoint is not reached: Connection refused"), "{refused}");
    assert_eq!(open.received(), 0);
}

#[test]
fn a_token_url_where_no_secret_may_go_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (base, token_url) in [
        ("https://ehr.example/fhir", "http://ehr.example/token"),
        ("http://127.0.0.1/fhir", "http://169.254.169.254/token"),
        ("http://127.0.0.1/fhir", "ftp://ehr.example/token"),
    ] {
        let login = Login { token_url: Some(token_url.into()), ..login(by_key(RSA)) };
        let settings = FhirSettings { auth: FhirAuth::Login(login), ..FhirSettings::new(base, BOUND) };
        assert!(Fhir::new(&settings, &Meter::detached()).err().unwrap().starts_with("auth.token_url"), "{token_url}");
    }
}
