//! The forms of values: durations, sizes, addresses, paths, names.

use std::{net::SocketAddr, time::Duration};

use super::source::Problem;
use crate::hl7;

/// 100 years.
const DURATION_MS_MAX: u64 = 100 * 366 * 86_400_000;

/// `250ms`, `30s`, `5m`, `24h`, `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let problem = || {
        Problem::new(format!("{text:?} is not a duration"), "write a whole number and ms, s, m, h or d, such as 30s")
    };
    let (number, unit) = number_and_unit(text).ok_or_else(problem)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(problem()),
    };
    let whole = number.checked_mul(milliseconds).filter(|whole| *whole <= DURATION_MS_MAX);
    whole
        .map(Duration::from_millis)
        .ok_or_else(|| Problem::new("the duration is over 100 years", "write a shorter one"))
}

/// A duration that is not nothing.
pub(super) fn positive_duration(text: &str) -> Result<Duration, Problem> {
    let is_positive = |read: &Duration| !read.is_zero();
    let nothing = || Problem::new("an interval of nothing", "write a longer one, such as 60s, or remove the key");
    Some(duration(text)?).filter(is_positive).ok_or_else(nothing)
}

/// `512B`, `64KiB`, `16MiB`, `50GiB`, `2TiB`.
pub(super) fn size(text: &str) -> Result<u64, Problem> {
    let problem = || {
        Problem::new(
            format!("{text:?} is not a size"),
            "write a whole number and B, KiB, MiB, GiB or TiB, such as 16MiB",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(problem)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(problem()),
    };
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= 1 << 60);
    bytes.ok_or_else(|| Problem::new("the size is over 1024 PiB", "write a smaller one"))
}

/// A size within bounds.
pub(super) fn size_within(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, Problem> {
    move |text| {
        let bytes = size(text)?;
        if (min..=max).contains(&bytes) {
            return Ok(bytes);
        }
        Err(Problem::new("the size is out of range", format!("write one from {} to {}", shown(min), shown(max))))
    }
}

/// A duration that is not zero.
pub(super) fn some_duration(text: &str) -> Result<Duration, Problem> {
    match duration(text)? {
        Duration::ZERO => Err(Problem::new("the duration is zero", "write a longer one, such as 30s")),
        duration => Ok(duration),
    }
}

/// An address to listen on.
pub(super) fn socket(text: &str) -> Result<SocketAddr, Problem> {
    let remedy = "write an IP address and a port, such as 127.0.0.1:2575 or [::1]:2575";
    text.parse().map_err(|_| Problem::new(format!("{text:?} is not an IP address and port"), remedy))
}

/// `host:port` of a receiver.
pub(super) fn host_and_port(text: &str) -> Result<String, Problem> {
    let right = text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
    if right {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("{text:?} is not a host and port"), "write them such as ehr.example:2575"))
}

/// The base URL of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl {
    /// As written, without a final `/`.
    pub text: String,
    pub host: String,
    /// https.
    pub encrypted: bool,
}

/// A base URL. It may hold a password where none belongs, so no problem repeats it.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, Problem> {
    let problem = |what: &str| Problem::new(what.to_owned(), "write one such as https://ehr.example/fhir");
    let (encrypted, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(problem("the URL begins with neither https:// nor http://")),
    };
    let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    if authority.contains('@') {
        let remedy = "remove them; give a header such as `headers = { Authorization = { env = \"EHR_LOGIN\" } }`";
        return Err(Problem::new("the URL has a user or password in it", remedy));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) || port.is_some_and(|port| !is_port(port)) {
        return Err(problem("the URL has no right host and port"));
    }
    let path = &rest[authority.len()..];
    if !path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&b)) {
        return Err(problem("the URL has a query, a fragment or a character that does not belong in it"));
    }
    let text = text.trim_end_matches('/').to_owned();
    Ok(BaseUrl { text, host: host.to_owned(), encrypted })
}

/// Whether a host, as written in an address or URL, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let legal = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && legal && !label.starts_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A place in a message.
pub(super) fn path(text: &str) -> Result<hl7::Path, Problem> {
    hl7::Path::parse(text).map_err(|error| Problem {
        what: format!("{text:?} is not a path: {}", error.what),
        remedy: "write one such as PID-3.1, OBX[2]-5 or OBX(OBX-3.1=157784)-5".to_owned(),
        at: error.at,
    })
}

/// A name that is also a metric label and part of a URL.
pub(super) fn name(text: &str) -> Result<String, Problem> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("{text:?} is not a name"), "use 1 to 64 letters, digits, - and _"))
}

/// A segment id.
pub(super) fn segment(text: &str) -> Result<String, Problem> {
    let legal = |(at, b): (usize, u8)| b.is_ascii_uppercase() || at > 0 && b.is_ascii_digit();
    if text.len() == 3 && text.bytes().enumerate().all(legal) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(format!("{text:?} is not a segment id"), "write three capitals or digits, such as OBX"))
}

/// `+01:00`, `-05:30`, `Z`: minutes east of UTC.
pub(super) fn offset_minutes(text: &str) -> Result<i16, Problem> {
    let problem = || Problem::new(format!("{text:?} is not an offset from UTC"), "write one such as +01:00 or -05:00");
    if text == "Z" {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(problem()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(problem)?;
    let two_digits = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<i16>().ok(),
        false => None,
    };
    match (two_digits(hours), two_digits(minutes)) {
        (Some(hours), Some(minutes)) if hours <= 14 && minutes < 60 => Ok(sign * (hours * 60 + minutes)),
        _ => Err(problem()),
    }
}

/// Any text.
pub(super) fn any(text: &str) -> Result<String, Problem> {
    Ok(text.to_owned())
}

/// A text that says something.
pub(super) fn filled(text: &str) -> Result<String, Problem> {
    if text.trim().is_empty() { Err(Problem::new("the text is empty", "fill it")) } else { Ok(text.to_owned()) }
}

/// The same, without the blanks around it.
pub(super) fn trimmed(text: &str) -> Result<String, Problem> {
    filled(text.trim())
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// A size as it would be written.
pub(super) fn shown(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes}B"), |(shift, name)| format!("{}{name}", bytes >> shift))
}
