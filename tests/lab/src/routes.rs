//! Which POP carries what: the routes in the two routers, moved while traffic flows.
//!
//! Each router has one long-lived `ip -batch -` that takes a line per change, so a move costs no
//! process start; it is over when that has answered. Spraying is done by policy routing: an nft
//! rule of the router marks every packet with a random slot, and while spraying is on, an `ip rule`
//! per slot looks up that slot's table.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};

use crate::{LabError, Namespace, Process, Result, command};

/// Divisible by 2, 3, 4 and 6, so that packets are spread evenly over that many POPs.
const SLOTS: usize = 12;
const FIRST_TABLE: usize = 300;

/// Where packets go: up from the client to the target, or down from the target to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Through the client's router, by the route to the VIPs.
    Up,
    /// Through the target's router, by the route to the egress pool or to the clients.
    Down,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// Where the packets of one direction are sent now. POPs are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carriers {
    /// All to this POP.
    One(usize),
    /// Each packet to one of these POPs at random.
    Spray(Vec<usize>),
}

/// The routes of both directions, each of one IP family or both, which move together.
#[derive(Debug)]
pub struct Routes {
    up: Movers,
    down: Movers,
}

impl Routes {
    pub(crate) fn new(up: Movers, down: Movers) -> Self {
        Self { up, down }
    }

    /// Sends all packets of a direction to one POP from now on.
    ///
    /// # Errors
    /// If the router's `ip` has ended, with what it said.
    pub fn to(&mut self, direction: Direction, pop: usize) -> Result<()> {
        self.movers(direction).each(|mover| mover.to(pop))
    }

