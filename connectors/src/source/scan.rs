//! Sources whose objects are read from front to back: one implementation of [`Source`] for all of them.
//!
//! A [`Format`] says how its objects are scanned; [`Scanned`] lists them, measures them, and reads ranges of
//! them in batches, on threads that may block and that wait while nobody takes what they read. It also gives
//! every format the same answer to damage: what stands before it are records, and the remainder is one
//! record that is refused.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anabranch_pipelines::source::{
    Abilities, BatchSize, Mark, Marks, Source, SourceBatch, SourceBatches, SourceError, Split,
    SplitRange, Unreadable,
};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio::sync::{OnceCell, mpsc};

use super::glob::Objects;
use super::object::{Failure, Object, Unpacked, packed};

/// Where the remainder of a damaged object ends: behind everything.
const END: u64 = i64::MAX as u64;
/// Bytes of a refused record that are kept in its dead letter, at most.
pub(super) const KEPT: usize = 64 << 10;
/// Marks that travel together from the thread that measures.
const MARKS: usize = 256;
/// Scanners kept between two reads. A worker's next part begins where one of them stopped, or behind it, so
/// that a packed object is unpacked once and not once per part.
const PARKED: usize = 8;
/// Bytes that all of these hold, if there are several.
const HELD: usize = 64 << 20;

/// A record as a scanner found it.
pub(super) struct Found<R> {
    /// Its offsets. Records follow one another without gaps.
    pub(super) range: Range<u64>,
    /// Its size as stored.
    pub(super) bytes: u64,
    /// What it holds; `None` when it was only measured.
    pub(super) row: Option<Result<R, Bad>>,
}

/// Why a record is no row.
pub(super) struct Bad {
    pub(super) key: String,
    pub(super) error: String,
    pub(super) bytes: Option<Vec<u8>>,
}

/// Reads the records of one object in order.
pub(super) trait Scanner: Send {
    /// A record's contents.
    type Row;

    /// Moves to the record that begins at this offset.
    fn seek(&mut self, offset: u64) -> Result<(), Failure>;

    /// The next record; its row is left out when it shall only be measured.
    fn next(&mut self, measured: bool) -> Result<Option<Found<Self::Row>>, Failure>;

    /// Offset that a read can begin at without going back.
    fn position(&self) -> u64;

    /// Bytes of what it knows of its object, beside buffers.
    fn holds(&self) -> usize {
        0
    }
}

/// A record with its place, for messages.
pub(super) struct Located<R> {
    pub(super) split: Arc<Split>,
    pub(super) range: Range<u64>,
    pub(super) row: R,
}

/// Opens objects while a format looks into them.
pub(super) type Open<'a> = dyn Fn(&Split) -> Result<Object, Failure> + 'a;

/// How the objects of a source are scanned.
pub(super) trait Format: Send + Sync + 'static {
    /// A record's contents.
    type Row: Send + 'static;
    /// What was learnt by looking into the data: the schema, and whatever reading needs.
    type Columns: Send + Sync + 'static;

    fn kind(&self) -> &'static str;
    fn options(&self) -> serde_json::Value;
    /// The digest of what is read beside the objects, e.g. of labels: it is part of what is read, like the
    /// options, and stands in no listing.
    fn beside<'a>(&self, _: &'a Self::Columns) -> Option<&'a str> {
        None
    }

    /// Of the source, were no object packed.
    fn abilities(&self) -> Abilities;
    fn unpacked(&self) -> Unpacked {
        Unpacked { limit: None }
    }

    /// Which of the listed objects are splits, in their order. Blocks.
    fn splits(&self, listed: Vec<Split>, _: &Open<'_>) -> Result<Vec<Split>, SourceError> {
        Ok(listed)
    }

    /// Looks into the data, all of what is listed. Blocks.
    fn columns(&self, listed: &[Split], open: &Open<'_>) -> Result<Self::Columns, SourceError>;
    fn schema(&self, columns: &Self::Columns) -> SchemaRef;

    /// A scanner that stands at the first record.
    fn scanner(
        &self,
        columns: &Self::Columns,
        object: Object,
    ) -> Result<Box<dyn Scanner<Row = Self::Row>>, Failure>;

    /// Rows from records. What turns out to be unreadable is refused.
    fn batch(
        &self,
        columns: &Self::Columns,
        rows: Vec<Located<Self::Row>>,
    ) -> Result<SourceBatch, SourceError>;
}

