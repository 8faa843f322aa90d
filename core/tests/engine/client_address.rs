//! Targets learn of a client's address by a TCP option (docs/protocol.md, section 7).

use crate::targets::Moved;
use crate::*;

/// [`config`] with the option at the services with a pool.
pub fn telling_config() -> PopConfig {
    config().setting("web", "client_address", "toa").setting("many", "client_address", "toa")
}

/// What a target's kernel module reads of the options: the client, from the first option of its
/// kind and length in front of the end of the list.
fn read_client(options: &[u8]) -> Option<(u32, u16)> {
    let mut rest = options;
    loop {
        match rest {
            [] | [0, ..] => return None,
            [1, tail @ ..] => rest = tail,
            [254, 8, p0, p1, a, b, c, d, ..] => {
                let ip = u32::from_be_bytes([*a, *b, *c, *d]);
                return Some((ip, u16::from_be_bytes([*p0, *p1])));
            }
            [_, len, ..] if *len >= 2 => rest = rest.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

/// The option for [`CLIENT`].
fn told() -> Vec<u8> {
    [&[254, 8][..], &CLIENT.1.to_be_bytes(), &CLIENT.0.to_be_bytes()].concat()
}

fn options_up(world: &mut World, segment: &Tcp) -> Vec<u8> {
    world.forwarded(WAN, segment).1.tcp().options
}

/// What the POP says of the client's address in the last segment.
fn said(world: &World) -> Option<bool> {
    world.out.said.iter().find_map(|said| match said {
        Said::ClientAddress { is_told } => Some(*is_told),
        _ => None,
    })
}

fn silent_syns(world: &World) -> u64 {
    world.counters.service(world.service("web").slot).syns_without_address.get()
}

fn world() -> World {
    World::of(&telling_config())
}

#[test]
fn syns_and_segments_without_data_tell_the_client() {
    let mut world = world();
    let (.., tag) = world.egress("web", CLIENT);
    let up = |world: &mut World, flags, options: &[u8]| {
        let options = options_up(world, &Tcp::new(CLIENT, WEB, flags).options(options));
        assert_eq!((said(world), read_client(&options)), (Some(true), Some(CLIENT)));
        options
    };
    // In front of the options, where they do not begin with timestamps.
    let syn = up(&mut world, SYN, &linux_syn_options(1460, 5, 0));
    assert_eq!(syn, [told(), linux_syn_options(1460, tag, 0)].concat());
    let syn = up(&mut world, SYN, &plain_syn_options(1460));
    assert_eq!(syn, [timestamps(tag - 1, 0), told(), plain_syn_options(1460)].concat());
    for flags in [ACK, ACK | FIN, RST, RST | ACK, ACK | PSH] {
        let stamped = up(&mut world, flags, &timestamps(5, 6));
        assert_eq!(stamped, [timestamps(tag, 6), told()].concat());
        assert_eq!(up(&mut world, flags, &[]), [timestamps(tag, 0), told()].concat());
        let sack = [vec![1, 1, 5, 10], vec![7; 8]].concat();
        let both = up(&mut world, flags, &[timestamps(5, 6), sack.clone()].concat());
        assert_eq!(both, [timestamps(tag, 6), told(), sack.clone()].concat());
        let bare = up(&mut world, flags, &sack);
        assert_eq!(bare, [timestamps(tag, 0), told(), sack].concat());
    }
    // Timestamps anywhere else are as well set as without.
    for at in 0..=22usize {
        let place = |value| {
            let mut options = vec![1; 32];
            options[at..at + 10].copy_from_slice(&timestamps(value, 9)[2..]);
            options
        };
        let seen = up(&mut world, ACK, &place(0x0102_0304));
        let want = match at {
            2 => [&place(tag)[..12], &told(), &[1; 20]].concat(),
            _ => [told(), place(tag)].concat(),
        };
        assert_eq!(seen, want, "{at}");
    }
    assert_eq!(silent_syns(&world), 0);
}

#[test]
fn data_and_other_services_tell_nothing() {
    let mut world = world();
    let (.., tag) = world.egress("web", CLIENT);
    for data in [&b"\0"[..], b"hello"] {
        let segment = Tcp::new(CLIENT, WEB, ACK).data(data);
        let options = options_up(&mut world, &segment.clone().stamped(5, 6));
        assert_eq!((options, said(&world)), (timestamps(tag, 6), None));
        assert_eq!(options_up(&mut world, &segment), timestamps(tag, 0));
    }
    options_up(&mut world, &Tcp::new(CLIENT, RAW, SYN).options(&plain_syn_options(1460)));
    assert_eq!(said(&world), None);
    // What comes from a target is as without.
    let (egress, port, _) = world.egress("web", CLIENT);
    let answer = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK);
    let answer = answer.options(&linux_syn_options(1460, 9, tag));
    let (_, seen) = world.forwarded(LAN, &answer);
    assert_eq!((seen.tcp().options, said(&world)), (linux_syn_options(1460, 9, 0), None));
    // A SYN with data tells, as long as it fits every port.
    for (data, fits) in [(1, true), (1432, true), (1433, false)] {
        let syn = Tcp::new(CLIENT, WEB, SYN).options(&linux_syn_options(1460, 5, 0));
        let (_, seen) = world.forwarded(WAN, &syn.data(&vec![3; data]));
        assert_eq!((said(&world), seen.tcp().data), (Some(fits), vec![3; data]));
        assert_eq!(read_client(&seen.tcp().options), fits.then_some(CLIENT), "{data}");
    }
    assert_eq!(silent_syns(&world), 1);
}

#[test]
fn no_client_chooses_the_address() {
    let mut world = world();
    let (.., tag) = world.egress("web", CLIENT);
    let forged = [&[254, 8][..], &[0x12, 0x34, 9, 9, 9, 9]].concat();
    let forged6 = [&[253, 20][..], &[7; 18]].concat();
    let other = [&[200, 8][..], &[0x12, 0x34, 9, 9, 9, 9]].concat();
    for option in [forged, forged6, other] {
        let nops = vec![1; option.len()];
        for flags in [SYN, ACK, RST, ACK | FIN] {
            let segment = Tcp::new(CLIENT, WEB, flags);
            let low = u32::from(flags == SYN);
            let bare = options_up(&mut world, &segment.clone().options(&option));
            assert_eq!(bare, [timestamps(tag - low, 0), told(), nops.clone()].concat());
            for options in [
                [timestamps(5, 6), option.clone()].concat(),
                [option.clone(), timestamps(5, 6)].concat(),
            ] {
                let seen = options_up(&mut world, &segment.clone().options(&options));
                assert_eq!(read_client(&seen), Some(CLIENT));
                let own: Vec<_> = seen.windows(2).filter(|pair| pair == &[254, 8]).collect();
                assert_eq!((own.len(), seen.len()), (1, options.len() + 8));
                assert!(!seen.windows(8).any(|part| option.starts_with(part)), "{seen:?}");
            }
        }
        // In a segment with data there is none at all.
        let data = Tcp::new(CLIENT, WEB, ACK).options(&option).data(b"abc");
        assert_eq!(options_up(&mut world, &data), [timestamps(tag, 0), nops].concat());
    }
    // Neither the end of the list nor a tail that is no option hides it.
    let ended = [vec![0, 254, 8, 9], vec![9; 4]].concat();
    for (flags, tail) in [(SYN, ended.clone()), (ACK, ended), (SYN, vec![254, 77, 9, 9])] {
        let seen = options_up(&mut world, &Tcp::new(CLIENT, WEB, flags).options(&tail));
        assert_eq!(read_client(&seen), Some(CLIENT));
    }
}

#[test]
fn without_room_the_client_is_not_told() {
    let mut world = world();
    let (.., tag) = world.egress("web", CLIENT);
    let unknown = |len: usize| [vec![77, len as u8], vec![5; len - 2]].concat();
    for (flags, stamped) in [(SYN, true), (SYN, false), (ACK, true), (ACK, false)] {
        let before = silent_syns(&world);
        for len in [8, 16, 20, 24] {
            let front = if stamped { timestamps(5, 6) } else { Vec::new() };
            let segment = Tcp::new(CLIENT, WEB, flags);
            let options = [front, unknown(len)].concat();
            let seen = options_up(&mut world, &segment.options(&options));
            let fits = len <= 20;
            assert_eq!((said(&world), read_client(&seen)), (Some(fits), fits.then_some(CLIENT)));
        }
        // Forty bytes of options, or so many that timestamps leave no room.
        let options = match stamped {
            true => [timestamps(5, 6), unknown(28)].concat(),
            false => [vec![1; 4], unknown(24)].concat(),
        };
        let seen = options_up(&mut world, &Tcp::new(CLIENT, WEB, flags).options(&options));
        let tag = if flags == SYN && !stamped { tag - 1 } else { tag };
        let echo = if stamped { 6 } else { 0 };
        let rest = options[if stamped { 12 } else { 0 }..].to_vec();
        assert_eq!(seen, [timestamps(tag, echo), rest].concat());
        assert_eq!(said(&world), Some(false));
        let silent = if flags == SYN { 2 } else { 0 };
        assert_eq!(silent_syns(&world) - before, silent);
    }
    // Options that are built anew, and SACK that fills them.
    for (blocks, stamped) in [(3, true), (4, false), (3, false)] {
        let front = if stamped { timestamps(5, 6) } else { Vec::new() };
        let sack = [vec![1, 1, 5, 2 + 8 * blocks], vec![9; 8 * usize::from(blocks)]].concat();
        let segment = Tcp::new(CLIENT, WEB, ACK).options(&[front, sack].concat());
        assert_eq!(read_client(&options_up(&mut world, &segment)), None);
        assert_eq!(said(&world), Some(false));
    }
}

#[test]
fn the_frame_is_right_with_a_vlan_and_ip_options_and_damage_stays() {
    let config = telling_config().edit(|config| {
        config.ports.iter_mut().enumerate().for_each(|(at, port)| {
            port.set("vlan", 7 + at as u16);
        });
    });
    let mut world = World::of(&config);
    let (egress, port, tag) = world.egress("web", CLIENT);
    for ip_options in [0, 4, 8, 12, 16, 20, 24, 40] {
        let segment = Tcp::new(CLIENT, WEB, ACK).stamped(5, 6).edit(|segment| {
            segment.ip.options = vec![1; ip_options];
        });
        let (out, seen) = world.forwarded(WAN, &segment);
        assert_eq!((out, seen.vlan, seen.src, seen.dst), (LAN, Some(8), egress, WEB_TARGET.0));
        let tcp = seen.tcp();
        assert_eq!((tcp.sport, tcp.options), (port, [timestamps(tag, 6), told()].concat()));
        assert_eq!((tcp.seq, tcp.ack), (segment.seq, segment.ack));
        // A wrong checksum is as wrong behind the POP.
        let mut damaged = segment.datagram();
        let at = damaged.len() - 12 - 20 + 16;
        damaged[at] ^= 0x40;
        let sent = world.datagram(WAN, &damaged);
        let damaged = Seen::frame(&sent[0].1);
        let ends = [damaged.src, damaged.dst].map(u32::to_be_bytes);
        assert_ne!(upper_checksum(&ends[0], &ends[1], 6, &damaged.payload), 0);
    }
}

#[test]
fn every_target_that_is_asked_is_told() {
    let config = relay6_config().setting("many", "client_address", "toa");
    let mut moved = Moved::with("many", config);
    let client = match moved.client {
        std::net::SocketAddr::V4(client) => (client.ip().to_bits(), client.port()),
        std::net::SocketAddr::V6(_) => unreachable!(),
    };
    for (flags, copies) in [(SYN, 1), (ACK, 2), (RST, 2)] {
        let sent = moved.world.datagram(WAN, &moved.segment(flags, 9, 10).datagram());
        let seen: Vec<_> = sent.iter().map(|(_, frame)| Seen::frame(frame)).collect();
        assert_eq!(seen.len(), copies);
        assert!(seen.iter().all(|seen| read_client(&seen.tcp().options) == Some(client)));
        let told = moved.world.out.said.iter();
        assert_eq!(told.filter(|said| matches!(said, Said::ClientAddress { .. })).count(), 1);
    }
}

#[test]
fn an_error_quotes_what_the_client_sent() {
    let mut world = world();
    let (egress, ..) = world.egress("web", CLIENT);
    for options in [linux_syn_options(1460, 0, 0), Vec::new(), timestamps(0, 6)] {
        let segment = Tcp::new(CLIENT, WEB, SYN).options(&options);
        let (_, seen) = world.forwarded(WAN, &segment);
        assert_eq!(said(&world), Some(true));
        let error = frag_needed(0x0a09_0909, egress, 1400, &seen.datagram, usize::MAX);
        let sent = world.datagram(LAN, &error);
        let [(port, frame)] = &sent[..] else { panic!("{sent:02x?}") };
        let quote = Seen::frame(frame).icmp().3;
        let tcp = SeenTcp::read(&quote[20..], segment_ip(CLIENT.0), segment_ip(WEB.0));
        assert_eq!((*port, read_client(&tcp.options)), (WAN, None));
        assert!(!tcp.options.contains(&254), "{tcp:?}");
    }
}

fn segment_ip(ip: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(ip).into()
}

/// The same client is told of at whatever POP its segments arrive, and without the option nothing
/// changes.
#[test]
fn the_option_changes_nothing_else() {
    let [mut with, mut without] = [telling_config(), config()].map(|config| World::of(&config));
    assert_ne!(with.snapshot.digest(), without.snapshot.digest());
    for flags in [SYN, ACK, ACK | FIN] {
        let segment = Tcp::new(CLIENT, WEB, flags).options(&linux_syn_options(1400, 5, 6));
        let [told, plain] = [&mut with, &mut without].map(|world| world.forwarded(WAN, &segment).1);
        let fixed = |seen: &Seen| {
            let tcp = seen.tcp();
            (seen.src, seen.dst, seen.ttl, seen.id, tcp.seq, tcp.ack, tcp.flags, tcp.window)
        };
        assert_eq!(fixed(&told), fixed(&plain));
        assert_eq!(told.tcp().options[8..], plain.tcp().options);
        let len = |seen: &Seen| seen.datagram.len();
        assert_eq!(len(&told), len(&plain) + 8);
    }
}
