//! Tokens that do not open, or not here.

use super::*;

#[test]
fn the_senders_token() {
    for mut pair in pairs() {
        let data = pair.data();
        let (_, own) = tokens_at(&pair);
        // Any bit of it.
        for bit in (0..pair.a.token().bytes.len() * 8).step_by(7) {
            let forged = data.edit(|data| data.data[own + bit / 8] ^= 1 << (bit % 8));
            pair.refuses(&forged, DropReason::OwnToken);
        }
        pair.refuses(&data.edit(|data| data.data[0] ^= 1), DropReason::OwnTokenEpoch);
        let long = pair.a.data(&pair.world, pair.b.token(), 9, &[7; 40]);
        pair.refuses(&long.edit(|data| data.data[0] ^= 4), DropReason::TokenSource);
        // Stolen: right in all but where it comes from.
        let thief = data.edit(|data| data.src.set_port(data.src.port() + 1));
        pair.refuses(&thief, DropReason::TokenSource);
        let neighbour = match data.src.ip() {
            std::net::IpAddr::V4(ip) => (ip.to_bits() ^ 1, 0),
            std::net::IpAddr::V6(ip) => (0, ip.to_bits() ^ 1),
        };
        let thief = data.edit(|data| {
            let ip = match neighbour {
                (ip, 0) => std::net::Ipv4Addr::from_bits(ip).into(),
                (_, ip) => std::net::Ipv6Addr::from_bits(ip).into(),
            };
            data.src.set_ip(ip);
        });
        pair.refuses(&thief, DropReason::TokenSource);
    }
}

#[test]
fn the_destinations_token() {
    for mut pair in pairs() {
        let data = pair.data();
        let (to, _) = tokens_at(&pair);
        for bit in (0..pair.b.token().bytes.len() * 8).step_by(7) {
            let forged = data.edit(|data| data.data[to + bit / 8] ^= 1 << (bit % 8));
            pair.refuses(&forged, DropReason::DestinationToken);
        }
        pair.refuses(&data.edit(|data| data.data[0] ^= 2), DropReason::DestinationTokenEpoch);
        // Of the other tenant.
        let address = if pair.b.addr.is_ipv4() { "198.19.8.8:9" } else { "[2600:3::c]:9" };
        let other = Agent::connected(&mut pair.world, 2, 1, address);
        let to_other = pair.a.data(&pair.world, other.token(), 9, b"body");
        pair.refuses(&to_other, DropReason::OtherTenant);
    }
}

/// Data of an agent to a token that was made while its address was nobody's in particular.
#[test]
fn a_destination_that_can_be_no_agent() {
    let mut pair = Pair::new(A4, "198.51.100.77:9");
    let to = pair.data();
    pair.world = {
        let config = tunnel_config(1).setting("web", "targets", ["198.51.100.77:8443"]);
        let mut world = tunnel_world_of(&config, KEYS);
        world.now = pair.world.now;
        world
    };
    pair.refuses(&to, DropReason::DestinationNotAllowed);
    // Nor can it send.
    let from = pair.b.data(&pair.world, pair.a.token(), 0, b"body");
    pair.refuses(&from, DropReason::SourceNotAllowed);
}

#[test]
fn tokens_of_another_service_or_other_keys() {
    let mut pair = Pair::new(A4, B4);
    // Of the same tenant, at another tunnel.
    let mut elsewhere = pair.b.clone();
    elsewhere.vip = "203.0.113.21:443".parse().unwrap();
    elsewhere.connect(&mut pair.world);
    let data = pair.a.data(&pair.world, elsewhere.token(), 9, b"body");
    pair.refuses(&data, DropReason::DestinationToken);
    let mut moved = pair.a.clone();
    moved.vip = elsewhere.vip;
    moved.connect(&mut pair.world);
    let here = Agent { token: moved.token.clone(), ..pair.a.clone() };
    let data = here.data(&pair.world, pair.b.token(), 9, b"body");
    pair.refuses(&data, DropReason::OwnToken);
    // It has no IPv6 VIP.
    let six = Agent::connected(&mut pair.world, 1, 2, B6);
    let data = moved.data(&pair.world, six.token(), 9, b"body");
    pair.refuses(&data, DropReason::DestinationFamily);
    let keys = KEYS.replace("4041", "4140");
    let mut other = tunnel_world_of(&tunnel_config(1), &keys);
    assert_eq!(refused(&mut other, &pair.data()), DropReason::OwnToken);
    // Sequence secrets apart: tokens hold, numbers do not.
    let keys = KEYS.replace("2021", "2120");
    let mut other = tunnel_world_of(&tunnel_config(1), &keys);
    assert_eq!(refused(&mut other, &pair.data()), DropReason::NotInSequence);
}

#[test]
fn epochs_that_are_over() {
    let epoch = |number: u8, secret: &str, from: &str| {
        let secret = secret.repeat(16);
        format!("[[token]]\nepoch = {number}\nsecret = \"{secret}\"\n{from}\n")
    };
    let (relay, _) = KEYS.split_once("token").unwrap();
    let first = epoch(6, "4041", "");
    let started = "not_before = 2026-11-17T18:06:44Z";
    let both = format!("{relay}{first}{}", epoch(7, "5051", started));
    let started = anyrelay_core::time::parse_time("2026-11-17T18:06:44Z").unwrap().as_millis();
    for (a, b) in [(A4, B4), (A6, B6)] {
        let before = &format!("{relay}{first}");
        let at = |ms: i64| {
            let mut world = tunnel_world_of(&tunnel_config(1), &both);
            world.now.unix =
                anyrelay_core::time::UnixTime::from_millis(started.wrapping_add_signed(ms));
            world
        };
        let day = 24 * 3600 * 1000;
        let mut old = tunnel_world_of(&tunnel_config(1), before);
        old.now = at(-1).now;
        let a = Agent::connected(&mut old, 1, 1, a);
        let mut b = Agent::connected(&mut old, 1, 2, b);
        assert_eq!(b.token().epoch, 6);
        for ms in [-1, 0, day - 1] {
            let mut world = at(ms);
            let up = a.data(&world, b.token(), 1, b"body");
            sent_on(&mut world, &up);
        }
        let mut world = at(day);
        let up = a.data(&world, b.token(), 1, b"body");
        assert_eq!(refused(&mut world, &up), DropReason::OwnTokenEpoch);
        // A new token for the sender alone: the destination's is looked at then.
        let mut new = a.clone();
        new.connect(&mut world);
        assert_eq!(new.token().epoch, 7);
        let up = new.data(&world, b.token(), 1, b"body");
        assert_eq!(refused(&mut world, &up), DropReason::DestinationTokenEpoch);
        b.connect(&mut world);
        let up = new.data(&world, b.token(), 1, b"body");
        sent_on(&mut world, &up);
        // A POP that has yet to hear of the new epoch refuses it; one that has, takes it early.
        assert_eq!(refused(&mut old, &up), DropReason::OwnTokenEpoch);
        let mut early = at(-1);
        let up = new.data(&early, b.token(), 1, b"body");
        sent_on(&mut early, &up);
    }
}