/// A source of this format.
pub(super) struct Scanned<F: Format> {
    inner: Arc<Inner<F>>,
}

struct Inner<F: Format> {
    format: F,
    objects: Objects,
    columns: OnceCell<F::Columns>,
    /// Whether any of the objects was packed when they were looked into.
    packed: OnceLock<bool>,
    parked: Mutex<Vec<Parked<F>>>,
}

struct Parked<F: Format> {
    split: Arc<Split>,
    scanner: Box<dyn Scanner<Row = F::Row>>,
}

impl<F: Format> Scanned<F> {
    pub(super) fn new(objects: Objects, format: F) -> Self {
        let (columns, packed, parked) = (OnceCell::new(), OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { format, objects, columns, packed, parked }) }
    }

    /// What `work` gives from its thread, one item ahead of whoever takes it.
    fn stream<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner<F>, &F::Columns, Output<T>) -> Result<(), SourceError> + Send + 'static,
    ) -> BoxStream<'static, Result<T, SourceError>> {
        let inner = Arc::clone(&self.inner);
        let started = async move {
            if let Err(error) = columns(&inner).await {
                return stream::iter([Err(error)]).boxed();
            }
            on_a_thread(1, move |output| match inner.columns.get() {
                Some(columns) => work(&inner, columns, output),
                None => Ok(()),
            })
        };
        stream::once(started).flatten().boxed()
    }
}

#[async_trait]
impl<F: Format> Source for Scanned<F> {
    fn kind(&self) -> &'static str {
        self.inner.format.kind()
    }

    fn options(&self) -> serde_json::Value {
        let mut options = self.inner.format.options();
        // Known once the schema was asked for, which a plan does first.
        let columns = self.inner.columns.get();
        let beside = columns.and_then(|columns| self.inner.format.beside(columns));
        if let (Some(beside), Some(options)) = (beside, options.as_object_mut()) {
            options.insert("beside".to_owned(), beside.into());
        }
        options
    }

    fn abilities(&self) -> Abilities {
        let abilities = self.inner.format.abilities();
        // Inside a packed object nothing can be opened alone. Before anything was listed, the pattern says
        // what it can.
        let packed = self.inner.packed.get().copied();
        match packed.unwrap_or_else(|| self.inner.objects.may_be_packed()) {
            true => Abilities { random_access: false, references: false, ..abilities },
            false => abilities,
        }
    }

    fn whole(&self) -> bool {
        self.inner.objects.are_whole()
    }

    async fn schema(&self) -> Result<SchemaRef, SourceError> {
        Ok(self.inner.format.schema(columns(&self.inner).await?))
    }

    async fn splits(&self) -> Result<Vec<Split>, SourceError> {
        let listed = self.inner.objects.list().await?;
        let inner = Arc::clone(&self.inner);
        let choose = move || inner.format.splits(listed, &|split| inner.object(split));
        tokio::task::spawn_blocking(choose).await.map_err(lost)?
    }

    fn measure(&self, split: Arc<Split>, from: u64) -> Marks {
        let work = move |inner: &Inner<F>, columns: &F::Columns, output: Output<Vec<Mark>>| {
            let mut marks = Vec::new();
            inner.scan(columns, &split, from..END, true, &mut |found| {
                marks.push(Mark { range: found.range, records: 1, bytes: found.bytes });
                marks.len() < MARKS || output.give(Ok(std::mem::take(&mut marks)))
            })?;
            output.give(Ok(marks));
            Ok(())
        };
        one_by_one(self.stream(work))
    }

    fn open(&self, ranges: Vec<SplitRange>, size: BatchSize) -> SourceBatches {
        self.stream(move |inner, columns, output| inner.read(columns, ranges, size, &output))
    }
}

