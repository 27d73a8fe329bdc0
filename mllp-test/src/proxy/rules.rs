//! Conditions as they are written on a command line: `latency:50ms`, `reset@frame=3`. One that cannot be understood is
//! refused: a line that is better than it was meant to be would prove nothing.

use super::{At, Cut, Flow, How};
use crate::script::{ScriptFault, duration};

const RULES: &str = "latency:TIME, jitter:TIME, loss:SHARE, pieces:BYTES, merge:TIME, bytes-per-second:N, \
    frames-per-second:N, hold, and one of close, reset, half-close @bytes=N, @frame=N or @after-frame=N";

impl Flow {
    /// One direction under all these rules.
    pub fn parse<'t>(rules: impl IntoIterator<Item = &'t str>) -> Result<Flow, ScriptFault> {
        let mut flow = Flow::default();
        rules.into_iter().try_for_each(|text| apply(&mut flow, text).ok_or_else(|| fault(text))).map(|()| flow)
    }
}

fn fault(text: &str) -> ScriptFault {
    ScriptFault::What { what: text.to_owned(), known: RULES }
}

fn apply(flow: &mut Flow, text: &str) -> Option<()> {
    if let Some((how, at)) = text.split_once('@') {
        flow.cut = Some(Cut { at: place(at)?, how: ending(how)? });
        return Some(());
    }
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let time = || duration(value).ok();
    let number = || value.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    match name {
        "latency" => flow.latency = time()?,
        "jitter" => flow.jitter = time()?,
        "merge" => flow.merge = time()?,
        "loss" => flow.loss = number().filter(|share| *share <= 1.0)?,
        "pieces" => flow.piece_bytes = value.parse().ok().filter(|bytes| *bytes > 0)?,
        "bytes-per-second" => flow.bytes_per_second = number()?,
        "frames-per-second" => flow.frames_per_second = number()?,
        "hold" if value.is_empty() => flow.held = true,
        _ => return None,
    }
    Some(())
}

fn place(text: &str) -> Option<At> {
    let (name, number) = text.split_once('=')?;
    let number = number.parse().ok()?;
    match name {
        "bytes" => Some(At::Bytes(number)),
        "frame" if number > 0 => Some(At::InFrame(number)),
        "after-frame" if number > 0 => Some(At::AfterFrame(number)),
        _ => None,
    }
}

fn ending(text: &str) -> Option<How> {
    match text {
        "close" => Some(How::Close),
        "reset" => Some(How::Reset),
        "half-close" => Some(How::HalfClose),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_rule_sets_its_condition_and_no_other() {
        let base = Flow::default;
        let ms = Duration::from_millis;
        let cut = |at, how| Flow { cut: Some(Cut { at, how }), ..base() };
        for (rule, flow) in [
            ("latency:50ms", Flow { latency: ms(50), ..base() }),
            ("jitter:5ms", Flow { jitter: ms(5), ..base() }),
            ("merge:30ms", Flow { merge: ms(30), ..base() }),
            ("loss:0.2", Flow { loss: 0.2, ..base() }),
            ("pieces:1", Flow { piece_bytes: 1, ..base() }),
            ("bytes-per-second:4000", Flow { bytes_per_second: 4000.0, ..base() }),
            ("frames-per-second:1", Flow { frames_per_second: 1.0, ..base() }),
            ("hold", Flow { held: true, ..base() }),
            ("close@bytes=0", cut(At::Bytes(0), How::Close)),
            ("reset@frame=3", cut(At::InFrame(3), How::Reset)),
            ("half-close@after-frame=2", cut(At::AfterFrame(2), How::HalfClose)),
        ] {
            assert_eq!(Flow::parse([rule]).unwrap(), flow, "{rule}");
        }
        assert_eq!(
            Flow::parse(["latency:1s", "hold"]).unwrap(),
            Flow { latency: ms(1000), held: true, ..Flow::default() }
        );
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for rule in [
            "",
            "latency",
            "latency:5",
            "loss:2",
            "loss:-1",
            "pieces:0",
            "hold:1",
            "close@frame=0",
            "stop@bytes=1",
            "x:1",
        ] {
            assert!(Flow::parse([rule]).is_err(), "{rule}");
        }
    }
}
