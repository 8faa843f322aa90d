//! The longest datagram that gets to the target: a search that asks for few lengths.

use std::io;

use anyrelay_core::net::Family;

use super::findings::Path;

/// What became of a datagram of some length, with DF set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It was answered.
    Passed,
    /// A router announced this MTU instead.
    Told(u16),
    /// Nothing came back.
    Lost,
    /// This host's link does not take it.
    TooLong,
    /// The target has reset the connection: it answers no further.
    Ended,
}

/// Searches the path, over a link of this MTU, by sending datagrams of one length after the other:
/// [`SENT_MAX`] at most. The first has the length `longest`, that of what a relay sends.
///
/// # Errors
/// Those of `send`.
pub(super) fn search(
    family: Family,
    longest: u16,
    link: u16,
    mut send: impl FnMut(u16) -> io::Result<Passage>,
) -> io::Result<Path> {
    let wanted = longest.min(link);
    let mut path = Path { wanted, link, passes: None, fails: None, told: None };
    let mut next = Some(wanted);
    for _ in 0..SENT_MAX {
        let Some(len) = next else { break };
        match send(len)? {
            Passage::Passed => path.passes = path.passes.max(Some(len)),
            Passage::Told(mtu) => {
                path.told = Some(mtu);
                path.fails = Some(len);
                let is_useful = mtu < len && mtu >= SHORTEST && path.passes < Some(mtu);
                if is_useful {
                    next = Some(mtu);
                    continue;
                }
            }
            Passage::Lost => path.fails = Some(len),
            Passage::TooLong => {
                path.fails = Some(len);
                path.link = path.link.min(len.saturating_sub(1));
            }
            Passage::Ended => break,
        }
        next = between(family, &path);
    }
    Ok(path)
}

/// The length to ask for next: the middle one of the usual MTUs that are left.
fn between(family: Family, path: &Path) -> Option<u16> {
    let fails = path.fails?;
    if path.told.is_some() && path.passes == path.told {
        return None;
    }
    let shortest = match family {
        Family::V4 => SHORTEST,
        Family::V6 => SHORTEST6,
    };
    let low = path.passes.unwrap_or(shortest - 1);
    let mut left = USUAL.iter().filter(|&&mtu| low < mtu && mtu < fails);
    let count = left.clone().count();
    left.nth(count / 2).copied()
}

/// Lengths asked for at most.
pub(super) const SENT_MAX: usize = 8;
/// MTUs that links and tunnels have, ascending.
const USUAL: &[u16] = &[
    576, 1006, 1280, 1300, 1320, 1340, 1360, 1380, 1400, 1412, 1420, 1430, 1440, 1450, 1454, 1460,
    1468, 1472, 1476, 1480, 1488, 1492, 1496, 1500, 1600, 2000, 3000, 4096, 4352, 4464, 6000, 8000,
    8500, 8900, 8950, 9000, 9100,
];
const SHORTEST: u16 = 576;
const SHORTEST6: u16 = 1280;

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a path of this MTU, whose routers tell it or not; also how many were sent.
    fn run(longest: u16, mtu: u16, tells: bool) -> (Path, usize) {
        let mut sent = 0;
        let path = search(Family::V4, longest, 9000, |len| {
            sent += 1;
            Ok(match len <= mtu {
                true => Passage::Passed,
                false if tells => Passage::Told(mtu),
                false => Passage::Lost,
            })
        });
        (path.unwrap(), sent)
    }

    #[test]
    fn a_whole_path_takes_one_datagram() {
        let (path, sent) = run(1500, 1500, true);
        assert_eq!((path.wanted, path.passes, path.fails), (1500, Some(1500), None));
        assert!(path.is_whole() && sent == 1);
    }

    #[test]
    fn an_announced_mtu_is_tried() {
        let (path, sent) = run(1500, 1400, true);
        assert_eq!((path.passes, path.fails, path.told), (Some(1400), Some(1500), Some(1400)));
        assert_eq!((path.is_whole(), sent), (false, 2));
    }

    #[test]
    fn a_silent_hop_is_found_between_usual_mtus() {
        for mtu in (576..1500).chain([4000, 8999]) {
            let (path, sent) = run(9000, mtu, false);
            let (passes, fails) = (path.passes.unwrap(), path.fails.unwrap());
            assert!(passes <= mtu && mtu < fails, "{mtu}: {path:?}");
            let inside = USUAL.iter().filter(|&&usual| passes < usual && usual < fails).count();
            assert_eq!(inside, 0, "{mtu}: {path:?}");
            assert!(sent <= SENT_MAX, "{mtu}: {sent}");
            assert_eq!(path.told, None);
        }
    }

    #[test]
    fn nonsense_and_dead_paths_end() {
        let (path, sent) = run(1500, 100, false);
        assert_eq!(path.passes, None);
        assert!(sent <= SENT_MAX, "{sent}");
        for told in [0, 1, 1500, u16::MAX] {
            let mut sent = 0;
            let path = search(Family::V6, 1500, 1500, |_| {
                sent += 1;
                Ok(Passage::Told(told))
            });
            assert_eq!(path.unwrap().passes, None);
            assert!(sent <= SENT_MAX, "{told}: {sent}");
        }
        let ended = search(Family::V4, 1500, 1500, |_| Ok(Passage::Ended)).unwrap();
        assert_eq!((ended.passes, ended.fails), (None, None));
        let narrow = search(Family::V4, 1500, 1500, |len| {
            Ok(if len > 1492 { Passage::TooLong } else { Passage::Passed })
        });
        assert_eq!(narrow.unwrap().passes, Some(1492));
    }
}
