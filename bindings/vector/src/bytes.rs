//! A byte for each lane, compared all at once.

/// A byte for each of 64 lanes.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Bytes(pub [u8; 64]);

/// A bit for each of `bytes` that is `value`.
#[inline(always)]
pub(crate) fn equal(bytes: &Bytes, value: u8) -> u64 {
    let (mut equal, wanted) = (0, u64::from_ne_bytes([value; 8]));
    for (at, eight) in bytes.0.as_chunks().0.iter().enumerate() {
        // Bytes that are 0 where they are equal, and the highest bit of each that is.
        let differs = u64::from_le_bytes(*eight) ^ wanted;
        let zeros = !(((differs & LOW7) + LOW7) | differs | LOW7);
        // The eight bits beside each other.
        equal |= ((zeros >> 7).wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    equal
}

const LOW7: u64 = 0x7f7f_7f7f_7f7f_7f7f;
/// Moves the lowest bit of byte i to bit 56 + i.
const GATHER: u64 = 0x0102_0408_1020_4080;

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64 {
    use core::arch::x86_64::*;

    use super::Bytes;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn equal_256(bytes: &Bytes, value: u8) -> u64 {
        let wanted = _mm256_set1_epi8(value.cast_signed());
        let half = |bytes: &[u8; 32]| {
            // SAFETY: 32 bytes are read, which are there.
            let half = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(half, wanted)).cast_unsigned()
        };
        let halves = bytes.0.as_chunks::<32>().0;
        halves.iter().rev().fold(0, |bits, bytes| bits << 32 | u64::from(half(bytes)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) fn equal_512(bytes: &Bytes, value: u8) -> u64 {
        // SAFETY: 64 bytes are read, which are there.
        let all = unsafe { _mm512_loadu_si512(bytes.0.as_ptr().cast()) };
        _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(value.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Job, Vector};

    struct Equal<'a>(&'a Bytes, u8);

    impl Job for Equal<'_> {
        type Output = u64;

        #[inline(always)]
        fn run<V: Vector>(self, vector: V) -> u64 {
            vector.equal(self.0, self.1)
        }
    }

    #[test]
    fn all_sets_find_the_same_bytes() {
        let mut state = 1_u64;
        for range in [2, 3, 64, 256] {
            for _ in 0..200 {
                let bytes = Bytes(std::array::from_fn(|_| {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    ((state >> 40) % range) as u8
                }));
                let value = bytes.0[(state >> 50) as usize % 64];
                for value in [value, value.wrapping_add(1), 0, 0x80, 0xff] {
                    let lanes = bytes.0.iter().enumerate();
                    let wanted = lanes
                        .fold(0, |bits, (lane, byte)| bits | u64::from(*byte == value) << lane);
                    for isa in Isa::ALL {
                        assert_eq!(isa.run(Equal(&bytes, value)), wanted, "{isa} {value}");
                    }
                }
            }
        }
    }
}
