//! Veth pairs whose frames are what a wire would carry.
//!
//! A veth sender hands on partial checksums and super-frames larger than the MTU. A POP reads
//! frames from an AF_PACKET socket and must see neither, and a router between would forward both.
//! So every end of every link has transmit checksums off, which turns TSO off too, and GRO off.

use crate::{Namespace, Result, command};

/// One end of a link: the namespace and the name of the interface in it.
pub type End<'a> = (&'a Namespace, &'a str);

/// Makes a link between two namespaces and brings both ends up.
///
/// # Errors
/// With the words of `ip` or `ethtool`.
pub fn connect(a: End<'_>, b: End<'_>, mtu: u32) -> Result<()> {
    let ((space_a, name_a), (space_b, name_b)) = (a, b);
    let peer = format!("peer name {name_b} mtu {mtu} netns {}", space_b.name());
    space_a.ip(&[format!("link add {name_a} mtu {mtu} type veth {peer}")])?;
    for (space, name) in [a, b] {
        let mut ethtool = space.command("ethtool");
        command::run(ethtool.args(["-K", name, "tx", "off", "gro", "off"]))?;
        space.ip(&[format!("link set {name} up")])?;
    }
    Ok(())
}

/// Lets an end leave checksums and the cut into segments to who receives, as the kernel makes a
/// veth: frames of up to 64 KiB pass at once. Not towards a POP that reads from a packet socket.
///
/// # Errors
/// With the words of `ethtool`.
pub fn offload((space, name): End<'_>) -> Result<()> {
    command::run(space.command("ethtool").args(["-K", name, "tx", "on", "tso", "on"])).map(drop)
}

/// Limits what an end sends to a rate, with a queue of about 20 ms, as an access link would.
///
/// # Errors
/// With the words of `tc`.
pub fn limit_rate((space, name): End<'_>, mbit_per_second: u32) -> Result<()> {
    let rate = format!("{mbit_per_second}mbit");
    let limit = (mbit_per_second * 2500).to_string();
    let mut tc = space.command("tc");
    tc.args(["qdisc", "replace", "dev", name, "root", "tbf"]);
    command::run(tc.args(["rate", &rate, "burst", "64kb", "limit", &limit])).map(drop)
}
