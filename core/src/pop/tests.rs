//! A cycle walk beyond its limit: no frame brings it about with a mapping that a config can have.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::*;
use crate::config::Config;
use crate::frame::HeapFrame;
use crate::keys::{KeyFile, Tenants};
use crate::verdict::DropReason;
use crate::wire::MacAddr;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::{checksum, ipv4, put_u16, put_u32};

const CONFIG: &str = r#"
[pop]
name = "pop1"
id = 1
keys = "keys.toml"
[[port]]
name = "all"
device = "all"
side = "both"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.2/24"]
gateways = ["192.0.2.1"]
gateway_macs = ["02:00:00:00:00:02"]
[[worker]]
core = 0
rx = ["all:0"]
[[relay]]
name = "web"
vip = "203.0.113.10:443"
targets = ["198.51.100.10:8443"]
egress = { pool = "203.0.115.0/24" }
"#;

struct Nowhere;

impl Output<HeapFrame> for Nowhere {
    fn transmit(&mut self, _: PortIndex, _: HeapFrame) {
        panic!("something was sent");
    }

    fn allocate(&mut self) -> Option<HeapFrame> {
        Some(HeapFrame::default())
    }
}

/// A segment with timestamps, ACK set; its TCP checksum does not matter here.
fn segment(src: u32, dst: u32, ports: u32) -> HeapFrame {
    let mut frame = [0; 14 + 52];
    let mac = |last| MacAddr::new([2, 0, 0, 0, 0, last]);
    let ethertype = ethernet::TYPE_IPV4;
    Ethernet { dst: mac(1), src: mac(2), vlan: None, ethertype }.write(&mut frame);
    let (total_len, protocol) = (52, ipv4::PROTOCOL_TCP);
    let header = ipv4::Header { total_len, protocol, src, dst, ..ipv4::ORIGINATED };
    header.write(&mut frame[14..]);
    assert!(checksum::is_valid(&frame[14..34]));
    put_u32(&mut frame, 34, ports);
    put_u16(&mut frame, 34 + 12, 0x8010);
    put_u32(&mut frame, 34 + 20, 0x0101_080a);
    put_u32(&mut frame, 34 + 28, 77);
    HeapFrame::new(&frame)
}

#[test]
fn a_walk_that_is_given_up_drops_the_frame() {
    let config = Config::parse("pop.toml", CONFIG).unwrap();
    let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    let mut snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None).unwrap();
    snapshot.limit_cycles();
    let soft = Arc::new(SoftState::new(&snapshot, &[MacAddr::new([2, 0, 0, 0, 0, 1])]));
    let counters = Arc::new(Counters::default());
    let mut pop = Pop::new(soft, counters.clone());
    let (client, vip, target, egress) = (0xc612_0001, 0xcb00_710a, 0xc633_640a, 0xcb00_7301);
    let mut frames: ArrayVec<_, BURST> =
        [segment(client, vip, 4000 << 16 | 443), segment(target, egress, 8443 << 16 | 5000)]
            .into_iter()
            .collect();
    let port = PortIndex(0);
    pop.handle_burst(Now::from_millis(5), &snapshot, port, &mut frames, &mut Nowhere);
    assert_eq!(counters.drops(port, DropReason::CycleLimit), 2);
}
