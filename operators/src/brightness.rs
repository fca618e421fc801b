//! Samples of pictures as the numbers that models take.

/// From -1 (0) to 1 (255). What a model was trained on is what it must be given when it runs.
pub(crate) fn brightness(samples: &[u8]) -> impl Iterator<Item = f32> + '_ {
    samples.iter().map(|sample| f32::from(*sample) / 127.5 - 1.0)
}

/// Latents `[channels, positions]` as samples that models take like those of pictures, position by position.
///
/// Channels differ in size by a hundred times, and small ones matter too: a latent `q` becomes
/// `128 + sign(q) 127 sqrt(|q| / 127)`, rounded.
///
/// ```
/// use anabranch_operators::evaluate::latent_samples;
///
/// // Two channels of three positions.
/// assert_eq!(latent_samples(&[0, 127, -127, 1, 4, -1], 2), [128, 139, 255, 151, 1, 117]);
/// ```
pub fn latent_samples(latents: &[i8], channels: usize) -> Vec<u8> {
    let positions = latents.len() / channels.max(1);
    let sample = |latent: &i8| {
        let far = (f32::from(latent.unsigned_abs().min(127)) / 127.0).sqrt() * 127.0;
        (128.0 + f32::from(latent.signum()) * far).round() as u8
    };
    let position = |at| latents.iter().skip(at).step_by(positions).map(sample);
    (0..positions).flat_map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::brightness;

    #[test]
    fn samples_are_spread_around_zero() {
        assert_eq!(brightness(&[0, 255]).collect::<Vec<_>>(), [-1.0, 1.0]);
    }
}
