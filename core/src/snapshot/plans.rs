//! The plans of all services in pool mode.

use super::service::Service;
use crate::net::ServiceIndex;
use crate::relay::pool::plan::Plan;
use crate::time::UnixTime;

/// For each service its plans, which are none for one that is not in pool mode.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    all: Vec<Plan>,
    /// Where those of each service begin, and where the last ones end.
    begins: Vec<u32>,
}

impl Plans {
    pub fn new(services: &[Service]) -> Self {
        let (mut all, mut begins) = (Vec::new(), vec![0]);
        for service in services {
            if let Service::Relay(relay) = service {
                all.extend(Plan::all_of(relay));
            }
            begins.push(all.len() as u32);
        }
        Plans { all, begins }
    }

    /// Whether no service has any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// That of a service that holds at `now`.
    #[inline]
    pub fn get(&self, service: ServiceIndex, now: UnixTime) -> Option<&Plan> {
        let at = usize::from(service.0);
        let (begin, end) = (*self.begins.get(at)?, *self.begins.get(at + 1)?);
        let plans = self.all.get(begin as usize..end as usize)?;
        plans.iter().find(|plan| plan.holds(now))
    }
}
