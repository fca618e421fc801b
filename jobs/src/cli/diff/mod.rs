//! `anabranch diff`: which records of two tables differ, and in which columns.
//!
//! Records are told apart by `id`, so an order or a division into shards makes no difference. An id that stands
//! in a table twice, as after an append of the same job, is compared occurrence by occurrence. Held in memory:
//! for each record of the older table an entry of a map, of 49 bytes, and a box of 8 bytes for each of its columns;
//! and for each id of the table that is being read an entry of 21 bytes. A map that grows has room for up to twice
//! as many. Ten million records of ten columns are about 2 GB. A table of which a record cannot be read is not
//! compared: it would look as if it were gone.

use std::collections::{BTreeMap, HashMap};

use anabranch_pipelines::record::{ID, KEY, RecordId};
use anabranch_pipelines::source::{Source, SourceError};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use futures::StreamExt;
use serde::Serialize;

use super::{Exit, Failure, plan, print, scan};
use crate::components::{Registry, make};
use crate::terminal;
use fingerprint::Fingerprints;

mod fingerprint;

/// Which tables, and what is told of them.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// The older table, as a path or URL.
    #[arg(value_name = "OLD")]
    old: String,
    /// The newer table; by default the older one's place, at its newest version.
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// The version of the older table. Default: the newest.
    #[arg(long, value_name = "N")]
    old_version: Option<u64>,
    /// The version of the newer table. Default: the newest.
    #[arg(long, value_name = "N")]
    new_version: Option<u64>,
    /// How many records of each kind of difference to name.
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
    /// Exit with 1 where the tables differ.
    #[arg(long)]
    exit_code: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How two tables differ.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Difference {
    pub(crate) same: u64,
    pub(crate) added: Named,
    pub(crate) gone: Named,
    pub(crate) changed: Named,
    /// Records that differ in it, by column.
    pub(crate) columns: BTreeMap<String, u64>,
    /// Columns that only one table has, or that have another type there.
    pub(crate) schema: Vec<String>,
}

impl Difference {
    fn is_none(&self) -> bool {
        [&self.added, &self.gone, &self.changed].iter().all(|named| named.records == 0)
            && self.schema.is_empty()
    }
}

/// Records, and the keys of the first of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Named {
    pub(crate) records: u64,
    pub(crate) first: Vec<String>,
}

impl Named {
    fn add(&mut self, show: usize, name: impl FnOnce() -> String) {
        self.records += 1;
        if self.first.len() < show {
            self.first.push(name());
        }
    }
}

/// Compares the tables.
pub(super) fn diff(registry: &Registry, args: &DiffArgs) -> Result<Exit, Failure> {
    let newer = args.new.as_ref().unwrap_or(&args.old);
    if args.new.is_none() && args.old_version.is_none() {
        let message = "error: give two tables, or one with `--old-version N`";
        return Err(Failure::new(Exit::Usage, message.to_owned()));
    }
    let old = table(registry, &args.old, args.old_version)?;
    let new = table(registry, newer, args.new_version)?;
    let found = plan::with_io(compare(old.as_ref(), new.as_ref(), args.show))?;
    let found = found.map_err(|error| {
        let message = format!("error: cannot compare {} with {newer}: {error}", args.old);
        Failure::new(Exit::Failed, message)
    })?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&found);
        json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))? + "\n"
    } else {
        terminal::difference(&found)
    };
    print(&text)?;
    Ok(if args.exit_code && !found.is_none() { Exit::Failed } else { Exit::Done })
}

fn table(
    registry: &Registry,
    path: &str,
    version: Option<u64>,
) -> Result<std::sync::Arc<dyn Source>, Failure> {
    let path = toml::Value::from(path);
    let version = version.map(|version| format!(", version = {version}")).unwrap_or_default();
    let options = format!("{{ path = {path}{version} }}");
    make(registry, &registry.sources, "table", &options)
        .map_err(|message| Failure::new(Exit::Failed, format!("error: {path}: {message}")))
}

/// What is kept of a record of the older table.
struct Kept {
    /// Its place, to find its key again.
    row: u64,
    /// A fingerprint for each column that both tables have.
    columns: Box<[u64]>,
}

/// A record, and which occurrence of its id it is.
type Occurrence = ([u8; 16], u32);

