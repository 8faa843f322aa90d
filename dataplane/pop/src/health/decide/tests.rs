use anyrelay_core::config::{MAX_EVENTS, MEMORY_MS, SKEW_MS, Target, harm};

use super::*;

const START: UnixTime = UnixTime::from_millis(1_800_000_000_000);
const RULES: Rules = Rules { floor: Floor::Targets(1), lead_ms: 10_000, hold_ms: 60_000 };

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 80))
}

fn seconds(seconds: u64) -> UnixTime {
    START.plus_millis(seconds * 1000)
}

/// A file, and what health took out of it.
struct Files {
    rules: Rules,
    list: TargetList,
    outs: Outs,
}

impl Files {
    fn of(entries: Vec<Target>) -> Files {
        let list = TargetList { serial: 7, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries };
        Files { rules: RULES, list, outs: Outs::default() }
    }

    /// Targets 1 to `count`, with weights 3, 1, 1, ...
    fn with(count: u8) -> Files {
        let target = |n| Target::always(address(n), if n == 1 { 3 } else { 1 });
        Files::of((1..=count).map(target).collect())
    }

    /// Decides at a time at which the targets `down` are down, and writes.
    fn at(&mut self, now: UnixTime, down: &[u8]) -> Decision {
        let known = Known { list: &self.list, outs: &self.outs, now };
        let is_up = |at| Some(!down.iter().any(|n| address(*n) == at));
        let decision = self.rules.decide(known, is_up);
        if let Some(next) = &decision.list {
            // No connection breaks at a POP that gets the file as late as the lead permits.
            let latest = now.plus_millis(self.rules.lead_ms);
            assert_eq!(harm(&self.list, next, latest), None, "{next:?}");
            let read = TargetList::parse("", &next.to_text());
            assert!(read.is_ok_and(|read| read.events() == next.events()), "{next:?}");
            assert_eq!(next.serial, self.list.serial + 1);
            self.list = next.clone();
        }
        self.outs = decision.outs.clone();
        decision
    }

    fn entries(&self, n: u8) -> Vec<(UnixTime, UnixTime, UnixTime, u16)> {
        let own = self.list.entries.iter().filter(|target| target.address == address(n));
        own.map(|target| (target.since, target.until, target.gone, target.weight)).collect()
    }

    fn standing(&self, n: u8, time: UnixTime) -> Standing {
        self.outs.standing(&self.list, address(n), time)
    }
}

const NEVER: UnixTime = UnixTime::NEVER;

#[test]
fn a_target_goes_out_with_a_date_and_comes_back_with_its_weight() {
    let mut files = Files::with(3);
    assert_eq!(files.at(START, &[]).list, None);
    let decision = files.at(seconds(1).plus_millis(1), &[1]);
    // The lead of 10 s, twice the skew, and up to a whole second.
    let (until, gone) = (seconds(18), seconds(24));
    assert_eq!((decision.at, &decision.downs[..]), (until, &[address(1)][..]));
    assert_eq!(files.entries(1), [(UnixTime::default(), until, gone, 3)]);
    assert_eq!(files.list.serial, 8);
    let decision = files.at(seconds(20), &[1]);
    assert_eq!((decision.list, decision.withheld), (None, Vec::new()));
    // It stays out for a minute at least.
    let decision = files.at(seconds(30), &[]);
    assert_eq!(decision.list, None);
    assert!(matches!(decision.withheld[..], [(at, Withheld::Hold(_))] if at == address(1)));
    let decision = files.at(seconds(80), &[]);
    assert_eq!((decision.at, &decision.ups[..]), (seconds(96), &[address(1)][..]));
    assert_eq!(files.entries(1)[1], (seconds(96), NEVER, NEVER, 3));
    assert_eq!(files.outs, Outs::default());
}

#[test]
fn targets_that_change_together_have_one_date() {
    let mut files = Files::with(6);
    let decision = files.at(START, &[2, 3, 4]);
    assert_eq!(decision.downs, [address(2), address(3), address(4)]);
    assert_eq!((files.list.serial, files.list.events().len()), (8, 1));
    let decision = files.at(seconds(200), &[4, 5]);
    assert_eq!(decision.downs, [address(5)]);
    assert_eq!(decision.ups, [address(2), address(3)]);
    assert_eq!((files.list.serial, files.list.events().len()), (9, 2));
}

#[test]
fn the_floor_holds() {
    let mut files = Files::with(4);
    files.rules.floor = Floor::Percent(50);
    let decision = files.at(START, &[1, 2, 3]);
    assert_eq!(decision.downs, [address(1), address(2)]);
    assert_eq!(decision.withheld, [(address(3), Withheld::Floor)]);
    // One comes back, so that the other may go.
    let decision = files.at(seconds(200), &[2, 3]);
    assert_eq!((&decision.ups[..], &decision.downs[..]), (&[address(1)][..], &[address(3)][..]));
    // Of the last one a number is not needed.
    let mut files = Files::with(2);
    let decision = files.at(START, &[1, 2]);
    assert_eq!(
        (decision.downs, decision.withheld),
        (vec![address(1)], vec![(address(2), Withheld::Floor)])
    );
    // A floor above all holds all.
    files.rules.floor = Floor::Targets(5);
    assert_eq!(files.at(seconds(10), &[1, 2]).withheld, [(address(2), Withheld::Floor)]);
}

