//! The owners of TX rings, decided once at start from the layout and the number of rings.

use anyrelay_core::config::Layout;

/// The owners of a port's TX rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// All workers: worker i owns ring i.
    Each,
    /// One worker owns the only ring; the others pass frames to it.
    One(usize),
}

/// The number of TX rings to open each port with.
pub fn rings_wanted(layout: Layout, workers: usize) -> u16 {
    match layout {
        Layout::RunToCompletion => u16::try_from(workers).unwrap_or(u16::MAX).max(1),
        Layout::Pipeline => 1,
    }
}

/// Decides for each port. `rings` is the number of TX rings of each port, `receives` whether each
/// worker receives from each port.
///
/// The owner of a shared ring is, with run-to-completion, a worker that receives from the port, so
/// that answers stay on it; with pipeline one that does not, so that receiving and sending overlap;
/// among several the one with the fewest rings, and then the first.
pub fn plan(layout: Layout, rings: &[usize], receives: &[Vec<bool>]) -> Vec<Ownership> {
    let mut owned = vec![0; receives.len()];
    let mut ownerships = Vec::with_capacity(rings.len());
    for (port, &rings) in rings.iter().enumerate() {
        if layout == Layout::RunToCompletion && rings >= receives.len() {
            ownerships.push(Ownership::Each);
            continue;
        }
        let wanted = layout == Layout::RunToCompletion;
        let is_fit = |worker: &Vec<bool>| worker.get(port).copied().unwrap_or(false) == wanted;
        let any_fit = receives.iter().any(is_fit);
        let candidates = receives.iter().enumerate().filter(|(_, w)| !any_fit || is_fit(w));
        let owner = candidates
            .min_by_key(|(worker, _)| owned.get(*worker).copied().unwrap_or(0))
            .map_or(0, |(worker, _)| worker);
        if let Some(count) = owned.get_mut(owner) {
            *count += 1;
        }
        ownerships.push(Ownership::One(owner));
    }
    ownerships
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_to_completion_shares_nothing_where_rings_suffice() {
        let receives = vec![vec![true, false], vec![false, true]];
        let plan = plan(Layout::RunToCompletion, &[2, 1], &receives);
        assert_eq!(plan, [Ownership::Each, Ownership::One(1)]);
        assert_eq!(rings_wanted(Layout::RunToCompletion, 2), 2);
    }

    #[test]
    fn one_worker_owns_everything() {
        for layout in [Layout::RunToCompletion, Layout::Pipeline] {
            for owner in plan(layout, &[1, 1], &[vec![true, true]]) {
                assert!(matches!(owner, Ownership::Each | Ownership::One(0)));
            }
        }
    }

    #[test]
    fn pipeline_sends_elsewhere_than_it_receives() {
        let receives = vec![vec![true, false], vec![false, true]];
        assert_eq!(
            plan(Layout::Pipeline, &[1, 1], &receives),
            [Ownership::One(1), Ownership::One(0)]
        );
        // All workers receive from both ports: in turns.
        let receives = vec![vec![true, true], vec![true, true]];
        assert_eq!(
            plan(Layout::Pipeline, &[1, 1], &receives),
            [Ownership::One(0), Ownership::One(1)]
        );
        // A worker without RX queues sends everything.
        let receives = vec![vec![true, true], vec![false, false]];
        assert_eq!(
            plan(Layout::Pipeline, &[1, 1], &receives),
            [Ownership::One(1), Ownership::One(1)]
        );
        assert_eq!(rings_wanted(Layout::Pipeline, 8), 1);
    }
}
