//! `anabranch read`: a table's records for a training loop, as one Arrow IPC stream on stdout or in shared memory.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anabranch_connectors::table::read::{Left, ReadError, ReadOptions, TableReader};
use anabranch_operators::Arrays;
use anabranch_pipelines::operator::Context;
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::store::StoreFetcher;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use clap::{Args, ValueEnum};

use self::batches::{Batches, Positions};
use self::make::Maker;
use self::report::Report;
#[cfg(target_os = "linux")]
use self::shared::Shared;
use self::stream::Stream;
use super::{Exit, Failure, tell};
use crate::terminal::plural;

mod batches;
mod make;
mod report;
mod room;
#[cfg(target_os = "linux")]
mod shared;
mod stream;

/// What to read of a table, and in which order.
#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    /// The table, as a path or URL.
    #[arg(value_name = "TABLE")]
    table: String,
    /// Shuffle the records, another way in every pass; the same seed is the same order.
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Records of a batch.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    batch: u64,
    /// The position to begin at: what the column `resume` said.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// The columns to read. Default: all.
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Decode pictures to pixels, sounds to samples, texts and tensors to what they were.
    #[arg(long, value_name = "COLOURS", num_args = 0..=1, require_equals = true, default_missing_value = "keep")]
    decode: Option<Colours>,
    /// Read every N-th batch only, beginning with the I-th of 0 to N-1: one of N workers that share the order.
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    worker: Worker,
    /// How often to read the table.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    passes: u64,
    /// The version of the table. Default: the newest; stderr says which that is.
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
    /// Stored bytes that are shuffled among one another. Up to two windows are held in memory.
    #[arg(long, value_name = "SIZE", default_value_t = ReadOptions::WINDOW)]
    window: ByteSize,
    /// Give batches in memory that is shared with the reader instead of in the pipe, which copies them (Linux): stdout
    /// says where each one is, and stdin takes a byte for each that is done with. `jobs/READING.md` has the Python.
    #[arg(long)]
    shared: bool,
    /// Write what was damaged, and what stood in for it, to FILE, one JSON object per line.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Colours of decoded pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colours {
    /// As they are stored.
    Keep,
    /// Red, green and blue.
    Rgb,
    /// One channel.
    Gray,
}

impl Colours {
    const fn mode(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Rgb => "rgb",
            Self::Gray => "gray",
        }
    }
}

/// One of several that share an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Worker {
    index: u64,
    of: u64,
}

impl FromStr for Worker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').map(|(index, of)| (index.parse(), of.parse()));
        match numbers {
            Some((Ok(index), Ok(of))) if index < of => Ok(Self { index, of }),
            Some((Ok(_), Ok(of))) if of > 0 => {
                Err(format!("the first of {of} is 0/{of}, the last {}/{of}", of - 1))
            }
            _ => Err("write it like 0/4, the first of four".to_owned()),
        }
    }
}

/// Reads a table to stdout.
pub(super) fn read(args: &ReadArgs, quiet: bool) -> Result<Exit, Failure> {
    let failed = |exit, message: String| {
        Failure::new(exit, format!("error: cannot read {}: {message}", args.table))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| failed(Exit::Failed, format!("cannot start I/O: {error}")))?;
    let options = ReadOptions {
        path: args.table.clone(),
        version: args.version,
        columns: args.columns.clone(),
        shuffle: args.shuffle,
        window: args.window,
    };
    let told = |error: ReadError| {
        let exit = if matches!(error, ReadError::Options(_)) { Exit::Usage } else { Exit::Failed };
        failed(exit, error.to_string())
    };
    let table = Arc::new(runtime.block_on(TableReader::open(options)).map_err(told)?);
    let positions = positions(args, table.rows()).map_err(|e| failed(Exit::Usage, e))?;
    let arrays = args.decode.map(|colours| {
        Arrays::new(table.schema(), colours.mode(), |column| table.constant(column))
    });
    let arrays = arrays.transpose().map_err(|e| failed(Exit::Usage, e.to_string()))?;
    let context =
        Context::new(Arc::new(StoreFetcher::new(runtime.handle().clone())), Arc::default());
    let maker = Maker::new(table.schema(), arrays, context);
    let maker = maker.map_err(|e| failed(Exit::Usage, e))?;
    let mut report = Report::create(args, &table).map_err(|e| failed(Exit::Failed, e))?;
    if !quiet {
        tell(&opened(args, &table, positions.end));
    }
    let done = || -> Result<(), String> {
        let batches =
            Batches::new(Arc::clone(&table), runtime.handle().clone(), positions, args.window);
        let mut stream = if args.shared { Out::shared(&maker)? } else { Out::pipe(&maker)? };
        let maker = Arc::new(maker.leaving_values(stream.places()));
        for made in make::all(&maker, batches) {
            let made = made?;
            report.add(&made.damage, &made.replaced)?;
            if !stream.write(&made.batch, &made.left)? {
                return Ok(());
            }
            report.reached(made.resume);
        }
        stream.finish().map(|_| ())
    };
    let done = done().and_then(|()| report.finish());
    // Whoever reads has gone: what is being read ahead is of no use to anybody.
    runtime.shutdown_background();
    done.map_err(|error| failed(Exit::Failed, error))?;
    if let Some(lost) = report.summary().filter(|_| !quiet) {
        tell(&lost);
    }
    Ok(Exit::Done)
}

