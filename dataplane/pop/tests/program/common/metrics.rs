//! A strict parser of Prometheus' text format.

use std::collections::{BTreeMap, HashMap, HashSet};

/// One scrape.
pub struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
    pub kinds: HashMap<String, String>,
}

impl Metrics {
    /// Parses a page; panics on any deviation from the format (version 0.0.4).
    pub fn parse(page: &str) -> Metrics {
        assert!(page.ends_with('\n'), "the last line has no end");
        let mut metrics = Metrics { samples: Vec::new(), kinds: HashMap::new() };
        let mut helped = HashSet::new();
        let mut series = HashSet::new();
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(helped.insert(name.to_owned()) && !text.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(helped.contains(name), "{line}");
                let old = metrics.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(old, None, "{line}");
            } else {
                let (head, value) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(head.to_owned()), "twice: {line}");
                let (name, labels) = split_labels(head);
                assert!(metrics.kinds.contains_key(name), "no TYPE before {line}");
                let value: f64 = value.parse().unwrap();
                metrics.samples.push((name.to_owned(), labels, value));
            }
        }
        metrics
    }

    /// The sum of a metric's samples that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.with(name, labels).sum::<f64>() as u64
    }

    /// The sums of a metric's samples for each value of `label`.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::new();
        for (_, labels, value) in self.samples.iter().filter(|(other, ..)| other == name) {
            *sums.entry(labels[label].as_str()).or_default() += *value as u64;
        }
        sums
    }

    /// Whether workers processed frames between `before` and this page.
    pub fn moved_since(&self, before: &Metrics) -> bool {
        let is_of_frames = |name: &str| {
            name == "anyrelay_fragments_waiting"
                || name == "anyrelay_egress_queue_depth"
                || (name.starts_with("anyrelay_") && name.ends_with("_total"))
                    && !["anyrelay_polls_total", "anyrelay_probes_total"].contains(&name)
        };
        let of = |page: &Metrics| -> Vec<_> {
            page.samples.iter().filter(|(name, ..)| is_of_frames(name)).cloned().collect()
        };
        of(self) != of(before)
    }

    /// Whether a metric has a sample with all of `labels`.
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.with(name, labels).next().is_some()
    }

    fn with(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        let samples =
            self.samples.iter().filter(move |(other, found, _)| other == name && has(found));
        samples.map(|(_, _, value)| *value)
    }

    /// The names of the labels of a metric; `None` without samples.
    pub fn label_names(&self, name: &str) -> Option<Vec<&str>> {
        let (_, labels, _) = self.samples.iter().find(|(other, ..)| other == name)?;
        Some(labels.keys().map(String::as_str).collect())
    }

    /// The value of a label of a metric's first sample.
    pub fn label(&self, name: &str, label: &str) -> Option<&str> {
        let (_, labels, _) = self.samples.iter().find(|(other, ..)| other == name)?;
        labels.get(label).map(String::as_str)
    }

    /// All drops, for messages of tests.
    pub fn drops(&self) -> Vec<String> {
        let drops = self
            .samples
            .iter()
            .filter(|(name, _, value)| name == "anyrelay_drops_total" && *value > 0.0);
        drops.map(|(_, labels, value)| format!("{labels:?} {value}")).collect()
    }
}

fn split_labels(head: &str) -> (&str, BTreeMap<String, String>) {
    let Some((name, labels)) = head.split_once('{') else { return (head, BTreeMap::new()) };
    let labels = labels.strip_suffix('}').unwrap();
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap();
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{head}");
        (key.to_owned(), value.to_owned())
    };
    (name, labels.split(',').map(pair).collect())
}
