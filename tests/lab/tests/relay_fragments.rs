//! A POP's way out that is too narrow for what may be fragmented.
//!
//! Putting datagrams together is tested on captures (`dataplane/pop/tests/fragments.rs`): the lab's
//! ports are af_packet, whose sockets the kernel gives IPv4 datagrams that it put together itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use anyrelay_lab::Lab;
use anyrelay_lab::firewall::Firewall;
use common::{connect, drops, serve};

const BYTES: usize = 3_000_000;
const FRAGMENT: &str = "ip frag-off & 0x3fff != 0";

/// The way out becomes narrow under a live connection: the POP itself sends fragments.
#[test]
fn a_pop_fragments_what_no_longer_fits() {
    let mut lab = Lab::builder().pops(1).build().unwrap();
    for host in [&lab.topology.client, &lab.topology.target] {
        // Both clear DF.
        host.sysctl("net.ipv4.ip_no_pmtu_disc", "1").unwrap();
    }
    let _server = serve(&lab);
    let mut connection = connect(&lab);
    connection.download(1, 100_000).unwrap();
    let pop = &mut lab.pops[0];
    let text = std::fs::read_to_string(&pop.config).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let ports = config["port"].as_array_mut().unwrap();
    let narrow =
        |port: &mut toml::Value| port.as_table_mut().unwrap().insert("mtu".to_owned(), 1000.into());
    assert!(ports.iter_mut().map(narrow).all(|before| before.is_none()));
    std::fs::write(&pop.config, toml::to_string(&config).unwrap()).unwrap();
    pop.restart().unwrap();
    let routers = [&lab.topology.client_router, &lab.topology.target_router].map(|router| {
        let firewall = Firewall::new(router).unwrap();
        firewall.count("pieces", &format!("iifname pop1 {FRAGMENT}")).unwrap();
        firewall.count("long", "iifname pop1 meta length > 1000").unwrap();
        firewall
    });
    connection.download(2, BYTES).unwrap();
    connection.upload(3, BYTES).unwrap();
    for router in routers {
        let pieces = router.packets("pieces").unwrap();
        assert!(pieces > (BYTES / 1448) as u64, "{pieces} pieces");
        assert_eq!(router.packets("long").unwrap(), 0, "none is too long");
    }
    assert_eq!(drops(&lab, "too_big"), 0.0);
}
