//! The latent codec on photos: how fast it is on one core, and its bytes and likeness beside JPEG and WebP.
//!
//! Odd photos of the Kodak set are learned from, even ones are measured. Contenders take turns in rounds; a speed is
//! the median over rounds of processor time. A megabyte is 10^6 bytes of RGB, or of latents where it says so. "At equal
//! bytes" is the quality of the other codec whose records are the largest that are no larger than ours.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

#[path = "../overhead/measure.rs"]
#[allow(dead_code)]
mod measure;

use std::hint::black_box;

use anabranch_models::latent::{Codec, Fit, Media, Options, Scratch};
use anabranch_operators::codec::{self, Facts, Limits};
use anabranch_tests::program::data;
use measure::{median, report, smoke};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A decoded photo.
struct Photo {
    width: u32,
    height: u32,
    samples: Vec<u8>,
}

impl Photo {
    fn read(number: usize) -> Self {
        let png = std::fs::read(data().join(format!("photos/kodim{number:02}.png"))).unwrap();
        let mut samples = Vec::new();
        let png = codec::sniff(&png).unwrap().decode(&png, &Limits::default(), &mut samples);
        let Facts::Image { width, height, channels: 3 } = png.unwrap() else {
            panic!("no colours")
        };
        Self { width, height, samples }
    }

    fn media(&self) -> Media<'_> {
        let Self { width, height, samples } = self;
        Media::Picture { width: *width, height: *height, channels: 3, samples }
    }

    fn encode(&self, name: &str, quality: u16) -> Vec<u8> {
        let facts = Facts::Image { width: self.width, height: self.height, channels: 3 };
        let media = codec::Media { samples: &self.samples, facts };
        let mut bytes = Vec::new();
        codec::named(name).unwrap().encode(&media, Some(quality), &mut bytes).unwrap();
        bytes
    }
}

/// Channels and step of a codec.
const SETTINGS: [(usize, f64); 4] = [(12, 16.0), (48, 32.0), (48, 16.0), (192, 64.0)];

fn main() {
    anabranch::memory::keep_what_is_freed();
    let (most, rounds) = if smoke() { (2, 1) } else { (12, 9) };
    let (learned, measured): (Vec<usize>, Vec<usize>) = (1..=most).partition(|at| at % 2 == 1);
    let read = |numbers: Vec<usize>| numbers.into_iter().map(Photo::read).collect::<Vec<_>>();
    let (learned, measured) = (read(learned), read(measured));
    let raw: usize = measured.iter().map(|photo| photo.samples.len()).sum();
    let jpegs: Vec<Vec<u8>> = measured.iter().map(|photo| photo.encode("jpeg", 75)).collect();
    let mut figures: Vec<(String, f64, &str)> = Vec::new();
    let settings = if smoke() { &SETTINGS[..1] } else { &SETTINGS[..] };
    for (at, (channels, step)) in settings.iter().enumerate() {
        let options = Options {
            channels: *channels,
            step: Some(*step),
            levels: Some(3),
            ..Options::default()
        };
        let mut fit = Fit::new(options);
        learned.iter().for_each(|photo| fit.add(&photo.media()).unwrap());
        let codec = Codec::from_bytes(&fit.finish().unwrap().to_bytes().unwrap()).unwrap();
        let speeds = Speeds::measure(&codec, &measured, &jpegs, rounds);
        let latents = (raw / 192 * channels) as f64;
        if at == 0 {
            figures.push(("latent_encode_mb_s".into(), raw as f64 / speeds.encode / 1e6, "MB/s"));
            figures.push(("latent_entropy_mb_s".into(), latents / speeds.latents / 1e6, "MB/s"));
            figures.push(("latent_vs_jpeg_decode".into(), speeds.jpeg / speeds.latents, "times"));
        }
        let name = format!("latent_{channels}_{step}");
        let records = encode(&codec, &measured);
        let bytes: usize = records.iter().map(Vec::len).sum();
        figures.push((format!("{name}_encode_mb_s"), raw as f64 / speeds.encode / 1e6, "MB/s"));
        figures.push((format!("{name}_decode_mb_s"), raw as f64 / speeds.decode / 1e6, "MB/s"));
        figures.push((format!("{name}_ratio"), raw as f64 / bytes as f64, "times"));
        figures.push((format!("{name}_psnr"), likeness(&codec, &measured, &records), "dB"));
        for other in ["jpeg", "webp"] {
            if let Some(psnr) = at_equal_bytes(other, &measured, bytes) {
                figures.push((format!("{name}_{other}_psnr"), psnr, "dB"));
            }
        }
    }
    let lines: Vec<_> =
        figures.iter().map(|(name, value, unit)| (name.as_str(), *value, *unit)).collect();
    report("codec", &lines);
}

