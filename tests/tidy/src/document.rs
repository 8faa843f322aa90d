//! The blocks of ARCHITECTURE.md that are rules.

/// The document.
pub const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// A line of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Its text, without blanks around.
    pub text: &'a str,
}

/// The indented block that follows the line `heading`. Empty if the document has no such line.
pub fn block<'a>(document: &'a str, heading: &str) -> Vec<Line<'a>> {
    document
        .lines()
        .enumerate()
        .skip_while(|(_, line)| line.trim() != heading)
        .skip(1)
        .skip_while(|(_, line)| line.trim().is_empty())
        .take_while(|(_, line)| line.starts_with("    "))
        .map(|(at, line)| Line { number: at + 1, text: line.trim() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_ends_at_the_first_line_that_is_not_indented() {
        let found = block("x\nRules:\n\n    a -> b\n    c -> d\n\nmore\n    no\n", "Rules:");
        assert_eq!(found.iter().map(|line| line.text).collect::<Vec<_>>(), ["a -> b", "c -> d"]);
        assert_eq!(found[0].number, 4);
        assert!(block("x\n", "Rules:").is_empty());
    }
}
