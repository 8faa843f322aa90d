//! How many clients a change moves.

use std::net::SocketAddr;

use super::list::Target;

/// The share of all clients, 0 to 1, whose target is another among `after` than among `before`.
///
/// With the hash h of a client and a target, -log2(h) is distributed exponentially, so a target
/// wins with the probability of its weight among all. It wins before and after where its own is
/// less than that of each other one by the larger of the two ratios of their weights:
///
/// ```text
/// moved = 1 - sum over i of 1 / (1 + sum over j != i of max(w_j / w_i, w'_j / w'_i))
/// ```
pub fn moved_share(before: &[Target], after: &[Target]) -> f64 {
    let weight = |of: &[Target], address: SocketAddr| -> f64 {
        of.iter().find(|target| target.address == address).map_or(0.0, |at| at.weight.into())
    };
    let addresses: Vec<_> = before.iter().chain(after).map(|target| target.address).collect();
    let stays = before.iter().map(|target| target.address).map(|this| {
        let (own_before, own_after) = (weight(before, this), weight(after, this));
        if own_after == 0.0 {
            return 0.0;
        }
        let mut others: Vec<_> = addresses.iter().filter(|other| **other != this).collect();
        others.sort_unstable();
        others.dedup();
        let ratios = others.into_iter().map(|other| {
            (weight(before, *other) / own_before).max(weight(after, *other) / own_after)
        });
        1.0 / (1.0 + ratios.sum::<f64>())
    });
    (1.0 - stays.sum::<f64>()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(weights: &[(u8, u16)]) -> Vec<Target> {
        let target = |&(n, weight): &(u8, u16)| {
            Target::always(SocketAddr::from(([198, 51, 100, n], 80)), weight)
        };
        weights.iter().map(target).collect()
    }

    #[test]
    fn an_added_target_takes_its_share_and_a_drained_one_leaves_its_own() {
        for (before, after, share) in [
            (&[(1, 1)][..], &[(1, 1)][..], 0.0),
            (&[(1, 1), (2, 1), (3, 1)], &[(1, 1), (2, 1), (3, 1), (4, 1)], 0.25),
            (&[(1, 1), (2, 1), (3, 1), (4, 1)], &[(1, 1), (2, 1), (4, 1)], 0.25),
            (&[(1, 1), (2, 1)], &[(1, 1), (2, 1), (3, 2)], 0.5),
            (&[(1, 1)], &[(2, 1)], 1.0),
            (&[(1, 1), (2, 1)], &[(1, 1), (2, 3)], 0.25),
            (&[], &[(1, 1)], 1.0),
        ] {
            let found = moved_share(&list(before), &list(after));
            assert!((found - share).abs() < 1e-12, "{before:?} {after:?} {found}");
        }
    }
}
