//! Which addresses a host listens on, and which it puts into its tickets.

use crate::config::{Address, DEFAULT_PORT};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wormhole_protocol::limits::TICKET_ADDRESSES_MAX;

/// Prefixes of names of interfaces that lead to containers and virtual machines of this machine.
const INNER_INTERFACES: &[&str] = &[
    "docker", "br-", "virbr", "veth", "lxc", "lxd", "cni", "podman",
];

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    /// Name of its interface.
    pub(super) interface: String,
    /// The address.
    pub(super) ip: IpAddr,
}

/// The addresses of interfaces that are up; none if the system does not say.
pub(super) fn locals() -> Vec<Local> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces
            .into_iter()
            .filter(if_addrs::Interface::is_oper_up)
            .map(|interface| Local {
                ip: interface.ip(),
                interface: interface.name,
            })
            .collect(),
        Err(error) => {
            tracing::warn!("cannot list this machine's addresses: {error}; use --advertise");
            Vec::new()
        }
    }
}

/// Where to try to listen, in order; the next only if one is taken. `remembered` is the port tickets
/// given out before lead to.
pub(super) fn candidates(listen: Option<Address>, remembered: Option<u16>) -> Vec<SocketAddr> {
    let ip = listen.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.ip);
    if let Some(port) = listen.and_then(|address| address.port) {
        return vec![SocketAddr::new(ip, port)];
    }
    let mut ports = vec![remembered.unwrap_or(DEFAULT_PORT), DEFAULT_PORT, 0];
    ports.dedup();
    ports
        .into_iter()
        .map(|port| SocketAddr::new(ip, port))
        .collect()
}

/// The addresses for a ticket of a host that listens on `bound`; at least one, at most
/// [`TICKET_ADDRESSES_MAX`], those most likely to be of use first.
pub(super) fn advertised(
    bound: SocketAddr,
    explicit: &[Address],
    locals: &[Local],
) -> Vec<SocketAddr> {
    let with_port = |ip| SocketAddr::new(ip, bound.port());
    let mut found: Vec<SocketAddr> = if !explicit.is_empty() {
        explicit
            .iter()
            .map(|address| SocketAddr::new(address.ip, address.port.unwrap_or(bound.port())))
            .collect()
    } else if !bound.ip().is_unspecified() {
        vec![bound]
    } else {
        let mut usable: Vec<_> = locals
            .iter()
            .filter(|local| reachable(local.ip) && (bound.is_ipv6() || local.ip.is_ipv4()))
            .collect();
        usable.sort_by_key(|local| rank(local));
        usable.iter().map(|local| with_port(local.ip)).collect()
    };
    let mut seen = Vec::new();
    found.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    found.truncate(TICKET_ADDRESSES_MAX);
    if found.is_empty() {
        found.push(with_port(Ipv4Addr::LOCALHOST.into()));
    }
    found
}

/// Whether an address can be meant by another machine.
fn reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast())
        }
    }
}

/// Lower is better: real interfaces before inner ones, and IPv4 first because a mount without IPv6
/// loses no time then.
fn rank(local: &Local) -> u8 {
    let inner = INNER_INTERFACES
        .iter()
        .any(|prefix| local.interface.starts_with(prefix));
    u8::from(inner) * 2 + u8::from(local.ip.is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locals(all: &[(&str, &str)]) -> Vec<Local> {
        all.iter()
            .map(|(interface, ip)| Local {
                interface: (*interface).to_owned(),
                ip: ip.parse().unwrap(),
            })
            .collect()
    }

    fn of(bound: &str, explicit: &[&str], all: &[(&str, &str)]) -> Vec<String> {
        let explicit: Vec<_> = explicit.iter().map(|a| a.parse().unwrap()).collect();
        advertised(bound.parse().unwrap(), &explicit, &locals(all))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const USUAL: &[(&str, &str)] = &[
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
        ("docker0", "172.17.0.1"),
        ("eth0", "2001:db8::7"),
        ("eth0", "fe80::1"),
        ("eth0", "192.168.1.7"),
        ("eth1", "169.254.3.4"),
        ("tun0", "10.8.0.2"),
    ];

    #[test]
    fn everywhere_means_every_address_others_can_use() {
        assert_eq!(
            of("[::]:7117", &[], USUAL),
            [
                "192.168.1.7:7117",
                "10.8.0.2:7117",
                "[2001:db8::7]:7117",
                "172.17.0.1:7117"
            ]
        );
        assert_eq!(
            of("0.0.0.0:9", &[], USUAL),
            ["192.168.1.7:9", "10.8.0.2:9", "172.17.0.1:9"]
        );
    }

    #[test]
    fn loopback_only_where_there_is_nothing_else_or_it_was_asked_for() {
        assert_eq!(of("[::]:7", &[], &USUAL[..2]), ["127.0.0.1:7"]);
        assert_eq!(of("[::]:7", &[], &[]), ["127.0.0.1:7"]);
        assert_eq!(of("127.0.0.1:7", &[], USUAL), ["127.0.0.1:7"]);
        assert_eq!(of("[::1]:7", &[], USUAL), ["[::1]:7"]);
    }

    #[test]
    fn what_was_asked_for_is_all_there_is() {
        assert_eq!(of("192.168.1.7:5", &[], USUAL), ["192.168.1.7:5"]);
        assert_eq!(
            of(
                "[::]:7117",
                &["203.0.113.7", "[::1]:99", "203.0.113.7"],
                USUAL
            ),
            ["203.0.113.7:7117", "[::1]:99"]
        );
    }

    #[test]
    fn a_ticket_has_room_for_eight() {
        let many: Vec<_> = (1..20).map(|i| format!("10.0.0.{i}")).collect();
        let all: Vec<_> = many.iter().map(|ip| ("eth0", ip.as_str())).collect();
        let found = of("0.0.0.0:7", &[], &all);
        assert_eq!(found.len(), TICKET_ADDRESSES_MAX);
        assert_eq!(found[0], "10.0.0.1:7");
    }

    #[test]
    fn where_to_listen() {
        let of = |listen: Option<&str>, remembered| {
            let listen = listen.map(|l| l.parse().unwrap());
            candidates(listen, remembered)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(None, None), ["[::]:7117", "[::]:0"]);
        assert_eq!(of(None, Some(9)), ["[::]:9", "[::]:7117", "[::]:0"]);
        assert_eq!(of(None, Some(7117)), ["[::]:7117", "[::]:0"]);
        assert_eq!(of(Some("127.0.0.1:0"), Some(9)), ["127.0.0.1:0"]);
        assert_eq!(
            of(Some("127.0.0.1"), Some(9)),
            ["127.0.0.1:9", "127.0.0.1:7117", "127.0.0.1:0"]
        );
    }
}
