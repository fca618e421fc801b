//! Pictures sample by sample, and as SSIMULACRA2 sees them.

use ::ssimulacra2::{
    ColorPrimaries, Rgb, Ssimulacra2Error, TransferCharacteristic, compute_frame_ssimulacra2,
};

use super::{MetricError, alike};
use crate::codec::{Facts, Media};

/// Peak signal-to-noise ratio in decibels, over all samples of all channels; infinite for identical pictures.
///
/// # Errors
/// When one is no picture, or they differ in size or have no pixels.
pub fn psnr(original: &Media<'_>, decoded: &Media<'_>) -> Result<f64, MetricError> {
    size("PSNR", original, decoded)?;
    let squares: u64 = original
        .samples
        .iter()
        .zip(decoded.samples)
        .map(|(one, other)| u64::from(one.abs_diff(*other)).pow(2))
        .sum();
    let mean = squares as f64 / original.samples.len() as f64;
    Ok(10.0 * (255.0 * 255.0 / mean).log10())
}

/// SSIMULACRA2 in its version 2.1, tuned to what people see: 90 is hardly told from the original, 70 is high quality,
/// 30 is low; there is no least value. Grey is taken as colours, transparency is not looked at. Samples are sRGB.
///
/// # Errors
/// When one is no picture, or they differ in size or have fewer than 8 pixels on a side.
pub fn ssimulacra2(original: &Media<'_>, decoded: &Media<'_>) -> Result<f64, MetricError> {
    let (width, height, channels) = size("SSIMULACRA2", original, decoded)?;
    let small = MetricError::TooSmall { metric: "SSIMULACRA2", least: "8 x 8 pixels" };
    let picture = |media: &Media<'_>| {
        let pixels = media.samples.chunks_exact(channels).map(|pixel| {
            let value = |at: usize| f32::from(pixel.get(at).copied().unwrap_or(0)) / 255.0;
            if channels < 3 { [value(0); 3] } else { [value(0), value(1), value(2)] }
        });
        let (curve, colours) = (TransferCharacteristic::SRGB, ColorPrimaries::BT709);
        Rgb::new(pixels.collect(), width, height, curve, colours)
    };
    let (Ok(one), Ok(other)) = (picture(original), picture(decoded)) else { return Err(small) };
    compute_frame_ssimulacra2(one, other).map_err(|error| match error {
        Ssimulacra2Error::NonMatchingImageDimensions => {
            MetricError::Unlike { original: original.facts, decoded: decoded.facts }
        }
        _ => small,
    })
}

/// Width, height and channels of two pictures that can be compared.
pub(super) fn size(
    metric: &'static str,
    original: &Media<'_>,
    decoded: &Media<'_>,
) -> Result<(usize, usize, usize), MetricError> {
    let Facts::Image { width, height, channels } = original.facts else {
        return Err(MetricError::Modality { metric, what: "pictures" });
    };
    alike(original, decoded)?;
    match original.samples.is_empty() {
        true => Err(MetricError::TooSmall { metric, least: "one pixel" }),
        false => Ok((width as usize, height as usize, usize::from(channels))),
    }
}
