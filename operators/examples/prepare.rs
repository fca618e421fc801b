//! Decodes, resizes and encodes a folder of pictures on one thread, and says what each step costs.
//!
//! `cargo run --release -p anabranch-operators --example prepare -- FOLDER [OUT]`

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::error::Error;
use std::time::{Duration, Instant};

use anabranch_operators::{DecodeOptions, EncodeOptions, ResizeOptions};
use anabranch_pipelines::operator::{Allocation, Context, Operator};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give a folder of pictures")?;
    let out = arguments.next();
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let steps: [Arc<dyn Operator>; 3] = [
        serde_json::from_str::<DecodeOptions>(r#"{"column": "image"}"#)?.build()?,
        serde_json::from_str::<ResizeOptions>(
            r#"{"column": "image", "width": 128, "height": 128}"#,
        )?
        .build()?,
        serde_json::from_str::<EncodeOptions>(
            r#"{"column": "image", "codec": "jpeg", "quality": 75}"#,
        )?
        .build()?,
    ];
    let mut taken = [Duration::ZERO; 3];
    let mut bytes = 0;
    for chunk in paths.chunks(16) {
        let files: Vec<Vec<u8>> = chunk.iter().map(std::fs::read).collect::<Result<_, _>>()?;
        let pictures = media::column(
            files.iter().map(|f| Some(f.as_slice())).collect(),
            chunk.iter().map(|p| p.to_str()).collect(),
        );
        let field = media::field("image", Modality::Image, media::State::Encoded);
        let mut batch =
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(pictures)])?;
        for (step, taken) in steps.iter().zip(&mut taken) {
            let begun = Instant::now();
            let outcome = step.invoke(batch, &Allocation::PLAIN, &Context::plain())?;
            *taken += begun.elapsed();
            if let Some(refused) = outcome.refused.first() {
                return Err(refused.error.clone().into());
            }
            batch = outcome.records;
        }
        let pictures = media::of(&batch, "image").ok_or("no pictures")?;
        for (row, path) in chunk.iter().enumerate() {
            let jpeg = media::bytes(pictures, row).ok_or("no bytes")?;
            bytes += jpeg.len();
            if let (Some(out), Some(name)) = (&out, path.file_stem()) {
                std::fs::write(format!("{out}/{}.jpg", name.to_string_lossy()), jpeg)?;
            }
        }
    }
    for (step, taken) in steps.iter().zip(taken) {
        println!(
            "{:8} {:8.1} us per picture",
            step.kind(),
            taken.as_secs_f64() * 1e6 / paths.len() as f64
        );
    }
    let total: Duration = taken.iter().sum();
    println!("{:.0} pictures per second, {bytes} bytes", paths.len() as f64 / total.as_secs_f64());
    Ok(())
}
