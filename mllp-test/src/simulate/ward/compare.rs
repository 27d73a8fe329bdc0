//! The books against what the engine tells over its API.

use super::book::Book;
use super::device::Device;
use super::message::device_eui;
use super::{GatewayKind, INTERVAL, STEP};
use crate::verify::http;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn json(admin: SocketAddr, path: &str) -> Result<Value, String> {
    let (status, body) = http::request(admin, "GET", path, None, PATIENCE).await?;
    if status != 200 {
        return Err(format!("{path} is answered with {status}"));
    }
    serde_json::from_slice(&body).map_err(|fault| format!("{path}: {fault}"))
}

/// Every device the engine tells of, by its identity.
pub(super) async fn devices(admin: SocketAddr, filter: &str) -> Result<BTreeMap<String, Value>, String> {
    let mut devices = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = json(admin, &format!("/api/devices?limit=200{filter}{cursor}")).await?;
        for device in page["items"].as_array().into_iter().flatten() {
            devices.insert(device["device"].as_str().unwrap_or_default().to_owned(), device.clone());
        }
        match page["next"].as_u64() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(devices),
        }
    }
}

/// Those that are told silent and are not, and those that are and are not told.
pub(super) fn silences_now(ward: &[Device], told: &BTreeMap<String, Value>, now: i64, up_since: i64) -> Vec<String> {
    let wrong = |device: &Device| {
        let is_told = told.contains_key(&name(device));
        match device.book.is_silent(now, up_since, STEP)? {
            true if !is_told => Some(format!("{} is silent at {now} s and not told so", name(device))),
            false if is_told => Some(format!("{} is told silent at {now} s and is not", name(device))),
            _ => None,
        }
    };
    ward.iter().filter_map(wrong).collect()
}

/// Everything told of one device at the end that is not as its book says. `status` is with its history.
pub(super) fn device(device: &Device, status: &Value, start: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let book = &device.book;
    let mut check = |what: &str, told: &Value, right: bool, expected: String| {
        if !right {
            found.push(format!("{}: {what} is told as {told} and is {expected}", name(device)));
        }
    };
    let number = |key: &str| status[key].as_u64().unwrap_or(u64::MAX);
    let same = |key: &str, expected: u64| (number(key) == expected, expected.to_string());
    let mut equal = |key: &'static str, expected: u64| {
        let (right, expected) = same(key, expected);
        check(key, &status[key], right, expected);
    };
    equal("messages", book.messages);
    equal("observations", book.reports);
    equal("silences", book.silences.len() as u64);
    equal("clock_sets", book.clock_sets.len() as u64);
    let late = book.late();
    check("late", &status["late"], late.contains(&number("late")), format!("{late:?}"));
    check("state", &status["state"], status["state"] == "reporting", "reporting".into());
    let interval = status["expected_interval_seconds"].as_f64();
    check("interval", &status["expected_interval_seconds"], interval == Some(INTERVAL as f64), INTERVAL.to_string());
    // What waits for the next step counts as behind.
    let skew = device.skew as f64;
    let near = status["clock_skew_seconds"].as_f64().is_some_and(|told| (skew - 20.0..=skew + 5.0).contains(&told));
    check("clock skew", &status["clock_skew_seconds"], near, skew.to_string());
    let told = silences_told(status, start);
    check("silences", &status["history"], agrees(&told, book), format!("{:?}", book.silences));
    found
}

/// Gaps, what is missing and repeats: by device, or for the whole of a gateway that counts for its devices.
pub(super) fn sequences(ward: &[&Device], told: &BTreeMap<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, of_book) in [
        ("gaps", (|book| book.gaps) as fn(&Book) -> u64),
        ("missing", |book| book.missing),
        ("repeats", |book| book.repeats),
    ] {
        let expected: u64 = ward.iter().map(|device| of_book(&device.book)).sum();
        let of_device = |device: &&Device| told.get(&name(device)).and_then(|told| told["sequence"][key].as_u64());
        let sum: u64 = ward.iter().filter_map(of_device).sum();
        let who = ward.first().map(|device| name(device)).unwrap_or_default();
        if sum != expected {
            found.push(format!("{who} and {} more: {key} told {sum}, are {expected}", ward.len() - 1));
        }
        let counts = ward.first().is_some_and(|device| device.kind != GatewayKind::Ticks);
        let known = ward.iter().filter_map(of_device).count();
        if known != if counts { ward.len() } else { 0 } {
            found.push(format!("{who} and {} more: {known} of them are told to count", ward.len() - 1));
        }
    }
    found
}

pub(super) fn name(device: &Device) -> String {
    format!("{:016X}", device_eui(device.index))
}

/// From the last report before it to the return, in seconds from the start.
fn silences_told(status: &Value, start: Timestamp) -> Vec<(i64, i64)> {
    let second = |at: &Value| {
        let at: Option<Timestamp> = at.as_str().and_then(|at| at.parse().ok());
        at.map_or(-1, |at| at.duration_since(start).as_secs())
    };
    let mut silences = Vec::new();
    for event in status["history"].as_array().into_iter().flatten() {
        if event["silent"].is_object() {
            silences.push((second(&event["silent"]["since"]), -1));
        } else if let (true, Some(last)) = (event["returned"].is_object(), silences.last_mut()) {
            last.1 = second(&event["at"]);
        }
    }
    silences
}

fn agrees(told: &[(i64, i64)], book: &Book) -> bool {
    let near = |a: i64, b: i64| (a - b).abs() <= STEP;
    let same = |(told, own): (&(i64, i64), &(i64, i64))| near(told.0, own.0) && near(told.1, own.1);
    told.len() == book.silences.len() && told.iter().zip(&book.silences).all(same)
}