/// Processor seconds for all photos.
struct Speeds {
    encode: f64,
    /// From records to latents, which is what training reads.
    latents: f64,
    decode: f64,
    jpeg: f64,
}

impl Speeds {
    fn measure(codec: &Codec, photos: &[Photo], jpegs: &[Vec<u8>], rounds: usize) -> Self {
        let records = encode(codec, photos);
        let (mut room, mut samples) = (Scratch::default(), Vec::new());
        let mut seconds: [Vec<f64>; 4] = Default::default();
        // The first round warms up and is not counted.
        for round in 0..=rounds {
            let before = thread_seconds();
            for photo in photos {
                samples.clear();
                codec.encode(&photo.media(), None, &mut room, &mut samples).unwrap();
            }
            let encoded = thread_seconds();
            for record in &records {
                black_box(codec.latents(record, None, &mut room).unwrap());
            }
            let read = thread_seconds();
            for record in &records {
                samples.clear();
                codec.decode(record, &mut room, &mut samples).unwrap();
            }
            let decoded = thread_seconds();
            for jpeg in jpegs {
                samples.clear();
                let zune = codec::named("jpeg").unwrap();
                zune.decode(jpeg, &Limits::default(), &mut samples).unwrap();
            }
            let spans =
                [encoded - before, read - encoded, decoded - read, thread_seconds() - decoded];
            if round > 0 {
                seconds.iter_mut().zip(spans).for_each(|(all, span)| all.push(span.max(1e-9)));
            }
        }
        let [encode, latents, decode, jpeg] = seconds.map(median);
        Self { encode, latents, decode, jpeg }
    }
}

fn encode(codec: &Codec, photos: &[Photo]) -> Vec<Vec<u8>> {
    let mut room = Scratch::default();
    let encode = |photo: &Photo| {
        let mut record = Vec::new();
        codec.encode(&photo.media(), None, &mut room, &mut record).unwrap();
        record
    };
    photos.iter().map(encode).collect()
}

/// The mean over photos.
fn likeness(codec: &Codec, photos: &[Photo], records: &[Vec<u8>]) -> f64 {
    let mut room = Scratch::default();
    let psnrs = photos.iter().zip(records).map(|(photo, record)| {
        let mut samples = Vec::new();
        codec.decode(record, &mut room, &mut samples).unwrap();
        psnr(&photo.samples, &samples)
    });
    psnrs.sum::<f64>() / photos.len() as f64
}

/// The likeness of another codec's records that take no more than these bytes together.
fn at_equal_bytes(name: &str, photos: &[Photo], bytes: usize) -> Option<f64> {
    let records = |quality: u16| -> Vec<Vec<u8>> {
        photos.iter().map(|photo| photo.encode(name, quality)).collect()
    };
    let fits = |quality: &u16| records(*quality).iter().map(Vec::len).sum::<usize>() <= bytes;
    // Sizes grow with quality: halve the range.
    let (mut low, mut high) = (0_u16, 99_u16);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(&middle) { low = middle } else { high = middle - 1 }
    }
    let records = (low > 0).then(|| records(low))?;
    let psnrs = photos.iter().zip(&records).map(|(photo, record)| {
        let mut samples = Vec::new();
        let codec = codec::named(name).unwrap();
        codec.decode(record, &Limits::default(), &mut samples).unwrap();
        psnr(&photo.samples, &samples)
    });
    Some(psnrs.sum::<f64>() / photos.len() as f64)
}

fn psnr(one: &[u8], other: &[u8]) -> f64 {
    let error = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mean = one.iter().zip(other).map(error).sum::<f64>() / one.len() as f64;
    10.0 * (255.0_f64.powi(2) / mean.max(1e-9)).log10()
}

/// What the scheduler has counted for this thread. It counts when it is asked to let others run.
fn thread_seconds() -> f64 {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() as f64 / 1e9
}
