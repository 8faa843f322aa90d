//! Who owns which TX ring: decided once at start, from the layout and what the ports offer.

use anyrelay_core::config::Layout;

/// Who sends on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Every worker, each on a ring of its own: worker i has ring i.
    Each,
    /// One worker has the only ring; the others hand their frames to it.
    One(usize),
}

/// TX rings that each port should be opened with.
pub fn rings_wanted(layout: Layout, workers: usize) -> u16 {
    match layout {
        Layout::RunToCompletion => u16::try_from(workers).unwrap_or(u16::MAX).max(1),
        Layout::Pipeline => 1,
    }
}

/// Decides for each port. `rings` has the number of TX rings of each port, `receives` for each
/// worker whether it receives from each port.
///
/// Where a ring is shared, run-to-completion gives it to a worker that receives from the port, so
/// that answers stay there, and pipeline to one that does not, so that receiving and sending
/// overlap; among several to the one that owns the fewest, and then the first.
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
        // All receive from both: in turns.
        let receives = vec![vec![true, true], vec![true, true]];
        assert_eq!(
            plan(Layout::Pipeline, &[1, 1], &receives),
            [Ownership::One(0), Ownership::One(1)]
        );
        // A worker without RX queues sends it all.
        let receives = vec![vec![true, true], vec![false, false]];
        assert_eq!(
            plan(Layout::Pipeline, &[1, 1], &receives),
            [Ownership::One(1), Ownership::One(1)]
        );
        assert_eq!(rings_wanted(Layout::Pipeline, 8), 1);
    }
}
