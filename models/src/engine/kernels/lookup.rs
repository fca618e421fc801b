//! 1-bit tables for one token: look-ups by address, and which of them are set. Equal bits at every level.

#[cfg(target_arch = "x86_64")]
use super::Set;
use super::bitslice::Layer;
use super::lanes::Lanes;
use super::{Level, for_each_level};

for_each_level! {
    /// The output, 0 or 1, of each node of a layer at its row `(node << shift) + address`, whose upper bits are a
    /// word of the tables and whose lowest six a bit of it.
    fn look_up(layer: &Layer, rows: &[u32], to: &mut [u8]) = look_up_each
}

#[inline(always)]
fn look_up_each<L: Lanes>(layer: &Layer, rows: &[u32], to: &mut [u8]) {
    if layer.words == 1 {
        // A word for each node: nothing is gathered.
        for ((row, word), to) in rows.iter().zip(&layer.tables).zip(to) {
            *to = (word >> (row & 63) & 1) as u8;
        }
        return;
    }
    for (row, to) in rows.iter().zip(to) {
        *to =
            layer.tables.get((row >> 6) as usize).map_or(0, |word| (word >> (row & 63) & 1) as u8);
    }
}

/// The numbers of the bytes that are not 0, in order.
pub(crate) fn set(level: Level, bytes: &[u8], to: &mut Vec<u32>) {
    // A vector more: sixteen numbers are written at once, of which the first ones count.
    to.resize(bytes.len() + 16, 0);
    let count = match level.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level exists only where the processor has its instructions; there is room for all and sixteen.
        Set::Avx512 => unsafe { x86::set(bytes, to) },
        _ => {
            let mut count = 0;
            for (number, byte) in (0..).zip(bytes) {
                if let Some(to) = to.get_mut(count) {
                    *to = number;
                }
                count += usize::from(*byte != 0);
            }
            count
        }
    };
    to.truncate(count);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Returns how many.
    ///
    /// # Safety
    ///
    /// The processor has the instructions, and `to` is sixteen longer than `bytes`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn set(bytes: &[u8], to: &mut [u32]) -> usize {
        let mut count = 0;
        let mut numbers = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let (chunks, rest) = bytes.as_chunks::<16>();
        let mut last = [0; 16];
        last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
        for chunk in chunks.iter().chain(std::iter::once(&last)) {
            // SAFETY: sixteen bytes are read; at most as many numbers as bytes stand before, so there is room.
            unsafe {
                let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
                let mask = _mm_test_epi8_mask(chunk, chunk);
                let picked = _mm512_maskz_compress_epi32(mask, numbers);
                _mm512_storeu_si512(to.as_mut_ptr().add(count).cast(), picked);
                count += mask.count_ones() as usize;
            }
            numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::each_level;
    use super::*;

    proptest! {
        #[test]
        fn set_bytes_are_numbered(bytes in prop::collection::vec(0_u8..3, 0..100)) {
            let expected = (0..).zip(&bytes).filter(|(_, byte)| **byte != 0).map(|(number, _)| number);
            let expected = expected.collect::<Vec<u32>>();
            each_level(|level| {
                let mut found = vec![9; 3];
                set(level, &bytes, &mut found);
                assert_eq!(found, expected, "{level}");
            });
        }

        #[test]
        fn outputs_are_bits_of_tables(
            inputs in 2_usize..9,
            tables in prop::collection::vec(any::<u64>(), 4..200),
            addresses in prop::collection::vec(any::<u8>(), 200),
        ) {
            let words = (1_usize << inputs).div_ceil(64);
            let layer = Layer { inputs, wires: Vec::new(), tables, words };
            let shift = inputs.max(6);
            let nodes = layer.tables.len() / words;
            let address = |node: usize| usize::from(addresses[node]) % (1 << inputs);
            let rows = (0..nodes).map(|node| ((node << shift) + address(node)) as u32);
            let rows = rows.collect::<Vec<_>>();
            each_level(|level| {
                let mut found = vec![9; nodes];
                look_up(level, &layer, &rows, &mut found);
                for (node, found) in found.iter().enumerate() {
                    let table = &layer.tables[node * words..][..words];
                    let expected = table[address(node) / 64] >> (address(node) % 64) & 1;
                    assert_eq!(u64::from(*found), expected, "{level}");
                }
            });
        }
    }
}
