//! Config files: any text is read or refused with reasons; a config makes a snapshot that knows its
//! own addresses, and has no conflict with itself.
//!
//! Input: the text.

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::snapshot::{Destination, Snapshot, reload_conflicts};
use anyrelay_core::time::UnixTime;
use anyrelay_kit::config;

/// Runs one input.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match Config::parse("pop.toml", text) {
        Ok(config) => config,
        Err(problems) => {
            assert!(!problems.0.is_empty());
            assert!(!problems.to_string().is_empty());
            return;
        }
    };
    let (keys, tenants) = files();
    let Ok(snapshot) = Snapshot::build(&config, keys, tenants, None) else { return };
    for port in &config.ports {
        for net in port.nets::<u32>() {
            assert!(matches!(snapshot.classify(net.address), Destination::Own(_)));
            assert!(!snapshot.client_ok(Ipv4Addr::from_bits(net.address).into()));
        }
    }
    for tunnel in &config.tunnels {
        for vip in tunnel.vips() {
            assert!(snapshot.tunnel_at(vip).is_some());
            assert!(!snapshot.client_ok(vip.ip()));
        }
    }
    assert_eq!(snapshot.digest().len(), 64);
    assert!(snapshot.services().len() <= 256);
    let again = Snapshot::build(&config, keys, tenants, Some(&snapshot)).unwrap();
    assert_eq!(snapshot.digest(), again.digest());
    let conflicts = reload_conflicts(&snapshot, &again, UnixTime::from_millis(1));
    assert!(conflicts.is_empty(), "{conflicts:?}");
}

fn files() -> &'static (KeyFile, Tenants) {
    static FILES: OnceLock<(KeyFile, Tenants)> = OnceLock::new();
    FILES.get_or_init(|| (config::keys(), config::tenants()))
}
