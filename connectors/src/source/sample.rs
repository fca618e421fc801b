//! A generated multimodal sample: `kind = "sample"`. Nothing is downloaded.
//!
//! Each record is a drawn picture, a synthesised sound, a caption that describes both and a label. A
//! record depends on the seed and its number alone. One record in a hundred lacks its sound: a missing
//! modality is data, not an error.

use std::f32::consts::TAU;
use std::sync::Arc;

use anabranch_pipelines::record::{KEY, Modality, media};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use crate::splitmix::{STEP, finish};

/// Pixels on each side of a picture.
const SIDE: usize = 96;
/// Samples per second of a sound.
const RATE: usize = 8000;

/// Options of `kind = "sample"`: drawn pictures, synthesised sounds and captions, the same on every machine.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleOptions {
    /// How many records.
    pub records: u64,
    /// Another seed gives other records.
    pub seed: u64,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self { records: 600, seed: 1 }
    }
}

impl SampleOptions {
    /// The source.
    ///
    /// # Errors
    /// Never; the signature is that of all sources.
    pub fn build(self) -> Result<Arc<dyn Source>, SourceError> {
        Ok(Arc::new(Sample { options: self }))
    }
}

struct Sample {
    options: SampleOptions,
}

#[async_trait]
impl Source for Sample {
    fn kind(&self) -> &'static str {
        "sample"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn abilities(&self) -> Abilities {
        Abilities { random_access: true, ..Abilities::default() }
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(schema())
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let SampleOptions { records, seed } = self.options;
        let bytes = records * bytes_of_one();
        Ok(vec![Split {
            name: format!("sample-{seed}"),
            bytes,
            version: format!("{records}-{seed}"),
        }])
    }

    fn measure(&self, _: Arc<Split>, from: u64) -> Marks {
        let marks = from..self.options.records;
        let mark = |at| Ok(Mark { range: at..at + 1, records: 1, bytes: bytes_of_one() });
        stream::iter(marks.map(mark)).boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let records = self.options.records;
        let numbers: Vec<u64> = ranges
            .into_iter()
            .flat_map(|range| range.range.start..range.range.end.min(records))
            .collect();
        let each = size.records.min(size.bytes / bytes_of_one() as usize).max(1);
        let batches: Vec<Vec<u64>> = numbers.chunks(each).map(<[u64]>::to_vec).collect();
        let seed = self.options.seed;
        stream::iter(batches)
            .map(move |numbers| async move {
                let drawn = tokio::task::spawn_blocking(move || batch(seed, &numbers)).await;
                drawn
                    .map_err(|e| e.to_string())
                    .and_then(|records| records.map_err(|e| e.to_string()))
                    .map(|records| SourceBatch { records, refused: Vec::new() })
                    .map_err(SourceError::Options)
            })
            .buffered(2)
            .boxed()
    }
}

const fn bytes_of_one() -> u64 {
    (SIDE * SIDE * 3 + RATE * 2) as u64
}

fn schema() -> SchemaRef {
    let mut fields = vec![
        Field::new(KEY, DataType::Utf8, false),
        media::field("image", Modality::Image, media::State::Decoded),
    ];
    fields.extend(media::fact_fields("image", Modality::Image));
    fields.push(media::field("audio", Modality::Audio, media::State::Decoded));
    fields.extend(media::fact_fields("audio", Modality::Audio));
    fields.push(Modality::Text.mark(Field::new("caption", DataType::Utf8, true)));
    fields.push(Field::new("label", DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

fn batch(seed: u64, numbers: &[u64]) -> Result<RecordBatch, ArrowError> {
    let scenes: Vec<Scene> = numbers.iter().map(|number| Scene::new(seed, *number)).collect();
    let keys: Vec<String> = numbers.iter().map(|number| format!("{number:06}")).collect();
    let paths = |suffix: &str| keys.iter().map(|key| format!("{key}.{suffix}")).collect::<Vec<_>>();
    let (image_paths, audio_paths) = (paths("raw"), paths("pcm"));
    let pictures: Vec<Vec<u8>> = scenes.iter().map(Scene::draw).collect();
    let sounds: Vec<Option<Vec<u8>>> = scenes.iter().map(Scene::sound).collect();
    let image = media::column(
        pictures.iter().map(|picture| Some(picture.as_slice())).collect(),
        image_paths.iter().map(|path| Some(path.as_str())).collect(),
    );
    let audio = media::column(
        sounds.iter().map(Option::as_deref).collect(),
        sounds
            .iter()
            .zip(&audio_paths)
            .map(|(sound, path)| sound.as_ref().map(|_| path.as_str()))
            .collect(),
    );
    let heard = |value: i32| -> ArrayRef {
        Arc::new(sounds.iter().map(|sound| sound.as_ref().map(|_| value)).collect::<Int32Array>())
    };
    let number = |value: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![value; scenes.len()])) };
    let frames = sounds.iter().map(|sound| sound.as_ref().map(|sound| sound.len() as i64 / 2));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.iter().map(|key| Some(key.as_str())).collect::<StringArray>()),
        Arc::new(image),
        Arc::new(StringArray::from(vec!["raw"; scenes.len()])),
        number(SIDE as i32),
        number(SIDE as i32),
        number(3),
        Arc::new(audio),
        Arc::new(
            sounds.iter().map(|sound| sound.as_ref().map(|_| "pcm_s16le")).collect::<StringArray>(),
        ),
        heard(RATE as i32),
        heard(1),
        Arc::new(frames.collect::<Int64Array>()),
        Arc::new(scenes.iter().map(|scene| Some(scene.caption())).collect::<StringArray>()),
        Arc::new(scenes.iter().map(|scene| Some(scene.shape as i64)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema(), columns)
}

