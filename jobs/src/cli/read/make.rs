//! Makes batches: gathers their rows, decodes them, and puts other records where one cannot be used.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anabranch_connectors::table::read::{Damage, Left, Pick, RowAt, Window};
use anabranch_operators::Arrays;
use anabranch_pipelines::operator::{Context, Outcome, Refused};
use anabranch_pipelines::panics;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::batches::{Batches, Task};

/// The column of each record's place in the order.
const POSITION: &str = "position";
/// The column of where to go on.
const RESUME: &str = "resume";
/// Stand-ins that are tried for one record that does not decode.
const ATTEMPTS: u64 = 64;
/// Batches that each thread has to do. They hold windows, whose bytes are bounded however many batches there are.
const WAITING: usize = 2;
/// Batches that each thread has done and nobody took, beside the one that it is making.
const DONE: usize = 1;

/// A batch, and what there is to report of it.
pub(super) struct Made {
    pub(super) batch: RecordBatch,
    /// Values that stand elsewhere than in the batch.
    pub(super) left: Vec<Left>,
    pub(super) resume: u64,
    pub(super) damage: Vec<Damage>,
    pub(super) replaced: Vec<Replaced>,
}

/// A record in another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) position: u64,
    pub(super) record: RowAt,
    pub(super) by: RowAt,
    /// Why it does not decode, unless its shard is damaged.
    pub(super) error: Option<String>,
    /// Records that were to stand in and do not decode either, and why.
    pub(super) rejected: Vec<(RowAt, String)>,
}

/// What is wrong with a record of a batch, and with those that were to stand in for it.
#[derive(Debug, Clone, Default)]
struct Wrong {
    error: Option<String>,
    rejected: Vec<(RowAt, String)>,
}

impl Wrong {
    /// Takes in that what is picked does not decode, and says which record needs another.
    fn add(&mut self, instead_of: Option<&RowAt>, at: RowAt, error: String) -> RowAt {
        match instead_of {
            None => {
                self.error = Some(error);
                at
            }
            Some(lost) => {
                self.rejected.push((at, error));
                lost.clone()
            }
        }
    }
}

/// Makes batches of one schema.
pub(super) struct Maker {
    arrays: Option<Arrays>,
    context: Context,
    schema: SchemaRef,
    /// Memory of no content for large values, which then stay where they were read.
    places: Option<Buffer>,
}

impl Maker {
    pub(super) fn new(
        schema: &SchemaRef,
        arrays: Option<Arrays>,
        context: Context,
    ) -> Result<Self, String> {
        let given = arrays.as_ref().map_or(schema, Arrays::schema);
        if let Some(taken) =
            [POSITION, RESUME].into_iter().find(|name| given.index_of(name).is_ok())
        {
            return Err(format!(
                "it has a column `{taken}`, which is how a reader calls the place in the order; name the \
                 others with `--columns`"
            ));
        }
        let mut fields: Vec<FieldRef> = given.fields().iter().map(Arc::clone).collect();
        let number = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        fields.extend([number(POSITION), number(RESUME)]);
        Ok(Self { arrays, context, schema: Arc::new(Schema::new(fields)), places: None })
    }

    /// Has large values stay where they were read, and parts of `places` stand for them in batches.
    pub(super) fn leaving_values(mut self, places: Option<Buffer>) -> Self {
        self.places = places;
        self
    }

