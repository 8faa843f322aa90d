//! The MSS that fits a path to a target, by relays' modes: each puts other headers around the
//! segments of clients.

use std::net::IpAddr;

use anyrelay_core::config::{Encapsulation, WayBack};
use anyrelay_core::net::Family;
use anyrelay_core::wire::tcp;

use super::Mode;
use super::findings::{Findings, Options, Tunnel, TunnelAnswer};

/// How the segments of relays get to fit a path that carries datagrams of `passes` bytes: by the
/// MSS of the relay, which a POP announces for the target, or the target's own, if it answers
/// directly.
pub(super) fn fitting(
    findings: &Findings,
    passes: u16,
    matters: impl Fn(Mode) -> bool,
) -> Option<String> {
    let has_plain = [Mode::Pool, Mode::Prefix, Mode::Transparent].into_iter().any(&matters);
    let own = || passes.saturating_sub(headers_len(findings.target.ip()));
    let mut sizes: Vec<_> = has_plain.then(|| (own(), None)).into_iter().collect();
    let mut direct = None;
    for tunnel in &findings.tunnels {
        let fits = inside(tunnel, passes);
        let mode = |way_back| Mode::Tunnel(tunnel.protocol, way_back);
        let is_direct = matches!(tunnel.answer, TunnelAnswer::Direct { .. });
        if matters(mode(WayBack::Through)) && !is_direct {
            sizes.push((fits, Some(tunnel.protocol.name())));
        } else if matters(mode(WayBack::Direct)) {
            direct = Some(fits);
        }
    }
    let mut sizes = sizes.into_iter();
    let Some((first, _)) = sizes.next() else {
        return direct.map(|fits| format!("set advmss {fits} at the target"));
    };
    let mut text = format!("set mss = {first} for its service");
    for (size, tunnel) in sizes {
        text.push_str(&format!(", or {size} with {}", tunnel.unwrap_or_default()));
    }
    Some(text)
}

/// The MSS that fits the tunnel, if the target announces more to clients by itself. A path of
/// which no longer datagram was tried may have room for it.
pub(super) fn too_large(findings: &Findings, tunnel: &Tunnel, options: &Options) -> Option<u16> {
    let path = findings.path?;
    let fits = inside(tunnel, path.passes?);
    let is_known = path.fails.is_some() || path.wanted == path.link;
    (is_known && options.mss? > fits).then_some(fits)
}

/// The MSS inside a tunnel, whose datagrams are of `mtu` bytes outside.
fn inside(tunnel: &Tunnel, mtu: u16) -> u16 {
    let &Tunnel { protocol, from, vip, .. } = tunnel;
    // The way back adds no header.
    let tunnel = Encapsulation { protocol, from, way_back: WayBack::Through };
    mtu.saturating_sub(tunnel.overhead() as u16 + headers_len(vip.ip()))
}

