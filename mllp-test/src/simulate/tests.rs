#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::account::{Account, Expect, Route};
use crate::sink::{Sink, SinkConfig};
use crate::v2;
use std::collections::{HashMap, HashSet};
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(60);

fn config() -> SimulationConfig {
    let start = "2026-03-01T00:00:00Z".parse().unwrap();
    SimulationConfig { start, seed: 7, run: 9, pumps: 5, cgms: 3, ..SimulationConfig::to("127.0.0.1:9") }
}

fn reports(mut device: Device, times: usize) -> Vec<Outbound> {
    (0..times).flat_map(|_| device.report(9, None)).collect()
}

fn pump_reports(times: usize) -> Vec<Outbound> {
    let config = config();
    (0..config.pumps).flat_map(|index| reports(Device::pump(&config, index, Duration::from_secs(5)), times)).collect()
}

fn cgm_reports() -> Vec<Outbound> {
    let config = config();
    (0..config.cgms).flat_map(|index| reports(Device::cgm(&config, index), 288 * 11)).collect()
}

fn lines(message: &[u8]) -> Vec<Vec<&str>> {
    let text = std::str::from_utf8(message).unwrap();
    assert!(text.ends_with('\r') && !text.contains('\n'));
    text.trim_end_matches('\r').split('\r').map(|line| line.split('|').collect()).collect()
}

/// What TF-2 appendix B asks of every message, by the numbers in `lines` (MSH is one behind).
fn check(outbound: &Outbound) {
    let lines = lines(&outbound.message);
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(names[..4], ["MSH", "PID", "PV1", "OBR"]);
    assert!(names[4..].iter().all(|&name| name == "OBX"));
    let msh = &lines[0];
    let profile = match outbound.kind {
        Kind::R40 => "1.3.6.1.4.1.19376.1.6.1.4.1",
        Kind::R42 => "1.3.6.1.4.1.19376.1.6.4.10",
        _ => "1.3.6.1.4.1.19376.1.6.1.1.1",
    };
    assert_eq!((msh[14], msh[15], msh[11], msh[20].split('^').nth(2)), ("AL", "NE", "2.6", Some(profile)));
    assert_eq!(v2::message_id(&outbound.message), Some(outbound.id));
    assert_eq!(v2::kind(&outbound.message), outbound.kind);
    assert!(msh[6].ends_with("+0000") && lines[3][7].ends_with("+0000"));
    assert!(!lines[1][3].is_empty() && !lines[3][3].is_empty() && !lines[3][4].is_empty());
    let mut paths = HashSet::new();
    for (number, obx) in (1..).zip(&lines[4..]) {
        let field = |at: usize| obx.get(at).copied().unwrap_or_default();
        assert_eq!(field(1), number.to_string());
        assert!(paths.insert(field(4).to_owned()), "{} twice", field(4));
        let parts: Vec<&str> = field(4).split('.').collect();
        let is_device = parts.len() == 4 && parts[3] == "0";
        let term: Vec<&str> = field(3).split('^').collect();
        assert!(term[0].parse::<u32>().unwrap() > 0 && term[1].starts_with("MDC_") && term[2] == "MDC");
        for level in 1..4.min(parts.len()) {
            let ancestor = (0..4).map(|at| if at < level { parts[at] } else { "0" }).collect::<Vec<_>>().join(".");
            assert!(parts[level - 1] == "0" || paths.contains(&ancestor), "{} has no {ancestor} before it", field(4));
        }
        assert!(["X", "R", "F"].contains(&field(11)));
        assert_eq!(field(5).is_empty(), field(11) == "X", "{obx:?}");
        assert!(!is_device || field(11) == "X");
        match field(2) {
            "NM" => assert!(field(5).parse::<f64>().is_ok() && field(6).contains("UCUM"), "{obx:?}"),
            "SN" => assert!(["<^40", ">^400"].contains(&field(5))),
            type_ => assert!(["", "CWE", "ST", "DTM"].contains(&type_)),
        }
    }
    assert!(lines[4][18].ends_with("^EUI-64") && lines[4][18].len() == 16 + 2 + 16 + 7);
}

