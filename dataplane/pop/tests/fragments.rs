//! Fragments through the binary: captures of them go in on one queue or on two, and whole segments
//! come out, or nothing, and every frame is accounted for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Config, Folder, Pop, WAN_MAC, pcap};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 10), 443);
/// No-operation twice, and timestamps.
const TIMESTAMPS: &[u8] = &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
const REASSEMBLE: &str = "reassemble";

/// A segment of client `number` with `len` bytes that tell it apart.
fn segment(number: u16, len: usize) -> Vec<u8> {
    let client = (Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8), 1000 + number);
    let payload: Vec<u8> = (0..len).map(|at| (at * 31 + usize::from(number) * 7) as u8).collect();
    let numbers = (pcap::ACK, u32::from(number), 1);
    pcap::data_segment(WAN_MAC, client, VIP, numbers, TIMESTAMPS, &payload)
}

/// The part `from..to` of an IPv4 datagram's payload as a fragment with this ID.
fn fragment(frame: &[u8], id: u16, from: usize, to: usize, more: bool) -> Vec<u8> {
    let payload = &frame[34..];
    let part: Vec<u8> = (from..to).map(|at| payload.get(at).copied().unwrap_or(0)).collect();
    let mut header = frame[14..34].to_vec();
    header[2..4].copy_from_slice(&((20 + part.len()) as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
    header[6..8].copy_from_slice(&word.to_be_bytes());
    header[10..12].fill(0);
    let sum = pcap::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut fragment = [&frame[..14], &header, &part].concat();
    // Ethernet pads what is too short, with anything.
    fragment.resize(fragment.len().max(60), 0xa5);
    fragment
}

/// A datagram in pieces of `size` bytes of payload.
fn cut(frame: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - 34;
    let piece = |from| fragment(frame, id, from, (from + size).min(len), from + size < len);
    (0..len).step_by(size).map(piece).collect()
}

const VIP6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x10), 443);
const SERVICE6: &str = "[[relay]]\nname = \"web6\"\nvip = \"[2001:db8:ff::10]:443\"\n\
    targets = [\"[2001:db8:9::10]:443\"]\negress = \"transparent\"\n";

/// [`segment`] over IPv6.
fn segment6(number: u16, len: usize) -> Vec<u8> {
    let client = (Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, number), 1000 + number);
    let payload: Vec<u8> = (0..len).map(|at| (at * 31 + usize::from(number) * 7) as u8).collect();
    let numbers = (pcap::ACK, u32::from(number), 1);
    pcap::data_segment6(WAN_MAC, client, VIP6, numbers, TIMESTAMPS, &payload)
}

/// [`fragment`] over IPv6.
fn fragment6(frame: &[u8], id: u32, from: usize, to: usize, more: bool) -> Vec<u8> {
    let payload = &frame[54..];
    let part: Vec<u8> = (from..to).map(|at| payload.get(at).copied().unwrap_or(0)).collect();
    let mut fragment = frame[..54].to_vec();
    fragment[18..20].copy_from_slice(&((8 + part.len()) as u16).to_be_bytes());
    fragment[20] = 44;
    fragment.extend([6, 0]);
    fragment.extend((from as u16 | u16::from(more)).to_be_bytes());
    fragment.extend(id.to_be_bytes());
    fragment.extend(part);
    fragment
}

/// [`cut`] over IPv6.
fn cut6(frame: &[u8], id: u32, size: usize) -> Vec<Vec<u8>> {
    let len = frame.len() - 54;
    let piece = |from| fragment6(frame, id, from, (from + size).min(len), from + size < len);
    (0..len).step_by(size).map(piece).collect()
}

/// A config with a service over IPv6 too.
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

