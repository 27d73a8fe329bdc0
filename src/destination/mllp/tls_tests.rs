//! Receivers that prove themselves, and ask the engine to.
#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mllp_test::{Sink, SinkConfig};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::tests::{BOUND, outgoing};
use crate::{
    destination::{Destination, MllpSettings, Sender, Verdict, mllp::Mllp},
    mllp::{
        client::{Client, ExchangeError},
        tls::{
            Connector,
            authority::{Authority, Certified, self_signed},
        },
    },
};

/// Ends TLS before a sink; callers must have a certificate of `clients`, where that is given.
struct Receiver {
    sink: Sink,
    address: SocketAddr,
    /// Ends every connection when it changes.
    cut: watch::Sender<()>,
    /// Handshakes that succeeded.
    connections: Arc<AtomicU64>,
}

impl Receiver {
    async fn new(own: &Certified, clients: Option<&Authority>, version: &'static SupportedProtocolVersion) -> Receiver {
        let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(der(&clients.pem)).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![der(&own.cert)], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), sink.address());
        let (cut, cuts) = watch::channel(());
        let connections = Arc::new(AtomicU64::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, mut cuts, counted) = (acceptor.clone(), cuts.clone(), counted.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut inside) = acceptor.accept(stream).await else { return };
                    counted.fetch_add(1, Ordering::SeqCst);
                    let mut outside = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
                        _ = cuts.changed() => drop(inside.shutdown().await),
                    }
                });
            }
        });
        Receiver { sink, address, cut, connections }
    }

    fn sender(&self, tls: Connector) -> Box<dyn Sender> {
        Mllp::new(MllpSettings {
            address: self.address.to_string(),
            timeout: BOUND,
            awaits_application: false,
            tls: Some(tls),
        })
        .sender(0)
    }
}

fn trusting(ca: &Authority, name: &str) -> Connector {
    Connector::new(name, Some(&ca.pem), None).unwrap()
}

/// Messages the sink took; these have no identity that it knows.
fn taken(sink: &Sink) -> u64 {
    sink.account().unnamed
}

async fn send(sender: &mut Box<dyn Sender>, id: u64) -> Verdict {
    tokio::time::timeout(BOUND, sender.send(&outgoing(id))).await.unwrap()
}

fn reason(verdict: Verdict) -> String {
    let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
    reason
}

#[tokio::test]
async fn messages_go_over_one_connection_and_one_that_the_receiver_ended_costs_no_doubt() {
    let ca = Authority::new();
    for version in [&TLS12, &TLS13] {
        let receiver = Receiver::new(&ca.certify("127.0.0.1"), None, version).await;
        let mut sender = receiver.sender(trusting(&ca, "127.0.0.1"));
        for id in 1..=3 {
            assert!(matches!(send(&mut sender, id).await, Verdict::Accepted { .. }), "{version:?} {id}");
        }
        assert_eq!(receiver.connections.load(Ordering::SeqCst), 1);
        receiver.cut.send(()).unwrap();
        let ended = async {
            while receiver.cut.receiver_count() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(BOUND, ended).await.unwrap();
        assert!(matches!(send(&mut sender, 4).await, Verdict::Accepted { .. }), "{version:?} after its end");
        assert_eq!(taken(&receiver.sink), 4);
        assert_eq!(receiver.connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_prove_itself_gets_nothing_and_the_reason_says_who_must_act() {
    let (ours, other) = (Authority::new(), Authority::new());
    for version in [&TLS12, &TLS13] {
        for (own, name, told) in [
            (other.certify("127.0.0.1"), "127.0.0.1", "set `tls.ca` to the authority"),
            (self_signed("127.0.0.1"), "127.0.0.1", "the receiver's certificate is refused"),
            (ours.certify_until("127.0.0.1", 2020), "127.0.0.1", "it has expired: who runs the receiver must renew it"),
            (ours.certify("ehr.example"), "127.0.0.1", "set `tls.server_name`"),
            (ours.certify("127.0.0.1"), "ehr.example", "set `tls.server_name`"),
        ] {
            let receiver = Receiver::new(&own, None, version).await;
            let reason = reason(send(&mut receiver.sender(trusting(&ours, name)), 1).await);
            assert!(reason.contains(told), "{reason}");
            assert_eq!(taken(&receiver.sink), 0);
        }
        let receiver = Receiver::new(&ours.certify("ehr.example"), None, version).await;
        let verdict = send(&mut receiver.sender(trusting(&ours, "ehr.example")), 1).await;
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }
    let plain = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let settings = MllpSettings {
        address: plain.address().to_string(),
        timeout: Duration::from_secs(2),
        awaits_application: false,
        tls: Some(trusting(&ours, "127.0.0.1")),
    };
    let reason = reason(send(&mut Mllp::new(settings).sender(0), 1).await);
    assert!(reason.contains("TLS"), "{reason}");
    assert_eq!(taken(&plain), 0);
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_gets_the_message_with_the_right_one_only() {
    let (ours, clients) = (Authority::new(), Authority::new());
    for version in [&TLS12, &TLS13] {
        let receiver = Receiver::new(&ours.certify("127.0.0.1"), Some(&clients), version).await;
        let showing = |own: &Certified| {
            let pem = format!("{}\n{}\n", own.cert, own.key);
            Connector::new("127.0.0.1", Some(&ours.pem), Some(&pem)).unwrap()
        };
        for tls in [trusting(&ours, "127.0.0.1"), showing(&ours.certify("cannula")), showing(&self_signed("cannula"))] {
            let reason = reason(send(&mut receiver.sender(tls), 1).await);
            assert!(reason.contains("check `tls.cert` with who runs it"), "{version:?}: {reason}");
        }
        assert_eq!(taken(&receiver.sink), 0);
        // Told before anything was sent.
        if *version == TLS13 {
            let address = receiver.address.to_string();
            let mut client = Client::connect(&address, Some(&trusting(&ours, "127.0.0.1")), BOUND).await.unwrap();
            let told = async {
                while !client.is_closed() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(BOUND, told).await.unwrap();
            let Err(ExchangeError::NotSent(reason)) = client.exchange(b"MSH|", b"1", BOUND).await else {
                panic!("sent")
            };
            assert!(reason.contains("check `tls.cert`"), "{reason}");
        }
        let verdict = send(&mut receiver.sender(showing(&clients.certify("cannula"))), 1).await;
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }
}
