//! Which addresses this service may connect to.
//!
//! A configured host name can resolve to anything, today or tomorrow. Every address is therefore checked after resolution,
//! and the connection goes to the checked address itself ([`Guard`] is the client's resolver), so that a name that changes
//! its mind in between gains nothing. Host names that are addresses already never reach a resolver: they are checked with
//! the configuration.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// An address that must not be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} resolves to {address}, which is {kind}; expected a public address")]
pub(crate) struct Refused {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) kind: &'static str,
}

/// Resolves names and lets only allowed addresses through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    /// Loopback and private addresses too.
    pub(crate) allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let addresses = filter(&host, found, allow_private)?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

impl Guard {
    pub(crate) fn resolver(self) -> Arc<dyn Resolve> {
        Arc::new(self)
    }
}

/// The allowed ones of the addresses a name has.
fn filter(host: &str, found: Vec<SocketAddr>, allow_private: bool) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = None;
    let mut allowed = Vec::with_capacity(found.len());
    for at in found {
        match check(host, at.ip(), allow_private) {
            Ok(()) => allowed.push(at),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ => Ok(allowed),
    }
}

/// Checks one address.
///
/// # Errors
/// [`Refused`]: it is not public, and not of a kind that `allow_private` permits. Link-local addresses (the metadata service
/// of every cloud), multicast and the unspecified address are never permitted.
pub(crate) fn check(host: &str, address: IpAddr, allow_private: bool) -> Result<(), Refused> {
    let kind = match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    };
    match kind {
        Kind::Public => Ok(()),
        Kind::Private(_) if allow_private => Ok(()),
        Kind::Private(kind) | Kind::Never(kind) => Err(Refused { host: host.to_owned(), address, kind }),
    }
}

enum Kind {
    Public,
    Private(&'static str),
    Never(&'static str),
}

/// IANA's special-purpose registry for IPv4.
fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [127, ..] => Kind::Private("loopback"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Kind::Private("private"),
        [100, 64..=127, ..] => Kind::Private("carrier-grade NAT"),
        [169, 254, ..] => Kind::Never("link-local"),
        [0, ..] => Kind::Never("unspecified"),
        [192, 0, 0 | 2, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Kind::Never("reserved for tests and protocols")
        }
        [224..=239, ..] => Kind::Never("multicast"),
        [240..=255, ..] => Kind::Never("reserved"),
        _ => Kind::Public,
    }
}

/// IANA's special-purpose registry for IPv6; addresses that hold an IPv4 address are judged by it.
fn kind_v6(address: Ipv6Addr) -> Kind {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("loopback"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("unspecified"),
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0xfd00, 0x0ec2, ..] => Kind::Never("a metadata service"),
        [0xfc00..=0xfdff, ..] => Kind::Private("private"),
        [0xfe80..=0xfebf, ..] => Kind::Never("link-local"),
        [0xff00..=0xffff, ..] => Kind::Never("multicast"),
        // global unicast, without Teredo (2001::/32) and documentation
        [0x2001, 0 | 0x0db8, ..] => Kind::Never("reserved for tests and protocols"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, allow_private: bool) -> bool {
        check("host", address.parse().unwrap(), allow_private).is_ok()
    }

    #[test]
    fn public_addresses_are_allowed() {
        for public in [
            "1.1.1.1",
            "104.18.7.192",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::6812:7c0",
            "64:ff9b::101:101",
        ] {
            assert!(allowed(public, false), "{public}");
        }
    }

    #[test]
    fn private_addresses_need_permission() {
        for private in [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "192.168.1.2",
            "172.16.0.1",
            "172.31.255.255",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!allowed(private, false), "{private} was allowed");
            assert!(allowed(private, true), "{private} was refused although permitted");
        }
    }

    #[test]
    fn metadata_services_are_out_of_reach_even_with_permission() {
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "198.18.0.1",
            "240.0.0.1",
        ] {
            assert!(!allowed(never, true), "{never} was allowed");
        }
    }

    #[test]
    fn of_a_mixed_answer_only_the_public_part_is_used() {
        let public: SocketAddr = "1.1.1.1:0".parse().unwrap();
        let private: SocketAddr = "127.0.0.1:0".parse().unwrap();
        assert_eq!(filter("host", vec![private, public], false), Ok(vec![public]));
        assert_eq!(filter("host", vec![private], false).unwrap_err().kind, "loopback");
        assert_eq!(filter("host", vec![private], true), Ok(vec![private]));
    }
}
