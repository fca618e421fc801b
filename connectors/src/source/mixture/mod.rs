//! Several sources as one, interleaved by weight: what a job file calls `kind = "mixture"`.
//!
//! There is one split, and its offsets are positions in the mixed sequence. Which part gives the record at a
//! position follows from the seed, the position and the weights of the parts that are not dry: a keyed hash,
//! so the sequence is the same on every machine and in every run, and so is whatever follows a position that a
//! run is resumed at. Records of a part keep their order. Their keys begin with the part's name: `a/KEY`, and
//! `a~2/KEY` when the part is read for the second time.
//!
//! ```
//! use anabranch_connectors::source::{Mixture, MixturePart, SampleOptions, WhenDry};
//!
//! let part = |name: &str, weight, seed| -> Result<_, Box<dyn std::error::Error>> {
//!     let source = SampleOptions { records: 10, seed }.build()?;
//!     Ok(MixturePart { name: name.to_owned(), weight, source })
//! };
//! let source = Mixture::build(vec![part("a", 3.0, 1)?, part("b", 1.0, 2)?], 7, WhenDry::GoOn)?;
//! assert_eq!(source.kind(), "mixture");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::record::{ID, KEY};
use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange,
};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::inner::{Place, Record, in_order};

#[cfg(test)]
mod tests;
mod walk;

use walk::{Entry, Walk, Walked};

/// Records of all parts that one batch is gathered from, at most.
const GATHERED: usize = 4096;

/// What happens when a part of a mixture has no more records.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WhenDry {
    /// The others go on, with their weights among themselves, until all are dry: every record is read once.
    #[default]
    GoOn,
    /// The mixture ends.
    Stop,
    /// The part begins again. The mixture ends when every part has been read whole at least once.
    Repeat,
}

/// A part of a mixture.
#[derive(Clone)]
pub struct MixturePart {
    /// What keys of its records begin with.
    pub name: String,
    /// Its share of the records, beside those of the others.
    pub weight: f64,
    /// Where its records come from.
    pub source: Arc<dyn Source>,
}

/// Builds mixtures.
pub struct Mixture {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Vec<MixturePart>,
    /// Weights as whole numbers, so that every machine compares the same.
    weights: Vec<u64>,
    seed: u64,
    when_dry: WhenDry,
    schema: OnceCell<SchemaRef>,
    listed: OnceCell<Vec<Vec<Arc<Split>>>>,
    walked: Walked,
}

impl Mixture {
    /// A source that reads these parts.
    ///
    /// # Errors
    /// When there is no part, a name cannot be part of a key, or a weight is no share.
    pub fn build(
        parts: Vec<MixturePart>,
        seed: u64,
        when_dry: WhenDry,
    ) -> Result<Arc<dyn Source>, SourceError> {
        let heaviest = parts.iter().map(|part| part.weight).fold(0.0, f64::max);
        if parts.is_empty() {
            let message = "a mixture has parts, such as `[source.NAME.parts.A]`".to_owned();
            return Err(SourceError::Options(message));
        }
        for (at, part) in parts.iter().enumerate() {
            let name = &part.name;
            if name.contains(['/', '~']) || parts.iter().skip(at + 1).any(|p| p.name == *name) {
                return Err(SourceError::Options(format!(
                    "`parts.{name}`: keys begin with the names of parts, which are all different and hold neither \
                     `/` nor `~`"
                )));
            }
        }
        let weight = |part: &MixturePart| {
            let share = part.weight / heaviest;
            // A millionth of the heaviest part is as little as is worth having.
            match share.is_finite() && share >= 1e-6 {
                true => Ok((share * (1_u64 << 40) as f64).round() as u64),
                false => Err(SourceError::Options(format!(
                    "`parts.{}`: the weight {} is no share of the records; it is a number above 0, and no \
                     less than a millionth of the largest",
                    part.name, part.weight
                ))),
            }
        };
        let weights = parts.iter().map(weight).collect::<Result<_, _>>()?;
        let (schema, listed, walked) = (OnceCell::new(), OnceCell::new(), Walked::default());
        let inner = Inner { parts, weights, seed, when_dry, schema, listed, walked };
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }
}

