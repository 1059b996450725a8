//! Which addresses a fetch may connect to. Every connection of every source passes here, after its
//! name was resolved and before it is made, to exactly the addresses that were looked at: so it
//! does not matter how an address was written, or what DNS says the next time.
//!
//! - Loopback, link-local (where clouds keep their metadata), unspecified, multicast and reserved
//!   addresses: never.
//! - Private addresses: only where a host was named by someone other than the version's author,
//!   that is by the credentials, the
//!   environment or the cloud itself, or is on the list of allowed hosts.
//! - Hosts and networks on that list: always; it is an administrator's.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of the internet.
    Public,
    /// Of somebody's own network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine, its link, a cloud's metadata, or no host at all.
    Forbidden,
}

/// The class of an address; an IPv4 address inside an IPv6 one counts as itself.
#[must_use]
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => embedded(v6).map_or_else(|| class_v6(v6), class_v4),
    }
}

fn class_v4(v4: Ipv4Addr) -> Class {
    let o = v4.octets();
    // Metadata services outside of the link-local block: Azure's wire server, and Alibaba's.
    let metadata = matches!(o, [168, 63, 129, 16] | [100, 100, 100, 200]);
    let reserved = o[0] == 0 || o[0] >= 240 || matches!(o, [192, 0, 0, _]);
    if metadata || reserved || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() {
        return Class::Forbidden;
    }
    let shared = o[0] == 100 && (64..128).contains(&o[1]);
    let benchmark = o[0] == 198 && (18..20).contains(&o[1]);
    if v4.is_private() || shared || benchmark { Class::Private } else { Class::Public }
}

fn class_v6(v6: Ipv6Addr) -> Class {
    let s = v6.segments();
    // Metadata services in the unique-local block: Amazon's (and its Pod Identity agent), and
    // Google's.
    let metadata = (s[0] == 0xfd00 && s[1] == 0xec2) || (s[0] == 0xfd20 && s[1] == 0xce);
    // Global unicast is 2000::/3; beside it there is only what is private.
    match () {
        () if metadata => Class::Forbidden,
        () if s[0] & 0xfe00 == 0xfc00 => Class::Private,
        () if s[0] & 0xe000 == 0x2000 => Class::Public,
        () => Class::Forbidden,
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 (RFC 6052, RFC 8215),
/// 6to4; Teredo goes through a server.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let at = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            at(high, low)
        }
        [0x64, 0xff9b, _, _, _, _, high, low] => at(high, low),
        [0x2002, high, low, ..] => at(high, low),
        [0x2001, 0, ..] => Some(Ipv4Addr::UNSPECIFIED),
        _ => None,
    }
}

/// A host or a network that an administrator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `host` or `host:port`: the name, at whatever private address it has.
    Host(String, Option<u16>),
    /// `10.0.0.0/8`: a network; its bits, and how many of them count.
    Network(IpAddr, u8),
}

/// A text that names neither.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("an allowed host is host, host:port or a network such as 10.0.0.0/8")]
pub struct NotAllowed;

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        if let Some((address, bits)) = text.split_once('/') {
            let (address, bits) = (
                address.parse::<IpAddr>().map_err(|_| NotAllowed)?,
                bits.parse::<u8>().map_err(|_| NotAllowed)?,
            );
            let most = if address.is_ipv4() { 32 } else { 128 };
            return if bits <= most { Ok(Self::Network(address, bits)) } else { Err(NotAllowed) };
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| NotAllowed)?)),
            None => (text, None),
        };
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(good) {
            return Err(NotAllowed);
        }
        Ok(Self::Host(host.to_ascii_lowercase(), port))
    }
}

impl Allowed {
    fn names(&self, host: &str, port: u16) -> bool {
        matches!(self, Self::Host(name, only) if name.eq_ignore_ascii_case(host) && only.is_none_or(|p| p == port))
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Network(IpAddr::V4(net), bits), IpAddr::V4(address)) => {
                same(u128::from(u32::from(*net)) << 96, u128::from(u32::from(address)) << 96, *bits)
            }
            (Self::Network(IpAddr::V6(net), bits), IpAddr::V6(address)) => {
                same(u128::from(*net), u128::from(address), *bits)
            }
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, bits: u8) -> bool {
    (a ^ b).checked_shr(128 - u32::from(bits)).unwrap_or_default() == 0
}

/// Who named the hosts that a source talks to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Hosts and networks that an administrator allows.
    pub allowed: Vec<Allowed>,
    /// Hosts that may be at a private address, for the version's author did not choose them.
    pub trusted: Trusted,
    /// The one host at a forbidden address that gives this pod its identity, where the environment
    /// says so.
    pub identity: Option<String>,
}

/// Hosts that the version's author did not choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trusted {
    /// None: the address names the host.
    #[default]
    None,
    /// One: the credentials or the environment name it.
    Host(String),
    /// All: the author chooses a bucket, and the cloud or the credentials the host.
    All,
}

/// Why a connection is not made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// A forbidden address.
    #[error("{} this machine, its link or a metadata service: no artifact is fetched from there", at(.host, *.address))]
    Forbidden {
        /// As it was asked for.
        host: String,
        /// As it was resolved.
        address: IpAddr,
    },
    /// A private address that nobody allowed.
    #[error("{} a private address; an administrator can allow it in delivery.allowedHosts of ModelPolicy default", at(.host, *.address))]
    Private {
        /// As it was asked for.
        host: String,
        /// As it was resolved.
        address: IpAddr,
    },
}