fn value<'m>(message: &'m [u8], refid: &str) -> Option<&'m str> {
    let text = std::str::from_utf8(message).unwrap();
    text.split('\r').find(|line| line.contains(refid))?.split('|').nth(5)
}

#[test]
fn every_simulated_message_has_the_shape_the_profile_asks_for() {
    pump_reports(1000).iter().chain(&cgm_reports()).for_each(check);
}

#[test]
fn the_same_seed_says_the_same_and_another_something_else() {
    let config = config();
    let say = |seed| {
        let config = SimulationConfig { seed, ..config.clone() };
        let pump = reports(Device::pump(&config, 1, Duration::from_secs(5)), 50);
        let cgm = reports(Device::cgm(&config, 1), 50);
        pump.into_iter().chain(cgm).map(|outbound| outbound.message).collect::<Vec<_>>()
    };
    assert_eq!(say(7), say(7));
    assert_ne!(say(7), say(8));
}

#[test]
fn ids_ascend_for_each_device_and_no_two_devices_share_one() {
    let mut last = HashMap::new();
    for outbound in pump_reports(100).iter().chain(&cgm_reports()) {
        let seq = last.entry(outbound.id.sender).or_insert(0);
        assert_eq!(outbound.id.seq, *seq + 1);
        *seq += 1;
    }
    assert_eq!(last.len(), 8);
}

#[test]
fn no_two_messages_of_a_pump_speak_of_the_same_moment() {
    let mut moments = HashSet::new();
    for outbound in pump_reports(1500) {
        let at = lines(&outbound.message)[0][6].to_owned();
        assert!(moments.insert((outbound.id.sender, at)), "{} speaks of a moment told before", outbound.id);
    }
}

#[test]
fn a_pump_tells_its_whole_life_and_never_delivers_while_stopped() {
    let reports = pump_reports(2500);
    let event = |name: &str| {
        let is =
            |outbound: &&Outbound| value(&outbound.message, "MDC_ATTR_EVT_COND").is_some_and(|it| it.contains(name));
        reports.iter().filter(is).count()
    };
    let phase = |name: &str| {
        reports.iter().filter(|outbound| value(&outbound.message, "MDC_ATTR_EVENT_PHASE") == Some(name)).count()
    };
    assert!(event("DELIV_START") > 5 && event("DELIV_STOP") > 5 && event("DELIV_COMP") >= 1, "too few events");
    assert!(phase("start") > 3 && phase("start").abs_diff(phase("end")) <= 5, "occlusions start and end");
    for outbound in &reports {
        let Some(status) = value(&outbound.message, "MDC_PUMP_INFUSING_STATUS") else { continue };
        let flow: f64 = value(&outbound.message, "MDC_FLOW_FLUID_PUMP_CURRENT").unwrap().parse().unwrap();
        assert_eq!(status == "^pump-status-infusing", flow > 0.0);
        let number = |refid| value(&outbound.message, refid).unwrap().parse::<f64>().unwrap();
        let sum = number("MDC_VOL_FLUID_DELIV_TOTAL") + number("MDC_VOL_FLUID_TBI_REMAIN");
        assert!((number("MDC_VOL_FLUID_TBI") - sum).abs() < 0.03, "volumes do not add up");
    }
}

