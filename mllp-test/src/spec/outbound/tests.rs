#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::account::SenderBook;
use crate::load::{self, LoadConfig};
use crate::sender::SenderConfig;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long the senders here wait for an answer.
const SENDER_TIMEOUT: Duration = Duration::from_millis(400);

/// An address of this test's own: senders must know it before anybody listens.
fn own_address(test: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("{}:6661", Ipv4Addr::new(127, high | 0x80, low, test))
}

async fn report_of(address: &str, only: &[u8]) -> Report {
    let options = OutboundOptions {
        listen: address.to_owned(),
        feed: None,
        only: only.to_vec(),
        sender_timeout: SENDER_TIMEOUT,
        patience: Duration::from_secs(20),
    };
    run(&options, |_| ()).await.unwrap()
}

fn failed(report: &Report) -> Vec<&str> {
    report.rows.iter().filter(|row| row.has_failed()).map(|row| row.what.as_str()).collect()
}

#[tokio::test]
async fn a_careful_sender_passes_all_but_what_it_does_not_do() {
    let address = own_address(1);
    let sender = SenderConfig { ack_timeout: SENDER_TIMEOUT, ..SenderConfig::to(&address) };
    let book = Arc::new(SenderBook::open(None).unwrap());
    let sending = tokio::spawn(load::run_with(LoadConfig { sender, ..LoadConfig::to(&address) }, book));
    let report = report_of(&address, &[]).await;
    sending.abort();
    // Refused is refused for it, whatever the reason.
    assert_eq!(failed(&report), ["AR or CR about the receiver"], "{}", report.failures());
    assert_eq!(report.rows.len(), 12);
}

/// Takes whatever comes for its answer, and silence for a loss of no account: on with the next message.
async fn careless_sender(address: String) {
    let mut number = 0;
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        loop {
            number += 1;
            let message = super::super::message::good(&format!("CARELESS.{number}"));
            let mut answer = [0; 4096];
            let sent = stream.write_all(&framed(message.as_bytes())).await.is_ok();
            if !sent || matches!(timeout(SENDER_TIMEOUT, stream.read(&mut answer)).await, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_careless_sender_fails_where_a_message_would_be_lost() {
    let address = own_address(2);
    let sending = tokio::spawn(careless_sender(address.clone()));
    let report = report_of(&address, &[1, 2, 3, 4, 5, 8, 9]).await;
    sending.abort();
    assert_eq!(report.counts(), [0, 8, 0], "{}", report.failures());
    let told = report.failures();
    assert!(told.contains("another message came before this one was acknowledged"), "{told}");
    assert!(told.contains("[connection 1] CARELESS.1"), "{told}");
}
