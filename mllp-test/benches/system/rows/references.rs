//! What this machine can do at all: the references alone, as the other rows load them.

use super::{Found, Setting, millis};
use crate::report::{Evidence, Line};
use crate::site::{Beside, Sample};
use crate::spread::Spread;
use mllp_test::measure::Load;
use mllp_test::verify::Broken;

pub(super) async fn measure(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for kind in ["echo", "ack", "durable"] {
        for (shape, connections, window) in
            [("16 connections", 16, 1), ("one connection", 1, 1), ("16×16 pipelined", 16, 16)]
        {
            // A process each: what a turn left dirty is not the next one's.
            let server = Beside::start(kind, &setting.folder)?;
            let load = Load { window, echo: kind == "echo", ..setting.load(server.address, connections) };
            let mut samples = Vec::new();
            for _ in 0..setting.rounds {
                samples.push(server.send(load.clone()).await);
            }
            let mut evidence = Evidence::new("references", &format!("`{kind}`, {shape}"));
            samples.iter().for_each(|sample| evidence.load(&sample.outcome));
            found.evidence.push(evidence);
            found.lines.push(line(kind, shape, &samples));
        }
    }
    Ok(found)
}

fn line(kind: &str, shape: &str, samples: &[Sample]) -> Line {
    let cpu: Spread = samples.iter().map(Sample::cpu_micros).collect();
    let detail = format!("p50 {} ms, p99 {} ms; CPU {} µs", millis(samples, 0.5), millis(samples, 0.99), cpu.words());
    let rates = samples.iter().map(Sample::rate).collect();
    Line::new("references", "-", &format!("this machine: `{kind}`, {shape}"), "/s", rates).detail(detail)
}
