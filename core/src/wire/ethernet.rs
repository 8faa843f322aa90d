//! The Ethernet II header with at most one 802.1Q tag (IEEE 802.3, 802.1Q).

use super::MacAddr;
use super::{get_u16, get_u64, put_u16, put_u32, put_u64};

/// Offsets in bytes from the start of the frame.
mod field {
    pub const DST: usize = 0;
    pub const SRC: usize = 6;
    pub const TYPE: usize = 12;
    pub const TCI: usize = 14;
    pub const TAGGED_TYPE: usize = 16;
}

/// Length in bytes without a tag.
pub const HEADER_LEN: usize = 14;
/// Length in bytes with one tag.
pub const TAGGED_HEADER_LEN: usize = 18;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// EtherType (TPID) of an 802.1Q tag.
pub const TYPE_VLAN: u16 = 0x8100;

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN identifier of the tag, 12 bits; 0 in a priority tag, `None` without a tag.
    pub vlan: Option<u16>,
    /// EtherType of the payload.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header at the start of `frame`; `None` when it is cut off. Priority and drop
    /// eligibility of a tag are not read.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Ethernet> {
        let head: &[u8; HEADER_LEN] = frame.first_chunk()?;
        let mut ethernet = Ethernet {
            dst: MacAddr::from_u64(get_u64(head, field::DST) >> 16),
            src: MacAddr::from_u64(get_u64(head, field::SRC) >> 16),
            vlan: None,
            ethertype: get_u16(head, field::TYPE),
        };
        if ethernet.ethertype == TYPE_VLAN {
            let head: &[u8; TAGGED_HEADER_LEN] = frame.first_chunk()?;
            ethernet.vlan = Some(get_u16(head, field::TCI) & 0x0fff);
            ethernet.ethertype = get_u16(head, field::TAGGED_TYPE);
        }
        Some(ethernet)
    }

    /// Length in bytes: 14, or 18 with a tag.
    #[inline]
    pub const fn header_len(&self) -> usize {
        header_len(self.vlan)
    }

    /// Writes the header at the start of `frame`, a tag with priority 0; nothing when the frame is
    /// shorter than the header.
    #[inline]
    pub fn write(&self, frame: &mut [u8]) {
        match self.vlan {
            None => {
                let Some(head) = frame.first_chunk_mut::<HEADER_LEN>() else { return };
                self.put_addresses(head);
                put_u16(head, field::TYPE, self.ethertype);
            }
            Some(id) => {
                let Some(head) = frame.first_chunk_mut::<TAGGED_HEADER_LEN>() else { return };
                self.put_addresses(head);
                put_u16(head, field::TYPE, TYPE_VLAN);
                put_u16(head, field::TCI, id);
                put_u16(head, field::TAGGED_TYPE, self.ethertype);
            }
        }
    }

    /// Writes both addresses, as one store of eight bytes and one of four.
    #[inline(always)]
    fn put_addresses(&self, head: &mut [u8]) {
        let (dst, src) = (self.dst.to_u64(), self.src.to_u64());
        put_u64(head, field::DST, dst << 16 | src >> 32);
        put_u32(head, field::SRC + 2, src as u32);
    }
}

/// EtherType and offset in bytes of the payload of `frame`; EtherType 0 for a frame whose header is
/// cut off.
#[inline]
pub fn payload(frame: &[u8]) -> (u16, usize) {
    match get_u16(frame, field::TYPE) {
        TYPE_VLAN => (get_u16(frame, field::TAGGED_TYPE), TAGGED_HEADER_LEN),
        ethertype => (ethertype, HEADER_LEN),
    }
}

/// Length in bytes of a header with this tag or none.
#[inline]
pub const fn header_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() { TAGGED_HEADER_LEN } else { HEADER_LEN }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_write(
            dst in 0u64..1 << 48, src in 0u64..1 << 48,
            vlan in proptest::option::of(0u16..4096), ethertype: u16,
        ) {
            prop_assume!(vlan.is_some() || ethertype != TYPE_VLAN);
            let (dst, src) = (MacAddr::from_u64(dst), MacAddr::from_u64(src));
            let ethernet = Ethernet { dst, src, vlan, ethertype };
            let len = ethernet.header_len();
            let mut frame = [0xee; TAGGED_HEADER_LEN + 1];
            ethernet.write(&mut frame[..len - 1]);
            prop_assert_eq!(frame, [0xee; TAGGED_HEADER_LEN + 1]);
            ethernet.write(&mut frame);
            prop_assert_eq!(Ethernet::parse(&frame), Some(ethernet));
            prop_assert_eq!(payload(&frame), (ethertype, len));
            prop_assert_eq!(Ethernet::parse(&frame[..len - 1]), None);
            prop_assert!(frame[len..].iter().all(|byte| *byte == 0xee));
        }
    }
}
