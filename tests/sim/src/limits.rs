//! The rate limit of SYNs, judged by what it lets through and what not: only SYNs are stopped, not
//! too few of them, and none without need.

use std::collections::BTreeMap;

use anyrelay_core::verdict::{DropReason, Verdict};
use anyrelay_kit::frames::SYN;
use anyrelay_kit::pop::Recorder;

use crate::setup::Setup;
use crate::wire::Datagram;

/// SYNs that came to each worker of each POP for each service.
#[derive(Debug, Default)]
pub struct Syns(BTreeMap<(usize, usize, usize), Vec<Came>>);

#[derive(Clone, Copy, Debug)]
struct Came {
    at_us: u64,
    limited: bool,
    sent_on: bool,
}

impl Syns {
    /// A worker began anew.
    pub fn forget(&mut self, pop: usize, worker: usize) {
        self.0.retain(|key, _| (key.0, key.1) != (pop, worker));
    }

    /// Judges what a POP did with a datagram from its clients' side.
    pub fn check(
        &mut self,
        setup: &Setup,
        at_us: u64,
        (pop, worker, bytes): (usize, usize, &[u8]),
        out: &Recorder,
    ) -> Result<bool, String> {
        let limited = out.drops().any(|reason| reason == DropReason::RateSynService);
        let segment = Datagram::read(bytes).and_then(|ip| ip.segment());
        let syn = segment.filter(|segment| segment.has(SYN));
        let service = syn.and_then(|syn| setup.service_at(syn.dst));
        let (Some(service), Some(limit)) = (service, setup.syn_limit) else {
            return if limited { Err("limited, but no SYN".into()) } else { Ok(false) };
        };
        let sent_on = out.verdicts().any(|verdict| matches!(verdict, Verdict::Forward(_)));
        let came = self.0.entry((pop, worker, service)).or_default();
        came.retain(|one| one.at_us + 1_000_000 >= at_us);
        // As many as in a second of rest, and in a second beside them.
        let (before, limit) = (came.iter(), limit as usize);
        if limited && before.filter(|one| !one.limited).count() < limit {
            return Err(format!("limited, but there were not {limit} SYNs in this second"));
        }
        came.push(Came { at_us, limited, sent_on });
        if came.iter().filter(|one| one.sent_on).count() > 2 * limit + 1 {
            return Err(format!("more SYNs than twice {limit} in a second"));
        }
        Ok(limited)
    }
}
