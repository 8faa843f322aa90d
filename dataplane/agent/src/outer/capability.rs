//! The two capabilities that an agent needs (capabilities(7)), and handing them on to `nft`.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A capability.
    #[error(
        "missing {names}: run as root, from the systemd unit, or after \
         `setcap cap_net_raw,cap_net_admin+ep anyrelay-agent`"
    )]
    Missing {
        /// Which ones.
        names: String,
    },
    /// The kernel's answer.
    #[error("the capabilities of this process cannot be read: {0}")]
    Read(Errno),
}

/// Checks that this thread may open raw sockets and change firewall tables.
///
/// # Errors
/// With the names of what is missing.
pub fn check() -> Result<(), CapabilityError> {
    let sets = capabilities(None).map_err(CapabilityError::Read)?;
    let names: Vec<_> = NEEDED
        .iter()
        .filter(|(capability, _)| !sets.effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(CapabilityError::Missing { names: names.join(" and ") })
}

/// Lets programs that this thread starts have CAP_NET_ADMIN. Root's have it anyway; those of an
/// ordinary user with file capabilities only get it from the ambient set.
pub fn hand_on_net_admin() {
    let Ok(mut sets) = capabilities(None) else { return };
    sets.inheritable |= CapabilitySet::NET_ADMIN;
    if set_capabilities(None, sets).is_ok() {
        // Refused where a security module forbids it: `nft` says then what it misses.
        let _ = configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, true);
    }
}

/// Undoes [`hand_on_net_admin`], so that no other program gets it.
pub fn keep_net_admin() {
    let _ = configure_capability_in_ambient_set(CapabilitySet::NET_ADMIN, false);
}

const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::NET_RAW, "CAP_NET_RAW"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];
