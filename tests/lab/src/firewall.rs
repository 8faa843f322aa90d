//! nftables rules in a namespace: to count packets of a kind, to mark them, or to lose them.

use crate::{LabError, Namespace, Result, command};

/// Rules that see what a router forwards, before it chooses the route.
#[derive(Debug, Clone, Copy)]
pub struct Firewall<'a> {
    namespace: &'a Namespace,
}

impl<'a> Firewall<'a> {
    /// Adds an empty set of rules to a namespace; call it once for each.
    ///
    /// # Errors
    /// With the words of `nft`.
    pub fn new(namespace: &'a Namespace) -> Result<Self> {
        let firewall = Self { namespace };
        firewall.nft(
            "add table inet watch\n\
             add chain inet watch prerouting { type filter hook prerouting priority -100; }\n\
             add chain inet watch output { type filter hook output priority 0; }\n",
        )?;
        Ok(firewall)
    }

    /// Counts packets that match an nft expression, such as `tcp flags & rst != 0`.
    ///
    /// # Errors
    /// With the words of `nft`.
    pub fn count(&self, name: &str, matching: &str) -> Result<()> {
        self.nft(&format!(
            "add counter inet watch {name}\n\
             add rule inet watch prerouting {matching} counter name {name}\n"
        ))
    }

    /// Does something else to packets that match, such as `ip ecn set ce` or `drop`, in the chain
    /// `prerouting` or `output`.
    ///
    /// # Errors
    /// With the words of `nft`.
    pub fn rule(&self, chain: &str, rule: &str) -> Result<()> {
        self.nft(&format!("add rule inet watch {chain} {rule}\n"))
    }

    /// Removes all rules of a chain.
    ///
    /// # Errors
    /// With the words of `nft`.
    pub fn flush(&self, chain: &str) -> Result<()> {
        self.nft(&format!("flush chain inet watch {chain}\n"))
    }

    /// How many packets a counter has seen.
    ///
    /// # Errors
    /// If there is no such counter.
    pub fn packets(&self, name: &str) -> Result<u64> {
        let mut nft = self.namespace.command("nft");
        let text = command::run(nft.args(["list", "counter", "inet", "watch", name]))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        let number = words.nth(1).and_then(|word| word.parse().ok());
        number.ok_or_else(|| LabError::Unexpected(format!("nft printed: {text}")))
    }

    fn nft(&self, text: &str) -> Result<()> {
        let mut nft = self.namespace.command("nft");
        command::run_with_input(nft.args(["-f", "-"]), text).map(drop)
    }
}
