//! RSTs to SYNs that no service takes.

use super::super::egress::Egress;
use super::super::egress::answer::{Answer, answer};
use super::super::limits::Limits;
use super::super::output::Output;
use super::super::packet::Packet;
use crate::frame::Frame;
use crate::seq::SeqNum;
use crate::verdict::{DropReason, ReplyKind};

/// A SYN to a VIP port without a service: nothing listens there (RFC 9293, section 3.10.7.1).
pub(in crate::pop) fn unserved_syn<F: Frame, O: Output<F>>(
    egress: &mut Egress<'_, O>,
    limits: &mut Limits<'_>,
    packet: &Packet,
    frame: F,
) {
    if !packet.tcp_checksum_holds(&frame) {
        return egress.drop(None, DropReason::TcpChecksum, frame);
    }
    let kind = ReplyKind::UnservedPort;
    if !limits.admit_own(kind, packet.segment.ip.src()) {
        egress.withhold::<F>(kind);
        return egress.drop(None, DropReason::RateRst, frame);
    }
    let end = packet.segment.tcp.end(packet.segment.ip.payload_len());
    answer(egress, packet, frame, &Answer::rst(SeqNum(0), Some(end)), kind);
}
