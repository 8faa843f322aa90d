//! The rules over this tree. A failure lists each place with its remedy.
#![allow(clippy::expect_used, missing_docs)]

use std::path::Path;

use anyrelay_tidy::rules::{circles, edges, leftovers, names, order, size, style};
use anyrelay_tidy::{Tree, Violation};

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
fn packages_have_the_lints_of_the_workspace() {
    keeps("lints", style::lints);
}

#[test]
fn nothing_is_unfinished() {
    keeps("unfinished", leftovers::unfinished);
}

#[test]
fn no_path_of_a_machine_is_named() {
    keeps("machine", leftovers::machine);
}

/// Fails with all violations of a rule in the tree.
fn keeps(rule: &'static str, check: fn(&Tree) -> Vec<Violation>) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree = Tree::read(&top).expect("git lists the files");
    assert!(tree.files.len() > 100, "only {} files found", tree.files.len());
    let mut found = check(&tree);
    found.sort();
    assert!(found.iter().all(|violation| violation.rule == rule));
    let report: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}
