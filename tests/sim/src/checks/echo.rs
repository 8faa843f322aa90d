//! Fragments are answered as those of an echo request, each by the same one of the reply.

use anyrelay_kit::frames::{check_mirrored, is_fragment};

use super::{Checked, Input};
use crate::wire::ETHERNET_LEN;

/// Checks the datagram in `out`, if it is sent because of a fragment.
pub(super) fn check_fragment(out: &[u8], input: Option<&Input<'_>>) -> Option<Checked> {
    let from = input?.frame.get(ETHERNET_LEN..).filter(|datagram| is_fragment(datagram))?;
    Some(check_mirrored(from, out).map_err(Into::into))
}
