//! A NAT64 outside of the tunnel: Debian's tayga, on the router of a lab with an open side. By it
//! the agents' hosts reach the third party by IPv4, which knows nothing of IPv6 then, and it them.
//!
//! | where | address |
//! |---|---|
//! | the NAT64's prefix, for all of IPv4 | 2001:db8:64::/96 |
//! | IPv4 addresses for open addresses, given as they come | 192.168.64.0/24 |
//! | for the open address of agent N, to connect to | 192.168.65.N |
//! | third party | 198.18.98.2/24 |
//! | router | 198.18.98.1/24 |

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::TunnelLab;
use crate::{LabError, Process, Result, command};

/// A running NAT64.
#[derive(Debug)]
pub struct Nat64 {
    _process: Process,
}

impl Nat64 {
    /// Starts it, with IPv4 addresses of their own for these open addresses, which are the agents'
    /// by their numbers.
    ///
    /// # Errors
    /// If the lab has no open side, or tayga is missing or does not start.
    pub fn start(lab: &TunnelLab, agents: &[Ipv6Addr]) -> Result<Self> {
        let router = &lab.topology.router;
        let third = lab.topology.third.as_ref();
        let third = third.ok_or_else(|| LabError::Unexpected("the lab has no open side".into()))?;
        let directory = lab.work().join("nat64");
        std::fs::create_dir_all(&directory)
            .map_err(LabError::io(format!("make {}", directory.display())))?;
        let mut config = format!(
            "tun-device {DEVICE}\nipv4-addr 192.168.64.1\nprefix {NAT64_PREFIX}/96\n\
             dynamic-pool 192.168.64.0/24\ndata-dir {}\n",
            directory.display()
        );
        for (agent, open) in agents.iter().enumerate() {
            let _ = writeln!(config, "map {} {open}", inward(agent));
        }
        let path = directory.join("tayga.conf");
        std::fs::write(&path, config).map_err(LabError::io(format!("write {}", path.display())))?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.ip(&["addr add 198.18.98.1/24 dev third".to_owned()])?;
        third.ip(&[
            format!("addr add {THIRD4}/24 dev net0"),
            "route add default via 198.18.98.1".to_owned(),
        ])?;
        let tayga = || {
            let mut tayga = router.command("tayga");
            tayga.arg("--config").arg(&path);
            tayga
        };
        command::run(tayga().arg("--mktun"))?;
        router.ip(&[
            format!("link set {DEVICE} up"),
            format!("route add 192.168.64.0/23 dev {DEVICE}"),
            format!("route add {NAT64_PREFIX}/96 dev {DEVICE}"),
        ])?;
        let log = directory.join("tayga.log");
        let mut process = Process::spawn("tayga", tayga().arg("--nodetach"), Some(&log))?;
        // It ends at once, and says why, or runs.
        std::thread::sleep(Duration::from_millis(100));
        match process.status()? {
            None => Ok(Self { _process: process }),
            Some(status) => {
                let said = process.log_tail(20);
                Err(LabError::Unexpected(format!("tayga ended, {status}: {said}")))
            }
        }
    }
}

/// The IPv4 address by which an agent's open address is reached, by the agent's number.
#[must_use]
pub fn inward(agent: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 65, u8::try_from(agent + 1).unwrap_or(u8::MAX))
}

/// The third party's IPv4 address, for hosts that reach it through the NAT64.
#[must_use]
pub fn third_by_nat64() -> Ipv6Addr {
    Ipv6Addr::from_bits(NAT64_PREFIX.to_bits() | u128::from(THIRD4.to_bits()))
}

const NAT64_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0);
const THIRD4: Ipv4Addr = Ipv4Addr::new(198, 18, 98, 2);
const DEVICE: &str = "nat64";
