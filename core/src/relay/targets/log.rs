//! The logarithm of weighted rendezvous hashing, in integers, so that it is the same on every CPU.

/// -log2((h + 1) / 2^64), about, in units of 2^-24: 0 for the highest hash, 65 * 2^24 for 0. It
/// never rises with `hash`.
///
/// With e leading zeros, and m the 64 bits behind the first bit that is set:
///
/// ```text
/// i = the first 6 bits of m;  f = the next 16
/// L = (e + 1) * 2^24 - LOG[i] - (LOG[i + 1] - LOG[i]) * f div 2^16
/// ```
#[inline]
pub fn log(hash: u64) -> u32 {
    let zeros = hash.leading_zeros();
    let mantissa = hash.checked_shl(zeros).unwrap_or_default() << 1;
    let (i, f) = ((mantissa >> 58) as usize, mantissa >> 42 & 0xffff);
    let (Some(low), Some(high)) = (LOG.get(i), LOG.get(i + 1)) else { return 0 };
    let fraction = low + ((u64::from(high - low) * f) >> 16) as u32;
    ((zeros + 1) << 24) - fraction
}

/// 2^24 * log2(1 + i/64), rounded to the nearest.
pub const LOG: [u32; 65] = [
    0, 375270, 744810, 1108793, 1467383, 1820738, 2169009, 2512340, 2850868, 3184728, 3514044,
    3838941, 4159533, 4475935, 4788255, 5096595, 5401057, 5701737, 5998727, 6292118, 6581994,
    6868440, 7151536, 7431359, 7707984, 7981483, 8251926, 8519380, 8783912, 9045584, 9304457,
    9560591, 9814042, 10064867, 10313120, 10558852, 10802114, 11042956, 11281425, 11517568,
    11751428, 11983051, 12212479, 12439752, 12664911, 12887994, 13109041, 13328087, 13545168,
    13760320, 13973576, 14184969, 14394532, 14602297, 14808293, 15012551, 15215099, 15415967,
    15615181, 15812769, 16008758, 16203172, 16396036, 16587377, 16777216,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_the_logarithm() {
        for (i, entry) in LOG.iter().enumerate() {
            let exact = (1.0 + i as f64 / 64.0).log2() * 2_f64.powi(24);
            assert_eq!(*entry, exact.round() as u32, "{i}");
        }
    }

    #[test]
    fn the_ends_are_those_of_the_definition() {
        assert_eq!(log(0), 65 << 24);
        assert_eq!(log(1), 64 << 24);
        assert_eq!(log(1 << 63), 1 << 24);
        assert!(log(u64::MAX) < 4);
    }

    proptest! {
        #[test]
        fn it_is_near_the_logarithm_and_never_rises(hash: u64, less: u64) {
            let exact = 64.0 - (hash as f64 + 1.0).log2();
            let error = f64::from(log(hash)) / 2_f64.powi(24) - exact;
            prop_assert!(hash < 1 << 20 || error.abs() < 5e-5, "{hash}: {error}");
            prop_assert!(log(hash.saturating_sub(less)) >= log(hash));
            prop_assert!(log(hash.saturating_sub(1)) >= log(hash));
        }
    }
}
