//! What a kernel's full queues have lost in a namespace.

use std::io::Read;

use crate::{LabError, Namespace, Result};

/// Packets lost so far by interfaces and by UDP sockets of a namespace.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn lost_in(namespace: &Namespace) -> Result<u64> {
    Ok(of_interfaces(&read(namespace, "dev")?) + of_udp(&read(namespace, "snmp")?))
}

/// The column `drop` of what was sent, as of proc_net(5). On veth that is what the other end's
/// backlog had no room for; the other end counts it once more as received and dropped.
fn of_interfaces(text: &str) -> u64 {
    let of_line = |line: &str| {
        let (_, numbers) = line.split_once(':')?;
        let n: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
        n.get(11).copied()
    };
    text.lines().filter_map(of_line).sum()
}

/// `RcvbufErrors` and `SndbufErrors`.
fn of_udp(text: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let errors = pairs.filter(|(name, _)| name.ends_with("bufErrors"));
    errors.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn read(namespace: &Namespace, file: &str) -> Result<String> {
    let path = format!("/proc/thread-self/net/{file}");
    let mut text = String::new();
    namespace
        .open(&path)?
        .read_to_string(&mut text)
        .map_err(LabError::io(format!("read {path}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_columns_of_losses() {
        let dev = "Inter-| Receive | Transmit\n face |bytes packets errs drop\n\
                    net0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        assert_eq!(of_interfaces(dev), 12);
        let snmp = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams InErrors RcvbufErrors SndbufErrors\n\
                    Udp: 9 5 3 2\n";
        assert_eq!(of_udp(snmp), 5);
    }
}
