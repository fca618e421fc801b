//! Reading a table back for training: any position of a shuffled order, without reading the ones before.
//!
//! A [`TableReader`] reads one version of a table. Which record stands at a position is a function of that
//! version, the seed and the size of the window (`order` has the rule), so a loader needs one integer to go on
//! where it stopped, and any number of workers can share an order by sharing its positions.
//!
//! A window is read as a whole. What of it cannot be read (a shard that is gone, cut or overwritten, a checksum
//! that does not fit) is *damage*: the blocks in question are quarantined, and other records of the window stand
//! in for theirs, the same ones for every reader. Damage costs no other record its place.
//!
//! ```
//! use anabranch_connectors::table::read::{ReadOptions, TableReader};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let missing = TableReader::open(ReadOptions::at("memory://nowhere/table")).await;
//! assert!(missing.err().unwrap().to_string().contains("there is no table"));
//! # });
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_pipelines::graph::nearest;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::SourceError;
use anabranch_pipelines::store::Location;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use thiserror::Error;

use self::block::{Shard, count};
use self::order::{Order, Pass, ShardSize, WindowPlan};
use self::window::{BlockRows, Columns, Healthy};
use crate::source::object::Failure;
use crate::source::table::{plain, restored};
use crate::table::{DeltaLog, Visible, dictionaries};

mod block;
mod gather;
mod order;
mod permutation;
#[cfg(test)]
mod tests;
mod window;

pub use gather::Left;
pub use window::{Pick, RowAt, Window};

/// Blocks, or footers, that are read at the same time.
const READS: usize = 8;

/// What to read, and in which order.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Folder of the table, as a path or URL.
    pub path: String,
    /// The version to read. Default: the newest.
    pub version: Option<u64>,
    /// The columns to read, in this order. Default: all.
    pub columns: Option<Vec<String>>,
    /// Shuffles the records under this seed.
    pub shuffle: Option<u64>,
    /// Stored bytes of the records that are shuffled among one another, and held in memory.
    pub window: ByteSize,
}

impl ReadOptions {
    /// The default size of a window.
    pub const WINDOW: ByteSize = ByteSize(128 << 20);

    /// The newest version of the table at `path`, in its own order.
    pub fn at(path: impl Into<String>) -> Self {
        let (version, columns, shuffle) = (None, None, None);
        Self { path: path.into(), version, columns, shuffle, window: Self::WINDOW }
    }
}

/// Why a table cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What was asked for is not there, or cannot be.
    #[error("{0}")]
    Options(String),
    /// The table or its store failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing of the table can be read.
    #[error("{location}: none of its shards can be read; the first one: {error}")]
    Lost {
        /// The table.
        location: String,
        /// What is wrong with the first shard.
        error: String,
    },
}

/// Rows that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Path of the shard, relative to the table.
    pub shard: String,
    /// Its rows that are quarantined.
    pub rows: Range<u64>,
    /// Why, as a sentence.
    pub error: String,
}

/// One version of a table, in one order. See the [module documentation](self).
#[derive(Debug)]
pub struct TableReader {
    location: Location,
    version: u64,
    shards: Vec<Shard>,
    order: Order,
    /// The pass that was asked for last.
    pass: Mutex<Option<(u64, Arc<Pass>)>>,
    /// Stored columns that are read.
    stored: Arc<[String]>,
    columns: Arc<Columns>,
    constants: HashMap<String, i64>,
}

impl TableReader {
    /// Opens a table.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or a column is not in it.
    pub async fn open(options: ReadOptions) -> Result<Self, ReadError> {
        let location =
            Location::parse(&options.path).map_err(|e| ReadError::Options(e.to_string()))?;
        let format =
            |message: String| SourceError::Format { location: location.url.clone(), message };
        let (at, version) = (location.clone(), options.version);
        let look = tokio::task::spawn_blocking(move || DeltaLog::new(&at)?.files(version)).await;
        let look = look.map_err(|e| format(format!("a thread that read was lost: {e}")))?;
        let Some((schema, version, files)) = look.map_err(|e| format(e.to_string()))? else {
            let hint = "there is no table; check the path".to_owned();
            return Err(SourceError::Nothing { location: location.url, hint }.into());
        };
        plain(&files).map_err(format)?;
        let schema = dictionaries::named(&location, &schema).await?;
        let (stored, columns) = chosen(&schema, options.columns.as_deref())?;
        let constants = constants(&schema, &files);
        let shards: Vec<Shard> = files
            .into_iter()
            .map(|file| Shard {
                location: location.join(&file.path),
                name: file.path,
                bytes: file.bytes,
                rows: file.rows,
            })
            .collect();
        let sizes: Vec<ShardSize> =
            stream::iter(&shards)
                .map(|shard| async move {
                    Ok(ShardSize { bytes: shard.bytes, rows: rows(shard).await? })
                })
                .buffered(READS)
                .try_collect()
                .await
                .map_err(|e: SourceError| e)?;
        let order = Order::new(&sizes, options.shuffle, options.window.0);
        let (stored, columns) = (stored.into(), Arc::new(columns));
        Ok(Self {
            location,
            version,
            shards,
            order,
            pass: Mutex::default(),
            stored,
            columns,
            constants,
        })
    }

