//! `anyrelay replay` from the command line: ports, output, and errors.
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::fragments;
use crate::common::pcap::{SYN, capture, frames, segment};
use crate::common::{Config, Folder, WAN_MAC, anyrelay, stderr, stdout};

/// The case of the fixtures with RSTs: one port, named edge.
fn given(name: &str) -> String {
    of_case("resets", name)
}

fn of_case(case: &str, name: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join(case).join(name).to_str().unwrap().to_owned()
}

struct Test {
    folder: Folder,
}

impl Test {
    fn new() -> Test {
        Test { folder: Folder::new() }
    }

    fn replay(&self, config: &str, input: &str, arguments: &[&str]) -> Output {
        let out = self.out();
        let mut all = vec!["replay", "--config", config, "--in", input, "--out", &out];
        all.extend(arguments);
        anyrelay(&all)
    }

    fn out(&self) -> String {
        self.folder.path("out.pcap").to_str().unwrap().to_owned()
    }

    fn sent(&self) -> usize {
        frames(&fs::read(self.out()).unwrap()).len()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        self.folder.write(name, contents).to_str().unwrap().to_owned()
    }

    /// The case's config without the line of the port's MAC.
    fn config_without_mac(&self) -> String {
        self.write("keys.toml", fs::read(given("keys.toml")).unwrap());
        let text = fs::read_to_string(given("config.toml")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("mac = "));
        self.write("config.toml", lines.collect::<Vec<_>>().join("\n"))
    }
}

#[test]
fn explain_prints_every_frame() {
    let test = Test::new();
    let output = test.replay(&given("config.toml"), &given("in.pcap"), &["--explain"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" 1700000000.")).collect();
    let input = frames(&fs::read(given("in.pcap")).unwrap()).len();
    assert_eq!(lines.len(), input, "{text}");
    let first = lines[0];
    for part in [
        "1 1700000000.000000 edge: 198.18.0.7:40001 -> 203.0.113.10:443 [S] seq 500",
        "service web",
        "pool client 198.18.0.7:40001 <-> 100.64.8.",
        "target 198.51.100.10:8443",
        "forward to edge",
        "out edge: 100.64.8.",
    ] {
        assert!(first.contains(part), "{part:?} is not in {first}");
    }
    assert!(lines[1].contains("keep pending_rst"), "{}", lines[1]);
    let refused = lines.iter().filter(|line| line.contains("drop target_without_timestamps"));
    assert_eq!(refused.count(), 1, "{text}");
    assert!(text.contains("dropped 3 tcp_checksum"), "{text}");
}

#[test]
fn explain_says_which_segments_tell_the_client() {
    let of = |name| of_case("client-address", name);
    let output = Test::new().replay(&of("config.toml"), &of("in.pcap"), &["--explain"]);
    let text = stdout(&output);
    let with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    assert!(with("| tells the client's address | forward to lan") > 100, "{text}");
    assert!(with("| no room for the client's address | forward to lan") > 20, "{text}");
    let first = text.lines().find(|line| line.contains("[S]")).unwrap();
    assert!(first.contains("tells the client's address"), "{first}");
}

#[test]
fn explain_says_whose_open_addresses_are() {
    let of = |name| of_case("open", name);
    let test = Test::new();
    let output = test.replay(&of("config.toml"), &of("in.pcap"), &["--explain"]);
    assert_eq!(fs::read(test.out()).unwrap(), fs::read(of("out.pcap")).unwrap());
    let text = stdout(&output);
    let with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
    let agent = "2001:db8:d:9b5:2fd8:ba70:3b71:e9cd: agent 198.18.0.7:40001 base 12348000";
    assert!(with(&format!("| open address {agent} | forward to wan")) > 10, "{text}");
    let up = format!("| packet from {agent} to 2600:1::5, seq of tick -3 | forward to wan");
    assert!(with(&up) > 5, "{text}");
    assert!(
        with(": no open address to 2600:1::5, seq of no tick | drop open_source") > 5,
        "{text}"
    );
    let told = "| quotes a segment from 203.0.113.22:443 to agent 198.18.0.7:40001, a packet of";
    assert!(with(&format!("{told} 2600:1::5 | forward to wan")) > 10, "{text}");
    assert_eq!(with("| drop open_epoch"), 3, "{text}");
}

