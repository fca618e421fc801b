//! The loops where time goes, each for three instruction sets.
//!
//! [`Level::detect`] picks once; every kernel takes the level. Integer kernels give equal bits at every level. Of
//! the kernels of floats, norms and everything on the integer grid give equal bits too, because they have one order
//! of summation and no fused operation. Matrix products, attention, GELU and softmax multiply and add in one
//! rounding where the processor can: AVX2 and AVX-512 agree to the bit, portable code to some parts in a million.
//! Whatever the level, a token gets the same bits alone as in a batch.

pub(crate) mod addresses;
pub(crate) mod attention;
pub(crate) mod bitslice;
pub(crate) mod curves;
pub(crate) mod dot;
pub(crate) mod lanes;
pub(crate) mod linear;
pub(crate) mod lookup;
pub(crate) mod norm;
pub(crate) mod rows;
pub(crate) mod sums;

use std::fmt;

/// Instructions that kernels use. One exists only where the processor has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// What every processor has.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The best that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            // The first processors with AVX-512 lack VBMI and VNNI, and run AVX2 nearly as fast.
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                return Self(Set::Avx512);
            }
            if avx2 {
                return Self(Set::Avx2);
            }
        }
        Self::PORTABLE
    }

    /// Whether it is that of AVX-512, VNNI and VBMI included.
    pub(crate) fn is_avx512(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Set::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether it is that of AVX2.
    pub(crate) fn is_avx2(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Set::Avx2;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// All that this processor has, the best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::PORTABLE];
        let best = Self::detect();
        #[cfg(target_arch = "x86_64")]
        if best.0 == Set::Avx512 {
            levels.push(Self(Set::Avx2));
        }
        if best != Self::PORTABLE {
            levels.push(best);
        }
        levels
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
        })
    }
}

/// A function of a level that calls one body with the lanes of each instruction set, compiled for it.
macro_rules! for_each_level {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(level: $crate::engine::kernels::Level, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::engine::kernels::{Set, lanes};

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $type),*) {
                    $body::<lanes::Avx512>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) {
                    $body::<lanes::Avx2>($($arg),*);
                }
                match level.0 {
                    // SAFETY: a level exists only where the processor has its instructions.
                    Set::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: likewise.
                    Set::Avx2 => return unsafe { avx2($($arg),*) },
                    Set::Portable => (),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = level;
            $body::<$crate::engine::kernels::lanes::Portable>($($arg),*);
        }
    };
}
pub(crate) use for_each_level;

/// Runs a test at each level, and says which this processor lacks.
#[cfg(test)]
pub(crate) fn each_level(test: impl Fn(Level)) {
    let levels = Level::available();
    if levels.len() < 3 {
        eprintln!("this processor runs {levels:?} only: the other kernels were not tested");
    }
    levels.into_iter().for_each(test);
}
