//! What the headers of taken segments become. Checksums are updated, never computed anew (RFC
//! 1624).

use cpu_vector::{Job, Vector, lane_mask, pick};

use super::columns::{Columns, INSERTED, number_of, wire_of};
use super::sort::{LOW32, STAMPS, fold, swap16};
use crate::relay::mapping::BURST;

/// Computes the headers of all segments that are mapped.
pub(super) struct Compute<'a> {
    pub columns: &'a mut Columns,
    /// The segments of targets.
    pub down: u64,
    /// Those without options.
    pub bare: u64,
}

impl Job for Compute<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, _: V) {
        let Compute { columns, down, bare } = self;
        for lane in 0..BURST {
            let back = lane_mask(down, lane);
            let bare = lane_mask(bare, lane);
            let (ip, source) = (columns.ip[lane], columns.source[lane]);
            let (destination, tcp) = (columns.destination[lane], columns.tcp[lane]);
            let (stamp, echo) = (columns.stamp[lane], columns.echo[lane]);
            let (number, near) = (columns.numbers.0[lane], columns.near[lane]);

            // A client's segment leaves from its index in the pool and its port.
            let egress = near | number >> 48 << 16 | number >> 32 & 0xffff;
            let from = wire_of(pick(back, near, egress));
            let to = wire_of(pick(back, number, columns.far[lane]));
            let (new_source, new_destination) = (from & LOW32, to & LOW32);
            let new_ports = from >> 32 | to >> 16 & 0xffff_0000;
            let value = ((number << 1 | 1) << 32).swap_bytes() & LOW32;

            // Timestamps are put into bare segments of clients.
            let total = swap16(ip >> 16);
            let new_total = total + (INSERTED & bare);
            let (old_len, new_len) = (ip >> 16 & 0xffff, swap16(new_total));
            let hops = source & 0xffff;
            let moved = (!source >> 32) + (!destination & LOW32) + new_source + new_destination;
            let ip_sum = moved
                + (hops ^ 0xffff)
                + (hops.wrapping_sub(1) & 0xffff)
                + (source >> 16 & 0xffff ^ 0xffff)
                + (old_len ^ 0xffff)
                + new_len;

            let new_tcp = tcp.wrapping_add(0x30 & bare);
            let segment = swap16(total.wrapping_sub(20)) ^ 0xffff;
            let new_segment = swap16(new_total.wrapping_sub(20));
            let tcp_sum = moved
                + (!destination >> 32)
                + new_ports
                + (tcp >> 32 & 0xffff ^ 0xffff)
                + segment
                + new_segment
                + (tcp & 0xffff ^ 0xffff)
                + (new_tcp & 0xffff)
                // TSval of a client's segment, TSecr of a target's.
                + (!stamp >> 32 & !back & !bare)
                + ((echo ^ LOW32) & back)
                + (value & !back)
                + (STAMPS & bare);

            columns.client[lane] = number >> 16 & LOW32;
            columns.egress[lane] = pick(back, number_of(columns.to[lane]), egress);
            columns.ip[lane] = ip & !(0xffff << 16) | new_len << 16;
            columns.source[lane] =
                hops.wrapping_sub(1) & 0xffff | (fold(ip_sum) ^ 0xffff) << 16 | new_source << 32;
            columns.destination[lane] = new_destination | new_ports << 32;
            columns.tcp[lane] = new_tcp & !(0xffff << 32) | (fold(tcp_sum) ^ 0xffff) << 32;
            columns.stamp[lane] = pick(back, stamp, STAMPS | value << 32);
            columns.echo[lane] = echo & !(back | bare);
            columns.new_len[lane] = new_total;
        }
    }
}
