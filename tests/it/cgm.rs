//! `cgm-summary`: the figures of the messages kept, of the one patient asked for, and nobody named outside of them.

use std::{fs, time::Duration};

use mllp_test::send::Client;
use serde_json::Value;

use crate::engine::Site;

/// Stands for a patient; must never be seen outside the message.
const CANARY: &str = "ZYXCANARY";
const PERIOD: [&str; 4] = ["--from", "2026-03-01T00:00:00Z", "--to", "2026-03-02T00:00:00Z"];

fn channel(folder: &std::path::Path) -> String {
    let folder = folder.display();
    format!(
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"file\"\ntype = \"file\"\ndirectory = \"{folder}\"\n"
    )
}

/// One reading, in the time zone of the sensor.
fn reading(patient: &str, authority: &str, minute: u32, value: &str) -> String {
    format!(
        "MSH|^~\\&|CGM|W|||20260301020000+0100||ORU^R01^ORU_R01|{patient}{authority}{minute}|P|2.6|||AL|NE\rPID|||{patient}^^^{authority}^MR||{CANARY}^A\rOBR|1||1|528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|||20260301020000+0100\rOBX|1|NM|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.1|{value}|264274^MDC_DIM_MILLI_G_PER_DL^MDC|||||R|||2026030101{minute:02}00+0100\r"
    )
}

async fn site_with(messages: &[String]) -> Site {
    let mut site = Site::new(&[]);
    fs::create_dir(site.path("sent")).unwrap();
    site.write_channel("cgm", &channel(&site.path("sent")));
    site.start();
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    for message in messages {
        assert!(client.send(message.as_bytes()).await.unwrap().is_positive());
    }
    site
}

fn asked(site: &Site, more: &[&str]) -> (i32, String, String) {
    let arguments: Vec<&str> =
        ["cgm-summary", "--patient", CANARY].into_iter().chain(PERIOD).chain(more.iter().copied()).collect();
    tokio::task::block_in_place(|| site.command(&arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_is_of_the_one_patients_readings_and_names_nobody() {
    let mut messages: Vec<String> =
        [(0, "100"), (5, "140"), (10, "180"), (15, "300")].map(|(at, value)| reading(CANARY, "H", at, value)).into();
    messages.push(reading("ZYX", "H", 20, "999"));
    messages.push(reading(CANARY, "H", 25, "").replace("||||R|", "||||X|"));
    let site = site_with(&messages).await;
    let (code, out, err) = asked(&site, &["--json"]);
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["readings"], &told["messages"]), (&4.into(), &5.into()), "{told}");
    assert_eq!(told["mean_mg_per_dl"].as_f64(), Some(180.0));
    assert_eq!(told["ranges"]["in_range"].as_f64(), Some(75.0));
    assert_eq!(told["left_out"]["without_value"], 1);
    let (code, out, err) = asked(&site, &["--fhir", "urn:oid:2.999.1"]);
    assert_eq!(code, 0, "{err}");
    let bundle: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(bundle["entry"].as_array().unwrap().len(), 7);
    let subject = &bundle["entry"][0]["resource"]["subject"]["reference"];
    assert_eq!(subject, &format!("Patient?identifier=urn:oid:2.999.1%7C{CANARY}"));
    let nobody: Vec<&str> = ["cgm-summary", "--patient", "nobody"].into_iter().chain(PERIOD).collect();
    let (code, out, err) = tokio::task::block_in_place(|| site.command(&nobody));
    assert!(code == 1 && out.is_empty() && err.contains("no message of such a patient"), "{code} {out} {err}");
    let audit = site.json("/api/audit");
    assert_eq!(audit["items"].as_array().unwrap().iter().filter(|one| one["action"] == "cgm.summary").count(), 3);
    for text in [site.log(), audit.to_string(), site.get("/metrics").unwrap().1] {
        assert!(!text.contains(CANARY), "{text}");
    }
}

/// What the file destination has, by name; a replaced file has the same one.
fn sent(site: &Site) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(site.path("sent")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_by_schedule_is_sent_once_over_restarts_even_where_what_was_done_is_forgotten() {
    // Yesterday as the engine's clock has it; two days, so that a midnight in between changes nothing.
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let day = yesterday.strftime("%Y%m%d").to_string();
    let messages =
        [(0, "100"), (5, "140")].map(|(at, value)| reading(CANARY, "H", at, value).replace("20260301", &day));
    let mut site = site_with(&messages).await;
    site.drained();
    assert_eq!(sent(&site).len(), 2);
    let summary = "[[summary]]\nname = \"daily\"\ndestination = \"file\"\ndays = 2\non = \"every day\"\nat = \"00:00\"\nzone = \"UTC\"\n";
    site.write_channel("cgm", &(channel(&site.path("sent")) + summary));
    site.logged("summaries made");
    site.drained();
    let made = sent(&site);
    assert_eq!(made.len(), 3, "{made:?}");
    site.kill();
    fs::remove_file(site.path("store/summaries.json")).unwrap();
    site.start();
    site.logged("made=0 made_before=1");
    assert_eq!(site.terminate(), 0);
    site.start();
    site.drained();
    assert_eq!(sent(&site), made);
    let found = tokio::task::block_in_place(|| site.command(&["messages", "list", "--channel", "cgm", "--json"])).1;
    assert_eq!(found.matches("received_at").count(), 3, "{found}");
    let newest = fs::read_to_string(site.path("sent").join(made.last().unwrap())).unwrap();
    assert!(newest.contains("107931-8") && newest.contains("97507-8^Mean glucose^LN||120.0|"), "{newest}");
    assert!(!site.log().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_of_two_authorities_is_told_of_one_of_them_or_not_at_all() {
    let site = site_with(&[reading(CANARY, "H", 0, "100"), reading(CANARY, "J", 5, "300")]).await;
    let (code, out, err) = asked(&site, &["--json"]);
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("give authority") && !err.contains(CANARY), "{err}");
    let (code, out, err) = asked(&site, &["--json", "--authority", "J"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["mean_mg_per_dl"].as_f64(), Some(300.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_refused_with_what_to_do() {
    let site = site_with(&[reading(CANARY, "H", 0, "100")]).await;
    for (more, what) in [
        (&["--fhir", "urn:oid:2.999.1"][..], "fewer than two readings"),
        (&["--fhir", "not a uri"], "must be a URI"),
        (&["--interval", "0"], "1 to 60"),
        (&["--channel", "none"], "no such channel"),
    ] {
        let (code, _, err) = asked(&site, more);
        assert_eq!(code, 1, "{more:?}");
        assert!(err.contains(what) && !err.contains(CANARY), "{err}");
    }
    let (code, out, _) = asked(&site, &[]);
    assert_eq!(code, 0);
    assert!(out.contains("GMI               5.7 %") && out.contains("too little to judge by"), "{out}");
}
