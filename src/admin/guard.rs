//! Keeps a browser on the operator's machine from being used against the API: the host asked for must be a loopback
//! name or an address (DNS rebinding), and a request made for another site is refused.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::Problem;

pub(super) async fn same_site(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !names_this_machine(host) {
        let detail = "the Host header must be an IP address or localhost";
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    let foreign_origin = text(header::ORIGIN).is_some_and(|origin| origin.split("://").nth(1) != Some(host));
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    (foreign_origin || cross_site).then(|| Problem::new(StatusCode::FORBIDDEN, "requests from other sites are refused"))
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        for host in ["127.0.0.1:8575", "localhost:8575", "LOCALHOST", "[::1]:8575", "10.1.2.3"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in ["", "attacker.example:8575", "localhost.attacker.example", "127.0.0.1.example"] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
