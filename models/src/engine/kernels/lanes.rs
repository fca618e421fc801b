//! Sixteen floats at once: one ZMM register, two YMM registers or an array.
//!
//! A kernel of floats is written once over [`Lanes`] and compiled for each instruction set. `mul_add` rounds once
//! where the processor can, all else is the same to the bit everywhere. Kernels call lanes in loops, not in closures:
//! a closure that is not inlined is compiled without the instructions.

#![expect(clippy::indexing_slicing, reason = "indices run over arrays of lanes")]

/// Sixteen floats.
pub(crate) trait Lanes: Copy {
    /// Tokens of a tile of a matrix product, chosen so that its sums stay in registers.
    const TOKENS: usize;
    /// Groups of sixteen outputs of such a tile.
    const GROUPS: usize;
    /// 512 bits.
    type Plane: Copy;

    fn splat(value: f32) -> Self;
    fn load(values: &[f32; 16]) -> Self;
    /// `values - zero`, exact below 2^24.
    fn of_integers(values: &[i32; 16], zero: &[i32; 16]) -> Self;
    fn store(self, values: &mut [f32; 16]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + term`.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The smaller; `other` where `self` is no number.
    fn min(self, other: Self) -> Self;
    /// The larger; `other` where `self` is no number.
    fn max(self, other: Self) -> Self;
    /// The bits as integers, with a number added, then shifted to the left by 23.
    fn add_bits_shift(self, number: i32) -> Self;
    /// A number less the bits as integers.
    fn bits_from(self, number: i32) -> Self;
    /// The lowest byte of each.
    fn low_bytes(self) -> [u8; 16];
    fn load_plane(plane: &[u64; 8]) -> Self::Plane;
    fn store_plane(plane: Self::Plane, to: &mut [u64; 8]);
    /// Bit by bit: `one` where `select` is set, else `zero`.
    fn choose(select: Self::Plane, zero: Self::Plane, one: Self::Plane) -> Self::Plane;

    /// Which bytes are above a threshold, the first in the lowest bit.
    #[inline(always)]
    fn above(bytes: &[u8; 64], threshold: u8) -> u64 {
        let bit = |(bit, byte): (usize, &u8)| u64::from(*byte > threshold) << bit;
        bytes.iter().enumerate().map(bit).fold(0, |bits, bit| bits | bit)
    }

    /// Bits as bytes 0 and 1, the lowest first.
    #[inline(always)]
    fn spread(bits: u64, to: &mut [u8; 64]) {
        to.iter_mut().enumerate().for_each(|(bit, to)| *to = (bits >> bit & 1) as u8);
    }

    /// The sum of all lanes, in a fixed order.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = lanes;
        let eight = [a + i, b + j, c + k, d + l, e + m, f + n, g + o, h + p];
        let [a, b, c, d, e, f, g, h] = eight;
        let [a, b, c, d] = [a + e, b + f, c + g, d + h];
        (a + c) + (b + d)
    }

    /// The largest of all lanes, which are numbers.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        let mut count = 8;
        while count > 0 {
            for lane in 0..count {
                let other = lanes[lane + count];
                lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
            }
            count /= 2;
        }
        lanes[0]
    }

    /// Up to sixteen values; the other lanes are dropped.
    #[inline(always)]
    fn store_part(self, values: &mut [f32]) {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        values.iter_mut().zip(lanes).for_each(|(value, lane)| *value = lane);
    }
}

/// An array, for every processor.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

impl Portable {
    #[inline(always)]
    fn map2(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut lanes = self.0;
        lanes.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = f(*lane, other));
        Self(lanes)
    }
}

impl Lanes for Portable {
    const TOKENS: usize = 2;
    const GROUPS: usize = 1;
    type Plane = [u64; 8];

    #[inline(always)]
    fn load_plane(plane: &[u64; 8]) -> Self::Plane {
        *plane
    }

    #[inline(always)]
    fn store_plane(plane: Self::Plane, to: &mut [u64; 8]) {
        *to = plane;
    }

    #[inline(always)]
    fn choose(select: Self::Plane, zero: Self::Plane, one: Self::Plane) -> Self::Plane {
        std::array::from_fn(|word| (one[word] & select[word]) | (zero[word] & !select[word]))
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    fn load(values: &[f32; 16]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn of_integers(values: &[i32; 16], zero: &[i32; 16]) -> Self {
        let mut lanes = [0.0; 16];
        let differences = values.iter().zip(zero).map(|(value, zero)| value.wrapping_sub(*zero));
        lanes.iter_mut().zip(differences).for_each(|(lane, value)| *lane = value as f32);
        Self(lanes)
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; 16]) {
        *values = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.map2(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.map2(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.map2(other, |a, b| a * b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.map2(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.map2(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn add_bits_shift(self, number: i32) -> Self {
        let shifted = |v: f32| v.to_bits().wrapping_add_signed(number) << 23;
        Self(self.0.map(|v| f32::from_bits(shifted(v))))
    }

    #[inline(always)]
    fn bits_from(self, number: i32) -> Self {
        let number = number.cast_unsigned();
        Self(self.0.map(|v| f32::from_bits(number.wrapping_sub(v.to_bits()))))
    }

    #[inline(always)]
    fn low_bytes(self) -> [u8; 16] {
        self.0.map(|v| {
            let [low, ..] = v.to_bits().to_le_bytes();
            low
        })
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Methods here are called only from functions that are compiled for the instructions, which are called only
    //! at a level that has them; that is why each call of an intrinsic is sound.

    use std::arch::x86_64::*;

    use super::Lanes;

    /// A ZMM register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    /// Two YMM registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256, __m256);

    /// The sum of eight lanes: halves onto halves, as [`Lanes::sum`] does.
    #[inline(always)]
    fn sum_of_eight(eight: __m256) -> f32 {
        // SAFETY: see the module.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// The largest of eight lanes.
    #[inline(always)]
    fn largest_of_eight(eight: __m256) -> f32 {
        // SAFETY: see the module.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    impl Lanes for Avx512 {
        const TOKENS: usize = 6;
        const GROUPS: usize = 4;
        type Plane = __m512i;

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see the module.
            sum_of_eight(unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                _mm256_add_ps(_mm512_castps512_ps256(self.0), high)
            })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: see the module.
            largest_of_eight(unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                _mm256_max_ps(_mm512_castps512_ps256(self.0), high)
            })
        }

        #[inline(always)]
        fn load_plane(plane: &[u64; 8]) -> Self::Plane {
            // SAFETY: see the module; eight words are read.
            unsafe { _mm512_loadu_si512(plane.as_ptr().cast()) }
        }

        #[inline(always)]
        fn store_plane(plane: Self::Plane, to: &mut [u64; 8]) {
            // SAFETY: see the module; eight words are written.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), plane) }
        }

        #[inline(always)]
        fn choose(select: Self::Plane, zero: Self::Plane, one: Self::Plane) -> Self::Plane {
            // SAFETY: see the module. Bit 4 s + 2 z + o of the number is the choice.
            unsafe { _mm512_ternarylogic_epi64::<0b1010_1100>(select, zero, one) }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32; 16]) -> Self {
            // SAFETY: see the module; sixteen values are read.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn of_integers(values: &[i32; 16], zero: &[i32; 16]) -> Self {
            // SAFETY: see the module; sixteen values of each are read.
            unsafe {
                let values = _mm512_loadu_si512(values.as_ptr().cast());
                let zero = _mm512_loadu_si512(zero.as_ptr().cast());
                Self(_mm512_cvtepi32_ps(_mm512_sub_epi32(values, zero)))
            }
        }

        #[inline(always)]
        fn store(self, values: &mut [f32; 16]) {
            // SAFETY: see the module; sixteen values are written.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: see the module.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }

        #[inline(always)]
        fn add_bits_shift(self, number: i32) -> Self {
            // SAFETY: see the module.
            unsafe {
                let sum = _mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(number));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(sum)))
            }
        }

        #[inline(always)]
        fn bits_from(self, number: i32) -> Self {
            // SAFETY: see the module.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let difference = _mm512_sub_epi32(_mm512_set1_epi32(number), bits);
                Self(_mm512_castsi512_ps(difference))
            }
        }

        #[inline(always)]
        fn low_bytes(self) -> [u8; 16] {
            let mut bytes = [0; 16];
            // SAFETY: see the module; sixteen bytes are written.
            unsafe {
                let low = _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0));
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), low);
            }
            bytes
        }

        #[inline(always)]
        fn above(bytes: &[u8; 64], threshold: u8) -> u64 {
            // SAFETY: see the module; sixty-four bytes are read.
            unsafe {
                let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
                _mm512_cmpgt_epu8_mask(bytes, _mm512_set1_epi8(threshold.cast_signed()))
            }
        }

        #[inline(always)]
        fn spread(bits: u64, to: &mut [u8; 64]) {
            // SAFETY: see the module; sixty-four bytes are written.
            unsafe {
                let bytes = _mm512_maskz_set1_epi8(bits, 1);
                _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes);
            }
        }
    }

    impl Avx2 {
        #[inline(always)]
        fn map(self, f: impl Fn(__m256) -> __m256) -> Self {
            Self(f(self.0), f(self.1))
        }

        #[inline(always)]
        fn map2(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
            Self(f(self.0, other.0), f(self.1, other.1))
        }
    }

    impl Lanes for Avx2 {
        const TOKENS: usize = 3;
        const GROUPS: usize = 2;
        type Plane = (__m256i, __m256i);

        #[inline(always)]
        fn sum(self) -> f32 {
            // SAFETY: see the module.
            sum_of_eight(unsafe { _mm256_add_ps(self.0, self.1) })
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: see the module.
            largest_of_eight(unsafe { _mm256_max_ps(self.0, self.1) })
        }

        #[inline(always)]
        fn load_plane(plane: &[u64; 8]) -> Self::Plane {
            // SAFETY: see the module; twice four words are read.
            unsafe {
                let at = plane.as_ptr().cast::<__m256i>();
                (_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1)))
            }
        }

        #[inline(always)]
        fn store_plane(plane: Self::Plane, to: &mut [u64; 8]) {
            // SAFETY: see the module; twice four words are written.
            unsafe {
                let at = to.as_mut_ptr().cast::<__m256i>();
                _mm256_storeu_si256(at, plane.0);
                _mm256_storeu_si256(at.add(1), plane.1);
            }
        }

        #[inline(always)]
        fn choose(select: Self::Plane, zero: Self::Plane, one: Self::Plane) -> Self::Plane {
            // SAFETY: see the module.
            unsafe {
                let low = _mm256_and_si256(select.0, _mm256_xor_si256(zero.0, one.0));
                let high = _mm256_and_si256(select.1, _mm256_xor_si256(zero.1, one.1));
                (_mm256_xor_si256(zero.0, low), _mm256_xor_si256(zero.1, high))
            }
        }

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see the module.
            let half = unsafe { _mm256_set1_ps(value) };
            Self(half, half)
        }

        #[inline(always)]
        fn load(values: &[f32; 16]) -> Self {
            // SAFETY: see the module; twice eight values are read.
            unsafe {
                let values = values.as_ptr();
                Self(_mm256_loadu_ps(values), _mm256_loadu_ps(values.add(8)))
            }
        }

        #[inline(always)]
        fn of_integers(values: &[i32; 16], zero: &[i32; 16]) -> Self {
            // SAFETY: see the module; twice eight values of each are read.
            let half = |at: usize| unsafe {
                let values = _mm256_loadu_si256(values.as_ptr().add(at).cast());
                let zero = _mm256_loadu_si256(zero.as_ptr().add(at).cast());
                _mm256_cvtepi32_ps(_mm256_sub_epi32(values, zero))
            };
            Self(half(0), half(8))
        }

        #[inline(always)]
        fn store(self, values: &mut [f32; 16]) {
            // SAFETY: see the module; twice eight values are written.
            unsafe {
                let values = values.as_mut_ptr();
                _mm256_storeu_ps(values, self.0);
                _mm256_storeu_ps(values.add(8), self.1);
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see the module.
            self.map2(other, |a, b| unsafe { _mm256_add_ps(a, b) })
        }

        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: see the module.
            self.map2(other, |a, b| unsafe { _mm256_sub_ps(a, b) })
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see the module.
            self.map2(other, |a, b| unsafe { _mm256_mul_ps(a, b) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: see the module.
            unsafe {
                let low = _mm256_fmadd_ps(self.0, factor.0, term.0);
                Self(low, _mm256_fmadd_ps(self.1, factor.1, term.1))
            }
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: see the module.
            self.map2(other, |a, b| unsafe { _mm256_min_ps(a, b) })
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: see the module.
            self.map2(other, |a, b| unsafe { _mm256_max_ps(a, b) })
        }

        #[inline(always)]
        fn add_bits_shift(self, number: i32) -> Self {
            // SAFETY: see the module.
            self.map(|half| unsafe {
                let sum = _mm256_add_epi32(_mm256_castps_si256(half), _mm256_set1_epi32(number));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(sum))
            })
        }

        #[inline(always)]
        fn bits_from(self, number: i32) -> Self {
            // SAFETY: see the module.
            self.map(|half| unsafe {
                let number = _mm256_set1_epi32(number);
                _mm256_castsi256_ps(_mm256_sub_epi32(number, _mm256_castps_si256(half)))
            })
        }

        #[inline(always)]
        fn low_bytes(self) -> [u8; 16] {
            let mut lanes = [0.0; 16];
            self.store(&mut lanes);
            lanes.map(|lane| {
                let [low, ..] = lane.to_bits().to_le_bytes();
                low
            })
        }

        #[inline(always)]
        fn above(bytes: &[u8; 64], threshold: u8) -> u64 {
            let mut bits = 0;
            for half in bytes.as_chunks::<32>().0.iter().rev() {
                // SAFETY: see the module; thirty-two bytes are read.
                let not_above = unsafe {
                    let half = _mm256_loadu_si256(half.as_ptr().cast());
                    let lower = _mm256_min_epu8(half, _mm256_set1_epi8(threshold.cast_signed()));
                    _mm256_movemask_epi8(_mm256_cmpeq_epi8(lower, half))
                };
                bits = bits << 32 | u64::from(!not_above.cast_unsigned());
            }
            bits
        }
    }
}
