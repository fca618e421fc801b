//! Makes batches: gathers their rows, decodes them, and puts other records where one cannot be used.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anabranch_connectors::table::read::{Damage, Pick, RowAt, Window};
use anabranch_operators::Arrays;
use anabranch_pipelines::operator::{Context, Refused};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::batches::{Batches, Task};

/// The column of each record's place in the order.
const POSITION: &str = "position";
/// The column of where to go on.
const RESUME: &str = "resume";
/// Stand-ins that are tried for one record that does not decode.
const ATTEMPTS: u64 = 64;
/// Batches that each thread has to do.
const WAITING: usize = 2;

/// A batch, and what there is to report of it.
pub(super) struct Made {
    pub(super) batch: RecordBatch,
    pub(super) resume: u64,
    pub(super) damage: Vec<Damage>,
    pub(super) replaced: Vec<Replaced>,
}

/// A record in another's place.
pub(super) struct Replaced {
    pub(super) position: u64,
    pub(super) record: RowAt,
    pub(super) by: RowAt,
    /// Why, unless its shard is damaged.
    pub(super) error: Option<String>,
}

/// Makes batches of one schema.
pub(super) struct Maker {
    arrays: Option<Arrays>,
    context: Context,
    schema: SchemaRef,
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
        Ok(Self { arrays, context, schema: Arc::new(Schema::new(fields)) })
    }

    /// The schema of batches.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn make(&self, task: Task) -> Result<Made, String> {
        let (mut parts, mut replaced, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for (window, range) in &task.rows {
            let mut picks: Vec<Pick> = range.clone().map(|at| window.pick(at)).collect();
            let (records, errors) = self.records(window, &mut picks)?;
            parts.push(records);
            for (pick, error) in picks.into_iter().zip(errors) {
                let by = window.row_of(&pick);
                if let (Some(record), Some(by)) = (pick.instead_of, by) {
                    replaced.push(Replaced { position: pick.position, record, by, error });
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
        Ok(Made { batch, resume: task.resume, damage: task.damage, replaced })
    }

    /// The records, and why each that was replaced for its own sake was.
    fn records(
        &self,
        window: &Window,
        picks: &mut [Pick],
    ) -> Result<(RecordBatch, Vec<Option<String>>), String> {
        let mut errors: Vec<Option<String>> = vec![None; picks.len()];
        let mut attempt = 0;
        loop {
            let records = window.gather(picks).map_err(|e| e.to_string())?;
            let Some(arrays) = &self.arrays else { return Ok((records, errors)) };
            let outcome = arrays.decode(records, &self.context).map_err(|e| e.to_string())?;
            if outcome.refused.is_empty() {
                return Ok((outcome.records, errors));
            }
            attempt += 1;
            self.check_size(arrays, window, picks, &outcome.refused)?;
            for refused in outcome.refused {
                let (Some(pick), Some(error)) =
                    (picks.get_mut(refused.row), errors.get_mut(refused.row))
                else {
                    continue;
                };
                let at = window.row_of(pick);
                let Some(lost) = pick.instead_of.take().or(at) else { continue };
                let first = error.get_or_insert(refused.error);
                if attempt > ATTEMPTS {
                    return Err(format!(
                        "row {} of `{}` does not decode, nor do {ATTEMPTS} others that could stand in: {first}",
                        lost.row, lost.shard
                    ));
                }
                *pick = window.substitute(pick.position, attempt, lost);
            }
        }
    }
}

impl Maker {
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
            let outcome = arrays.decode(alone, &self.context).map_err(|e| e.to_string())?;
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
            let (done, receive) = sync_channel(WAITING);
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
