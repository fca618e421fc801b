//! `kind = "encode"`: decoded media, texts and lists of numbers to a codec's bytes.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, media};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::auto::{Acting, Auto, AutoOptions, Choosing, CodecOption};
use crate::codec::{self, LATENT, RAW, Setting};
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::text::blocks::{self, BZIP2};
use crate::{LatentLearning, latent, tensor, text};

/// Options of `kind = "encode"`: samples or values are stored with a codec.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodeOptions {
    /// The column: decoded media, a text, or lists of numbers.
    pub column: String,
    /// Pictures: `"jpeg"`, `"png"`, `"webp"`, `"qoi"` or `"raw"`. Sounds: `"wav"`, `"flac"`, `"opus"`, `"raw"`, or
    /// `"opus_packets"`, which saves short ones the headers of a file. Either: `"latent"`, which is learned. Texts:
    /// `"zstd"`, or `"bzip2"` for long ones. Lists of numbers: `"pco"`. Or the cheapest
    /// setting whose loss on a task is small enough: `{ auto = "classify", model = "..", label = "label", max_loss = "1%", confidence = 0.95 }`.
    pub codec: CodecOption,
    /// 1 to 100, for `"jpeg"` and `"webp"`; 75 unless said otherwise. WebP is lossless at 100.
    pub quality: Option<u16>,
    /// 6 to 510 kilobits per second, for `"opus"` and `"opus_packets"`; its own choice for the rate and channels unless said
    /// otherwise.
    pub bitrate: Option<u16>,
    /// 1 to 22, for `"zstd"`, and 1 to 9, for `"bzip2"`; 9 unless said otherwise.
    pub level: Option<i32>,
    /// The largest dictionary that `"zstd"` may train on the first texts; `"64KiB"` unless said otherwise, none
    /// when `"0B"`.
    #[schemars(with = "Option<String>")]
    pub dictionary: Option<ByteSize>,
    /// The file of a codec, as a path or URL, for `"latent"`. Without it the codec is learned from the first records.
    pub artifact: Option<String>,
    /// The SHA-256 of the artifact. That of a local one is taken when the job starts; one behind a URL needs it.
    pub sha256: Option<String>,
    /// Channels of latents that are stored, the most energetic first, for `"latent"`; all of the codec's unless said
    /// otherwise.
    pub channels: Option<u16>,
    /// How the codec is learned, for `"latent"` without an artifact.
    pub learn: Option<LatentLearning>,
}

impl EncodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, or an option is not one of this codec's.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        let name = match self.codec.named() {
            Ok(name) => name.to_owned(),
            Err(auto) => {
                let auto = auto.clone();
                return self.choose(auto);
            }
        };
        let of_texts = [text::ZSTD, BZIP2].contains(&name.as_str());
        if !of_texts && (self.level.is_some() || self.dictionary.is_some()) {
            let message = "`level` and `dictionary` are options of the codec \"zstd\"";
            return Err(OptionsError(message.to_owned()));
        }
        let lossless = |codec: &str| match (self.quality, self.bitrate) {
            (Some(_), _) => Err(codec::no_such(codec, "quality", None)),
            (_, Some(_)) => Err(codec::no_such(codec, "bitrate", None)),
            _ => Ok(()),
        };
        let latent = self.artifact.is_some() || self.sha256.is_some() || self.channels.is_some();
        if name != LATENT && (latent || self.learn.is_some()) {
            let message =
                "`artifact`, `sha256`, `channels` and `learn` are options of the codec \"latent\"";
            return Err(OptionsError(message.to_owned()));
        }
        match name.as_str() {
            LATENT => {
                lossless(LATENT)?;
                latent::encode(self)
            }
            text::ZSTD => {
                lossless(text::ZSTD)?;
                text::compress(self)
            }
            BZIP2 => {
                lossless(BZIP2)?;
                blocks::compress(self)
            }
            tensor::PCO => {
                lossless(tensor::PCO)?;
                Ok(tensor::compress(self))
            }
            RAW => {
                lossless(RAW)?;
                Ok(Arc::new(Store { options: self, schema: Derived::default() }))
            }
            name => {
                let others = [RAW, LATENT, text::ZSTD, BZIP2, tensor::PCO];
                let setting = Setting::new(name, self.quality, self.bitrate, &others)?;
                Ok(Arc::new(Encode::new(self, setting)))
            }
        }
    }

    /// The operator that chooses its codec first.
    fn choose(mut self, auto: AutoOptions) -> Result<Arc<dyn Operator>, OptionsError> {
        let Self { quality, bitrate, level, dictionary, artifact, sha256, channels, learn, .. } =
            &self;
        let of_ordinary =
            quality.is_some() || bitrate.is_some() || level.is_some() || dictionary.is_some();
        let of_latent =
            artifact.is_some() || sha256.is_some() || channels.is_some() || learn.is_some();
        if of_ordinary || of_latent {
            let message = "with `codec = { auto = .. }` the setting is chosen: leave the options of codecs out (a latent \
                           codec takes part by `codec = { auto = .., latent = { artifact = \"..\" } }`)";
            return Err(OptionsError(message.to_owned()));
        }
        let auto = Auto::new(auto)?;
        self.codec = CodecOption::Auto(Box::new(auto.options().clone()));
        let options = serde_json::to_value(&self).unwrap_or_default();
        let (column, modality) = (self.column.clone(), auto.modality());
        let decoded = move |batch: &RecordBatch, row: usize, samples: &mut Vec<u8>| {
            let media = Column::of(batch, &column, modality).samples(row).ok()??;
            samples.extend_from_slice(media.samples);
            Some(media.facts)
        };
        let with = move |acting: Acting| {
            let encode = Encode::new(self.clone(), acting.setting());
            Arc::new(Encode { acting: Some(acting), ..encode }) as Arc<dyn Operator>
        };
        Ok(Arc::new(Choosing::new(auto, options, Box::new(decoded), Box::new(with))))
    }
}

