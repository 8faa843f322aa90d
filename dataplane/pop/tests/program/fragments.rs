//! Fragments through the binary: captures on one queue or on two result in complete segments, or in
//! none, and every frame is accounted for.
use std::collections::HashMap;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::common::fragments::{cut, cut6, fragment, fragment6, segment, segment6};
use crate::common::{Config, Folder, Pop, pcap};

const REASSEMBLE: &str = "reassemble";
const SERVICE6: &str = "[[relay]]\nname = \"web6\"\nvip = \"[2001:db8:ff::10]:443\"\n\
    targets = [\"[2001:db8:9::10]:443\"]\negress = \"transparent\"\n";

/// A config that has a service over IPv6 too.
fn config6() -> Config {
    let mut config = Config::new();
    config.ipv6 = true;
    config.services += SERVICE6;
    config
}

struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        Random(seed)
    }

    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }
}

/// A POP whose port wan has `queues`, each with a capture.
struct Run {
    folder: Folder,
    pop: Pop,
}

impl Run {
    fn start(mut config: Config, policy: &'static str, queues: &[Vec<Vec<u8>>]) -> Run {
        let folder = Folder::new();
        let mut wan = "net_pcap0".to_owned();
        for (number, frames) in queues.iter().enumerate() {
            let path = folder.write(&format!("in{number}.pcap"), pcap::capture(frames));
            wan += &format!(",rx_pcap={}", path.display());
        }
        config.wan = format!("{wan},tx_pcap={}", folder.path("wan.pcap").display());
        let nothing = folder.write("nothing.pcap", pcap::capture(&[]));
        let lan = folder.path("lan.pcap");
        config.lan = format!("net_pcap1,rx_pcap={},tx_pcap={}", nothing.display(), lan.display());
        config.fragments = policy;
        config.wan_queues = queues.len();
        let pop = Pop::start(&folder.pop(&config), config.metrics, &[]);
        Run { folder, pop }
    }

    /// Waits until every received frame is sent or counted, and no buffer is in use.
    fn settle(&mut self, received: usize) {
        self.pop.wait_for_frames(received);
        self.pop.wait_for("to keep nothing", |pop| {
            let metrics = pop.metrics();
            metrics.sum("anyrelay_fragments_waiting", &[]) == 0
                && metrics.sum("anyrelay_frame_buffers", &[("state", "used")]) == 0
        });
        // Expired fragments are freed at once, but counted gradually.
        self.pop.wait_until_idle();
    }

    /// Settles, and checks that every fragment was reassembled or dropped.
    fn account(&mut self, received: usize) {
        self.settle(received);
        let metrics = self.pop.metrics();
        let whole = metrics.sum("anyrelay_reassembled_fragments_total", &[]);
        let dropped = metrics.sum("anyrelay_drops_total", &[("port", "wan")]);
        assert_eq!(whole + dropped, received as u64, "{:?}", metrics.drops());
    }

    fn drops(&self, reason: &str) -> u64 {
        self.pop.metrics().sum("anyrelay_drops_total", &[("reason", reason)])
    }

    fn sum(&self, name: &str) -> u64 {
        self.pop.metrics().sum(name, &[])
    }

    /// Stops the POP, and returns its frames to the target.
    fn end(mut self) -> Vec<Vec<u8>> {
        self.pop.stop();
        pcap::frames(&fs::read(self.folder.path("lan.pcap")).unwrap())
    }
}

