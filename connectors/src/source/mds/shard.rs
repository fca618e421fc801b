//! Samples of one shard: a table of offsets, and the samples behind it.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use anabranch_pipelines::quantity::ByteSize;

use super::Plan;
use crate::source::object::{Failure, Object};
use crate::source::scan::{Bad, Found, Scanner};

/// A sample: its number, its bytes, and where in them the value of each column is.
pub(super) struct Sample {
    pub(super) number: u64,
    bytes: Vec<u8>,
    values: Vec<Range<usize>>,
}

impl Sample {
    /// The value of a column.
    pub(super) fn value(&self, column: usize) -> &[u8] {
        self.values.get(column).and_then(|at| self.bytes.get(at.clone())).unwrap_or_default()
    }

    /// Finds the values, and what is wrong with them: sizes that are not fixed stand in front.
    fn parse(number: u64, bytes: Vec<u8>, plan: &Plan) -> Result<Self, String> {
        let short = || format!("its {} bytes end before its values do", bytes.len());
        let varying = plan.columns.iter().filter(|column| column.size.is_none()).count();
        let (head, _) = bytes.split_at_checked(4 * varying).ok_or_else(short)?;
        let mut sizes = head.chunks_exact(4).map(number_of);
        let mut at = 4 * varying;
        let mut values = Vec::with_capacity(plan.columns.len());
        for column in &plan.columns {
            let size = column.size.or_else(|| sizes.next()).unwrap_or_default();
            let size = usize::try_from(size).map_err(|_| short())?;
            let end = at.checked_add(size).ok_or_else(short)?;
            let value = bytes.get(at..end).ok_or_else(short)?;
            if let Some(fault) = column.encoding.fault(value) {
                return Err(format!("`{}`: {fault}", column.name));
            }
            values.push(at..end);
            at = end;
        }
        if at != bytes.len() {
            return Err(format!("its {} bytes go on behind its values", bytes.len()));
        }
        Ok(Self { number, bytes, values })
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The samples of one shard.
pub(super) struct Shard {
    object: Object,
    plan: Arc<Plan>,
    name: String,
    offsets: Vec<u32>,
    next: u64,
    max_sample: u64,
    /// Why nothing more can be unpacked, if so: what a decoder gives behind an error means nothing.
    broken: Option<String>,
}

impl Shard {
    /// Reads the table of offsets and compares it with what the index says.
    pub(super) fn open(
        mut object: Object,
        plan: &Arc<Plan>,
        max_sample: u64,
    ) -> Result<Self, Failure> {
        let Some(entry) = plan.shards.get(&object.split().name) else {
            return Err(Failure::Damaged("its index does not name it".to_owned()));
        };
        let lies = |what: String| Failure::Damaged(format!("its index is wrong: {what}"));
        if let Some(size) = object.size().filter(|size| *size > entry.bytes) {
            return Err(lies(format!(
                "the shard has {size} bytes, and should have {}",
                entry.bytes
            )));
        }
        let samples = table(&mut object, 1)?.first().copied().unwrap_or_default();
        if samples != entry.samples {
            return Err(lies(format!(
                "the shard has {samples} samples, and should have {}",
                entry.samples
            )));
        }
        if 4 * (u64::from(samples) + 2) > entry.bytes {
            return Err(lies(format!("{} bytes hold no {samples} samples", entry.bytes)));
        }
        let offsets = table(&mut object, samples as usize + 1)?;
        let end = offsets.last().copied().unwrap_or_default();
        if u64::from(end) != entry.bytes {
            return Err(lies(format!(
                "the shard's samples end at byte {end}, and should end at {}",
                entry.bytes
            )));
        }
        let (plan, name) = (Arc::clone(plan), entry.name.clone());
        Ok(Self { object, plan, name, offsets, next: 0, max_sample, broken: None })
    }

    fn sample(&mut self, number: u64, range: Range<u64>) -> Result<Sample, Failure> {
        let header = 4 * (self.offsets.len() as u64 + 1);
        if range.start < header || range.end < range.start {
            let message =
                format!("its shard says that it stands at {}..{}", range.start, range.end);
            return Err(Failure::Damaged(message));
        }
        let size = range.end - range.start;
        if size > self.max_sample {
            let (size, most) = (ByteSize(size), ByteSize(self.max_sample));
            return Err(Failure::Damaged(format!("it has {size}, and `max_sample` is {most}")));
        }
        if let Some(broken) = &self.broken {
            return Err(Failure::Damaged(broken.clone()));
        }
        let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
        let sought = self.object.seek(range.start);
        let read = sought.and_then(|()| self.object.by_ref().take(size).read_to_end(&mut bytes));
        if let Err(error) = read {
            let failure = self.object.failure(error);
            if let (None, Failure::Damaged(error)) = (self.object.size(), &failure) {
                self.broken = Some(error.clone());
            }
            return Err(failure);
        }
        if (bytes.len() as u64) < size {
            return Err(Failure::Damaged("the shard ends before the sample does".to_owned()));
        }
        Sample::parse(number, bytes, &self.plan).map_err(Failure::Damaged)
    }
}

/// The next numbers of the table.
fn table(object: &mut Object, count: usize) -> Result<Vec<u32>, Failure> {
    let mut bytes = Vec::new();
    let wanted = 4 * count as u64;
    let read = object.by_ref().take(wanted).read_to_end(&mut bytes);
    read.map_err(|e| object.failure(e))?;
    if (bytes.len() as u64) < wanted {
        return Err(Failure::Damaged("the shard ends inside its table of samples".to_owned()));
    }
    Ok(bytes.chunks_exact(4).map(|number| number_of(number) as u32).collect())
}

impl Scanner for Shard {
    type Row = Sample;

    fn seek(&mut self, offset: u64) -> Result<(), Failure> {
        self.next = offset;
        Ok(())
    }

    fn next(&mut self, measured: bool) -> Result<Option<Found<Sample>>, Failure> {
        let number = self.next;
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let offset = |at: usize| self.offsets.get(at).copied().map(u64::from);
        let (Some(start), Some(end)) = (offset(at), offset(at.saturating_add(1))) else {
            return Ok(None);
        };
        self.next += 1;
        let range = number..number + 1;
        // A sample that is refused takes nothing.
        let bytes = Some(end.saturating_sub(start)).filter(|size| *size <= self.max_sample);
        let bytes = bytes.unwrap_or_default();
        let row = if measured {
            None
        } else {
            match self.sample(number, start..end) {
                Ok(sample) => Some(Ok(sample)),
                Err(Failure::Damaged(error)) => {
                    let key = super::key(&self.name, number);
                    Some(Err(Bad { key, error, bytes: None }))
                }
                Err(store) => return Err(store),
            }
        };
        Ok(Some(Found { range, bytes, row }))
    }

    fn position(&self) -> u64 {
        self.next
    }
}