    /// The version that is read.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where the table is.
    pub fn location(&self) -> &str {
        &self.location.url
    }

    /// Rows of the table, which is how many positions a pass has.
    pub fn rows(&self) -> u64 {
        self.order.rows()
    }

    /// Shards of the table.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The columns of what is read.
    pub fn schema(&self) -> &SchemaRef {
        &self.columns.schema
    }

    /// The number that stands in every row of a column, if the table's log knows that there is just one.
    pub fn constant(&self, column: &str) -> Option<i64> {
        self.constants.get(column).copied()
    }

    /// Reads the window that holds a position, and says what of it cannot be read. Positions count on over all
    /// passes. Nothing, when the table has no rows.
    ///
    /// # Errors
    /// When the store fails, or no row is left that could stand in for a lost one.
    pub async fn window(&self, position: u64) -> Result<Option<(Window, Vec<Damage>)>, ReadError> {
        let Some(plan) = self.plan(position) else { return Ok(None) };
        let (mut window, damage) = self.load(plan).await?;
        if let (Some(first), true) = (damage.first(), window.healthy_rows() == 0) {
            let mut at = window.plan.positions.end;
            let end = at.saturating_add(self.rows());
            loop {
                let lost = || ReadError::Lost {
                    location: self.location.url.clone(),
                    error: format!("`{}`: {}", first.shard, first.error),
                };
                let plan = self.plan(at).filter(|_| at < end).ok_or_else(lost)?;
                at = plan.positions.end;
                let (next, _) = self.load(plan).await?;
                if next.healthy_rows() > 0 {
                    window.healthy = Healthy::Elsewhere(Arc::new(next));
                    break;
                }
            }
        }
        Ok(Some((window, damage)))
    }

    /// Stored bytes of the window that holds a position, without reading it.
    pub fn window_bytes(&self, position: u64) -> Option<u64> {
        self.plan(position).map(|plan| plan.bytes())
    }

    fn plan(&self, position: u64) -> Option<WindowPlan> {
        let number = position.checked_div(self.rows())?;
        let mut last = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = match last.as_ref() {
            Some((of, pass)) if *of == number => Arc::clone(pass),
            _ => {
                let pass = Arc::new(self.order.pass(number));
                *last = Some((number, Arc::clone(&pass)));
                pass
            }
        };
        self.order.window(&pass, position)
    }

    async fn load(&self, plan: WindowPlan) -> Result<(Window, Vec<Damage>), ReadError> {
        // Blocks of one shard together: they may share row groups.
        let mut of_shards: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, block) in plan.blocks.iter().enumerate() {
            of_shards.entry(block.shard).or_default().push(at);
        }
        let blocks = &plan.blocks;
        let load = |(shard, numbers): (usize, Vec<usize>)| async move {
            let rows = numbers.iter().filter_map(|at| blocks.get(*at));
            let rows: Vec<Range<u64>> = rows.map(|block| block.rows.clone()).collect();
            let read = match self.shards.get(shard) {
                Some(shard) => shard.load(&self.stored, &rows).await?,
                None => rows.iter().map(|_| Err("it is not among the shards".to_owned())).collect(),
            };
            let name: Arc<str> =
                self.shards.get(shard).map_or("", |shard| shard.name.as_str()).into();
            let loaded = numbers.into_iter().zip(rows).zip(read).map(|((at, rows), read)| {
                let (batches, damage) = match read {
                    Ok(batches) => (Ok(batches), None),
                    Err(error) => {
                        let (shard, rows) = (name.to_string(), rows.clone());
                        (Err(()), Some(Damage { shard, rows, error }))
                    }
                };
                (at, (BlockRows { shard: Arc::clone(&name), first: rows.start, batches }, damage))
            });
            Ok::<_, ReadError>(loaded.collect::<Vec<_>>())
        };
        let loaded: Vec<Vec<(usize, Loaded)>> =
            stream::iter(of_shards).map(load).buffered(READS).try_collect().await?;
        let mut loaded: Vec<_> = loaded.into_iter().flatten().collect();
        loaded.sort_by_key(|(at, _)| *at);
        let loaded = loaded.into_iter().map(|(_, block)| block);
        let (blocks, damage): (Vec<BlockRows>, Vec<Option<Damage>>) = loaded.unzip();
        let starts = |healthy: bool| {
            let sizes = plan.blocks.iter().zip(&blocks).scan(0, |all, (block, rows)| {
                let counts = !healthy || rows.batches.is_ok();
                *all += if counts { block.len() } else { 0 };
                Some(*all)
            });
            std::iter::once(0).chain(sizes).collect::<Vec<u64>>()
        };
        let (starts, healthy) = (starts(false), Healthy::Here(starts(true)));
        let columns = Arc::clone(&self.columns);
        Ok((
            Window { plan, blocks, starts, healthy, columns },
            damage.into_iter().flatten().collect(),
        ))
    }
}

