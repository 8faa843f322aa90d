//! What health took out of a targets file, kept beside it.
//!
//! A targets file does not say who drained a target. Health brings back what it took out itself,
//! and nothing else; `FILE.health` beside the targets file has these targets. It is written before
//! the targets file, so that what it says of a target holds only while the targets file agrees.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyrelay_core::config::{MAX_WEIGHT, Target, TargetList, parse_toml};
use anyrelay_core::time::{UnixTime, format_time, from_toml};
use serde::Deserialize;

use crate::control::read;

/// The targets of one file that health took out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outs(pub Vec<Out>);

/// A target that health took out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// The target.
    pub address: SocketAddr,
    /// Its weight of before: 1..=[`MAX_WEIGHT`].
    pub weight: u16,
    /// When new connections end to go to it.
    pub until: UnixTime,
    /// Whether health wrote the targets file without it, as POPs ask it for nothing any more.
    pub is_absent: bool,
}

/// What a targets file and [`Outs`] say of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes new connections, without an end.
    Takes,
    /// It will take some later.
    Coming,
    /// Health took it out.
    Out(Out),
    /// An operator drained or removed it, or ends it at a date.
    Drained,
}

impl Outs {
    /// The path of the file that belongs to the targets file `targets`.
    pub fn path(targets: &Path) -> PathBuf {
        // Where a link leads, the lock of the folder is taken as well.
        let whole = fs::canonicalize(targets).unwrap_or_else(|_| targets.to_owned());
        let mut name = whole.file_name().unwrap_or_default().to_owned();
        name.push(".health");
        whole.with_file_name(name)
    }

    /// Reads the file that belongs to the targets file `targets`. Without a file there are none.
    ///
    /// # Errors
    /// The reason and the remedy, in words.
    pub fn read(targets: &Path) -> Result<Self, String> {
        let path = Outs::path(targets);
        if !path.exists() {
            return Ok(Outs::default());
        }
        let advice = "mend it; without it, health brings back no target that is out now";
        let text = read(&path).map_err(|reason| format!("{reason}; {advice}"))?;
        let raw: RawOuts = parse_toml("", &text).map_err(|problems| {
            let reasons = problems.0.into_iter().map(|problem| problem.reason);
            format!("{}; {advice}", reasons.collect::<Vec<_>>().join("; "))
        })?;
        let outs = raw.out.iter().map(|raw| {
            raw.checked()
                .ok_or_else(|| format!("{}: not as health writes it; {advice}", raw.address))
        });
        outs.collect::<Result<_, _>>().map(Outs)
    }

    /// Replaces the file that belongs to the targets file `targets`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn write(&self, targets: &Path) -> io::Result<()> {
        let path = Outs::path(targets);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.with_file_name(format!(".{name}.new"));
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(self.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        let done = write();
        if done.is_err() {
            // The next write replaces what is left.
            let _ = fs::remove_file(&beside);
        }
        done
    }

    fn to_text(&self) -> String {
        let mut text = String::from(
            "# What `anyrelay health` took out of the targets file, and brings back when it is \
             healthy.\n",
        );
        for Out { address, weight, until, is_absent } in &self.0 {
            let until = format_time(*until);
            text += &format!("\n[[out]]\naddress = \"{address}\"\nweight = {weight}\n");
            text += &format!("until = {until}\n");
            if *is_absent {
                text += "absent = true\n";
            }
        }
        text
    }

    /// What `list` and this say of the target `address`, of connections that begin at `time`.
    pub fn standing(&self, list: &TargetList, address: SocketAddr, time: UnixTime) -> Standing {
        let own = || list.entries.iter().filter(|target| target.address == address);
        let record = self.0.iter().find(|out| out.address == address);
        let last: Option<&Target> = own().max_by_key(|target| target.since);
        match (last, record) {
            (Some(last), _) if last.until == UnixTime::NEVER => {
                let takes = own().any(|target| target.takes_new(time));
                if takes { Standing::Takes } else { Standing::Coming }
            }
            // Of several times in which it was gone, the list may keep an earlier one.
            (Some(last), Some(out)) if last.gone != UnixTime::NEVER && last.until <= out.until => {
                Standing::Out(*out)
            }
            (None, Some(out)) if out.is_absent => Standing::Out(*out),
            _ => Standing::Drained,
        }
    }

