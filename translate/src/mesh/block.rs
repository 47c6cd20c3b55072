//! A block of addresses, as in `10.2.0.0/16`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Block {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Block {
    /// Reads an address, with or without the length of a prefix. `None` for what is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        match prefix {
            None => Some(Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }),
            // "08" and "+8" parse as numbers; no API server takes them.
            Some(digits) if digits.starts_with(['0', '+']) && digits != "0" => None,
            Some(digits) => Self::around(address, digits.parse().ok()?),
        }
    }

    /// The block of that size around the address. `None` for more bits than an address has.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let unset = 32_u32.checked_sub(u32::from(prefix))?;
                let mask = u32::MAX.checked_shl(unset).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let unset = 128_u32.checked_sub(u32::from(prefix))?;
                let mask = u128::MAX.checked_shl(unset).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Some(Self { address, prefix })
    }

    /// Whether that address is in it.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::around(address, self.prefix) == Some(*self)
    }

    /// Whether it is an address by itself.
    pub(crate) const fn is_single(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_block_is_none_and_bits_of_a_host_are_no_part_of_its_block() {
        let cases = [
            ("10.2.3.4", Some("10.2.3.4/32")),
            ("10.2.3.4/16", Some("10.2.0.0/16")),
            ("10.2.3.4/0", Some("0.0.0.0/0")),
            ("10.2.3.4/32", Some("10.2.3.4/32")),
            ("10.2.3.4/33", None),
            ("10.2.3.4/016", None),
            ("10.2.3.4/", None),
            ("300.2.3.4/8", None),
            ("2001:db8:1::9/33", Some("2001:db8::/33")),
            ("2001:db8::9/129", None),
        ];
        for (text, block) in cases {
            assert_eq!(Block::parse(text).map(|block| block.to_string()).as_deref(), block, "{text}");
        }
    }
}
