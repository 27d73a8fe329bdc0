#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Receivers that answer rightly, wrongly, late and not at all, on real sockets.

use super::*;
use crate::hl7::ack::Code;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Bound on every wait; never reached where things are right.
const BOUND: Duration = Duration::from_secs(20);
/// A limit meant to pass.
const SHORT: Duration = Duration::from_millis(50);
const MESSAGE: &[u8] = b"MSH|^~\\&|A|B|C|D|20260314||ORU^R01|17|P|2.6\rPID|||7\r";

fn framed(content: &str) -> Vec<u8> {
    [b"\x0b", content.as_bytes(), b"\x1c\r"].concat()
}

fn ack(code: &str, control_id: &str) -> Vec<u8> {
    framed(&format!("MSH|^~\\&|C|D|A|B|20260314||ACK^R01^ACK|9|P|2.6\rMSA|{code}|{control_id}\r"))
}

/// A client and the other end of its connection.
async fn pair() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (client, accepted) = tokio::join!(Client::connect(&address, None, BOUND), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// The next frame, whole.
async fn receive(peer: &mut TcpStream) -> Vec<u8> {
    let mut frame = Vec::new();
    while !frame.ends_with(b"\x1c\r") {
        let read = timeout(BOUND, peer.read_buf(&mut frame)).await.expect("a frame in time").unwrap();
        assert_ne!(read, 0, "ended inside of a frame");
    }
    frame
}

/// Exchanges `MESSAGE` with a receiver that answers `pieces`, one write each, and then ends its side or stays.
async fn exchange(
    pieces: &[Vec<u8>],
    stays: bool,
    limit: Duration,
) -> (Client, Result<ack::Answer, ExchangeError>, TcpStream) {
    let (mut client, mut peer) = pair().await;
    let receiver = async {
        assert_eq!(receive(&mut peer).await[1..MESSAGE.len() + 1], *MESSAGE);
        for piece in pieces {
            // The client may have given up by now.
            let _ = peer.write_all(piece).await;
            let _ = peer.flush().await;
            tokio::task::yield_now().await;
        }
        if !stays {
            let _ = peer.shutdown().await;
        }
    };
    let (answer, ()) = tokio::join!(client.exchange(MESSAGE, b"17", limit), receiver);
    (client, answer, peer)
}

fn code(answer: &Result<ack::Answer, ExchangeError>) -> Option<Code> {
    answer.as_ref().ok().map(|answer| answer.code)
}

fn ambiguous(answer: Result<ack::Answer, ExchangeError>) -> String {
    match answer {
        Err(ExchangeError::Ambiguous(text)) => text,
        other => panic!("not ambiguous: {other:?}"),
    }
}

fn not_sent_text(answer: Result<ack::Answer, ExchangeError>) -> String {
    match answer {
        Err(ExchangeError::NotSent(text)) => text,
        other => panic!("not NotSent: {other:?}"),
    }
}

#[tokio::test]
async fn the_answer_with_the_same_control_id_is_the_answer() {
    for said in ["AA", "AE", "AR", "CA", "CE", "CR"] {
        let (mut client, answer, _peer) = exchange(&[ack(said, "17")], true, BOUND).await;
        assert_eq!(code(&answer), Code::parse(said.as_bytes()));
        assert!(!client.is_closed());
    }
}

#[tokio::test]
async fn an_answer_may_come_in_any_pieces() {
    let whole = ack("AA", "17");
    let bytes: Vec<Vec<u8>> = whole.iter().map(|byte| vec![*byte]).collect();
    assert_eq!(code(&exchange(&bytes, true, BOUND).await.1), Some(Code::AA));
    for cut in 1..whole.len() {
        let pieces = [whole[..cut].to_vec(), whole[cut..].to_vec()];
        assert_eq!(code(&exchange(&pieces, true, BOUND).await.1), Some(Code::AA), "cut at {cut}");
    }
}

#[tokio::test]
async fn an_answer_to_another_message_is_ignored() {
    let (client, answer, _peer) = exchange(&[ack("AE", "16"), ack("AA", "17")], true, BOUND).await;
    assert_eq!(code(&answer), Some(Code::AA));
    assert_eq!(client.ignored().other_control_id, 1);
    for near in ["017", "17 ", "1", "177", ""] {
        let (mut client, answer, _peer) = exchange(&[ack("AA", near)], true, SHORT).await;
        assert!(ambiguous(answer).contains("another MSA-2"), "`{near}`");
        assert!(client.is_closed());
    }
}

#[tokio::test]
async fn of_two_answers_the_first_counts_and_the_second_is_stale() {
    let (mut client, mut peer) = pair().await;
    let receiver = async {
        receive(&mut peer).await;
        peer.write_all(&[ack("AA", "17"), ack("AE", "17"), ack("AE", "18")].concat()).await.unwrap();
        assert_eq!(client_second(&mut peer).await, b"18");
    };
    let exchanges = async {
        assert_eq!(code(&client.exchange(MESSAGE, b"17", BOUND).await), Some(Code::AA));
        let second = [MESSAGE, b"ZZZ|18\r"].concat();
        let answer = client.exchange(&second, b"18", BOUND).await;
        assert_eq!(code(&answer), Some(Code::AA), "the AE that came before the message was sent is not its answer");
    };
    tokio::join!(receiver, exchanges);
    assert!(client.ignored().stale_bytes > 0);
}

#[tokio::test]
async fn a_control_id_used_again_needs_another_connection_since_the_first_answer_may_come_twice() {
    let (mut client, mut peer) = pair().await;
    let receiver = async {
        receive(&mut peer).await;
        peer.write_all(&[ack("AA", "17")].concat()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.exchange(MESSAGE, b"17", BOUND), receiver);
    assert_eq!(code(&answer), Some(Code::AA));
    let other = b"MSH|^~\\&|A|B|C|D|20260314||ORU^R01|17|P|2.6\rPID|||8\r";
    assert!(not_sent_text(client.exchange(other, b"17", BOUND).await).contains("connect again"));
    assert!(client.is_closed());
    drop(client);
    let mut rest = Vec::new();
    timeout(BOUND, peer.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty(), "nothing of the second message was sent");
}

async fn client_second(peer: &mut TcpStream) -> Vec<u8> {
    let frame = receive(peer).await;
    peer.write_all(&ack("AA", "18")).await.unwrap();
    frame[frame.len() - 5..frame.len() - 3].to_vec()
}

#[tokio::test]
async fn a_timeout_ends_the_use_of_the_connection_so_a_late_answer_matches_nothing() {
    let (mut client, mut peer) = pair().await;
    let (answer, _) = tokio::join!(client.exchange(MESSAGE, b"17", SHORT), receive(&mut peer));
    assert!(ambiguous(answer).contains("no answer within"));
    peer.write_all(&ack("AA", "17")).await.unwrap();
    assert!(client.is_closed());
    assert!(not_sent_text(client.exchange(MESSAGE, b"17", BOUND).await).contains("connect again"));
}

#[tokio::test]
async fn an_exchange_that_was_dropped_ends_the_use_of_the_connection() {
    let (mut client, mut peer) = pair().await;
    tokio::select! {
        _ = client.exchange(MESSAGE, b"17", BOUND) => panic!("answered"),
        _ = receive(&mut peer) => {}
    }
    assert!(client.is_closed());
}

#[tokio::test]
async fn what_is_not_an_answer_is_ambiguous_and_says_why() {
    let large = framed(&format!("MSH|^~\\&|{}", "x".repeat(70_000)));
    for (pieces, stays, says) in [
        (vec![b"MSH|^~\\&|C\rMSA|AA|17\r".to_vec()], true, "without MLLP framing"),
        (vec![vec![b'x'; 10_000]], true, "without MLLP framing"),
        (vec![framed("MSH|^~\\&|C|D|A|B|20260314||ACK|9|P|2.6\r")], true, "without MSA"),
        (vec![framed("thank you")], true, "without MSA"),
        (vec![framed("MSH|^~\\&|C|D|A|B|20260314||ACK|9|P|2.6\rMSA|OK|17\r")], true, "without MSA"),
        (vec![large], true, "over 64 KiB"),
        (vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], false, "without MLLP framing"),
        (vec![b"\x15\x03\x01\0\x02\x02\x32".to_vec()], false, "speaks TLS"),
        (vec![], false, "closed the connection"),
        (vec![ack("AA", "17")[..20].to_vec()], false, "closed the connection"),
    ] {
        let limit = if stays { SHORT } else { BOUND };
        let (mut client, answer, _peer) = exchange(&pieces, stays, limit).await;
        let text = ambiguous(answer);
        assert!(text.contains(says), "{says}: {text}");
        assert!(client.is_closed());
    }
}

#[tokio::test]
async fn noise_around_an_answer_does_no_harm() {
    let pieces = [b"\r\n\0".to_vec(), framed(""), ack("AA", "17")];
    assert_eq!(code(&exchange(&pieces, true, BOUND).await.1), Some(Code::AA));
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_ambiguity() {
    let (mut client, peer) = pair().await;
    drop(peer);
    let closed = async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, closed).await.expect("the close is seen");
    not_sent_text(client.exchange(MESSAGE, b"17", BOUND).await);
}

#[tokio::test]
async fn a_frame_whose_end_never_left_is_not_sent() {
    let (mut client, peer) = pair().await;
    let Line::Plain(stream) = &client.stream else { panic!("plain") };
    socket2::SockRef::from(stream).set_send_buffer_size(4096).unwrap();
    // More than the kernel takes on both sides; the receiver does not read.
    let large = vec![b'x'; 32 << 20];
    assert!(not_sent_text(client.exchange(&large, b"17", SHORT).await).contains("does not read"));
    assert!(client.is_closed());

    drop(peer);
    let (mut client, peer) = pair().await;
    drop(peer);
    let large = vec![b'x'; 32 << 20];
    let answer = client.exchange(&large, b"17", BOUND).await;
    assert!(matches!(answer, Err(ExchangeError::NotSent(_))), "reset inside of the frame: {answer:?}");
}

#[tokio::test]
async fn a_message_that_would_break_the_framing_is_not_sent() {
    let (mut client, mut peer) = pair().await;
    for bad in [&b"MSH|\x1c\rMSH|"[..], b"MSH|\x0b"] {
        assert!(not_sent_text(client.exchange(bad, b"17", BOUND).await).contains("framing byte"));
    }
    let receiver = async {
        assert_eq!(receive(&mut peer).await[1..MESSAGE.len() + 1], *MESSAGE, "nothing was sent before");
        peer.write_all(&ack("AA", "17")).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.exchange(MESSAGE, b"17", BOUND), receiver);
    assert_eq!(code(&answer), Some(Code::AA));
}

#[tokio::test]
async fn an_application_answer_follows_its_accept_answer() {
    // Both at once, and one after the other.
    for pieces in [vec![[ack("CA", "17"), ack("AA", "17")].concat()], vec![ack("CA", "17"), ack("AA", "17")]] {
        let (mut client, answer, _peer) = exchange(&pieces, true, BOUND).await;
        assert_eq!(code(&answer), Some(Code::CA));
        assert_eq!(code(&client.application_answer(b"17", BOUND).await), Some(Code::AA));
        assert!(!client.is_closed());
    }
    let (mut client, _, _peer) = exchange(&[ack("CA", "17")], true, BOUND).await;
    ambiguous(client.application_answer(b"17", SHORT).await);
    assert!(client.is_closed());
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_an_error_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert!(timeout(BOUND, Client::connect(&address, None, BOUND)).await.expect("an error").is_err());
}
