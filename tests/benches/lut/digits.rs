//! A network of 1-bit tables that reads digits: 28 by 28 pixels, three thresholds each, 2,000 tables of six inputs,
//! then 1,000, a tenth of which vote for each digit (DWN's small network for MNIST); or one that was trained, by
//! `cargo run --release -p anabranch-models --example digits -- --save FOLDER`.

use std::hint::black_box;
use std::io::Read;
use std::path::Path;

use anabranch_models::engine::{Level, Network, NetworkLayer};
use safetensors::SafeTensors;

use crate::{least, noise, rounds};

/// Pictures of a batch.
const PICTURES: usize = 512;
const PIXELS: usize = 28 * 28;
/// Pictures of the training file that trained nothing: those behind these.
const TRAINING: usize = 50_000;

/// Pictures that a network reads in a second.
pub(crate) fn images_per_second(network: &Network) -> f64 {
    let pictures =
        noise(PICTURES * PIXELS).into_iter().map(|x| x.to_bits() as u8).collect::<Vec<_>>();
    let mut seconds = f64::INFINITY;
    for _ in 0..rounds() {
        let read = || drop(black_box(network.votes(Level::detect(), &pictures)));
        seconds = seconds.min(least(read));
    }
    PICTURES as f64 / seconds
}

/// A network of random content.
pub(crate) fn random() -> Network {
    let random = noise(1 << 16).into_iter().map(|x| x.to_bits() as usize >> 3).collect::<Vec<_>>();
    let mut next = random.iter().copied().cycle();
    let mut layer = |nodes: usize, before: usize| NetworkLayer {
        wires: (0..6 * nodes).map(|_| (next.next().unwrap() % before) as u32).collect(),
        tables: (0..nodes)
            .map(|_| (next.next().unwrap() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect(),
    };
    let layers = vec![layer(2000, 3 * PIXELS), layer(1000, 2000)];
    let thresholds = (0..PIXELS).flat_map(|_| [64, 128, 192]).collect::<Vec<_>>();
    Network::new(PIXELS, 6, &thresholds, layers, 10).unwrap()
}

/// The network that the example `digits` saved in this folder.
pub(crate) fn trained(folder: &Path) -> Network {
    let bytes = std::fs::read(folder.join("network.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
    let layers = (0..)
        .take_while(|layer| tensors.tensor(&format!("{layer}.wires")).is_ok())
        .map(|layer| {
            let (wires, tables) =
                (data(&format!("{layer}.wires")), data(&format!("{layer}.table")));
            let wires =
                wires.chunks_exact(4).map(|wire| u32::from_le_bytes(wire.try_into().unwrap()));
            let words =
                tables.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
            NetworkLayer { wires: wires.collect(), tables: words.collect() }
        })
        .collect();
    Network::new(PIXELS, 6, &data("thresholds"), layers, 10).unwrap()
}

/// The share of held-out digits that a network reads right.
pub(crate) fn accuracy(network: &Network) -> f64 {
    let (images, labels) =
        (unpack("train-images-idx3-ubyte.gz", 16), unpack("train-labels-idx1-ubyte.gz", 8));
    let (images, labels) = (&images[TRAINING * PIXELS..], &labels[TRAINING..]);
    let votes = network.votes(Level::detect(), images).unwrap();
    let right = votes.chunks_exact(10).zip(labels).filter(|(votes, label)| {
        // The first of the largest, as in training.
        let largest = votes.iter().max().unwrap();
        votes.iter().position(|vote| vote == largest) == Some(usize::from(**label))
    });
    right.count() as f64 / labels.len() as f64
}

fn unpack(name: &str, header: usize) -> Vec<u8> {
    let file =
        std::fs::File::open(anabranch_tests::program::data().join("mnist").join(name)).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes.split_off(header)
}
