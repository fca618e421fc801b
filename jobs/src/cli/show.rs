//! `anabranch inspect TABLE --show N`: the first pictures and sounds of a table as files to look at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch_operators::DecodeOptions;
use anabranch_operators::codec::Pcm;
use anabranch_pipelines::operator::{Allocation, Context, Outcome};
use anabranch_pipelines::record::{Modality, media};
use anabranch_pipelines::source::{Source, SourceError};
use anabranch_pipelines::store::StoreFetcher;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, SchemaRef};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{Failure, plan, print, scan};
use crate::cli::Exit;
use crate::show::{Sheet, Tile, spectrogram};

/// Writes a sheet for each column of pictures or sounds below `folder`, and tells where.
pub(super) fn show(source: &dyn Source, records: usize, folder: &Path) -> Result<(), Failure> {
    let failed = |message: String| Failure::new(Exit::Failed, format!("error: {message}"));
    let (schema, batches) = plan::with_io(first(source, records))?
        .map_err(|error| failed(format!("cannot read the records to show: {error}")))?;
    let mut written = 0;
    for field in schema.fields() {
        let modality = Modality::of(field);
        if !matches!(modality, Some(Modality::Image | Modality::Audio)) {
            continue;
        }
        let mut sheet = Sheet::of(records);
        for batch in &batches {
            for tile in plan::with_io(tiles(batch.clone(), field.name().clone()))? {
                sheet.add(tile);
            }
        }
        let path = folder.join(format!("{}.png", field.name()));
        let png = sheet.png().map_err(|error| failed(error.to_string()))?;
        write(&path, &png).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        print(&format!(
            "\n{}: the first {records} records, {} in a row\n",
            path.display(),
            sheet.columns()
        ))?;
        written += 1;
    }
    if written == 0 {
        print("\nno column of pictures or sounds to show\n")?;
    }
    Ok(())
}

fn write(path: &PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

async fn first(
    source: &dyn Source,
    records: usize,
) -> Result<(SchemaRef, Vec<RecordBatch>), SourceError> {
    let schema = source.schema().await?;
    let (mut batches, mut left) = (Vec::new(), records);
    let mut opened = scan::open(source).await?;
    while left > 0
        && let Some(batch) = opened.next().await
    {
        let batch = batch?.records;
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        batches.push(batch);
    }
    Ok((schema, batches))
}

/// A tile for each record; an empty one where there is nothing to see.
async fn tiles(batch: RecordBatch, column: String) -> Vec<Tile> {
    let mut tiles = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let one = decoded(batch.slice(row, 1), column.clone()).await;
        tiles.push(one.and_then(|one| tile(&one, &column)).unwrap_or_else(Tile::empty));
    }
    tiles
}

async fn decoded(batch: RecordBatch, column: String) -> Option<RecordBatch> {
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

fn tile(one: &RecordBatch, column: &str) -> Option<Tile> {
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
    fn channels_are_averaged_at_full_scale() {
        let samples: Vec<u8> =
            [i16::MIN, i16::MIN, 16_384, 0].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(mono(Pcm::S16, 2, &samples), [-1.0, 0.25]);
    }
}