/// Bytes of the headers of a segment without options, to `ip`.
fn headers_len(ip: IpAddr) -> u16 {
    (Family::of(ip).ip_header_len() + tcp::HEADER_LEN) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::explain::explain;
    use crate::probe::findings::Path;
    use anyrelay_core::config::Encapsulate;

    fn path(passes: Option<u16>, told: Option<u16>) -> Path {
        let fails = (passes != Some(1500)).then_some(1500);
        Path { wanted: 1500, link: 1500, passes, fails, told }
    }

    fn tunnel(protocol: Encapsulate, [vip, from]: [&str; 2], answer: TunnelAnswer) -> Tunnel {
        let (vip, from) = (vip.parse().unwrap(), from.parse().unwrap());
        Tunnel { protocol, vip, from, deaf: None, answer }
    }

    #[test]
    fn the_mss_that_fits_leaves_room_for_the_tunnel() {
        let options = Options::default();
        let (through, direct) =
            (TunnelAnswer::Through { options }, TunnelAnswer::Direct { options });
        let (v4, v6) = (["203.0.113.10:443", "192.0.2.7"], ["[2001:db8::1]:443", "2001:db8::7"]);
        let all = |_| true;
        let tunnels = |mode| matches!(mode, Mode::Tunnel(..));
        let directly = |mode| matches!(mode, Mode::Tunnel(_, WayBack::Direct));
        let [ipip, gue] = [Encapsulate::IpIp, Encapsulate::Gue];
        let cases: [(_, _, &dyn Fn(Mode) -> bool, _); 8] = [
            (ipip, v4, &tunnels, "set mss = 1340 for its service"),
            (gue, v4, &tunnels, "set mss = 1328 for its service"),
            (ipip, v6, &tunnels, "set mss = 1300 for its service"),
            // 1400 less 40 and 12 outside, 40 and 20 inside.
            (gue, v6, &tunnels, "set mss = 1288 for its service"),
            (gue, [v6[0], v4[1]], &tunnels, "set mss = 1308 for its service"),
            (ipip, v4, &all, "set mss = 1360 for its service, or 1340 with ipip"),
            (gue, v6, &all, "set mss = 1340 for its service, or 1288 with gue"),
            (ipip, v4, &directly, "set advmss 1340 at the target"),
        ];
        for (protocol, ends, matters, wanted) in cases {
            let is_ipv4 = ends[1] == v4[1];
            let target = if is_ipv4 { "198.51.100.10:443" } else { "[2001:db8::a]:443" };
            let mut found = Findings::new(target.parse().unwrap());
            found.path = Some(path(Some(1400), Some(1400)));
            found.tunnels = vec![tunnel(protocol, ends, through.clone())];
            let to_do = |found: &Findings| {
                let checks = explain(found, matters);
                let mut checks = checks.into_iter();
                checks.find(|check| check.check == "path MTU").unwrap().to_do.unwrap()
            };
            assert_eq!(to_do(&found), format!("to spare the errors, {wanted}"));
            found.path = Some(path(Some(1400), None));
            assert_eq!(to_do(&found), format!("let frag-needed pass, or {wanted}"));
        }
        // The relay's MSS moves nothing of what the target announces by itself.
        let mut found = Findings::new("198.51.100.10:443".parse().unwrap());
        found.tunnels = vec![tunnel(ipip, v4, direct)];
        assert_eq!(fitting(&found, 1400, tunnels).unwrap(), "set advmss 1340 at the target");
    }

    #[test]
    fn a_target_that_announces_what_fits_is_not_told_to_announce_less() {
        let ends = ["203.0.113.10:443", "192.0.2.7"];
        let advised = |mss, link, mtu: u16| {
            let options = Options { mss: Some(mss), ..Options::default() };
            let wanted = (mss + 40).min(link);
            let fails = (wanted > mtu).then_some(wanted);
            let passes = Some(wanted.min(mtu));
            let mut found = Findings::new("198.51.100.10:443".parse().unwrap());
            found.path = Some(Path { wanted, link, passes, fails, told: None });
            let answer = TunnelAnswer::Direct { options };
            too_large(&found, &tunnel(Encapsulate::IpIp, ends, answer), &options)
        };
        assert_eq!(advised(1460, 1500, 1500), Some(1440), "no longer one fits the link");
        assert_eq!(advised(1440, 1500, 1500), None);
        assert_eq!(advised(1440, 1500, 1400), Some(1340), "the path is narrower");
        assert_eq!(advised(1340, 1500, 1400), None);
        assert_eq!(advised(1460, 9000, 9000), None, "the path may be wider");
    }

    #[test]
    fn targets_that_answer_directly_are_told_their_advmss() {
        let options = Options { mss: Some(1460), ..Options::default() };
        let mut found = Findings::new("198.51.100.10:443".parse().unwrap());
        found.path = Some(path(Some(1500), None));
        let ends = ["[2001:db8::1]:443", "192.0.2.7"];
        let mut tunnel = tunnel(Encapsulate::Gue, ends, TunnelAnswer::Direct { options });
        // 1500 less 20 and 12 outside, 40 and 20 inside.
        assert_eq!(too_large(&found, &tunnel, &options), Some(1408));
        let to_do = |found: &Findings, tunnel: &Tunnel| {
            let found = Findings { tunnels: vec![tunnel.clone()], ..found.clone() };
            explain(&found, |_| true).pop().unwrap().to_do
        };
        assert!(to_do(&found, &tunnel).unwrap().ends_with("set advmss 1408"));
        let options = Options { mss: Some(1408), ..options };
        assert_eq!(too_large(&found, &tunnel, &options), None);
        tunnel.answer = TunnelAnswer::Through { options };
        assert_eq!(to_do(&found, &tunnel), None);
    }
}