    /// Sends each packet of a direction to a random one of `pops` from now on.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn spray(&mut self, direction: Direction, pops: &[usize]) -> Result<()> {
        self.movers(direction).each(|mover| mover.spray(pops))
    }

    /// Where the packets of a direction are sent now.
    #[must_use]
    pub fn current(&self, direction: Direction) -> &Carriers {
        match direction {
            Direction::Up => self.up.ipv4.current(),
            Direction::Down => self.down.ipv4.current(),
        }
    }

    /// How many POPs there are to send to.
    #[must_use]
    pub fn pops(&self) -> usize {
        self.up.ipv4.moving.gateways.len()
    }

    fn movers(&mut self, direction: Direction) -> &mut Movers {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// The moving routes of one direction: all of them carry the same.
#[derive(Debug)]
pub(crate) struct Movers {
    pub ipv4: Mover,
    pub ipv6: Option<Mover>,
}

impl Movers {
    fn each(&mut self, mut action: impl FnMut(&mut Mover) -> Result<()>) -> Result<()> {
        action(&mut self.ipv4)?;
        self.ipv6.as_mut().map_or(Ok(()), action)
    }
}

/// Routes of a router that move.
#[derive(Debug, Clone)]
pub(crate) struct Moving {
    /// To where.
    pub prefixes: Vec<String>,
    /// Through which of these, by the index of the POP.
    pub gateways: Vec<String>,
    /// The prefixes are of IPv6.
    pub ipv6: bool,
    /// For all packets; or, with a number from 1 that is its own, only for those of an interface.
    pub interface: Option<(usize, String)>,
}

/// The moving routes of one router.
#[derive(Debug)]
pub(crate) struct Mover {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    moving: Moving,
    current: Carriers,
}

impl Mover {
    /// Routes the prefixes through the first of the gateways, and gets ready to move them.
    pub(crate) fn new(router: &Namespace, moving: Moving, log: &Path) -> Result<Self> {
        let mark = format!(
            "add table inet lab\n\
             add chain inet lab spray {{ type filter hook prerouting priority mangle; }}\n\
             flush chain inet lab spray\n\
             add rule inet lab spray meta mark set numgen random mod {SLOTS} offset 1\n"
        );
        command::run_with_input(router.command("nft").args(["-f", "-"]), &mark)?;
        let mut ip = Command::new("ip");
        let family = if moving.ipv6 { "-6" } else { "-4" };
        ip.args(["-n", router.name(), family, "-oneline", "-batch", "-"]);
        let mut process = Process::spawn_piped("route mover", &mut ip, log)?;
        let stdin = process.stdin().ok_or(LabError::Unexpected("ip has no input".into()))?;
        let stdout = process.stdout().ok_or(LabError::Unexpected("ip has no output".into()))?;
        let (stdout, current) = (BufReader::new(stdout), Carriers::One(0));
        let mut mover = Self { process, stdin, stdout, moving, current };
        mover.to(0)?;
        if let Some((number, interface)) = &mover.moving.interface {
            let table = mover.table();
            let rule = format!("rule add pref {} iif {interface} lookup {table}\n", 1000 + number);
            mover.send(&rule)?;
        }
        Ok(mover)
    }

    /// Where its packets are sent now.
    pub(crate) fn current(&self) -> &Carriers {
        &self.current
    }

    pub(crate) fn to(&mut self, pop: usize) -> Result<()> {
        let mut lines = self.route_lines(&self.table(), pop)?;
        if matches!(self.current, Carriers::Spray(_)) {
            lines.extend((0..SLOTS).map(|slot| format!("rule del {}\n", self.slot_rule(slot))));
        }
        self.send(&lines.concat())?;
        self.current = Carriers::One(pop);
        Ok(())
    }

    pub(crate) fn spray(&mut self, pops: &[usize]) -> Result<()> {
        let mut lines = Vec::new();
        for (slot, pop) in (0..SLOTS).zip(pops.iter().cycle()) {
            lines.extend(self.route_lines(&self.slot_table(slot).to_string(), *pop)?);
        }
        if matches!(self.current, Carriers::One(_)) {
            lines.extend((0..SLOTS).map(|slot| format!("rule add {}\n", self.slot_rule(slot))));
        }
        self.send(&lines.concat())?;
        self.current = Carriers::Spray(pops.to_vec());
        Ok(())
    }

    fn route_lines(&self, table: &str, pop: usize) -> Result<Vec<String>> {
        let unknown = || LabError::Unexpected(format!("there is no POP with index {pop}"));
        let gateway = self.moving.gateways.get(pop).ok_or_else(unknown)?;
        let line = |prefix| format!("route replace {prefix} via {gateway} table {table}\n");
        Ok(self.moving.prefixes.iter().map(line).collect())
    }

    /// Has lines carried out, and waits until they are: what comes last prints a line.
    fn send(&mut self, lines: &str) -> Result<()> {
        let lines = format!("{lines}link show dev lo\n");
        let mut answer = String::new();
        let outcome = self
            .stdin
            .write_all(lines.as_bytes())
            .and_then(|()| self.stdout.read_line(&mut answer));
        let what = match outcome {
            Ok(_) if answer.contains("lo:") => return Ok(()),
            Ok(_) => format!("{answer:?}"),
            Err(error) => error.to_string(),
        };
        Err(LabError::Unexpected(format!("ip ended ({what}): {}", self.process.log_tail(5))))
    }

    /// Its table while it is not spraying.
    fn table(&self) -> String {
        self.moving
            .interface
            .as_ref()
            .map_or("main".to_owned(), |_| self.slot_table(SLOTS).to_string())
    }

    /// Each mover has tables, and preferences of rules, of its own.
    fn slot_table(&self, slot: usize) -> usize {
        let number = self.moving.interface.as_ref().map_or(0, |(number, _)| *number);
        FIRST_TABLE + number * 2 * SLOTS + slot
    }

    fn slot_rule(&self, slot: usize) -> String {
        let selector = match &self.moving.interface {
            Some((_, interface)) => format!("iif {interface} "),
            None => String::new(),
        };
        let table = self.slot_table(slot);
        format!("pref {table} {selector}fwmark {} lookup {table}", slot + 1)
    }
}
