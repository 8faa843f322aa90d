//! Warnings about ports whose frames all arrive in one of their queues: the workers that poll the
//! others have nothing to do.

use crate::ports::PortSample;

/// Which ports were warned of.
#[derive(Debug, Default)]
pub struct QueueWatch {
    warned: Vec<usize>,
}

/// A port that fills one of its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleQueue {
    /// The index of the port.
    pub port: usize,
    /// The queue.
    pub queue: usize,
    /// The number of its queues.
    pub queues: usize,
    /// The frames received.
    pub frames: u64,
}

impl QueueWatch {
    /// The ports of which a warning is due, each once. Call it about once a second.
    pub fn due(&mut self, samples: &[PortSample]) -> Vec<SingleQueue> {
        let single = samples.iter().enumerate().filter_map(|(port, sample)| single(port, sample));
        let due: Vec<_> = single.filter(|single| !self.warned.contains(&single.port)).collect();
        self.warned.extend(due.iter().map(|single| single.port));
        due
    }
}

impl SingleQueue {
    /// Writes the warning to the log.
    pub fn log(&self, port: &str) {
        let SingleQueue { queue, queues, frames, .. } = *self;
        tracing::warn!(
            port,
            queue,
            queues,
            frames,
            "All frames of the port arrive in one of its queues. If they are of more than one \
             connection, its device does not spread them: set port.queues = 1 and give the other \
             workers another port, or use a device that spreads (virtio: mq=on,rss=on at the host)."
        );
    }
}

/// The queue that has all frames of a port with several queues, once there are enough of them.
fn single(port: usize, sample: &PortSample) -> Option<SingleQueue> {
    let counts = &sample.rx_queues;
    let frames = counts.iter().sum();
    let queue = counts.iter().position(|&count| count == frames)?;
    let queues = counts.len();
    (queues > 1 && frames >= FRAMES_MIN).then_some(SingleQueue { port, queue, queues, frames })
}

/// Fewer frames may be of a few connections, which one queue may have by chance.
const FRAMES_MIN: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rx_queues: &[u64]) -> PortSample {
        PortSample { rx_queues: rx_queues.to_vec(), ..PortSample::default() }
    }

    #[test]
    fn a_port_that_fills_one_queue_is_warned_of_once() {
        let mut watch = QueueWatch::default();
        let [one, spread] = [sample(&[50_000]), sample(&[49_999, 1])];
        assert_eq!(watch.due(&[one.clone(), spread.clone(), sample(&[0, 9_999])]), []);
        let single = SingleQueue { port: 2, queue: 1, queues: 2, frames: 10_000 };
        assert_eq!(watch.due(&[one.clone(), spread.clone(), sample(&[0, 10_000])]), [single]);
        assert_eq!(watch.due(&[one, spread, sample(&[0, 20_000])]), []);
    }
}
