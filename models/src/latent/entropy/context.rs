//! What is known of a latent before it is decoded: how busy its neighbourhood is, and what it probably is.
//!
//! Only latents of the row above and of the channel before are looked at, so that a decoder knows the contexts of a
//! whole row at once.

use crate::kernel::lanes;

/// Contexts of a channel, from calm to busy.
pub const CONTEXTS: usize = 6;

/// Larger magnitudes count as this one.
const BUSIEST: u8 = 31;

/// How a channel's latents are predicted; the difference is what is coded, modulo 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// By zero.
    Nothing,
    /// By the latent before it in its row.
    Before,
    /// By the latent above it.
    Above,
    /// By the plane through the latents before, above and at the corner: `before + above - corner`.
    Plane,
}

impl Predictor {
    /// All of them; the place is the number in an artifact.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Before, Self::Above, Self::Plane];

    /// The differences of a plane of `across` columns. What is outside counts as zero.
    pub(crate) fn differences(self, latents: &[i8], across: usize, to: &mut [i8]) {
        let mut above: &[i8] = &[];
        let across = across.max(1);
        for (row, to) in latents.chunks(across).zip(to.chunks_mut(across)) {
            match self {
                Self::Nothing => to.copy_from_slice(row),
                Self::Above => over(row, above, to),
                Self::Before => across_row(row, to),
                Self::Plane => {
                    over(row, above, to);
                    let mut before = 0;
                    for to in to {
                        (*to, before) = (to.wrapping_sub(before), *to);
                    }
                }
            }
            above = row;
        }
    }

    /// The latents of a plane, in place.
    pub(crate) fn undo(self, plane: &mut [i8], across: usize) {
        let across = across.max(1);
        if matches!(self, Self::Before | Self::Plane) {
            for row in plane.chunks_mut(across) {
                let mut before = 0_i8;
                for latent in row {
                    before = latent.wrapping_add(before);
                    *latent = before;
                }
            }
        }
        if matches!(self, Self::Above | Self::Plane) {
            let mut rows = plane.chunks_mut(across);
            let Some(mut above) = rows.next() else { return };
            for row in rows {
                for (latent, above) in row.iter_mut().zip(above.iter()) {
                    *latent = latent.wrapping_add(*above);
                }
                above = row;
            }
        }
    }
}

fn over(row: &[i8], above: &[i8], to: &mut [i8]) {
    let above = above.iter().copied().chain(std::iter::repeat(0));
    for ((to, latent), above) in to.iter_mut().zip(row).zip(above) {
        *to = latent.wrapping_sub(above);
    }
}

fn across_row(row: &[i8], to: &mut [i8]) {
    let before = std::iter::once(&0).chain(row);
    for ((to, latent), before) in to.iter_mut().zip(row).zip(before) {
        *to = latent.wrapping_sub(*before);
    }
}

lanes! {
    /// The contexts of a row, from the differences above it and from those in its place of the channel before; both
    /// may be empty.
    ///
    /// With `m` the magnitude of a difference, at most 31, it is the number of 1, 3, 6, 12 and 24 that are at most
    /// `m(above, left) + 2 m(above) + m(above, right) + 2 m(channel before)`; what is outside has `m = 0`.
    pub(crate) fn contexts(above: &[i8], before: &[i8], room: &mut [u8], to: &mut [u8]) {
        // The magnitudes above, with a zero at both ends.
        let room = room.get_mut(..to.len() + 2).unwrap_or_default();
        room.fill(0);
        for (room, above) in room.iter_mut().skip(1).zip(above) {
            *room = above.unsigned_abs().min(BUSIEST);
        }
        let shifted = |by: usize| room.get(by..).unwrap_or_default().iter();
        let above = shifted(0).zip(shifted(1)).zip(shifted(2));
        for (to, ((left, middle), right)) in to.iter_mut().zip(above) {
            *to = left + 2 * middle + right;
        }
        for (to, before) in to.iter_mut().zip(before) {
            *to += 2 * before.unsigned_abs().min(BUSIEST);
        }
        for to in to {
            let at_least = |least: u8| u8::from(*to >= least);
            *to = at_least(1) + at_least(3) + at_least(6) + at_least(12) + at_least(24);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_follow_the_formula() {
        let above = [0, 1, -128, 0, 0, 0, 0];
        let before = [0, 0, 0, 0, 0, 0, 12];
        let (mut room, mut to) = ([0; 9], [9; 7]);
        contexts(&above, &before, &mut room, &mut to);
        // 0+0+1, 0+2+31, 1+62+0, 31, 0, 0, 24
        assert_eq!(to, [1, 5, 5, 5, 0, 0, 5]);
        contexts(&[], &before, &mut room, &mut to);
        assert_eq!(to, [0, 0, 0, 0, 0, 0, 5]);
        contexts(&[-3; 7], &[127; 7], &mut room, &mut to);
        assert_eq!(to, [5; 7]);
    }

    #[test]
    fn every_predictor_comes_back() {
        let mut random = crate::random::Random::new(2);
        for across in [1, 3, 8] {
            let latents: Vec<i8> = (0..across * 5).map(|_| random.next() as i8).collect();
            for predictor in Predictor::ALL {
                let mut plane = vec![0; latents.len()];
                predictor.differences(&latents, across, &mut plane);
                predictor.undo(&mut plane, across);
                assert_eq!(plane, latents, "{predictor:?}");
            }
        }
    }

    #[test]
    fn a_ramp_is_a_plane() {
        let latents: Vec<i8> = (0..12).map(|at| (at % 4) * 3 + (at / 4) * 5).collect();
        let mut plane = vec![0; 12];
        Predictor::Plane.differences(&latents, 4, &mut plane);
        assert_eq!(plane, [0, 3, 3, 3, 5, 0, 0, 0, 5, 0, 0, 0]);
    }
}