    /// The targets of `list`, and those that health brings back into it, ascending.
    pub fn addresses(&self, list: &TargetList) -> Vec<SocketAddr> {
        let absent = self.0.iter().filter(|out| out.is_absent).map(|out| out.address);
        let mut addresses: Vec<_> = list.addresses().chain(absent).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Those that are out of `list` indeed, at `time`.
    #[must_use]
    pub fn that_hold(&self, list: &TargetList, time: UnixTime) -> Outs {
        let is_out = |out: &&Out| self.standing(list, out.address, time) == Standing::Out(**out);
        Outs(self.0.iter().filter(is_out).copied().collect())
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOuts {
    #[serde(default)]
    out: Vec<RawOut>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOut {
    address: String,
    weight: u16,
    until: toml::value::Datetime,
    #[serde(default)]
    absent: bool,
}

impl RawOut {
    fn checked(&self) -> Option<Out> {
        let address = self.address.parse().ok()?;
        let weight = Some(self.weight).filter(|weight| (1..=MAX_WEIGHT).contains(weight))?;
        Some(Out { address, weight, until: from_toml(&self.until)?, is_absent: self.absent })
    }
}

#[cfg(test)]
mod tests {
    use anyrelay_core::config::{MEMORY_MS, SKEW_MS};

    use super::*;

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, n], 80))
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn out(n: u8, until: u64) -> Out {
        Out { address: address(n), weight: 3, until: at(until), is_absent: false }
    }

    #[test]
    fn only_what_the_list_agrees_with_is_out() {
        let always = |n| Target::always(address(n), 1);
        let ended = |n, until, gone| Target { until: at(until), gone, ..always(n) };
        let back = |n, since| Target { since: at(since), ..always(n) };
        let entries = vec![
            always(1),
            ended(2, 10, at(16)),
            // An operator's.
            ended(3, 10, UnixTime::NEVER),
            ended(4, 20, at(26)),
            // It is back.
            ended(5, 10, at(16)),
            back(5, 30),
            back(6, 1000),
        ];
        let list = TargetList { serial: 1, memory_ms: MEMORY_MS, skew_ms: SKEW_MS, entries };
        let absent = Out { is_absent: true, ..out(7, 10) };
        let outs = (1..=6).map(|n| out(n, 10)).chain([absent, out(8, 10)]);
        let outs = Outs(outs.collect());
        let standings: Vec<_> =
            (1..=8).map(|n| outs.standing(&list, address(n), at(100))).collect();
        use Standing::{Coming, Drained, Takes};
        let (second, seventh) = (Standing::Out(out(2, 10)), Standing::Out(absent));
        assert_eq!(standings, [Takes, second, Drained, Drained, Takes, Coming, seventh, Drained]);
        assert_eq!(outs.that_hold(&list, at(100)), Outs(vec![out(2, 10), absent]));
        let all: Vec<_> = (1..=7).map(address).collect();
        assert_eq!(outs.addresses(&list), all);
        // An earlier time in which it was gone may stand for all.
        assert_eq!(
            Outs(vec![out(2, 99)]).standing(&list, address(2), at(100)),
            Standing::Out(out(2, 99))
        );
    }

    #[test]
    fn the_file_has_what_was_written() {
        let folder = std::env::temp_dir().join(format!("anyrelay-outs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let targets = folder.join("web.toml");
        fs::write(&targets, "").unwrap();
        assert_eq!(Outs::read(&targets), Ok(Outs::default()));
        let outs = Outs(vec![out(1, 5), Out { is_absent: true, weight: 1000, ..out(2, 6) }]);
        outs.write(&targets).unwrap();
        assert_eq!(Outs::read(&targets), Ok(outs));
        let path = folder.join("web.toml.health");
        assert_eq!(Outs::path(&targets), path.canonicalize().unwrap());
        for text in [
            "[[out]]",
            "x = 1",
            "[[out]]\naddress = \"a\"\nweight = 1\nuntil = 2026-01-01T00:00:00Z",
        ] {
            fs::write(&path, text).unwrap();
            let reason = Outs::read(&targets).unwrap_err();
            assert!(reason.contains("mend it"), "{reason}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
