#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

pub(super) const BOUND: Duration = Duration::from_secs(20);

pub(super) fn outgoing(id: u64) -> Outgoing {
    let control_id = format!("c{id}");
    Outgoing {
        id,
        body: format!("MSH|^~\\&|ENGINE|H|EHR|H|20260101||ORU^R01|{control_id}|P|2.6\r").into(),
        format: Format::Hl7,
        control_id: control_id.into(),
        possible_repeat: false,
    }
}

fn sender(address: SocketAddr, limit: Duration) -> Box<dyn Sender> {
    Mllp::new(MllpSettings { address: address.to_string(), timeout: limit, awaits_application: false, tls: None })
        .sender(0)
}

async fn send(sender: &mut Box<dyn Sender>, id: u64) -> Verdict {
    timeout(BOUND, sender.send(&outgoing(id))).await.unwrap()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(BOUND, listener.accept()).await.unwrap().unwrap().0
}

/// Reads one frame and answers its control id; `None` once the sender has closed.
async fn read_frame(stream: &mut TcpStream) -> Option<String> {
    let mut frame = Vec::new();
    while !frame.ends_with(b"\x1c\r") {
        frame.push(timeout(BOUND, stream.read_u8()).await.unwrap().ok()?);
    }
    Some(String::from_utf8(frame).unwrap().split('|').nth(9).unwrap().to_owned())
}

async fn answer(stream: &mut TcpStream, code: &str, control_id: &str, error: &str) {
    let err = if error.is_empty() { String::new() } else { format!("ERR|||{error}|E\r") };
    let ack = format!("\x0bMSH|^~\\&|EHR|H|ENGINE|H|20260101||ACK|1|P|2.6\rMSA|{code}|{control_id}\r{err}\x1c\r");
    stream.write_all(ack.as_bytes()).await.unwrap();
}

#[test]
fn every_answer_has_the_verdict_of_the_table() {
    use Code::*;
    let of = |code, error: &str| {
        let error_code = (!error.is_empty()).then(|| error.to_owned());
        let application_code = None;
        verdict(&Answer { code, control_id: vec![], error_code, application_code }, 1, &mut Refusals::default())
    };
    for code in [AA, CA] {
        assert!(matches!(of(code, ""), Verdict::Accepted { .. }));
        assert!(matches!(of(code, "207"), Verdict::Accepted { .. }));
    }
    for code in [AR, CR] {
        assert!(matches!(of(code, "207"), Verdict::Unavailable { .. }));
        assert!(matches!(of(code, "200"), Verdict::Rejected { .. }));
        assert!(matches!(of(code, ""), Verdict::Rejected { .. }));
    }
    for code in [AE, CE] {
        assert!(matches!(of(code, "206"), Verdict::Unavailable { .. }));
        assert!(matches!(of(code, "207"), Verdict::Unavailable { .. }));
        assert!(matches!(of(code, "101"), Verdict::Rejected { .. }));
        assert!(matches!(of(code, ""), Verdict::Rejected { .. }));
    }
    assert_eq!(of(AE, "101"), Verdict::rejected("answered AE with ERR-3 101"));
    assert_eq!(of(AE, "no such ROSE^MARY"), Verdict::rejected("answered AE"), "free text may quote the message");
}

#[test]
fn a_pumps_reason_is_told_and_is_no_fault_that_passes() {
    let of = |application: &str| {
        let (error_code, application_code) = (Some("207".to_owned()), Some(application.to_owned()));
        let answer = Answer { code: Code::AR, control_id: vec![], error_code, application_code };
        verdict(&answer, 1, &mut Refusals::default())
    };
    assert_eq!(of("9010"), Verdict::rejected("answered AR with ERR-3 207 and ERR-5 9010"));
    assert_eq!(of("77"), Verdict::unavailable("answered AR with ERR-3 207 and ERR-5 77"));
    assert_eq!(
        of("no drug for ROSE^MARY"),
        Verdict::unavailable("answered AR with ERR-3 207"),
        "it may quote the message"
    );
}

#[test]
fn a_receivers_fault_over_one_message_ends_as_a_dead_letter_and_over_others_does_not() {
    let fault = Answer { code: Code::AE, control_id: vec![], error_code: Some("207".into()), application_code: None };
    let mut refusals = Refusals::default();
    for id in [1, 2, 1, 2, 2, 2, 2] {
        assert!(matches!(verdict(&fault, id, &mut refusals), Verdict::Unavailable { .. }));
    }
    assert_eq!(verdict(&fault, 2, &mut refusals), Verdict::rejected("answered AE with ERR-3 207, 5 times"));
}

