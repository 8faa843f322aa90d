//! What ICMP errors quote: whatever it is, reading it gives a quote or a reason, no made-up one is
//! taken for a tunnel's, and errors around it are translated.
//!
//! Input: what follows an ICMP header.

mod translated;

use std::sync::OnceLock;

use anyrelay_core::net::Family;
use anyrelay_core::predict::Constants;
use anyrelay_core::relay::icmp::{Quote4, Seen};
use anyrelay_core::time::UnixTime;
use anyrelay_core::tunnel::TunnelService;
use anyrelay_core::tunnel::quote::{Quoted, concern};
use anyrelay_kit::config;
use anyrelay_kit::tunnel;

const NOW: UnixTime = UnixTime::from_millis(1_795_341_988_025);

/// Runs one input.
pub fn run(input: &[u8]) {
    translated::run(input);
    if let Ok(quote) = Quote4::parse(input) {
        assert_eq!(quote.ip.protocol, quote.protocol.number());
        assert_eq!(quote.timestamps().is_some(), matches!(quote.seen, Seen::Timestamps(_)));
    }
    for family in [Family::V4, Family::V6] {
        let Some(quoted) = Quoted::parse(family, input) else { continue };
        assert_eq!(Family::of(quoted.src.ip()), family);
        assert!(concern(service(), NOW, &quoted, |_| true, |_| true).is_err());
        // From the service's own VIP.
        let mut own = input.to_vec();
        let (at, ip, port): (_, &[u8], _) = match family {
            Family::V4 => (12, &[203, 0, 113, 20], usize::from(input[0] & 15) * 4),
            Family::V6 => (8, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20], 40),
        };
        own[at..at + ip.len()].copy_from_slice(ip);
        own[port..port + 2].copy_from_slice(&443u16.to_be_bytes());
        let quoted = Quoted::parse(family, &own).unwrap();
        let found = concern(service(), NOW, &quoted, |_| true, |_| true);
        assert!(found.is_err(), "{found:?}");
    }
}

fn service() -> &'static TunnelService {
    static SERVICE: OnceLock<TunnelService> = OnceLock::new();
    SERVICE.get_or_init(|| {
        tunnel::open_service(&config::keys(), &config::tenants(), Constants::default())
    })
}
