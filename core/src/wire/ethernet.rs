//! Ethernet II header with at most one 802.1Q tag (IEEE 802.3, 802.1Q).

use super::MacAddr;
use super::{get_u16, get_u64, put_u16, put_u32, put_u64};

/// Offsets from the start of the frame.
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

/// A whole Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN identifier of the tag, 0 for a priority tag, `None` without a tag.
    pub vlan: Option<u16>,
    /// EtherType of the payload.
    pub ethertype: u16,
    /// Where the payload begins, in bytes: 14 or 18.
    pub header_len: usize,
}

impl Ethernet {
    /// Reads the header at the start of `frame`; `None` when it is not whole.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Ethernet> {
        let head: &[u8; HEADER_LEN] = frame.first_chunk()?;
        let mut ethernet = Ethernet {
            dst: MacAddr::from_u64(get_u64(head, field::DST) >> 16),
            src: MacAddr::from_u64(get_u64(head, field::SRC) >> 16),
            vlan: None,
            ethertype: get_u16(head, field::TYPE),
            header_len: HEADER_LEN,
        };
        if ethernet.ethertype == TYPE_VLAN {
            let head: &[u8; TAGGED_HEADER_LEN] = frame.first_chunk()?;
            ethernet.vlan = Some(get_u16(head, field::TCI) & 0x0fff);
            ethernet.ethertype = get_u16(head, field::TAGGED_TYPE);
            ethernet.header_len = TAGGED_HEADER_LEN;
        }
        Some(ethernet)
    }
}

/// The EtherType of what the frame carries, and where that begins; 0 for a frame without a whole
/// header.
#[inline]
pub fn payload(frame: &[u8]) -> (u16, usize) {
    match get_u16(frame, field::TYPE) {
        TYPE_VLAN => (get_u16(frame, field::TAGGED_TYPE), TAGGED_HEADER_LEN),
        ethertype => (ethertype, HEADER_LEN),
    }
}

/// Length in bytes of a header with that tag.
#[inline]
pub const fn header_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() { TAGGED_HEADER_LEN } else { HEADER_LEN }
}

/// Writes a header at the start of `frame`, as long as [`header_len`] says.
#[inline]
pub fn write(frame: &mut [u8], dst: MacAddr, src: MacAddr, vlan: Option<u16>, ethertype: u16) {
    if let Some(head) = frame.first_chunk_mut::<HEADER_LEN>() {
        put_u64(head, field::DST, dst.to_u64() << 16 | src.to_u64() >> 32);
        put_u32(head, field::SRC + 2, src.to_u64() as u32);
        put_u16(head, field::TYPE, if vlan.is_some() { TYPE_VLAN } else { ethertype });
    }
    if let Some(id) = vlan {
        put_u16(frame, field::TCI, id);
        put_u16(frame, field::TAGGED_TYPE, ethertype);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        for vlan in [None, Some(0), Some(4095)] {
            let mut frame = [0; TAGGED_HEADER_LEN];
            let (dst, src) = (MacAddr::new([2, 1, 2, 3, 4, 5]), MacAddr::new([2, 9, 8, 7, 6, 5]));
            write(&mut frame, dst, src, vlan, TYPE_IPV4);
            let header_len = header_len(vlan);
            let want = Ethernet { dst, src, vlan, ethertype: TYPE_IPV4, header_len };
            assert_eq!(Ethernet::parse(&frame), Some(want));
            assert_eq!(Ethernet::parse(&frame[..header_len - 1]), None);
        }
    }
}