#[test]
fn explain_says_which_fragments_a_pop_would_reassemble() {
    let test = Test::new();
    let whole = fragments::segment(1, 200);
    let mut frames = fragments::cut(&whole, 7, 128);
    frames.push(whole);
    let input = test.write("in.pcap", capture(&frames));
    for (policy, told) in [("drop", 0), ("reassemble", 2)] {
        let config = test.folder.pop(&Config { fragments: policy, ..Config::new() });
        let arguments = ["--port", "wan", "--explain"];
        let output = test.replay(config.to_str().unwrap(), &input, &arguments);
        let text = stdout(&output);
        let with = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        assert_eq!(with("| drop fragment: Fragment that is not reassembled"), 2, "{text}");
        let words = "| a fragment: run reassembles its datagram, replay does not";
        assert_eq!(with(words), told, "{policy}: {text}");
        assert_eq!(test.sent(), 1);
    }
}

#[test]
fn without_explain_only_the_counters_are_printed() {
    let test = Test::new();
    let output = test.replay(&given("config.toml"), &given("in.pcap"), &[]);
    let text = stdout(&output);
    assert!(text.starts_with("port edge: in 51 packets"), "{text}");
    assert!(!text.contains("198.18.0.7"), "{text}");
}

#[test]
fn a_port_without_a_mac_must_be_named() {
    let test = Test::new();
    let config = test.config_without_mac();
    let output = test.replay(&config, &given("in.pcap"), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("port.edge.mac: missing"), "{}", stderr(&output));
    // With a name, the port has the destination MAC address of the capture's frames.
    let output = test.replay(&config, &given("in.pcap"), &["--port", "edge"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(test.out()).unwrap(), fs::read(given("out.pcap")).unwrap());
}

#[test]
fn the_port_asked_for_takes_all_frames() {
    let test = Test::new();
    let config = test.folder.pop(&Config::new());
    let frame = syn_to_wan();
    let input = test.write("in.pcap", capture(&[frame]));
    let config = config.to_str().unwrap();
    assert!(test.replay(config, &input, &["--port", "wan"]).status.success());
    assert_eq!(test.sent(), 1);
    // On the targets' port the same frame is not for the POP.
    let output = test.replay(config, &input, &["--port", "lan", "--explain"]);
    assert!(stdout(&output).contains("drop wrong_mac"), "{}", stdout(&output));
    assert_eq!(test.sent(), 0);
}

/// A SYN to the port `wan` of [`Config::new`].
fn syn_to_wan() -> Vec<u8> {
    let (client, vip) = ("198.18.0.1".parse().unwrap(), "203.0.113.10".parse().unwrap());
    segment(WAN_MAC, (client, 4000), (vip, 443), SYN, &[2, 4, 5, 180])
}

#[test]
fn mistakes_are_reported_with_their_exit_codes() {
    let test = Test::new();
    let (config, input) = (given("config.toml"), given("in.pcap"));
    let ng = test.write("ng.pcapng", [10, 13, 13, 10].repeat(8));
    let text = test.write("text", "not a capture at all, only text of some length");
    let wifi = {
        let mut file = capture(&[]);
        file[20] = 105;
        test.write("wifi.pcap", file)
    };
    for (input, arguments, code, part) in [
        (&input, &["--port", "wan"][..], 2, "there is no wan; there are: edge"),
        (&"/nonexistent.pcap".to_owned(), &[], 1, "/nonexistent.pcap cannot be opened"),
        (&ng, &[], 1, "editcap -F pcap"),
        (&text, &[], 1, "is no pcap file"),
        (&wifi, &[], 1, "link type 105"),
        (&input, &["--colour"], 2, "--colour"),
    ] {
        let output = test.replay(&config, input, arguments);
        assert_eq!(output.status.code(), Some(code), "{part}");
        assert!(stderr(&output).contains(part), "{part:?} is not in {}", stderr(&output));
    }
    let output = test.replay("/nonexistent.toml", &input, &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_capture_is_not_overwritten_by_its_own_replay() {
    let test = Test::new();
    let capture = fs::read(given("in.pcap")).unwrap();
    let input = test.write("out.pcap", &capture);
    let output = test.replay(&given("config.toml"), &input, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("are the same file"), "{}", stderr(&output));
    assert_eq!(fs::read(input).unwrap(), capture);
}

#[test]
fn a_truncated_capture_is_replayed_to_its_end() {
    let test = Test::new();
    let mut file = fs::read(given("in.pcap")).unwrap();
    file.truncate(file.len() - 1);
    let input = test.write("in.pcap", file);
    let output = test.replay(&given("config.toml"), &input, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("in the middle of record 51"), "{}", stderr(&output));
    assert!(stdout(&output).contains("in 50 packets"), "{}", stdout(&output));
    assert_eq!(test.sent(), 32);
}
