//! Finds the codecs that records of latents name.

use std::collections::HashMap;
use std::sync::OnceLock;

use anabranch_models::latent::{Header, Name, digits};
use anabranch_pipelines::operator::{Context, OperatorError};
use anabranch_pipelines::record::{Reference, media};
use anabranch_pipelines::store::Location;
use arrow::datatypes::Field;

use crate::auto::decision::latent_file;
use crate::codec::Latent;

/// Bytes of a codec's file, at most.
pub(super) const LARGEST: u64 = 64 << 20;

/// Codecs by what records call them, read when the first record of latents comes.
#[derive(Default)]
pub(crate) struct Artifacts {
    read: OnceLock<HashMap<Name, Latent>>,
}

impl Artifacts {
    /// The codecs in these files or, where none are given, in those that the column names. There, decisions of other
    /// operators stand beside them.
    pub(crate) fn get(
        &self,
        files: &[String],
        column: Option<&Field>,
        context: &Context,
    ) -> Result<&HashMap<Name, Latent>, OperatorError> {
        if let Some(read) = self.read.get() {
            return Ok(read);
        }
        let mut read = HashMap::new();
        let named = column.and_then(|column| column.metadata().get(media::DICTIONARIES_KEY));
        let named = named.filter(|_| files.is_empty()).map_or("", String::as_str);
        for file in files.iter().map(String::as_str).chain(named.lines()) {
            let bytes = fetch(file, context)?;
            // A choice of codecs holds the file of the one that it took.
            let held = latent_file(&bytes);
            match Latent::from_bytes(held.as_deref().unwrap_or(&bytes)) {
                Ok(codec) => {
                    read.insert(codec.name_in_records(), codec);
                }
                Err(_) if files.is_empty() => {}
                Err(error) => return Err(failed(file, &error)),
            }
        }
        Ok(self.read.get_or_init(|| read))
    }
}

/// The codec of a record.
pub(crate) fn of<'a>(
    record: &[u8],
    codecs: &'a HashMap<Name, Latent>,
) -> Result<&'a Latent, String> {
    let (header, _) = Header::parse(record).map_err(|e| e.to_string())?;
    codecs.get(&header.codec).ok_or_else(|| {
        format!(
            "it needs the latent codec {}, a file whose SHA-256 begins with these digits, which is none of \
             the {} that were found; name it in `codecs`: the `artifact` that the records were encoded with or, \
             if it was learned or chosen, `_anabranch/runs/RUN/decisions/OPERATOR` of the run that wrote them",
            digits(header.codec),
            codecs.len()
        )
    })
}

/// Reads the file of a codec.
pub(super) fn fetch(file: &str, context: &Context) -> Result<bytes::Bytes, OperatorError> {
    let uri = Location::parse(file).map_err(|e| failed(file, &e))?.url;
    let fetched = context.fetch(&[Reference { uri, range: None }], LARGEST).pop();
    fetched.ok_or_else(|| failed(file, &"it was not read"))?.map_err(|e| failed(file, &e))
}

fn failed(file: &str, error: &dyn std::fmt::Display) -> OperatorError {
    OperatorError::Failed(format!("the latent codec `{file}`: {error}"))
}
