//! The same promises over TLS, and who is not let in.

use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::mllp::tls::authority::{Authority, Certified, self_signed};

type Peer = TlsStream<TcpStream>;

fn bench(limits: Limits, at_once: bool, tls: Acceptor) -> Bench {
    Bench::with(limits, at_once, 1024, Some(tls))
}

/// A gateway that trusts `ca` and shows `own`.
fn gateway(ca: &Authority, own: Option<&Certified>, version: &'static SupportedProtocolVersion) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(Certified { cert, key }) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    TlsConnector::from(Arc::new(config))
}

async fn call(bench: &Bench, gateway: &TlsConnector) -> std::io::Result<Peer> {
    call_as(bench, gateway, "127.0.0.1").await
}

async fn call_as(bench: &Bench, gateway: &TlsConnector, name: &'static str) -> std::io::Result<Peer> {
    gateway.connect(ServerName::try_from(name).unwrap(), bench.connect().await).await
}

async fn called(bench: &Bench, ca: &Authority) -> Peer {
    call(bench, &gateway(ca, None, &TLS13)).await.unwrap()
}

impl Bench {
    fn refused(&self, reason: &str) -> u64 {
        self.metrics.tls_handshake_failures.with_label_values(&["ward", reason]).get()
    }

    /// Waits for one handshake that failed for this reason, and for its connection's end.
    async fn refuses(&self, reason: &str, times: u64) {
        let waiting = async {
            while self.refused(reason) < times || self.server.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(BOUND, waiting).await.is_err() {
            panic!("not refused for {reason}: {}", self.metrics.text().unwrap());
        }
    }
}

#[tokio::test]
async fn frames_are_answered_over_tls_1_2_and_1_3_in_order_and_the_end_is_told() {
    let ca = Authority::new();
    for version in [&TLS12, &TLS13] {
        let mut bench = bench(limits(), false, ca.acceptor(None, &[]));
        let gateway = gateway(&ca, None, version);
        let mut peer = call(&bench, &gateway).await.unwrap();
        peer.write_all(&[framed(b"one"), framed(b"two"), framed(b"three")].concat()).await.unwrap();
        let mut taken = vec![bench.taken().await, bench.taken().await, bench.taken().await];
        while let Some((content, release)) = taken.pop() {
            release.send(echo(&content)).unwrap();
        }
        assert_eq!(answers(&mut peer, 3).await, [&b"one"[..], b"two", b"three"]);
        // Half of the connection ends, and what was sent before is answered.
        send(&mut peer, b"last").await;
        peer.shutdown().await.unwrap();
        let (content, release) = bench.taken().await;
        release.send(echo(&content)).unwrap();
        assert_eq!(answers(&mut peer, 1).await, [b"last"], "{version:?}");
        // Without close_notify this is an error.
        assert_eq!(peer.read(&mut [0; 16]).await.unwrap(), 0);
        let again = call(&bench, &gateway).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "no session is resumed");
    }
}

#[tokio::test]
async fn large_frames_pass_in_pieces_of_any_size() {
    let ca = Authority::new();
    let bench = bench(limits(), true, ca.acceptor(None, &[]));
    let mut peer = called(&bench, &ca).await;
    let content: Vec<u8> = (0..99_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    for piece in [1_000, 4_096, 16_385, 99_003] {
        for part in framed(&content).chunks(piece) {
            peer.write_all(part).await.unwrap();
            peer.flush().await.unwrap();
        }
        assert!(answers(&mut peer, 1).await == [content.clone()], "in pieces of {piece}");
    }
}

#[tokio::test]
async fn a_connection_cut_amid_a_frame_is_as_one_without_tls() {
    let ca = Authority::new();
    let mut bench = bench(limits(), false, ca.acceptor(None, &[]));
    let mut peer = called(&bench, &ca).await;
    peer.write_all(&[framed(b"whole"), b"\x0bMSH|^~\\&|begun".to_vec()].concat()).await.unwrap();
    peer.flush().await.unwrap();
    let (content, release) = bench.taken().await;
    assert_eq!(content, &b"whole"[..]);
    // FIN without close_notify.
    let (stream, session) = peer.get_mut();
    socket2::SockRef::from(&*stream).shutdown(std::net::Shutdown::Write).unwrap();
    assert!(!session.wants_write());
    release.send(echo(&content)).unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"whole"]);
    assert_eq!(ended(&mut peer).await, b"");
    bench.refuses("none", 0).await;
    assert_eq!(bench.bad("truncated"), 1);
    assert!(bench.taken.try_recv().is_err(), "half a frame was taken");
}

