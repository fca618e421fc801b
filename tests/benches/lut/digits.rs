//! A network of 1-bit tables that reads digits: 28 by 28 pixels, three thresholds each, 2,000 tables of six inputs,
//! then 1,000, a tenth of which vote for each digit (DWN's small network for MNIST).

use std::hint::black_box;

use anabranch_models::engine::{Level, Network, NetworkLayer};

use crate::{least, noise, rounds};

/// Pictures of a batch.
const PICTURES: usize = 512;
const PIXELS: usize = 28 * 28;

/// Pictures that a network of random content reads in a second.
pub(crate) fn images_per_second() -> f64 {
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
    let network = Network::new(PIXELS, 6, &thresholds, layers, 10).unwrap();
    let pictures =
        noise(PICTURES * PIXELS).into_iter().map(|x| x.to_bits() as u8).collect::<Vec<_>>();
    let mut seconds = f64::INFINITY;
    for _ in 0..rounds() {
        let read = || drop(black_box(network.votes(Level::detect(), &pictures)));
        seconds = seconds.min(least(read));
    }
    PICTURES as f64 / seconds
}
