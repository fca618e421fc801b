//! Pictures to work on: smooth shapes under noise, so that decoding costs what photographs cost.

use std::path::Path;

use anabranch_operators::codec::{self, Facts, Media};
use rayon::prelude::*;

const SIDE: u32 = 256;

/// Writes `count` JPEG files of 256 x 256 pixels.
pub(crate) fn write(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let jpeg = codec::named("jpeg").unwrap();
    (0..count).into_par_iter().for_each(|at| {
        let facts = Facts::Image { width: SIDE, height: SIDE, channels: 3 };
        let mut bytes = Vec::new();
        jpeg.encode(&Media { samples: &pixels(at), facts }, Some(90), &mut bytes).unwrap();
        std::fs::write(folder.join(format!("{at:06}.jpg")), bytes).unwrap();
    });
}

fn pixels(seed: u32) -> Vec<u8> {
    let mut state = (u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let waves: Vec<f64> = (0..12).map(|_| noise() * 0.2).collect();
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 3) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (x, y) = (f64::from(x), f64::from(y));
            let grain = noise() * 24.0;
            for channel in 0..3 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|wave| waves[channel * 4 + wave]);
                let value = (x * a + y * b).sin() * 60.0 + (x * c - y * d).cos() * 40.0;
                pixels.push((128.0 + value + grain).clamp(0.0, 255.0) as u8);
            }
        }
    }
    pixels
}
