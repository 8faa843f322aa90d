//! TCP options through the engine.

use anyrelay_core::verdict::DropReason;

use crate::*;

fn options_up(world: &mut World, segment: &Tcp) -> Vec<u8> {
    world.forwarded(WAN, segment).1.tcp().options
}

fn options_down(world: &mut World, segment: &Tcp) -> Vec<u8> {
    world.forwarded(LAN, segment).1.tcp().options
}

fn mss_of(options: &[u8]) -> u16 {
    let at = options.windows(2).position(|pair| pair == [2, 4]).unwrap();
    u16::from_be_bytes([options[at + 2], options[at + 3]])
}

#[test]
fn mss_is_clamped_both_ways_and_lessened_for_bare_syns() {
    let mut clamped = World::of(&config().setting("web", "mss", 1400));
    let mut free = World::new();
    for (world, clamp) in [(&mut clamped, 1400), (&mut free, 1460)] {
        for mss in [88, 536, 1399, 1400, 1401, 1460, 8960, 65535] {
            let want = mss.min(clamp);
            let syn = Tcp::new(CLIENT, WEB, SYN);
            let up = options_up(world, &syn.clone().options(&linux_syn_options(mss, 5, 0)));
            assert_eq!(mss_of(&up), want);
            let up = options_up(world, &syn.options(&plain_syn_options(mss)));
            assert_eq!(mss_of(&up), want, "the target counts its own timestamps");
            let (egress, port, tag) = world.egress("web", CLIENT);
            for (echo, less) in [(tag, 0), (tag - 1, 12)] {
                let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK);
                let syn_ack = syn_ack.options(&linux_syn_options(mss, 5, echo));
                assert_eq!(mss_of(&options_down(world, &syn_ack)), want - less);
            }
        }
    }
    // The same in transparent mode, where nothing is added.
    let target = free.target("raw", CLIENT);
    let syn_ack = Tcp::new(target, CLIENT, SYN | ACK).options(&plain_syn_options(9000));
    assert_eq!(mss_of(&options_down(&mut free, &syn_ack)), 1460);
}

#[test]
fn a_segment_without_syn_keeps_what_looks_like_an_mss() {
    let mut world = World::new();
    let options = [timestamps(1, 2), vec![2, 4, 0xff, 0xff, 30, 4, 9, 9]].concat();
    let up = options_up(&mut world, &Tcp::new(CLIENT, WEB, ACK).options(&options));
    assert_eq!(up[12..], options[12..]);
}

#[test]
fn what_does_not_survive_is_taken_out() {
    let mut world = World::new();
    let target = world.target("raw", CLIENT);
    for kind in 0..=255u8 {
        let names_client = [200, 253, 254].contains(&kind);
        let doomed = names_client || [19, 29, 30, 34].contains(&kind);
        if [0, 1, 2, 8].contains(&kind) {
            continue;
        }
        let with = |before: Vec<u8>| [before, vec![kind, 6, 1, 2, 3, 4, 1, 1]].concat();
        let want = |before: Vec<u8>| {
            let option = if doomed { [1; 6] } else { [kind, 6, 1, 2, 3, 4] };
            [before, option.to_vec(), vec![1, 1]].concat()
        };
        let (egress, port, tag) = world.egress("web", CLIENT);
        let syn = Tcp::new(CLIENT, WEB, SYN).options(&with(timestamps(5, 6)));
        assert_eq!(options_up(&mut world, &syn), want(timestamps(tag, 6)));
        let syn = Tcp::new(CLIENT, RAW, SYN).options(&with(timestamps(5, 6)));
        assert_eq!(options_up(&mut world, &syn), want(timestamps(5, 6)));
        let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK);
        let syn_ack = syn_ack.options(&with(timestamps(5, tag)));
        assert_eq!(options_down(&mut world, &syn_ack), want(timestamps(5, 0)));
        let syn_ack = Tcp::new(target, CLIENT, SYN | ACK).options(&with(Vec::new()));
        assert_eq!(options_down(&mut world, &syn_ack), want(Vec::new()));
        let data = Tcp::new(CLIENT, WEB, ACK).options(&with(timestamps(5, 6)));
        let passed = options_up(&mut world, &data);
        if names_client {
            assert_eq!(passed, want(timestamps(tag, 6)));
        } else {
            assert_eq!(passed, with(timestamps(tag, 6)));
        }
        // A target may say what it wants.
        let data = Tcp::new(WEB_TARGET, (egress, port), ACK).options(&with(timestamps(5, tag)));
        assert_eq!(options_down(&mut world, &data), with(timestamps(5, 0)));
    }
}

