//! Which addresses the manager dials for a program: those of the public internet, and what the configuration
//! adds. Pure.
//!
//! Asked for every address that a name resolves to, and for those that stand in a URL. A URL comes from a caller
//! and a redirect from a server: neither is to make the manager speak to what only this host can reach, to the
//! cloud's metadata service least of all.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address may be dialled.
///
/// # Errors
/// What kind of address it is, where not.
pub(super) fn check(address: IpAddr, networks: &[IpNet]) -> Result<(), &'static str> {
    match kind(address) {
        Some(kind) if !networks.iter().any(|network| network.contains(&address)) => Err(kind),
        Some(_) | None => Ok(()),
    }
}

/// What an address is when it is not one of the public internet.
fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let of = |(network, len, kind): &(Ipv4Addr, u32, &'static str)| {
        let shift = 32_u32.saturating_sub(*len);
        (bits.checked_shr(shift) == network.to_bits().checked_shr(shift)).then_some(*kind)
    };
    NOT_PUBLIC_V4.iter().find_map(of)
}

/// Of IPv6 only 2000::/3 is given out at all; in it stand ways back into IPv4, documentation and protocols.
fn kind_of_v6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let of = |(network, len, kind): &(Ipv6Addr, u32, &'static str)| {
        let shift = 128_u32.saturating_sub(*len);
        (bits.checked_shr(shift) == network.to_bits().checked_shr(shift)).then_some(*kind)
    };
    if let Some(kind) = NAMED_V6.iter().find_map(of) {
        return Some(kind);
    }
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        // The way to IPv4 of a network without it: as good as the address behind it.
        let behind = Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
        return kind_of_v4(behind);
    }
    let global = address.segments().first().is_some_and(|first| first & 0xe000 == 0x2000);
    (!global).then_some("a reserved address")
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(a: u16, b: u16, c: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
}

/// The special-purpose registry of IPv4, and two addresses at which clouds keep what only their hosts may ask.
const NOT_PUBLIC_V4: &[(Ipv4Addr, u32, &str)] = &[
    (v4(169, 254, 169, 254), 32, "a cloud's metadata service"),
    (v4(100, 100, 100, 200), 32, "a cloud's metadata service"),
    (v4(168, 63, 129, 16), 32, "a cloud's metadata service"),
    (v4(0, 0, 0, 0), 8, "an address of this network"),
    (v4(10, 0, 0, 0), 8, "a private address"),
    (v4(100, 64, 0, 0), 10, "a carrier's shared address"),
    (v4(127, 0, 0, 0), 8, "a loopback address"),
    (v4(169, 254, 0, 0), 16, "a link-local address"),
    (v4(172, 16, 0, 0), 12, "a private address"),
    (v4(192, 0, 0, 0), 24, "a reserved address"),
    (v4(192, 0, 2, 0), 24, "a documentation address"),
    (v4(192, 88, 99, 0), 24, "a reserved address"),
    (v4(192, 168, 0, 0), 16, "a private address"),
    (v4(198, 18, 0, 0), 15, "a benchmark address"),
    (v4(198, 51, 100, 0), 24, "a documentation address"),
    (v4(203, 0, 113, 0), 24, "a documentation address"),
    (v4(224, 0, 0, 0), 4, "a multicast address"),
    (v4(255, 255, 255, 255), 32, "a broadcast address"),
    (v4(240, 0, 0, 0), 4, "a reserved address"),
];

const NAMED_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "the unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4-mapped address"),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, "a cloud's metadata service"),
    (v6(0x2001, 0, 0), 23, "a reserved address"),
    (v6(0x2001, 0xdb8, 0), 32, "a documentation address"),
    (v6(0x2002, 0, 0), 16, "a 6to4 address"),
    (v6(0x3fff, 0, 0), 20, "a documentation address"),
    (v6(0xfc00, 0, 0), 7, "a private address"),
    (v6(0xfe80, 0, 0), 10, "a link-local address"),
    (v6(0xfec0, 0, 0), 10, "a site-local address"),
    (v6(0xff00, 0, 0), 8, "a multicast address"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_dialled() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:200::",
            "64:ff9b::808:808",
        ];
        for text in public {
            assert_eq!(check(text.parse().unwrap(), &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn all_others_are_told_by_their_kind() {
        let kinds = [
            (
                "private",
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.1.1",
                    "fc00::1",
                    "fdff::1",
                ][..],
            ),
            ("loopback", &["127.0.0.1", "127.255.255.255", "::1"]),
            ("link-local", &["169.254.0.1", "169.254.169.253", "fe80::1", "febf::1"]),
            ("metadata", &["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"]),
            ("multicast", &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            ("broadcast", &["255.255.255.255"]),
            ("this network", &["0.0.0.0", "0.255.255.255"]),
            ("shared", &["100.64.0.0", "100.127.255.255"]),
            ("unspecified", &["::"]),
            ("IPv4-mapped", &["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a9fe:a9fe"]),
            ("documentation", &["192.0.2.1", "198.51.100.1", "203.0.113.9", "2001:db8::1", "3fff::1"]),
            ("6to4", &["2002:7f00:1::"]),
            ("site-local", &["fec0::1"]),
            (
                "reserved",
                &[
                    "240.0.0.1",
                    "192.0.0.8",
                    "192.88.99.1",
                    "2001::1",
                    "2001:1ff::1",
                    "::127.0.0.1",
                    "100::1",
                    "64:ff9b:1::1",
                    "4000::1",
                    "5f00::1",
                ],
            ),
            // A way back to IPv4 is judged by where it leads.
            ("loopback", &["64:ff9b::127.0.0.1"]),
            ("metadata", &["64:ff9b::a9fe:a9fe"]),
            ("private", &["64:ff9b::10.1.2.3"]),
            ("benchmark", &["198.18.0.1", "198.19.255.255"]),
        ];
        for (kind, texts) in kinds {
            for text in texts {
                let said = check(text.parse().unwrap(), &[]).expect_err(text);
                assert!(said.contains(kind), "{text}: {said}");
            }
        }
    }

    #[test]
    fn a_network_of_the_configuration_is_dialled_and_its_neighbour_is_not() {
        let networks: Vec<IpNet> =
            ["10.1.0.0/16", "127.0.0.1/32", "fd00:1::/32"].map(|text| text.parse().unwrap()).to_vec();
        for text in ["10.1.0.0", "10.1.255.255", "127.0.0.1", "fd00:1::9", "8.8.8.8"] {
            assert_eq!(check(text.parse().unwrap(), &networks), Ok(()), "{text}");
        }
        for text in [
            "10.0.255.255",
            "10.2.0.0",
            "127.0.0.2",
            "fd00:2::1",
            "::ffff:127.0.0.1",
            "::1",
            "169.254.169.254",
        ] {
            assert!(check(text.parse().unwrap(), &networks).is_err(), "{text}");
        }
    }
}
