//! The rules over this tree. A failure lists each place with its remedy.
//!
//! tests/tidy/allowed lists files that do not keep a rule yet, one `rule path` a line. An entry
//! that is no longer needed fails as well, so that the list only shrinks.
#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;

use anyrelay_tidy::rules::{circles, edges, leftovers, names, order, size, style};
use anyrelay_tidy::{Tree, Violation};

const ALLOWED: &str = include_str!("../allowed");

#[test]
fn packages_depend_along_the_stated_edges() {
    keeps("edges", edges::check);
}

#[test]
fn modules_of_core_stand_in_the_stated_order() {
    keeps("order", order::check);
}

#[test]
fn files_of_core_form_no_circle() {
    keeps("circles", circles::check);
}

#[test]
fn crates_and_unsafe_are_named_where_they_belong() {
    keeps("names", names::check);
}

#[test]
fn files_are_short() {
    keeps("lines", size::lines);
}

#[test]
fn lines_are_short() {
    keeps("columns", size::columns);
}

#[test]
fn folders_have_one_front_door() {
    keeps("front-door", style::front_doors);
}

#[test]
fn files_belong_to_one_package() {
    keeps("shared-file", style::shared_files);
}

#[test]
fn nothing_is_unfinished() {
    keeps("unfinished", leftovers::unfinished);
}

#[test]
fn no_path_of_a_machine_is_named() {
    keeps("machine", leftovers::machine);
}

/// Runs a rule over the tree, and compares with the allowed exceptions of that rule.
fn keeps(rule: &'static str, check: fn(&Tree) -> Vec<Violation>) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree = Tree::read(&top).expect("git lists the files");
    assert!(tree.files.len() > 100, "only {} files found", tree.files.len());
    let mut found = check(&tree);
    found.sort();
    assert!(found.iter().all(|violation| violation.rule == rule));

    let allowed: BTreeSet<&str> = ALLOWED
        .lines()
        .filter_map(|line| line.strip_prefix(rule)?.strip_prefix(' '))
        .map(str::trim)
        .collect();
    let broken: BTreeSet<&str> = found.iter().map(|violation| &*violation.path).collect();
    let mut report: Vec<String> = found
        .iter()
        .filter(|violation| !allowed.contains(&*violation.path))
        .map(ToString::to_string)
        .collect();
    report.extend(allowed.difference(&broken).map(|path| {
        format!("tests/tidy/allowed: {path} keeps the rule {rule} now: remove its line")
    }));
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}
