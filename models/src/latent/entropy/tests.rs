use proptest::prelude::*;

use super::*;
use crate::random::Random;

/// Latents of a few channels, of falling energy, with a few that are far off.
fn latents(shape: Shape, seed: u64) -> Vec<i8> {
    let mut random = Random::new(seed);
    let plane = shape.rows * shape.across;
    (0..shape.len())
        .map(|at| {
            let deviation = 20.0 / (1 + at / plane) as f32;
            let far = if random.below(300) == 0 { 6.0 } else { 1.0 };
            (random.normal() * deviation * far) as i8
        })
        .collect()
}

fn coder(shape: Shape, seed: u64) -> Coder {
    let mut counts = Counts::new(shape.channels);
    counts.add(latents(shape, seed), shape);
    Coder::new(&counts.finish().unwrap())
}

fn encoded(coder: &Coder, latents: &[i8], shape: Shape) -> Vec<u8> {
    let mut stream = Vec::new();
    coder.encode(latents, shape, &mut Scratch::default(), &mut stream);
    stream
}

fn decoded(
    coder: &Coder,
    stream: &[u8],
    shape: Shape,
    stored: usize,
) -> Result<Vec<i8>, LatentError> {
    let mut latents = Vec::new();
    coder.decode(stream, shape, stored, &mut Scratch::default(), &mut latents)?;
    Ok(latents)
}

proptest! {
    #[test]
    fn any_latents_come_back(
        channels in 1_usize..4,
        rows in 1_usize..9,
        across in 1_usize..40,
        seed in 0_u64..500,
        wild in any::<bool>(),
    ) {
        let shape = Shape { channels, rows, across };
        let coder = coder(shape, seed);
        let mut random = Random::new(seed + 1);
        let latents: Vec<i8> = match wild {
            // Nothing like what was counted: mostly escapes.
            true => (0..shape.len()).map(|_| random.next() as i8).collect(),
            false => latents(shape, seed + 1),
        };
        let stream = encoded(&coder, &latents, shape);
        prop_assert_eq!(decoded(&coder, &stream, shape, channels).unwrap(), latents);
    }

    #[test]
    fn damaged_streams_are_errors_or_latents_and_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..5),
        keep in any::<prop::sample::Index>(),
    ) {
        let shape = Shape { channels: 3, rows: 40, across: 40 };
        let coder = coder(shape, 3);
        let mut stream = encoded(&coder, &latents(shape, 3), shape);
        for (at, bit) in flips {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        let cut = &stream[..keep.index(stream.len())];
        for stream in [&stream, cut] {
            if let Ok(latents) = decoded(&coder, stream, shape, 3) {
                prop_assert_eq!(latents.len(), shape.len());
            }
        }
    }
}

#[test]
fn streams_take_turns_where_they_are_long_and_are_near_the_entropy() {
    let shape = Shape { channels: 3, rows: 64, across: 96 };
    assert_eq!((lanes(64, 96, 3), lanes(8, 8, 12), lanes(100_000, 1, 12)), (8, 1, 1));
    let latents = latents(shape, 7);
    let coder = coder(shape, 7);
    let stream = encoded(&coder, &latents, shape);
    let bits: f64 = latents
        .chunks(64 * 96)
        .map(|plane| {
            let mut counts = [0.0_f64; 256];
            plane.iter().for_each(|latent| counts[usize::from(latent.cast_unsigned())] += 1.0);
            let total = plane.len() as f64;
            counts.iter().filter(|c| **c > 0.0).map(|c| c * (total / c).log2()).sum::<f64>()
        })
        .sum();
    let ratio = stream.len() as f64 * 8.0 / bits;
    assert!((0.9..1.03).contains(&ratio), "{ratio} of the order-0 entropy");
}

#[test]
fn a_stream_that_is_cut_behind_a_channel_gives_the_channels_before() {
    let shape = Shape { channels: 3, rows: 64, across: 96 };
    let latents = latents(shape, 9);
    let coder = coder(shape, 9);
    let stream = encoded(&coder, &latents, shape);
    let first = Shape { channels: 1, ..shape };
    let whole = decoded(&coder, &stream, first, 3).unwrap();
    assert_eq!(whole, latents[..64 * 96]);
    let least = (0..stream.len()).find(|cut| decoded(&coder, &stream[..*cut], first, 3).is_ok());
    let least = least.unwrap();
    assert!(least < stream.len() * 6 / 10, "{least} of {}", stream.len());
    assert_eq!(decoded(&coder, &stream[..least], first, 3).unwrap(), whole);
}

#[test]
fn what_is_calm_takes_next_to_nothing() {
    let shape = Shape { channels: 2, rows: 64, across: 64 };
    let calm = vec![0; shape.len()];
    let mut counts = Counts::new(2);
    counts.add(calm.clone(), shape);
    let coder = Coder::new(&counts.finish().unwrap());
    let stream = encoded(&coder, &calm, shape);
    assert!(stream.len() < 50, "{}", stream.len());
    assert_eq!(decoded(&coder, &stream, shape, 2).unwrap(), calm);
}
