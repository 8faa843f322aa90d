use super::*;
use crate::net::Endpoint;
use proptest::prelude::*;

const KEY: Key128 = Key128::new(*b"rendezvous tests");

/// A service.
const VIP: IpEndpoint = IpEndpoint::V4(Endpoint { ip: 0xcb00_710a, port: 443 });

/// Targets and their weights.
type List = Vec<(IpEndpoint, u16)>;

/// Targets of IPv4 or IPv6 with weights that follow each other in a cycle.
fn targets(ipv6: bool, count: u16, weights: &[u16]) -> List {
    let net = 0x2001_0db8_0005 << 80;
    let target = |(i, weight): (u16, &u16)| {
        let port = 80 + i % 2;
        let target = match ipv6 {
            false => Endpoint { ip: 0xc633_6401 + u32::from(i / 2), port }.into(),
            true => Endpoint { ip: net | u128::from(i / 2), port }.into(),
        };
        (target, *weight)
    };
    (0..count).zip(weights.iter().cycle()).map(target).collect()
}

fn clients(ipv6: bool, count: u32) -> Vec<IpEndpoint> {
    let client = |i: u32| {
        let (ip, port) = (0x0102_0304 + i / 7, (i * 13 % 60_000) as u16 + 1024);
        match ipv6 {
            false => Endpoint { ip, port }.into(),
            true => Endpoint { ip: 0x26 << 120 | u128::from(ip) << 31 | 5, port }.into(),
        }
    };
    (0..count).map(client).collect()
}

fn choice(list: &[(IpEndpoint, u16)]) -> Choice<IpEndpoint> {
    choice_at(VIP, list)
}

fn choice_at(vip: IpEndpoint, list: &[(IpEndpoint, u16)]) -> Choice<IpEndpoint> {
    let hashes = Hashes::new(&KEY);
    let member = |&(target, weight)| Member { hash: hashes.target(vip, target), weight, target };
    Choice::new(list.iter().map(member).collect())
}

fn choose(choice: &Choice<IpEndpoint>, clients: &[IpEndpoint]) -> Vec<IpEndpoint> {
    let mut chosen = Vec::new();
    for clients in clients.chunks(BURST) {
        let mut hashes = [ClientHash::default(); BURST];
        Hashes::new(&KEY).clients(clients, &mut hashes);
        chosen.extend(hashes[..clients.len()].iter().map(|hash| choice.winner(*hash).unwrap()));
    }
    chosen
}

/// h of the definition.
fn hash(client: IpEndpoint, target: IpEndpoint) -> u64 {
    let client = Cmac::new(&KEY).mac(&client_message(client));
    mix(ClientHash(u128::from_be_bytes(client)), Hashes::new(&KEY).target(VIP, target))
}

/// What C is the MAC of.
fn client_message(at: IpEndpoint) -> Vec<u8> {
    let port = at.port().to_be_bytes();
    match at {
        IpEndpoint::V4(at) => [&[0], &at.ip.to_be_bytes()[..], &port].concat(),
        IpEndpoint::V6(at) => [&[0], &at.ip.to_be_bytes()[..], &port].concat(),
    }
}

/// The slow twin: the definition, for one client.
fn best(list: &[(IpEndpoint, u16)], client: IpEndpoint) -> IpEndpoint {
    let mut list = list.to_vec();
    list.sort_by(|a, b| {
        let hash = |at: &(IpEndpoint, u16)| hash(client, at.0);
        let weighted =
            |at, other: &(IpEndpoint, u16)| u64::from(log(hash(at))) * u64::from(other.1);
        let by_log = weighted(a, b).cmp(&weighted(b, a));
        by_log.then(hash(b).cmp(&hash(a))).then(a.0.cmp(&b.0))
    });
    list[0].0
}

