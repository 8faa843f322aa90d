//! Reading what a POP exports: the Prometheus text format, without time stamps.

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Parses a scrape; lines that are not samples are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(parse_sample).collect())
    }

    /// The sum of all samples of this name that carry all of these labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.iter().any(|(k, v)| k == key && v == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.0.iter().filter(carries).map(|sample| sample.value).sum()
    }

    /// The value of `label` in the first sample of this name.
    #[must_use]
    pub fn label(&self, name: &str, label: &str) -> Option<&str> {
        let sample = self.0.iter().find(|sample| sample.name == name)?;
        sample.labels.iter().find(|(key, _)| key == label).map(|(_, value)| value.as_str())
    }

    /// The samples of this name that are not 0, one per line, for messages.
    #[must_use]
    pub fn nonzero(&self, name: &str) -> String {
        let lines = self.0.iter().filter(|sample| sample.name == name && sample.value != 0.0);
        lines.map(|s| format!("{:?} {}\n", s.labels, s.value)).collect()
    }
}

/// `name{label="value",...} number`; label values of ours hold neither quotes nor backslashes.
fn parse_sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match head.split_once('{') {
        None => (head, Vec::new()),
        Some((name, rest)) => (name, parse_labels(rest.strip_suffix('}')?)),
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

fn parse_labels(text: &str) -> Vec<(String, String)> {
    let pairs = text.split("\",").filter_map(|pair| pair.split_once("=\""));
    let own = |(key, value): (&str, &str)| (key.trim().to_owned(), value.trim_matches('"').into());
    pairs.map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_carries_the_labels() {
        let text = "# HELP x y\n# TYPE x counter\nx{a=\"1\",b=\"u, v\"} 2\nx{a=\"1\",b=\"w\"} 3\n\
                    x{a=\"2\",b=\"w\"} 10\nup 1\nxx{a=\"1\"} 100\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("x", &[("a", "1")]), 5.0);
        assert_eq!(metrics.sum("x", &[("b", "w")]), 13.0);
        assert_eq!(metrics.sum("x", &[("a", "1"), ("b", "u, v")]), 2.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert_eq!(metrics.sum("missing", &[]), 0.0);
        assert_eq!(metrics.label("x", "b"), Some("u, v"));
    }
}
