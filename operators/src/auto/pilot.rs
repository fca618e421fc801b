//! Puts settings in order, by what they store and how far they are off on some records.

use crate::codec::{Facts, Media, Setting};
use crate::round_trip::RoundTrip;

/// A setting, and what it does to the records of the pilot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) setting: Setting,
    /// Bytes of all records.
    pub(super) bytes: u64,
    /// The sum of squared errors of samples of all records; 0 when it loses nothing.
    error: f64,
}

/// The settings that are worth trying.
#[derive(Debug)]
pub(super) struct Order {
    /// The smallest that loses nothing.
    pub(super) lossless: Measured,
    /// Those that lose something and are smaller, from the best to the cheapest. Each is farther off than the one
    /// before it, and smaller.
    pub(super) lossy: Vec<Measured>,
}

/// Measures settings on these records. One that cannot hold a record is left out; so is one that is no smaller than
/// another which is nearer to the originals. `None` when nothing that is lossless can hold them all.
///
/// What is left out can only cost bytes: what is accepted is decided by a task, on other records.
pub(super) fn order(settings: &[Setting], records: &[Media<'_>]) -> Option<Order> {
    let mut room = RoundTrip::default();
    let measured = settings.iter().filter_map(|setting| measure(*setting, records, &mut room));
    let (lossless, mut lossy): (Vec<_>, Vec<_>) =
        measured.partition(|measured| measured.setting.lossless());
    let lossless = lossless.into_iter().min_by_key(|measured| measured.bytes)?;
    lossy.retain(|measured| measured.bytes < lossless.bytes);
    lossy.sort_by(|one, other| one.bytes.cmp(&other.bytes).then(one.error.total_cmp(&other.error)));
    let mut least = f64::INFINITY;
    lossy.retain(|measured| {
        let nearer = measured.error < least;
        least = least.min(measured.error);
        nearer
    });
    lossy.reverse();
    Some(Order { lossless, lossy })
}

fn measure(setting: Setting, records: &[Media<'_>], room: &mut RoundTrip) -> Option<Measured> {
    let mut measured = Measured { setting, bytes: 0, error: 0.0 };
    for record in records {
        let facts = room.go(setting, record).ok()?;
        measured.bytes += room.bytes.len() as u64;
        if !setting.lossless() {
            measured.error += error(record, &room.media(facts))?;
        }
    }
    Some(measured)
}

/// The sum of squared errors; `None` of media that are not of one size.
fn error(original: &Media<'_>, decoded: &Media<'_>) -> Option<f64> {
    match (original.facts, decoded.facts) {
        (Facts::Image { .. }, _) if original.facts == decoded.facts => {
            let pairs = original.samples.iter().zip(decoded.samples);
            Some(pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>() as f64)
        }
        (
            Facts::Audio { format, rate, channels, frames },
            Facts::Audio { format: other, rate: r, channels: c, frames: f },
        ) if (rate, channels, frames) == (r, c, f) => {
            let pairs =
                format.floats(original.samples).into_iter().zip(other.floats(decoded.samples));
            Some(pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auto::ladder;
    use crate::conformance::codec::Example;
    use anabranch_pipelines::record::Modality;

    #[test]
    fn settings_go_from_near_and_large_to_far_and_small() {
        let examples = [(40, 30, 3), (32, 32, 1)].map(|(w, h, c)| Example::picture(w, h, c));
        let records: Vec<Media<'_>> =
            examples.iter().map(|e| Media { samples: &e.samples, facts: e.facts }).collect();
        let all = ladder::settings(Modality::Image, None, None).unwrap();
        let order = order(&all, &records).unwrap();
        assert!(order.lossless.setting.lossless() && order.lossless.error == 0.0);
        assert!(order.lossy.len() >= 3, "{:?}", order.lossy);
        let pairs = order.lossy.windows(2).map(|pair| (pair[0], pair[1]));
        for (better, cheaper) in pairs {
            assert!(better.bytes > cheaper.bytes && better.error < cheaper.error);
        }
    }

    #[test]
    fn what_cannot_hold_the_records_is_left_out() {
        let mut sound = Example::sound(crate::codec::Pcm::S16, 1, 2000);
        sound.facts = Facts::Audio {
            format: crate::codec::Pcm::S16,
            rate: 44_100,
            channels: 1,
            frames: 2000,
        };
        let records = [Media { samples: &sound.samples, facts: sound.facts }];
        let all = ladder::settings(Modality::Audio, None, None).unwrap();
        let order = order(&all, &records).unwrap();
        assert_eq!(order.lossy.len(), 0);
    }
}
