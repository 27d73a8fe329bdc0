//! `ack = "delivered"`: the application ACK says what became of the message, is owed until it is sent, and holds nothing up.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use mllp_test::{Sink, SinkConfig, script::Script};
use serde_json::Value;

use crate::{
    acks::{Ack, Gateway, message},
    engine::Site,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn channel(sink: &Sink, listener: &str) -> String {
    format!(
        "[listener]\naddress = \"LISTENER\"\nack = \"delivered\"\n{listener}\n[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{}\"\nretry = {{ first = \"20ms\", max = \"100ms\" }}\n",
        sink.address()
    )
}

async fn sink(script: &[&str]) -> Sink {
    let script = Script::parse(script.iter().copied()).unwrap();
    Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap()
}

fn steer(site: &Site, action: &str) {
    assert_eq!(site.post(&format!("/api/channels/pumps/destinations/ehr/{action}")).0, 204);
}

fn owed(site: &Site) -> Vec<Value> {
    site.json("/api/owed-acks")["items"].as_array().unwrap().clone()
}

fn until(site: &Site, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}: {:?}\n{}", owed(site), site.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn metric(site: &Site, line: &str) -> String {
    let (_, text) = site.get("/metrics").unwrap();
    let found = text.lines().find_map(|each| each.strip_prefix(line));
    found.unwrap_or_else(|| panic!("{line} in {text}")).trim().to_owned()
}

/// A message that is refused at once, to see what is answered before it.
fn refused(id: &str) -> String {
    message(id, "AL", "AL").replacen("8859/1", "KLINGON", 1)
}

