//! A worker's counters: written by that worker alone, read by anyone at any time.
//!
//! Each worker has one [`Counters`], allocated at start, with room for the services that there are:
//! a reload makes room for those that it adds before workers see them. To add is a plain load and
//! store, because there is a single writer; a scrape sums over the workers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::{MAX_PORTS, MAX_SERVICES, PortIndex, ServiceSlot, Towards};
use crate::verdict::{AbsorbKind, DropReason, ReplyKind};

/// Targets of one service that have counters.
pub const TARGETS: usize = 64;

/// A count that one thread increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the worker that owns the counter may call it: two writers lose counts.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The present count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Counter {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// A number that one thread sets.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// Sets the number.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// Counts of reassembly. Dropped fragments are among the drops of their port.
#[derive(Debug, Default, PartialEq)]
pub struct FragmentCounters {
    /// Reassembled datagrams.
    pub datagrams: Counter,
    /// Fragments of those datagrams.
    pub fragments: Counter,
    /// Fragments handed over to the worker that reassembles their datagram.
    pub handed_over: Counter,
    /// Frames that hold fragments of incomplete datagrams.
    pub waiting: Level,
}

/// Counts of hints between POPs.
#[derive(Debug, Default, PartialEq)]
pub struct HintCounters {
    /// What other POPs are told of.
    pub sent: Counter,
    /// What they are not told of, because of the rate limit or a full queue.
    pub withheld: Counter,
    /// What other POPs told of.
    pub taken: Counter,
    /// What other POPs told of, of services that this POP does not have.
    pub foreign: Counter,
}

/// Packets and their bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Traffic {
    /// Packets.
    pub packets: Counter,
    /// Bytes: of whole frames at ports, from the IP header on at services.
    pub bytes: Counter,
}

impl Traffic {
    /// Adds packets with `bytes` in all.
    #[inline]
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }
}

/// A count for each reason.
#[derive(Debug, PartialEq)]
struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Drops(std::array::from_fn(|_| Counter::default()))
    }
}

/// Counts of one port.
#[derive(Debug, Default, PartialEq)]
pub struct PortCounters {
    /// Received frames.
    pub rx: Traffic,
    /// Frames that the port accepted for sending.
    pub tx: Traffic,
    /// Frames dropped because the queue to the TX ring's owner was full.
    pub queue_overflow: Counter,
    /// SYNs that were received from a gateway of a port.
    pub gateway_syns: Counter,
    drops: Drops,
}

/// Counts of one target of a service, in one cache line.
#[derive(Debug, Default, PartialEq)]
#[repr(align(64))]
pub struct TargetCounters {
    /// SYNs that were sent to it: connections begun.
    pub syns: Counter,
    /// Sent to it.
    pub up: Traffic,
    /// Sent on from it to clients.
    pub down: Traffic,
    /// Of what was sent to it, copies of segments that went to another target as well.
    pub copies: Counter,
    /// RSTs of it without timestamps, as a host sends them that has no socket.
    pub refusals: Counter,
    /// Segments of it that showed who owns a connection.
    pub owners: Counter,
}

impl TargetCounters {
    /// What was sent `towards` that side.
    #[inline]
    pub fn traffic(&self, towards: Towards) -> &Traffic {
        match towards {
            Towards::Targets => &self.up,
            Towards::Clients => &self.down,
        }
    }
}

/// Counts of one service.
///
/// Aligned as [`Counters`]: each has memory of its own.
#[derive(Debug, PartialEq)]
#[repr(align(128))]
pub struct ServiceCounters {
    /// Forwarded from clients to targets.
    pub up: Traffic,
    /// Forwarded from targets to clients.
    pub down: Traffic,
    /// Sent to targets beside the first, where a client has several.
    pub copies: Traffic,
    /// SYNs that had no room for the client's address, which the targets want to know.
    pub syns_without_address: Counter,
    raised_mtus: [Counter; 2],
    drops: Drops,
    targets: [TargetCounters; TARGETS],
    spare: TargetCounters,
}

impl Default for ServiceCounters {
    fn default() -> Self {
        ServiceCounters {
            up: Traffic::default(),
            down: Traffic::default(),
            copies: Traffic::default(),
            syns_without_address: Counter::default(),
            raised_mtus: Default::default(),
            drops: Drops::default(),
            targets: std::array::from_fn(|_| TargetCounters::default()),
            spare: TargetCounters::default(),
        }
    }
}

impl ServiceCounters {
    /// Counts of the target in that slot, below [`TARGETS`].
    #[inline]
    pub fn target(&self, slot: u8) -> &TargetCounters {
        self.targets.get(usize::from(slot)).unwrap_or(&self.spare)
    }

    /// What was forwarded `towards` that side, but for copies.
    #[inline]
    pub fn traffic(&self, towards: Towards) -> &Traffic {
        match towards {
            Towards::Targets => &self.up,
            Towards::Clients => &self.down,
        }
    }

    /// ICMP errors on their way `towards` that side whose MTU was raised to the floor.
    pub fn raised_mtus(&self, towards: Towards) -> &Counter {
        let [up, down] = &self.raised_mtus;
        match towards {
            Towards::Targets => up,
            Towards::Clients => down,
        }
    }
}

