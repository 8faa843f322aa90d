//! The places of services' counters, which follow their names from snapshot to snapshot.

use super::service::Service;
use crate::config::Config;
use crate::net::{MAX_SERVICES, ServiceSlot};

/// The slot of each service, relays first: its own of before, else one that was not in use, else
/// one of a service that is gone.
pub(super) fn assign(config: &Config, before: &[Service]) -> Vec<ServiceSlot> {
    let relays = config.relays.iter().map(|service| service.name.as_str());
    let names: Vec<_> = relays.chain(config.tunnels.iter().map(|tunnel| &*tunnel.name)).collect();
    let kept = |name: &str| before.iter().find(|old| old.name() == name).map(|old| old.slot());
    let taken: Vec<_> = names.iter().filter_map(|name| kept(name)).collect();
    let free = (0..MAX_SERVICES as u16).map(ServiceSlot).filter(|slot| !taken.contains(slot));
    let (reused, mut unused): (Vec<_>, Vec<_>) =
        free.partition(|slot| before.iter().any(|old| old.slot() == *slot));
    unused.extend(reused);
    let mut unused = unused.into_iter();
    let slot = |name: &str| kept(name).or_else(|| unused.next()).unwrap_or(ServiceSlot(0));
    names.into_iter().map(slot).collect()
}