/// What was learnt by looking into the data, which happens once.
async fn columns<F: Format>(inner: &Arc<Inner<F>>) -> Result<&F::Columns, SourceError> {
    inner
        .columns
        .get_or_try_init(|| async {
            let splits = inner.objects.list().await?;
            inner.packed.get_or_init(|| splits.iter().any(|split| packed(&split.name)));
            let looking = Arc::clone(inner);
            let look = move || looking.format.columns(&splits, &|split| looking.object(split));
            tokio::task::spawn_blocking(look).await.map_err(lost)?
        })
        .await
}

impl<F: Format> Inner<F> {
    fn object(&self, split: &Split) -> Result<Object, Failure> {
        Object::open(self.objects.location(split), split, self.format.unpacked())
    }

    /// A scanner that stands at an offset: a parked one, or a new one.
    fn scanner(
        &self,
        columns: &F::Columns,
        split: &Arc<Split>,
        at: u64,
        measured: bool,
    ) -> Result<Box<dyn Scanner<Row = F::Row>>, Failure> {
        let parked = if measured {
            None
        } else {
            let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |p: &Parked<F>| p.split == *split && p.scanner.position() <= at;
            let nearest = parked.iter().enumerate().filter(|(_, p)| fits(p));
            let nearest = nearest.max_by_key(|(_, p)| p.scanner.position()).map(|(i, _)| i);
            nearest.map(|at| parked.remove(at).scanner)
        };
        let mut scanner = match parked {
            Some(scanner) => scanner,
            None => self.format.scanner(columns, self.object(split)?)?,
        };
        if at > 0 {
            scanner.seek(at)?;
        }
        Ok(scanner)
    }

    fn park(&self, split: &Arc<Split>, scanner: Box<dyn Scanner<Row = F::Row>>) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = scanner.holds();
        held += parked.iter().map(|p| p.scanner.holds()).sum::<usize>();
        while !parked.is_empty() && (parked.len() >= PARKED || held > HELD) {
            held = held.saturating_sub(parked.remove(0).scanner.holds());
        }
        parked.push(Parked { split: Arc::clone(split), scanner });
    }

    /// Gives the records of a range one by one, until `give` has no use for more.
    fn scan(
        &self,
        columns: &F::Columns,
        split: &Arc<Split>,
        range: Range<u64>,
        measured: bool,
        give: &mut dyn FnMut(Found<F::Row>) -> bool,
    ) -> Result<(), SourceError> {
        if range.start >= END {
            return Ok(());
        }
        let mut at = range.start;
        let damaged = |at: u64, error: String| Found {
            range: at..range.end.max(at + 1),
            bytes: split.bytes.saturating_sub(at),
            row: (!measured).then(|| Err(Bad { key: key(split, at), error, bytes: None })),
        };
        let mut scanner = match self.scanner(columns, split, at, measured) {
            Ok(scanner) => scanner,
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Damaged(error)) => {
                give(damaged(at, error));
                return Ok(());
            }
        };
        while at < range.end {
            match scanner.next(measured) {
                Ok(Some(found)) => {
                    at = found.range.end;
                    if !give(found) {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Damaged(error)) => {
                    give(damaged(at, error));
                    return Ok(());
                }
            }
        }
        if !measured {
            self.park(split, scanner);
        }
        Ok(())
    }

    fn read(
        &self,
        columns: &F::Columns,
        ranges: Vec<SplitRange>,
        size: BatchSize,
        output: &Output<SourceBatch>,
    ) -> Result<(), SourceError> {
        let mut batch = Gathered::default();
        let mut failed = None;
        for SplitRange { split, range } in ranges {
            let mut open = true;
            self.scan(columns, &split, range, false, &mut |found| {
                let bytes = usize::try_from(found.bytes).unwrap_or(usize::MAX);
                if batch.full_with(bytes, size) {
                    match std::mem::take(&mut batch).finish(&self.format, columns) {
                        Ok(done) => open = output.give(Ok(done)),
                        Err(error) => failed = Some(error),
                    }
                }
                batch.push(&split, found, bytes);
                open && failed.is_none()
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if !open {
                return Ok(());
            }
        }
        if !batch.is_empty() {
            output.give(Ok(batch.finish(&self.format, columns)?));
        }
        Ok(())
    }
}

/// The key of a record that has no name: its object and its offset.
pub(super) fn key(split: &Split, offset: u64) -> String {
    format!("{}@{offset:012}", split.name)
}

/// Records on their way into a batch.
struct Gathered<R> {
    rows: Vec<Located<R>>,
    refused: VecDeque<Unreadable>,
    /// Where all of them stand, in the order in which they were read, and whether they are refused already.
    places: Vec<(Arc<Split>, u64, bool)>,
    bytes: usize,
}

impl<R> Default for Gathered<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), refused: VecDeque::new(), places: Vec::new(), bytes: 0 }
    }
}