/// Fragments sprayed over two queues in random order: each datagram is reassembled once.
fn sprayed(layout: &'static str, workers: Vec<&'static str>) {
    const DATAGRAMS: u16 = 250;
    let mut random = Random::new();
    let mut queues = [Vec::new(), Vec::new()];
    let mut sent = 0;
    for number in 0..DATAGRAMS {
        let frame = segment(number, 700 + random.below(700));
        let mut pieces = cut(&frame, number, 8 * (32 + random.below(60)));
        sent += pieces.len();
        while !pieces.is_empty() {
            let piece = pieces.swap_remove(random.below(pieces.len()));
            queues[random.below(2)].push(piece);
        }
    }
    let mut config = Config::new();
    config.layout = layout;
    config.workers = workers;
    // No datagram may expire, however slow the machine is.
    config.services += "[fragments]\ntimeout_ms = 30000\n";
    let mut run = Run::start(config, REASSEMBLE, &queues);
    run.account(sent);
    assert_eq!(run.pop.metrics().drops(), Vec::<String>::new());
    assert_eq!(run.sum("anyrelay_reassembled_datagrams_total"), u64::from(DATAGRAMS));
    let handed_over = run.sum("anyrelay_fragments_handed_over_total");
    assert!(handed_over > sent as u64 / 4, "{handed_over} of {sent}");
    let frames = run.end();
    assert_eq!(frames.len(), usize::from(DATAGRAMS));
    let mut seen = HashMap::new();
    for frame in &frames {
        let number = u32::from_be_bytes(frame[38..42].try_into().unwrap()) as u16;
        *seen.entry(number).or_insert(0) += 1;
        let want = segment(number, frame.len() - 66);
        assert_eq!(frame[66..], want[66..], "the payload of {number}");
        // The header checksum, and that of the segment in the datagram, are correct.
        assert_eq!(pcap::checksum(&frame[14..34]), 0);
        assert_eq!(pcap::tcp_checksum(&frame[26..34], &frame[34..]), 0, "{number}");
    }
    assert!(seen.values().all(|&count| count == 1));
}

