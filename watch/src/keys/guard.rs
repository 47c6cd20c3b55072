//! Which addresses keys are never fetched from. Whoever may write a policy tells us where to send a
//! request, and what answers there may be open to us and to nobody else.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

/// What is refused, beside what is always refused: addresses of the link, of clouds' metadata, of
/// groups, and none at all.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Whether this machine itself may be asked.
    pub loopback: bool,
    /// More blocks.
    pub blocked: Vec<Block>,
}

impl Block {
    const fn new(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix }
    }

    fn holds(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                let cut = |address: Ipv4Addr| address.to_bits().checked_shr(shift).unwrap_or_default();
                cut(block) == cut(address)
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                let cut = |address: Ipv6Addr| address.to_bits().checked_shr(shift).unwrap_or_default();
                cut(block) == cut(address)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address or a block as in 10.0.0.0/8");
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if prefix > most { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }
}

/// Refused always: nobody's keys are there, and other things are.
const REFUSED: [(Block, &str); 10] = [
    (Block::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8), "no address at all"),
    (Block::new(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16), "of the link, or a cloud's metadata"),
    (Block::new(IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32), "a cloud's metadata"),
    (Block::new(IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32), "a cloud's metadata"),
    (Block::new(IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32), "a cloud's metadata"),
    (Block::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3), "of a group or reserved"),
    (Block::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128), "no address at all"),
    (Block::new(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10), "of the link"),
    (Block::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 128), "a cloud's metadata"),
    (Block::new(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8), "of a group"),
];

impl Guard {
    /// Whether the address may be dialled, or why not.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), String> {
        for address in [Some(address), embedded(address)].into_iter().flatten() {
            let refused = REFUSED.iter().find(|(block, _)| block.holds(address));
            if let Some((_, why)) = refused {
                return Err(format!("{address} is refused: it is {why}"));
            }
            if address.is_loopback() && !self.loopback {
                return Err(format!("{address} is refused: it is this machine itself"));
            }
            if self.blocked.iter().any(|block| block.holds(address)) {
                return Err(format!("{address} is refused: it is in a blocked range"));
            }
        }
        Ok(())
    }
}

/// The IPv4 address that an IPv6 address leads to, by any of the ways in which one does.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let segments = address.segments();
    let of = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match segments {
        // ::1 and :: are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped or compatible, translated, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, address: &str) -> Result<(), String> {
        guard.check(address.parse().unwrap())
    }

    #[test]
    fn what_only_we_can_reach_is_refused_in_every_spelling() {
        let guard = Guard { loopback: false, blocked: vec!["10.9.0.0/16".parse().unwrap()] };
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "10.9.8.7",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.9.0.1",
            "64:ff9b::169.254.169.254",
            "::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(check(&guard, refused).is_err(), "{refused}");
        }
        for taken in ["10.8.0.1", "8.8.8.8", "192.168.1.1", "2001:db8::1", "fd00::1", "64:ff9b::8.8.8.8"] {
            assert_eq!(check(&guard, taken), Ok(()), "{taken}");
        }
    }

    #[test]
    fn loopback_is_taken_when_it_was_asked_for() {
        let guard = Guard { loopback: true, blocked: Vec::new() };
        for taken in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(check(&guard, taken), Ok(()), "{taken}");
        }
        assert!(check(&guard, "169.254.169.254").is_err());
    }

    #[test]
    fn blocks_are_read_as_they_are_written() {
        for good in ["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "fd00::/8"] {
            assert!(good.parse::<Block>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "host/8"] {
            assert!(bad.parse::<Block>().is_err(), "{bad}");
        }
        let everything: Block = "0.0.0.0/0".parse().unwrap();
        assert!(everything.holds("1.2.3.4".parse().unwrap()));
    }
}
