//! `map --token` and `map --agent`: the contents of a token, and sequence numbers at a tick.
use std::fs;
use std::net::Ipv6Addr;
use std::process::Output;

use crate::common::{Config, Folder, anyrelay, stderr, stdout};
use anyrelay_core::config::OpenPrefix;
use anyrelay_core::keys::KeyFile;
use anyrelay_core::net::{Address, IpNet};
use anyrelay_core::predict::{Constants, at};
use anyrelay_core::time::{Tick, UnixTime};
use anyrelay_core::tunnel::open::{OpenAddresses, OpenAgent};
use anyrelay_core::tunnel::{PublicToken, TunnelVip};
use serde_json::{Value, json};

const VIP4: &str = "203.0.113.20:443";
const VIP6: &str = "[2001:db8::20]:443";
const OPEN: &str = "203.0.113.22:443";
const PREFIX: &str = "2001:db8:a::/48";
const AGENT: &str = "198.18.0.7:40000";

struct Test {
    folder: Folder,
}

impl Test {
    /// A POP with the tunnels `both`, `other` and `open`, the first with VIPs of both families.
    fn new() -> Test {
        let folder = Folder::new();
        let mut config = Config::new();
        config.services += &format!(
            "[[tunnel]]\nname = \"both\"\nvip4 = \"{VIP4}\"\nvip6 = \"{VIP6}\"\n\
             tenants = [\"acme\"]\n\
             [[tunnel]]\nname = \"other\"\nvip4 = \"203.0.113.21:443\"\n\
             [[tunnel]]\nname = \"open\"\nvip4 = \"{OPEN}\"\ntenants = [\"zorg\"]\n\
             open = {{ prefix = \"{PREFIX}\", to = [\"2000::/3\"], \
             icmp_source = \"2001:db8::9\" }}\n"
        );
        let path = folder.pop(&config);
        let text = config.text().replace("id = 1\n", "id = 1\ntenants = \"tenants.toml\"\n");
        fs::write(path, text).unwrap();
        for name in ["acme", "zorg"] {
            let tenants = folder.path("tenants.toml");
            assert!(anyrelay(&["tenant", "add", tenants.to_str().unwrap(), name]).status.success());
        }
        Test { folder }
    }

    fn vip(&self, addr: &str) -> TunnelVip {
        let keys = fs::read_to_string(self.folder.path("keys.toml")).unwrap();
        TunnelVip::new(addr.parse().unwrap(), &KeyFile::parse(&keys).unwrap()).unwrap()
    }

    /// A token that POP 5 made for `agent` of the tenant `tenant` at the VIP `vip`.
    fn token(&self, vip: &str, agent: &str, tenant: u16) -> PublicToken {
        let agent = agent.parse().unwrap();
        self.vip(vip).tokens.seal(UnixTime::default(), agent, 0xfffe, tenant, 5).unwrap()
    }

    fn map(&self, arguments: &[&str]) -> Output {
        let config = self.folder.path("pop.toml");
        anyrelay(&[&["map", "--config", config.to_str().unwrap()], arguments].concat())
    }

