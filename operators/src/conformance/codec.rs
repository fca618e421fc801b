//! What every codec must do.
//!
//! Encoding and decoding append to a buffer and depend on nothing but the media; what is lossless comes back,
//! and what is not comes close, frame by frame; whatever declares more than the limits is refused, and so are
//! bytes that end early; damaged bytes never panic and never give more than the limits allow. A format that is
//! only decoded is held to its half of this with [`check_decoder`].

use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::Modality;

use super::{Failure, ensure};
use crate::codec::{Codec, CodecError, Facts, Limits, Media, Pcm};

/// Lengths from 0 up to which bytes are cut off one by one; beyond, in steps.
const EVERY_LENGTH: usize = 256;
/// Bits that are flipped, spread over the bytes.
const FLIPS: usize = 300;
/// The least likeness of a picture that was encoded with loss, in decibels.
const LEAST_PSNR: f64 = 25.0;
/// The least likeness of a sound, as its power over that of the error, in decibels.
const LEAST_SNR: f64 = 15.0;
/// Frames that a lossy codec of sound needs before it comes close.
const SETTLED: u64 = 1000;

/// Media to encode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Its samples.
    pub samples: Vec<u8>,
    /// What they are.
    pub facts: Facts,
}

impl Example {
    /// A smooth picture.
    pub fn picture(width: u32, height: u32, channels: u8) -> Self {
        let facts = Facts::Image { width, height, channels };
        let wave = |at: u64| ((at as f64 * 0.05).sin() * 90.0 + 128.0) as u8;
        Self { samples: (0..facts.bytes()).map(wave).collect(), facts }
    }

    /// A tone.
    pub fn sound(format: Pcm, channels: u16, frames: u64) -> Self {
        let mut samples = Vec::new();
        for at in 0..frames * u64::from(channels) {
            format.push(((at as f64 * 0.03).sin() * 20_000.0) as i32, &mut samples);
        }
        Self { samples, facts: Facts::Audio { format, rate: 8000, channels, frames } }
    }

    fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts }
    }
}

/// Media that any codec of this modality holds.
pub fn examples(codec: &dyn Codec) -> Vec<Example> {
    match codec.modality() {
        Modality::Image => {
            [(1, 1), (17, 9), (64, 48)].map(|(w, h)| Example::picture(w, h, 3)).into()
        }
        _ => vec![
            Example::sound(Pcm::S16, 1, 1),
            Example::sound(Pcm::S16, 2, 4000),
            Example::sound(Pcm::S24, 1, 500),
        ],
    }
}

/// Holds a codec to all of the above, on these examples.
///
/// # Errors
/// With the first thing that is not as it must be.
pub fn check(codec: &dyn Codec, examples: &[Example]) -> Result<(), Failure> {
    let name = codec.name();
    garbage(codec)?;
    ensure(codec.encodes(), || format!("{name} is only decoded"))?;
    for example in examples {
        let about = |what: &str| format!("{name}, {:?}: {what}", example.facts);
        let fail = |what: &str, e: &CodecError| Failure(format!("{}: {e}", about(what)));
        let bytes = encode(codec, example).map_err(|e| fail("it cannot be encoded", &e))?;
        ensure(codec.recognises(&bytes), || about("what it encodes it does not recognise"))?;
        let decoded =
            decode(codec, &bytes, &Limits::default()).map_err(|e| fail("no way back", &e))?;
        round_trip(codec, example, &decoded).map_err(|what| Failure(about(&what)))?;
        appends(codec, example, &bytes, &decoded).map_err(|what| Failure(about(&what)))?;
        threads(codec, example, &bytes, &decoded).map_err(|what| Failure(about(&what)))?;
        decodes(codec, &bytes, &decoded).map_err(|what| Failure(about(&what)))?;
    }
    Ok(())
}

