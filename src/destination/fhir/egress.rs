//! Which addresses a FHIR request may go to: everything but link-local ones, where cloud machines keep their
//! credentials service and no FHIR server lives. Checked for the URL's literal address and after each name lookup, so
//! that a name which later resolves elsewhere gains nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// The system's resolver without the addresses no message may go to.
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (forbidden, allowed): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| is_forbidden(a.ip()));
            if allowed.is_empty() && !forbidden.is_empty() {
                return Err("the name resolves to a link-local address only".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A URL whose host is the literal address of one.
pub(super) fn is_forbidden_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse().is_ok_and(is_forbidden)
}

/// Link-local, in either family and in IPv6 forms that carry an IPv4 address.
fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            // AWS serves its metadata on this unique local address.
            v6.is_unicast_link_local()
                || v6 == Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254)
                || v6.to_ipv4().is_some_and(|v4| v4.is_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn link_local_addresses_are_forbidden_in_every_spelling() {
        for text in ["169.254.169.254", "::ffff:169.254.169.254", "::169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(is_forbidden(text.parse().unwrap()), "{text}");
        }
        for text in ["127.0.0.1", "10.1.2.3", "::1", "fd12::1", "::ffff:10.1.2.3", "192.0.2.7"] {
            assert!(!is_forbidden(text.parse().unwrap()), "{text}");
        }
    }
}
