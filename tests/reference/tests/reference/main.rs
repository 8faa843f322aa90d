//! The reference is what the structs say, and what it says of ranges, defaults and reloads is what
//! the programs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bases;
mod defaults;
mod document;
mod ranges;
mod reloads;

use std::path::Path;

use anyrelay_reference::files::ConfigFile;
use anyrelay_reference::{Key, Sources, Table};

/// The top of the tree.
fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The tables of a config file.
fn tables(file: &ConfigFile) -> Vec<Table> {
    file.tables(&Sources::read(top(), file.sources).unwrap()).unwrap()
}

/// All keys of a config file, each with its path, such as `pop.name`.
fn keys(file: &ConfigFile) -> Vec<(String, Key)> {
    let with_path = |table: Table| {
        let heading = table.heading.trim_matches(['[', ']']).to_owned();
        table.keys.into_iter().map(move |key| {
            let path = format!("{heading}.{}", key.name);
            (path.trim_start_matches('.').to_owned(), key)
        })
    };
    tables(file).into_iter().flat_map(with_path).collect()
}
