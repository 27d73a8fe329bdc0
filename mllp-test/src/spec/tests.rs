#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::script::Script;
use crate::sink::{Sink, SinkConfig};
use std::collections::BTreeSet;

async fn sink(script: &[&str]) -> Sink {
    let script = Script::parse(script.iter().copied()).unwrap();
    Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap()
}

async fn report_of(sink: &Sink, change: impl FnOnce(Options) -> Options) -> Report {
    run(&change(Options::to(sink.address().to_string())), |_| ()).await
}

fn failed(report: &Report) -> Vec<&str> {
    report.rows.iter().filter(|row| row.has_failed()).map(|row| row.row.as_str()).collect()
}

fn only(rows: &[u8]) -> impl FnOnce(Options) -> Options {
    move |options| Options { only: rows.to_vec(), ..options }
}

#[tokio::test]
async fn a_receiver_that_takes_everything_fails_exactly_where_it_should_have_refused() {
    let sink = sink(&[]).await;
    let report = report_of(&sink, only(&[42, 46, 47, 48, 51, 53, 63, 64, 65, 70])).await;
    assert_eq!(failed(&report), ["42", "46", "47", "51", "51", "53", "53", "53", "64", "64", "64", "65", "65"]);
    let text = report.failures();
    assert!(text.contains("whole: answered CA where CR is due"), "{text}");
    assert!(text.contains("sent      <VT>MSH|") && text.contains("answer    <") || text.contains("answer    MSH"));
    assert!(text.contains("expected  CR with ERR-3 200, MSA-2 as sent; the good message behind it taken"), "{text}");
}

#[tokio::test]
async fn framing_rows_pass_where_frames_are_read_rightly() {
    let sink = sink(&[]).await;
    let report = report_of(&sink, only(&[1, 3, 7, 8, 9, 10, 18, 19, 23, 24, 58])).await;
    assert!(report.is_clean(), "{}", report.failures());
}

#[tokio::test]
async fn cut_in_two_a_row_is_judged_as_when_it_comes_whole() {
    let sink = sink(&[]).await;
    let rows = only(&[7, 42, 46, 61, 64]);
    let whole = report_of(&sink, only(&[7, 42, 46, 61, 64])).await;
    let split = report_of(&sink, |it| Options { splits: Splits::Some(3), jobs: 4, seed: 7, ..rows(it) }).await;
    assert_eq!(failed(&split), failed(&whole));
    let passed: Vec<usize> = split.rows.iter().filter(|row| row.passed()).map(|row| row.ways).collect();
    assert!(passed.iter().all(|ways| *ways == 7), "whole and in pieces in two modes, and three splits: {passed:?}");
    let cut = report_of(&sink, |it| Options { splits: Splits::All, jobs: 16, ..only(&[7])(it) }).await;
    assert!(cut.is_clean() && cut.rows[0].ways > 600, "{}: {}", cut.rows[0].ways, cut.failures());
}

#[tokio::test]
async fn a_silent_receiver_fails_every_row_that_it_is_asked() {
    let sink = sink(&["close"]).await;
    // Without the floods, which take long where nothing ends them.
    let rows: Vec<u8> = (1..=84).filter(|row| !(14..=16).contains(row)).collect();
    let second = Duration::from_secs(1);
    let report = report_of(&sink, |it| Options { ack_timeout: second, ..only(&rows)(it) }).await;
    let [ok, failed, skipped] = report.counts();
    // A receiver that closes at once does what these rows want of the connection, but takes no good message after it.
    assert!(
        ok == 0 || report.rows.iter().filter(|row| row.passed()).all(|row| row.row == "21"),
        "{}",
        report.summary()
    );
    assert!(failed > 100 && skipped > 20, "{}", report.summary());
}

#[tokio::test]
async fn what_needs_a_setting_is_skipped_with_the_option_that_gives_it() {
    let sink = sink(&[]).await;
    let report = report_of(&sink, only(&[4, 17, 20, 22, 27, 28, 29, 30, 72, 84])).await;
    for row in report.rows.iter().filter(|row| row.row != "72" || row.sent.is_empty()) {
        assert!(matches!(&row.verdict, Verdict::Skip(why) if why.contains("--")), "{row}");
    }
    assert!(report.rows.iter().any(|row| matches!(&row.verdict, Verdict::Skip(why) if why.contains("--strict"))));
}

#[tokio::test]
async fn a_store_that_is_never_full_is_filled_no_further_than_its_bound_and_the_row_comes_last() {
    let sink = sink(&["after=5:AR"]).await;
    let full = Some(sink.address().to_string());
    let options = Options { full, max_message: 1_000, ..only(&[84, 7, 20])(Options::to(sink.address().to_string())) };
    let mut order = Vec::new();
    let report = run(&options, |row| order.push(row.row.clone())).await;
    assert_eq!(order, ["7", "20", "84"]);
    let row = report.rows.iter().find(|row| row.row == "84").unwrap();
    assert!(row.passed() && row.answer.contains("MSA|CR|"), "{}", row.in_full());
    let areas: Vec<Area> = report.rows.iter().map(|row| row.area).collect();
    assert!(areas.is_sorted(), "each part is told once: {areas:?}");
    let sink = self::sink(&["first=1:AE"]).await;
    let report = report_of(&sink, |it| Options { full: Some(it.address.clone()), ..only(&[84])(it) }).await;
    assert!(report.failures().contains("message 0 to fill it was answered"), "{}", report.failures());
}

#[test]
fn every_row_of_the_table_is_here() {
    let rows: BTreeSet<u8> =
        rows::all().iter().map(|case| case.row).chain(probe::all().iter().map(|it| it.row)).collect();
    let missing: Vec<u8> = (1..=84).filter(|row| !rows.contains(row)).collect();
    assert_eq!(missing, [0_u8; 0], "of the table");
}

#[test]
fn every_change_of_the_good_message_took_place() {
    // In these rows only the control id, the answers asked for or the way of sending differ.
    let by_id = [7, 46, 47, 48, 49, 50, 58, 59, 60];
    let ids = Ids { run: 1, item: 0 };
    for case in rows::all().iter().filter(|case| !by_id.contains(&case.row)) {
        for mode in [Mode::Enhanced, Mode::Original] {
            let draft = ids.draft("0", mode);
            let sent = (case.make)(&draft).bytes;
            let good = crate::frame::framed(draft.text().as_bytes());
            assert!(sent != good, "row {} ({}) sends the good message", case.row, case.what);
        }
    }
}

#[tokio::test]
async fn junit_and_json_hold_every_row_with_its_reason() {
    let sink = sink(&[]).await;
    let report = report_of(&sink, only(&[9, 27, 42])).await;
    let xml = report.junit();
    assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{xml}");
    assert!(
        xml.contains("<testcase classname=\"mllp.Framing\" name=\"9 LF after the end of the frame, then the next\"/>"),
        "{xml}"
    );
    assert!(xml.contains("<skipped message=\"needs a listener with TLS: --tls\"/>"), "{xml}");
    assert!(xml.contains("sent: &lt;VT&gt;MSH|^~\\&amp;|"), "{xml}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["rows"][1]["verdict"], "fail");
    assert_eq!(json["rows"][2]["reason"], "needs a listener with TLS: --tls");
}
