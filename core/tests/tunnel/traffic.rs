//! Datagrams both ways through a world, and what must hold after them.

use std::collections::HashSet;

use anyrelay_kit::nat::{Site, summary};

use crate::world::World;

impl World {
    /// No firewall may have found anything INVALID, no POP dropped anything.
    pub fn assert_clean(&self, seed: u64) {
        for (number, site) in self.sites.iter().enumerate() {
            assert!(
                site.invalid.is_empty() && site.strange == 0,
                "seed {seed}: site {number}: {:?}; first {:?}\n{:#?}",
                summary(&site.invalid),
                site.invalid.first(),
                site.agent.status(self.instant()),
            );
        }
        assert!(self.drops.is_empty(), "seed {seed}: {:?}", self.drops);
    }

    /// Both ways, `rounds` datagrams at `every_ms`, of random lengths. Returns how many were sent.
    pub fn exchange(&mut self, a: usize, b: usize, rounds: u64, every_ms: u64) -> u64 {
        let mut sent = 0;
        for _ in 0..rounds {
            for (from, to) in [(a, b), (b, a)] {
                let Some(token) = self.sites[to].agent.token() else { continue };
                let room = self.sites[from].agent.body_max(&token) as u64;
                let mut body = vec![0; self.rng.below(room + 1).max(8) as usize];
                body[..8].copy_from_slice(&self.count.to_be_bytes());
                self.count += 1;
                sent += u64::from(self.send(from, &token, &body).is_ok());
            }
            self.run(every_ms);
        }
        self.run(1000);
        sent
    }

    /// How many different datagrams came to the sites.
    pub fn arrived(&self) -> u64 {
        let different = |site: &Site| {
            site.received.iter().map(|(_, body, _)| body.clone()).collect::<HashSet<_>>().len()
        };
        self.sites.iter().map(|site| different(site) as u64).sum()
    }
}
