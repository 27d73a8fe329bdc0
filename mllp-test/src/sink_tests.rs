#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::account::{Account, Route, SenderAccount, read_sender, read_sink};
use crate::load::{self, LoadConfig};
use crate::sender::SenderConfig;
use std::future::Future;

const BOUND: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(BOUND, work).await.expect("no end within the bound")
}

async fn sink(rules: &[&str]) -> Sink {
    let config = SinkConfig { script: Script::parse(rules.iter().copied()).unwrap(), ..SinkConfig::default() };
    Sink::start("127.0.0.1:0", config).await.unwrap()
}

fn load(sink: &Sink, messages: u64) -> LoadConfig {
    let sender = SenderConfig {
        window: 8,
        ack_timeout: Duration::from_millis(500),
        reconnect_pause: Duration::from_millis(5),
        drain: BOUND,
        ..SenderConfig::to(sink.address().to_string())
    };
    LoadConfig { sender, messages: Some(messages), obx: 2, ..LoadConfig::to("") }
}

async fn sent(config: LoadConfig) -> SenderAccount {
    within(load::run(config)).await.unwrap()
}

fn lockstep(config: LoadConfig) -> LoadConfig {
    LoadConfig { sender: SenderConfig { window: 1, ..config.sender }, ..config }
}

fn balances(sender: &SenderAccount, sink: &Sink) -> bool {
    Account::join(sender, [Route::all("sink", &sink.account())]).balances()
}

#[tokio::test]
async fn load_against_the_own_sink_balances() {
    let sink = sink(&[]).await;
    let sender = sent(LoadConfig { connections: 4, devices: 3, rate: 5000.0, ..load(&sink, 1000) }).await;
    assert!(sender.is_clean(), "{sender}");
    assert_eq!((sender.sent, sender.codes["CA"]), (1000, 1000));
    let account = sink.account();
    assert_eq!((account.received, account.repeats, account.gaps(), account.noise), (1000, 0, 0, 0));
    assert!(balances(&sender, &sink));
}

#[tokio::test]
async fn a_refused_message_is_in_no_account_as_delivered() {
    for (rule, code) in [("nth=5:AE", "CE"), ("id=00000001.0.5:AR", "CR")] {
        let sink = sink(&[rule]).await;
        let sender = sent(LoadConfig { run: 1, ..load(&sink, 10) }).await;
        assert_eq!((sender.acked, sender.naked, sender.codes[code]), (9, 1, 1));
        let account = sink.account();
        assert_eq!((account.received, account.refused, account.gaps()), (9, 1, 1));
        assert!(balances(&sender, &sink), "what was refused was not promised");
    }
}

#[tokio::test]
async fn a_lost_answer_is_followed_by_a_repeat_under_the_same_control_id() {
    for rule in ["nth=5:none", "nth=5:drop", "nth=5:late:2s"] {
        let sink = sink(&[rule]).await;
        let sender = sent(lockstep(load(&sink, 20))).await;
        assert!(sender.is_clean(), "{rule}: {sender}");
        let account = sink.account();
        assert_eq!(account.received, 20, "{rule}");
        assert!(account.repeats >= 1 && sender.resent >= 1, "{rule}");
        assert_eq!(account.reordered.count, 0, "{rule}");
        assert!(balances(&sender, &sink), "{rule}");
    }
}

#[tokio::test]
async fn a_connection_closed_before_the_message_was_taken_loses_nothing() {
    let sink = sink(&["nth=5:close"]).await;
    let sender =
        sent(LoadConfig { sender: SenderConfig { window: 1, ..load(&sink, 1).sender }, ..load(&sink, 20) }).await;
    assert!(sender.is_clean(), "{sender}");
    assert_eq!((sink.account().received, sink.account().repeats, sender.connections), (20, 0, 2));
}

#[tokio::test]
async fn a_wrong_or_second_answer_is_counted_and_never_matched() {
    for rule in ["nth=5:wrong-msa2", "nth=5:double"] {
        let sink = sink(&[rule]).await;
        let sender = sent(load(&sink, 20)).await;
        assert_eq!((sender.acked, sender.mismatched + sender.unexpected), (20, 1), "{rule}: {sender}");
        assert!(!sender.is_clean() && !balances(&sender, &sink), "{rule}");
    }
}

#[tokio::test]
async fn an_answer_without_frame_is_noise_and_no_answer() {
    let sink = sink(&["nth=5:unframed"]).await;
    let sender = sent(lockstep(load(&sink, 10))).await;
    assert_eq!(sender.acked, 10);
    assert!(sender.noise > 0 && sender.timeouts >= 1 && !sender.is_clean(), "{sender}");
}

