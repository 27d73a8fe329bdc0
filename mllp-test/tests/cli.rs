//! The command line from outside: what scripts rely on are exit codes and JSON.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mllp_test::fhir_sink::FhirAction;
use mllp_test::script::Script;
use mllp_test::{FhirSink, FhirSinkConfig, Sink, SinkConfig};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// Longer than any command here takes on a busy machine: what runs on is a fault of the test or of the command.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the binary beside the sinks of this process, which answer it.
async fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mllp-test"));
    command.args(args).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.unwrap_or_else(|_| panic!("{args:?} did not end")).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        File(std::env::temp_dir().join(format!("mllp-test-cli-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn sink(rules: &[&str], ledger: Option<&File>) -> Sink {
    let script = Script::parse(rules.iter().copied()).unwrap();
    let config = SinkConfig { script, ledger: ledger.map(|file| file.0.clone()), ..SinkConfig::default() };
    Sink::start("127.0.0.1:0", config).await.unwrap()
}

#[tokio::test]
async fn every_command_has_help_with_an_example() {
    for command in ["send", "load", "sink", "fhir-sink", "simulate", "spec", "conform", "join", "verify"] {
        let output = run(&[command, "--help"]).await;
        assert!(output.status.success() && text(&output).contains("Example: mllp-test"), "{command}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_is_64() {
    for args in
        [&["load"][..], &["sink", "127.0.0.1:0", "--script", "nth=1:explode"], &["fhir-sink", "x", "--down", "5..5"]]
    {
        assert_eq!(run(args).await.status.code(), Some(64), "{args:?}");
    }
}

#[tokio::test]
async fn send_prints_each_answer_and_fails_on_a_refusal() {
    let sink = sink(&["nth=2:AE"], None).await;
    let file = File::new("send.hl7");
    let message = |id| format!("MSH|^~\\&|A|B|C|D|20260102030405+0000||ORU^R01|{id}|P|2.6\nPID|||1\n");
    std::fs::write(&file.0, message("ONE") + &message("TWO")).unwrap();
    let output = run(&["send", &sink.address().to_string(), file.path()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("1: AA ONE") && text(&output).contains("2: AE TWO"), "{}", text(&output));
    let output = run(&["send", &sink.address().to_string(), file.path(), "--raw", "--json"]).await;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["code"].as_str(), output.status.code()), (Some("AA"), Some(0)));
}

#[tokio::test]
async fn conform_lists_breaches_and_is_1_for_errors_only_when_strict_and_for_a_listener_that_does_not_answer_as_asked()
{
    let file = File::new("conform.hl7");
    std::fs::write(&file.0, "MSH|^~\\&|A|B|C|D|20260102030405||ORU^R40^ORU_R40|ONE|P|2.6\nPID|||1\n").unwrap();
    let output = run(&["conform", file.path()]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("error   A03 MSH[1]-7"), "{}", text(&output));
    let output = run(&["conform", file.path(), "--strict", "--json"]).await;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["messages"][0]["verdict"]["transaction"]), (Some(1), &"PCD-04".into()));
    let sink = sink(&[], None).await;
    let output = run(&["conform", &sink.address().to_string(), "--transaction", "PCD-04"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let output = run(&["conform", &sink.address().to_string(), "--confirm", "2s"]).await;
    assert!(output.status.code() == Some(1) && text(&output).contains("D01"), "{}", text(&output));
}

#[tokio::test]
async fn load_and_simulate_write_ledgers_that_join_and_a_planted_loss_is_1() {
    let (sent, received) = (File::new("in.ledger"), File::new("out.ledger"));
    let sink = sink(&[], Some(&received)).await;
    let address = sink.address().to_string();
    let output =
        run(&["load", &address, "--messages", "50", "--window", "4", "--account", sent.path(), "--json"]).await;
    let account: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((account["acked"].as_u64(), output.status.code()), (Some(50), Some(0)));
    let simulate = ["simulate", &address, "--messages", "60", "--speed", "500", "--account", sent.path()];
    assert_eq!(run(&simulate).await.status.code(), Some(0));
    sink.down().await;

    let join = ["join", sent.path(), received.path(), "--verbatim"];
    let output = run(&join).await;
    assert!(output.status.success() && text(&output).contains("acknowledged 110"), "{}", text(&output));
    let kept: Vec<String> = std::fs::read_to_string(&received.0).unwrap().lines().map(str::to_owned).collect();
    let without =
        kept.iter().filter(|line| !line.contains(".0.3\t")).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&received.0, without).unwrap();
    let output = run(&join).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("DOES NOT BALANCE"), "{}", text(&output));
    let dead = File::new("dead");
    let ids = kept.iter().filter(|line| line.contains(".0.3\t")).map(|line| line.split('\t').nth(2).unwrap());
    std::fs::write(&dead.0, ids.collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(run(&[&join[..], &["--dead", dead.path()]].concat()).await.status.code(), Some(0));
}

#[tokio::test]
async fn nothing_sent_is_no_success() {
    let gone = sink(&[], None).await;
    gone.down().await;
    let args = ["load", &gone.address().to_string(), "--messages", "1", "--drain", "10ms"];
    assert_eq!(run(&args).await.status.code(), Some(1));
}

#[tokio::test]
async fn load_that_sends_nothing_again_ends_with_the_reason_where_nobody_listens() {
    let gone = sink(&[], None).await;
    gone.down().await;
    let address = gone.address().to_string();
    let output = run(&["load", &address, "--messages", "1000", "--connections", "2"]).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("2 of 2 connections given up") && told.contains(&address), "{told}");
}

#[tokio::test]
async fn spec_writes_its_reports_and_fails_where_a_row_does() {
    let (sink, junit) = (sink(&[], None).await, File::new("spec.xml"));
    let address = sink.address().to_string();
    let output = run(&["spec", &address, "--row", "9", "--row", "42", "--splits", "3", "--junit", junit.path()]).await;
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for wanted in
        ["Framing\n  ok      9  LF after", "Header\n  FAIL   42  MSH-9 empty: whole: answered CA", "1 ok, 1 failed"]
    {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    assert!(std::fs::read_to_string(&junit.0).unwrap().contains("tests=\"2\" failures=\"1\""));
    let passing = run(&["spec", &address, "--row", "9", "--json"]).await;
    let report: serde_json::Value = serde_json::from_slice(&passing.stdout).unwrap();
    assert_eq!((report["rows"][0]["verdict"].as_str(), passing.status.code()), (Some("ok"), Some(0)));
    let channels = run(&["spec", "--print-channel"]).await;
    assert!(channels.status.success() && text(&channels).contains("# channels/spec-strict.toml"));
    assert_eq!(run(&["spec"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn the_library_starts_both_kinds_of_sink_with_one_rule_language() {
    let script = Script::<FhirAction>::parse(["nth=1:503", "every=2:slow:1ms"]).unwrap();
    let fhir = FhirSink::start("127.0.0.1:0", FhirSinkConfig { script, ..FhirSinkConfig::default() }).await.unwrap();
    assert!(fhir.url().ends_with("/fhir") && fhir.received() == 0);
    assert!(Script::<FhirAction>::parse(["nth=1:AE"]).is_err());
}

#[tokio::test]
async fn a_fhir_sink_that_asks_for_a_login_or_keeps_a_record_is_started_from_the_command_line() {
    let patient = ["fhir-sink", "127.0.0.1:0", "--record", "--patient", "urn:mrn|4711", "--lacks", "locations"];
    let output = run(&[&patient[..], &["--seconds", "50ms", "--json"]].concat()).await;
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(),
        serde_json::json!({ "Patient": 1 })
    );
    let jwks = File::new("jwks.json");
    std::fs::write(&jwks.0, "{\"keys\":[]}").unwrap();
    let login = ["fhir-sink", "127.0.0.1:0", "--client-id", "gw", "--jwks", jwks.path(), "--seconds", "50ms"];
    let output = run(&login).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("listening on http://127.0.0.1:"), "{told}");
    let absent = ["fhir-sink", "127.0.0.1:0", "--client-id", "gw", "--jwks", "/nowhere.json"];
    assert_eq!(run(&absent).await.status.code(), Some(1));
    for wrong in [&["--jwks", "x"][..], &["--lacks", "search"], &["--record", "--account", "x"]] {
        assert_eq!(run(&[&["fhir-sink", "127.0.0.1:0"], wrong].concat()).await.status.code(), Some(64), "{wrong:?}");
    }
}

#[tokio::test]
async fn verify_lists_its_faults_and_without_an_engine_or_with_an_unknown_fault_it_is_no_success() {
    let output = run(&["verify", "--list"]).await;
    let listed = text(&output);
    assert!(
        output.status.success() && listed.starts_with("FAULT") && listed.contains("SIGKILL under load"),
        "{listed}"
    );
    let folder = File::new("verify");
    let nowhere = ["verify", "--engine", "/nowhere/cannula", "--report", folder.path()];
    let unknown =
        run(&["verify", "--faults", "F99", "--engine", env!("CARGO_BIN_EXE_mllp-test"), "--report", folder.path()])
            .await;
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(told.contains("no fault F99") && !folder.0.exists(), "{told}");
    for more in [&["--faults", "F1"][..], &["--faults", "F99"], &["--self-test"]] {
        assert_eq!(run(&[&nowhere[..], more].concat()).await.status.code(), Some(1), "{more:?}");
    }
    let _ = std::fs::remove_dir_all(&folder.0);
    assert_eq!(run(&["verify", "--count", "F1"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn the_proxy_listens_for_its_time_and_a_rule_it_does_not_know_is_a_fault_of_the_command_line() {
    let good = ["proxy", "127.0.0.1:0", "127.0.0.1:9", "--there", "reset@frame=3", "--seconds", "50ms"];
    let output = run(&good).await;
    assert!(output.status.success() && text(&output).contains("0 connections, 0 cut"), "{}", text(&output));
    let bad = ["proxy", "127.0.0.1:0", "127.0.0.1:9", "--there", "explode@frame=3"];
    assert_eq!(run(&bad).await.status.code(), Some(64));
}
