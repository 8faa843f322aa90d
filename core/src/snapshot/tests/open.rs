//! Open tunnels: whom they serve, what their addresses mean, digest and reload.

use super::*;
use crate::config::tests::open::opened;
use crate::tunnel::open::Outside;

#[test]
fn an_open_tunnel_serves_one_tenant() {
    let problems = |text: &str| {
        let config = Config::parse("pop.toml", text).unwrap();
        Snapshot::build(&config, &keys(), &tenants(), None).unwrap_err().to_string()
    };
    let reason = "it has an open side, which is for one tenant, and serves 2; name one here, and \
                  give each other tenant a tunnel of its own";
    for to in ["[\"acme\", \"zorg\"]", "[\"zorg\", \"acme\"]"] {
        let text = edit(&opened(), "[\"acme\"]", to);
        assert_eq!(problems(&text), format!("pop.toml: tunnel[0].tenants: {reason}"));
    }
    let text = edit(&opened(), "tenants = [\"zorg\"]", "");
    assert_eq!(problems(&text), format!("pop.toml: tunnel[1].tenants: {reason}"));
}

#[test]
fn open_addresses_are_nobody_elses() {
    // Refused prefixes within an open one do not change what its addresses are.
    let refused = "not_clients = [\"2001:db8:a:7::/64\", \"2600:bad::/32\"]\n";
    let snapshot = snapshot(&edit(&opened(), "id = 1\n", &format!("id = 1\n{refused}")));
    let first = ServiceIndex(snapshot.config.relays.len() as u16);
    let second = ServiceIndex(first.0 + 1);
    for (text, index) in
        [("2001:db8:a::", first), ("2001:db8:a:7::1", first), ("2a00::ffff", second)]
    {
        assert_eq!(snapshot.classify(ip6(text)), Destination::Open(index), "{text}");
        assert!(!snapshot.client_ok(text.parse().unwrap()));
    }
    assert_eq!(snapshot.classify(ip6("2001:db8:b::")), Destination::Other { client_ok: true });
    use Outside::{Allowed, OtherService, Refused};
    for (text, of_first, of_second) in [
        ("2600::5", Allowed, Allowed),
        ("fd00::1", Allowed, Refused),
        ("fd01::1", Refused, Refused),
        ("2600:bad::1", Refused, Refused),
        ("2001:db8:5::1", Refused, Refused),
        ("2001:db8:2::1", Refused, Refused),
        ("2001:db8::10", Refused, Refused),
        ("2001:db8:f::9", Refused, Refused),
        ("2002:a00:1::", Refused, Refused),
        ("2001:db8:a::1", OtherService, OtherService),
        ("2a00::1", OtherService, OtherService),
    ] {
        let found = [first, second].map(|index| snapshot.outside_of(index, ip6(text)));
        assert_eq!(found, [of_first, of_second], "{text}");
    }
    // A relay's agents send nowhere.
    assert_eq!(snapshot.outside_of(ServiceIndex(0), ip6("2600::5")), Refused);
}

#[test]
fn the_longest_prefix_decides_where_agents_may_send_to() {
    let refused = "not_clients = [\"2600:bad::/32\"]\n";
    let text = edit(&opened(), "id = 1\n", &format!("id = 1\n{refused}"));
    let listed = "\"2600:bad:1::/48\", \"2001:db8:5::1/128\", \"64:ff9b::/96\"";
    let snapshot = snapshot(&edit(&text, "\"fd00::/16\"", listed));
    let first = ServiceIndex(snapshot.config.relays.len() as u16);
    for (text, is_allowed) in [
        ("2600:bad:1::7", true),
        ("2600:bad:2::7", false),
        ("2001:db8:5::1", true),
        ("2001:db8:5::2", false),
        ("64:ff9b::808:808", true),
        // A private IPv4 address, and a VIP.
        ("64:ff9b::a00:1", false),
        ("64:ff9b::cb00:7114", false),
    ] {
        let found = snapshot.outside_of(first, ip6(text)) == Outside::Allowed;
        assert_eq!(found, is_allowed, "{text}");
    }
}

/// That clients may have private addresses, or those of gateways, opens none of them to agents.
#[test]
fn what_clients_may_have_is_refused_to_agents() {
    let pop = "private_clients = true\n";
    let hints = "\n[hints]\nlisten = \"192.0.2.2:4791\"\npeers = [\"198.51.100.200:4791\"]\n";
    let text = edit(&opened(), "id = 1\n", &format!("id = 1\n{pop}"));
    let text = edit(&text, "\"2000::/3\", \"fd00::/16\"", "\"::/0\"") + hints;
    let snapshot = snapshot(&text);
    let first = ServiceIndex(snapshot.config.relays.len() as u16);
    for (text, is_allowed) in [
        ("2600::1", true),
        ("64:ff9b::808:808", true),
        ("fd12::1", false),
        ("64:ff9b::a00:1", false),
        ("2002:a00:1::1", false),
        // The gateway 192.0.2.1, and a POP that gets hints.
        ("64:ff9b::c000:201", false),
        ("2002:c000:201::7", false),
        ("64:ff9b::c633:64c8", false),
    ] {
        let found = snapshot.outside_of(first, ip6(text)) == Outside::Allowed;
        assert_eq!(found, is_allowed, "{text}");
    }
}

#[test]
fn the_digest_covers_open_sides_but_for_the_pops_own_address() {
    let digest = |text: &str| snapshot(text).digest().to_owned();
    let own = edit(&opened(), "2001:db8:f::9", "2001:db8:f::8");
    let swapped = edit(&opened(), "\"2000::/3\", \"fd00::/16\"", "\"fd00::/16\", \"2000::/3\"");
    for same in [own, swapped] {
        assert_eq!(digest(&same), digest(&opened()));
    }
    let mut seen = vec![digest(&opened())];
    for (from, to) in [("2001:db8:a::/48", "2001:db8:b::/48"), ("fd00::/16", "fd00::/17")] {
        let digest = digest(&edit(&opened(), from, to));
        assert!(!seen.contains(&digest), "{from} -> {to}");
        seen.push(digest);
    }
}

#[test]
fn a_reload_keeps_live_open_addresses() {
    let old = snapshot(&opened());
    let reported = |text: &str| -> Vec<_> {
        let conflicts = reload_conflicts(&old, &snapshot(text), NOW);
        conflicts.into_iter().map(|conflict| (conflict.kind, conflict.problem.key)).collect()
    };
    for (from, to) in [
        ("2001:db8:f::9", "2001:db8:f::8"),
        ("\"2000::/3\", \"fd00::/16\"", "\"2600::/12\""),
        ("tunnel_mtu = 1324", "tunnel_mtu = 1400"),
    ] {
        assert_eq!(reported(&edit(&opened(), from, to)), [], "{from} -> {to}");
    }
    let breaks = |key: &str| [(ConflictKind::BreaksConnections, key.to_owned())];
    let moved = edit(&opened(), "2001:db8:a::/48", "2001:db8:b::/48");
    assert_eq!(reported(&moved), breaks("tunnel[0].open.prefix"));
    let longer = edit(&opened(), "2a00::/32", "2a00::/33");
    assert_eq!(reported(&longer), breaks("tunnel[1].open.prefix"));
    let text = opened();
    let side = text.lines().find(|line| line.starts_with("open = ")).unwrap();
    let closed = edit(&text, side, "");
    assert_eq!(reported(&closed), breaks("tunnel[0].open"));
    // Where there was none, it may be added.
    let conflicts = reload_conflicts(&snapshot(&closed), &old, NOW);
    assert_eq!(conflicts, []);
}