#[tokio::test]
async fn an_answer_in_single_bytes_or_after_a_while_is_an_answer() {
    for rule in ["every=3:split", "every=3:slow:5ms"] {
        let sink = sink(&[rule]).await;
        let sender = sent(load(&sink, 20)).await;
        assert!(sender.is_clean() && balances(&sender, &sink), "{rule}: {sender}");
        assert_eq!(sink.account().repeats, 0, "{rule}");
    }
}

#[tokio::test]
async fn without_resend_a_lost_connection_leaves_messages_unanswered() {
    let sink = sink(&["nth=5:drop"]).await;
    let config = load(&sink, 20);
    let sender =
        sent(LoadConfig { sender: SenderConfig { resend: false, window: 1, ..config.sender.clone() }, ..config }).await;
    assert_eq!((sender.acked, sender.unanswered(), sender.lost, sender.resent), (19, 1, 1, 0));
    assert!(balances(&sender, &sink), "it was taken, but nothing was promised");
}

#[tokio::test]
async fn an_outage_keeps_port_and_account_and_loses_nothing() {
    let sink = sink(&[]).await;
    let config = LoadConfig { rate: 400.0, ..load(&sink, 200) };
    let sending = tokio::spawn(load::run(config));
    for outage in 1..=3 {
        within(async {
            while sink.received() < outage * 30 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        sink.down().await;
        assert!(TcpStream::connect(sink.address()).await.is_err(), "something still listens");
        sink.up().await.unwrap();
    }
    let sender = within(sending).await.unwrap().unwrap();
    assert!(sender.is_clean() && balances(&sender, &sink), "{sender}\n{}", sink.account());
    assert!(sender.connections >= 4, "{sender}");
}

#[tokio::test]
async fn a_scripted_outage_comes_and_goes() {
    let config = SinkConfig { outages: vec![Duration::ZERO..Duration::from_millis(100)], ..SinkConfig::default() };
    let sink = Sink::start("127.0.0.1:0", config).await.unwrap();
    within(async { while TcpStream::connect(sink.address()).await.is_ok() {} }).await;
    within(async { while TcpStream::connect(sink.address()).await.is_err() {} }).await;
    assert!(sent(load(&sink, 5)).await.is_clean());
}

#[tokio::test]
async fn the_ledgers_join_to_the_same_account_and_see_changed_bytes() {
    let file = |name: &str| std::env::temp_dir().join(format!("mllp-test-{name}-{}", std::process::id()));
    let (in_file, out_file) = (file("in"), file("out"));
    let config = SinkConfig { ledger: Some(out_file.clone()), ..SinkConfig::default() };
    let sink = Sink::start("127.0.0.1:0", config).await.unwrap();
    let live = sent(LoadConfig { ledger: Some(in_file.clone()), ..load(&sink, 30) }).await;
    let mut sender = SenderAccount::default();
    read_sender(&in_file, true, &mut sender).unwrap();
    let received = read_sink(&out_file, true).unwrap();
    assert_eq!((sender.sent, sender.acked, received.received), (live.sent, live.acked, 30));
    assert!(Account::join(&sender, [Route::all("sink", &received)]).balances());
    assert!(read_sink(&in_file, false).is_err(), "a sender's ledger is no destination's");

    let text = std::fs::read_to_string(&out_file).unwrap();
    let line = text.lines().find(|line| line.contains(".0.7\t")).unwrap();
    let hash = line.rsplit('\t').next().unwrap();
    std::fs::write(&out_file, text.replace(hash, "0000000000000bad")).unwrap();
    let account = Account::join(&sender, [Route::all("sink", &read_sink(&out_file, true).unwrap())]);
    assert_eq!(account.destinations[0].changed.first.iter().map(|id| id.seq).collect::<Vec<_>>(), [7]);
    std::fs::remove_file(in_file).unwrap();
    std::fs::remove_file(out_file).unwrap();
}

#[tokio::test]
async fn a_message_ignored_or_answered_with_the_answer_before_is_not_in_the_account_until_it_comes_again() {
    for (rule, wrong) in [("nth=5:ignore", 0), ("nth=5:previous", 1)] {
        let sink = sink(&[rule]).await;
        let sender = sent(lockstep(load(&sink, 10))).await;
        assert_eq!((sender.acked, sender.resent, sender.mismatched), (10, 1, wrong), "{rule}: {sender}");
        assert_eq!((sink.account().received, sink.account().repeats), (10, 0), "{rule}");
    }
}