struct Encode {
    setting: Setting,
    /// Where the setting was chosen: what else was decided.
    acting: Option<Acting>,
    options: EncodeOptions,
    /// That of its output, and the one before losses are added to it.
    schema: Derived<[SchemaRef; 2]>,
    bytes: Expected,
}

impl Encode {
    fn new(options: EncodeOptions, setting: Setting) -> Self {
        let (schema, bytes) = (Derived::default(), Expected::default());
        Self { setting, acting: None, options, schema, bytes }
    }
}

impl Operator for Encode {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("encode reads one input".into()));
        };
        let (column, modality) = (&self.options.column, self.setting.codec.modality());
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
        let output = rewrite::schema(input, column, modality, media::State::Encoded);
        match &self.acting {
            Some(acting) => acting.output(output, column),
            None => Ok(output),
        }
    }

    fn growth(&self) -> Growth {
        if self.options.codec.named().is_err_and(|auto| auto.latent.is_some()) {
            return latent::GROWTH;
        }
        // Noise does not compress; what a codec adds to it is small.
        Growth { factor: 1.25, per_record: 4096 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let (column, modality) = (&self.options.column, self.setting.codec.modality());
        let input = batch.schema();
        let [schema, encoded] = self.schema.of(&input, || {
            let output = self.output(&[Arc::clone(&input)])?;
            let encoded = rewrite::schema(&input, column, modality, media::State::Encoded);
            Ok::<_, SchemaError>([output, encoded])
        })?;
        let media = Column::of(&batch, column, modality);
        if let Some(acting) = &self.acting {
            let mut storing = acting.storing(&batch)?;
            let store = |row: usize, bytes: &mut Vec<u8>| match media.samples(row)? {
                Some(media) => storing.store(row, &media, None, bytes).map(Some),
                None => Ok(None),
            };
            let outcome = rewrite::column(&batch, column, modality, &encoded, &self.bytes, store)?;
            return storing.finish(outcome, column, &schema);
        }
        rewrite::column(&batch, column, modality, &schema, &self.bytes, |row, bytes| {
            let Some(media) = media.samples(row)? else { return Ok(None) };
            self.setting.encode(&media, bytes).map_err(|e| e.to_string())?;
            Ok(Some(Rewritten { encoding: self.setting.codec.name(), facts: Some(media.facts) }))
        })
    }
}

/// `codec = "raw"`: keeps the samples as the stored form.
struct Store {
    options: EncodeOptions,
    schema: Derived<SchemaRef>,
}

impl Operator for Store {
    fn kind(&self) -> &'static str {
        "encode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("encode reads one input".into()));
        };
        let column = &self.options.column;
        let field = SchemaError::require(input, column)?;
        let modality = Modality::of(field).filter(|modality| *modality == Modality::Audio);
        let modality = modality.unwrap_or(Modality::Image);
        SchemaError::require_media(input, column, modality, Some(media::State::Decoded))?;
        Ok(rewrite::schema(input, column, modality, media::State::Encoded))
    }

    fn growth(&self) -> Growth {
        Growth::NONE
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        Ok(Outcome::all(rewrite::replace(&batch, &schema, &HashMap::new())?))
    }
}
