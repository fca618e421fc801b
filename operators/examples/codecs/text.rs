//! Texts in pieces that can each be read alone, against the whole file compressed at once.
//!
//! Two layouts: pieces, block-sorted (`precompress-text.toml`), and paragraphs, each a frame of zstd with a dictionary
//! that all share (`text.toml`). Every byte in the folder of the table counts, the run log and the dictionary too.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use anabranch_operators::EncodeOptions;
use anabranch_pipelines::operator::{Allocation, Context};
use anabranch_pipelines::record::media;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::{Value, json};

use crate::data;
use crate::part::{Found, Part, Runs};
use crate::program::{bytes, run_job};

pub(crate) struct Text;

/// A text, and bytes of its pieces: the more it shrinks, the larger they may be.
struct File {
    name: &'static str,
    file: &'static str,
    piece: usize,
}

const FILES: [File; 2] = [
    File { name: "tinyshakespeare", file: "tinyshakespeare.txt", piece: 160 << 10 },
    File { name: "dickens", file: "dickens_first5MB.txt", piece: 184 << 10 },
];
/// The level of zstd that both are compared at.
const LEVEL: i32 = 19;
/// What reading one record may touch.
const TOUCHED: usize = 64 << 10;

impl Part for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn runs(&self) -> Vec<String> {
        FILES.iter().map(|file| file.name.to_owned()).collect()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        let file = FILES.iter().find(|file| file.name == run).ok_or("no such text")?;
        let whole = utf8(&std::fs::read(data().join("text").join(file.file))?);
        let at_once = zstd::bulk::compress(whole.as_bytes(), LEVEL)?.len();
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("text"))?;
        std::fs::write(folder.path().join("text").join(file.file), &whole)?;
        let data = folder.path().to_str().ok_or("a folder that is no text")?;
        let pieces = folder.path().join("pieces");
        let piece = format!("{}KiB", file.piece >> 10);
        run_job(
            "precompress-text.toml",
            &pieces,
            &[("data", data), ("files", file.file), ("piece", &piece)],
        )?;
        let paragraphs = folder.path().join("paragraphs");
        run_job("text.toml", &paragraphs, &[("data", data), ("files", file.file)])?;
        Ok(json!({
            "raw": whole.len(),
            "zstd19_file": at_once,
            "pieces": bytes(&pieces, |_| true)?,
            "largest_piece": largest(&whole, file.piece)?,
            "paragraphs": bytes(&paragraphs, |_| true)?,
        }))
    }

    fn near(&self, _: &str, recorded: f64, found: f64) -> bool {
        // Logs hold times and names of folders.
        (recorded - found).abs() <= 1e-3 * recorded
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let mut text = format!(
            "## Text\n\nBytes of whole tables, logs and dictionaries included, against the file compressed at once. A \
             piece is read alone; with its page index, reading it touches its own bytes and the footer of the shard, a \
             few KiB that are read once ({} KiB are allowed). A paragraph lies in one piece, seldom in two, which its \
             offset in the file names.\n\n| | bytes | zstd -{LEVEL} of the file | pieces, bzip2 | the largest piece | \
             times | paragraphs, zstd with a dictionary | times |\n|---|---|---|---|---|---|---|---|\n",
            TOUCHED >> 10
        );
        let (mut figures, mut least) = (BTreeMap::new(), f64::INFINITY);
        for File { name, .. } in FILES {
            let run = runs.get(name).ok_or("a text is missing")?;
            let of = |what: &str| run[what].as_f64().ok_or_else(|| format!("{name}: no {what}"));
            let (at_once, pieces, paragraphs) =
                (of("zstd19_file")?, of("pieces")?, of("paragraphs")?);
            let largest = of("largest_piece")?;
            let within = largest <= TOUCHED as f64;
            text += &format!(
                "| {name} | {} | {at_once} | {pieces} | {largest} | {:.3} | {paragraphs} | {:.3} |\n",
                of("raw")?,
                at_once / pieces,
                at_once / paragraphs
            );
            figures.insert(format!("text.vs_zstd19_file.{name}"), at_once / pieces);
            figures.insert(format!("text.largest_piece_kib.{name}"), largest / 1024.0);
            figures.insert(format!("text.paragraphs_vs_zstd19_file.{name}"), at_once / paragraphs);
            // What touches more is no answer.
            least = least.min(if within { at_once / pieces } else { 0.0 });
        }
        figures.insert("text.vs_zstd19_file".to_owned(), least);
        Ok(Found { figures, text })
    }
}

/// The text as UTF-8, which is what texts are here. Dickens has a few letters of DOS in it, of one byte: each becomes the
/// character of that number. Both sides compress the same.
fn utf8(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Bytes of the largest piece as the table stores it.
fn largest(whole: &str, piece: usize) -> Result<usize, Box<dyn Error>> {
    let (mut pieces, mut rest) = (Vec::new(), whole);
    while !rest.is_empty() {
        let (one, behind) = rest.split_at(rest.floor_char_boundary(piece));
        pieces.push(one);
        rest = behind;
    }
    let texts: ArrayRef = Arc::new(StringArray::from(pieces));
    let batch = RecordBatch::try_from_iter_with_nullable([("text", texts, true)])?;
    let options: EncodeOptions =
        serde_json::from_value(json!({ "column": "text", "codec": "bzip2" }))?;
    let stored = options.build()?.invoke(batch, &Allocation::PLAIN, &Context::plain())?.records;
    let column = media::of(&stored, "text").ok_or("no column of texts")?;
    let stored = media::bytes_array(column).ok_or("no bytes")?;
    Ok(stored.iter().flatten().map(<[u8]>::len).max().unwrap_or_default())
}
