//! A whole lab for tunnels: topology, POPs with a tunnel service, keys for agents.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyrelay_kit::rng::Rng;

use super::agent::{Agent, AgentBuilder};
use super::config::{Constants, TunnelConfig};
use super::{AgentRoutes, AgentSite, Family, Shape, Site, TunnelTopology, queues};
use crate::counters::InterfaceCounters;
use crate::registry::{self, WorkDir};
use crate::{LabError, Pop, Result, command, lab};

/// The tenant that all agents of a lab belong to.
pub const TENANT: &str = "acme";

/// A running laboratory; everything it made is gone when it is dropped.
#[derive(Debug)]
pub struct TunnelLab {
    /// The POPs, all ready at first.
    pub pops: Vec<Pop>,
    /// Which POP the VIP is for each agent: the first, at first.
    pub routes: AgentRoutes,
    /// The namespaces.
    pub topology: Arc<TunnelTopology>,
    /// What the POPs were told of their service.
    pub constants: Constants,
    rng: Rng,
    agents_issued: usize,
    work: WorkDir,
}

impl TunnelLab {
    /// A lab of two POPs and two agents' places, to be changed before it is built.
    #[must_use]
    pub fn builder() -> TunnelLabBuilder {
        TunnelLabBuilder {
            shape: Shape::default(),
            constants: Constants::default(),
            clock_offsets_ms: Vec::new(),
            overlay: String::new(),
            keys: None,
            seed: 1,
        }
    }