#[tokio::test]
async fn only_peers_with_a_certificate_of_the_authority_and_a_name_that_is_allowed_are_let_in() {
    let (ours, clients, other) = (Authority::new(), Authority::new(), Authority::new());
    let good = clients.certify("pumps.ward.example");
    let mut bench = bench(limits(), true, ours.acceptor(Some(&clients), &["pumps.ward.example", "CN of cgm"]));
    let bad = [
        (None, "no_certificate"),
        (Some(other.certify("pumps.ward.example")), "unknown_authority"),
        (Some(self_signed("pumps.ward.example")), "unknown_authority"),
        (Some(clients.certify_until("pumps.ward.example", 2020)), "expired"),
        (Some(clients.certify("ward.example")), "not_allowed"),
        (Some(clients.certify("x.pumps.ward.example")), "not_allowed"),
    ];
    for (times, version) in [(1, &TLS12), (2, &TLS13)] {
        for (certificate, reason) in &bad {
            let before = bench.refused(reason);
            // TLS 1.3 tells a client that it is refused only when it reads.
            if let Ok(mut peer) = call(&bench, &gateway(&ours, certificate.as_ref(), version)).await {
                let _ = peer.write_all(&framed(b"let me in")).await;
                let told = peer.read(&mut [0; 16]).await.expect_err("an alert");
                assert!(told.get_ref().is_some_and(|told| told.is::<rustls::Error>()), "{reason}: {told:?}");
            }
            bench.refuses(reason, before + 1).await;
        }
        for name in ["pumps.ward.example", "cgm"] {
            let own = clients.certify(name);
            let mut peer = call(&bench, &gateway(&ours, Some(&own), version)).await.unwrap();
            send(&mut peer, name.as_bytes()).await;
            assert_eq!(answers(&mut peer, 1).await, [name.as_bytes()], "{times}");
        }
    }
    let mut peer = call(&bench, &gateway(&ours, Some(&good), &TLS13)).await.unwrap();
    send(&mut peer, b"good").await;
    answers(&mut peer, 1).await;
    let frames: Vec<Bytes> = std::iter::from_fn(|| bench.taken.try_recv().ok()).map(|(content, _)| content).collect();
    assert!(frames.iter().all(|content| content != &b"let me in"[..]) && frames.len() == 5, "{frames:?}");
}

#[tokio::test]
async fn a_gateway_that_refuses_the_listener_is_counted_as_that() {
    let (ours, other) = (Authority::new(), Authority::new());
    for version in [&TLS12, &TLS13] {
        let bench = bench(limits(), true, ours.acceptor(None, &[]));
        assert!(call(&bench, &gateway(&other, None, version)).await.is_err(), "another authority");
        assert!(call_as(&bench, &gateway(&ours, None, version), "ehr.example").await.is_err(), "another name");
        bench.refuses("by_peer", 2).await;
    }
}