fn told(ack: &Ack) -> (&str, &str) {
    (&ack.code, &ack.control_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accept_ack_comes_at_once_and_the_application_ack_once_every_destination_took_it() {
    let sink = sink(&[]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, ""))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    for number in 1..=3 {
        gateway.send(&message(&number.to_string(), "AL", "AL"));
        assert_eq!(told(&gateway.ack()), ("CA", number.to_string().as_str()));
    }
    gateway.send(&refused("BAD"));
    assert_eq!(told(&gateway.ack()), ("CE", "BAD"), "no AA before delivery");
    let listed = owed(&site);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|owed| owed["state"] == "delivering" && owed["channel"] == "pumps"), "{listed:?}");
    assert_eq!(metric(&site, "cannula_owed_acks{channel=\"pumps\"}"), "3");
    assert_eq!(site.json("/api/store")["waiting"], 3, "deliveries alone");
    let page = site.json("/api/owed-acks?limit=2");
    let rest = site.json(&format!("/api/owed-acks?limit=2&cursor={}", page["next"]));
    assert_eq!(
        (page["items"][1]["id"].clone(), rest["items"][0]["id"].clone()),
        (listed[1]["id"].clone(), listed[2]["id"].clone())
    );
    steer(&site, "resume");
    let acks: Vec<Ack> = (0..3).map(|_| gateway.ack()).collect();
    for number in ["1", "2", "3"] {
        assert!(acks.iter().any(|ack| told(ack) == ("AA", number)), "{acks:?}");
    }
    assert_eq!(sink.account().unnamed, 3);
    until(&site, "nothing is owed any more", || owed(&site).is_empty());
    let id = &listed[0]["id"];
    let timeline = site.json(&format!("/api/messages/{id}"));
    assert_eq!(timeline["state"], "delivered");
    assert!(timeline["timeline"].to_string().contains("@sender"), "{timeline}");
    assert_eq!(
        site.json("/api/channels/pumps")["destinations"].as_array().unwrap().len(),
        1,
        "no destination is made up"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_destination_refused_is_told_to_the_sender_and_only_where_it_asks() {
    // The sink refuses the second and the fourth for their content.
    let sink = sink(&["nth=2:AE", "nth=4:AE"]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, ""))]);
    site.start();
    let mut gateway = Gateway::connect(site.listener);
    for (id, application, due) in [
        ("1", "AL", Some("AA")),
        ("2", "AL", Some("AE")),
        ("3", "ER", None),
        ("4", "ER", Some("AE")),
        ("5", "SU", Some("AA")),
    ] {
        gateway.send(&message(id, "AL", application));
        assert_eq!(told(&gateway.ack()), ("CA", id));
        if let Some(due) = due {
            let ack = gateway.ack();
            assert_eq!(told(&ack), (due, id));
            assert_eq!(ack.error.as_deref(), (due == "AE").then_some("102"), "what the destination said");
        }
        until(&site, "ended", || owed(&site).is_empty());
    }
    gateway.send(&message("6", "AL", "NE"));
    assert_eq!(told(&gateway.ack()), ("CA", "6"));
    gateway.send(&refused("BAD"));
    assert_eq!(told(&gateway.ack()), ("CE", "BAD"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_waits_for_the_application_ack_alone_has_it_after_delivery_or_no_answer_in_time() {
    let sink = sink(&[]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, "ack_timeout = \"300ms\""))]);
    site.start();
    for (number, (accept, application)) in [("", ""), ("NE", "AL")].into_iter().enumerate() {
        let ids = [format!("NOW{number}"), format!("LATER{number}")];
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&message(&ids[0], accept, application));
        assert_eq!(told(&gateway.ack()), ("AA", ids[0].as_str()));
        steer(&site, "pause");
        gateway.send(&message(&ids[1], accept, application));
        assert!(gateway.frame().is_none(), "neither yes nor no can be said: the sender is to repeat it");
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&message(&ids[1], accept, application));
        steer(&site, "resume");
        assert_eq!(told(&gateway.ack()), ("AA", ids[1].as_str()));
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&message(&ids[1], accept, application));
        assert_eq!(told(&gateway.ack()), ("AA", ids[1].as_str()), "and again, by what became of the first");
    }
    assert_eq!(site.json("/api/store")["messages"], 4);
    assert_eq!(sink.account().unnamed, 4, "a repeat is no second delivery");
    assert!(owed(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owed_application_acks_survive_a_crash_and_are_sent_when_their_sender_is_heard_again() {
    let sink = sink(&[]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, ""))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    for number in 1..=20 {
        gateway.send(&message(&number.to_string(), "AL", "AL"));
        assert_eq!(gateway.ack().code, "CA");
    }
    site.kill();
    site.start();
    assert_eq!(owed(&site).len(), 20);
    steer(&site, "resume");
    tokio::task::block_in_place(|| site.drained());
    until(&site, "due", || owed(&site).iter().all(|owed| owed["state"] == "unsent" && owed["code"] == "AA"));
    assert_eq!(owed(&site).len(), 20, "their sender is not there");
    let mut other = Gateway::connect(site.listener);
    other.send(&message("OTHER", "AL", "NE").replacen("GW^0123456789ABCDEF", "GW2^0123456789ABCDE0", 1));
    assert_eq!(told(&other.ack()), ("CA", "OTHER"));
    let mut gateway = Gateway::connect(site.listener);
    gateway.send(&message("21", "AL", "AL"));
    let acks: Vec<Ack> = (0..22).map(|_| gateway.ack()).collect();
    assert_eq!(acks.iter().filter(|ack| ack.code == "CA").count(), 1);
    for number in 1..=21 {
        let of_it = |ack: &&Ack| told(ack) == ("AA", number.to_string().as_str());
        assert_eq!(acks.iter().filter(of_it).count(), 1, "{number}: {acks:?}");
    }
    until(&site, "nothing is owed any more", || owed(&site).is_empty());
    other.send(&refused("BAD").replacen("GW^0123456789ABCDEF", "GW2^0123456789ABCDE0", 1));
    assert_eq!(told(&other.ack()), ("CE", "BAD"), "nobody is told of another sender's messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_ack_owed_over_a_crash_is_that_to_the_message_as_its_sender_is_read() {
    let sink = sink(&[]).await;
    let tolerance = "translate = \"repaired\"\n[tolerance]\ndoubled_escape = \"accept\"\nglued_segments = \"accept\"\n";
    let mut site = Site::new(&[("pumps", &format!("{}{tolerance}", channel(&sink, "")))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    // As received, the one has no MSH that can be read, and the other's ends in the next segment's id.
    let escaped = message("ESCAPED", "AL", "AL").replacen("|^~\\&|", "|^~\\\\&|", 1);
    let glued = message("GLUED", "AL", "AL").replacen('\r', "", 1);
    for sent in [&escaped, &glued] {
        gateway.send(sent);
        assert_eq!(gateway.ack().code, "CA", "{sent}");
    }
    site.kill();
    site.start();
    steer(&site, "resume");
    tokio::task::block_in_place(|| site.drained());
    let mut gateway = Gateway::connect(site.listener);
    gateway.send(&message("BACK", "AL", "NE"));
    let mut acks = [gateway.frame().unwrap(), gateway.frame().unwrap(), gateway.frame().unwrap()];
    acks.sort_by_key(|ack| !ack.contains("MSA|CA"));
    for (ack, id) in acks[1..].iter().zip(["ESCAPED", "GLUED"]) {
        assert!(ack.starts_with("MSH|^~\\&|") && ack.contains(&format!("\rMSA|AA|{id}\r")), "{ack}");
        assert!(ack.split('\r').next().unwrap().ends_with("|8859/1"), "{ack}");
    }
    until(&site, "nothing is owed any more", || owed(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_owed_goes_at_once_and_in_order_when_the_sender_is_back_with_whatever_it_asks() {
    const MESSAGES: u32 = 300;
    let sink = sink(&[]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, ""))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    for number in 1..=MESSAGES {
        gateway.send(&message(&number.to_string(), "AL", "AL"));
        assert_eq!(gateway.ack().code, "CA");
    }
    drop(gateway);
    steer(&site, "resume");
    tokio::task::block_in_place(|| site.drained());
    let begun = Instant::now();
    let mut gateway = Gateway::connect(site.listener);
    gateway.send(&message("BACK", "AL", "NE"));
    let acks: Vec<Ack> = (0..=MESSAGES).map(|_| gateway.ack()).collect();
    let took = begun.elapsed();
    let application: Vec<&str> = acks.iter().filter(|ack| ack.code == "AA").map(|ack| &*ack.control_id).collect();
    let due: Vec<String> = (1..=MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(application, due);
    // Not a part of them at each look at what is left.
    assert!(took < Duration::from_secs(10), "{took:?}");
    until(&site, "nothing is owed any more", || owed(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_ack_goes_to_the_ack_address_while_its_sender_has_no_connection() {
    let (sink, listener) = (sink(&[]).await, TcpListener::bind("127.0.0.1:0").unwrap());
    let address = format!("ack_address = \"{}\"", listener.local_addr().unwrap());
    let mut site = Site::new(&[("pumps", &channel(&sink, &address))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    gateway.send(&message("1", "AL", "AL"));
    assert_eq!(gateway.ack().code, "CA");
    drop(gateway);
    steer(&site, "resume");
    let mut called = Gateway::of(listener.accept().unwrap().0);
    assert_eq!(told(&called.ack()), ("AA", "1"));
    until(&site, "nothing is owed any more", || owed(&site).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owed_ack_can_be_given_up_and_a_delivery_that_is_given_up_is_told() {
    let sink = sink(&[]).await;
    let mut site = Site::new(&[("pumps", &channel(&sink, ""))]);
    site.start();
    steer(&site, "pause");
    let mut gateway = Gateway::connect(site.listener);
    for id in ["1", "2"] {
        gateway.send(&message(id, "AL", "AL"));
        assert_eq!(gateway.ack().code, "CA");
    }
    let first = owed(&site)[0]["entry"].clone();
    let (code, said, _) = site.command(&["owed", "list"]);
    assert_eq!((code, said.lines().count()), (0, 2), "{said}");
    let (code, said, fault) = site.command(&["owed", "discard", &first.to_string()]);
    assert_eq!(code, 0, "{said}{fault}");
    assert_eq!(site.post(&format!("/api/owed-acks/{first}/discard")).0, 404, "it is gone");
    assert_eq!(owed(&site).len(), 1);
    assert_eq!(metric(&site, "cannula_owed_acks_given_up_total{channel=\"pumps\"}"), "1");
    assert_eq!(site.json("/api/dead")["items"], Value::Array(Vec::new()));
    // The destination has another name from now on: an operator gives up what waits for the old one.
    site.write_channel("pumps", &channel(&sink, "").replace("name = \"ehr\"", "name = \"new\""));
    until(&site, "reloaded", || site.get("/api/channels").unwrap().1.contains("\"new\""));
    let (given_up, said) = site.post("/api/channels/pumps/destinations/ehr/discard-waiting");
    assert_eq!(given_up, 200, "{said}");
    let ack = gateway.ack();
    assert_eq!((told(&ack), ack.error.as_deref()), (("AE", "2"), Some("207")));
}

/// An infusion order (IHE PCD-03) that asks for both answers.
fn order(id: &str) -> String {
    format!(
        "MSH|^~\\&|CPOE|H|PUMPS|H|20260314101500+0000||RGV^O15^RGV_O15|{id}|P|2.6|||AL|AL|||||PIV^IHE PCD^1.3.6.1.4.1.19376.1.6.1.3.1^ISO\r\
         PID|||7^^^H||A^ANN\rORC|RE|1^CPOE\rRXG|1|||1^Dopamine|250||mL^^UCUM\r"
    )
}

#[test]
fn the_reason_a_pump_gives_against_an_order_reaches_who_ordered_as_rrg_o16() {
    let pump = TcpListener::bind("127.0.0.1:0").unwrap();
    let channel = format!(
        "[listener]\naddress = \"LISTENER\"\nack = \"delivered\"\n[[destination]]\nname = \"pumps\"\ntype = \"mllp\"\naddress = \"{}\"\nanswer = \"application\"\n",
        pump.local_addr().unwrap()
    );
    let mut site = Site::new(&[("orders", &channel)]);
    site.start();
    let mut portal = Gateway::connect(site.listener);
    portal.send(&order("O1"));
    assert_eq!(told(&portal.ack()), ("CA", "O1"));
    let mut gateway = Gateway::of(pump.accept().unwrap().0);
    assert!(gateway.frame().unwrap().contains("RGV^O15"));
    gateway.send("MSH|^~\\&|PUMPS|H|CPOE|H|20260314||ACK^O15^ACK|K1|P|2.6\rMSA|CA|O1\r");
    gateway.send(
        "MSH|^~\\&|PUMPS|H|CPOE|H|20260314||RRG^O16^RRG_O16|R1|P|2.6|||AL|NE\rMSA|AR|O1\r\
         ERR|||207^Application error^HL70357|E|9010^Drug of A^ANN unknown^99PIV||for A^ANN\r",
    );
    let answer = portal.frame().unwrap();
    assert!(answer.contains("||RRG^O16^RRG_O16|") && answer.contains("^1.3.6.1.4.1.19376.1.6.1.3.2^ISO\r"), "{answer}");
    assert!(answer.contains("MSA|AR|O1\rERR|||207^Application error^HL70357|E|9010||"), "{answer}");
    assert!(!answer.contains("ANN"), "what the pump wrote in words may name the patient: {answer}");
}
