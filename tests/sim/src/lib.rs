//! Deterministic simulation of everything at once, each run from one seed.
//!
//! Stock TCP stacks (smoltcp) are clients and targets; agents stand behind the model of a strict
//! firewall; between them are POPs, which are the core's own [`anyrelay_core::pop::Pop`], and a
//! network that loses, reorders, doubles, damages and cuts up datagrams and changes every route
//! when it likes. POPs restart and reload their config meanwhile.
//!
//! [`run`] promises: the same seed gives the same run, to the bit, and an [`Outcome`] without a
//! failure means that nothing forbidden was seen: `README.md` beside this has the list.

mod agree;
mod app;
mod carried;
mod checks;
mod errors;
mod exotic;
mod forged;
mod hints;
mod host;
mod hosts;
mod limits;
mod link;
mod middlebox;
mod moved;
mod mutants;
mod network;
mod open;
mod pops;
mod popside;
mod queue;
mod refusals;
mod report;
mod scenario;
mod services;
mod setup;
mod stamps;
mod strays;
mod tally;
mod targets;
mod told;
mod traits;
mod tunnel;
mod wire;
mod world;

pub use moved::{Moved, MovedCounts};
pub use refusals::Rule;
pub use report::{Counts, Record};
pub use told::{HintCounts, Paths, Refused, Told};

use app::{Plan, Progress};
use world::World;

/// How a run is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Frames are kept for [`Record::write_pcap`].
    pub record: bool,
    /// Something is wrong on purpose.
    pub sabotage: Option<Sabotage>,
    /// Only hosts judge: what leaves POPs is not compared with the protocol.
    pub only_hosts_judge: bool,
}

/// What a run must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The network flips a bit of TSvals towards targets, and repairs the checksums.
    FlipTsval,
    /// The first POP has another relay secret than the others.
    DifferentKeys,
    /// POPs have the low bit of TSvals the wrong way round: it is clear in all but bare SYNs.
    InvertedBit,
    /// POPs clear it in all bare segments.
    BareIsOlder,
    /// POPs send bare segments from another port than those with timestamps.
    BareIsElsewhere,
    /// POPs take the timestamps out of all segments to clients.
    StripsAll,
    /// POPs tell targets the address of another client.
    OtherClient,
    /// POPs count no hop of packets that leave the tunnel.
    FreeHop,
    /// POPs acknowledge another number to agents, with open packets.
    OtherAck,
    /// POPs lack a rule for refusals.
    Without(Rule),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What went wrong first, if anything did.
    pub failure: Option<String>,
    /// How many POPs there were.
    pub pops: u64,
    /// What happened.
    pub counts: Counts,
    /// Of all frames, in order.
    pub record: Record,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = match World::new(seed, options) {
        Ok(world) => world,
        Err(error) => {
            let (counts, record) = (Counts::default(), Record::new(false));
            return Outcome { failure: Some(error), pops: 0, counts, record };
        }
    };
    world.run();
    let begun = |(plan, progress): &(&Plan, &Progress)| progress.started && plan.after.is_some();
    let plans = || world.plans.iter().zip(&world.progress);
    let counts = Counts {
        connections: plans().filter(|one| one.1.started).count() as u64,
        reused: plans().filter(begun).count() as u64,
        collided: plans().filter(|one| one.1.collided).count() as u64,
        datagrams: world.tunnels.sent(),
        talks: world.talks.counts(),
        frames: world.record.frames(),
        fast: world.pops.iter().map(|pop| pop.fast_frames).sum(),
        carried: world.pops.iter().map(|pop| pop.carried).sum(),
        simulated_us: world.now_us,
        refusals: world.refused(),
        ..world.counts
    };
    let (failure, pops) = (world.failure, world.pops.len() as u64);
    Outcome { failure, pops, counts, record: world.record }
}
