//! What control knows of links and gateways.

use std::net::IpAddr;

use anyrelay_core::net::PortIndex;

/// What is known of a port's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSample {
    /// Whether nothing is wrong with it.
    pub is_up: bool,
    /// How often something became wrong with it.
    pub losses: u64,
}

/// What is known of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySample {
    /// The port that it is on.
    pub port: PortIndex,
    /// Its address.
    pub ip: IpAddr,
    /// Whether it gets its share of the destinations.
    pub is_used: bool,
    /// How often it fell silent.
    pub losses: u64,
}
