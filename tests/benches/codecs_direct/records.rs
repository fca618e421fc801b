//! Records to encode: pictures and sounds that cost what real ones cost, texts and lists of numbers.

use std::f64::consts::TAU;
use std::sync::Arc;

use anabranch_operators::codec::RAW;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{Field, Float32Type, Schema};

/// Pixels on each side of a picture.
pub(crate) const SIDE: u32 = 256;
/// Frames per second of a sound, and frames of it.
pub(crate) const RATE: u32 = 16_000;
const FRAMES: usize = 16_000;

/// A batch whose column `x` holds what this codec encodes.
pub(crate) fn of(codec: &str, records: usize) -> RecordBatch {
    match codec {
        "jpeg" | "png" | "webp" | "qoi" => {
            let pictures = (0..records).map(|at| picture(at as u64)).collect();
            let facts = ["width", "height", "channels"].into_iter().zip([SIDE, SIDE, 3]);
            decoded(Modality::Image, pictures, RAW, facts.collect(), None)
        }
        "wav" | "flac" | "opus" => {
            let sounds = (0..records).map(|at| sound(at as u64)).collect();
            let facts = vec![("sample_rate", RATE), ("channels", 1)];
            decoded(Modality::Audio, sounds, "pcm_s16le", facts, Some(FRAMES))
        }
        "zstd" => {
            let texts: StringArray = (0..records).map(|at| Some(text(at as u64))).collect();
            let field = Modality::Text.mark(Field::new("x", texts.data_type().clone(), true));
            batch(vec![(field, Arc::new(texts))])
        }
        _ => {
            let numbers = (0..records).map(|at| Some(numbers(at as u64)));
            let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(numbers);
            let field = Field::new("x", lists.data_type().clone(), true);
            batch(vec![(field, Arc::new(lists))])
        }
    }
}

fn decoded(
    modality: Modality,
    samples: Vec<Vec<u8>>,
    encoding: &str,
    facts: Vec<(&str, u32)>,
    frames: Option<usize>,
) -> RecordBatch {
    let rows = samples.len();
    let column: StructArray =
        media::column(samples.iter().map(|s| Some(s.as_slice())).collect(), vec![None; rows]);
    let mut columns: Vec<(Field, ArrayRef)> =
        vec![(media::field("x", modality, media::State::Decoded), Arc::new(column))];
    for field in media::fact_fields("x", modality) {
        let number = facts.iter().find(|(name, _)| *field.name() == format!("x_{name}"));
        let values: ArrayRef = match (number, frames) {
            (Some((_, value)), _) => Arc::new(Int32Array::from(vec![*value as i32; rows])),
            (None, Some(frames)) if field.name() == "x_frames" => {
                Arc::new(Int64Array::from(vec![frames as i64; rows]))
            }
            _ => Arc::new(StringArray::from(vec![encoding; rows])),
        };
        columns.push((field, values));
    }
    batch(columns)
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Smooth shapes under noise.
fn picture(seed: u64) -> Vec<u8> {
    let mut noise = noise(seed);
    let waves: Vec<f64> = (0..12).map(|_| noise() * 0.2).collect();
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 3) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (x, y) = (f64::from(x), f64::from(y));
            let grain = noise() * 8.0;
            for channel in 0..3 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|wave| waves[channel * 4 + wave]);
                let value = (x * a + y * b).sin() * 60.0 + (x * c - y * d).cos() * 40.0;
                pixels.push((128.0 + value + grain).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}

/// A second of a few tones that come and go, and noise.
fn sound(seed: u64) -> Vec<u8> {
    let mut noise = noise(seed);
    let tones: Vec<f64> = (0..4).map(|_| 200.0 + (noise() + 0.5) * 3000.0).collect();
    let sample = |at: usize| {
        let time = at as f64 / f64::from(RATE);
        let tone = |(tone, pitch): (usize, &f64)| {
            (TAU * pitch * time).sin() * (TAU * time * (tone + 1) as f64).sin().abs()
        };
        let value = tones.iter().enumerate().map(tone).sum::<f64>() * 0.2 + noise() * 0.02;
        ((value * 32_000.0) as i16).to_le_bytes()
    };
    (0..FRAMES).flat_map(sample).collect()
}

/// Two kilobytes of words, some of which are frequent.
fn text(seed: u64) -> String {
    const SYLLABLES: [&str; 16] = [
        "an", "ka", "to", "ri", "sel", "mo", "ve", "du", "lin", "pa", "shor", "e", "gu", "ni",
        "tam", "o",
    ];
    let mut noise = noise(seed);
    let mut text = String::new();
    while text.len() < 2000 {
        let word = ((noise() + 0.5).powi(3) * 4096.0) as usize;
        [word % 16, word / 16 % 16, word / 256].iter().for_each(|at| text += SYLLABLES[at % 16]);
        text.push(' ');
    }
    text
}

/// Numbers as measurements are: few digits, around a mean.
fn numbers(seed: u64) -> Vec<Option<f32>> {
    let mut noise = noise(seed);
    (0..4096).map(|_| Some(((noise() + noise()) * 1000.0).round() as f32 / 100.0)).collect()
}

/// Numbers from -0.5 to 0.5 (xorshift).
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    }
}