/// A block that was read, and what of it cannot be.
type Loaded = (BlockRows, Option<Damage>);

/// Rows of a shard: from the log, else from its own footer.
async fn rows(shard: &Shard) -> Result<u64, SourceError> {
    if let Some(rows) = shard.rows {
        return Ok(rows);
    }
    match shard.footer().await {
        Ok(footer) => Ok(count(footer.metadata())),
        Err(Failure::Store(error)) => Err(error),
        Err(Failure::Damaged(error)) => Err(SourceError::Format {
            location: shard.location.url.clone(),
            message: format!(
                "{error}; the table's log does not say how many rows it has, so no order is known"
            ),
        }),
    }
}

/// The stored columns to read, and what is made of them.
fn chosen(schema: &Schema, names: Option<&[String]>) -> Result<(Vec<String>, Columns), ReadError> {
    let (sources, all) = restored(schema);
    let wanted: Vec<usize> = match names {
        None => (0..all.fields().len()).collect(),
        Some(names) => {
            let found = names.iter().map(|name| find(&all, name)).collect::<Result<Vec<_>, _>>()?;
            with_facts(&all, found)
        }
    };
    let (mut stored, mut places, mut fields) = (Vec::new(), Vec::new(), Vec::new());
    for at in wanted {
        let (Some(source), Some(field)) = (sources.get(at), all.fields().get(at)) else { continue };
        places.push(source.as_ref().map(|name: &String| {
            stored.iter().position(|other| other == name).unwrap_or_else(|| {
                stored.push(name.clone());
                stored.len() - 1
            })
        }));
        fields.push(given(field));
    }
    Ok((stored, Columns { stored: places, schema: Arc::new(Schema::new(fields)) }))
}

/// Plain samples mean nothing without the facts beside them.
fn with_facts(schema: &Schema, mut wanted: Vec<usize>) -> Vec<usize> {
    for at in wanted.clone() {
        let field = schema.fields().get(at).filter(|field| {
            media::is_media(field.data_type())
                && media::State::of(field) == Some(media::State::Decoded)
        });
        let facts =
            field.and_then(|field| Some(media::fact_fields(field.name(), Modality::of(field)?)));
        let places =
            facts.into_iter().flatten().filter_map(|fact| schema.index_of(fact.name()).ok());
        for place in places {
            if !wanted.contains(&place) {
                wanted.push(place);
            }
        }
    }
    wanted
}

fn find(schema: &Schema, name: &String) -> Result<usize, ReadError> {
    schema.index_of(name).map_err(|_| {
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let hint = match nearest(name, names()) {
            Some(near) => format!("is `{near}` meant?"),
            None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        ReadError::Options(format!("the table has no column `{name}`; {hint}"))
    })
}

/// The field as it is given: a dictionary's values, since a stream of batches has no use for one.
fn given(field: &Field) -> Field {
    let field = field.clone();
    match field.data_type().clone() {
        DataType::Dictionary(_, values) => field.with_data_type(*values),
        _ => field,
    }
}

/// The columns of which the log says that all their rows hold one number.
fn constants(stored: &Schema, files: &[Visible]) -> HashMap<String, i64> {
    let statistics: Option<Vec<Value>> = files
        .iter()
        .filter(|file| file.rows != Some(0))
        .map(|file| serde_json::from_str(file.statistics.as_ref()?).ok())
        .collect();
    let Some(statistics) = statistics else { return HashMap::new() };
    let one = |name: &str| {
        let numbers = statistics.iter().map(|of| {
            let number = |what: &str| of.get(what)?.get(name)?.as_i64();
            let (least, greatest) = (number("minValues")?, number("maxValues")?);
            (least == greatest && number("nullCount") == Some(0)).then_some(least)
        });
        let numbers: Option<Vec<i64>> = numbers.collect();
        let numbers = numbers?;
        let first = *numbers.first()?;
        numbers.iter().all(|number| *number == first).then_some(first)
    };
    let integers = stored.fields().iter().filter(|field| field.data_type().is_integer());
    integers.filter_map(|field| Some((field.name().clone(), one(field.name())?))).collect()
}
