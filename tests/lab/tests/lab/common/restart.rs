//! POPs that are restarted one after another, as a new version is rolled out.

use std::time::Duration;

use anyrelay_lab::Pop;

use super::{eventually, milliseconds};

/// For each POP in turn, `rounds` times over: it carries everything, is told to stop, says that it
/// is not ready, the routes leave it, it ends by itself, and is started again. `lead_to` moves the
/// routes, as BGP does for whoever announces.
pub fn roll(pops: &mut [Pop], rounds: usize, mut lead_to: impl FnMut(usize)) {
    const SOON: Duration = Duration::from_secs(30);
    lead_to(0);
    for turn in 0..rounds * pops.len() {
        let next = (turn + 1) % pops.len();
        let pop = &mut pops[turn % pops.len()];
        let before = received(pop);
        eventually("it carries what there is", SOON, || received(pop) > before + 100.0);
        pop.drain().unwrap();
        eventually("it says that it goes", SOON, || !pop.is_ready());
        lead_to(next);
        assert_eq!(pop.wait_end(SOON).unwrap(), Some(0), "{}", pop.log());
        pop.restart().unwrap();
        std::thread::sleep(milliseconds(100));
    }
}

fn received(pop: &Pop) -> f64 {
    pop.metric("anyrelay_port_packets_total", &[("direction", "rx")]).unwrap()
}
