//! Labelled pictures: CIFAR-10 and photos of fashion products.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;

use anabranch_models::artifact::architecture::ImageTokens;
use anabranch_models::random::Random;
use anabranch_models::train::Batch;
use anabranch_models::transformer::Input;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;

use crate::data;

/// RGB pictures of one size with labels; the last ones are held out.
pub(crate) struct Pictures {
    height: usize,
    width: usize,
    pub(crate) classes: usize,
    /// Rows of RGB pixels, from -2 to 2, picture by picture.
    values: Vec<f32>,
    labels: Vec<u32>,
    /// How many train.
    training: usize,
    /// Training pictures are moved by up to so many pixels.
    shift: usize,
}

impl Pictures {
    pub(crate) fn tokens(&self, patch: usize) -> ImageTokens {
        ImageTokens { height: self.height, width: self.width, channels: 3, patch }
    }

    fn size(&self) -> usize {
        self.height * self.width * 3
    }

    /// Training pictures at random, each moved a little and mirrored half of the time.
    pub(crate) fn draw(&self, count: usize, random: &mut Random) -> Batch {
        let mut values = Vec::with_capacity(count * self.size());
        let mut targets = Vec::with_capacity(count);
        for _ in 0..count {
            let at = random.below(self.training.max(1));
            let mut by = || random.below(2 * self.shift + 1) as isize - self.shift as isize;
            let (down, across) = (by(), by());
            let mirrored = random.uniform() < 0.5;
            let picture = self.values.get(at * self.size()..(at + 1) * self.size());
            let picture = picture.unwrap_or_default();
            for row in 0..self.height {
                for column in 0..self.width {
                    let from = if mirrored { self.width - 1 - column } else { column };
                    // What comes in from outside repeats the edge.
                    let y = row.saturating_add_signed(down).min(self.height - 1);
                    let x = from.saturating_add_signed(across).min(self.width - 1);
                    let pixel = (y * self.width + x) * 3;
                    values.extend_from_slice(picture.get(pixel..pixel + 3).unwrap_or_default());
                }
            }
            targets.extend(self.labels.get(at));
        }
        Batch { input: Input::Images(values), targets }
    }

    /// The held-out pictures as they are, in batches.
    pub(crate) fn held_out(&self, batch: usize) -> Vec<Batch> {
        let values = self.values.get(self.training * self.size()..).unwrap_or_default();
        let labels = self.labels.get(self.training..).unwrap_or_default();
        let parts = values.chunks(batch * self.size()).zip(labels.chunks(batch));
        parts
            .map(|(values, labels)| Batch {
                input: Input::Images(values.to_vec()),
                targets: labels.to_vec(),
            })
            .collect()
    }
}

fn normal(byte: u8) -> f32 {
    (f32::from(byte) / 255.0 - 0.5) * 4.0
}

/// 10,000 training pictures, decoded from JPEG; 4,000 pixel-exact ones are held out.
pub(crate) fn cifar10() -> Result<Pictures, Box<dyn Error>> {
    const PLANE: usize = 32 * 32;
    let mut bytes = std::fs::read(data().join("cifar10/jpegq75_data_batch_2.bin"))?;
    bytes.extend(std::fs::read(data().join("cifar10/exact_train_0000-3999.bin"))?);
    let (mut values, mut labels) = (Vec::with_capacity(bytes.len()), Vec::new());
    for record in bytes.chunks_exact(1 + 3 * PLANE) {
        let Some((label, planes)) = record.split_first() else { continue };
        labels.push(u32::from(*label));
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        for ((red, green), blue) in red.iter().zip(green).zip(blue) {
            values.extend([*red, *green, *blue].map(normal));
        }
    }
    let training = labels.len().saturating_sub(4_000);
    Ok(Pictures { height: 32, width: 32, classes: 10, values, labels, training, shift: 4 })
}

/// Products by type (118 of them) at half size, 40 by 30; its own validation split is held out.
pub(crate) fn fashion() -> Result<Pictures, Box<dyn Error>> {
    const SIZE: (usize, usize) = (40, 30);
    let table = std::fs::read_to_string(data().join("fashion/products.tsv"))?;
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let at = |name: &str| names.iter().position(|n| *n == name).ok_or("no such column");
    let (split, id, kind) = (at("split")?, at("id")?, at("articleType")?);
    let products: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    let mut classes: BTreeMap<&str, u32> = BTreeMap::new();
    for product in &products {
        classes.entry(product.get(kind).ok_or("a short line")?).or_default();
    }
    for (number, (_, class)) in classes.iter_mut().enumerate() {
        *class = number as u32;
    }
    let mut found: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let file = std::fs::File::open(data().join("fashion/images_60x80.tar"))?;
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if let Some(values) = half(&bytes, SIZE)? {
            found.insert(name, values);
        }
    }
    let (mut values, mut labels, mut training) = (Vec::new(), Vec::new(), 0);
    for part in ["train", "val"] {
        for product in products.iter().filter(|product| product.get(split) == Some(&part)) {
            let picture = product.get(id).and_then(|id| found.get(*id));
            let class = product.get(kind).and_then(|kind| classes.get(kind));
            let (Some(picture), Some(class)) = (picture, class) else { continue };
            values.extend_from_slice(picture);
            labels.push(*class);
        }
        if part == "train" {
            training = labels.len();
        }
    }
    let (height, width) = SIZE;
    Ok(Pictures { height, width, classes: classes.len(), values, labels, training, shift: 3 })
}

/// A JPEG at half its size, or nothing when it is of another size or grey.
fn half(jpeg: &[u8], (height, width): (usize, usize)) -> Result<Option<Vec<f32>>, Box<dyn Error>> {
    let mut decoder = JpegDecoder::new(ZCursor::new(jpeg));
    let pixels = decoder.decode()?;
    if decoder.dimensions() != Some((2 * width, 2 * height)) || pixels.len() != height * width * 12
    {
        return Ok(None);
    }
    let pixel = |y: usize, x: usize, c: usize| {
        normal(pixels.get((y * 2 * width + x) * 3 + c).copied().unwrap_or_default())
    };
    let mut values = Vec::with_capacity(height * width * 3);
    for row in 0..height {
        for column in 0..width {
            for c in 0..3 {
                let (y, x) = (2 * row, 2 * column);
                let sum = pixel(y, x, c) + pixel(y, x + 1, c) + pixel(y + 1, x, c);
                values.push((sum + pixel(y + 1, x + 1, c)) / 4.0);
            }
        }
    }
    Ok(Some(values))
}
