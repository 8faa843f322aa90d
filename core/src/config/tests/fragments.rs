//! The policy for fragments, and its limits.

use super::*;

fn limits(text: &str) -> FragmentLimits {
    match Config::parse("f", text).unwrap().pop.fragments {
        Fragments::Reassemble(limits) => limits,
        Fragments::Drop => panic!("the policy is to drop"),
    }
}

#[test]
fn limits_have_defaults_that_leave_most_buffers_free() {
    let (datagrams, per_datagram, timeout_ms) = (1024, 8, 1000);
    // Half of 8192 buffers for two workers.
    let want = FragmentLimits { datagrams, per_datagram, buffers: 2048, timeout_ms };
    assert_eq!(limits(&reassembling("")), want);
    assert_eq!(limits(&with("\"drop\"", "\"reassemble\"")), want, "without the table");
    let few = reassembling("").replace("mbufs = 8192", "mbufs = 2048");
    assert_eq!(limits(&few).buffers, 512);
    let own = reassembling("datagrams = 16\nper_datagram = 2\nbuffers = 32\ntimeout_ms = 10");
    let want = FragmentLimits { datagrams: 16, per_datagram: 2, buffers: 32, timeout_ms: 10 };
    assert_eq!(limits(&own), want);
}

#[test]
fn limits_out_of_range_are_reported() {
    for (lines, key, reason) in [
        ("datagrams = 15", "fragments.datagrams", "16 to 65536"),
        ("datagrams = 65537", "fragments.datagrams", "16 to 65536"),
        ("per_datagram = 1", "fragments.per_datagram", "2 to 8"),
        ("per_datagram = 9", "fragments.per_datagram", "2 to 8"),
        ("buffers = 31", "fragments.buffers", "32 to"),
        ("buffers = 2049", "fragments.buffers", "more than half of dpdk.mbufs = 8192: take 2048"),
        ("timeout_ms = 9", "fragments.timeout_ms", "10 to 30000"),
        ("timeout_ms = 30001", "fragments.timeout_ms", "10 to 30000"),
        ("bufers = 1", "fragments.bufers", "unknown field"),
    ] {
        let problems = Config::parse("f", &reassembling(lines)).unwrap_err().0;
        let found = problems.iter().find(|problem| problem.key == key);
        assert!(found.is_some_and(|found| found.reason.contains(reason)), "{lines}: {problems:?}");
    }
}
