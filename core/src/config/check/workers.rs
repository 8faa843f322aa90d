//! Checks workers and the RX queues that they poll.

use super::super::raw::RawConfig;
use super::super::{MAX_WORKERS, PortConfig, PortQueue, WorkerConfig};
use super::report::{Report, repeated};
use crate::net::PortIndex;

pub(super) fn workers(
    report: &mut Report,
    raw: &RawConfig,
    ports: &[PortConfig],
) -> Vec<WorkerConfig> {
    if raw.worker.is_empty() {
        report
            .error("worker", "there is no worker; add a [[worker]] with a core and its rx queues");
    }
    report.at_most("worker", "workers", raw.worker.len(), MAX_WORKERS);
    let mut pollers: Vec<(PortQueue, usize)> = Vec::new();
    let mut workers = Vec::new();
    for (index, worker) in raw.worker.iter().enumerate() {
        let mut rx = Vec::new();
        for (place, text) in worker.rx.iter().enumerate() {
            let key = format!("worker[{index}].rx[{place}]");
            let Some(queue) = rx_queue(report, &key, text, ports) else { continue };
            if let Some((_, other)) = pollers.iter().find(|(polled, _)| *polled == queue) {
                report.error(
                    key,
                    format!(
                        "{text:?} is polled by worker[{other}] already; a queue has one worker"
                    ),
                );
                continue;
            }
            pollers.push((queue, index));
            rx.push(queue);
        }
        let core = report.number(&format!("worker[{index}].core"), worker.core, 0, 1023);
        workers.push(WorkerConfig { core: core.unwrap_or_default(), rx });
    }
    cores(report, &workers);
    unpolled(report, ports, &pollers);
    workers
}

fn rx_queue(report: &mut Report, key: &str, text: &str, ports: &[PortConfig]) -> Option<PortQueue> {
    let parsed = text.rsplit_once(':').and_then(|(name, queue)| Some((name, queue.parse().ok()?)));
    let Some((name, queue)) = parsed else {
        report.error(key, format!("{text:?} is not PORT:QUEUE; write it as \"wan:0\""));
        return None;
    };
    let Some(place) = ports.iter().position(|port| port.name == name) else {
        let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
        report.error(key, format!("there is no port {name:?}; the ports are {}", names.join(", ")));
        return None;
    };
    let queues = ports.get(place).map_or(0, |port| port.queues);
    if queue >= queues {
        report.error(
            key,
            format!(
                "port {name:?} has no RX queue {queue}: it has {queues}, counted from 0; raise its \
                 `queues`"
            ),
        );
        return None;
    }
    Some(PortQueue { port: PortIndex(u8::try_from(place).ok()?), queue })
}

fn cores(report: &mut Report, workers: &[WorkerConfig]) {
    let cores: Vec<_> = workers.iter().map(|worker| worker.core).collect();
    for (first, second) in repeated(&cores) {
        report.warn(
            format!("worker[{second}].core"),
            format!("worker[{first}] is pinned to this core too; they take turns"),
        );
    }
}

fn unpolled(report: &mut Report, ports: &[PortConfig], pollers: &[(PortQueue, usize)]) {
    for (place, port) in (0..).zip(ports) {
        for queue in 0..port.queues {
            let wanted = PortQueue { port: PortIndex(place), queue };
            if !pollers.iter().any(|(polled, _)| *polled == wanted) {
                report.error(
                    format!("port[{place}].queues"),
                    format!("no worker polls {}:{queue}; add it to a worker's rx", port.name),
                );
            }
        }
    }
}
