//! Targets of pool mode over IPv6 learn of a client's address by a TCP option (docs/protocol.md,
//! section 7).

use crate::*;

fn world() -> World {
    World::of(&pool6_config().setting("deep", "client_address", "toa"))
}

/// The option for [`CLIENT6`].
fn told() -> Vec<u8> {
    [&[253, 20][..], &CLIENT6.1.to_be_bytes(), &CLIENT6.0.to_be_bytes()].concat()
}

/// The options with which the client's segment reaches the target, and what the POP says of its
/// address.
fn up(world: &mut World, segment: &Tcp) -> (Vec<u8>, Option<bool>) {
    let (_, frame) = world.passed(WAN, &over6(CLIENT6, DEEP, segment));
    let seen = SeenTcp6::frame(&frame, 0);
    assert_eq!(seen.tcp.data, segment.data);
    let said = world.out.said.iter().find_map(|said| match said {
        Said::ClientAddress { is_told } => Some(*is_told),
        _ => None,
    });
    (seen.tcp.options, said)
}

#[test]
fn syns_and_segments_without_data_tell_the_client() {
    let mut world = world();
    let (_, tag) = world.pooled6("deep", CLIENT6);
    let syn = plain(SYN).options(&linux_syn_options(1440, 5, 0));
    let want = [told(), linux_syn_options(1440, tag, 0)].concat();
    assert_eq!(up(&mut world, &syn), (want, Some(true)));
    // A bare SYN may have eight bytes: what is put in has 32.
    let syn = plain(SYN).options(&[2, 4, 5, 0xa0, 1, 3, 3, 7]);
    let want = [timestamps(tag - 1, 0), told(), vec![2, 4, 5, 0xa0, 1, 3, 3, 7]].concat();
    assert_eq!(up(&mut world, &syn), (want, Some(true)));
    for flags in [ACK, ACK | FIN, RST, RST | ACK, ACK | PSH] {
        let bare = up(&mut world, &plain(flags));
        assert_eq!(bare, ([timestamps(tag, 0), told()].concat(), Some(true)));
        let stamped = up(&mut world, &plain(flags).stamped(5, 6));
        assert_eq!(stamped, ([timestamps(tag, 6), told()].concat(), Some(true)));
    }
    let data = up(&mut world, &plain(ACK).stamped(5, 6).data(b"x"));
    assert_eq!(data, (timestamps(tag, 6), None));
    let slot = world.service("deep").slot;
    assert_eq!(world.counters.service(slot).syns_without_address.get(), 0);
    // Another service tells nothing.
    let (_, frame) = world.passed(WAN, &over6(CLIENT6, DEEPS, &plain(ACK).stamped(5, 6)));
    let (_, tag) = world.pooled6("deeps", CLIENT6);
    assert_eq!(SeenTcp6::frame(&frame, 0).tcp.options, timestamps(tag, 6));
}

#[test]
fn without_room_a_segment_goes_without() {
    let mut world = world();
    let (_, tag) = world.pooled6("deep", CLIENT6);
    let slot = world.service("deep").slot;
    // Nine bytes beside timestamps that are put in are one too many, and so is a padded SYN.
    let syn = plain(SYN).options(&plain_syn_options(1440));
    let want = [timestamps(tag - 1, 0), plain_syn_options(1440)].concat();
    assert_eq!(up(&mut world, &syn), (want, Some(false)));
    let syn = plain(SYN).options(&[linux_syn_options(1440, 5, 0), vec![1; 4]].concat());
    let want = [linux_syn_options(1440, tag, 0), vec![1; 4]].concat();
    assert_eq!(up(&mut world, &syn), (want, Some(false)));
    assert_eq!(world.counters.service(slot).syns_without_address.get(), 2);
    let sack = [vec![1, 1, 5, 10], vec![7; 8]].concat();
    let ack = plain(ACK).options(&[timestamps(5, 6), sack.clone()].concat());
    assert_eq!(up(&mut world, &ack), ([timestamps(tag, 6), sack].concat(), Some(false)));
    // A SYN with data tells as long as it fits every port: 40 + 40 bytes of headers and options.
    for (len, fits) in [(1400, true), (1401, false)] {
        let syn = plain(SYN).options(&linux_syn_options(1440, 5, 0)).data(&vec![3; len]);
        assert_eq!(up(&mut world, &syn).1, Some(fits), "{len}");
    }
    // Extension headers count.
    for (len, fits) in [(1392, true), (1393, false), (1400, false)] {
        let syn = plain(SYN).options(&linux_syn_options(1440, 5, 0)).data(&vec![3; len]);
        let whole = over6(CLIENT6, DEEP, &syn);
        let options = [&[6, 0, 1, 4, 0, 0, 0, 0], &whole[40..]].concat();
        let header = Ipv6Header::new(CLIENT6.0, DEEP.0);
        let (_, frame) = world.passed(WAN, &header.after(60, &options));
        assert_eq!(frame.len() - 14, whole.len() + 8 + if fits { 20 } else { 0 }, "{len}");
    }
}

#[test]
fn no_client_chooses_the_address() {
    let mut world = world();
    let (_, tag) = world.pooled6("deep", CLIENT6);
    let forged = [&[253, 20][..], &[9; 18]].concat();
    // There is room for one of 20 bytes alone, so the client's, made NOPs, keeps its place.
    let ack = up(&mut world, &plain(ACK).options(&forged));
    assert_eq!(ack, ([timestamps(tag, 0), vec![1; 20]].concat(), Some(false)));
    let small = [254, 8, 1, 2, 3, 4, 5, 6];
    let ack = up(&mut world, &plain(ACK).options(&small));
    assert_eq!(ack, ([timestamps(tag, 0), told(), vec![1; 8]].concat(), Some(true)));
}
