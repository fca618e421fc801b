//! Pictures in pieces of the size that a network takes.

use super::MetricError;
use crate::codec::{Facts, Media};

/// Pieces of a picture at most: some dozens say of a photo what all would.
const MOST: usize = 64;

/// A piece of a picture.
pub(super) struct Piece {
    samples: Vec<u8>,
    facts: Facts,
}

impl Piece {
    pub(super) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts }
    }
}

/// Pieces side by side around the middle of a picture, all of them or 64 that are spread over it. They are the same
/// for pictures of one size.
pub(super) fn pieces(
    media: &Media<'_>,
    width: usize,
    height: usize,
) -> Result<Vec<Piece>, MetricError> {
    let metric = "the feature distance";
    let Facts::Image { width: all_width, height: all_height, channels } = media.facts else {
        return Err(MetricError::Modality { metric, what: "pictures, as its networks do" });
    };
    let (all_width, all_height) = (all_width as usize, all_height as usize);
    let (columns, rows) = (all_width / width.max(1), all_height / height.max(1));
    let count = columns * rows;
    if count == 0 {
        return Err(MetricError::TooSmall { metric, least: "as many pixels as its networks take" });
    }
    let (left, top) = ((all_width - columns * width) / 2, (all_height - rows * height) / 2);
    let pixel = usize::from(channels);
    let facts = Facts::Image { width: width as u32, height: height as u32, channels };
    let piece = |at: usize| {
        let (x, y) = (left + at % columns * width, top + at / columns * height);
        let lines = media.samples.chunks_exact((all_width * pixel).max(1)).skip(y).take(height);
        let samples = lines.flat_map(|line| line.iter().skip(x * pixel).take(width * pixel));
        Piece { samples: samples.copied().collect(), facts }
    };
    let step = step(count);
    Ok((0..count.min(MOST)).map(|at| piece(at * step % count)).collect())
}

/// A step that comes to every number below `count`, and near none that it came to lately: about the golden section.
fn step(count: usize) -> usize {
    let golden = (count as f64 * 0.618_034) as usize;
    let divides = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (golden.max(1)..=count).find(|step| divides(count, *step) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_picture_of_the_size_is_one_piece_and_a_larger_one_is_cut_from_the_middle() {
        let samples: Vec<u8> = (0..7 * 5 * 3).collect();
        let facts = Facts::Image { width: 7, height: 5, channels: 3 };
        let media = Media { samples: &samples, facts };
        let [whole] = &pieces(&media, 7, 5).unwrap()[..] else { panic!("one piece") };
        assert_eq!((whole.samples.as_slice(), whole.facts), (samples.as_slice(), facts));
        let [left, right] = &pieces(&media, 3, 4).unwrap()[..] else { panic!("two pieces") };
        assert_eq!(left.samples[..9], samples[..9]);
        assert_eq!(right.samples[..9], samples[9..18]);
        assert_eq!(left.samples[9..18], samples[21..30]);
        assert!(matches!(pieces(&media, 8, 1), Err(MetricError::TooSmall { .. })));
    }

    #[test]
    fn a_large_picture_is_looked_at_everywhere() {
        for count in 1..2_000 {
            let step = step(count);
            let places: BTreeSet<usize> = (0..count).map(|at| at * step % count).collect();
            assert_eq!(places.len(), count, "{count}");
        }
        let (columns, count) = (48, 48 * 32);
        let step = step(count);
        let places = || (0..MOST).map(|at| at * step % count);
        assert!(places().map(|at| at % columns / 12).collect::<BTreeSet<_>>().len() == 4);
        assert!(places().map(|at| at / columns / 8).collect::<BTreeSet<_>>().len() == 4);
    }
}
