//! The files that a config names, which the caller reads.

/// A targets file that a config names.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// Its name in messages.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Reads the targets files that a config names, or says why not and what to do.
pub type TargetsFiles<'a> = dyn Fn(&str) -> Result<NamedFile, String> + 'a;