    fn map_json(&self, arguments: &[&str]) -> Value {
        let output = self.map(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    fn drop(&self, arguments: &[&str]) -> String {
        let output = self.map(arguments);
        assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
        let output = stdout(&output);
        output.strip_prefix("drop ").unwrap().split_once(':').unwrap().0.to_owned()
    }
}

#[test]
fn a_token_is_printed_with_its_contents() {
    let test = Test::new();
    let agents = [(VIP4, AGENT), (VIP6, "[2001:db8:1::7]:40000")];
    for (vip, agent) in agents {
        let token = test.token(vip, agent, 1).to_string();
        let answer = test.map_json(&["--token", &token, "--tick", "16"]);
        let [tunnel] = &answer["tunnels"].as_array().unwrap()[..] else { panic!("{answer}") };
        for (key, value) in [
            ("service", json!("both")),
            ("vip", json!(vip)),
            ("agent", json!(agent)),
            ("tick", json!(16)),
        ] {
            assert_eq!(tunnel[key], value, "{key}");
        }
        // The base is 0xfffe8000: it wraps after 16 strides of 4096.
        let first = 0xfffe_8000_u32.wrapping_add(16 * 4096 + 1);
        assert_eq!(
            tunnel["token"],
            json!({
                "epoch": 0, "pop": 5, "tenant": 1, "tenant_may_use_it": true,
                "base": 0xfffe_8000_u32,
                "data_up_seq": [first, first + 16384 - 64],
                "sent_ticks": [-3, 3],
                "data_down_ack": 0xfffe_6000_u32.wrapping_add(12 * 4096 + 1),
            })
        );
        let output = stdout(&test.map(&["--token", &token]));
        let head = format!(
            "service both vip {vip} agent {agent} tenant 1 token of epoch 0 from POP 5 \
             base 4294868992\n"
        );
        assert!(output.starts_with(&head), "{output}");
    }
    // A tenant that the tunnel does not serve is reported.
    let token = test.token(VIP4, AGENT, 2).to_string();
    let answer = test.map_json(&["--token", &token]);
    assert_eq!(answer["tunnels"][0]["token"]["tenant_may_use_it"], false);
    assert!(stdout(&test.map(&["--token", &token])).contains("does not serve the tenant"));
}

#[test]
fn a_token_that_no_pop_would_take_is_refused_with_its_reason() {
    let test = Test::new();
    let good = test.token(VIP4, AGENT, 1);
    let text = |epoch| PublicToken { epoch, ..good }.to_string();
    let last = if good.to_string().ends_with('A') { "E" } else { "A" };
    let forged = format!("{}{last}", &good.to_string()[..22]);
    let v6 = test.token(VIP6, "[2001:db8:1::7]:1", 1).to_string();
    for (token, arguments, reason) in [
        (text(0), &["--service", "other"][..], "destination_token"),
        (text(1), &[], "destination_token_epoch"),
        (text(2), &[], "destination_token"),
        (forged, &[], "destination_token"),
        (v6, &["--service", "other"], "destination_family"),
    ] {
        let arguments = [&["--token", &token], arguments].concat();
        assert_eq!(test.drop(&arguments), reason, "{arguments:?}");
    }
}

#[test]
fn an_agents_numbers_are_those_of_the_tick() {
    let test = Test::new();
    let start = test.vip(VIP4).predictor.start(AGENT.parse().unwrap());
    let stride = Constants::default().stride;
    for tick in [0, 1, 224_417_748] {
        let answer = test.map_json(&["--agent", AGENT, "--tick", &tick.to_string()]);
        let tunnels = answer["tunnels"].as_array().unwrap();
        let names: Vec<_> = tunnels.iter().map(|tunnel| &tunnel["service"]).collect();
        assert_eq!(names, ["both", "other", "open"]);
        let both = &tunnels[0];
        let expected = at(start, stride, Tick(tick));
        assert_eq!(both["start"], start.0);
        assert_eq!(both["syn_ack_seq"], expected.0);
        assert_eq!(both["reply_seq"], expected.plus(1).0);
        let (first, last) = (expected.plus(1).0, expected.plus(1 + 16384 - 64).0);
        assert_eq!(both["data_down_seq"], json!([first, last]));
        assert_eq!(both["keepalive_acks"], json!([first, expected.plus(91).0]));
        assert_eq!(both["data_ack"], first);
        assert_eq!(both["ack_ticks"], json!([-12, 3]));
        assert_eq!(both.get("token"), None);
        assert_ne!(both["start"], tunnels[1]["start"]);
    }
    // The default tick is that of the wall clock.
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64 / 8000;
    let before = now();
    let answer = test.map_json(&["--agent", AGENT, "--service", "both"]);
    assert!((before..=now()).contains(&answer["tunnels"][0]["tick"].as_u64().unwrap()));
    assert_eq!(test.drop(&["--agent", "203.0.113.10:5"]), "source_not_allowed");
    let v6 = ["--agent", "[2001:db8:1::7]:1", "--service", "other"];
    assert_eq!(test.drop(&v6), "destination_family");
}

#[test]
fn an_open_address_says_whose_it_is() {
    let test = Test::new();
    let keys = fs::read_to_string(test.folder.path("keys.toml")).unwrap();
    let net = IpNet::parse(PREFIX).and_then(u128::of_net).unwrap();
    let epochs = KeyFile::parse(&keys).unwrap().tokens;
    let prefix = OpenPrefix::new(net).unwrap();
    let addresses = OpenAddresses::new(&epochs, OPEN.parse().unwrap(), 2, prefix).unwrap();
    let agent = OpenAgent { at: AGENT.parse().unwrap(), base_high: 0xfffe };
    let bits = addresses.encode(UnixTime::default(), &agent).unwrap();
    let address = |bits: u128| Ipv6Addr::from_bits(bits).to_string();
    let answer = test.map_json(&["--open", &address(bits), "--tick", "16"]);
    let [tunnel] = &answer["tunnels"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((&tunnel["service"], &tunnel["agent"]), (&json!("open"), &json!(AGENT)));
    assert_eq!((&tunnel["vip"], &tunnel["tick"]), (&json!(OPEN), &json!(16)));
    let first = 0xfffe_8000_u32.wrapping_add(16 * 4096 + 1);
    assert_eq!(
        tunnel["open"],
        json!({
            "base": 0xfffe_8000_u32,
            "data_up_seq": [first, first + 16384 - 64],
            "sent_ticks": [-3, 3],
            "data_down_ack": 0xfffe_6000_u32.wrapping_add(12 * 4096 + 1),
        })
    );
    assert_eq!(tunnel.get("token"), None);
    let output = stdout(&test.map(&["--open", &address(bits)]));
    let head = format!("service open vip {OPEN} agent {AGENT} open address, base 4294868992\n");
    assert!(output.starts_with(&head), "{output}");
    for (bits, reason) in
        [(bits ^ 1, "open_address"), (bits ^ 1 << 79, "open_epoch"), (bits ^ 1 << 80, "not_ours")]
    {
        assert_eq!(test.drop(&["--open", &address(bits)]), reason);
    }
}

#[test]
fn questions_that_make_no_sense_are_usage_errors() {
    let test = Test::new();
    let token = test.token(VIP4, AGENT, 1).to_string();
    for (arguments, reason) in [
        (&["--token", "abc"][..], "23 characters"),
        (&["--token", &token, "--agent", AGENT], "cannot be used with"),
        (&["--token", &token, "--client", "10.0.0.1:5"], "cannot be used with"),
        (&["--agent", "198.18.0.7"], "invalid"),
        (&["--agent", AGENT, "--egress", "10.0.0.1:1"], "cannot be used with"),
        (&["--client", "10.0.0.1:5", "--tick", "1"], "cannot be used with"),
        (&["--agent", AGENT, "--service", "mail"], "no service mail; there are: both, other, open"),
        (&["--open", "2001:db8:a::1", "--agent", AGENT], "cannot be used with"),
        (&["--open", "198.18.0.7"], "invalid"),
    ] {
        let output = test.map(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(reason), "{reason} in {}", stderr(&output));
    }
    let folder = Folder::new();
    let path = folder.pop(&Config::new());
    let output = anyrelay(&["map", "--config", path.to_str().unwrap(), "--agent", AGENT]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("tunnel: there is none"), "{}", stderr(&output));
}