#[async_trait]
impl Source for Mixture {
    fn kind(&self) -> &'static str {
        "mixture"
    }

    fn options(&self) -> serde_json::Value {
        let parts = self.inner.parts.iter().zip(&self.inner.weights).map(|(part, weight)| {
            serde_json::json!({
                "name": part.name, "weight": weight, "kind": part.source.kind(),
                "options": part.source.options(),
            })
        });
        let parts: Vec<_> = parts.collect();
        let Inner { seed, when_dry, .. } = self.inner.as_ref();
        serde_json::json!({ "parts": parts, "seed": seed, "when_dry": when_dry })
    }

    fn abilities(&self) -> Abilities {
        let references = self.inner.parts.iter().any(|part| part.source.abilities().references);
        Abilities { references, ..Abilities::default() }
    }

    fn whole(&self) -> bool {
        self.inner.parts.iter().all(|part| part.source.whole())
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        self.inner.schema().await
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let mut bytes = 0_u64;
        let mut hash = Sha256::new();
        for part in &self.inner.parts {
            for split in part.source.splits().await? {
                bytes = bytes.saturating_add(split.bytes);
                for text in [&part.name, &split.name, &split.version] {
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        let version = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(vec![Split { name: "mixture".to_owned(), bytes, version }])
    }

    fn measure(&self, _: Arc<Split>, from: u64) -> Marks {
        let walk = Walk::to(Arc::clone(&self.inner), from);
        let marks = stream::try_unfold(walk, |mut walk| async move {
            let at = walk.position();
            let Some(entry) = walk.next().await? else { return Ok(None) };
            let Mark { records, bytes, .. } = entry.place.mark;
            Ok(Some((Mark { range: at..at + 1, records, bytes }, walk)))
        });
        marks.boxed()
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        let inner = Arc::clone(&self.inner);
        let batches = stream::iter(joined(ranges.into_iter())).flat_map(move |range| {
            let walk = Walk::to(Arc::clone(&inner), range.range.start);
            Arc::clone(&inner).read(walk, range, size)
        });
        batches.boxed()
    }
}

impl Inner {
    /// The columns, which all parts must have.
    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        let schema = self.schema.get_or_try_init(|| async {
            let mut first: Option<(&str, SchemaRef)> = None;
            for part in &self.parts {
                let schema = part.source.schema().await?;
                match &first {
                    None => first = Some((&part.name, schema)),
                    Some((name, expected)) => {
                        if let Some(what) = difference(expected, &schema) {
                            return Err(SourceError::Options(format!(
                                "the parts of a mixture have the same columns, and `{}` {what}, unlike \
                                 `{name}`",
                                part.name
                            )));
                        }
                    }
                }
            }
            Ok(first.map_or_else(|| Arc::new(Schema::empty()), |(_, schema)| schema))
        });
        schema.await.cloned()
    }

    /// The splits of each part, as they were first listed.
    async fn listed(&self) -> Result<&[Vec<Arc<Split>>], SourceError> {
        let listed = self.listed.get_or_try_init(|| async {
            let mut all = Vec::with_capacity(self.parts.len());
            for part in &self.parts {
                let splits = part.source.splits().await?;
                all.push(splits.into_iter().map(Arc::new).collect());
            }
            Ok(all)
        });
        listed.await.map(Vec::as_slice)
    }

    /// The records of a range, in batches.
    fn read(self: Arc<Self>, walk: Walk, range: SplitRange, size: BatchSize) -> SourceBatches {
        let state = (self, walk, range, None);
        let batches =
            stream::try_unfold(state, move |(inner, mut walk, range, mut ahead)| async move {
                let mut entries: Vec<Entry> = Vec::new();
                let most = size.records.min(GATHERED);
                let (mut records, mut bytes) = (0_u64, 0_u64);
                let start = walk.position() - u64::from(ahead.is_some());
                loop {
                    let next = match ahead.take() {
                        Some(entry) => Some(entry),
                        None if walk.position() < range.range.end => walk.next().await?,
                        None => None,
                    };
                    let Some(entry) = next else { break };
                    let more: &Mark = &entry.place.mark;
                    records += more.records;
                    bytes = bytes.saturating_add(more.bytes);
                    let full = records > most as u64 || bytes > size.bytes as u64;
                    if full && !entries.is_empty() {
                        ahead = Some(entry);
                        break;
                    }
                    entries.push(entry);
                }
                if entries.is_empty() {
                    return Ok(None);
                }
                let batch = inner.batch(&range.split, start, entries).await?;
                Ok(Some((batch, (inner, walk, range, ahead))))
            });
        batches.boxed()
    }

    /// These entries, which follow one another from `start` on, as one batch.
    async fn batch(
        &self,
        split: &Split,
        start: u64,
        entries: Vec<Entry>,
    ) -> Result<SourceBatch, SourceError> {
        let schema = self.schema().await?;
        let (mut batches, mut rows, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (number, part) in self.parts.iter().enumerate() {
            let of_part = entries.iter().enumerate().filter(|(_, entry)| entry.part == number);
            let (positions, places): (Vec<usize>, Vec<Place>) =
                of_part.map(|(at, entry)| (at, entry.place.clone())).unzip();
            if places.is_empty() {
                continue;
            }
            let ranges = places.iter().map(|place| SplitRange {
                split: Arc::clone(&place.split),
                range: place.mark.range.clone(),
            });
            let whole = BatchSize { records: GATHERED, bytes: usize::MAX };
            let read = part.source.open(joined(ranges), whole);
            let mut read: Vec<SourceBatch> = read.try_collect().await?;
            let before = batches.len();
            for (place, record) in in_order(&part.source, &places, &mut read)? {
                let Some(at) = positions.get(place).copied() else { continue };
                let entry = entries.get(at);
                match record {
                    Record::Row(batch, row) => rows.push((at, entry, before + batch, row)),
                    Record::Refused(mut refusal) => {
                        refusal.error =
                            format!("{} ({} of `{}`)", refusal.error, refusal.split, part.name);
                        let pass = entry.map_or(0, |entry| entry.pass);
                        refusal.key = key(&part.name, &refusal.key, pass);
                        refusal.split.clone_from(&split.name);
                        refusal.range = start + at as u64..start + at as u64 + 1;
                        refused.push(refusal);
                    }
                }
            }
            batches.extend(read.into_iter().map(|batch| batch.records));
        }
        rows.sort_by_key(|(at, ..)| *at);
        refused.sort_by_key(|refusal| refusal.range.start);
        let passes: Vec<(usize, u32)> =
            rows.iter().filter_map(|(_, entry, ..)| entry.map(|e| (e.part, e.pass))).collect();
        let indices: Vec<(usize, usize)> = rows.iter().map(|(_, _, b, row)| (*b, *row)).collect();
        let error = |e: arrow::error::ArrowError| SourceError::Options(e.to_string());
        let records = match indices.is_empty() {
            true => RecordBatch::new_empty(Arc::clone(&schema)),
            false => {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                interleave_record_batch(&batches, &indices).map_err(error)?
            }
        };
        Ok(SourceBatch { records: self.named(&schema, &records, &passes).map_err(error)?, refused })
    }

    /// Rows whose keys begin with their part's name.
    fn named(
        &self,
        schema: &SchemaRef,
        records: &RecordBatch,
        passes: &[(usize, u32)],
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let columns = records.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| match column.as_string_opt::<i32>() {
            Some(keys) if field.name() == KEY => {
                let name = |(part, pass): &(usize, u32), at: usize| {
                    let part = self.parts.get(*part).map_or("", |part| part.name.as_str());
                    keys.is_valid(at).then(|| key(part, keys.value(at), *pass))
                };
                let keys = passes.iter().enumerate().map(|(at, of)| name(of, at));
                Arc::new(keys.collect::<StringArray>()) as ArrayRef
            }
            _ => Arc::clone(column),
        });
        RecordBatch::try_new(Arc::clone(schema), columns.collect())
    }
}

/// Names of parts hold neither `~` nor `/`, so what stands before the first of these, and between them, is told apart
/// from every key.
fn key(part: &str, key: &str, pass: u32) -> String {
    match pass {
        0 => format!("{part}/{key}"),
        again => format!("{part}~{}/{key}", again + 1),
    }
}

/// Ranges of which those that follow one another are one.
fn joined(ranges: impl Iterator<Item = SplitRange>) -> Vec<SplitRange> {
    let mut all: Vec<SplitRange> = Vec::new();
    for next in ranges {
        match all.last_mut() {
            Some(last) if last.split == next.split && last.range.end == next.range.start => {
                last.range.end = next.range.end;
            }
            _ => all.push(next),
        }
    }
    all
}

/// How the columns of `other` differ, if they do.
fn difference(expected: &Schema, other: &Schema) -> Option<String> {
    for field in expected.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return Some(format!("has no column `{}`", field.name())),
            Ok(there) if there.data_type() != field.data_type() => {
                let (there, here) = (there.data_type(), field.data_type());
                return Some(format!("has a column `{}` of {there} and not {here}", field.name()));
            }
            Ok(there) if there.metadata() != field.metadata() => {
                return Some(format!("has another kind of `{}`", field.name()));
            }
            Ok(_) => {}
        }
    }
    let more = other.fields().iter().find(|f| expected.field_with_name(f.name()).is_err());
    if let Some(more) = more {
        return Some(format!("has a column `{}`", more.name()));
    }
    let names = |schema: &Schema| {
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| name != ID).collect::<Vec<_>>()
    };
    (names(expected) != names(other)).then(|| "has them in another order".to_owned())
}
