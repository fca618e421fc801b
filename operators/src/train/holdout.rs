//! Examples that are never trained on.

use std::collections::BTreeSet;

use anabranch_models::train::Batch;
use anabranch_pipelines::record::RecordId;

use super::options::TrainOptions;
use super::sample::{self, Sample};
use super::state::{Damaged, Reader, Writer};
use super::window::Cutter;

/// Examples that are measured at a time: parts of which a measure's spread is told.
const PART: usize = 16;

/// What is held out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Holdout {
    /// The records that they are of: each counts once, however often it is read.
    records: BTreeSet<[u8; 16]>,
    text: Cutter,
    examples: Vec<Sample>,
}

impl Holdout {
    /// Whether a record is held out, which follows from its id alone.
    pub(super) fn takes(id: RecordId, share: f64) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id.0;
        let place = u64::from_le_bytes([a, b, c, d, e, f, g, h]) as f64 / (1_u128 << 64) as f64;
        place < share
    }

    /// Whether another record is of use.
    pub(super) fn wants(&self, id: RecordId, most: usize) -> bool {
        self.examples.len() < most && !self.records.contains(&id.0)
    }

    pub(super) fn add_text(&mut self, id: RecordId, tokens: Vec<u32>, context: usize, most: usize) {
        self.records.insert(id.0);
        self.examples.extend(self.text.cut(tokens, context, ""));
        self.examples.truncate(most);
    }

    pub(super) fn add(&mut self, id: RecordId, sample: Sample) {
        self.records.insert(id.0);
        self.examples.push(sample);
    }

    pub(super) fn bytes(&self) -> usize {
        let examples: usize = self.examples.iter().map(Sample::bytes).sum();
        examples + 32 * self.records.len() + self.text.bytes()
    }

    /// All examples in parts, each of examples with the same modalities.
    pub(super) fn batches(&self, options: &TrainOptions) -> Vec<Batch> {
        let mut sorted: Vec<&Sample> = self.examples.iter().collect();
        sorted.sort_by_key(|sample| sample.modalities());
        let alike = sorted.chunk_by(|a, b| a.modalities() == b.modalities());
        alike.flat_map(|some| some.chunks(PART)).map(|some| sample::batch(options, some)).collect()
    }

    pub(super) fn write(&self, to: &mut Writer) {
        to.number(self.records.len() as u64);
        self.records.iter().for_each(|id| to.bytes(id));
        self.text.write(to);
        to.list(&self.examples, Sample::write);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Damaged> {
        let id = |from: &mut Reader<'_>| {
            from.bytes()?.try_into().map_err(|_| Damaged("an id is not of 16 bytes"))
        };
        Ok(Self {
            records: from.list(id)?.into_iter().collect(),
            text: Cutter::read(from)?,
            examples: from.list(Sample::read)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_records_is_held_out() {
        let ids = (0..10_000).map(|number| RecordId::new("s", &number.to_string()));
        let held = ids.filter(|id| Holdout::takes(*id, 0.1)).count();
        assert!((900..1100).contains(&held), "{held}");
        let all = RecordId([u8::MAX; 16]);
        assert!(!Holdout::takes(all, 0.9) && !Holdout::takes(RecordId([0; 16]), 0.0));
    }
}
