//! Segments that leave in fragments: reassembled by a plain table of bytes, they are what
//! leaves through a wide port.

use anyrelay_core::net::PortIndex;
use anyrelay_core::verdict::{DropReason, Verdict};

use super::*;

/// A World whose ports have these MTUs.
fn world(wan: u16, lan: u16) -> World {
    World::of(&config().setting("wan", "mtu", wan).setting("lan", "mtu", lan))
}

/// Segments with DF clear, of every kind that is forwarded, with that many bytes of data.
fn segments(world: &World, number: u16, len: usize) -> Vec<(PortIndex, Tcp)> {
    let client = (CLIENT.0 + u32::from(number) * 7, CLIENT.1.wrapping_add(number * 3) | 1);
    let data: Vec<u8> = (0..len).map(|at| (at * 31 + at / 256) as u8).collect();
    let (egress, port, tag) = world.egress("web", client);
    let down = |flags, echo| Tcp::new(WEB_TARGET, (egress, port), flags).stamped(1, echo);
    let target = world.target("raw", client);
    let segments = [
        (WAN, Tcp::new(client, WEB, ACK).stamped(1, 2)),
        (WAN, Tcp::new(client, WEB, ACK)),
        (WAN, Tcp::new(client, RAW, ACK)),
        (LAN, down(ACK, tag)),
        (LAN, down(SYN | ACK, tag - 1)),
        (LAN, Tcp::new(target, client, ACK)),
    ];
    let segments = (0u32..).zip(segments).map(|(at, (port, segment))| {
        let segment = segment.data(&data).numbers(u32::from(number) * 1000 + at, 9);
        let segment = segment.edit(|segment| {
            segment.ip.fragment = 0;
            segment.ip.id = 0x1000 + number;
        });
        (port, segment)
    });
    segments.collect()
}

#[test]
fn what_may_be_fragmented_is_sent_in_as_few_pieces_as_can_be() {
    let mut ids = std::collections::HashSet::new();
    let mut count = 0;
    for mtu in [576usize, 577, 600, 1000, 1279, 1499, 1500] {
        let mut narrow = world(mtu as u16, mtu as u16);
        let mut wide = world(9000, 9000);
        for (number, len) in
            (0u16..).zip([mtu - 64, mtu - 52, mtu - 40, mtu - 39, 1448, 1460, 2900, 8000])
        {
            for (port, segment) in segments(&wide, number, len) {
                let whole = wide.datagram(port, &segment.datagram());
                let [(out, whole)] = &whole[..] else { panic!("{:?}", wide.out.said) };
                let sent = narrow.datagram(port, &segment.datagram());
                assert_eq!(narrow.verdict(), Verdict::Forward(*out), "{:?}", narrow.out.said);
                assert!(sent.iter().all(|(port, _)| port == out));
                let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
                let total_len = whole.len() - 14;
                if total_len <= mtu {
                    assert_eq!(frames, [&whole[..]], "what fits goes as it is");
                    continue;
                }
                let step = (mtu - 20) / 8 * 8;
                assert_eq!(frames.len(), (total_len - 20).div_ceil(step), "{total_len} of {mtu}");
                let mut together = reassemble(&frames, mtu);
                assert_ne!(together[18..20], whole[18..20], "the ID is the POP's");
                ids.insert((mtu, together[18..20].to_vec()));
                count += 1;
                // The same but for the ID and its checksum: every byte, the TCP checksum included.
                together[18..20].copy_from_slice(&whole[18..20]);
                together[24..26].copy_from_slice(&whole[24..26]);
                assert_eq!(&together, whole);
                Seen::frame(&together).tcp();
            }
        }
    }
    // Of 65,536 they hardly meet.
    assert!(count > 200 && ids.len() > count - 4, "{} of {count}", ids.len());
}

#[test]
fn equal_pops_give_equal_ids_and_others_do_not() {
    let id = |world: &mut World, segment: &Tcp| {
        let sent = world.datagram(WAN, &segment.datagram());
        assert_eq!(sent.len(), 2, "{:?}", world.out.said);
        sent[0].1[18..20].to_vec()
    };
    let (mut one, mut other) = (world(1500, 1000), world(1500, 1400));
    let (_, segment) = segments(&one, 1, 1448).remove(0);
    let base = id(&mut one, &segment);
    assert_eq!(id(&mut other, &segment), base);
    assert_eq!(id(&mut one, &segment), base, "sent again as it was, it has its ID");
    for changed in [
        segment.clone().edit(|segment| segment.ip.id += 1),
        segment.clone().edit(|segment| segment.ip.src += 1),
        segment.clone().edit(|segment| segment.sport += 1),
        segment.clone().numbers(77, 9),
    ] {
        assert_ne!(id(&mut one, &changed), base);
    }
}

#[test]
fn a_datagram_goes_out_whole_or_not_at_all() {
    // Its last fragment finds no frame.
    let mut narrow = world(1500, 600);
    let (_, segment) = segments(&narrow, 1, 1448).remove(0);
    narrow.out.frames_left = Some(2);
    assert_eq!(narrow.dropped(WAN, &segment.datagram()), DropReason::NoBuffer);
    narrow.out.frames_left = Some(3);
    assert_eq!(narrow.datagram(WAN, &segment.datagram()).len(), 3);
    // More pieces than there may be: 20 of 552 bytes.
    narrow.out.frames_left = None;
    let mut small = world(9000, 576);
    let (_, fits) = segments(&small, 1, 20 * 552 - 32).remove(0);
    assert_eq!(small.datagram(WAN, &fits.datagram()).len(), 20);
    let (_, beyond) = segments(&small, 1, 20 * 552 - 31).remove(0);
    assert_eq!(small.dropped(WAN, &beyond.datagram()), DropReason::TooBig);
}

#[test]
fn damage_stays_visible_through_fragments() {
    let mut narrow = world(1500, 600);
    let (_, segment) = segments(&narrow, 1, 1448).remove(0);
    let mut datagram = segment.datagram();
    datagram[700] ^= 0x10;
    let frames: Vec<_> =
        narrow.datagram(WAN, &datagram).into_iter().map(|(_, frame)| frame).collect();
    let together = reassemble(&frames, 600);
    let (src, dst) = (validator::long(&together, 26), validator::long(&together, 30));
    assert_ne!(tcp_checksum(src, dst, &together[34..]), 0);
}