/// All counts of one worker.
///
/// Aligned to two cache lines, which x86 fetches in pairs, so that workers share none.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    ports: Box<[PortCounters]>,
    /// Empty where no service has had its counters yet.
    services: Box<[OnceLock<Box<ServiceCounters>>]>,
    replies: [Counter; ReplyKind::COUNT],
    withheld: [Counter; ReplyKind::COUNT],
    absorbed: [Counter; AbsorbKind::COUNT],
    issued_elsewhere: Box<[Counter; 256]>,
    /// Reassembly; all zero with the policy to drop fragments.
    pub fragments: FragmentCounters,
    /// Hints; all zero without `[hints]`.
    pub hints: HintCounters,
    /// Frames that went the fast way.
    pub fast_frames: Counter,
    /// Turns of the worker's loop that received a frame.
    pub busy_polls: Counter,
    /// Turns of the worker's loop that received none.
    pub idle_polls: Counter,
    spare: PortCounters,
    spare_service: Box<ServiceCounters>,
}

impl Counters {
    /// Counts of nothing, with room for the services in `slots`.
    pub fn new(slots: impl IntoIterator<Item = ServiceSlot>) -> Self {
        let counters = Counters {
            ports: (0..MAX_PORTS).map(|_| PortCounters::default()).collect(),
            services: (0..MAX_SERVICES).map(|_| OnceLock::new()).collect(),
            replies: Default::default(),
            withheld: Default::default(),
            absorbed: Default::default(),
            issued_elsewhere: Box::new(std::array::from_fn(|_| Counter::default())),
            fragments: FragmentCounters::default(),
            hints: HintCounters::default(),
            fast_frames: Counter::default(),
            busy_polls: Counter::default(),
            idle_polls: Counter::default(),
            spare: PortCounters::default(),
            spare_service: Box::default(),
        };
        counters.make_room(slots);
        counters
    }

    /// Makes room for the services in `slots`, before the worker meets them: what is counted of
    /// services without room is lost. Allocates, so it is not for the packet path.
    pub fn make_room(&self, slots: impl IntoIterator<Item = ServiceSlot>) {
        for slot in slots {
            if let Some(place) = self.services.get(usize::from(slot.0)) {
                place.get_or_init(Box::default);
            }
        }
    }

    /// Whether the same became of all frames that both counted, whatever way they went.
    pub fn agrees(&self, other: &Counters) -> bool {
        let Counters {
            ports,
            services,
            replies,
            withheld,
            absorbed,
            issued_elsewhere,
            fragments,
            hints,
            spare,
            spare_service,
            fast_frames: _,
            busy_polls: _,
            idle_polls: _,
        } = self;
        *ports == other.ports
            && *services == other.services
            && (replies, withheld, absorbed) == (&other.replies, &other.withheld, &other.absorbed)
            && *issued_elsewhere == other.issued_elsewhere
            && (fragments, hints) == (&other.fragments, &other.hints)
            && (spare, spare_service) == (&other.spare, &other.spare_service)
    }

    /// Counts of a port.
    #[inline]
    pub fn port(&self, port: PortIndex) -> &PortCounters {
        self.ports.get(usize::from(port.0)).unwrap_or(&self.spare)
    }

    /// Counts of a service.
    #[inline]
    pub fn service(&self, slot: ServiceSlot) -> &ServiceCounters {
        let place = self.services.get(usize::from(slot.0));
        place.and_then(OnceLock::get).unwrap_or(&self.spare_service)
    }

    /// Counts of all services, also of those that are gone.
    pub fn services(&self) -> impl Iterator<Item = &ServiceCounters> {
        self.services.iter().filter_map(OnceLock::get).map(|service| &**service)
    }

    /// Counts a drop of a frame that arrived on `port` or was to leave through it.
    #[inline]
    pub fn count_drop(&self, port: PortIndex, service: Option<ServiceSlot>, reason: DropReason) {
        self.port(port).drops.0[reason as usize].add(1);
        if let Some(slot) = service {
            self.service(slot).drops.0[reason as usize].add(1);
        }
    }

    /// Drops at `port` for `reason`.
    pub fn drops(&self, port: PortIndex, reason: DropReason) -> u64 {
        self.port(port).drops.0[reason as usize].get()
    }

    /// Drops of the service in `slot` for `reason`.
    pub fn service_drops(&self, slot: ServiceSlot, reason: DropReason) -> u64 {
        self.service(slot).drops.0[reason as usize].get()
    }

    /// Counts a reply that the POP sent itself.
    #[inline]
    pub fn count_reply(&self, kind: ReplyKind) {
        self.replies[kind as usize].add(1);
    }

    /// Replies of that kind.
    pub fn replies(&self, kind: ReplyKind) -> u64 {
        self.replies[kind as usize].get()
    }

    /// Counts a reply that a rate limit withheld.
    #[inline]
    pub fn count_withheld(&self, kind: ReplyKind) {
        self.withheld[kind as usize].add(1);
    }

    /// Replies of that kind, one of [`ReplyKind::LIMITED`], that a rate limit withheld.
    pub fn withheld(&self, kind: ReplyKind) -> u64 {
        self.withheld[kind as usize].get()
    }

    /// Counts a frame that was absorbed.
    #[inline]
    pub fn count_absorbed(&self, kind: AbsorbKind) {
        self.absorbed[kind as usize].add(1);
    }

    /// Counts a tunnel datagram whose sender's token was issued by `pop`, the number of another
    /// POP.
    #[inline]
    pub fn count_issued_elsewhere(&self, pop: u8) {
        self.issued_elsewhere[usize::from(pop)].add(1);
    }

    /// Tunnel datagrams whose sender's token was issued by `pop`, the number of another POP: the
    /// sender's route led there before.
    pub fn issued_elsewhere(&self, pop: u8) -> u64 {
        self.issued_elsewhere[usize::from(pop)].get()
    }

    /// Absorbed frames of that kind.
    pub fn absorbed(&self, kind: AbsorbKind) -> u64 {
        self.absorbed[kind as usize].get()
    }
}

#[cfg(test)]
mod tests;
