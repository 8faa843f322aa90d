//! Token epochs rotate under traffic, and an agent that is revoked loses its service.

use std::time::Duration;

use crate::common::tunnel::{TAIL, Tunnels, rotate_soon};
use crate::common::{eventually, full, milliseconds};
use anyrelay_lab::tunnel::TunnelLab;
use anyrelay_lab::tunnel::lab::TENANT;
use anyrelay_lab::tunnel::stream::Plan;

fn lab() -> TunnelLab {
    TunnelLab::builder().tick_ms(500).build().unwrap()
}

#[test]
fn token_epoch_rotates_while_data_flows() {
    let mut tunnels = Tunnels::start(lab());
    let flow = tunnels.flow(Plan::both(1_000));
    let sockets = flow.peers().len();
    let before = (tunnels.serving.token().unwrap(), tunnels.connecting[0].token().unwrap());
    // Once: the epoch before stays valid for a day, and a third one is not begun until then.
    rotate_soon(&mut tunnels.lab);
    eventually("both have tokens of the new epoch", Duration::from_secs(40), || {
        let now = (tunnels.serving.token().unwrap(), tunnels.connecting[0].token().unwrap());
        now.0 != before.0 && now.1 != before.1
    });
    let token = tunnels.serving.token().unwrap();
    eventually("the peer knows the new token", Duration::from_secs(40), || {
        tunnels.connecting[0].status().unwrap()["peers"][0]["token"] == *token
    });
    tunnels
        .lab
        .flip_for(Duration::from_secs(if full() { 30 } else { 1 }), milliseconds(200))
        .unwrap();
    println!("{} then {token}", before.0);
    assert_eq!((sockets, flow.peers().len()), (1, 1), "the same socket at the target's side");
    tunnels.assert_arrived(&[flow.finish(TAIL)], &[]);
    tunnels.assert_nothing_invalid();
}

#[test]
fn revoked_agent_loses_its_service() {
    let mut tunnels = Tunnels::start(lab());
    let flow = tunnels.flow(Plan::both(200));
    let (tenants, name) = (tunnels.lab.tenants(), tunnels.connecting[0].name().to_owned());
    let revoke =
        ["agent", "revoke", &tenants.to_string_lossy(), "--tenant", TENANT, "--agent", &name];
    tunnels.lab.anyrelay(&revoke).unwrap();
    tunnels.lab.reload().unwrap();
    tunnels.connecting[0]
        .wait_until("is not served", Duration::from_secs(20), |status| status["state"] != "ready")
        .unwrap();
    std::thread::sleep(TAIL);
    let before = flow.received();
    std::thread::sleep(milliseconds(1500));
    assert_eq!(flow.received().0, before.0, "nothing of it arrives");
    assert!(
        tunnels.lab.metric("anyrelay_service_drops_total", &[("reason", "unknown_agent")]) > 0.0
    );
    let says = |status: &serde_json::Value| status["problem"].to_string().contains("revoked");
    tunnels.connecting[0].wait_until("says why", Duration::from_secs(20), says).unwrap();
    // The others have theirs.
    assert_eq!(tunnels.serving.status().unwrap()["state"], "ready");
}
