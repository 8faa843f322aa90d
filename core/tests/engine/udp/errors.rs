//! ICMP errors about UDP, both ways: each reaches the endpoint that sent the datagram, which it
//! quotes as that sent it.

use anyrelay_core::verdict::{AbsorbKind, Verdict};

use super::*;

/// An ICMP error from `src` to `dst` with this quote.
fn error(src: IpAddr, dst: IpAddr, kinds: ([u8; 2], [u8; 2]), word: u32, quote: &[u8]) -> Vec<u8> {
    let rest = word.to_be_bytes();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let [kind, code] = kinds.0;
            let header = Ipv4Header::new(src.to_bits(), dst.to_bits());
            Ipv4Header { protocol: ICMP, tos: 0, ..header }.with(&icmp(kind, code, rest, quote))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [kind, code] = kinds.1;
            let header = Ipv6Header::icmp(src.to_bits(), dst.to_bits());
            let header = Ipv6Header { hop_limit: 57, traffic_class: 0, flow: 0, ..header };
            header.with(&icmp6(kind, code, rest, quote))
        }
        _ => panic!("two families"),
    }
}

const PORT: ([u8; 2], [u8; 2]) = ([3, 3], [1, 4]);
const TOO_BIG: ([u8; 2], [u8; 2]) = ([3, 4], [2, 0]);

/// Source, destination, type and code, the word behind them, and the quote of an error.
fn read(datagram: &[u8]) -> (IpAddr, IpAddr, [u8; 2], u32, Vec<u8>) {
    let (src, dst) = addresses(datagram).unwrap();
    let (protocol, at) = upper(datagram).unwrap();
    let message = &datagram[at..];
    let sum = match protocol {
        ICMP => internet_checksum(&[message]),
        _ => transport_checksum(src, dst, protocol, message),
    };
    assert_eq!(sum, 0, "{datagram:02x?}");
    let word = u32::from(word(message, 4)) << 16 | u32::from(word(message, 6));
    (src, dst, [message[0], message[1]], word, message[8..].to_vec())
}

fn kind(kinds: ([u8; 2], [u8; 2]), ip: IpAddr) -> [u8; 2] {
    if ip.is_ipv4() { kinds.0 } else { kinds.1 }
}

/// The quote as far as both show it, but for what a translation cannot know: TTL, ID, flags.
fn assert_quotes(service: &Service, quote: &[u8], sent: &Udp) {
    let mut sent = sent.datagram();
    let mut quote = quote.to_vec();
    match quote[0] >> 4 {
        4 => {
            for bytes in [&mut sent, &mut quote] {
                assert_eq!(internet_checksum(&[&bytes[..20]]), 0);
                bytes[4..8].fill(0);
                bytes[8] = 0;
                bytes[10..12].fill(0);
            }
        }
        _ => (sent[7], quote[7]) = (0, 0),
    }
    let len = quote.len().min(sent.len());
    assert!(len >= 28);
    assert_eq!(quote[..len], sent[..len], "{service:?}");
}

#[test]
fn a_closed_port_of_a_target_reaches_the_client() {
    let mut world = udp_world();
    for service in services() {
        let up = service.up(b"is anybody there?");
        let sent = world.datagram(WAN, &up.datagram());
        let (_, seen) = only(sent, &world);
        for cut in [usize::MAX, 8] {
            let report = match service.mode {
                Mode::Tunnel(tunnel) => {
                    if tunnel.is_direct {
                        continue;
                    }
                    // The target's own, about what came out of the tunnel, and goes back in it.
                    let at = tunnel.overhead();
                    let head = if tunnel.vip6 { 40 } else { 20 };
                    let end = seen.len().min(at + head + 8.max(cut.min(seen.len())));
                    let inner =
                        error(service.vip.ip(), service.client.ip(), PORT, 0, &seen[at..end]);
                    tunnel.answer(0, &inner)
                }
                _ => {
                    let head = if seen[0] >> 4 == 6 { 40 } else { 20 };
                    let end = seen.len().min(head + cut.min(seen.len()));
                    let (target, egress) = (service.target(&world), service.egress(&world));
                    error(target.ip(), egress.ip(), PORT, 0, &seen[..end])
                }
            };
            let sent = world.datagram(LAN, &report);
            let (out, datagram) = only(sent, &world);
            assert_eq!((out, world.verdict()), (WAN, Verdict::Forward(WAN)));
            let (src, dst, words, word, quote) = read(&datagram);
            assert_eq!((src, dst), (service.vip.ip(), service.client.ip()), "{service:?}");
            assert_eq!((words, word), (kind(PORT, dst), 0), "{service:?}");
            assert_quotes(&service, &quote, &up);
        }
    }
}

#[test]
fn a_client_that_is_gone_reaches_the_target() {
    let mut world = udp_world();
    for service in services().iter().filter(|service| service.passes()) {
        let (down, got) = service.answer(&world, b"an answer");
        let sent = world.datagram(LAN, &down);
        let (_, seen) = only(sent, &world);
        assert_eq!(Udp::read(&seen).unwrap().dst, got.dst);
        let report = error(service.client.ip(), service.vip.ip(), PORT, 0, &seen);
        let sent = world.datagram(WAN, &report);
        let mut targets = Vec::new();
        let mut left = sent;
        assert!(!left.is_empty(), "{service:?} {:?}", world.out.said);
        for (out, frame) in left.drain(..) {
            assert_eq!(out, LAN);
            let datagram = &frame[14..];
            let (from, at) = match service.mode {
                Mode::Tunnel(tunnel) => (service.vip, tunnel.overhead()),
                _ => (service.target(&world), 0),
            };
            let (src, dst, words, _, quote) = read(&datagram[at..]);
            let egress = service.egress(&world);
            assert_eq!((src, dst), (egress.ip(), from.ip()), "{service:?}");
            assert_eq!(words, kind(PORT, dst));
            assert_quotes(service, &quote, &plain(from, egress, b"an answer"));
            targets.push(dst);
        }
        assert_eq!(targets.len(), 1);
    }
}