    /// The schema of batches.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn make(&self, task: Task) -> Result<Made, String> {
        let (mut parts, mut replaced, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        // What decodes looks at values, and so does what puts parts of several windows together.
        let places = self.places.as_ref();
        let places = places.filter(|_| self.arrays.is_none() && task.rows.len() == 1);
        let mut left = Vec::new();
        for (window, range) in &task.rows {
            let mut picks: Vec<Pick> = range.clone().map(|at| window.pick(at)).collect();
            let (records, wrong) = match places {
                Some(places) => {
                    let gathered = window.gather_in_place(&picks, places);
                    let (records, values) = gathered.map_err(|e| e.to_string())?;
                    left = values;
                    (records, vec![Wrong::default(); picks.len()])
                }
                None => self.records(window, &mut picks)?,
            };
            parts.push(records);
            for (pick, Wrong { error, rejected }) in picks.into_iter().zip(wrong) {
                let by = window.row_of(&pick);
                if let (Some(record), Some(by)) = (pick.instead_of, by) {
                    let position = pick.position;
                    replaced.push(Replaced { position, record, by, error, rejected });
                }
            }
            positions.extend(range.clone().map(|at| at as i64));
        }
        let records = match parts.as_slice() {
            [one] => one.clone(),
            several => {
                let schema = several
                    .first()
                    .map(RecordBatch::schema)
                    .unwrap_or_else(|| Arc::clone(&self.schema));
                concat_batches(&schema, several).map_err(|e| e.to_string())?
            }
        };
        let count = positions.len();
        let mut columns: Vec<ArrayRef> = records.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(positions)));
        columns.push(Arc::new(Int64Array::from(vec![task.resume as i64; count])));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.map_err(|e| e.to_string())?;
        Ok(Made { batch, left, resume: task.resume, damage: task.damage, replaced })
    }

    /// The records, and what was wrong with each that was replaced, or was to stand in.
    fn records(
        &self,
        window: &Window,
        picks: &mut [Pick],
    ) -> Result<(RecordBatch, Vec<Wrong>), String> {
        let mut wrong = vec![Wrong::default(); picks.len()];
        let mut attempt = 0;
        loop {
            let records = window.gather(picks).map_err(|e| e.to_string())?;
            let Some(arrays) = &self.arrays else { return Ok((records, wrong)) };
            let outcome = self.decode(arrays, &records)?;
            if outcome.refused.is_empty() {
                return Ok((outcome.records, wrong));
            }
            attempt += 1;
            self.check_size(arrays, window, picks, &outcome.refused)?;
            for refused in outcome.refused {
                let (Some(pick), Some(wrong)) =
                    (picks.get_mut(refused.row), wrong.get_mut(refused.row))
                else {
                    continue;
                };
                let last = refused.error.clone();
                let Some(at) = window.row_of(pick) else { continue };
                let lost = wrong.add(pick.instead_of.as_ref(), at, refused.error);
                if attempt > ATTEMPTS {
                    let why = match &wrong.error {
                        Some(error) => format!("does not decode: {error}"),
                        None => "cannot be read".to_owned(),
                    };
                    return Err(format!(
                        "row {} of `{}` {why}; nor do {ATTEMPTS} others that could stand in, the last one: {last}",
                        lost.row, lost.shard
                    ));
                }
                *pick = window.substitute(pick.position, attempt, lost);
            }
        }
    }
}

impl Maker {
    fn decode(&self, arrays: &Arrays, records: &RecordBatch) -> Result<Outcome, String> {
        let decode = |records| arrays.decode(records, &self.context).map_err(|e| e.to_string());
        caught(records, decode)
    }

    /// Fails when a record was refused that decodes alone: then its batch is too large for one array.
    fn check_size(
        &self,
        arrays: &Arrays,
        window: &Window,
        picks: &[Pick],
        refused: &[Refused],
    ) -> Result<(), String> {
        for Refused { row, error } in refused {
            let alone = picks.get(*row).map(std::slice::from_ref).unwrap_or_default();
            let alone = window.gather(alone).map_err(|e| e.to_string())?;
            let outcome = self.decode(arrays, &alone)?;
            if outcome.refused.is_empty() {
                return Err(format!(
                    "read smaller batches, with `--batch {}`: {error}",
                    picks.len().div_ceil(4)
                ));
            }
        }
        Ok(())
    }
}

/// Decodes records, where a record at which the decoder panics is refused, as it is in a run: then there are no
/// records, only those that are refused.
fn caught(
    records: &RecordBatch,
    decode: impl Fn(RecordBatch) -> Result<Outcome, String>,
) -> Result<Outcome, String> {
    let panic = match panics::catch(|| decode(records.clone())) {
        Ok(outcome) => return outcome,
        Err(panic) => panic,
    };
    let mut refused = Vec::new();
    for row in 0..records.num_rows() {
        match panics::catch(|| decode(records.slice(row, 1))) {
            Ok(outcome) => {
                refused.extend(outcome?.refused.into_iter().map(|one| Refused { row, ..one }));
            }
            Err(panic) => {
                refused.push(Refused { row, error: format!("its decoder panicked: {panic}") })
            }
        }
    }
    match refused.is_empty() {
        // Whoever is given refused rows puts others there, and decodes again.
        false => Ok(Outcome { records: records.slice(0, 0), refused }),
        true => Err(format!("a decoder panicked, but at no record alone: {panic}")),
    }
}