async fn compare(
    old: &dyn Source,
    new: &dyn Source,
    show: usize,
) -> Result<Difference, SourceError> {
    let (was, is) = (old.schema().await?, new.schema().await?);
    let mut found = Difference { schema: schema(&was, &is), ..Difference::default() };
    let shared: Vec<String> = was
        .fields()
        .iter()
        .filter(|field| field.name() != ID)
        .filter(|f| is.field_with_name(f.name()).is_ok_and(|o| o.data_type() == f.data_type()))
        .map(|field| field.name().clone())
        .collect();
    let mut kept: HashMap<Occurrence, Kept> = HashMap::new();
    let (mut seen, mut row) = (HashMap::new(), 0);
    let mut prints = Fingerprints::of(&was, &shared)?;
    let mut batches = scan::open(old).await?;
    while let Some(batch) = batches.next().await {
        let batch = scan::whole(batch?)?;
        for (id, columns) in ids(&batch)?.into_iter().zip(prints.of_rows(&batch)?) {
            kept.insert(occurrence(&mut seen, id), Kept { row, columns });
            row += 1;
        }
    }
    seen.clear();
    let mut prints = Fingerprints::of(&is, &shared)?;
    let mut batches = scan::open(new).await?;
    while let Some(batch) = batches.next().await {
        let batch = scan::whole(batch?)?;
        let rows = ids(&batch)?.into_iter().zip(prints.of_rows(&batch)?);
        for (row, (id, columns)) in rows.enumerate() {
            match kept.remove(&occurrence(&mut seen, id)) {
                None => found.added.add(show, || key(&batch, row)),
                Some(before) if before.columns == columns => found.same += 1,
                Some(before) => {
                    found.changed.add(show, || key(&batch, row));
                    let both = before.columns.iter().zip(&columns).zip(&shared);
                    for (_, name) in both.filter(|((before, after), _)| before != after) {
                        *found.columns.entry(name.clone()).or_default() += 1;
                    }
                }
            }
        }
    }
    found.gone.records = kept.len() as u64;
    let mut rows: Vec<u64> = kept.into_values().map(|kept| kept.row).collect();
    rows.sort_unstable();
    rows.truncate(show);
    found.gone.first = keys_at(old, &rows).await?;
    Ok(found)
}

fn occurrence(seen: &mut HashMap<[u8; 16], u32>, id: [u8; 16]) -> Occurrence {
    let times = seen.entry(id).or_default();
    *times += 1;
    (id, *times)
}

/// Columns that the tables do not share.
fn schema(old: &SchemaRef, new: &SchemaRef) -> Vec<String> {
    let mut notes = Vec::new();
    for field in old.fields() {
        match new.field_with_name(field.name()) {
            Err(_) => notes.push(format!("`{}` is gone", field.name())),
            Ok(now) if now.data_type() != field.data_type() => {
                let (was, is) = (field.data_type(), now.data_type());
                notes.push(format!("`{}` was {was} and is {is}", field.name()));
            }
            Ok(_) => {}
        }
    }
    let added = new.fields().iter().filter(|field| old.field_with_name(field.name()).is_err());
    notes.extend(added.map(|field| format!("`{}` is new", field.name())));
    notes
}

fn ids(batch: &RecordBatch) -> Result<Vec<[u8; 16]>, SourceError> {
    let none =
        || SourceError::Options("it has no column `id` of 16 bytes to tell records by".into());
    let column = batch.column_by_name(ID).ok_or_else(none)?;
    if column.data_type() != &DataType::FixedSizeBinary(16) {
        return Err(none());
    }
    let ids = column.as_fixed_size_binary();
    ids.iter().map(|id| id.and_then(|id| id.try_into().ok()).ok_or_else(none)).collect()
}

/// A record's key, or its id where it has none.
fn key(batch: &RecordBatch, row: usize) -> String {
    let keys = batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>());
    match keys {
        Some(keys) if keys.is_valid(row) => keys.value(row).to_owned(),
        _ => RecordId::of_row(batch, row).map_or_else(String::new, |id| id.to_string()),
    }
}

/// The keys of the rows with these numbers, which grow.
async fn keys_at(table: &dyn Source, rows: &[u64]) -> Result<Vec<String>, SourceError> {
    let mut keys = Vec::new();
    let mut wanted = rows.iter().copied().peekable();
    let mut begin = 0;
    let mut batches = scan::open(table).await?;
    while wanted.peek().is_some()
        && let Some(batch) = batches.next().await
    {
        let batch = scan::whole(batch?)?;
        let end = begin + batch.num_rows() as u64;
        while let Some(row) = wanted.next_if(|row| *row < end) {
            keys.push(key(&batch, usize::try_from(row - begin).unwrap_or(0)));
        }
        begin = end;
    }
    Ok(keys)
}
