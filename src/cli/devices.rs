//! `devices`: who reports, who is silent, and what happened to one.

use clap::Args;
use serde_json::Value;

use super::{Common, Outcome, api::Api, block_on};

#[derive(Args)]
pub(super) struct DevicesArgs {
    /// One device by its id, as listed, with what happened to it lately
    id: Option<u64>,
    /// Forget this device, as one taken out of use; it comes back when it is heard
    #[arg(long, requires = "id")]
    forget: bool,
    /// Channel name
    #[arg(long)]
    channel: Option<String>,
    /// learning, reporting or silent
    #[arg(long)]
    state: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
}

pub(super) fn devices(common: &Common, args: DevicesArgs) -> Outcome {
    let api = Api::of(common)?;
    block_on(async {
        if let (Some(id), true) = (args.id, args.forget) {
            api.post(&format!("/api/devices/{id}/forget")).await?;
            println!("{id} is forgotten");
            return Ok(());
        }
        if let Some(id) = args.id {
            let device = api.one(&format!("/api/devices/{id}")).await?;
            api.print_one(&device, history);
            return Ok(());
        }
        let pairs = [("channel", args.channel), ("state", args.state)];
        let pairs = pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect();
        let found = api.list("/api/devices", pairs, args.limit).await?;
        if !common.json {
            println!("{}", heading());
        }
        api.print(&found, line);
        Ok(())
    })
}

fn columns(cells: [&str; 12]) -> String {
    let [id, state, last, quiet, every, skew, messages, silences, gaps, missing, late, rest] = cells;
    format!(
        "{id:>6}  {state:<9}  {last:<20}  {quiet:>8}  {every:>8}  {skew:>8}  {messages:>9}  {silences:>8}  {gaps:>5}  {missing:>7}  {late:>6}  {rest}"
    )
}

fn heading() -> String {
    let names =
        ["ID", "STATE", "LAST SEEN", "QUIET", "EVERY", "CLOCK", "MESSAGES", "SILENCES", "GAPS", "MISSING", "LATE"];
    let mut cells = ["CHANNEL  DEVICE"; 12];
    cells[..names.len()].copy_from_slice(&names);
    columns(cells)
}

fn line(device: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let of = |key: &str| text(&device[key]);
    let of_sequence = |key: &str| text(&device["sequence"][key]);
    let last = of("last_seen").chars().take(19).collect::<String>() + "Z";
    let seconds = |key: &str, signed: bool| match device[key].as_f64() {
        Some(seconds) => span(seconds, signed),
        None => "-".to_owned(),
    };
    columns([
        &of("id"),
        &of("state"),
        &last,
        &seconds("quiet_seconds", false),
        &seconds("expected_interval_seconds", false),
        &seconds("clock_skew_seconds", true),
        &of("messages"),
        &of("silences"),
        &of_sequence("gaps"),
        &of_sequence("missing"),
        &of("late"),
        &format!("{}  {}", of("channel"), of("device")),
    ])
}

/// `42s`, `7m`, `3h`, `9d`; with a sign for a clock's error.
fn span(seconds: f64, signed: bool) -> String {
    let (size, sign) = (
        seconds.abs(),
        if seconds < 0.0 {
            "-"
        } else if signed {
            "+"
        } else {
            ""
        },
    );
    let text = match size {
        _ if size < 120.0 => format!("{size:.0}s"),
        _ if size < 7_200.0 => format!("{:.0}m", size / 60.0),
        _ if size < 172_800.0 => format!("{:.0}h", size / 3_600.0),
        _ => format!("{:.0}d", size / 86_400.0),
    };
    format!("{sign}{text}")
}

fn history(device: &Value) -> String {
    let mut lines = vec![heading(), line(device)];
    for event in device["history"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let at = event["at"].as_str().unwrap_or("-");
        let what = event.as_object().into_iter().flatten().find(|(key, _)| *key != "at");
        let (what, how) = what.map_or(("-", String::new()), |(what, how)| (what.as_str(), told(how)));
        lines.push(format!("        {at}  {what}{how}"));
    }
    lines.join("\n")
}

/// ` seconds 60` of an event's figures.
fn told(how: &Value) -> String {
    let figures = how.as_object().into_iter().flatten();
    figures.map(|(name, value)| format!("  {name} {}", value.to_string().trim_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_under_its_heading_and_says_what_is_not_known() {
        let device = serde_json::json!({
            "id": 7, "device": "0011223344556677", "channel": "pumps", "state": "silent",
            "last_seen": "2026-03-01T12:00:00.5Z", "messages": 12, "silences": 1, "quiet_seconds": 600,
            "expected_interval_seconds": 60.0, "clock_skew_seconds": -3600.0, "late": 0,
        });
        let line = line(&device);
        assert_eq!(line.find("silent"), heading().find("STATE"));
        for cell in ["2026-03-01T12:00:00Z", "10m", "60s", "-60m", "pumps  0011223344556677", " - "] {
            assert!(line.contains(cell), "{cell} is not in {line}");
        }
    }
}