/// `models.example.com is at 10.0.0.7, which is`, or `10.0.0.7 is` where the host is written as an
/// address.
fn at(host: &str, address: IpAddr) -> String {
    if host == address.to_string() {
        format!("{host} is")
    } else {
        format!("{host} is at {address}, which is")
    }
}

impl Guard {
    /// Whether a host that was resolved to these addresses may be connected to.
    ///
    /// # Errors
    /// When any of the addresses may not.
    pub fn check(&self, host: &str, port: u16, addresses: &[IpAddr]) -> Result<(), Refused> {
        addresses.iter().try_for_each(|address| self.check_one(host, port, *address))
    }

    fn check_one(&self, host: &str, port: u16, address: IpAddr) -> Result<(), Refused> {
        if self.allowed.iter().any(|a| a.holds(address))
            || self.identity.as_deref().is_some_and(|i| i.eq_ignore_ascii_case(host))
        {
            return Ok(());
        }
        let trusted = match &self.trusted {
            Trusted::None => false,
            Trusted::Host(name) => name.eq_ignore_ascii_case(host),
            Trusted::All => true,
        };
        match class(address) {
            Class::Public => Ok(()),
            Class::Private if trusted || self.allowed.iter().any(|a| a.names(host, port)) => Ok(()),
            Class::Private => Err(Refused::Private { host: super::name::escaped(host), address }),
            Class::Forbidden => {
                Err(Refused::Forbidden { host: super::name::escaped(host), address })
            }
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, None) => f.write_str(host),
            Self::Host(host, Some(port)) => write!(f, "{host}:{port}"),
            Self::Network(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn this_machine_its_link_and_every_metadata_service_are_forbidden_in_every_notation() {
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::ffff:127.0.0.1",
            "::169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2001:0:1:2::",
            "fec0::1",
            "100::1",
        ] {
            assert_eq!(class(ip(text)), Class::Forbidden, "{text}");
        }
    }

    #[test]
    fn networks_of_ones_own_are_private_and_the_internet_is_public() {
        for text in [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "fc00::1",
            "fd12:3456::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
        ] {
            assert_eq!(class(ip(text)), Class::Private, "{text}");
        }
        for text in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert_eq!(class(ip(text)), Class::Public, "{text}");
        }
    }

    #[test]
    fn a_private_address_needs_somebody_else_than_the_versions_author_to_name_its_host() {
        let private = [ip("10.0.0.7")];
        let guard = |allowed: &[&str], trusted| Guard {
            allowed: allowed.iter().map(|a| a.parse().unwrap()).collect(),
            trusted,
            identity: None,
        };
        let none = guard(&[], Trusted::None);
        let says = none.check("minio.ml", 9000, &private).unwrap_err().to_string();
        assert_eq!(
            says,
            "minio.ml is at 10.0.0.7, which is a private address; an administrator can allow it in delivery.allowedHosts of ModelPolicy default"
        );
        for good in [
            guard(&[], Trusted::All),
            guard(&[], Trusted::Host("MINIO.ml".into())),
            guard(&["minio.ml"], Trusted::None),
            guard(&["minio.ml:9000"], Trusted::None),
            guard(&["10.0.0.0/8"], Trusted::None),
            guard(&["10.0.0.7"], Trusted::None),
        ] {
            assert_eq!(good.check("minio.ml", 9000, &private), Ok(()), "{good:?}");
        }
        for bad in [
            guard(&["minio.ml:9001"], Trusted::None),
            guard(&["other.ml"], Trusted::Host("x".into())),
            guard(&["10.0.0.8/30", "11.0.0.0/8"], Trusted::None),
        ] {
            assert!(bad.check("minio.ml", 9000, &private).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_bad_address_among_good_ones_is_refused() {
        let guard = Guard::default();
        assert!(guard.check("models.example.com", 443, &[ip("1.1.1.1"), ip("127.0.0.1")]).is_err());
    }

    #[test]
    fn a_trusted_or_allowed_name_does_not_lead_to_this_machine_and_an_allowed_network_does() {
        let trusted =
            Guard { trusted: Trusted::All, allowed: vec!["a".parse().unwrap()], identity: None };
        assert!(matches!(
            trusted.check("a", 80, &[ip("127.0.0.1")]),
            Err(Refused::Forbidden { .. })
        ));
        let network = Guard { allowed: vec!["127.0.0.0/8".parse().unwrap()], ..Guard::default() };
        assert_eq!(network.check("a", 80, &[ip("127.0.0.1")]), Ok(()));
        assert!(network.check("a", 80, &[ip("::1")]).is_err());
    }

    #[test]
    fn the_pods_identity_is_asked_for_where_the_environment_says_and_nowhere_else() {
        let guard = Guard { identity: Some("169.254.170.23".into()), ..Guard::default() };
        assert_eq!(guard.check("169.254.170.23", 80, &[ip("169.254.170.23")]), Ok(()));
        assert!(guard.check("169.254.169.254", 80, &[ip("169.254.169.254")]).is_err());
    }

    #[test]
    fn what_is_no_host_and_no_network_is_not_allowed() {
        for text in ["", "a b", "http://a", "a:b", "10.0.0.0/33", "10.0.0/8", "*"] {
            assert_eq!(text.parse::<Allowed>(), Err(NotAllowed), "{text}");
        }
        for text in ["a", "a.b:80", "10.0.0.0/8", "fd00::/8"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
    }
}