    /// Where its files are.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The key file that all POPs read.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.work().join("keys.toml")
    }

    /// The tenants file that all POPs read.
    #[must_use]
    pub fn tenants(&self) -> PathBuf {
        self.work().join("tenants.toml")
    }

    /// The place of an agent, counted from 0.
    #[must_use]
    pub fn site(&self, site: usize) -> &AgentSite {
        &self.topology.sites[site]
    }

    /// An agent for a place, with a new key, to be told what it does before it is started. Its name
    /// is `agent1-1` if it is the first of all, in the first place, and its files are named so. The
    /// POPs do not know it before [`Self::reload`].
    ///
    /// # Errors
    /// If the key cannot be issued.
    pub fn agent(&mut self, site: usize) -> Result<AgentBuilder> {
        self.agents_issued += 1;
        self.issue(site, &format!("agent{}-{}", site + 1, self.agents_issued))
    }

    /// As [`Self::agent`], with a name of the caller's.
    ///
    /// # Errors
    /// If the key cannot be issued.
    pub fn issue(&self, site: usize, name: &str) -> Result<AgentBuilder> {
        let key = self.work().join(format!("{name}.key"));
        let mut issue = Command::new(lab::anyrelay_binary()?);
        issue.args(["agent", "issue"]).arg(self.tenants()).args(["--tenant", TENANT]);
        command::run(issue.args(["--name", name, "--out"]).arg(&key))?;
        let (host, vip) = (self.site(site).host.clone(), self.topology.family.vip());
        Ok(AgentBuilder::new(name.to_owned(), host, vip, key, self.work()))
    }

    /// Makes all POPs read configuration, keys and tenants again, and waits until they have.
    ///
    /// # Errors
    /// If one refuses or does not answer.
    pub fn reload(&mut self) -> Result<()> {
        self.pops.iter_mut().try_for_each(Pop::reload)
    }

    /// Runs `anyrelay` with these arguments, such as `["agent", "revoke", ...]`.
    ///
    /// # Errors
    /// With its words.
    pub fn anyrelay(&self, arguments: &[&str]) -> Result<String> {
        command::run(Command::new(lab::anyrelay_binary()?).args(arguments))
    }

    /// Moves the routes of all agents, one after another in equal steps, each to a POP where it is
    /// not, once per interval, for a time.
    ///
    /// # Errors
    /// As [`AgentRoutes::to`].
    pub fn flip_for(&mut self, length: Duration, interval: Duration) -> Result<()> {
        let agents = self.topology.sites.len();
        let step = interval / u32::try_from(agents).unwrap_or(1);
        let start = std::time::Instant::now();
        let mut due = Duration::ZERO;
        for agent in (0..agents).cycle() {
            if due >= length {
                break;
            }
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            self.flip(agent)?;
            due += step;
        }
        std::thread::sleep(length.saturating_sub(start.elapsed()));
        Ok(())
    }

    /// Moves the route of an agent to a POP where it is not.
    ///
    /// # Errors
    /// As [`AgentRoutes::to`].
    pub fn flip(&mut self, agent: usize) -> Result<()> {
        let at = self.routes.current(agent).cloned();
        let others: Vec<usize> =
            (0..self.pops.len()).filter(|pop| at != Some(crate::Carriers::One(*pop))).collect();
        if others.is_empty() { Ok(()) } else { self.routes.to(agent, self.rng.pick(&others)) }
    }

    /// Moves the route of the open addresses to a POP where it is not.
    ///
    /// # Errors
    /// As [`AgentRoutes::open_to`].
    pub fn flip_open(&mut self) -> Result<()> {
        let at = self.routes.open().cloned();
        let others: Vec<usize> =
            (0..self.pops.len()).filter(|pop| at != Some(crate::Carriers::One(*pop))).collect();
        if others.is_empty() { Ok(()) } else { self.routes.open_to(self.rng.pick(&others)) }
    }

    /// Waits until agents are ready to send.
    ///
    /// # Errors
    /// If one is not within `limit`: with its status, and its log.
    pub fn wait_ready(&self, agents: &mut [&mut Agent], limit: Duration) -> Result<()> {
        agents.iter_mut().try_for_each(|agent| agent.wait_ready(limit))
    }

    /// What each NAT has found invalid: counted by the firewall, and logged by conntrack.
    ///
    /// # Errors
    /// If one does not tell.
    pub fn invalid(&self) -> Result<Vec<(u64, u64)>> {
        let of = |site: &AgentSite| Ok((site.nat.invalid()?, site.nat.logged()?));
        self.topology.sites.iter().map(of).collect()
    }

    /// The sum of a metric over all POPs that run.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.pops.iter().filter_map(|pop| pop.metric(name, labels).ok()).sum()
    }

    /// How many packets full queues have lost anywhere so far: of sockets, of interfaces, and of
    /// the rings through which POPs and agents get frames from the kernel. The latter are not
    /// counted by anybody, so they are what came to the interface less what was taken from it; a
    /// few ARP frames are in it too. POPs and agents that were restarted have forgotten what they
    /// took, and are left out.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn full_queues(&self, agents: &[&Agent]) -> Result<u64> {
        let topology = &self.topology;
        let rings_of_agents =
            agents.iter().map(|agent| agent.lost_in_ring()).sum::<Result<u64>>()?;
        let boxes = topology.sites.iter().flat_map(|site| site.boxes.iter().flatten());
        let rings_of_boxes =
            boxes.map(|middlebox| middlebox.lost_in_ring()).sum::<Result<u64>>()?;
        let mut router = InterfaceCounters::open(&self.topology.router)?;
        let router = router.read()?;
        let lost = |pop: &Pop| -> u64 {
            let came = router.get(&pop.name()).map_or(0, |traffic| traffic.tx_packets);
            let labels = [("port", "wan"), ("direction", "rx")];
            let taken = pop.metric("anyrelay_port_packets_total", &labels);
            taken.map_or(0, |taken| came.saturating_sub(taken as u64))
        };
        let rings: u64 = rings_of_agents
            + rings_of_boxes
            + self.pops.iter().filter(|pop| pop.starts() == 1).map(lost).sum::<u64>();
        let sites = topology.sites.iter().flat_map(|site| [&*site.host, &site.nat.namespace]);
        let pops = topology.pops.iter().map(|pop| &**pop);
        let kernel: u64 = sites
            .chain(pops)
            .chain([&topology.router])
            .map(queues::lost_in)
            .sum::<Result<u64>>()?;
        let queues = [
            "anyrelay_port_rx_missed_total",
            "anyrelay_port_rx_no_buffer_total",
            "anyrelay_port_tx_errors_total",
            "anyrelay_egress_queue_overflow_total",
        ];
        let pops: f64 = queues.iter().map(|name| self.metric(name, &[])).sum();
        Ok(kernel + rings + pops as u64)
    }

    /// All that any POP has dropped, by reason, for messages and for accounts.
    #[must_use]
    pub fn drops_text(&self) -> String {
        let of = |pop: &Pop| {
            let metrics = pop.metrics().unwrap_or_default();
            let names = ["anyrelay_drops_total", "anyrelay_service_drops_total"];
            names.map(|name| metrics.nonzero(name)).concat()
        };
        self.pops.iter().map(|pop| format!("{}:\n{}", pop.name(), of(pop))).collect()
    }
}

