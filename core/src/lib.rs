//! The pure POP of anyrelay.
//!
//! A POP is a pure function: `(frame, clock, config with keys) -> frames`. This crate is that
//! function and nothing else: it does no I/O, reads no clock, draws no random numbers, knows no
//! DPDK and contains no `unsafe`. Whatever it keeps between two frames (neighbours, rate-limit
//! buckets, pending RSTs) is bounded, allocated at start, and harmless to lose: any POP with the
//! same config and keys gives the same answer to the same frame.
//!
//! ```text
//!   config (TOML) --> Config ---+
//!   key file -------> KeyFile --+--> Snapshot --+
//!   tenants file ---> Tenants --+               |
//!                                               v
//!   a burst of frames, its port, the time --> Pop --> Output: frames, each with its port
//!                                            |   |
//!       SoftState, which workers share ------+   +--> Counters
//! ```
//!
//! # The modules, in the order in which to read them
//!
//! - What goes in: [`config`] is what the operator says, checked; [`keys`] are the secrets;
//!   [`snapshot`] is both, compiled to what workers look up.
//! - What happens to a frame: [`pop`] has the passes over a burst, and is the only entry. [`relay`]
//!   maps clients to egress endpoints and targets, and rewrites segments. [`tunnel`] has the
//!   messages, tokens and decisions of tunnels, and the state machine of the agent. [`fragment`]
//!   decides on fragments, [`link`] finds the next hop.
//! - What becomes of it: a [`verdict`], which is counted in [`counters`].
//! - What these stand on: [`wire`] reads and writes headers, [`net`] has addresses, endpoints and
//!   the numbers of ports and services, [`frame`] the interface to buffers, [`time`] the clocks,
//!   [`seq`] and [`predict`] sequence numbers, [`crypto`] the primitives, [`bucket`] rate limits,
//!   [`problem`] the mistakes in files.
//!
//! # Example
//!
//! A client's SYN and a segment with data go to the target, from one egress endpoint and with the
//! client's tag in the TCP timestamps, by which any POP with these keys finds the client again:
//!
//! ```
//! use std::sync::Arc;
//!
//! use anyrelay_core::wire::ethernet::{self, Ethernet};
//! use anyrelay_core::wire::{MacAddr, ipv4, tcp};
//! use anyrelay_core::{Config, Counters, KeyFile, Snapshot, Tenants};
//! use anyrelay_core::{Frame, HeapFrame, Now, Pop, PortIndex, SeqNum, SoftState};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = r#"
//!     pop = { name = "ams1", id = 1, keys = "keys.toml" }
//!     worker = [{ core = 0, rx = ["nic:0"] }]
//!
//!     [[port]]
//!     name = "nic"
//!     device = "net_null0"
//!     side = "both"
//!     addresses = ["192.0.2.2/24"]
//!     gateways = ["192.0.2.1"]
//!     gateway_macs = ["02:00:00:00:00:99"]
//!
//!     [[relay]]
//!     name = "web"
//!     vip = "203.0.113.10:443"
//!     targets = ["198.51.100.10:8443"]
//!     egress = { pool = "100.64.8.0/24" }
//! "#;
//! let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
//! let config = Config::parse("pop.toml", config)?;
//! let snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None)?;
//! let port_mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
//! let soft = Arc::new(SoftState::new(&snapshot, &[port_mac]));
//! let mut pop = Pop::new(soft, Arc::new(Counters::new(snapshot.slots())));
//!
//! // A client's segment, as the router delivers it.
//! let (client, vip) = (u32::from_be_bytes([9, 0, 0, 7]), u32::from_be_bytes([203, 0, 113, 10]));
//! let segment = |seq: u32, flags: u8, data: &[u8]| {
//!     let mut bytes = [&[0; 54], data].concat();
//!     let router = MacAddr::new([2, 0, 0, 0, 0, 0x99]);
//!     let ethertype = ethernet::TYPE_IPV4;
//!     Ethernet { dst: port_mac, src: router, vlan: None, ethertype }.write(&mut bytes);
//!     let (total_len, protocol) = (40 + data.len() as u16, ipv4::PROTOCOL_TCP);
//!     let ip = ipv4::Header { total_len, protocol, src: client, dst: vip, ..ipv4::ORIGINATED };
//!     ip.write(&mut bytes[14..]);
//!     let (src_port, dst_port, seq, ack) = (40_000, 443, SeqNum(seq), SeqNum(1));
//!     let tcp = tcp::Header { src_port, dst_port, seq, ack, flags, window: 65_000, options: &[] };
//!     tcp.write(&mut bytes[34..]);
//!     tcp::write_checksum(client, vip, &mut bytes[34..]);
//!     HeapFrame::new(&bytes)
//! };
//! let frames = [segment(1000, tcp::SYN, b""), segment(1001, tcp::ACK, b"hello")];
//!
//! let mut sent: Vec<(PortIndex, HeapFrame)> = Vec::new();
//! let now = Now::from_millis(1_800_000_000_000);
//! pop.handle_burst(now, &snapshot, PortIndex(0), &mut frames.into_iter().collect(), &mut sent);
//!
//! let mut seen = Vec::new();
//! for (_, frame) in &sent {
//!     let ip = ipv4::Ipv4::parse(&frame.bytes()[14..])?;
//!     let tcp = tcp::Header::parse(&frame.bytes()[34..]).ok_or("no segment")?;
//!     assert_eq!((ip.dst.to_be_bytes(), tcp.dst_port), ([198, 51, 100, 10], 8443));
//!     let mut options = tcp::Options::new(tcp.options).flatten();
//!     let stamps = options.find(|option| option.kind == tcp::kind::TIMESTAMPS).ok_or("no tag")?;
//!     let value = u32::from_be_bytes(tcp.options[stamps.at + 2..stamps.at + 6].try_into()?);
//!     // The last bit says whether the client sent a SYN without timestamps.
//!     seen.push((ip.src, tcp.src_port, value >> 1));
//! }
//! assert_eq!(seen.len(), 2);
//! assert_eq!(seen[0], seen[1], "a client has one egress endpoint and one tag");
//! assert!(seen[0].0.to_be_bytes().starts_with(&[100, 64, 8]));
//! assert!(sent[1].1.bytes().ends_with(b"hello"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod bucket;
pub mod config;
pub mod counters;
pub mod crypto;
pub mod fragment;
pub mod frame;
pub mod keys;
pub mod link;
pub mod net;
pub mod pop;
pub mod predict;
pub mod problem;
pub mod relay;
pub mod seq;
pub mod snapshot;
pub mod time;
pub mod tunnel;
pub mod verdict;
pub mod wire;

pub use config::Config;
pub use counters::Counters;
pub use frame::{Frame, HeapFrame};
pub use keys::{KeyFile, Tenants};
pub use net::PortIndex;
pub use pop::{BURST, Output, Pop, SoftState};
pub use problem::{Problem, Problems};
pub use seq::SeqNum;
pub use snapshot::Snapshot;
pub use time::Now;
pub use verdict::{DropReason, Verdict};