#[test]
fn who_is_back_is_not_held_up_where_the_floor_needs_it() {
    let mut files = Files::with(3);
    files.rules.floor = Floor::Targets(2);
    files.at(START, &[1]);
    let decision = files.at(seconds(20), &[]);
    assert!(matches!(decision.withheld[..], [(_, Withheld::Hold(_))]), "{decision:?}");
    let decision = files.at(seconds(30), &[2, 3]);
    assert_eq!((&decision.ups[..], &decision.downs[..]), (&[address(1)][..], &[address(2)][..]));
    assert_eq!(decision.withheld, [(address(3), Withheld::Floor)]);
}

#[test]
fn a_drain_that_is_planned_counts_for_the_floor() {
    let drained = Target { until: seconds(3600), ..Target::always(address(2), 1) };
    let mut files = Files::of(vec![Target::always(address(1), 1), drained]);
    let decision = files.at(START, &[1]);
    assert_eq!((decision.list, decision.withheld), (None, vec![(address(1), Withheld::Floor)]));
}

#[test]
fn what_an_operator_drained_or_plans_is_left_alone() {
    let always = |n| Target::always(address(n), 1);
    let mut files = Files::of(vec![
        always(1),
        Target { until: seconds(0), ..always(2) },
        Target { until: seconds(0), gone: seconds(6), ..always(3) },
        Target { until: seconds(3600), ..always(4) },
        Target { since: seconds(3600), ..always(5) },
    ]);
    for down in [&[][..], &[2, 3, 4, 5]] {
        let decision = files.at(seconds(100), down);
        assert_eq!((decision.list, decision.withheld), (None, Vec::new()), "{down:?}");
    }
    // When the fifth begins, it goes out at once.
    assert_eq!(files.at(seconds(3584), &[5]).downs, [address(5)]);
    assert!(
        !files
            .list
            .entries
            .iter()
            .any(|target| target.takes_new(seconds(3601)) && target.address == address(5))
    );
    let decision = files.at(seconds(4000), &[]);
    assert_eq!(decision.ups, [address(5)]);
}

#[test]
fn who_is_drained_while_health_has_it_out_stays_out() {
    let mut files = Files::with(3);
    files.at(START, &[1]);
    // The operator removes it.
    files.list.entries.retain(|target| target.address != address(1));
    let decision = files.at(seconds(200), &[]);
    assert_eq!((decision.list, decision.outs), (None, Outs::default()));
}

#[test]
fn a_target_that_is_out_for_days_comes_back() {
    let mut files = Files::with(4);
    files.at(START, &[1]);
    let day = MEMORY_MS / 1000;
    // Other changes leave what is old out of the file.
    files.at(seconds(3 * day), &[1, 2]);
    assert_eq!(files.entries(1), []);
    files.at(seconds(4 * day), &[1]);
    let decision = files.at(seconds(5 * day), &[]);
    assert_eq!(decision.ups, [address(1)]);
    assert_eq!(files.entries(1), [(decision.at, NEVER, NEVER, 3)]);
}

#[test]
fn a_target_that_flaps_leaves_room_for_others() {
    let mut files = Files::with(4);
    for turn in 0..50 {
        files.at(seconds(turn * 400), &[1]);
        files.at(seconds(turn * 400 + 200), &[]);
        assert!(files.list.events().len() < MAX_EVENTS / 2, "{:?}", files.list);
    }
    let decision = files.at(seconds(50 * 400), &[2]);
    assert_eq!(decision.downs, [address(2)]);
    assert_eq!(files.standing(1, decision.at), Standing::Takes);
}

#[test]
fn whatever_happens_the_file_follows_and_no_connection_breaks() {
    let seed = match std::env::var("ANYRELAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::process::id().into(),
    };
    println!("ANYRELAY_SEED={seed}");
    let mut state: u64 = seed;
    let mut random = |below: u64| {
        // Knuth's MMIX generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20 {
        let mut files = Files::with(6);
        files.rules.floor = Floor::Targets(1 + random(3) as usize);
        let mut down = Vec::new();
        let mut now = 0;
        for _ in 0..60 {
            let longest = if random(5) == 0 { 40_000 } else { 120 };
            now += 1 + random(longest);
            let n = 1 + random(6) as u8;
            match down.iter().position(|other| *other == n) {
                Some(place) => drop(down.remove(place)),
                None => down.push(n),
            }
            let decision = files.at(seconds(now), &down);
            for n in 1..=6 {
                let standing = files.standing(n, decision.at);
                let is_withheld = decision.withheld.iter().any(|(at, _)| *at == address(n));
                match standing {
                    Standing::Takes => assert!(!down.contains(&n) || is_withheld),
                    Standing::Out(_) => assert!(down.contains(&n) || is_withheld),
                    other => panic!("{n}: {other:?}"),
                }
            }
            let epoch = files.list.epochs().pop().unwrap();
            assert!(epoch.members.len() >= files.rules.floor.of(6), "{epoch:?}");
        }
        // In the end all are healthy, and back after some time.
        for _ in 0..6 {
            now += MEMORY_MS / 1000;
            files.at(seconds(now), &[]);
        }
        let weights: Vec<_> =
            (1..=6).filter_map(|n| files.entries(n).pop()).map(|entry| entry.3).collect();
        assert_eq!(weights, [3, 1, 1, 1, 1, 1]);
        assert_eq!(files.outs, Outs::default());
    }
}