/// The first message of a client.
fn hello() -> Vec<u8> {
    let ca = Authority::new();
    let config = gateway(&ca, None, &TLS13).config().clone();
    let mut session = rustls::ClientConnection::new(config, ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn what_is_no_tls_or_too_old_is_told_apart_and_ends_with_an_alert() {
    let ours = Authority::new();
    let bench = bench(limits(), true, ours.acceptor(None, &[]));
    // The same hello, of TLS 1.1: the version at its place, and the extension that names newer ones renamed.
    let mut old = hello();
    old[9..11].copy_from_slice(&[3, 2]);
    let versions = old.windows(4).position(|window| window == [0, 43, 0, 3]).expect("supported_versions");
    old[versions + 1] = 0xFA;
    for (bytes, reason) in [
        (framed(b"MSH|^~\\&|PUMP"), "not_tls"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls"),
        (old, "incompatible"),
        ([&b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00"[..]].concat(), "protocol"),
    ] {
        let mut peer = bench.connect().await;
        peer.write_all(&bytes).await.unwrap();
        let answer = ended(&mut peer).await;
        assert!(answer.first() == Some(&21), "{reason}: no alert: {answer:?}");
        bench.refuses(reason, bench.refused(reason).max(1)).await;
    }
    assert_eq!((bench.refused("not_tls"), bench.refused("incompatible"), bench.refused("protocol")), (2, 1, 1));
}

#[tokio::test]
async fn a_handshake_cut_anywhere_ends_its_connection_and_no_other() {
    let ours = Authority::new();
    let bench = bench(limits(), true, ours.acceptor(None, &[]));
    let hello = hello();
    let mut kept = called(&bench, &ours).await;
    // Without a byte it is a probe of the port, and no failure.
    for end in 0..hello.len() {
        let mut peer = bench.connect().await;
        peer.write_all(&hello[..end]).await.unwrap();
        peer.shutdown().await.unwrap();
        assert!(matches!(ended(&mut peer).await.first(), None | Some(21)), "cut at {end}");
    }
    send(&mut kept, b"still here").await;
    assert_eq!(answers(&mut kept, 1).await, [b"still here"]);
    drop(kept);
    bench.refuses("closed", hello.len() as u64 - 1).await;
    assert_eq!(bench.refused("closed"), hello.len() as u64 - 1);
}

#[tokio::test]
async fn a_stalled_handshake_has_its_time_and_its_place_among_the_connections() {
    let ours = Authority::new();
    for caps in [Limits { connections_max: 1, ..limits() }, Limits { connections_per_address_max: 1, ..limits() }] {
        let limits = Limits { frame_timeout: Duration::from_millis(300), ..caps };
        let bench = bench(limits, true, ours.acceptor(None, &[]));
        let mut stalled = bench.connect().await;
        stalled.write_all(&hello()[..20]).await.unwrap();
        assert_eq!(ended(&mut bench.connect().await).await, b"", "over the cap");
        assert_eq!(bench.hits("connections") + bench.hits("connections_per_address"), 1);
        assert_eq!(ended(&mut stalled).await, b"");
        bench.refuses("timeout", 1).await;
        let mut peer = called(&bench, &ours).await;
        send(&mut peer, b"after").await;
        assert_eq!(answers(&mut peer, 1).await, [b"after"]);
    }
}

#[tokio::test]
async fn idle_and_frame_timeouts_end_a_connection_over_tls() {
    let ours = Authority::new();
    let short = Duration::from_millis(100);
    for (limits, begun, limit) in [
        (Limits { idle_timeout: short, ..limits() }, &b""[..], "idle_timeout"),
        (Limits { frame_timeout: short, ..limits() }, b"\x0bMSH|", "frame_timeout"),
    ] {
        let bench = bench(limits, true, ours.acceptor(None, &[]));
        let mut peer = called(&bench, &ours).await;
        peer.write_all(begun).await.unwrap();
        peer.flush().await.unwrap();
        assert_eq!(timeout(BOUND, peer.read(&mut [0; 16])).await.unwrap().unwrap(), 0, "{limit}: with close_notify");
        assert_eq!(bench.hits(limit), 1);
    }
}

#[tokio::test]
async fn a_drain_answers_what_was_taken_over_tls_and_waits_for_no_handshake() {
    let ours = Authority::new();
    let mut bench = bench(limits(), false, ours.acceptor(None, &[]));
    let mut peer = called(&bench, &ours).await;
    let mut stalled = bench.connect().await;
    stalled.write_all(&hello()[..20]).await.unwrap();
    send(&mut peer, b"one").await;
    let (content, release) = bench.taken().await;
    let draining = tokio::spawn(bench.server.drain(BOUND));
    assert_eq!(ended(&mut stalled).await, b"");
    assert!(!draining.is_finished());
    release.send(echo(&content)).unwrap();
    assert_eq!(answers(&mut peer, 1).await, [b"one"]);
    assert_eq!(peer.read(&mut [0; 16]).await.unwrap(), 0);
    drop(peer);
    timeout(BOUND, draining).await.expect("drained").unwrap();
    assert_eq!(bench.metrics.tls_handshake_failures.with_label_values(&["ward", "timeout"]).get(), 0);
}

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_open_ones_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let bench = bench(limits(), true, old.acceptor(None, &[]));
    let mut before = called(&bench, &old).await;
    bench.server.set_tls(Some(new.acceptor(None, &[])));
    assert!(call(&bench, &gateway(&old, None, &TLS13)).await.is_err(), "the old certificate is shown");
    let mut after = called(&bench, &new).await;
    bench.server.set_tls(None);
    let mut plain = bench.connect().await;
    for peer in [&mut before, &mut after] {
        send(peer, b"hello").await;
        assert_eq!(answers(peer, 1).await, [b"hello"]);
    }
    send(&mut plain, b"hello").await;
    assert_eq!(answers(&mut plain, 1).await, [b"hello"]);
}