const SHAPES: [&str; 3] = ["circle", "square", "triangle"];
const COLOURS: [(&str, [f32; 3]); 5] = [
    ("red", [200.0, 60.0, 50.0]),
    ("green", [70.0, 160.0, 80.0]),
    ("blue", [60.0, 90.0, 190.0]),
    ("yellow", [220.0, 190.0, 70.0]),
    ("white", [230.0, 230.0, 225.0]),
];

/// What is drawn and heard in one record.
struct Scene {
    seed: u64,
    shape: usize,
    colour: usize,
    centre: (f32, f32),
    radius: f32,
    light: (f32, f32),
    pitch: f32,
    silent: bool,
}

impl Scene {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Random(finish(seed ^ finish(number)));
        Self {
            seed: random.next(),
            shape: random.below(SHAPES.len() as u64) as usize,
            colour: random.below(COLOURS.len() as u64) as usize,
            centre: (random.between(30.0, 66.0), random.between(30.0, 66.0)),
            radius: random.between(12.0, 26.0),
            light: (random.between(-0.5, 0.5), random.between(-0.5, 0.5)),
            pitch: random.between(180.0, 700.0),
            silent: number % 100 == 99,
        }
    }

    fn caption(&self) -> String {
        let shape = SHAPES.get(self.shape).unwrap_or(&"shape");
        let colour = COLOURS.get(self.colour).map_or("grey", |colour| colour.0);
        let sound = if self.silent {
            "no sound".to_owned()
        } else {
            format!("a tone of {:.0} Hz", self.pitch)
        };
        format!("a {colour} {shape} on a lit wall, and {sound}")
    }

    /// Interleaved 8-bit RGB: a lit, slightly rough wall with a soft-edged shape on it.
    fn draw(&self) -> Vec<u8> {
        let colour = COLOURS.get(self.colour).map_or([128.0; 3], |colour| colour.1);
        let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
        let mut rough = Random(self.seed);
        for y in 0..SIDE {
            for x in 0..SIDE {
                let (u, v) = (x as f32, y as f32);
                let light = 120.0 + self.light.0 * (u - 48.0) + self.light.1 * (v - 48.0);
                let grain =
                    6.0 * (u * 0.31 + 1.7 * (v * 0.23).sin()).sin() + rough.between(-2.5, 2.5);
                let cover = ((0.8 - self.distance(u, v)).clamp(0.0, 1.6)) / 1.6;
                let shade = 1.0 + (self.centre.0 - u + self.centre.1 - v) / 200.0;
                for (channel, tint) in colour.iter().zip([1.02, 1.0, 0.94]) {
                    let wall = light * tint + grain;
                    let value = wall + (channel * shade + grain * 0.4 - wall) * cover;
                    pixels.push(value.clamp(0.0, 255.0) as u8);
                }
            }
        }
        pixels
    }

    /// Pixels from the shape's edge, negative inside.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        match self.shape {
            0 => dx.hypot(dy) - self.radius,
            1 => dx.abs().max(dy.abs()) - self.radius * 0.85,
            _ => (dx.abs() * 0.866 + dy * 0.5).max(-dy) - self.radius * 0.6,
        }
    }

    /// One second of PCM: three partials that fade, and a little noise.
    fn sound(&self) -> Option<Vec<u8>> {
        if self.silent {
            return None;
        }
        let mut noise = Random(!self.seed);
        let samples = (0..RATE).flat_map(|at| {
            let t = at as f32 / RATE as f32;
            let envelope = (t * 40.0).min(1.0) * (-3.0 * t).exp();
            let tone: f32 =
                (1..=3).map(|k| (TAU * self.pitch * k as f32 * t).sin() / (k * k) as f32).sum();
            let value = (envelope * tone * 0.6 + noise.between(-0.002, 0.002)).clamp(-1.0, 1.0);
            ((value * 32_000.0) as i16).to_le_bytes()
        });
        Some(samples.collect())
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        finish(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    use crate::source::testing::conforming;

    #[test]
    fn a_record_depends_on_the_seed_and_its_number_alone() {
        let of = |records, seed| conforming(&SampleOptions { records, seed }.build().unwrap());
        let all = batch(1, &(0..110).collect::<Vec<u64>>()).unwrap();
        let few = of(5, 1);
        assert_eq!((few.rows, few.refused.len()), (5, 0));
        assert_eq!(few.records, all.slice(0, 5));
        assert_ne!(of(5, 2).records, all.slice(0, 5));
        // One record in a hundred lacks its sound.
        assert_eq!(all.column_by_name("audio").unwrap().null_count(), 1);
        assert_eq!(of(0, 1).rows, 0);
    }
}
