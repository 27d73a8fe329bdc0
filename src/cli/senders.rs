//! `conformance`: what each sender breaks, and its quirks, from the running engine.

use clap::Args;
use serde_json::Value;

use super::{Common, Outcome, api::Api, block_on, count};

#[derive(Args)]
pub(super) struct ConformanceArgs {
    /// Only senders whose last message this channel took
    #[arg(long)]
    channel: Option<String>,
    /// Only this rule, such as A03
    #[arg(long)]
    rule: Option<String>,
    /// Only this quirk, such as no_zone
    #[arg(long)]
    quirk: Option<String>,
    /// At most this many senders
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) fn conformance(common: &Common, args: &ConformanceArgs) -> Outcome {
    let api = Api::of(common)?;
    let pairs = [("channel", &args.channel), ("rule", &args.rule), ("quirk", &args.quirk)];
    let pairs = pairs.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, value))).collect();
    block_on(async {
        api.print(&api.list("/api/conformance", pairs, args.limit).await?, sender);
        Ok(())
    })
}

/// A sender, and a line for each rule it breaks and each quirk it has.
fn sender(item: &Value) -> String {
    let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![format!(
        "{} | {}  {}  {} of {} {} a rule since {}",
        text("application"),
        text("facility"),
        text("channel"),
        item["nonconforming"],
        count(item["messages"].as_u64().unwrap_or_default(), "message"),
        if item["nonconforming"] == 1 { "breaks" } else { "break" },
        text("first_seen"),
    )];
    for rule in item["rules"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let last = rule["last_seen"].as_str().unwrap_or("-");
        let messages = rule["messages"].as_u64().unwrap_or_default();
        lines.push(format!("{messages:>8}  {}, last {last}", finding(rule)));
    }
    for quirk in item["quirks"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| quirk[key].as_str().unwrap_or("-").to_owned();
        let messages = quirk["messages"].as_u64().unwrap_or_default();
        let (id, what, first, last) = (text("quirk"), text("what"), text("first_seen"), text("last_seen"));
        lines.push(format!("{messages:>8}  {id}: {what} First {first}, last {last}"));
    }
    lines.join("\n")
}

/// One finding on one line.
pub(super) fn finding(item: &Value) -> String {
    let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
    let words = item["text"].as_str().or(item["what"].as_str()).unwrap_or("-");
    format!("{} {} {}: {words} ({})", text("rule"), text("severity"), text("place"), text("section"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sender_is_shown_with_a_line_for_each_rule_it_breaks() {
        let item = json!({
            "application": "GW^1^EUI-64", "facility": "4W", "channel": "pumps", "messages": 9, "nonconforming": 2,
            "first_seen": "2026-03-01T00:00:00Z",
            "rules": [{
                "rule": "A03", "severity": "error", "section": "TF-2 C.4", "what": "every time has a zone",
                "messages": 2, "last_seen": "2026-03-02T00:00:00Z", "place": "OBX^4^14",
            }],
            "quirks": [{
                "quirk": "no_zone", "what": "A time of day without a zone.", "messages": 4,
                "first_seen": "2026-03-01T00:00:00Z", "last_seen": "2026-03-03T00:00:00Z",
            }],
        });
        let lines = [
            "GW^1^EUI-64 | 4W  pumps  2 of 9 messages break a rule since 2026-03-01T00:00:00Z",
            "       2  A03 error OBX^4^14: every time has a zone (TF-2 C.4), last 2026-03-02T00:00:00Z",
            "       4  no_zone: A time of day without a zone. First 2026-03-01T00:00:00Z, last 2026-03-03T00:00:00Z",
        ];
        assert_eq!(sender(&item), lines.join("\n"));
    }
}