/// What a lab is to be.
#[derive(Debug, Clone)]
pub struct TunnelLabBuilder {
    shape: Shape,
    constants: Constants,
    clock_offsets_ms: Vec<i64>,
    overlay: String,
    keys: Option<String>,
    seed: u64,
}

impl TunnelLabBuilder {
    /// How many POPs; 2 if not said.
    #[must_use]
    pub fn pops(mut self, pops: usize) -> Self {
        self.shape.pops = pops;
        self
    }

    /// The agents' places; two plain ones if not said.
    #[must_use]
    pub fn sites(mut self, sites: Vec<Site>) -> Self {
        self.shape.sites = sites;
        self
    }

    /// What is outside of the tunnel; IPv4 if not said.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.shape.family = family;
        self
    }

    /// Gives the service an open side, and the lab a third party.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.shape.open = true;
        self
    }

    /// Tick, stride and so on of the service; the product's defaults if not said.
    #[must_use]
    pub fn constants(mut self, constants: Constants) -> Self {
        self.constants = constants;
        self
    }

    /// The length of a tick only.
    #[must_use]
    pub fn tick_ms(mut self, tick_ms: u32) -> Self {
        self.constants.tick_ms = tick_ms;
        self
    }

    /// How far each POP's clock is off, in ticks: the first POP's first.
    #[must_use]
    pub fn clock_offsets_ms(mut self, offsets: &[i64]) -> Self {
        self.clock_offsets_ms = offsets.to_vec();
        self
    }

    /// TOML to lay over each POP's configuration: tables merge, all else is replaced.
    #[must_use]
    pub fn overlay(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.overlay);
        self
    }

    /// The text of the key file; made anew for each lab if not said.
    #[must_use]
    pub fn keys(mut self, toml: &str) -> Self {
        self.keys = Some(toml.to_owned());
        self
    }

    /// What the flips are made from; 1 if not said.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Builds it and waits until all POPs are ready.
    ///
    /// # Errors
    /// If not root, a tool or the binary is missing, or a POP does not come up: with its log.
    pub fn build(self) -> Result<TunnelLab> {
        registry::prepare()?;
        let id = registry::new_lab_id();
        let work = WorkDir::create(&id)?;
        let topology = Arc::new(TunnelTopology::build(&id, &self.shape)?);
        let routes = topology.routes(&work.path().join("routes.log"))?;
        let mut pops = self.pops_of(&topology, work.path())?;
        pops.iter_mut().try_for_each(Pop::start)?;
        pops.iter_mut().try_for_each(|pop| pop.wait_ready(Duration::from_secs(30)))?;
        let (constants, rng) = (self.constants, Rng(self.seed));
        Ok(TunnelLab { pops, routes, topology, constants, rng, agents_issued: 0, work })
    }

    fn pops_of(&self, topology: &Arc<TunnelTopology>, work: &Path) -> Result<Vec<Pop>> {
        let binary = lab::anyrelay_binary()?;
        let (keys, tenants) = (work.join("keys.toml"), work.join("tenants.toml"));
        match &self.keys {
            Some(text) => lab::write_private(&keys, text)?,
            None => drop(command::run(Command::new(&binary).arg("keygen").arg(&keys))?),
        }
        command::run(Command::new(&binary).args(["tenant", "add"]).arg(&tenants).arg(TENANT))?;
        let config = TunnelConfig {
            family: self.shape.family,
            constants: self.constants,
            open: self.shape.open,
            overlay: self.overlay.parse().map_err(|e| LabError::Overlay(format!("{e}")))?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let make = |index: usize| {
            let path = work.join(format!("pop{}.toml", index + 1));
            let offset = self.clock_offsets_ms.get(index).copied().unwrap_or(0);
            lab::write(&path, &config.text(index, cores, offset)?)?;
            let mut arguments = vec![binary.to_string_lossy().into_owned()];
            arguments.extend(["run", "--config"].map(str::to_owned));
            arguments.push(path.to_string_lossy().into_owned());
            Ok(Pop::new(topology.pops[index].clone(), index, arguments, path))
        };
        (0..self.shape.pops).map(make).collect()
    }
}
