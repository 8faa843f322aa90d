//! Options by themselves; `core/tests/engine/options.rs` sends them through the engine.

use super::*;
use proptest::prelude::*;

fn kinds(options: &[u8]) -> Vec<u8> {
    Options::new(options).map(|option| option.unwrap().kind).collect()
}

const SEVEN: TimestampsOption = TimestampsOption { value: 7, echo: 0 };

/// MSS 1460, SACK permitted, timestamps 1/2, window scale 7: a Linux SYN.
const LINUX_SYN: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7];

#[test]
fn timestamps_are_found_anywhere() {
    assert_eq!(find_timestamps(&LINUX_SYN), Ok(Some(TimestampsAt(6))));
    let aligned = SEVEN.aligned();
    assert_eq!(find_timestamps(&aligned), Ok(Some(TimestampsAt(2))));
    assert_eq!(find_timestamps(&[1, 1, 4, 2]), Ok(None));
    assert_eq!(find_timestamps(&[0, 0, 8, 10]), Ok(None));
    let twice = [SEVEN.aligned(), SEVEN.aligned()].concat();
    for lying in
        [&[8u8, 10, 0, 0][..], &[8, 8, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0], &[1, 1, 1, 8], &twice]
    {
        assert_eq!(find_timestamps(lying), Err(MalformedOptions), "{lying:?}");
    }
}

#[test]
fn the_tail_of_a_syn_may_be_no_option() {
    for tail in [&[8u8, 10, 0, 0][..], &[3, 0, 9, 9], &[1, 1, 1, 8], &[34, 200, 1, 2]] {
        let mut options = [&LINUX_SYN[..], tail].concat();
        let want = Found { timestamps: Some(TimestampsAt(6)), client_address: false };
        assert_eq!(read(&options, true), Ok(want), "{tail:?}");
        assert_eq!(read(&options, false), Err(MalformedOptions));
        let before = checksum::checksum(&options);
        let change = prepare_syn(&mut options, MssRule { clamp: 1460, less: 0 });
        assert_eq!(options, [&LINUX_SYN[..], &[1; 4]].concat());
        assert_eq!(change.apply(before), checksum::checksum(&options));
    }
    // The relay's own tag must stay the only one.
    let twice = [SEVEN.aligned(), SEVEN.aligned()].concat();
    assert_eq!(read(&twice, true), Err(MalformedOptions));
}

#[test]
fn addresses_of_clients_are_found_and_removed() {
    for kind in [200u8, 253, 254] {
        let mut options = [&[kind, 8, 0, 80, 1, 2, 3, 4][..], &SEVEN.aligned()].concat();
        let want = Found { timestamps: Some(TimestampsAt(10)), client_address: true };
        assert_eq!(read(&options, false), Ok(want));
        let before = checksum::checksum(&options);
        let change = OptionsRule::WithoutClientAddress.apply(&mut options);
        assert_eq!(options, [&[1; 8][..], &SEVEN.aligned()].concat());
        assert_eq!(change.apply(before), checksum::checksum(&options));
    }
}

#[test]
fn mss_is_clamped_and_lessened() {
    for (clamp, less, want) in [(1400, 0, 1400), (1400, 12, 1388), (9000, 12, 1448), (4, 12, 0)] {
        let mut options = LINUX_SYN;
        let before = checksum::checksum(&options);
        let change = prepare_syn(&mut options, MssRule { clamp, less });
        assert_eq!(get_u16(&options, 2), want);
        assert_eq!(change.apply(before), checksum::checksum(&options));
    }
}

#[test]
fn what_does_not_survive_becomes_nops() {
    for doomed in [30u8, 34, 200, 253, 254, 19, 29] {
        let mut options = [2, 4, 5, 180, doomed, 6, 9, 9, 9, 9, 4, 2];
        prepare_syn(&mut options, MssRule { clamp: 1460, less: 0 });
        assert_eq!(options, [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 4, 2]);
    }
}

#[test]
fn sack_is_cut_to_three_blocks() {
    let mut options = vec![1, 1, 5, 34];
    options.extend((0..32).map(|n| n + 100));
    let rebuilt = squeeze_in_timestamps(&options, SEVEN).unwrap();
    let bytes = rebuilt.as_bytes();
    assert_eq!(bytes.len(), 40);
    assert_eq!(&bytes[..12], SEVEN.aligned());
    assert_eq!(&bytes[12..14], [5, 26]);
    assert_eq!(&bytes[14..38], &options[4..28]);
}

#[test]
fn no_room_is_said() {
    let mut options = [77u8; 40];
    options[1] = 40;
    assert_eq!(squeeze_in_timestamps(&options, SEVEN), None);
}

#[test]
fn stripping_keeps_the_rest() {
    let rebuilt = strip_timestamps(&LINUX_SYN);
    assert_eq!(rebuilt.as_bytes(), [2, 4, 5, 180, 4, 2, 3, 3, 7, 1, 1, 1]);
    assert!(strip_timestamps(&SEVEN.aligned()).as_bytes().is_empty());
}

proptest! {
    #[test]
    fn setting_agrees_with_a_full_sum(at in 0u8..=30, value: u32, bytes: [u8; 40]) {
        let mut options = bytes;
        let before = checksum::checksum(&options);
        let change = set_timestamp_value(&mut options, TimestampsAt(at), value);
        prop_assert_eq!(change.apply(before) % 0xffff, checksum::checksum(&options) % 0xffff);
        prop_assert_eq!(timestamp_value(&options, TimestampsAt(at)), value);
    }

    #[test]
    fn rebuilding_keeps_order_and_bounds(bytes in proptest::collection::vec(0u8..12, 0..=40)) {
        let bytes = &bytes[..bytes.len() / 4 * 4];
        prop_assume!(find_timestamps(bytes).is_ok());
        let without: Vec<u8> = kinds(bytes).into_iter().filter(|k| *k != 8).collect();
        prop_assert_eq!(kinds(strip_timestamps(bytes).as_bytes()), without);
        // They go into segments that have none.
        if let (Ok(None), Some(rebuilt)) =
            (find_timestamps(bytes), squeeze_in_timestamps(bytes, SEVEN))
        {
            prop_assert!(rebuilt.as_bytes().len().is_multiple_of(4));
            prop_assert!(find_timestamps(rebuilt.as_bytes()).is_ok());
        }
    }
}
