//! MAC addresses of Ethernet (IEEE 802-2014, section 8).

use std::fmt;
use std::str::FromStr;

/// A 48-bit MAC address.
///
/// Stored as a number whose highest byte is the first on the wire, so that it is moved in a
/// register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MacAddr(u64);

impl MacAddr {
    /// The broadcast address.
    pub const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);

    /// The address with these bytes, in wire order.
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Self {
        MacAddr(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The address in the low 48 bits of `number`.
    #[inline]
    pub const fn from_u64(number: u64) -> Self {
        MacAddr(number & 0xffff_ffff_ffff)
    }

    /// The address as a number below 2^48.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// Its bytes, in wire order.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Whether the group bit is set: a multicast address, or broadcast.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 & 1 << 40 != 0
    }

    /// Whether it is a group of bridges, whose frames no bridge forwards (IEEE 802.1Q-2018, table
    /// 8-1: STP, LLDP, LACP, pause frames), or Cisco's for the same purpose (CDP, VTP, PVST+).
    pub const fn is_link_control(self) -> bool {
        self.0 & !0xf == BRIDGES || self.0 & !1 == CISCO
    }

    /// Whether the group bit is clear and the address is not all zeros.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        self.0 & 1 << 40 == 0 && self.0 != 0
    }
}

/// 01:80:c2:00:00:00, the first of 16.
const BRIDGES: u64 = 0x0180_c200_0000;
/// 01:00:0c:cc:cc:cc, the first of two.
const CISCO: u64 = 0x0100_0ccc_cccc;

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    /// Parses six pairs of hex digits of either case, separated by colons.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(ParseMacError)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParseMacError)?;
        }
        if pairs.next().is_some() {
            return Err(ParseMacError);
        }
        Ok(MacAddr::new(bytes))
    }
}

/// The text is not six pairs of hex digits separated by colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address; write six pairs of hex digits, such as 02:00:00:00:00:01")]
pub struct ParseMacError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_parsed_as_it_is_printed() {
        let mac = MacAddr::new([0x02, 0xab, 0, 0xff, 0x10, 1]);
        assert_eq!(mac.to_string(), "02:ab:00:ff:10:01");
        assert_eq!("02:AB:00:ff:10:01".parse(), Ok(mac));
    }

    #[test]
    fn refuses_other_text() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02-00-00-00-00-01",
            "02:00:00:00:0:01",
            "0g:00:00:00:00:01",
            "+2:00:00:00:00:01",
            "02:00:00:00:00:01 ",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError), "{text:?}");
        }
    }

    #[test]
    fn unicast_is_distinguished() {
        assert!(MacAddr::new([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddr::new([1, 0, 0x5e, 0, 0, 1]).is_unicast());
        assert!(!MacAddr::BROADCAST.is_unicast());
        assert!(!MacAddr::new([0; 6]).is_unicast());
        assert!(!MacAddr::new([0; 6]).is_group() && MacAddr::BROADCAST.is_group());
    }

    #[test]
    fn groups_of_bridges_are_distinguished() {
        let is = |text: &str| text.parse::<MacAddr>().unwrap().is_link_control();
        for group in ["01:80:c2:00:00:00", "01:80:c2:00:00:0e", "01:80:c2:00:00:0f"] {
            assert!(is(group), "{group}");
        }
        assert!(is("01:00:0c:cc:cc:cc") && is("01:00:0c:cc:cc:cd"));
        for other in ["01:80:c2:00:00:10", "00:80:c2:00:00:00", "01:00:0c:cc:cc:ce"] {
            assert!(!is(other), "{other}");
        }
        assert!(!MacAddr::BROADCAST.is_link_control());
    }
}
