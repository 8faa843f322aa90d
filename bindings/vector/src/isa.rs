//! The sets of instructions, and how a job is run with one.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::aes128::{self, Blocks, RoundKeys};
use crate::bytes::{self, Bytes};

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Those that every x86-64 CPU has, and any other CPU.
    Baseline,
    /// AVX2, BMI1, BMI2, POPCNT and AES-NI.
    Avx2,
    /// The same, and AES on two blocks at a time (VAES).
    Avx2Vaes,
    /// AVX-512 (F, BW, DQ, VL) and VAES on four blocks at a time.
    Avx512,
}

impl Isa {
    /// All, ascending.
    pub const ALL: [Isa; 4] = [Isa::Baseline, Isa::Avx2, Isa::Avx2Vaes, Isa::Avx512];

    /// The largest that this CPU has, as it says.
    #[inline]
    pub fn largest() -> Isa {
        static LARGEST: OnceLock<Isa> = OnceLock::new();
        *LARGEST.get_or_init(find_largest)
    }

    /// The largest that this CPU has and [computes right](Isa::computes_right) with.
    #[inline]
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::largest().or_less())
    }

    /// Whether this CPU has it.
    #[inline]
    pub fn is_available(self) -> bool {
        self <= Isa::largest()
    }

    /// This one, or the largest below it that this CPU has and computes right with. Takes some
    /// microseconds.
    #[must_use]
    pub fn or_less(self) -> Isa {
        let good = |isa: &Isa| *isa <= self && isa.is_available() && isa.computes_right();
        Isa::ALL.into_iter().rev().find(good).unwrap_or(Isa::Baseline)
    }

    /// Its name in configs and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Baseline => "baseline",
            Isa::Avx2 => "avx2",
            Isa::Avx2Vaes => "avx2-vaes",
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
            Isa::Avx2Vaes if self.is_available() => {
                // SAFETY: the CPU has every feature that the function is compiled for.
                unsafe { x86_64::avx2_vaes(job) }
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
fn find_largest() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("aes");
    let vaes = is_x86_feature_detected!("vaes");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        // Compilers take these as parts of the others.
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    match (avx2, vaes, avx512) {
        (true, true, true) => Isa::Avx512,
        (true, true, false) => Isa::Avx2Vaes,
        (true, false, _) => Isa::Avx2,
        (false, ..) => Isa::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn find_largest() -> Isa {
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
    /// To each of the first `4 * N` blocks of `to` it XORs the encryption of the same block of
    /// `from`, as far as `mask` has ones. Before it is encrypted, the first word of
    /// a block is XORed with `tweak`. `N` is 2, 4, 8 or 16.
    fn encrypt_xor<const N: usize>(
        self,
        keys: &RoundKeys,
        tweak: u64,
        from: &Blocks,
        mask: &Blocks,
        to: &mut Blocks,
    );

    /// A bit for each of `bytes` that is `value`.
    fn equal(self, bytes: &Bytes, value: u8) -> u64;
}

mod sealed {
    pub trait Sealed {}
}

/// No proof is needed: every CPU has this set.
#[derive(Clone, Copy)]
struct Baseline(());

impl sealed::Sealed for Baseline {}

impl Vector for Baseline {
    #[inline(always)]
    fn encrypt_xor<const N: usize>(
        self,
        keys: &RoundKeys,
        tweak: u64,
        from: &Blocks,
        mask: &Blocks,
        to: &mut Blocks,
    ) {
        aes128::baseline::<N>(keys, tweak, from, mask, to);
    }

    #[inline(always)]
    fn equal(self, bytes: &Bytes, value: u8) -> u64 {
        bytes::equal(bytes, value)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{Job, Vector, sealed};
    use crate::aes128::{self, Blocks, RoundKeys};
    use crate::bytes::{self, Bytes};

    /// A function that runs a job with some features, and the proof that the CPU has them, which is
    /// made there alone.
    macro_rules! set {
        ($function:ident, $features:literal, $proof:ident, $kernel:ident, $equal:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $function<J: Job>(job: J) -> J::Output {
                job.run($proof(()))
            }

            #[derive(Clone, Copy)]
            struct $proof(());

            impl sealed::Sealed for $proof {}

            impl Vector for $proof {
                #[inline(always)]
                fn encrypt_xor<const N: usize>(
                    self,
                    keys: &RoundKeys,
                    tweak: u64,
                    from: &Blocks,
                    mask: &Blocks,
                    to: &mut Blocks,
                ) {
                    // SAFETY: this value is made in the function above alone, whose features
                    // include those that the kernel needs.
                    unsafe { aes128::x86_64::$kernel::<N>(keys, tweak, from, mask, to) }
                }

                #[inline(always)]
                fn equal(self, bytes: &Bytes, value: u8) -> u64 {
                    // SAFETY: as above.
                    unsafe { bytes::x86_64::$equal(bytes, value) }
                }
            }
        };
    }

    set!(avx2, "avx2,bmi1,bmi2,popcnt,aes", Avx2, aes_ni, equal_256);
    set!(avx2_vaes, "avx2,bmi1,bmi2,popcnt,aes,vaes", Avx2Vaes, vaes_256, equal_256);
    set!(
        avx512,
        "avx2,bmi1,bmi2,popcnt,aes,vaes,avx512f,avx512bw,avx512dq,avx512vl",
        Avx512,
        vaes_512,
        equal_512
    );
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
        assert!(Isa::Baseline.is_available() && Isa::best() <= Isa::largest());
    }
}