#[tokio::test]
async fn messages_follow_each_other_on_one_connection() {
    let (listener, address) = listen().await;
    let receiver = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        for code in ["AA", "CA", "AE"] {
            let control_id = read_frame(&mut stream).await.unwrap();
            answer(&mut stream, code, &control_id, "").await;
        }
    });
    let mut sender = sender(address, BOUND);
    assert_eq!(send(&mut sender, 1).await, Verdict::Accepted { answer: "AA".into() });
    assert_eq!(send(&mut sender, 2).await, Verdict::Accepted { answer: "CA".into() });
    assert_eq!(send(&mut sender, 3).await, Verdict::rejected("answered AE"));
    timeout(BOUND, receiver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_receiver_that_cannot_be_reached_is_unavailable() {
    let (listener, address) = listen().await;
    drop(listener);
    let verdict = send(&mut sender(address, BOUND), 1).await;
    assert!(
        matches!(&verdict, Verdict::Unavailable { reason, .. } if reason.contains("cannot connect")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn an_idle_connection_the_receiver_gave_up_costs_no_ambiguity() {
    let (listener, address) = listen().await;
    let mut sender = sender(address, BOUND);
    for id in 1..=3 {
        let (verdict, ()) = tokio::join!(send(&mut sender, id), async {
            let mut stream = accept(&listener).await;
            let control_id = read_frame(&mut stream).await.unwrap();
            answer(&mut stream, "AA", &control_id, "").await;
        });
        assert_eq!(verdict, Verdict::Accepted { answer: "AA".into() }, "message {id}");
    }
}

#[tokio::test]
async fn a_kept_connection_lost_before_the_frame_has_left_is_made_again() {
    let (listener, address) = listen().await;
    let mut sender = sender(address, BOUND);
    let receiver = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "AA", "c1", "").await;
        // The start of the second frame; the rest is more than the sockets hold.
        stream.read_u8().await.unwrap();
        drop(stream);
        let mut stream = accept(&listener).await;
        let mut tail = vec![0; 1 << 16];
        let mut ended = false;
        while !ended {
            let length = timeout(BOUND, stream.read(&mut tail)).await.unwrap().unwrap();
            ended = tail[..length].ends_with(b"\r") && tail[..length].contains(&FS);
        }
        answer(&mut stream, "AA", "c2", "").await;
    });
    assert!(matches!(send(&mut sender, 1).await, Verdict::Accepted { .. }));
    let mut body = outgoing(2).body.to_vec();
    body.resize(32 << 20, b'x');
    let large = Outgoing { body: body.into(), ..outgoing(2) };
    let verdict = timeout(BOUND, sender.send(&large)).await.unwrap();
    assert_eq!(verdict, Verdict::Accepted { answer: "AA".into() });
    timeout(BOUND, receiver).await.unwrap().unwrap();
}

#[tokio::test]
async fn silence_is_ambiguous_and_a_late_answer_is_never_the_next_messages() {
    let (listener, address) = listen().await;
    let mut sender = sender(address, Duration::from_millis(1500));
    let (verdict, mut first) = tokio::join!(send(&mut sender, 1), async {
        let mut stream = accept(&listener).await;
        read_frame(&mut stream).await.unwrap();
        stream
    });
    assert!(matches!(verdict, Verdict::Ambiguous { .. }), "{verdict:?}");
    assert_eq!(read_frame(&mut first).await, None, "closed before anything else is sent");
    let (verdict, ()) = tokio::join!(send(&mut sender, 2), async {
        let mut stream = accept(&listener).await;
        read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "AA", "c1", "").await;
        answer(&mut stream, "AE", "c2", "").await;
    });
    assert_eq!(verdict, Verdict::rejected("answered AE"));
}

#[tokio::test]
async fn an_application_ack_after_a_commit_accept_does_not_disturb_the_next_message() {
    let (listener, address) = listen().await;
    let mut sender = sender(address, BOUND);
    let receiver = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "CA", "c1", "").await;
        read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "AR", "c1", "").await;
        answer(&mut stream, "CA", "c2", "").await;
        stream
    });
    for id in 1..=2 {
        assert_eq!(send(&mut sender, id).await, Verdict::Accepted { answer: "CA".into() });
    }
    timeout(BOUND, receiver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_send_that_is_dropped_closes_its_connection() {
    let (listener, address) = listen().await;
    let mut sender = sender(address, BOUND);
    let first = outgoing(1);
    let mut stream = tokio::select! {
        verdict = sender.send(&first) => panic!("{verdict:?}"),
        stream = async {
            let mut stream = accept(&listener).await;
            read_frame(&mut stream).await.unwrap();
            stream
        } => stream,
    };
    assert_eq!(read_frame(&mut stream).await, None);
    let (verdict, ()) = tokio::join!(send(&mut sender, 2), async {
        let mut stream = accept(&listener).await;
        let control_id = read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "AA", &control_id, "").await;
    });
    assert!(matches!(verdict, Verdict::Accepted { .. }));
}

#[tokio::test]
async fn bytes_no_receiver_could_take_are_rejected_without_a_connection() {
    let (_listener, address) = listen().await;
    let mut sender = sender(address, BOUND);
    let unsendable = [
        Outgoing { format: Format::FhirBundle, ..outgoing(1) },
        Outgoing { control_id: Bytes::new(), ..outgoing(1) },
        Outgoing { body: Bytes::from_static(b"MSH|a\x1c\rb"), ..outgoing(1) },
        Outgoing { body: Bytes::from_static(b"MSH|a\x0bb"), ..outgoing(1) },
    ];
    for outgoing in unsendable {
        let verdict = timeout(BOUND, sender.send(&outgoing)).await.unwrap();
        assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
    }
}