/// Holds a codec that only decodes to its half of the above, on one file, and gives what it decodes to.
///
/// # Errors
/// With the first thing that is not as it must be.
pub fn check_decoder(codec: &dyn Codec, bytes: &[u8]) -> Result<Example, Failure> {
    let name = codec.name();
    garbage(codec)?;
    ensure(codec.recognises(bytes), || format!("{name} does not recognise the file"))?;
    let decoded = decode(codec, bytes, &Limits::default());
    let decoded = decoded.map_err(|e| Failure(format!("{name} does not decode the file: {e}")))?;
    let encoded = encode(codec, &decoded).err();
    let told = encoded.is_none_or(|error| error.0.contains("only decoded"));
    ensure(codec.encodes() || told, || format!("{name} does not say that it only decodes"))?;
    let mut appended = b"before".to_vec();
    let again = codec.decode(bytes, &Limits::default(), &mut appended).is_ok();
    let follows = again && appended.strip_prefix(b"before") == Some(decoded.samples.as_slice());
    ensure(follows, || format!("{name} does not append what it decodes"))?;
    decodes(codec, bytes, &decoded).map_err(|what| Failure(format!("{name}: {what}")))?;
    Ok(decoded)
}

fn garbage(codec: &dyn Codec) -> Result<(), Failure> {
    let name = codec.name();
    ensure(!codec.recognises(b""), || format!("{name} recognises nothing at all"))?;
    for garbage in [b"".as_slice(), b"not media at all"] {
        let decoded = decode(codec, garbage, &Limits::default());
        ensure(decoded.is_err(), || format!("{name} decodes {garbage:?}"))?;
    }
    Ok(())
}

/// What holds of decoding, whoever encoded.
fn decodes(codec: &dyn Codec, bytes: &[u8], decoded: &Example) -> Result<(), String> {
    if decoded.facts.bytes() != decoded.samples.len() as u64 {
        return Err(format!("its {} bytes are not {:?}", decoded.samples.len(), decoded.facts));
    }
    limits(codec, bytes, decoded)?;
    damage(codec, bytes, decoded)
}

fn encode(codec: &dyn Codec, example: &Example) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    codec.encode(&example.media(), None, &mut bytes)?;
    Ok(bytes)
}

fn decode(codec: &dyn Codec, bytes: &[u8], limits: &Limits) -> Result<Example, CodecError> {
    let mut samples = Vec::new();
    let facts = codec.decode(bytes, limits, &mut samples)?;
    Ok(Example { samples, facts })
}

fn round_trip(codec: &dyn Codec, example: &Example, decoded: &Example) -> Result<(), String> {
    let (facts, bytes) = (decoded.facts, decoded.samples.len());
    let back = Err(format!("it comes back as {facts:?} in {bytes} bytes"));
    if codec.lossless(None) {
        return match decoded {
            decoded if decoded == example => Ok(()),
            _ if facts == example.facts => {
                Err("it is called lossless and comes back changed".to_owned())
            }
            _ => back,
        };
    }
    match (example.facts, facts) {
        (Facts::Image { .. }, _) if facts == example.facts => {
            let likeness = psnr(&example.samples, &decoded.samples);
            match likeness < LEAST_PSNR {
                true => Err(format!("it comes back with {likeness:.1} dB")),
                false => Ok(()),
            }
        }
        // The format of its samples is for the codec to say.
        (
            Facts::Audio { format, rate, channels, frames },
            Facts::Audio { format: other, rate: r, channels: c, frames: f },
        ) if (rate, channels, frames) == (r, c, f) => {
            let likeness = snr(&format.floats(&example.samples), &other.floats(&decoded.samples));
            match frames >= SETTLED && likeness < LEAST_SNR {
                true => Err(format!("it comes back with {likeness:.1} dB")),
                false => Ok(()),
            }
        }
        _ => back,
    }
}

fn psnr(one: &[u8], other: &[u8]) -> f64 {
    let pairs = one.iter().zip(other);
    let error: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) / (error / one.len().max(1) as f64).max(1e-9)).log10()
}

/// The power of a sound over that of the difference of another, in decibels.
pub fn snr(sound: &[f32], other: &[f32]) -> f64 {
    let power: f64 = sound.iter().map(|a| f64::from(*a).powi(2)).sum();
    let error: f64 = sound.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    10.0 * (power / error.max(1e-20)).log10()
}

