//! Room for services, and what two workers counted alike.

use super::*;

const SLOTS: [ServiceSlot; 2] = [ServiceSlot(0), ServiceSlot(255)];

#[test]
fn room_is_made_beside_what_is_counted() {
    let counters = Counters::new(SLOTS);
    SLOTS.into_iter().for_each(|slot| counters.service(slot).up.add(1, 60));
    counters.make_room([ServiceSlot(255), ServiceSlot(7)]);
    counters.service(ServiceSlot(7)).up.add(2, 80);
    let packets = [0, 7, 255].map(|slot| counters.service(ServiceSlot(slot)).up.packets.get());
    assert_eq!(packets, [1, 2, 1]);
    assert_eq!(counters.services().map(|of| of.up.bytes.get()).sum::<u64>(), 200);
}

#[test]
fn counters_agree_unless_something_else_became_of_a_frame() {
    let of = |count: fn(&Counters)| {
        let counters = Counters::new(SLOTS);
        count(&counters);
        counters
    };
    let none = of(|_| {});
    let alike: [fn(&Counters); 3] =
        [|all| all.fast_frames.add(1), |all| all.busy_polls.add(1), |all| all.idle_polls.add(1)];
    assert!(alike.into_iter().all(|count| of(count).agrees(&none)));
    let other: [fn(&Counters); 9] = [
        |all| all.count_drop(PortIndex(1), None, DropReason::BadTag),
        |all| all.service(SLOTS[1]).target(63).traffic(Towards::Targets).add(1, 60),
        |all| all.count_reply(ReplyKind::Echo),
        |all| all.count_withheld(ReplyKind::Echo),
        |all| all.count_absorbed(AbsorbKind::PendingRst),
        |all| all.count_issued_elsewhere(255),
        |all| all.fragments.waiting.set(1),
        |all| all.hints.sent.add(1),
        |all| all.service(ServiceSlot(9)).down.add(1, 60),
    ];
    for (number, count) in other.into_iter().enumerate() {
        assert!(!of(count).agrees(&none), "{number}");
        assert!(of(count).agrees(&of(count)), "{number}");
    }
}
