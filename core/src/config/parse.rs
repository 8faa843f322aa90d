//! Reads TOML into the structs of [`raw`](super::raw), and reports syntax errors with their line.

use serde::de::DeserializeOwned;

use crate::problem::{Problem, Problems};

/// Reads the text of the TOML file called `file`.
///
/// # Errors
/// The first mistake: the text is not TOML, or has an unknown key or a value of a wrong type.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Problems> {
    let syntax = |error: toml::de::Error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let reason = line.map_or_else(String::new, |line| format!("line {line}: "))
            + &one_line(error.message());
        Problems(vec![Problem { file: file.to_owned(), key: String::new(), reason }])
    };
    let reader = toml::Deserializer::parse(text).map_err(syntax)?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        // The path of the whole file is a dot, and that of an unknown variant ends in one.
        let key = error.path().to_string().trim_end_matches(['.', '?']).to_owned();
        let inner = error.into_inner();
        let mut reason = one_line(inner.message());
        if let Some(span) = inner.span() {
            reason = format!("{reason} (line {})", line_of(text, span.start));
        }
        Problems(vec![Problem { file: file.to_owned(), key, reason }])
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

fn one_line(message: &str) -> String {
    message.trim().replace('\n', ": ")
}