#[test]
fn the_best_target_wins_at_every_burst_length_and_with_any_weights() {
    for ipv6 in [false, true] {
        for weights in [&[1][..], &[7], &[1, 2, 3], &[1, u16::MAX, 40]] {
            for count in [1, 2, 3, 64] {
                let list = targets(ipv6, count, weights);
                let choice = choice(&list);
                for len in [0, 1, 2, 7, 16, 63, 64] {
                    let clients = clients(ipv6, len);
                    for (client, chosen) in clients.iter().zip(choose(&choice, &clients)) {
                        assert_eq!(chosen, best(&list, *client), "{count} {len} {weights:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_best_of_the_others_is_that_of_the_list_without_the_best() {
    for weights in [&[1][..], &[1, 2, 3]] {
        let list = targets(false, 5, weights);
        let all = choice(&list);
        for client in clients(false, 200) {
            let mut hashes = [ClientHash::default()];
            Hashes::new(&KEY).clients(&[client], &mut hashes);
            let winner = all.winner(hashes[0]).unwrap();
            let rest: List = list.iter().filter(|(at, _)| *at != winner).copied().collect();
            let second = all.best(hashes[0], |target| target != winner);
            assert_eq!(second, Some(best(&rest, client)));
            assert_eq!(all.best(hashes[0], |_| false), None);
        }
    }
}

/// The share of each target, in standard deviations from what its weight promises.
fn deviations(list: &[(IpEndpoint, u16)], clients: &[IpEndpoint]) -> Vec<f64> {
    let chosen = choose(&choice(list), clients);
    let all: f64 = list.iter().map(|at| f64::from(at.1)).sum();
    let deviation = |(target, weight): &(IpEndpoint, u16)| {
        let (n, p) = (clients.len() as f64, f64::from(*weight) / all);
        let got = chosen.iter().filter(|chosen| *chosen == target).count() as f64;
        (got - n * p) / (n * p * (1.0 - p)).sqrt()
    };
    list.iter().map(deviation).collect()
}

#[test]
fn targets_get_shares_by_their_weights() {
    for ipv6 in [false, true] {
        let clients = clients(ipv6, 60_000);
        for (count, weights) in
            [(2, &[1][..]), (8, &[1]), (64, &[1]), (2, &[1, 9]), (8, &[1, 2, 5]), (3, &[1, 100])]
        {
            let found = deviations(&targets(ipv6, count, weights), &clients);
            assert!(found.iter().all(|found| found.abs() < 4.5), "{count} {weights:?} {found:?}");
        }
    }
}

#[test]
fn two_services_choose_for_a_client_independently() {
    let other = IpEndpoint::V4(Endpoint { ip: 0xcb00_710a, port: 444 });
    for (ipv6, weights) in [(false, &[1][..]), (true, &[1]), (false, &[1, 2])] {
        let (list, clients) = (targets(ipv6, 4, weights), clients(ipv6, 60_000));
        let one = choose(&choice(&list), &clients);
        let two = choose(&choice_at(other, &list), &clients);
        let all: f64 = list.iter().map(|at| f64::from(at.1)).sum();
        for (a, b) in list.iter().flat_map(|a| list.iter().map(move |b| (a, b))) {
            let p = f64::from(a.1) / all * f64::from(b.1) / all;
            let both = one.iter().zip(&two).filter(|(x, y)| (**x, **y) == (a.0, b.0)).count();
            let n = clients.len() as f64;
            let deviation = (both as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
            assert!(deviation.abs() < 4.5, "{a:?} {b:?} {deviation}");
        }
    }
}

#[test]
fn a_new_target_takes_its_share_and_nothing_else_moves() {
    for ipv6 in [false, true] {
        let (list, clients) = (targets(ipv6, 8, &[1, 3]), clients(ipv6, 40_000));
        let before = choose(&choice(&list[..7]), &clients);
        let after = choose(&choice(&list), &clients);
        let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
        assert!(moved.iter().all(|(_, after)| **after == list[7].0));
        // 3 of 16: 7500 expected, standard deviation 78.
        assert!((7150..7850).contains(&moved.len()), "{} moved", moved.len());
    }
}

#[test]
fn a_weight_that_rises_moves_clients_to_its_target_only() {
    let (mut list, clients) = (targets(false, 5, &[10]), clients(false, 20_000));
    let before = choose(&choice(&list), &clients);
    list[2].1 = 20;
    let after = choose(&choice(&list), &clients);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || *after == list[2].0);
    }
}

proptest! {
    #[test]
    fn the_padded_messages_are_those_of_the_definition(ip: u128, port: u16) {
        let hashes = Hashes::new(&KEY);
        for client in [
            IpEndpoint::V4(Endpoint { ip: ip as u32, port }),
            IpEndpoint::V6(Endpoint { ip, port }),
        ] {
            let mut hashed = [ClientHash::default()];
            hashes.clients(&[client], &mut hashed);
            let mac = u128::from_be_bytes(hashes.cmac.mac(&client_message(client)));
            prop_assert_eq!(hashed[0].0, mac);
        }
    }
}