impl<R> Gathered<R> {
    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn full_with(&self, more: usize, size: BatchSize) -> bool {
        let records = self.rows.len().max(self.refused.len());
        records >= size.records || (records > 0 && self.bytes.saturating_add(more) > size.bytes)
    }

    fn push(&mut self, split: &Arc<Split>, found: Found<R>, bytes: usize) {
        let Found { range, row, .. } = found;
        if let Some(row) = &row {
            self.places.push((Arc::clone(split), range.start, row.is_err()));
        }
        match row {
            Some(Ok(row)) => {
                self.bytes = self.bytes.saturating_add(bytes);
                self.rows.push(Located { split: Arc::clone(split), range, row });
            }
            Some(Err(Bad { key, error, bytes })) => {
                let split = split.name.clone();
                self.refused.push_back(Unreadable { key, split, range, error, bytes });
            }
            None => {}
        }
    }

    /// The batch. Its refusals stand in the order in which they were read, be it a shuffled one, as its rows do.
    fn finish<F: Format<Row = R>>(
        mut self,
        format: &F,
        columns: &F::Columns,
    ) -> Result<SourceBatch, SourceError> {
        let mut batch = format.batch(columns, self.rows)?;
        // What the format refuses is some of the rows, in their order.
        let mut of_rows: VecDeque<Unreadable> = std::mem::take(&mut batch.refused).into();
        for (split, start, refused) in self.places {
            batch.refused.extend(match refused {
                true => self.refused.pop_front(),
                false => of_rows.pop_front_if(|r| r.split == split.name && r.range.start == start),
            });
        }
        batch.refused.extend(of_rows);
        Ok(batch)
    }
}

/// Where a thread puts what it made; it waits there until somebody has use for it.
pub(super) struct Output<T> {
    send: mpsc::Sender<Result<T, SourceError>>,
}

impl<T> Output<T> {
    /// Whether anybody wants more.
    pub(super) fn give(&self, item: Result<T, SourceError>) -> bool {
        self.send.blocking_send(item).is_ok()
    }
}

/// Runs `work` on a thread that may block, once the stream is asked, `ahead` items ahead of whoever takes them.
pub(super) fn on_a_thread<T: Send + 'static>(
    ahead: usize,
    work: impl FnOnce(Output<T>) -> Result<(), SourceError> + Send + 'static,
) -> BoxStream<'static, Result<T, SourceError>> {
    let started = async move {
        let (send, receive) = mpsc::channel(ahead);
        let thread = tokio::task::spawn_blocking(move || {
            let last = send.clone();
            if let Err(error) = work(Output { send }) {
                let _ = last.blocking_send(Err(error));
            }
        });
        stream::unfold((receive, Some(thread)), |(mut receive, thread)| async {
            if let Some(item) = receive.recv().await {
                return Some((item, (receive, thread)));
            }
            // A thread that ended without a word has not read everything.
            thread?.await.err().map(|error| (Err(lost(error)), (receive, None)))
        })
    };
    stream::once(started).flatten().boxed()
}

/// Marks that travelled together.
pub(super) fn one_by_one(
    marks: impl Stream<Item = Result<Vec<Mark>, SourceError>> + Send + 'static,
) -> Marks {
    marks.map_ok(|marks| stream::iter(marks.into_iter().map(Ok))).try_flatten().boxed()
}

fn lost(error: tokio::task::JoinError) -> SourceError {
    SourceError::Options(format!("a thread that read was lost: {error}"))
}