/// Batches of any size give the same, since all that a batch adds is what stands in the buffer already.
fn appends(
    codec: &dyn Codec,
    example: &Example,
    bytes: &[u8],
    decoded: &Example,
) -> Result<(), String> {
    for copies in [1, 7, 64] {
        let (mut encoded, mut samples) = (b"before".to_vec(), b"before".to_vec());
        for _ in 0..copies {
            codec.encode(&example.media(), None, &mut encoded).map_err(|e| e.to_string())?;
            codec.decode(bytes, &Limits::default(), &mut samples).map_err(|e| e.to_string())?;
        }
        let follows = |buffer: &[u8], one: &[u8]| {
            buffer.strip_prefix(b"before").is_some_and(|rest| {
                rest.len() == one.len() * copies && rest.chunks(one.len().max(1)).all(|c| c == one)
            })
        };
        if !follows(&encoded, bytes) || !follows(&samples, &decoded.samples) {
            return Err(format!("a batch of {copies} gives something else"));
        }
    }
    Ok(())
}

fn threads(
    codec: &dyn Codec,
    example: &Example,
    bytes: &[u8],
    decoded: &Example,
) -> Result<(), String> {
    let same = || {
        encode(codec, example).is_ok_and(|again| again == bytes)
            && decode(codec, bytes, &Limits::default()).is_ok_and(|again| &again == decoded)
    };
    let same = std::thread::scope(|scope| {
        [scope.spawn(same), scope.spawn(same)].map(|thread| thread.join().unwrap_or(false))
    });
    match same {
        [true, true] => Ok(()),
        _ => Err("two threads at once give something else".to_owned()),
    }
}

fn limits(codec: &dyn Codec, bytes: &[u8], decoded: &Example) -> Result<(), String> {
    let all = Limits::default();
    let less = ByteSize(decoded.facts.bytes().saturating_sub(1));
    let mut tight = vec![Limits { bytes: less, ..all }];
    match decoded.facts {
        Facts::Image { width, height, .. } => {
            let pixels = u64::from(width) * u64::from(height) - 1;
            tight.push(Limits { pixels, ..all });
        }
        Facts::Audio { rate, frames, .. } => {
            let seconds = frames as f64 / f64::from(rate.max(1)) / 2.0;
            tight.push(Limits { seconds, ..all });
        }
    }
    for limits in tight {
        match decode(codec, bytes, &limits) {
            Ok(_) => return Err(format!("it is decoded beyond {limits:?}")),
            Err(e) if !e.0.contains("limit") => {
                return Err(format!("beyond {limits:?} it only says: {e}"));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn damage(codec: &dyn Codec, bytes: &[u8], decoded: &Example) -> Result<(), String> {
    let limits = Limits { pixels: 1 << 20, seconds: 60.0, bytes: ByteSize(4 << 20) };
    let step = (bytes.len() / EVERY_LENGTH).max(1);
    let lengths =
        (0..bytes.len().min(EVERY_LENGTH)).chain((EVERY_LENGTH..bytes.len()).step_by(step));
    for length in lengths {
        let cut = decode(codec, bytes.get(..length).unwrap_or_default(), &limits);
        // A codec may end in bytes that say nothing; but what is missing must never pass for whole.
        if cut.is_ok_and(|cut| &cut != decoded) {
            return Err(format!("cut to {length} of {} bytes it passes for whole", bytes.len()));
        }
    }
    let bits = bytes.len() * 8;
    for flip in 0..FLIPS.min(bits) {
        let at = flip * bits / FLIPS.min(bits);
        let mut damaged = bytes.to_vec();
        if let Some(byte) = damaged.get_mut(at / 8) {
            *byte ^= 1 << (at % 8);
        }
        if let Ok(decoded) = decode(codec, &damaged, &limits)
            && (decoded.samples.len() as u64 > limits.bytes.0
                || decoded.facts.bytes() != decoded.samples.len() as u64)
        {
            return Err(format!("with bit {at} flipped it gives {} bytes", decoded.samples.len()));
        }
    }
    Ok(())
}
