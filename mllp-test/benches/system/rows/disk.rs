//! Bytes that go to the disk for each byte of a message: as the store grows, and once it recycles its segments. The disk's
//! own counter is read, so nothing else may write to it meanwhile; what it wrote in as long a time before is taken off.

use super::way::{EIGHT_LANES, Shape, Way};
use super::{Found, Setting};
use crate::report::{Goal, Line};
use crate::site::{Build, mounted};
use crate::spread::figure;
use mllp_test::measure::message::FRAME_BYTES;
use mllp_test::measure::{Load, process};
use mllp_test::verify::Broken;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Messages for each second of the measured time, first to fill the store and then to measure.
const MESSAGES_A_SECOND: f64 = 20_000.0;
/// The share of the messages' bytes that others may write meanwhile.
const OTHERS_MAX: f64 = 0.1;
/// Until what was begun beside the deliveries, such as a checkpoint, has reached the disk.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) async fn measure(setting: &Setting) -> Result<Found, Broken> {
    let what = "disk bytes written a message byte, all told";
    let (_, device, _) = mounted(&setting.folder);
    let disk = device.canonicalize().unwrap_or(device);
    let disk = disk.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if process::written(&disk).is_none() {
        let why = format!("the folder is on no disk that /proc/diskstats knows ({disk})");
        return Ok(Found { lines: vec![Line::unmeasured("disk", what, why)], evidence: Vec::new() });
    }
    let mut found = Found::default();
    for build in &setting.builds {
        let recycled = Shape { row: "disk", store: "[store]\nretain = \"0s\"\n", ..EIGHT_LANES };
        let line = written(setting, build, &disk, recycled, what, &mut found).await?;
        let detail = format!("segments recycled; {}", line.detail);
        found.lines.push(line.goals(Goal::AtMost(1.6), Goal::AtMost(1.3)).detail(detail));
        let grows = Shape { store: "", ..recycled };
        let line = written(setting, build, &disk, grows, "the same while the store grows", &mut found).await?;
        found.lines.push(line);
    }
    Ok(found)
}

async fn written(
    setting: &Setting,
    build: &Build,
    disk: &str,
    shape: Shape,
    what: &str,
    found: &mut Found,
) -> Result<Line, Broken> {
    let now = || process::written(disk).unwrap_or(0) as f64;
    let mut way = Way::open(setting, build, shape).await?;
    let each = (setting.time.as_secs_f64() * MESSAGES_A_SECOND / 16.0).ceil() as u64;
    let load =
        Load { messages: Some(each), warm_up: Duration::ZERO, ..Load::to(way.site.listener, 16, Duration::ZERO) };
    way.send(load.clone()).await?;
    sleep(SETTLED).await;
    let (quiet, before) = (Instant::now(), now());
    sleep(SETTLED).await;
    let others = (now() - before) / quiet.elapsed().as_secs_f64();
    let (begun, before) = (Instant::now(), now());
    let (sample, _) = way.send(load).await?;
    sleep(SETTLED).await;
    let beside = others * begun.elapsed().as_secs_f64();
    let written = now() - before - beside;
    let bytes = (sample.outcome.answered * FRAME_BYTES as u64) as f64;
    found.evidence.push(way.evidence);
    way.site.stop().await?;
    let detail = format!("{} MB of messages; {} MB of others taken off", figure(bytes / 1e6), figure(beside / 1e6));
    let line = Line::new("disk", &build.name, what, "×", vec![written / bytes].into());
    if beside > OTHERS_MAX * bytes {
        let detail = format!("not measured, others write too much to the disk: {detail}");
        return Ok(Line { measured: None, ..line.detail(detail) });
    }
    Ok(line.detail(detail))
}
