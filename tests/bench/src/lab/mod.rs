//! Measures kernel TCP through one POP: bytes per CPU-second of the relay, HAProxy, nginx's module
//! stream and nftables.
//!
//! ```text
//! client -- router --+-- POP --+-- router -- target
//!                    +---------+
//!                      control
//! ```
//!
//! What nftables does is done in softirqs, on behalf of whoever sends, and so is much of what the
//! others do. So for all of them the same is counted: the CPU time of hosts, routers and POP
//! together, less that of the same transfer, byte for byte, over a cable in place of the POP. Each
//! of these runs once in each round.

mod report;
mod spent;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use anyrelay_lab::config::{TARGET_PORT, VIP_PORT};
use anyrelay_lab::{Device, Forwarder, Lab, Topology, link, topology};
use clap::Args;
use serde_json::Value;

use crate::load::{self, Direction, Ends};
use report::Round;
use spent::{Meter, Spent};

/// Measures kernel TCP through one POP.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How long each transfer is measured, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Where to draw the result, as PNG.
    #[arg(long)]
    pub plot: Option<PathBuf>,
}

/// What is between the routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Middle {
    /// A cable.
    Control,
    Relay(Device),
    /// On packet sockets, where the kernel works on its copies of what they receive.
    RelayWithCopies,
    HaProxy {
        splice: bool,
    },
    Nginx,
    Nftables,
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    /// Its key in the result.
    key: &'static str,
    middle: Middle,
    /// All links as the kernel makes them: frames of up to 64 KiB pass at once.
    offloads: bool,
}

impl Case {
    const fn new(key: &'static str, middle: Middle, offloads: bool) -> Self {
        Case { key, middle, offloads }
    }

    fn build(&self) -> anyhow::Result<Lab> {
        let builder = Lab::builder().pops(1);
        let builder = match self.middle {
            Middle::Control => builder.forwarder(Forwarder::Stateless).direct(),
            Middle::Relay(device @ Device::AfPacket) => builder.device(device).drop_copies(),
            Middle::Relay(device) => builder.device(device),
            Middle::RelayWithCopies => builder,
            Middle::HaProxy { .. } => builder.forwarder(Forwarder::HaProxy),
            Middle::Nginx => builder.forwarder(Forwarder::NginxStream),
            Middle::Nftables => builder.forwarder(Forwarder::Nftables),
        };
        let mut lab = builder.build()?;
        if self.middle == (Middle::HaProxy { splice: true }) {
            let pop = &mut lab.pops[0];
            let text = std::fs::read_to_string(&pop.config)?;
            // By default there are so many pipes that their files are more than a process may open.
            let text = text.replacen("global\n", "global\n  maxpipes 100\n", 1);
            let text = text.replacen("  mode tcp\n", "  mode tcp\n  option splice-auto\n", 1);
            std::fs::write(&pop.config, text)?;
            pop.restart()?;
        }
        if self.offloads {
            offload(&lab.topology, self.middle)?;
        }
        Ok(lab)
    }

    /// Where the client connects.
    fn entry(&self) -> SocketAddrV4 {
        match self.middle {
            Middle::Control => SocketAddrV4::new(topology::TARGET, TARGET_PORT),
            _ => SocketAddrV4::new(topology::VIP, VIP_PORT),
        }
    }

    /// The key of the case without a POP that it is compared with.
    fn control(&self) -> &'static str {
        if self.offloads { "control_offloads" } else { "control" }
    }
}

/// Turns offloads on wherever the packets pass.
fn offload(topology: &Topology, middle: Middle) -> anyhow::Result<()> {
    let (near, far) = (&topology.client_router, &topology.target_router);
    let pop = &*topology.pops[0];
    let middle = match middle {
        Middle::Control => vec![(near, "direct"), (far, "direct")],
        _ => vec![(near, "pop1"), (pop, "wan"), (pop, "lan"), (far, "pop1")],
    };
    let hosts = [(&*topology.client, "net0"), (&*topology.target, "net0")];
    let hosts = hosts.into_iter().chain([(near, "client"), (far, "target")]);
    for end in hosts.chain(middle) {
        link::offload(end)?;
    }
    Ok(())
}

/// Makes all rounds; gives the result as JSON.
///
/// # Errors
/// When something does not start, or a run is void.
pub fn measure(arguments: &Arguments, rounds: u32) -> anyhow::Result<Value> {
    let window = Duration::from_secs(arguments.seconds);
    let mut all = Vec::new();
    for number in 1..=rounds {
        let mut round = Round::default();
        for case in &CASES {
            let lab = case.build().context(case.key)?;
            let pop = lab.pops[0].pid();
            for direction in Direction::ALL {
                let Topology { client, target, .. } = &*lab.topology;
                let ends = Ends { client, target, port: TARGET_PORT };
                let measure = |received: &AtomicU64| Run::measure(received, window, pop);
                let run = load::run(ends, case.entry(), direction, measure)
                    .with_context(|| format!("{} through {}", direction.key(), case.key))?;
                round.add(case.key, direction, run);
                eprintln!("{} round {number}, {}: {run}", direction.key(), case.key);
            }
        }
        all.push(round);
    }
    report::print_tables(&all);
    Ok(report::json(&all))
}

/// What arrived in the measured time, at the cost of what.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Bytes of payload that the receivers have read.
    bytes: u64,
    /// CPU time of both hosts and all that is between them.
    spent: Spent,
}

impl Run {
    /// Measures for as long as `window` says. `pop` is the POP's process, if it has one.
    fn measure(received: &AtomicU64, window: Duration, pop: Option<u32>) -> anyhow::Result<Self> {
        let (before, meter) = (received.load(Ordering::Relaxed), Meter::start(pop)?);
        std::thread::sleep(window);
        let (after, spent) = (received.load(Ordering::Relaxed), meter.stop()?);
        ensure!(after > before, "void: nothing arrives");
        Ok(Run { bytes: after - before, spent })
    }
}

const CASES: [Case; 13] = [
    Case::new("control", Middle::Control, false),
    Case::new("relay", Middle::Relay(Device::AfPacket), false),
    Case::new("relay_copies", Middle::RelayWithCopies, false),
    Case::new("relay_af_xdp", Middle::Relay(Device::AfXdp), false),
    Case::new("haproxy", Middle::HaProxy { splice: false }, false),
    Case::new("haproxy_splice", Middle::HaProxy { splice: true }, false),
    Case::new("nginx", Middle::Nginx, false),
    Case::new("nftables", Middle::Nftables, false),
    Case::new("control_offloads", Middle::Control, true),
    Case::new("haproxy_offloads", Middle::HaProxy { splice: false }, true),
    Case::new("haproxy_splice_offloads", Middle::HaProxy { splice: true }, true),
    Case::new("nginx_offloads", Middle::Nginx, true),
    Case::new("nftables_offloads", Middle::Nftables, true),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_control_of_its_kind() {
        for case in &CASES {
            let control = CASES.iter().find(|other| other.key == case.control());
            let control = control.expect("a case");
            assert_eq!((control.middle, control.offloads), (Middle::Control, case.offloads));
            let is_relay = matches!(case.middle, Middle::Relay(_) | Middle::RelayWithCopies);
            assert!(!(is_relay && case.offloads), "a relay needs frames as on a wire");
        }
        assert_eq!(CASES[report::RELAY].middle, Middle::Relay(Device::AfPacket));
    }
}