#[test]
fn fragments_meet_on_one_worker() {
    sprayed("run-to-completion", vec![r#""wan:0", "lan:0""#, r#""wan:1""#]);
}

#[test]
fn fragments_meet_on_one_worker_of_a_pipeline() {
    // The third worker only sends: it reassembles no datagram.
    sprayed("pipeline", vec![r#""wan:0", "lan:0""#, r#""wan:1""#, ""]);
}

/// None of these is forwarded; kept fragments expire in time, also without further input.
#[test]
fn attacks_yield_nothing() {
    let frame = segment(1, 400);
    let whole = frame.len() - 34;
    let part = |id, from, to, more| fragment(&frame, id, from, to, more);
    let attacks: Vec<(&str, Vec<Vec<u8>>)> = vec![
        // Ports in one fragment, flags in another; then the rest.
        ("fragment_tiny", vec![part(1, 0, 8, true), part(1, 8, whole, false)]),
        ("fragment_tiny", vec![part(2, 0, 24, true), part(2, 24, whole, false)]),
        // The second overwrites the checked header.
        ("fragment_tiny", vec![part(3, 0, 32, true), part(3, 8, whole, false)]),
        ("fragment_conflict", vec![part(4, 0, 32, true), part(4, 24, whole, false)]),
        ("fragment_conflict", vec![part(5, 0, 40, true), part(5, 0, 48, true)]),
        // The total is right, with one byte twice and another missing.
        (
            "fragment_conflict",
            vec![part(6, 0, 40, true), part(6, 40, 80, true), part(6, 48, 88, true)],
        ),
        // A second end.
        ("fragment_conflict", vec![part(7, 40, 80, false), part(7, 80, 88, false)]),
        ("fragment_too_long", vec![part(8, 65_528, 65_600, false)]),
        ("fragment_too_long", vec![part(9, 4000, 4040, true)]),
        ("fragment_malformed", vec![part(10, 40, 47, true)]),
        ("fragment_malformed", vec![part(11, 40, 40, false)]),
        // More than eight fragments.
        ("fragment_too_many", (5..14).map(|at| part(12, at * 8, at * 8 + 8, true)).collect()),
        // Never complete.
        ("fragment_timeout", (100..140).map(|id| part(id, 0, 40, true)).collect()),
        // To other destinations.
        (
            "not_ours",
            vec![{
                let mut other = frame.clone();
                other[30..34].copy_from_slice(&[203, 0, 113, 99]);
                fragment(&other, 13, 0, 40, true)
            }],
        ),
        (
            "protocol",
            vec![{
                let mut udp = frame.clone();
                udp[23] = 17;
                fragment(&udp, 14, 0, 40, true)
            }],
        ),
    ];
    let frames: Vec<_> = attacks.iter().flat_map(|(_, frames)| frames.clone()).collect();
    let mut config = Config::new();
    config.services += "[fragments]\ntimeout_ms = 300\n";
    let mut run = Run::start(config, REASSEMBLE, std::slice::from_ref(&frames));
    run.account(frames.len());
    assert_eq!(run.sum("anyrelay_reassembled_datagrams_total"), 0);
    // The second halves of refused datagrams expire.
    for (reason, count) in [
        ("fragment_tiny", 4),
        ("fragment_conflict", 9),
        ("fragment_too_long", 2),
        ("fragment_malformed", 2),
        ("fragment_too_many", 9),
        ("fragment_timeout", 42),
        ("not_ours", 1),
        ("protocol", 1),
    ] {
        assert_eq!(run.drops(reason), count, "{reason}: {:?}", run.pop.metrics().drops());
    }
    assert_eq!(run.end(), Vec::<Vec<u8>>::new());
}

/// Over IPv6: the first fragment first, and the last one first; in two fragments, and in many.
#[test]
fn fragments_of_ipv6_meet_in_any_order() {
    const DATAGRAMS: u16 = 100;
    let mut queues = [Vec::new(), Vec::new()];
    for number in 0..DATAGRAMS {
        let frame = segment6(number, 1000 + usize::from(number));
        let mut pieces = cut6(&frame, u32::from(number) << 16, if number < 50 { 800 } else { 160 });
        if number % 2 == 1 {
            pieces.reverse();
        }
        let sent = pieces.into_iter().zip(usize::from(number)..);
        sent.for_each(|(piece, at)| queues[at % 2].push(piece));
    }
    let sent = queues.iter().map(Vec::len).sum();
    let mut config = config6();
    config.workers = vec![r#""wan:0", "lan:0""#, r#""wan:1""#];
    config.services += "[fragments]\ntimeout_ms = 30000\n";
    let mut run = Run::start(config, REASSEMBLE, &queues);
    run.account(sent);
    assert_eq!(run.pop.metrics().drops(), Vec::<String>::new());
    assert_eq!(run.sum("anyrelay_reassembled_datagrams_total"), u64::from(DATAGRAMS));
    let mut frames = run.end();
    frames.sort_by_key(|frame| frame[58..62].to_vec());
    assert_eq!(frames.len(), usize::from(DATAGRAMS));
    for (number, frame) in (0..).zip(&frames) {
        let want = segment6(number, 1000 + usize::from(number));
        assert_eq!(frame[12..21], want[12..21], "a header without fragments, and its length");
        assert_eq!(frame[22..38], want[22..38], "from the client");
        assert_eq!(frame[86..], want[86..], "the payload of {number}");
        assert_eq!(pcap::tcp_checksum(&frame[22..54], &frame[54..]), 0, "{number}");
    }
}

/// As over IPv4, none of these is forwarded (RFC 5722), except an atomic fragment (RFC 6946).
#[test]
fn attacks_over_ipv6_yield_nothing() {
    let frame = segment6(1, 400);
    let whole = frame.len() - 54;
    let part = |id, from, to, more| fragment6(&frame, id, from, to, more);
    let frames = vec![
        part(1, 0, 8, true),
        part(2, 0, 40, true),
        part(2, 32, whole, false),
        part(2, 40, whole, false),
        part(3, 40, whole, false),
        part(3, 0, 48, true),
        part(4, 40, 47, true),
        part(5, 65_520, 65_552, false),
        part(6, 0, 40, true),
        part(7, 0, whole, false),
    ];
    let mut config = config6();
    config.services += "[fragments]\ntimeout_ms = 300\n";
    let mut run = Run::start(config, REASSEMBLE, std::slice::from_ref(&frames));
    run.settle(frames.len());
    assert_eq!(run.sum("anyrelay_reassembled_datagrams_total"), 0);
    for (reason, count) in [
        ("fragment_tiny", 1),
        ("fragment_conflict", 5),
        ("fragment_malformed", 1),
        ("fragment_too_long", 1),
        ("fragment_timeout", 1),
    ] {
        assert_eq!(run.drops(reason), count, "{reason}: {:?}", run.pop.metrics().drops());
    }
    let frames = run.end();
    assert_eq!(frames.len(), 1, "the one that is whole");
    assert_eq!(frames[0][86..], frame[86..]);
}

/// A flood of incomplete datagrams of one network takes no room from other networks, whose
/// datagrams are still reassembled.
#[test]
fn a_flood_from_one_network_leaves_places_for_others() {
    let mut frames = Vec::new();
    for number in 0..1500 {
        // 10.0.0.0/24 floods; the datagrams of other networks are complete with their third
        // fragment.
        frames.push(fragment(&segment(number % 256, 400), number, 0, 200, true));
        if number >= 256 && number % 15 == 0 {
            frames.extend(cut(&segment(number, 400), number, 200));
        }
    }
    let mut config = Config::new();
    config.services += "[fragments]\ntimeout_ms = 30000\nbuffers = 100\ndatagrams = 64\n";
    let mut run = Run::start(config, REASSEMBLE, std::slice::from_ref(&frames));
    run.pop.wait_for_frames(frames.len());
    assert_eq!(run.sum("anyrelay_fragments_waiting"), 16, "a quarter");
    assert_eq!(run.drops("fragment_share"), 1500 - 16);
    let others = (256..1500).filter(|number| number % 15 == 0).count();
    assert_eq!(run.sum("anyrelay_reassembled_datagrams_total"), others as u64);
    assert_eq!(run.end().len(), others);
}

/// A flood of incomplete datagrams of many networks takes no more than its share, and complete
/// datagrams are still reassembled.
#[test]
fn a_flood_of_fragments_leaves_buffers_for_others() {
    let mut frames = Vec::new();
    for number in 0..1500u16 {
        let mut other = segment(number, 400);
        // One of each 10.x.y.0/24.
        other[27..29].copy_from_slice(&number.to_be_bytes());
        frames.push(fragment(&other, number, 0, 200, true));
        if number % 15 == 0 {
            frames.push(segment(number, 400));
        }
    }
    let mut config = Config::new();
    config.services += "[fragments]\ntimeout_ms = 30000\nbuffers = 100\ndatagrams = 64\n";
    let mut run = Run::start(config, REASSEMBLE, std::slice::from_ref(&frames));
    run.pop.wait_for_frames(frames.len());
    assert_eq!(run.sum("anyrelay_fragments_waiting"), 64);
    // Networks that share both buckets with others may find their share used up.
    let (full, share) = (run.drops("fragment_table_full"), run.drops("fragment_share"));
    assert_eq!(full + share, 1500 - 64, "{full}, {share}");
    assert!(share < 10, "{share}");
    assert_eq!(run.sum("anyrelay_service_packets_total"), 100);
    // The POP stops with fragments in the table, and reports them.
    run.pop.stop();
    let log = run.pop.log();
    let line = log.lines().find(|line| line.contains("stopped")).unwrap();
    assert!(line.contains("unsent=0 fragments=64"), "{line}");
    let sent = pcap::frames(&fs::read(run.folder.path("lan.pcap")).unwrap());
    assert_eq!(sent.len(), 100);
}

#[test]
fn the_policy_to_drop_drops_every_one() {
    let frames = cut(&segment(1, 1000), 1, 400);
    let mut run = Run::start(Config::new(), "drop", std::slice::from_ref(&frames));
    run.account(frames.len());
    assert_eq!(run.drops("fragment"), frames.len() as u64);
    assert_eq!(run.end(), Vec::<Vec<u8>>::new());
}