#[test]
fn sack_blocks_of_a_bare_segment_are_cut_to_what_fits() {
    let mut world = World::new();
    let (.., tag) = world.egress("web", CLIENT);
    let blocks = |count: u8| -> Vec<u8> { (0..8 * count).collect() };
    for count in 1..=4u8 {
        let sack = [vec![1, 1, 5, 2 + 8 * count], blocks(count)].concat();
        let up = options_up(&mut world, &Tcp::new(CLIENT, WEB, ACK).options(&sack).data(b"abc"));
        let kept = if count <= 3 {
            sack.clone()
        } else {
            [vec![5, 26], blocks(4)[..24].to_vec(), vec![1, 1]].concat()
        };
        assert_eq!(up, [timestamps(tag, 0), kept].concat());
    }
    // Where nothing is inserted nothing is cut.
    let sack = [timestamps(1, 2), vec![1, 1, 5, 26], blocks(3)].concat();
    let up = options_up(&mut world, &Tcp::new(CLIENT, WEB, ACK).options(&sack));
    assert_eq!(up[12..], sack[12..]);
}

#[test]
fn a_full_syn_is_cleared_before_room_is_looked_for() {
    let mut world = World::new();
    let (.., tag) = world.egress("web", CLIENT);
    // MSS, window scale, SACK permitted, and 24 bytes of MPTCP and Fast Open with NOPs between.
    let mut options = plain_syn_options(1460);
    options.extend([30, 12, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    options.extend([34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]);
    options.extend([1; 4]);
    let up = options_up(&mut world, &Tcp::new(CLIENT, WEB, SYN).options(&options));
    assert_eq!(up, [timestamps(tag - 1, 0), vec![2, 4, 5, 180, 4, 2, 3, 3, 7, 1, 1, 1]].concat());
    // What survives and still leaves no room is refused.
    let full = [vec![77, 32], vec![0; 30]].concat();
    let syn = Tcp::new(CLIENT, WEB, SYN).options(&full);
    assert_eq!(world.dropped(WAN, &syn.datagram()), DropReason::OptionsFull);
}

#[test]
fn timestamps_are_rewritten_wherever_they_stand() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    for at in 0..=30usize {
        let place = |value: u32, echo: u32| {
            let mut options = vec![1; 40];
            options[at..at + 10].copy_from_slice(&timestamps(value, echo)[2..]);
            options
        };
        let data = Tcp::new(CLIENT, WEB, ACK).options(&place(0x0102_0304, 0xf1f2_f3f4));
        assert_eq!(options_up(&mut world, &data.data(b"abc")), place(tag, 0xf1f2_f3f4));
        let data = Tcp::new(WEB_TARGET, (egress, port), ACK).options(&place(0xf1f2_f3f4, tag));
        assert_eq!(options_down(&mut world, &data), place(0xf1f2_f3f4, 0));
        let syn_ack = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).options(&place(9, tag - 1));
        let left = options_down(&mut world, &syn_ack.data(b"abc"));
        assert!(left.iter().all(|byte| *byte == 1), "{at}: {left:?}");
    }
}

#[test]
fn what_stands_after_the_timestamps_stays_when_they_go() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let sack: Vec<u8> = [vec![1, 1, 5, 10], vec![9; 8]].concat();
    for options in [
        [timestamps(9, tag - 1), sack.clone()].concat(),
        [sack.clone(), timestamps(9, tag - 1)].concat(),
    ] {
        let segment = Tcp::new(WEB_TARGET, (egress, port), SYN | ACK).options(&options);
        let left = options_down(&mut world, &segment);
        let without_nops: Vec<_> = left.into_iter().filter(|byte| *byte != 1).collect();
        assert_eq!(without_nops, sack[2..]);
    }
}

#[test]
fn lying_and_contradicting_options_are_refused() {
    let mut world = World::new();
    let (egress, port, tag) = world.egress("web", CLIENT);
    let twice = [timestamps(1, tag), timestamps(2, tag.wrapping_add(1))].concat();
    for lying in [
        &[8, 0, 0, 0][..],
        &[8, 1, 0, 0],
        &[1, 1, 1, 8],
        &[8, 10, 0, 0],
        &[2, 5, 0, 0],
        &[8, 8, 0, 0, 0, 0, 0, 0],
        &[8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[77, 200, 0, 0],
        // The last of two is the one that a target takes: a client could choose any tag.
        &twice,
    ] {
        for segment in [
            Tcp::new(CLIENT, WEB, ACK),
            Tcp::new(CLIENT, RAW, ACK),
            Tcp::new(WEB_TARGET, (egress, port), ACK),
        ] {
            let side = if segment.ip.src == CLIENT.0 { WAN } else { LAN };
            let reason = world.dropped(side, &segment.options(lying).datagram());
            assert_eq!(reason, DropReason::TcpOptions, "{lying:?}");
        }
    }
    // After the end of the list anything may stand.
    let ended = [timestamps(1, 2), vec![0, 8, 3, 9]].concat();
    world.forwarded(WAN, &Tcp::new(CLIENT, WEB, ACK).options(&ended));
}
