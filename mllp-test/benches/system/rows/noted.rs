//! Rows that are measured elsewhere.

use super::Found;
use crate::report::{Goal, Line};
use mllp_test::verify::Broken;
use serde_json::Value;
use std::path::Path;

/// What the criterion benchmark `hl7` last measured on this machine.
pub(super) fn index() -> Result<Found, Broken> {
    // This program is target/release/deps/system-….
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).unwrap_or(Path::new("."));
    let nanos = |name: &str| -> Option<(f64, f64)> {
        let folder = target.join("criterion/hl7").join(name).join("new");
        let read = |file: &str| serde_json::from_slice::<Value>(&std::fs::read(folder.join(file)).ok()?).ok();
        let nanos = read("estimates.json")?["median"]["point_estimate"].as_f64()?;
        Some((nanos, read("benchmark.json")?["throughput"]["Bytes"].as_f64()?))
    };
    let absent = "run `cargo bench -p cannula --bench hl7` first";
    let line = |what, unit, measured: Option<f64>, reach: Goal, aim: Goal| {
        match measured {
            Some(number) => Line::new("index", "-", what, unit, vec![number].into())
                .detail("the last `cargo bench -p cannula --bench hl7`"),
            None => Line::unmeasured("index", what, absent),
        }
        .goals(reach, aim)
    };
    let index = nanos("index").map(|(nanos, bytes)| bytes / nanos);
    let routing = nanos("routing_fields").map(|(nanos, _)| nanos / 1e3);
    let lines = vec![
        line("full field index of 4 KiB", "GB/s", index, Goal::AtLeast(0.8), Goal::AtLeast(1.0)),
        line("routing fields", "µs", routing, Goal::AtMost(1.0), Goal::AtMost(1.0)),
    ];
    Ok(Found { lines, evidence: Vec::new() })
}