#[test]
fn a_cgm_trace_stays_within_life_and_shows_all_of_it() {
    const DEVICES: u32 = 15;
    let (mut low, mut high, mut warm_up, mut values, mut sum) = (0, 0, 0, 0u64, 0.0);
    for index in 0..DEVICES {
        let cgm = Cgm::new(index, 7);
        let mut before = None;
        for minute in (0..30 * 1440).step_by(5) {
            let glucose = cgm.glucose(29_000_000 + minute);
            assert!((30.0..=480.0).contains(&glucose));
            assert!(before.is_none_or(|before: f64| (glucose - before).abs() <= 35.0), "jump at {minute} of {index}");
            before = Some(glucose);
            sum += glucose;
            match cgm.reading(Timestamp::from_second((29_000_000 + minute) * 60).unwrap()) {
                Reading::Low => low += 1,
                Reading::High => high += 1,
                Reading::WarmUp => warm_up += 1,
                Reading::Value(shown, trend) => {
                    values += 1;
                    assert!((40..=400).contains(&shown) && trend.abs() < 7.0);
                }
            }
        }
    }
    let readings = f64::from(DEVICES) * 30.0 * 288.0;
    let mean = sum / readings;
    assert!((110.0..190.0).contains(&mean), "mean {mean}");
    assert!(low > 0 && high > 0, "LOW {low}, HIGH {high}");
    assert!((low + high) as f64 / readings < 0.05 && values as f64 / readings > 0.9);
    // Each has three sensors in 30 days, and 24 readings of warm-up with each.
    assert!((DEVICES * 2 * 24..=DEVICES * 4 * 24).contains(&warm_up), "{warm_up}");
}

#[test]
fn a_rate_sets_how_often_pumps_report() {
    let (interval, speed) = SimulationConfig { pumps: 300, cgms: 300, rate: Some(101.0), ..config() }.pace();
    assert_eq!((interval, speed), (Duration::from_secs(3), 1.0));
    let (_, speed) = SimulationConfig { pumps: 0, cgms: 300, rate: Some(50.0), ..config() }.pace();
    assert_eq!(speed, 50.0);
}

#[tokio::test]
async fn simulated_gateways_survive_an_outage_and_the_account_balances() {
    let sink = async || Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let (pumps, cgms, alarms) = (sink().await, sink().await, sink().await);
    let mut config = SimulationConfig {
        cgm_address: Some(cgms.address().to_string()),
        alarm_address: Some(alarms.address().to_string()),
        pumps: 20,
        cgms: 10,
        connections: 0,
        speed: 1000.0,
        messages: Some(3000),
        canary: Some("CANARY".into()),
        ..config()
    };
    config.sender.address = pumps.address().to_string();
    config.sender.reconnect_pause = Duration::from_millis(5);
    let mut simulation = Simulation::start(config).unwrap();
    let some = async {
        while pumps.received() < 200 {
            tokio::task::yield_now().await
        }
    };
    timeout(BOUND, some).await.unwrap();
    pumps.down().await;
    pumps.up().await.unwrap();
    timeout(BOUND, simulation.finished()).await.unwrap();
    assert_eq!(simulation.progress(), (3000, 3000));
    let sender = timeout(BOUND, simulation.stop()).await.unwrap();
    assert!(sender.is_clean(), "{sender}");
    let (pumps, cgms, alarms) = (pumps.account(), cgms.account(), alarms.account());
    assert_eq!(pumps.received + cgms.received + alarms.received, 3000);
    assert!(cgms.received > 0 && alarms.received > 0);
    let to_pumps = |id: MessageId, kind| id.sender < 20 && kind != Kind::R40;
    let routes = [
        Route { expects: Expect::when(to_pumps), ..Route::all("pumps", &pumps) },
        Route { expects: Expect::senders(20..30), ..Route::all("cgms", &cgms) },
        Route { expects: Expect::kinds(&[Kind::R40]), ..Route::all("alarms", &alarms) },
    ];
    let account = Account::join(&sender, routes);
    assert!(account.balances(), "{account}");
}

#[tokio::test]
async fn a_stopped_simulation_ends_even_when_nobody_ever_answered() {
    let gone = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    gone.down().await;
    let mut config = config();
    config.sender.address = gone.address().to_string();
    config.sender.drain = Duration::from_millis(50);
    let simulation = Simulation::start(config).unwrap();
    let account = timeout(BOUND, simulation.stop()).await.unwrap();
    assert_eq!((account.sent, account.acked), (0, 0));
}
