//! IPv4 options (RFC 791, section 3.1).

/// IPv4 options, as far as a relay distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Options {
    /// They may be removed.
    Removable,
    /// A loose or strict source route, which must not be followed (RFC 7126, sections 4.3, 4.4).
    SourceRoute,
    /// A length below 2 or beyond the end of the options.
    Malformed,
}

/// Classifies the options of a header; see [`super::Ipv4::options`].
pub fn classify_options(options: &[u8]) -> Options {
    let mut rest = options;
    // Each turn consumes at least one of at most 40 bytes.
    while let Some((&kind, tail)) = rest.split_first() {
        match kind {
            OPTION_END => break,
            OPTION_NOP => rest = tail,
            OPTION_LSRR | OPTION_SSRR => return Options::SourceRoute,
            _ => {
                let len = usize::from(tail.first().copied().unwrap_or(0));
                match rest.get(len..) {
                    Some(after) if len >= 2 => rest = after,
                    _ => return Options::Malformed,
                }
            }
        }
    }
    Options::Removable
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LSRR: u8 = 131;
const OPTION_SSRR: u8 = 137;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_classified() {
        assert_eq!(classify_options(&[148, 4, 0, 0, 1, 1, 0, 9]), Options::Removable);
        assert_eq!(classify_options(&[1, 131, 3, 4]), Options::SourceRoute);
        assert_eq!(classify_options(&[137]), Options::SourceRoute);
        for wrong in [&[7u8, 0][..], &[7, 1], &[7, 3], &[7], &[1, 1, 1, 7, 9, 0]] {
            assert_eq!(classify_options(wrong), Options::Malformed, "{wrong:?}");
        }
    }
}
