//! What the documents and examples of this repository say of the core is true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use anyrelay_core::config::Config;
use anyrelay_core::keys::{KeyFile, Tenants};
use anyrelay_core::snapshot::Snapshot;
use anyrelay_core::verdict::DropReason;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The config in the README, as a reader would copy it.
fn readme_config() -> String {
    let readme = read(&repository().join("README.md"));
    let (_, rest) = readme.split_once("```toml\n").expect("a config in the README");
    let (config, _) = rest.split_once("```").expect("its end");
    config.to_owned()
}

#[test]
fn example_configs_check_without_a_warning() {
    let folder = repository().join("deploy/examples");
    let mut texts: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), read(&path)))
        // Those of agents are the agent program's.
        .filter(|(_, text)| text.lines().any(|line| line == "[pop]"))
        .collect();
    assert!(texts.len() >= 2, "{texts:?}");
    texts.push(("README.md".to_owned(), readme_config()));
    let keys = KeyFile::from_random([[1; 32], [2; 32], [3; 32]]);
    for (file, text) in texts {
        let config = Config::parse(&file, &text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.warnings.is_empty(), "{file}: {:?}", config.warnings);
        let snapshot = Snapshot::build(&config, &keys, &Tenants::default(), None).unwrap();
        assert!(!snapshot.services().is_empty(), "{file}");
    }
}

#[test]
fn the_alert_on_drops_leaves_out_link_noise_alone() {
    let rules = read(&repository().join("deploy/prometheus/anyrelay-rules.yml"));
    let (_, alert) = rules.split_once("- alert: AnyrelayDrops").expect("the alert");
    let (_, reasons) = alert.split_once("reason!~\"").expect("reasons");
    let (reasons, _) = reasons.split_once('"').expect("their end");
    let noise: Vec<_> = DropReason::LINK_NOISE.iter().map(|reason| reason.label()).collect();
    assert_eq!(reasons.split('|').collect::<Vec<_>>(), noise);
    let operations = read(&repository().join("docs/operations.md"));
    for reason in DropReason::ALL {
        let row = format!("| `{}` |", reason.label());
        let row = operations.lines().find(|line| line.starts_with(&row)).expect("a row");
        assert_eq!(row.contains("Link noise"), noise.contains(&reason.label()), "{row}");
    }
}

#[test]
fn the_failure_table_has_every_drop_reason_once() {
    let operations = read(&repository().join("docs/operations.md"));
    let (_, table) = operations.split_once("Then by drop reason").expect("the table");
    let label = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let mut documented: Vec<_> = table.lines().filter_map(label).collect();
    let mut existing: Vec<_> = DropReason::ALL.iter().map(|r| r.label().to_owned()).collect();
    documented.sort();
    existing.sort();
    assert_eq!(documented, existing);
}
