//! What the keeper says of its decisions: in the log, on the board, and to the command that
//! distributes the file.

use std::net::SocketAddr;

use anyrelay_core::time::format_time;

use super::Keeper;
use crate::health::decide::{Decision, Withheld};
use crate::worker::unix_now;

impl Keeper {
    /// Says what was decided, and lets it be distributed.
    pub(super) fn tell(&mut self, decision: Decision) {
        let Decision { list, at, downs, ups, withheld, .. } = decision;
        let (file, at) = (&self.config.file, format_time(at));
        let dry_run = if self.how.dry_run { "dry run, nothing is written: " } else { "" };
        let is_said = |address: &SocketAddr, word| self.said.contains(&(*address, word));
        if self.how.dry_run {
            let news =
                downs.iter().map(|down| (down, "out")).chain(ups.iter().map(|up| (up, "back")));
            for (address, word) in news.filter(|(address, word)| !is_said(address, word)) {
                tracing::warn!(file, %address, at, "{dry_run}{word}");
            }
        } else if let Some(list) = &list {
            for address in &downs {
                tracing::warn!(file, %address, serial = list.serial, at, "taken out");
            }
            for address in &ups {
                tracing::info!(file, %address, serial = list.serial, at, "brought back");
            }
            let mut status = self.board.lock();
            status.counts.downs += downs.len() as u64;
            status.counts.ups += ups.len() as u64;
            status.counts.last_write_ms = Some(unix_now(0).as_millis());
            drop(status);
            if let Some(after) = &self.after {
                after.request();
            }
        }
        let would = |list: Vec<SocketAddr>| list.into_iter().filter(|_| self.how.dry_run);
        let would: Vec<_> = would(downs)
            .map(|down| (down, Said::Would("out")))
            .chain(would(ups).map(|up| (up, Said::Would("back"))))
            .collect();
        let all = withheld.into_iter().map(|(address, why)| (address, Said::Withheld(why)));
        self.tell_withheld(all.chain(would).collect());
    }

    /// Says of each target that stays as it is why, once.
    pub(super) fn tell_withheld(&mut self, all: Vec<(SocketAddr, Said)>) {
        let mut status = self.board.lock();
        for target in &mut status.targets {
            let said = all.iter().find(|(address, _)| *address == target.address);
            target.withheld = said.map(|(_, said)| said.text());
        }
        let mut said = Vec::new();
        for (address, what) in &all {
            let word = what.word();
            said.push((*address, word));
            if self.said.contains(&(*address, word)) {
                continue;
            }
            let (file, reason) = (&self.config.file, what.text());
            match what {
                Said::Would(_) => {}
                Said::Withheld(Withheld::Floor) => {
                    status.counts.withheld_floor += 1;
                    tracing::error!(file, %address, "stays in, although it is down: {reason}");
                }
                Said::Withheld(Withheld::Limits(_)) => {
                    status.counts.withheld_limits += 1;
                    tracing::error!(file, %address, "stays as it is: {reason}");
                }
                Said::Withheld(Withheld::Hold(_)) => {
                    tracing::info!(file, %address, "stays out for now: {reason}");
                }
            }
        }
        self.said = said;
    }
}

/// What is said of a target that stays as it is.
pub(super) enum Said {
    /// Without the dry run it would not.
    Would(&'static str),
    Withheld(Withheld),
}

impl Said {
    fn word(&self) -> &'static str {
        match self {
            Said::Would(word) => word,
            Said::Withheld(Withheld::Floor) => "floor",
            Said::Withheld(Withheld::Limits(_)) => "limits",
            Said::Withheld(Withheld::Hold(_)) => "hold",
        }
    }

    fn text(&self) -> String {
        match self {
            Said::Would(_) => "dry run".to_owned(),
            Said::Withheld(Withheld::Floor) => "too few others take connections (floor)".to_owned(),
            Said::Withheld(Withheld::Limits(reason)) => reason.clone(),
            Said::Withheld(Withheld::Hold(time)) => {
                format!("it may come back from {} on", format_time(*time))
            }
        }
    }
}
