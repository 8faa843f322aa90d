//! The agent's own nftables table.
//!
//! It keeps the VIP's segments from the kernel's TCP, which does not know the flow and would answer
//! each with a RST, and drops any such RST. The input chain comes after connection tracking, so
//! that a firewall on this host tracks the flow, and before TCP. The table is named after the port,
//! so that agents on one host do not collide. Only the port's owner changes it, so a table whose
//! port is free was left behind by a crash.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::process::Output;

use super::{ReservedPort, capability};

/// The table for one port. Dropping it removes the table.
#[derive(Debug)]
pub struct Firewall {
    vip: SocketAddr,
    port: u16,
    mark: Option<NonZeroU32>,
}

/// The table could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// `nft` is not installed.
    #[error(
        "the program nft was not found: install the package nftables. It keeps the kernel from \
         resetting the tunnel"
    )]
    Missing,
    /// `nft` cannot be started.
    #[error("nft cannot be run: {0}")]
    Run(std::io::Error),
    /// `nft` failed.
    #[error("nft could not make table {table}: {output}{}", hint(.output))]
    Refused {
        /// The table.
        table: String,
        /// The first line of its error output.
        output: String,
    },
}

impl Firewall {
    /// Creates the table for `port`, and replaces one that a crash left behind. What comes in for
    /// the flow gets the mark with which the agent sends, so that reverse path filters (rp_filter
    /// with src_valid_mark) look for the way that the agent uses.
    ///
    /// # Errors
    /// When `nft` is missing or fails.
    pub fn install(
        vip: SocketAddr,
        port: &ReservedPort,
        mark: Option<NonZeroU32>,
    ) -> Result<Self, FirewallError> {
        let firewall = Firewall { vip, port: port.number(), mark };
        if let Err(error) = firewall.restore() {
            // No table exists, so none must be removed.
            std::mem::forget(firewall);
            return Err(error);
        }
        Ok(firewall)
    }

    /// Creates the table again, after the host's rules were flushed.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn restore(&self) -> Result<(), FirewallError> {
        let output = nft(&["-f", "-"], &self.ruleset())?;
        if output.status.success() {
            return Ok(());
        }
        Err(FirewallError::Refused { table: self.table(), output: first_line(&output.stderr) })
    }

    /// The table's family and name in the syntax of `nft list table`.
    pub fn table(&self) -> String {
        format!("{} {PREFIX}{}", family(self.vip), self.port)
    }

    /// Removes the tables of crashed agents: those whose port no process reserves.
    pub fn remove_stale(vip: SocketAddr) {
        let family = family(vip);
        let Ok(output) = nft(&["list", "tables", family], "") else { return };
        for port in ports_of_tables(family, &String::from_utf8_lossy(&output.stdout)) {
            // While this process reserves the port, no other agent can start with it.
            let Ok(port) = ReservedPort::reserve(vip, port) else { continue };
            let firewall = Firewall { vip, port: port.number(), mark: None };
            tracing::info!(table = firewall.table(), "removing the table of a crashed agent");
            drop(firewall);
        }
    }

    fn ruleset(&self) -> String {
        let (table, port, vip_port) = (self.table(), self.port, self.vip.port());
        let (family, vip) = (family(self.vip), self.vip.ip());
        let marking = self.mark.map_or(String::new(), |mark| self.marking(mark));
        // The declaration before the deletion makes this work whether the table exists or not. All
        // of it is one transaction.
        format!(
            "table {table}\n\
             delete table {table}\n\
             table {table} {{\n\
             {marking}\
             \tcomment \"keeps the kernel's TCP out of the tunnel of anyrelay-agent\"\n\
             \tchain input {{\n\
             \t\ttype filter hook input priority filter; policy accept;\n\
             \t\ttcp dport {port} tcp sport {vip_port} {family} saddr {vip} drop\n\
             \t}}\n\
             \tchain output {{\n\
             \t\ttype filter hook output priority filter; policy accept;\n\
             \t\ttcp sport {port} tcp dport {vip_port} {family} daddr {vip} \
             tcp flags & rst == rst drop\n\
             \t}}\n\
             }}\n"
        )
    }

    /// The chain that marks segments from the VIP, and ICMP errors about segments to it: the quoted
    /// packet begins 64 bits after the ICMP header, and has no options or extension headers.
    fn marking(&self, mark: NonZeroU32) -> String {
        let (port, vip_port, family) = (self.port, self.vip.port(), family(self.vip));
        let vip = self.vip.ip();
        let errors = match vip {
            IpAddr::V4(vip) => format!(
                "icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} \
                 @th,136,8 6 @th,192,32 {:#x} @th,224,16 {port} @th,240,16 {vip_port}",
                vip.to_bits()
            ),
            IpAddr::V6(vip) => format!(
                "icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, \
                 parameter-problem }} @th,112,8 6 @th,256,128 {:#x} @th,384,16 {port} \
                 @th,400,16 {vip_port}",
                vip.to_bits()
            ),
        };
        format!(
            "\tchain prerouting {{\n\
             \t\ttype filter hook prerouting priority mangle; policy accept;\n\
             \t\ttcp dport {port} tcp sport {vip_port} {family} saddr {vip} meta mark set {mark}\n\
             \t\t{errors} meta mark set {mark}\n\
             \t}}\n"
        )
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        let text = format!("delete table {}\n", self.table());
        match nft(&["-f", "-"], &text) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let reason = first_line(&output.stderr);
                tracing::warn!(table = self.table(), reason, "the table was not removed");
            }
            Err(error) => tracing::warn!(table = self.table(), "{error}"),
        }
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<Output, FirewallError> {
    capability::run("nft", arguments, input).map_err(|error| match error.kind() {
        ErrorKind::NotFound => FirewallError::Missing,
        _ => FirewallError::Run(error),
    })
}

fn family(vip: SocketAddr) -> &'static str {
    if vip.is_ipv4() { "ip" } else { "ip6" }
}

fn ports_of_tables(family: &str, listing: &str) -> Vec<u16> {
    let start = format!("table {family} {PREFIX}");
    listing.lines().filter_map(|line| line.strip_prefix(&start)?.trim().parse().ok()).collect()
}

fn first_line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().next().unwrap_or("no reason given").to_owned()
}

fn hint(output: &str) -> &'static str {
    if output.contains("not permitted") { " (CAP_NET_ADMIN is needed)" } else { "" }
}

const PREFIX: &str = "anyrelay_agent_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_tables_are_found() {
        let listing = "table ip anyrelay_agent_40000\ntable ip filter\ntable ip6 anyrelay_agent_7\n\
                       table ip anyrelay_agent_\ntable ip anyrelay_agent_70000\n";
        assert_eq!(ports_of_tables("ip", listing), [40000]);
        assert_eq!(ports_of_tables("ip6", listing), [7]);
    }

    #[test]
    fn names_table_and_addresses_by_family() {
        let firewall = |vip: &str| Firewall { vip: vip.parse().unwrap(), port: 40000, mark: None };
        // Forgotten, not dropped: no table exists.
        let (v4, v6) = (firewall("203.0.113.20:443"), firewall("[2001:db8::20]:443"));
        let (four, six) = (v4.ruleset(), v6.ruleset());
        std::mem::forget((v4, v6));
        assert!(four.contains("table ip anyrelay_agent_40000 {"), "{four}");
        assert!(four.contains("tcp dport 40000 tcp sport 443 ip saddr 203.0.113.20 drop"));
        assert!(six.contains("tcp dport 40000 tcp sport 443 ip6 saddr 2001:db8::20 drop"));
    }
}
