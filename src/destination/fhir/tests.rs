#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::destination::{Meter, Secret};

const BOUND: Duration = Duration::from_secs(20);
const BUNDLE: &str = r#"{"resourceType":"Bundle","type":"transaction","entry":[]}"#;

/// What the server does with the next request.
enum Act {
    Answer(String),
    Close,
    Nothing,
}

/// A server that reads whole requests and acts by its script, over as many connections as come.
struct Server {
    address: SocketAddr,
    /// Head and body of each request, with its connection's number.
    requests: mpsc::UnboundedReceiver<(usize, String)>,
}

impl Server {
    async fn start(script: Vec<Act>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut script = script.into_iter();
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some(request) = read_request(&mut stream).await {
                    seen.send((connection, request)).unwrap();
                    match script.next().unwrap_or(Act::Close) {
                        Act::Answer(answer) => {
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                break;
                            }
                        }
                        Act::Close => break,
                        Act::Nothing => {
                            // Until the client gives up.
                            let _ = stream.read(&mut [0]).await;
                            break;
                        }
                    }
                }
            }
        });
        Server { address, requests }
    }

    async fn request(&mut self) -> (usize, String) {
        timeout(BOUND, self.requests.recv()).await.unwrap().unwrap()
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
            if read.len() >= end + 4 + length {
                return String::from_utf8(read).ok();
            }
        }
        let mut block = [0; 4096];
        match stream.read(&mut block).await.ok()? {
            0 => return None,
            n => read.extend_from_slice(&block[..n]),
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

fn settings(url: String, limit: Duration) -> FhirSettings {
    let secret = Secret(Arc::from("Bearer tropic-secret"));
    let headers = vec![("authorization".into(), secret)];
    FhirSettings { response_bytes_max: 4096, headers, ..FhirSettings::new(url, limit) }
}

fn sender(address: SocketAddr, limit: Duration) -> Box<dyn Sender> {
    // Refused where another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Fhir::new(&settings(format!("http://{address}/fhir"), limit), &Meter::detached()).unwrap().sender(0)
}

fn outgoing(id: u64) -> Outgoing {
    Outgoing {
        id,
        body: Bytes::from_static(BUNDLE.as_bytes()),
        format: Format::FhirBundle,
        control_id: Bytes::new(),
        possible_repeat: false,
    }
}

async fn send(sender: &mut Box<dyn Sender>, id: u64) -> Verdict {
    timeout(BOUND, sender.send(&outgoing(id))).await.unwrap()
}

#[tokio::test]
async fn a_bundle_is_posted_to_the_base_url_over_a_kept_connection() {
    let ok = || answer("200 OK", "", r#"{"resourceType":"Bundle","type":"transaction-response"}"#);
    let whole = r#"{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201"}}]}"#;
    let mut server = Server::start(vec![ok(), ok(), answer("200 OK", "", whole)]).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = crate::metrics::Metrics::new().unwrap();
    let meter = Meter::of(&metrics, "pumps", "ehr");
    let mut sender = Fhir::new(&settings(format!("http://{}/fhir", server.address), BOUND), &meter).unwrap().sender(0);
    for id in [41, 42, 43] {
        assert_eq!(send(&mut sender, id).await, Verdict::Accepted { answer: "200".into() });
    }
    let unanswered = metrics.unanswered_entries.with_label_values(&["pumps", "ehr"]).get();
    assert_eq!(unanswered, 2, "taken by the status alone, and counted");
    let (_, first) = server.request().await;
    let head = first.to_ascii_lowercase();
    assert!(first.starts_with("POST /fhir HTTP/1.1\r\n") && first.ends_with(BUNDLE), "{first}");
    for header in [
        "content-type: application/fhir+json",
        "accept: application/fhir+json",
        "prefer: return=minimal",
        "authorization: bearer tropic-secret",
        "x-request-id: 41",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.contains("x-cannula-possible-repeat"), "{head}");
    assert_eq!(server.request().await.0, 0, "the same connection");
}

#[tokio::test]
async fn a_possible_repeat_says_so_in_a_header() {
    let mut server = Server::start(vec![answer("200 OK", "", "")]).await;
    let again = Outgoing { possible_repeat: true, ..outgoing(41) };
    timeout(BOUND, sender(server.address, BOUND).send(&again)).await.unwrap();
    let (_, request) = server.request().await;
    assert!(request.to_ascii_lowercase().contains("x-cannula-possible-repeat: true\r\n"), "{request}");
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let verdict = send(&mut sender(address, BOUND), 1).await;
    let Verdict::Unavailable { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert!(reason.contains("Connection refused"), "{reason}");
}

#[tokio::test]
async fn a_request_left_without_an_answer_is_ambiguous() {
    let server = Server::start(vec![Act::Close]).await;
    assert!(matches!(send(&mut sender(server.address, BOUND), 1).await, Verdict::Ambiguous { .. }));
    let server = Server::start(vec![Act::Nothing]).await;
    let verdict = send(&mut sender(server.address, Duration::from_millis(300)), 1).await;
    assert_eq!(verdict, Verdict::ambiguous("no answer within the timeout"));
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_request() {
    let mut server = Server::start(vec![Act::Nothing, answer("422 No", "", "")]).await;
    let mut sender = sender(server.address, Duration::from_secs(2));
    assert!(matches!(send(&mut sender, 1).await, Verdict::Ambiguous { .. }));
    assert!(matches!(send(&mut sender, 2).await, Verdict::Rejected { .. }));
    assert_eq!((server.request().await.0, server.request().await.0), (0, 1), "a connection of its own");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut elsewhere = Server::start(vec![]).await;
    let location = format!("location: http://{}/fhir\r\n", elsewhere.address);
    let server = Server::start(vec![answer("307 Temporary Redirect", &location, "")]).await;
    let verdict = send(&mut sender(server.address, BOUND), 1).await;
    assert!(matches!(verdict, Verdict::Unavailable { .. }), "{verdict:?}");
    assert!(elsewhere.requests.try_recv().is_err(), "nothing was sent there");
}

#[tokio::test]
async fn retry_after_reaches_the_verdict() {
    let server = Server::start(vec![answer("429 Slow down", "retry-after: 17\r\n", "")]).await;
    let verdict = send(&mut sender(server.address, BOUND), 1).await;
    let Verdict::Unavailable { retry_after, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_limit() {
    let endless = || Act::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n{}", "x".repeat(50_000)));
    let server = Server::start(vec![endless()]).await;
    let verdict = send(&mut sender(server.address, BOUND), 1).await;
    assert!(matches!(verdict, Verdict::Ambiguous { .. }), "{verdict:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_a_success_is_ambiguous_and_after_a_refusal_a_refusal() {
    for (status, rejected) in [("200 OK", false), ("422 No", true)] {
        let broken = Act::Answer(format!("HTTP/1.1 {status}\r\ncontent-length: 900\r\n\r\n{{"));
        let server = Server::start(vec![broken]).await;
        let verdict = send(&mut sender(server.address, Duration::from_millis(500)), 1).await;
        assert_eq!(matches!(verdict, Verdict::Rejected { .. }), rejected, "{verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Ambiguous { .. }), !rejected, "{verdict:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_and_secrets_are_not_shown() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for url in [
        "ehr.example/fhir",
        "ftp://ehr.example/fhir",
        "https://user:hunter2@ehr.example/fhir",
        "https://ehr.example/fhir?tenant=1",
        "http://169.254.169.254/latest",
        "http://[fe80::1]/fhir",
        "http://[::ffff:169.254.169.254]/fhir",
        // Numbers are IPv4 addresses to a URL parser.
        "http://2852039166/fhir",
    ] {
        let fault = Fhir::new(&settings(url.into(), BOUND), &Meter::detached()).err().expect(url);
        assert!(!fault.contains("hunter2"), "{fault}");
    }
    let ok = settings("http://ehr.example/fhir".into(), BOUND);
    assert!(Fhir::new(&ok, &Meter::detached()).is_ok());
    assert!(!format!("{ok:?}").contains("tropic"));
    let bad = FhirSettings { headers: vec![("x".into(), Secret("tropic\n".into()))], ..ok };
    assert!(!Fhir::new(&bad, &Meter::detached()).err().unwrap().contains("tropic"));
}
