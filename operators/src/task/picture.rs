//! Pictures as models take them.

use anabranch_models::artifact::architecture::ImageTokens;

use crate::brightness::brightness;
use crate::codec::{Facts, Media};
use crate::decode;

/// The values of a picture as a model was trained on them.
///
/// # Errors
/// When it has another size, as a sentence.
pub(super) fn values(takes: &ImageTokens, media: &Media<'_>) -> Result<Vec<f32>, String> {
    let ImageTokens { width, height, channels, .. } = *takes;
    let (samples, facts) = coloured(media, channels);
    let wanted =
        Facts::Image { width: width as u32, height: height as u32, channels: channels as u8 };
    match facts == wanted {
        true => Ok(brightness(&samples).collect()),
        false => Err(format!(
            "the model takes {width} x {height} pixels of {channels} channels, and this is {facts:?}; \
             `resize` it first"
        )),
    }
}

/// A bit for each pixel of a picture that shows what is right: whether it is nearer to white than to black.
///
/// # Errors
/// When it has another size than the model's pictures, as a sentence.
pub(super) fn mask(takes: &ImageTokens, media: &Media<'_>) -> Result<Vec<bool>, String> {
    let ImageTokens { width, height, .. } = *takes;
    let (samples, facts) = coloured(media, 1);
    let wanted = Facts::Image { width: width as u32, height: height as u32, channels: 1 };
    match facts == wanted {
        true => Ok(samples.iter().map(|sample| *sample > 127).collect()),
        false => Err(format!(
            "the right answer to a picture of {width} x {height} pixels is a mask of as many, and this is {:?}",
            media.facts
        )),
    }
}

fn coloured(media: &Media<'_>, channels: usize) -> (Vec<u8>, Facts) {
    let mut samples = media.samples.to_vec();
    let mode = if channels == 1 { "gray" } else { "rgb" };
    let facts = decode::recolour(media.facts, 0, mode, &mut samples);
    (samples, facts)
}

/// The places of pixels in the order in which a model has them: patches row by row, and the pixels of each.
pub(super) fn in_patches(takes: &ImageTokens) -> impl Iterator<Item = usize> {
    let ImageTokens { width, height, patch, .. } = *takes;
    let corners = (0..height)
        .step_by(patch)
        .flat_map(move |y| (0..width).step_by(patch).map(move |x| (y, x)));
    corners.flat_map(move |(top, left)| {
        (top..top + patch).flat_map(move |y| (left..left + patch).map(move |x| y * width + x))
    })
}
