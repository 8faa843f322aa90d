//! Deterministic simulation of everything at once, each run from one seed.
//!
//! Stock TCP stacks (smoltcp) are clients and targets; agents stand behind the model of a strict
//! firewall; between them are POPs, which are the core's own [`anyrelay_core::pop::Pop`], and a
//! network that loses, reorders, doubles, damages and cuts up datagrams and changes every route when
//! it likes. POPs restart and reload their config meanwhile.
//!
//! [`run`] promises: the same seed gives the same run, to the bit, and an [`Outcome`] without a
//! failure means that nothing forbidden was seen: `README.md` beside this has the list.

mod app;
mod checks;
mod errors;
mod forged;
mod host;
mod hosts;
mod network;
mod pops;
mod popside;
mod queue;
mod report;
mod scenario;
mod setup;
mod stamps;
mod tunnel;
mod wire;
mod world;

// The model of a firewall with NAT, and the random numbers, are those of the core's own tests of
// tunnels: one file each, not two that drift apart.
#[allow(dead_code, clippy::expect_used)]
#[path = "../../../core/tests/tunnel/conntrack.rs"]
mod conntrack;
#[allow(dead_code, clippy::expect_used)]
#[path = "../../../core/tests/tunnel/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "../../../core/tests/tunnel/site.rs"]
mod site;

pub use report::Record;
use world::World;

/// How a run is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Frames are kept for [`Record::write_pcap`].
    pub record: bool,
    /// Something is wrong on purpose.
    pub sabotage: Option<Sabotage>,
}

/// What a run must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The network flips a bit of TSvals towards targets, and repairs the checksums.
    FlipTsval,
    /// The first POP has another relay secret than the others.
    DifferentKeys,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What went wrong first, if anything did.
    pub failure: Option<String>,
    /// Connections that were begun.
    pub connections: u64,
    /// Those whose egress was another's too (`docs/limits.md`): their end is not judged.
    pub collided: u64,
    /// Datagrams of agents.
    pub datagrams: u64,
    /// Damaged segments that came as far as a host, and were found out there.
    pub damage_seen: u64,
    /// ICMP errors of routers that came to the right host.
    pub errors_seen: u64,
    /// POPs, and frames that they took in or sent.
    pub pops: u64,
    /// Frames that POPs took in or sent.
    pub frames: u64,
    /// How long the run took of its own time.
    pub simulated_us: u64,
    /// Of all frames, in order.
    pub record: Record,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = match World::new(seed, options) {
        Ok(world) => world,
        Err(error) => return Outcome::failed(error),
    };
    world.run();
    let progress = &world.progress;
    Outcome {
        connections: progress.iter().filter(|one| one.started).count() as u64,
        collided: progress.iter().filter(|one| one.collided).count() as u64,
        datagrams: world.tunnels.sent(),
        damage_seen: world.damage_seen,
        errors_seen: world.errors_seen,
        pops: world.pops.len() as u64,
        frames: world.record.frames(),
        simulated_us: world.now_us,
        failure: world.failure,
        record: world.record,
    }
}

impl Outcome {
    fn failed(error: String) -> Self {
        Outcome {
            failure: Some(error),
            connections: 0,
            collided: 0,
            datagrams: 0,
            damage_seen: 0,
            errors_seen: 0,
            pops: 0,
            frames: 0,
            simulated_us: 0,
            record: Record::new(false),
        }
    }
}
