//! How a flow follows this host's routes: with a real kernel, in the tests' own network namespaces.
//! Needs root.

use std::num::NonZeroU32;
use std::process::Command;

use anyrelay_core::crypto::Key128;
use anyrelay_core::keys::AgentKey;
use anyrelay_core::time::Now;
use anyrelay_core::tunnel::agent::{Agent, AgentSetup};
use nix::sys::socket::sockopt::BindToDevice;

use super::RECEIVER;
use super::flow::Flow;
use crate::outer::{Carried, Steering, UplinkConfig};
use crate::poller::Poller;

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().unwrap().success());
}

/// A host whose uplink is `up0`, in the namespace of this thread.
fn host() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    make_uplink();
}

fn make_uplink() {
    for command in [
        "link add up0 type veth peer name up1",
        "link set up1 up",
        "link set up0 up",
        "address add 192.0.2.7/24 dev up0",
        "route add default dev up0",
    ] {
        ip(command);
    }
}

fn flow(steering: Steering, carried: Carried) -> Flow {
    let vip = "203.0.113.20:443".parse().unwrap();
    let key = AgentKey { tenant: 1, agent: 2, key: Key128::new([1; 16]) };
    let now = Now::default();
    let agent = Agent::new(AgentSetup::new(vip, key, [7; 32]), now);
    Flow::new(agent, UplinkConfig { vip, steering, carried }, now.instant)
}

fn local(flow: &Flow) -> Option<String> {
    flow.uplink.as_ref().map(|uplink| uplink.local().ip().to_string())
}

#[test]
fn a_move_is_repeated_when_its_sockets_cannot_be_registered() {
    std::thread::spawn(|| {
        host();
        let mut flow = flow(Steering::default(), Carried::Device("own0".to_owned()));
        let (good, broken) = (Poller::new().unwrap(), Poller::broken());
        flow.open_uplink(&good).unwrap();
        ip("address del 192.0.2.7/24 dev up0");
        ip("address add 198.51.100.7/24 dev up0");
        ip("route replace default dev up0");
        flow.follow_route(&broken);
        assert_eq!(local(&flow), None, "it would be deaf");
        flow.follow_route(&good);
        assert_eq!(local(&flow).as_deref(), Some("198.51.100.7"));
        // The poller has its receiver: adding it again fails.
        let uplink = flow.uplink.as_ref().unwrap();
        assert!(good.add(&uplink.receiver, RECEIVER).is_err());

        // The host's own uplink is lost, and a default route into the agent's own device is
        // left, with any source address.
        for hint in ["", " src 10.9.0.1", " src 198.51.100.7"] {
            if hint.is_empty() {
                ip("link add own0 type veth peer name own1");
                ip("link set own0 up");
                ip("link set own1 up");
                ip("address add 10.9.0.1/24 dev own0");
            }
            ip(&format!("route replace default dev own0{hint}"));
            flow.follow_route(&good);
            assert_eq!(local(&flow), None, "default{hint}");
            flow.follow_route(&good);
            assert_eq!(local(&flow), None, "default{hint}");
            ip("route replace default dev up0 src 198.51.100.7");
            flow.follow_route(&good);
            assert_eq!(local(&flow).as_deref(), Some("198.51.100.7"), "default{hint}");
        }
    })
    .join()
    .unwrap();
}

/// The rules of wg-quick around a TUN device that another program has, as wg0.
fn other_tunnel() {
    for command in [
        "tuntap add wg0 mode tun",
        "link set wg0 up",
        "address add 10.7.0.1/32 dev wg0",
        "route add default dev wg0 table 51820",
        "rule add not fwmark 51820 table 51820",
        "rule add table main suppress_prefixlength 0",
    ] {
        ip(command);
    }
}

#[test]
fn mark_and_interface_lead_around_a_tunnel_that_has_the_default_route() {
    let listen = Carried::Listen("127.0.0.1:51820".parse().unwrap());
    let up0 = Some("up0".to_owned());
    for (mark, interface, device, address) in [
        (None, None, "wg0", "10.7.0.1"),
        (NonZeroU32::new(51_820), None, "up0", "192.0.2.7"),
        (None, up0, "up0", "192.0.2.7"),
    ] {
        let (steered, carried) = (mark.is_some() || interface.is_some(), listen.clone());
        std::thread::spawn(move || {
            host();
            other_tunnel();
            let mut flow = flow(Steering { mark, interface }, carried);
            flow.open_uplink(&Poller::new().unwrap()).unwrap();
            assert_eq!(flow.watch.device(), Some(device));
            assert_eq!(local(&flow).as_deref(), Some(address));
            // A program's tunnel that is no WireGuard: it cannot be told.
            let doubt = flow.watch.doubt();
            assert_eq!(doubt.is_none(), steered, "{doubt:?}");
            if let Some(text) = doubt {
                assert!(text.contains("cannot be told") && text.contains("--mark"), "{text}");
            }
        })
        .join()
        .unwrap();
    }
}

#[test]
fn an_interface_may_go_and_come_again_but_must_be_there_at_first() {
    std::thread::spawn(|| {
        host();
        let carried = Carried::Target("127.0.0.1:7".parse().unwrap());
        let poller = Poller::new().unwrap();
        let on = |name: &str| Steering { mark: None, interface: Some(name.to_owned()) };
        let error = flow(on("wlan0"), carried.clone()).open_uplink(&poller).unwrap_err();
        assert!(!error.is_temporary() && error.to_string().contains("wlan0: this host has none"));
        // Without a route by it, the VIP is not taken for a neighbour.
        ip("link set lo up");
        ip("link add idle0 type veth peer name idle1");
        ip("link set idle0 up");
        ip("address add 198.51.100.1/24 dev idle0");
        let error = flow(on("idle0"), carried.clone()).open_uplink(&poller).unwrap_err();
        assert!(error.is_temporary(), "{error}");
        let wanted = "no route to the VIP 203.0.113.20:443 by the interface idle0";
        assert!(error.to_string().starts_with(wanted), "{error}");

        let mut flow = flow(on("up0"), carried);
        flow.open_uplink(&poller).unwrap();
        // Another one of the same name and address, between two looks: new sockets.
        ip("link del up0");
        make_uplink();
        flow.follow_route(&poller);
        let sender = &flow.uplink.as_ref().unwrap().sender;
        let bound = nix::sys::socket::getsockopt(sender, BindToDevice).unwrap();
        assert_eq!(bound, "up0");
        ip("link del up0");
        flow.follow_route(&poller);
        assert_eq!(local(&flow), None);
        assert!(flow.no_uplink.as_ref().unwrap().contains("up0: this host has none"));
        make_uplink();
        flow.follow_route(&poller);
        assert_eq!(local(&flow).as_deref(), Some("192.0.2.7"));
    })
    .join()
    .unwrap();
}
