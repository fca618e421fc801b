//! How much there is to see in a picture, and to hear in a sound.

use crate::codec::{Facts, Media, Pcm};

/// The standard deviation of a picture's samples from the mean of their channel: 0 for one colour, about 74 for
/// noise. Transparency is not looked at.
pub(super) fn deviation(media: &Media<'_>) -> Result<f64, String> {
    let Facts::Image { channels, .. } = media.facts else {
        return Err("it is no picture".to_owned());
    };
    let (channels, colours) = match usize::from(channels) {
        0 => return Err("it is a picture without channels".to_owned()),
        // Grey or colours, and how opaque they are.
        channels @ (2 | 4) => (channels, channels - 1),
        channels => (channels, channels),
    };
    let mut squares = 0.0;
    for colour in 0..colours {
        // Whole numbers, so that neither order nor vector width shows in the result.
        let samples = media.samples.iter().skip(colour).step_by(channels);
        let sums = samples.fold((0_u64, 0_u64, 0_u64), |(count, sum, square), sample| {
            let sample = u64::from(*sample);
            (count + 1, sum + sample, square + sample * sample)
        });
        let [count, sum, square] = [sums.0, sums.1, sums.2].map(|sum| sum as f64);
        let mean = sum / count.max(1.0);
        squares += (square / count.max(1.0) - mean * mean).max(0.0);
    }
    Ok((squares / colours as f64).sqrt())
}

/// The root mean square of a sound in decibels of full scale: 0 for a full square wave, negative infinity for
/// silence.
pub(super) fn decibels(media: &Media<'_>) -> Result<f64, String> {
    let Facts::Audio { format, .. } = media.facts else {
        return Err("it is no sound".to_owned());
    };
    let mut sum = 0.0;
    let mut add = |sample: f64| sum += sample * sample;
    match format.integers(media.samples) {
        Some(samples) => {
            let full = match format {
                Pcm::S16 => f64::from(i16::MIN),
                Pcm::S24 => -8_388_608.0,
                Pcm::S32 | Pcm::F32 => f64::from(i32::MIN),
            };
            samples.into_iter().for_each(|sample| add(f64::from(sample) / full));
        }
        None => {
            let (samples, _) = media.samples.as_chunks::<4>();
            samples.iter().for_each(|sample| add(f64::from(f32::from_le_bytes(*sample))));
        }
    }
    let count = media.samples.len() / format.bytes();
    let mean = sum / (count as f64).max(1.0);
    match mean.is_nan() {
        true => Err("some of its samples are no numbers".to_owned()),
        false => Ok(10.0 * mean.log10()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(samples: &[u8], channels: u8) -> f64 {
        let width = samples.len() as u32 / u32::from(channels);
        deviation(&Media { samples, facts: Facts::Image { width, height: 1, channels } }).unwrap()
    }

    fn sound(samples: &[u8], format: Pcm) -> f64 {
        let frames = (samples.len() / format.bytes()) as u64;
        let facts = Facts::Audio { format, rate: 8000, channels: 1, frames };
        decibels(&Media { samples, facts }).unwrap()
    }

    #[test]
    fn one_colour_has_no_deviation_and_transparency_does_not_count() {
        assert_eq!(picture(&[200, 10, 3, 200, 10, 3], 3), 0.0);
        assert_eq!(picture(&[0, 0, 0, 0, 0, 0, 0, 255], 4), 0.0);
        assert_eq!(picture(&[0, 255], 1), 127.5);
        assert_eq!(picture(&[0, 7, 7, 255, 7, 7], 3), (127.5f64 * 127.5 / 3.0).sqrt());
        assert_eq!(picture(&[], 3), 0.0);
    }

    #[test]
    fn full_scale_is_zero_decibels_in_every_format() {
        assert_eq!(sound(&i16::MIN.to_le_bytes(), Pcm::S16), 0.0);
        assert_eq!(sound(&[0, 0, 128], Pcm::S24), 0.0);
        assert_eq!(sound(&i32::MIN.to_le_bytes(), Pcm::S32), 0.0);
        assert_eq!(sound(&1.0f32.to_le_bytes(), Pcm::F32), 0.0);
        assert!((sound(&(i16::MIN / 2).to_le_bytes(), Pcm::S16) + 6.0206).abs() < 1e-4);
        assert_eq!(sound(&[0; 64], Pcm::S16), f64::NEG_INFINITY);
        assert_eq!(sound(&[], Pcm::S16), f64::NEG_INFINITY);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let facts = Facts::Audio { format: Pcm::F32, rate: 8000, channels: 1, frames: 1 };
        assert!(decibels(&Media { samples: &f32::NAN.to_le_bytes(), facts }).is_err());
    }
}
