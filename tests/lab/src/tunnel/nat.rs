//! A strict NAT: masquerading, and nothing passes that conntrack calls invalid.

use std::io::Read;

use parking_lot::Mutex;

use super::conntrack_log::ConntrackLog;
use super::topology::{Family, Site};
use crate::{LabError, Namespace, Result, command};

/// The NAT (with IPv6, the firewall) of one agent.
#[derive(Debug)]
pub struct Nat {
    /// Its namespace: `in` leads to the agent, `out` to the router.
    pub namespace: Namespace,
    log: Mutex<ConntrackLog>,
}

/// One flow that conntrack knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Such as `ESTABLISHED`.
    pub state: String,
    /// Seconds until it is forgotten.
    pub timeout_seconds: u64,
    /// The port of the side that connected, as that side knows it.
    pub source_port: u16,
    /// The port that it has towards the router.
    pub public_port: u16,
    /// The whole line of `/proc/net/nf_conntrack`.
    pub line: String,
}

impl Nat {
    /// Puts the rules into a namespace whose links and addresses exist.
    pub(crate) fn new(namespace: Namespace, site: &Site, family: Family) -> Result<Self> {
        for (key, value) in [("tcp_be_liberal", "0"), ("tcp_loose", "0")] {
            namespace.sysctl(&format!("net.netfilter.nf_conntrack_{key}"), value)?;
        }
        let rules = rules(site, family);
        command::run_with_input(namespace.command("nft").args(["-f", "-"]), &rules)?;
        if site.synproxy {
            // The proxy answers SYNs by cookies, whether or not there is a flood.
            namespace.sysctl("net.ipv4.tcp_syncookies", "2")?;
            namespace.sysctl("net.ipv4.tcp_timestamps", "1")?;
        }
        for (key, seconds) in &site.timeouts {
            let key = format!("net.netfilter.nf_conntrack_tcp_timeout_{key}");
            namespace.sysctl(&key, &seconds.to_string())?;
        }
        let log = Mutex::new(ConntrackLog::open(&namespace)?);
        Ok(Self { namespace, log })
    }

    /// How many packets conntrack has called invalid; all of them were dropped.
    ///
    /// # Errors
    /// If `nft` does not tell.
    pub fn invalid(&self) -> Result<u64> {
        self.packets("invalid")
    }

    /// How many packets came in from outside that belonged to no flow; all of them were dropped.
    ///
    /// # Errors
    /// If `nft` does not tell.
    pub fn unsolicited(&self) -> Result<u64> {
        self.packets("unsolicited")
    }

    /// How many lines conntrack has logged: more than it calls invalid, as it also logs what it
    /// lets pass without believing it, and other kernels would not.
    ///
    /// # Errors
    /// If lines were lost.
    pub fn logged(&self) -> Result<u64> {
        self.log.lock().lines()
    }

    /// The first of the lines.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.log.lock().text()
    }

    /// The TCP flows that it knows now.
    ///
    /// # Errors
    /// If `/proc` does not tell.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut text = String::new();
        self.namespace
            .open("/proc/thread-self/net/nf_conntrack")?
            .read_to_string(&mut text)
            .map_err(LabError::io("read the conntrack table"))?;
        Ok(text.lines().filter_map(parse_entry).collect())
    }

    fn packets(&self, counter: &str) -> Result<u64> {
        let mut nft = self.namespace.command("nft");
        let text = command::run(nft.args(["list", "counter", "inet", "strict", counter]))?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        let number = words.nth(1).and_then(|word| word.parse().ok());
        number.ok_or_else(|| LabError::Unexpected(format!("nft printed: {text}")))
    }
}

fn rules(site: &Site, family: Family) -> String {
    // The last segment of a handshake with the proxy is invalid to conntrack, and is what the proxy
    // waits for. Everything that carries data has PSH set, so it cannot be mistaken for it.
    let (untracked, invalid, proxy) = match site.synproxy {
        false => ("", "ct state invalid", ""),
        true => (
            "chain untracked { type filter hook prerouting priority raw;\n\
             iifname \"in\" tcp flags & (fin|syn|rst|ack) == syn notrack; }\n",
            "ct state invalid tcp flags & psh == psh",
            "iifname \"in\" meta l4proto tcp ct state invalid,untracked \
             synproxy mss 1360 sack-perm timestamp\n",
        ),
    };
    let masquerade = match family {
        Family::V4 => "oifname \"out\" masquerade",
        Family::V6 => "",
    };
    format!(
        "table inet strict {{\n\
         counter invalid {{}}\n\
         counter unsolicited {{}}\n\
         {untracked}\
         chain judged {{ type filter hook prerouting priority mangle;\n\
         {invalid} counter name invalid drop; }}\n\
         chain passing {{ type filter hook forward priority filter;\n\
         {proxy}\
         ct state invalid counter name invalid drop\n\
         iifname \"out\" meta l4proto tcp ct state new counter name unsolicited drop; }}\n\
         chain local {{ type filter hook input priority filter;\n\
         iifname \"out\" meta l4proto tcp counter name unsolicited drop; }}\n\
         chain leaving {{ type nat hook postrouting priority srcnat;\n\
         {masquerade}; }}\n\
         }}\n"
    )
}

/// `ipv4 2 tcp 6 TIMEOUT STATE src=.. dst=.. sport=.. dport=.. src=.. dst=.. sport=.. dport=.. ..`
fn parse_entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.get(2) != Some(&"tcp") {
        return None;
    }
    let ports = |key: &str| -> Vec<u16> {
        words.iter().filter_map(|w| w.strip_prefix(key)?.parse().ok()).collect()
    };
    Some(Entry {
        timeout_seconds: words.get(4)?.parse().ok()?,
        state: (*words.get(5)?).to_owned(),
        source_port: *ports("sport=").first()?,
        public_port: *ports("dport=").get(1)?,
        line: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_the_table() {
        let line = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.101.0.2 dst=203.0.113.20 \
                    sport=40000 dport=443 src=203.0.113.20 dst=198.18.1.2 sport=443 dport=40001 \
                    [ASSURED] mark=0 zone=0 use=2";
        let entry = parse_entry(line).unwrap();
        assert_eq!((entry.state.as_str(), entry.timeout_seconds), ("ESTABLISHED", 431_999));
        assert_eq!((entry.source_port, entry.public_port), (40000, 40001));
        assert_eq!(parse_entry("ipv4 2 udp 17 29 src=1.1.1.1 dst=2.2.2.2 sport=1 dport=2"), None);
    }
}