/// A POP whose port wan receives `queues`, each from a capture of its own.
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

    /// Waits until every frame that came in is out again or counted, and no buffer is in use.
    fn settle(&mut self, received: usize) {
        self.pop.wait_for_frames(received);
        self.pop.wait_for("to keep nothing", |pop| {
            let metrics = pop.metrics();
            metrics.sum("anyrelay_fragments_waiting", &[]) == 0
                && metrics.sum("anyrelay_frame_buffers", &[("state", "used")]) == 0
        });
        // What waited too long is freed all at once, but counted bit by bit.
        self.pop.wait_until_idle();
    }

    /// Settles, and checks that every fragment became part of a datagram or was dropped.
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

    /// Ends the POP, and returns what it sent to the target.
    fn end(mut self) -> Vec<Vec<u8>> {
        self.pop.stop();
        pcap::frames(&fs::read(self.folder.path("lan.pcap")).unwrap())
    }
}

/// Datagrams in fragments, sprayed over two queues in any order: each comes out once, whole.
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
    // However slow the machine is: nothing is to be given up here.
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
        // A correct header and segment checksum: that of the whole, over what came out.
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

/// Nothing of these is forwarded; what was kept is given up in time, though nothing comes in.
#[test]
fn attacks_yield_nothing() {
    let frame = segment(1, 400);
    let whole = frame.len() - 34;
    let part = |id, from, to, more| fragment(&frame, id, from, to, more);
    let attacks: Vec<(&str, Vec<Vec<u8>>)> = vec![
        // Ports in one, flags in another; then the rest of it.
        ("fragment_tiny", vec![part(1, 0, 8, true), part(1, 8, whole, false)]),
        ("fragment_tiny", vec![part(2, 0, 24, true), part(2, 24, whole, false)]),
        // The header written over after it was looked at.
        ("fragment_tiny", vec![part(3, 0, 32, true), part(3, 8, whole, false)]),
        ("fragment_conflict", vec![part(4, 0, 32, true), part(4, 24, whole, false)]),
        ("fragment_conflict", vec![part(5, 0, 40, true), part(5, 0, 48, true)]),
        // Sums that come out right, with one byte twice and another never.
        (
            "fragment_conflict",
            vec![part(6, 0, 40, true), part(6, 40, 80, true), part(6, 48, 88, true)],
        ),
        // Another end.
        ("fragment_conflict", vec![part(7, 40, 80, false), part(7, 80, 88, false)]),
        ("fragment_too_long", vec![part(8, 65_528, 65_600, false)]),
        ("fragment_too_long", vec![part(9, 4000, 4040, true)]),
        ("fragment_malformed", vec![part(10, 40, 47, true)]),
        ("fragment_malformed", vec![part(11, 40, 40, false)]),
        // More than eight pieces.
        ("fragment_too_many", (5..14).map(|at| part(12, at * 8, at * 8 + 8, true)).collect()),
        // Never whole.
        ("fragment_timeout", (100..140).map(|id| part(id, 0, 40, true)).collect()),
        // To others.
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
    // The second halves of those that were refused at once wait in vain.
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

/// Over IPv6: the first fragment first, and the last one first; in two, and in many.
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

/// As over IPv4, none of these is forwarded (RFC 5722); one that is all of its datagram is (RFC 6946).
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

/// A flood of incomplete datagrams of one network takes no room from other networks, whose datagrams
/// are reassembled meanwhile.
#[test]
fn a_flood_from_one_network_leaves_places_for_others() {
    let mut frames = Vec::new();
    for number in 0..1500 {
        // 10.0.0.0/24 floods; what others send is whole with its third fragment.
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

/// A flood of datagrams of many networks that never become whole holds no more than its share, and what
/// comes whole passes meanwhile.
#[test]
fn a_flood_of_fragments_leaves_buffers_for_others() {
    let mut frames = Vec::new();
    for number in 0..1500u16 {
        let mut other = segment(number, 400);
        // Of 10.x.y.0/24 each.
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
    // Of networks that share both places with others, the last few may find those' share used up.
    let (full, share) = (run.drops("fragment_table_full"), run.drops("fragment_share"));
    assert_eq!(full + share, 1500 - 64, "{full}, {share}");
    assert!(share < 10, "{share}");
    assert_eq!(run.sum("anyrelay_service_packets_total"), 100);
    // Ends with fragments in the table, and says so.
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
