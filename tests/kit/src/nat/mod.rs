//! Agents behind a NAT with a strict firewall: [`Site`] holds an agent and what stands in front of
//! it, [`Connection`] is the firewall's view of one TCP connection.

mod conntrack;
mod packet;
mod rules;
mod site;

pub use conntrack::{Connection, Opened};
pub use packet::{Head, Packet};
pub use rules::{Invalid, Judged, Rules, Seen, Side, State, Upper, summary};
pub use site::{Boxes, Flow, Rewriter, Site, Spoil};
