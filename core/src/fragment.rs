//! What happens to fragments (the draft, section 1.2.1).
//!
//! The fragments of one datagram may reach different POPs, and only the first one has ports. A POP
//! that saw some of them must not guess: this is decided before anything looks at ports.

use crate::config::Fragments;
use crate::verdict::DropReason;

/// Whether a datagram may go on, by the POP's policy.
#[inline]
pub fn admit(policy: Fragments, is_fragment: bool) -> Result<(), DropReason> {
    match policy {
        Fragments::Drop if is_fragment => Err(DropReason::Fragment),
        Fragments::Drop => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::Ipv4;

    #[test]
    fn any_part_of_a_datagram_is_a_fragment() {
        // First, middle and last fragment; DF and the reserved bit say nothing.
        for (fragment, whole) in
            [(0x2000, false), (0x2010, false), (0x0010, false), (0x4000, true), (0, true)]
        {
            let ip = Ipv4 {
                header_len: 20,
                total_len: 40,
                fragment,
                ttl: 9,
                protocol: 6,
                src: 1,
                dst: 2,
            };
            assert_eq!(admit(Fragments::Drop, ip.is_fragment()).is_ok(), whole, "{fragment:#x}");
        }
    }
}
