//! `anabranch inspect TABLE --show N`: the first pictures and sounds of a table as files to look at.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_operators::DecodeOptions;
use anabranch_operators::codec::Pcm;
use anabranch_pipelines::operator::{Allocation, Context, Outcome};
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::{Source, SourceBatch, SourceError};
use anabranch_pipelines::store::StoreFetcher;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Int32Type};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::scan::Lost;
use super::{Failure, plan, print, scan};
use crate::cli::Exit;
use crate::show::{Sheet, Tile, spectrogram};

/// Characters of a file's name, at most.
const LONGEST: usize = 100;

/// Writes a sheet for each column of pictures or sounds below `folder`, and tells where. Gives what of the first
/// records cannot be read.
///
/// Records are drawn as they are read: in memory are one batch of them and the sheets.
pub(super) fn show(source: &dyn Source, records: usize, folder: &Path) -> Result<Lost, Failure> {
    let failed = |message: String| Failure::new(Exit::Failed, format!("error: {message}"));
    let (sheets, lost) = plan::with_io(drawn(source, records))?
        .map_err(|error| failed(format!("cannot read the records to show: {error}")))?;
    let mut taken = HashSet::new();
    for (column, sheet) in &sheets {
        let path = folder.join(file_name(column, &mut taken));
        let png = sheet.png().map_err(|error| failed(error.to_string()))?;
        write(&path, &png).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        print(&format!(
            "\n{}: the first {records} records, {} in a row\n",
            path.display(),
            sheet.columns()
        ))?;
    }
    if sheets.is_empty() {
        print("\nno column of pictures or sounds to show\n")?;
    }
    Ok(lost)
}

/// A name for a column's file, which no other has: a table may come from anybody, and its columns may be called
/// like a path.
fn file_name(column: &str, taken: &mut HashSet<String>) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_ .".contains(c) { c } else { '_' };
    let name: String = column.chars().map(plain).take(LONGEST).collect();
    let name = match name.trim_start_matches('.') {
        "" => "column",
        name => name,
    };
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    // File systems that ignore case have one file for both.
    let free = names.find(|name| taken.insert(name.to_lowercase())).unwrap_or_default();
    format!("{free}.png")
}

fn write(path: &PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

/// Sheets by column, and what cannot be read.
async fn drawn(
    source: &dyn Source,
    records: usize,
) -> Result<(Vec<(String, Sheet)>, Lost), SourceError> {
    let schema = source.schema().await?;
    let drawable =
        |field: &Field| matches!(Modality::of(field), Some(Modality::Image | Modality::Audio));
    let columns = schema.fields().iter().filter(|field| drawable(field));
    let mut sheets: Vec<(String, Sheet)> =
        columns.map(|field| (field.name().clone(), Sheet::of(records))).collect();
    let (mut lost, mut left) = (Lost::default(), if sheets.is_empty() { 0 } else { records });
    let mut opened = scan::open(source).await?;
    while left > 0
        && let Some(batch) = opened.next().await
    {
        let SourceBatch { records: batch, refused } = batch?;
        lost.add(&refused);
        for row in 0..batch.num_rows().min(left) {
            for (column, sheet) in &mut sheets {
                let one = decoded(batch.slice(row, 1), column.clone()).await;
                // Nothing to see, or it does not decode: an empty tile.
                let tile = one.and_then(|one| tile(&one, column)).unwrap_or_else(Tile::empty);
                sheet.add(&tile);
            }
        }
        left -= batch.num_rows().min(left);
    }
    Ok((sheets, lost))
}

/// A record with its column decoded; `None` when it does not decode.
pub(super) async fn decoded(batch: RecordBatch, column: String) -> Option<RecordBatch> {
    let options = serde_json::json!({ "column": column });
    let decode = serde_json::from_value::<DecodeOptions>(options).ok()?.build().ok()?;
    let field = batch.schema().field_with_name(&column).ok()?.clone();
    if media::State::of(&field) == Some(media::State::Decoded) {
        return Some(batch);
    }
    let context = Context::new(Arc::new(StoreFetcher::new(Handle::current())), Arc::default());
    let decoded = move || decode.invoke(batch, &Allocation::PLAIN, &context);
    let Outcome { records, refused } = tokio::task::spawn_blocking(decoded).await.ok()?.ok()?;
    (refused.is_empty() && records.num_rows() == 1).then_some(records)
}

/// The picture of a decoded record, or of its sound.
pub(super) fn tile(one: &RecordBatch, column: &str) -> Option<Tile> {
    let samples = media::bytes(media::of(one, column)?, 0)?;
    let number = |fact: &str| {
        let facts = one.column_by_name(&format!("{column}_{fact}"))?;
        let facts = facts.as_primitive_opt::<Int32Type>()?;
        facts.is_valid(0).then(|| facts.value(0)).and_then(|number| u32::try_from(number).ok())
    };
    let channels = u8::try_from(number("channels")?).ok()?;
    if let (Some(width), Some(height)) = (number("width"), number("height")) {
        return Tile::image(width, height, channels, samples);
    }
    let encodings = one.column_by_name(&format!("{column}_encoding"))?;
    let format = Pcm::named(encodings.as_string_opt::<i32>()?.value(0))?;
    Some(spectrogram(&mono(format, channels.into(), samples)))
}

/// The mean of the channels, between -1 and 1.
fn mono(format: Pcm, channels: usize, samples: &[u8]) -> Vec<f32> {
    let all = format.floats(samples);
    let frames = all.chunks_exact(channels.max(1));
    frames.map(|frame| frame.iter().sum::<f32>() / frame.len() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_called_like_paths_stay_in_the_folder() {
        let mut taken = HashSet::new();
        let mut name = |column: &str| file_name(column, &mut taken);
        for (column, file) in [
            ("image", "image.png"),
            ("Image", "Image-2.png"),
            ("../../etc/x", "_.._etc_x.png"),
            ("/root/.profile", "_root_.profile.png"),
            ("..", "column.png"),
            ("", "column-2.png"),
            ("a\\b\0c", "a_b_c.png"),
            ("a_b_c", "a_b_c-2.png"),
        ] {
            assert_eq!(name(column), file, "{column:?}");
        }
        assert!(name(&"x".repeat(5000)).len() < 128);
    }

    #[test]
    fn channels_are_averaged_at_full_scale() {
        let samples: Vec<u8> =
            [i16::MIN, i16::MIN, 16_384, 0].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(mono(Pcm::S16, 2, &samples), [-1.0, 0.25]);
    }
}
