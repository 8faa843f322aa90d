//! Which POP the VIP is for each agent: routes in the router, moved while traffic flows.

use std::path::Path;

use super::topology::Family;
use crate::routes::{Mover, Moving};
use crate::{Carriers, Namespace, Result};

/// The routes of all agents, and one for everybody else.
#[derive(Debug)]
pub struct AgentRoutes {
    agents: Vec<Mover>,
    others: Mover,
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
            moves: 0,
        })
    }

    /// Leads an agent to a POP from now on; both are counted from 0.
    ///
    /// # Errors
    /// If the router's `ip` has ended, with what it said.
    pub fn to(&mut self, agent: usize, pop: usize) -> Result<()> {
        self.moves += 1;
        self.agents.get_mut(agent).map_or(Ok(()), |mover| mover.to(pop))
    }

    /// Leads everybody to a POP, those that are no agents too.
    ///
    /// # Errors
    /// As [`Self::to`].
    pub fn all_to(&mut self, pop: usize) -> Result<()> {
        (0..self.agents.len()).try_for_each(|agent| self.to(agent, pop))?;
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