/// All batches, in order. Decoding is done by as many threads as there are processors; gathering alone costs
/// less than handing rows to another thread.
pub(super) fn all(
    maker: &Arc<Maker>,
    batches: Batches,
) -> Box<dyn Iterator<Item = Result<Made, String>>> {
    let maker = Arc::clone(maker);
    match maker.arrays {
        None => Box::new(batches.map(move |task| maker.make(task?))),
        Some(_) => Box::new(Threads::start(&maker, batches)),
    }
}

/// Threads that take turns.
struct Threads {
    made: Vec<Receiver<Result<Made, String>>>,
    next: usize,
    /// Those that decode, and the one that cuts batches for them.
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(maker: &Arc<Maker>, batches: Batches) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (mut tasks, mut made, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let (give, given) = sync_channel::<Result<Task, String>>(WAITING);
            let (done, receive) = sync_channel(DONE);
            let maker = Arc::clone(maker);
            running.push(thread::spawn(move || work(&maker, &given, &done)));
            tasks.push(give);
            made.push(receive);
        }
        running.push(thread::spawn(move || {
            for (batch, thread) in batches.zip(tasks.iter().cycle()) {
                let failed = batch.is_err();
                if thread.send(batch).is_err() || failed {
                    return;
                }
            }
        }));
        Self { made, next: 0, running }
    }

    /// All was made, unless a thread panicked.
    fn end(&mut self) -> Option<Result<Made, String>> {
        // Whoever still works has nobody to give it to.
        self.made.clear();
        let ended = self.running.drain(..).map(JoinHandle::join);
        let panic = ended.filter_map(Result::err).next()?;
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text =
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Some(Err(format!(
            "a thread that decodes panicked, which is a mistake in the program: {text}"
        )))
    }
}

fn work(
    maker: &Maker,
    tasks: &Receiver<Result<Task, String>>,
    done: &SyncSender<Result<Made, String>>,
) {
    for task in tasks {
        if done.send(task.and_then(|task| maker.make(task))).is_err() {
            return;
        }
    }
}

impl Iterator for Threads {
    type Item = Result<Made, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.made.get(self.next)?.recv() {
            Ok(made) => {
                self.next = (self.next + 1) % self.made.len();
                Some(made)
            }
            Err(_) => self.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    fn numbers(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    /// Panics at 3 and refuses 5.
    fn decode(records: RecordBatch) -> Result<Outcome, String> {
        let numbers = records.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert!(!numbers.contains(&3), "a three");
        let fives = numbers.iter().enumerate().filter(|(_, n)| **n == 5);
        let refused = fives.map(|(row, _)| Refused { row, error: "a five".to_owned() }).collect();
        Ok(Outcome { records, refused })
    }

    #[test]
    fn a_record_at_which_a_decoder_panics_is_refused_alone() {
        assert_eq!(caught(&numbers(0..3), decode).unwrap().records.num_rows(), 3);
        let refused = caught(&numbers(0..7), decode).unwrap().refused;
        let told: Vec<(usize, &str)> =
            refused.iter().map(|refused| (refused.row, refused.error.as_str())).collect();
        assert_eq!(told, [(3, "its decoder panicked: a three"), (5, "a five")]);
        let many = |records: RecordBatch| -> Result<Outcome, String> {
            assert!(records.num_rows() < 2, "too many");
            decode(records)
        };
        let error = caught(&numbers(0..2), many).unwrap_err();
        assert_eq!(error, "a decoder panicked, but at no record alone: too many");
    }

    #[test]
    fn a_stand_in_that_does_not_decode_is_not_the_reason_of_the_record_it_stands_for() {
        let row = |row| RowAt { shard: "data/a.parquet".into(), row };
        // Its shard is damaged, and so is what was to stand in for it.
        let mut wrong = Wrong::default();
        assert_eq!(wrong.add(Some(&row(1)), row(2), "no PNG".into()), row(1));
        assert_eq!((wrong.error, wrong.rejected), (None, vec![(row(2), "no PNG".to_owned())]));
        // It does not decode itself, nor does the first that stands in.
        let mut wrong = Wrong::default();
        assert_eq!(wrong.add(None, row(1), "cut".into()), row(1));
        assert_eq!(wrong.add(Some(&row(1)), row(2), "no PNG".into()), row(1));
        assert_eq!(wrong.error.as_deref(), Some("cut"));
        assert_eq!(wrong.rejected, [(row(2), "no PNG".to_owned())]);
    }
}
