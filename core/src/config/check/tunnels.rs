//! Checks tunnels: VIPs, tenants, and the constants of their sequence numbers.

use std::net::{SocketAddrV4, SocketAddrV6};

use super::super::raw::{RawConfig, RawTunnel};
use super::super::{PortConfig, TunnelConfig};
use super::open;
use super::report::{Report, refuse_non_unicast, repeated};
use crate::net::Family;
use crate::predict::{self, Constants, ConstantsError};
use crate::wire::tcp::HEADER_LEN;

pub(super) fn tunnels(
    report: &mut Report,
    raw: &RawConfig,
    ports: &[PortConfig],
) -> Vec<TunnelConfig> {
    if !raw.tunnel.is_empty() && raw.pop.tenants.is_none() {
        report.error(
            "pop.tenants",
            "missing, and a [[tunnel]] needs it; name the tenants file, as `anyrelay tenant add` \
             writes it",
        );
    }
    let tunnels = raw.tunnel.iter().enumerate();
    tunnels.map(|(index, raw)| tunnel(report, index, raw, ports)).collect()
}

fn tunnel(
    report: &mut Report,
    index: usize,
    raw: &RawTunnel,
    ports: &[PortConfig],
) -> TunnelConfig {
    let key = |name: &str| format!("tunnel[{index}].{name}");
    report.name(&key("name"), &raw.name);
    if raw.vip4.is_none() && raw.vip6.is_none() {
        let reason = "it has no VIP; give it a vip4 = \"203.0.113.20:443\", a vip6 = \
                      \"[2001:db8::20]:443\", or both";
        report.error(format!("tunnel[{index}]"), reason);
    }
    TunnelConfig {
        name: raw.name.clone(),
        vip4: raw.vip4.as_ref().and_then(|text| vip4(report, &key("vip4"), text)),
        vip6: raw.vip6.as_ref().and_then(|text| vip6(report, &key("vip6"), text)),
        tenants: raw.tenants.as_ref().map(|names| tenants(report, &key("tenants"), names)),
        constants: constants(report, index, raw),
        tunnel_mtu: tunnel_mtu(report, &key("tunnel_mtu"), raw, ports),
        open: open::open(report, index, raw),
    }
}

fn vip4(report: &mut Report, key: &str, text: &str) -> Option<SocketAddrV4> {
    let Ok(vip) = text.parse::<SocketAddrV4>() else {
        let reason = format!("{text:?} is not ADDRESS:PORT; write it as \"203.0.113.20:443\"");
        report.error(key, reason);
        return None;
    };
    refuse_non_unicast(report, key, "a VIP", (*vip.ip()).into());
    refuse_port_zero(report, key, vip.port());
    Some(vip)
}

fn vip6(report: &mut Report, key: &str, text: &str) -> Option<SocketAddrV6> {
    let parsed = text.parse::<SocketAddrV6>().ok().filter(|vip| vip.scope_id() == 0);
    let Some(vip) = parsed else {
        let reason = format!("{text:?} is not [ADDRESS]:PORT; write it as \"[2001:db8::20]:443\"");
        report.error(key, reason);
        return None;
    };
    refuse_non_unicast(report, key, "a VIP", (*vip.ip()).into());
    refuse_port_zero(report, key, vip.port());
    Some(vip)
}

fn refuse_port_zero(report: &mut Report, key: &str, port: u16) {
    if port == 0 {
        report.error(key, "port 0 cannot be connected to; use 1 to 65535");
    }
}

fn tenants(report: &mut Report, key: &str, names: &[String]) -> Vec<String> {
    if names.is_empty() {
        report.error(
            key,
            "it serves nobody; name at least one tenant, or leave the key out to serve all",
        );
    }
    for (first, second) in repeated(names) {
        report.error(format!("{key}[{second}]"), format!("the same tenant as {key}[{first}]"));
    }
    names.to_vec()
}

fn constants(report: &mut Report, index: usize, raw: &RawTunnel) -> Constants {
    let default = Constants::default();
    let mut number = |name: &str, given: Option<i64>, default: i64, low: i64, high: i64| {
        let value = given.unwrap_or(default);
        report.number(&format!("tunnel[{index}].{name}"), value, low, high).unwrap_or(low)
    };
    let given = Constants {
        tick_ms: number(
            "tick_ms",
            raw.tick_ms,
            default.tick_ms.into(),
            predict::TICK_MS_MIN.into(),
            predict::TICK_MS_MAX.into(),
        ) as u32,
        stride: number(
            "stride",
            raw.stride,
            default.stride.into(),
            predict::STRIDE_MIN.into(),
            predict::STRIDE_MAX.into(),
        ) as u32,
        lag: number(
            "lag",
            raw.lag,
            default.lag.into(),
            predict::LAG_MIN.into(),
            predict::LAG_MAX.into(),
        ) as u16,
        offset: number(
            "offset",
            raw.offset,
            default.offset.into(),
            1024,
            predict::OFFSET_MAX.into(),
        ) as u16,
    };
    match given.check(0) {
        Err(error @ ConstantsError::Offset) => {
            report.error(format!("tunnel[{index}].offset"), error.to_string());
        }
        Err(error) => report.error(format!("tunnel[{index}]"), error.to_string()),
        Ok(()) => {}
    }
    given
}

/// The outer MTU: datagrams of agents must fit through every port that may receive them.
fn tunnel_mtu(report: &mut Report, key: &str, raw: &RawTunnel, ports: &[PortConfig]) -> u16 {
    let mtu: u16 = report.number(key, raw.tunnel_mtu, 576, 9216).unwrap_or_default();
    let clients = ports.iter().filter(|port| port.side.takes_clients());
    let narrowest = clients.map(|port| port.mtu).min().unwrap_or(u16::MAX);
    if mtu > narrowest {
        report.error(
            key,
            format!(
                "{mtu} does not fit through the narrowest port towards clients: use at most \
                 {narrowest}, its mtu"
            ),
        );
    }
    let payload_max = mtu.saturating_sub(Family::V4.ip_header_len() as u16 + HEADER_LEN as u16);
    if i64::from(payload_max) > raw.offset.unwrap_or(Constants::default().offset.into()) {
        report.error(
            key,
            format!(
                "datagrams of {mtu} bytes do not fit into `offset`; it must be {payload_max} or \
                 more"
            ),
        );
    }
    mtu
}