/// Where batches go.
enum Out {
    Pipe(Stream),
    #[cfg(target_os = "linux")]
    Shared(Shared),
}

impl Out {
    fn pipe(maker: &Maker) -> Result<Self, String> {
        Stream::open(maker.schema()).map(Self::Pipe)
    }

    #[cfg(target_os = "linux")]
    fn shared(maker: &Maker) -> Result<Self, String> {
        Shared::open(maker.schema()).map(Self::Shared)
    }

    #[cfg(not(target_os = "linux"))]
    fn shared(_: &Maker) -> Result<Self, String> {
        Err("`--shared` is for Linux; leave it out, and read the stream on stdout".to_owned())
    }

    /// What is to stand in batches for large values, if they are written from where they were read.
    fn places(&self) -> Option<Buffer> {
        match self {
            Self::Pipe(_) => None,
            #[cfg(target_os = "linux")]
            Self::Shared(shared) => Some(shared.places()),
        }
    }

    /// Writes a batch, of which these values stand elsewhere; whether anybody still reads.
    fn write(&mut self, batch: &RecordBatch, left: &[Left]) -> Result<bool, String> {
        match self {
            Self::Pipe(stream) => stream.write(batch),
            #[cfg(target_os = "linux")]
            Self::Shared(shared) => shared.write(batch, left),
        }
    }

    fn finish(self) -> Result<bool, String> {
        match self {
            Self::Pipe(stream) => stream.finish(),
            #[cfg(target_os = "linux")]
            Self::Shared(shared) => shared.finish(),
        }
    }
}

/// What is being read, for a person.
fn opened(args: &ReadArgs, table: &TableReader, end: u64) -> String {
    let order = match args.shuffle {
        Some(seed) => format!("shuffled with seed {seed} in windows of {}", args.window),
        None => "in the order of the table".to_owned(),
    };
    format!(
        "reading version {} of {}: {} in {}, {order}, from position {} of {end}",
        table.version(),
        table.location(),
        plural(table.rows(), "row"),
        plural(table.shards() as u64, "shard"),
        args.from,
    )
}

/// Which positions are read.
fn positions(args: &ReadArgs, rows: u64) -> Result<Positions, String> {
    let end = rows.checked_mul(args.passes).filter(|end| *end < i64::MAX as u64);
    let end =
        end.ok_or_else(|| format!("`--passes {}` are too many to count its records", args.passes))?;
    if args.from > end {
        return Err(format!(
            "`--from {}` is behind position {end}, where {} {} over {} end{}",
            args.from,
            args.passes,
            if args.passes == 1 { "pass" } else { "passes" },
            plural(rows, "row"),
            if args.passes == 1 { "s" } else { "" },
        ));
    }
    let Worker { index, of } = args.worker;
    Ok(Positions { from: args.from, end, batch: args.batch, index, of })
}

/// What an error of writing says.
fn unwritten(error: &io::Error) -> String {
    format!("cannot write to stdout: {error}")
}
