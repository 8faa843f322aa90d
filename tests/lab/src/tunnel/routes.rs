//! Which POP the VIP is for each agent: routes in the router, moved while traffic flows.

use std::path::Path;

use super::topology::{Family, OPEN_PREFIX};
use crate::routes::{Mover, Moving};
use crate::{Carriers, Namespace, Result};

/// The routes of all agents, and one for everybody else.
#[derive(Debug)]
pub struct AgentRoutes {
    agents: Vec<Mover>,
    others: Mover,
    /// That of the open addresses.
    open: Option<Mover>,
    /// How often a route was moved so far.
    pub moves: u64,
}

impl AgentRoutes {
    pub(crate) fn new(
        router: &Namespace,
        family: Family,
        agents: usize,
        gateways: Vec<String>,
        log: &Path,
    ) -> Result<Self> {
        let moving = |interface: Option<(usize, String)>| Moving {
            prefixes: vec![family.vip().ip().to_string()],
            gateways: gateways.clone(),
            ipv6: family == Family::V6,
            interface,
        };
        let make = |n| Mover::new(router, moving(Some((n, format!("site{n}")))), log);
        Ok(Self {
            agents: (1..=agents).map(make).collect::<Result<_>>()?,
            others: Mover::new(router, moving(None), log)?,
            open: None,
            moves: 0,
        })
    }

    pub(crate) fn with_open(
        self,
        router: &Namespace,
        gateways: Vec<String>,
        log: &Path,
    ) -> Result<Self> {
        let prefixes = vec![OPEN_PREFIX.to_owned()];
        let moving = Moving { prefixes, gateways, ipv6: true, interface: None };
        Ok(Self { open: Some(Mover::new(router, moving, log)?), ..self })
    }

    /// Leads packets to open addresses to a POP from now on.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn open_to(&mut self, pop: usize) -> Result<()> {
        self.moves += 1;
        self.open.as_mut().map_or(Ok(()), |mover| mover.to(pop))
    }

    /// Sends each packet to an open address to a random one of `pops` from now on.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn spray_open(&mut self, pops: &[usize]) -> Result<()> {
        self.moves += 1;
        self.open.as_mut().map_or(Ok(()), |mover| mover.spray(pops))
    }

    /// Where packets to open addresses are led now.
    #[must_use]
    pub fn open(&self) -> Option<&Carriers> {
        self.open.as_ref().map(Mover::current)
    }

    /// Leads an agent to a POP from now on; both are counted from 0.
    ///
    /// # Errors
    /// If the router's `ip` has ended, with what it said.
    pub fn to(&mut self, agent: usize, pop: usize) -> Result<()> {
        self.moves += 1;
        self.agents.get_mut(agent).map_or(Ok(()), |mover| mover.to(pop))
    }

    /// Leads everybody to a POP, those that are no agents too, and packets to open addresses.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn all_to(&mut self, pop: usize) -> Result<()> {
        (0..self.agents.len()).try_for_each(|agent| self.to(agent, pop))?;
        self.open_to(pop)?;
        self.others.to(pop)
    }

    /// Sends each packet of an agent to a random one of `pops` from now on.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn spray(&mut self, agent: usize, pops: &[usize]) -> Result<()> {
        self.moves += 1;
        self.agents.get_mut(agent).map_or(Ok(()), |mover| mover.spray(pops))
    }

    /// Where an agent is led now.
    #[must_use]
    pub fn current(&self, agent: usize) -> Option<&Carriers> {
        self.agents.get(agent).map(Mover::current)
    }
}
