//! Companding: latents in eight bits, evenly spaced near zero and wider apart far away.
//!
//! A latent is a whole number `q` from -127 to 127, and stands for `value(q)` steps of its channel:
//!
//! `value(q) = q` up to 96, beyond it `q + (q - 96)^2`; `value(-q) = -value(q)`. The largest is 1088.
//!
//! So a byte holds whatever a channel may be, and nearly all of it is quantised evenly, which is what an entropy coder
//! wants (Gish and Pierce, IEEE Trans. Inf. Theory 14, 1968). A latent is rounded towards zero by another eighth of a
//! step: what that costs in distortion it saves twice in bytes.

/// The largest magnitude of a latent.
pub const LARGEST: i32 = 127;
/// Up to here values are evenly spaced.
const EVEN: i32 = 96;
/// Units of a step in which the analysis gives its numbers.
pub(crate) const FINE: f64 = 8.0;
/// Units of a step in which the synthesis takes them.
pub(crate) const COARSE: i32 = 16;
/// How many units of the analysis a latent is rounded towards zero.
const DEAD: i32 = 1;

/// How many steps a latent stands for.
#[must_use]
pub fn value(q: i8) -> i32 {
    let q = i32::from(q);
    let beyond = (q.abs() - EVEN).max(0);
    q + q.signum() * beyond * beyond
}

/// The latents of numbers of the analysis.
#[derive(Debug, Clone)]
pub(crate) struct Compander {
    /// Of each magnitude.
    latents: Vec<i8>,
}

impl Compander {
    pub(crate) fn new() -> Self {
        let fine = FINE as i32;
        // From half way between two values on it is the larger one.
        let from = |q: i8| (value(q - 1) + value(q)) * fine / 2 + DEAD;
        let mut latents = vec![0];
        let mut q = 0_i8;
        for magnitude in 1..=from(LARGEST as i8) {
            while i32::from(q) < LARGEST && magnitude >= from(q + 1) {
                q += 1;
            }
            latents.push(q);
        }
        Self { latents }
    }

    /// The latent of a number.
    #[inline(always)]
    pub(crate) fn latent(&self, number: i16) -> i8 {
        let magnitude = usize::from(number.unsigned_abs());
        let latent = self.latents.get(magnitude).copied().unwrap_or(LARGEST as i8);
        if number < 0 { -latent } else { latent }
    }
}

/// What the synthesis takes for each latent, by its bits.
pub(crate) fn expanded() -> [i16; 256] {
    std::array::from_fn(|bits| (value((bits as u8).cast_signed()) * COARSE) as i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_its_own_latent_and_what_is_between_goes_to_the_nearest() {
        let compander = Compander::new();
        for q in -127..=127_i8 {
            let number = value(q) * FINE as i32;
            assert_eq!(compander.latent(number as i16), q);
        }
        assert_eq!([4, 5, 12, 13, -4, -5].map(|u| compander.latent(u)), [0, 1, 1, 2, 0, -1]);
        assert_eq!([i16::MAX, i16::MIN].map(|u| compander.latent(u)), [127, -127]);
        let mut last = -127;
        for number in i16::MIN..=i16::MAX {
            let latent = compander.latent(number);
            assert!(latent >= last);
            last = latent;
        }
    }

    #[test]
    fn values_fit_what_the_synthesis_takes() {
        let expanded = expanded();
        assert_eq!((value(96), value(127), value(-127)), (96, 1088, -1088));
        assert_eq!((expanded[127], expanded[0x81], expanded[0]), (17_408, -17_408, 0));
    }
}
