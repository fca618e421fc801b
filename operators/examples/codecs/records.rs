//! Media as columns of a batch, for operators.

use std::error::Error;
use std::sync::Arc;

use anabranch_operators::codec::{Facts, Media};
use anabranch_pipelines::record::{Modality, media};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};

/// A batch of decoded columns, all pictures or all sounds.
pub(crate) fn batch(columns: &[(&str, Vec<Media<'_>>)]) -> Result<RecordBatch, Box<dyn Error>> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (name, records) in columns {
        let modality = match records.first().ok_or("no record")?.facts {
            Facts::Image { .. } => Modality::Image,
            Facts::Audio { .. } => Modality::Audio,
        };
        fields.push(media::field(name, modality, media::State::Decoded));
        fields.extend(media::fact_fields(name, modality));
        arrays.extend(arrays_of(records));
    }
    let fields: Vec<Field> = fields;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// The media, and the facts beside them in their order.
fn arrays_of(records: &[Media<'_>]) -> Vec<ArrayRef> {
    let bytes = records.iter().map(|record| Some(record.samples)).collect();
    let encodings = records.iter().map(|record| record.facts.encoding());
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(media::column(bytes, vec![None; records.len()])),
        Arc::new(encodings.map(Some).collect::<StringArray>()),
    ];
    let numbers: Vec<[i64; 3]> = records.iter().map(|record| numbers(record.facts)).collect();
    let of = |at: usize| numbers.iter().map(move |numbers| numbers.get(at).copied());
    for at in 0..2 {
        let small = of(at).map(|number| number.and_then(|number| i32::try_from(number).ok()));
        arrays.push(Arc::new(small.collect::<Int32Array>()));
    }
    arrays.push(match records.first().map(|record| record.facts) {
        Some(Facts::Audio { .. }) => Arc::new(of(2).collect::<Int64Array>()),
        _ => {
            Arc::new(of(2).map(|number| number.map(|number| number as i32)).collect::<Int32Array>())
        }
    });
    arrays
}

fn numbers(facts: Facts) -> [i64; 3] {
    match facts {
        Facts::Image { width, height, channels } => {
            [i64::from(width), i64::from(height), i64::from(channels)]
        }
        Facts::Audio { rate, channels, frames, .. } => {
            [i64::from(rate), i64::from(channels), i64::try_from(frames).unwrap_or(i64::MAX)]
        }
    }
}
