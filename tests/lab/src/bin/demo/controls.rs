//! What the relay is compared with: other programs in the same POPs, by the same script.

use std::net::SocketAddr;
use std::time::Duration;

use anyrelay_lab::config::TARGET_PORT;
use anyrelay_lab::script::{Action, Script};
use anyrelay_lab::{Direction, Forwarder, Result, Service, topology};
use clap::ValueEnum;

use crate::run::{Outcome, Run};

/// A kind of control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Control {
    /// HAProxy in TCP mode.
    Haproxy,
    /// The POPs' kernels: nftables, a hash of the client, tracked connections picked up on the way.
    Nftables,
    /// The same without connection tracking.
    Stateless,
}

/// The runs of one control.
#[derive(Debug)]
pub struct Controlled {
    /// Which it is.
    pub control: Control,
    /// With resting routes.
    pub calm: Outcome,
    /// With resting routes, and what else breaks it: nftables, routes that lead to one POP up and
    /// to another one down; stateless, a fourth target from the middle on.
    pub weak: Option<Outcome>,
    /// With the relay's script.
    pub moved: Outcome,
}

impl Control {
    /// Runs it: calmly for a while, then by the script.
    ///
    /// # Errors
    /// If the lab fails.
    pub fn run(self, script: &Script) -> Result<Controlled> {
        let rest = calm(script);
        let (names, forwarder, service) = match self {
            Self::Haproxy => (["HAProxy", "HAProxy, calm"], Forwarder::HaProxy, Service::default()),
            Self::Nftables => (["nftables", "nftables, calm"], Forwarder::Nftables, hashed(3)),
            Self::Stateless => (["stateless", "stateless, calm"], Forwarder::Stateless, hashed(3)),
        };
        let run = |name| Run::new(name, forwarder, service.clone());
        let calm = run(names[1]).follow(&rest)?;
        let weak = match self {
            Self::Haproxy => None,
            Self::Nftables => {
                let events = vec![(Duration::ZERO, Action::Move(Direction::Down, 1))];
                let script = Script { events, ..rest };
                Some(run("nftables, apart").follow(&script)?)
            }
            Self::Stateless => {
                let change = Some((rest.length / 2, hashed(4)));
                Some(Run { change, ..run("stateless, grown") }.follow(&rest)?)
            }
        };
        let moved = run(names[0]).follow(script)?;
        Ok(Controlled { control: self, calm, weak, moved })
    }
}

/// A part of the length of a script, in which nothing happens.
pub fn calm(script: &Script) -> Script {
    Script::calm(script.length.mul_f64(CALM_SHARE))
}

impl Controlled {
    /// All of its runs.
    pub fn runs(&self) -> impl Iterator<Item = &Outcome> {
        [Some(&self.moved), Some(&self.calm), self.weak.as_ref()].into_iter().flatten()
    }
}

/// The default service at so many addresses of its server, for a hash to choose among.
fn hashed(count: u8) -> Service {
    let [a, b, c, d] = topology::TARGET.octets();
    let target = |n| SocketAddr::new([a, b, c, d + n].into(), TARGET_PORT);
    Service { targets: (0..count).map(target).collect(), ..Service::default() }
}

/// How much of the length of a run the calm control lasts.
const CALM_SHARE: f64 = 0.25;
