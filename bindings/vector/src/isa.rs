//! The sets of instructions, and how a job is run with one.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::aes128::{self, Blocks, RoundKeys};

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Those that every x86-64 CPU has, and any other CPU.
    Baseline,
    /// AVX2, BMI2 and AES-NI: x86-64-v3.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL) and VAES: x86-64-v4 with the wide AES.
    Avx512,
}

impl Isa {
    /// All, ascending.
    pub const ALL: [Isa; 3] = [Isa::Baseline, Isa::Avx2, Isa::Avx512];

    /// The largest that this CPU has.
    #[inline]
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(find_best)
    }

    /// Whether this CPU has it.
    #[inline]
    pub fn is_available(self) -> bool {
        self <= Isa::best()
    }

    /// This one, or the largest below it that this CPU has.
    #[must_use]
    pub fn or_less(self) -> Isa {
        self.min(Isa::best())
    }

    /// Its name in configs and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Baseline => "baseline",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Runs `job`, compiled for this set, or for [`Isa::Baseline`] where the CPU lacks it.
    #[inline]
    pub fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if self.is_available() => {
                // SAFETY: the CPU has every feature that the function is compiled for.
                unsafe { x86_64::avx512(job) }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if self.is_available() => {
                // SAFETY: the CPU has every feature that the function is compiled for.
                unsafe { x86_64::avx2(job) }
            }
            _ => job.run(Baseline(())),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn find_best() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("aes");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("vaes");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        (false, _) => Isa::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn find_best() -> Isa {
    Isa::Baseline
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = ();

    fn from_str(name: &str) -> Result<Isa, ()> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or(())
    }
}

/// Work that is compiled for each set of instructions.
///
/// Mark `run` and all that it calls as `#[inline(always)]`: what is not inlined is compiled for
/// every CPU, and gains nothing.
pub trait Job {
    /// What comes out.
    type Output;

    /// Does the work.
    fn run<V: Vector>(self, vector: V) -> Self::Output;
}

/// The set of instructions that a job is running with. Only [`Isa::run`] makes one.
pub trait Vector: Copy + sealed::Sealed {
    /// Encrypts each of the first `4 * N` blocks of `from` under `keys` into the same place of
    /// `to`, many at a time, so that none waits for the one before it. `N` is 2, 4, 8 or 16.
    fn encrypt<const N: usize>(self, keys: &RoundKeys, from: &Blocks, to: &mut Blocks);
}

mod sealed {
    pub trait Sealed {}
}

/// Proof of nothing.
#[derive(Clone, Copy)]
struct Baseline(());

impl sealed::Sealed for Baseline {}

impl Vector for Baseline {
    #[inline(always)]
    fn encrypt<const N: usize>(self, keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
        aes128::baseline::<N>(keys, from, to);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{Job, Vector, sealed};
    use crate::aes128::{self, Blocks, RoundKeys};

    /// Proof that the CPU has the features of `avx2`.
    #[derive(Clone, Copy)]
    struct Avx2(());

    /// Proof that the CPU has the features of `avx512`.
    #[derive(Clone, Copy)]
    struct Avx512(());

    impl sealed::Sealed for Avx2 {}
    impl sealed::Sealed for Avx512 {}

    impl Vector for Avx2 {
        #[inline(always)]
        fn encrypt<const N: usize>(self, keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
            // SAFETY: this value is made in `avx2` alone, whose features include those needed.
            unsafe { aes128::x86_64::aes_ni::<N>(keys, from, to) }
        }
    }

    impl Vector for Avx512 {
        #[inline(always)]
        fn encrypt<const N: usize>(self, keys: &RoundKeys, from: &Blocks, to: &mut Blocks) {
            // SAFETY: this value is made in `avx512` alone, whose features include those needed.
            unsafe { aes128::x86_64::vaes_512::<N>(keys, from, to) }
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,aes")]
    pub(super) fn avx2<J: Job>(job: J) -> J::Output {
        job.run(Avx2(()))
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,aes")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,vaes")]
    pub(super) fn avx512<J: Job>(job: J) -> J::Output {
        job.run(Avx512(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [u64]);

    impl Job for Sum<'_> {
        type Output = u64;

        #[inline(always)]
        fn run<V: Vector>(self, _: V) -> u64 {
            self.0.iter().fold(0, |sum, number| sum.wrapping_add(number.wrapping_mul(3)))
        }
    }

    #[test]
    fn each_set_computes_the_same() {
        let numbers: Vec<u64> = (0..1000).map(|i| i * 0x9e37_79b9).collect();
        let expected = Isa::Baseline.run(Sum(&numbers));
        for isa in Isa::ALL {
            assert_eq!(isa.run(Sum(&numbers)), expected, "{isa}");
        }
    }

    #[test]
    fn sets_have_names_and_an_order() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
            assert!(isa.or_less().is_available() && isa.or_less() <= isa);
        }
        assert_eq!("sse9".parse::<Isa>(), Err(()));
        assert!(Isa::Baseline.is_available() && Isa::best().is_available());
    }
}
