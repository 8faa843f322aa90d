//! The reference of all settings, docs/config.md, made from the structs that read them.
//!
//! The structs name the keys, their types and, by serde, their defaults; the docs of their fields
//! say the rest. [`reference`] makes the whole document and returns every place in the structs that
//! says too little, so that a key without a doc, a range or a default fails the tests, as a
//! document that is not what the structs say does ([`difference`]).

pub mod doc;
pub mod files;
pub mod model;
pub mod render;
pub mod sources;

use std::path::Path;

pub use model::{Key, Table};
pub use sources::{SourceError, Sources};

/// The document, from the top of the tree.
pub const DOCUMENT: &str = "docs/config.md";

/// The document for the tree at `top`.
///
/// # Errors
/// A source that cannot be read or parsed, or all places in the structs that say too little.
pub fn reference(top: &Path) -> Result<String, SourceError> {
    let mut parts = Vec::new();
    for file in files::FILES {
        parts.push((file, file.tables(&Sources::read(top, file.sources)?)?));
    }
    Ok(render::document(&parts))
}

/// The first line in which the document `found` is not `wanted`, with both and the remedy. `None`
/// where they are the same.
pub fn difference(wanted: &str, found: &str) -> Option<String> {
    if wanted == found {
        return None;
    }
    let (mut should, mut is) = (wanted.lines(), found.lines());
    for line in 1.. {
        match (should.next(), is.next()) {
            (None, None) => break,
            (should, is) if should == is => {}
            (should, is) => {
                let (should, is) = (should.unwrap_or("(its end)"), is.unwrap_or("(its end)"));
                return Some(format!(
                    "{DOCUMENT}:{line} is not what the structs say: run scripts/reference\n  it \
                     is:     {is}\n  should be: {should}"
                ));
            }
        }
    }
    Some(format!("{DOCUMENT} has other ends of lines: run scripts/reference"))
}