/// A pump gateway: CA to RGV^O15, then RRG^O16 with this code on the same connection, and whatever it is told for that.
async fn administers(stream: &mut TcpStream, code: &str) -> String {
    let id = read_frame(stream).await.unwrap();
    answer(stream, "CA", &id, "").await;
    let err = if code == "AA" { "" } else { "ERR|||207|E\r" };
    let rrg = format!(
        "\x0bMSH|^~\\&|PUMP|W|BCMA|H|20260101||RRG^O16^RRG_O16|R-{id}|P|2.6|||AL|NE\rMSA|{code}|{id}\r{err}\x1c\r"
    );
    stream.write_all(rrg.as_bytes()).await.unwrap();
    let mut frame = Vec::new();
    while !frame.ends_with(b"\x1c\r") {
        frame.push(timeout(BOUND, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(frame).unwrap()
}

fn order(id: u64) -> Outgoing {
    let control_id = format!("c{id}");
    let body = format!("MSH|^~\\&|BCMA|H|PUMP|W|20260101||RGV^O15^RGV_O15|{control_id}|P|2.6|||AL|AL\r");
    Outgoing { body: body.into(), control_id: control_id.into(), ..outgoing(id) }
}

#[tokio::test]
async fn an_application_answer_that_is_a_message_settles_the_order_and_is_acknowledged() {
    let (listener, address) = listen().await;
    let mut sender =
        Mllp::new(MllpSettings { address: address.to_string(), timeout: BOUND, awaits_application: true, tls: None })
            .sender(0);
    let pump = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        let told = [administers(&mut stream, "AA").await, administers(&mut stream, "AE").await];
        let id = read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "AA", &id, "").await;
        told
    });
    let mut send = async |id| timeout(BOUND, sender.send(&order(id))).await.unwrap();
    assert_eq!(send(1).await, Verdict::Accepted { answer: "CA, AA".to_owned() });
    let refused = send(2).await;
    assert_eq!(refused, Verdict::rejected("committed (CA), then answered AE with ERR-3 207"), "never sent again");
    assert_eq!(
        send(3).await,
        Verdict::Accepted { answer: "AA".to_owned() },
        "one answer is enough where it is the application's"
    );
    for (n, told) in pump.await.unwrap().into_iter().enumerate() {
        assert!(told.contains("|ACK^O16^ACK|") && told.contains(&format!("MSA|CA|R-c{}\r", n + 1)), "{told}");
    }
}

#[tokio::test]
async fn a_commit_accept_to_an_order_of_original_mode_is_not_the_applications_answer() {
    let (listener, address) = listen().await;
    let mut sender =
        Mllp::new(MllpSettings { address: address.to_string(), timeout: BOUND, awaits_application: true, tls: None })
            .sender(0);
    let pump = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        for code in ["AA", "AE"] {
            administers(&mut stream, code).await;
        }
        for _ in 0..2 {
            let id = read_frame(&mut stream).await.unwrap();
            answer(&mut stream, if id == "c3" { "AA" } else { "CA" }, &id, "").await;
        }
    });
    let asking = |id: u64, asked: &str| {
        let body = String::from_utf8(order(id).body.to_vec()).unwrap().replace("|||AL|AL\r", asked);
        Outgoing { body: body.into(), ..order(id) }
    };
    let mut send = async |id, asked| timeout(BOUND, sender.send(&asking(id, asked))).await.unwrap();
    assert_eq!(send(1, "\r").await, Verdict::Accepted { answer: "CA, AA".to_owned() });
    assert_eq!(send(2, "|||||\r").await, Verdict::rejected("committed (CA), then answered AE with ERR-3 207"));
    assert_eq!(send(3, "\r").await, Verdict::Accepted { answer: "AA".to_owned() });
    assert_eq!(send(4, "|||AL|NE\r").await, Verdict::Accepted { answer: "CA".to_owned() }, "no other is asked for");
    timeout(BOUND, pump).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_committed_order_without_its_application_answer_is_a_persons_to_follow_up() {
    let (listener, address) = listen().await;
    let timeout_of = Duration::from_millis(50);
    let mut sender = Mllp::new(MllpSettings {
        address: address.to_string(),
        timeout: timeout_of,
        awaits_application: true,
        tls: None,
    })
    .sender(0);
    let pump = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        let id = read_frame(&mut stream).await.unwrap();
        answer(&mut stream, "CA", &id, "").await;
        read_frame(&mut stream).await
    });
    let verdict = timeout(BOUND, sender.send(&order(1))).await.unwrap();
    assert!(
        matches!(&verdict, Verdict::Rejected { reason } if reason.starts_with("committed (CA), and no")),
        "{verdict:?}"
    );
    assert_eq!(pump.await.unwrap(), None, "the connection is closed: a late answer is nobody else's");
}