#[test]
fn a_narrow_path_is_told_with_its_mtu() {
    let mut world = udp_world();
    for service in services() {
        let Mode::Tunnel(tunnel) = service.mode else {
            let up = service.up(&[1; 1300]);
            let sent = world.datagram(WAN, &up.datagram());
            let (_, seen) = only(sent, &world);
            let router: IpAddr =
                if seen[0] >> 4 == 6 { "2600::99" } else { "198.18.9.9" }.parse().unwrap();
            let egress = service.egress(&world);
            let report = error(router, egress.ip(), TOO_BIG, 1320, &seen[..500]);
            let sent = world.datagram(LAN, &report);
            let (_, datagram) = only(sent, &world);
            let (_, dst, words, mtu, quote) = read(&datagram);
            assert_eq!((dst, words), (service.client.ip(), kind(TOO_BIG, dst)));
            let less = if matches!(service.mode, Mode::Prefix) { 20 } else { 0 };
            assert_eq!(mtu, 1320 - less, "{service:?}");
            assert_quotes(&service, &quote, &up);
            continue;
        };
        // About the outer datagram: the client learns what fits inside.
        let up = service.up(&[1; 1300]);
        let sent = world.datagram(WAN, &up.datagram());
        let (_, seen) = only(sent, &world);
        let router: IpAddr = if tunnel.outer6 { "2600::99" } else { "198.18.9.9" }.parse().unwrap();
        let report = error(router, tunnel.from(), TOO_BIG, 1400, &seen[..500]);
        let sent = world.datagram(LAN, &report);
        let (_, datagram) = only(sent, &world);
        let (_, dst, words, mtu, quote) = read(&datagram);
        assert_eq!((dst, words), (service.client.ip(), kind(TOO_BIG, dst)));
        assert_eq!(mtu as usize, 1400 - tunnel.overhead(), "{service:?}");
        assert_quotes(&service, &quote, &up);
    }
}

#[test]
fn an_unreachable_target_is_told_while_targets_change() {
    use anyrelay_core::time::{Now, UnixTime};
    use anyrelay_kit::config::inline;
    let noon = UnixTime::from_millis(1_800_000_000_000);
    let target = |address: &str| Table::default().with("address", address);
    let targets = [target("198.51.100.80:8443"), target("198.51.100.81:8443").with("since", noon)];
    let mut world = World::of(&udp_config().setting("q4", "targets", inline(&targets)));
    world.now = Now { unix: noon.plus_millis(1000), ..world.now };
    let service = &services()[0];
    for host in 1..50 {
        let client = at(&format!("198.18.7.{host}:5000"));
        let up = service.up(b"x").edit(|udp| udp.src = client);
        let sent = world.datagram(WAN, &up.datagram());
        let (_, seen) = only(sent, &world);
        let target = Udp::read(&seen).unwrap().dst;
        let report = error(target.ip(), client.ip(), PORT, 0, &seen);
        let sent = world.datagram(LAN, &report);
        assert_eq!(read(&only(sent, &world).1).1, client.ip());
    }
    assert_eq!(world.counters.absorbed(AbsorbKind::Unreachable), 0);
}

#[test]
fn errors_about_what_no_pop_sent_are_dropped() {
    use DropReason::*;
    let mut world = udp_world();
    let service = &services()[0];
    let (target, client) = (service.target(&world), service.client);
    let up = Udp::new(client, target, b"0123456789");
    let quoting = |quote: &[u8]| error(target.ip(), client.ip(), PORT, 0, quote);
    let other_port = up.edit(|udp| udp.dst.set_port(9));
    assert_eq!(world.dropped(LAN, &quoting(&other_port.datagram())), NotOurs);
    let to_other = service.targets.iter().find(|other| **other != target).unwrap();
    let wrong = up.edit(|udp| udp.dst = *to_other);
    assert_eq!(world.dropped(LAN, &quoting(&wrong.datagram())), NotOurs);
    assert_eq!(world.dropped(LAN, &quoting(&up.datagram()[..27])), NotOurs);
    let vip = |quote: &[u8]| error(client.ip(), service.vip.ip(), PORT, 0, quote);
    let down = plain(service.vip, client, b"0123456789");
    assert_eq!(world.datagram(WAN, &vip(&down.datagram())).len(), 1);
    let of_other = down.edit(|udp| udp.src.set_port(9));
    assert_eq!(world.dropped(WAN, &vip(&of_other.datagram())), IcmpQuote);
    // One of TCP alone sent no UDP.
    let raw = plain(at("203.0.113.12:443"), client, b"0123456789");
    let report = error(client.ip(), raw.src.ip(), PORT, 0, &raw.datagram());
    assert_eq!(world.dropped(WAN, &report), IcmpQuote);
}
