//! A worker's token buckets, the SYNs that relay services take, and the ICMP errors that are passed on or
//! are the POP's own.

use std::net::IpAddr;

use super::run::Run;
use super::{Of, Output};
use crate::bucket::{Bucket, BucketSketch, BucketTable, Purpose};
use crate::frame::Frame;
use crate::net::{MAX_SERVICES, ServiceSlot};
use crate::verdict::{DropReason, ReplyKind};

/// A worker's token buckets. What each lets through is in `[limits]`.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    rst: Bucket,
    pub variants: Bucket,
    echo: Bucket,
    pub syn_acks: BucketTable,
    pub keepalive_macs: BucketTable,
    syns: BucketSketch,
    errors: BucketSketch,
    own_errors: BucketSketch,
    times_exceeded: Bucket,
    too_bigs: Bucket,
    syns_of_services: ServiceBuckets,
}

/// A bucket for each service, by the place of its counters.
#[derive(Debug)]
struct ServiceBuckets(Box<[Bucket]>);

impl Default for ServiceBuckets {
    fn default() -> Self {
        ServiceBuckets(vec![Bucket::new(); MAX_SERVICES].into_boxed_slice())
    }
}

impl<O> Run<'_, O> {
    /// Whether the relay service whose counters are in `slot` takes a SYN from `src`, whose network has
    /// its share first: what is beyond that uses up nothing of the service's.
    ///
    /// Only SYNs are asked about, so connections that exist go on.
    // A call of its own: segments that are no SYNs shall not carry it along.
    #[inline(never)]
    pub(super) fn admit_syn(&mut self, slot: ServiceSlot, src: IpAddr) -> Result<(), DropReason> {
        let limits = &self.snapshot.config.limits;
        let places = self.snapshot.bucket_hash.both(Purpose::Syn, slot.0, src);
        if !self.buckets.syns.take(places, self.now, limits.syn_per_prefix_per_second) {
            return Err(DropReason::RateSynPrefix);
        }
        let service = self.buckets.syns_of_services.0.get_mut(usize::from(slot.0));
        let taken =
            service.is_none_or(|bucket| bucket.take(self.now, limits.syn_per_service_per_second));
        if taken { Ok(()) } else { Err(DropReason::RateSynService) }
    }

    /// Whether an ICMP error may be passed on that is about a segment between the service `of` and
    /// `client`, a client or an agent.
    #[inline(never)]
    pub(super) fn admit_error(&mut self, of: Of, client: IpAddr) -> Result<(), DropReason> {
        let limit = self.snapshot.config.limits.icmp_forward_per_second;
        let slot = self.slot(of).map_or(0, |slot| slot.0);
        let places = self.snapshot.bucket_hash.both(Purpose::Icmp, slot, client);
        let taken = self.buckets.errors.take(places, self.now, limit);
        if taken { Ok(()) } else { Err(DropReason::RateIcmp) }
    }

    /// Whether an echo reply or a RST of the POP's own may be sent: all share what there is of these.
    pub(super) fn admit_reply<F: Frame>(&mut self, kind: ReplyKind) -> bool
    where
        O: Output<F>,
    {
        let limits = &self.snapshot.config.limits;
        let (bucket, limit) = match kind {
            ReplyKind::Echo => (&mut self.buckets.echo, limits.echo_per_second),
            _ => (&mut self.buckets.rst, limits.rst_per_second),
        };
        let admitted = bucket.take(self.now, limit);
        if !admitted {
            self.count_withheld::<F>(kind);
        }
        admitted
    }

    /// Whether an ICMP error of the POP's own may go to `to`. A network of clients has a share of what all
    /// may have: what is beyond that uses up nothing of theirs. Segments at their last hop, which anybody
    /// can send at no cost, keep nobody from learning what fits.
    #[cold]
    pub(super) fn admit_own_error<F: Frame>(&mut self, kind: ReplyKind, to: IpAddr) -> bool
    where
        O: Output<F>,
    {
        let admitted = self.take_own_error(kind, to);
        if !admitted {
            self.count_withheld::<F>(kind);
        }
        admitted
    }

    fn take_own_error(&mut self, kind: ReplyKind, to: IpAddr) -> bool {
        let limit = self.snapshot.config.limits.icmp_per_second;
        let (of_kind, place) = match kind {
            ReplyKind::TimeExceeded => (&mut self.buckets.times_exceeded, 0),
            _ => (&mut self.buckets.too_bigs, 1),
        };
        // Few targets may send to very many clients.
        if self.snapshot.client_ok_ip(to) {
            let share = limit.div_ceil(NETWORKS_AT_LIMIT);
            let places = self.snapshot.bucket_hash.both(Purpose::OwnIcmp, place, to);
            if !self.buckets.own_errors.take(places, self.now, share) {
                return false;
            }
        }
        of_kind.take(self.now, limit)
    }
}

/// Networks that use up what there is of ICMP errors of the POP's own, each with its share.
const NETWORKS_AT_LIMIT: u32 = 10;
