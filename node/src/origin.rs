//! Whom an IP address counts for, where one source may take no more than its share.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address counts by itself, an IPv6 address by its /64: who has one has all of them.
pub(crate) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}
