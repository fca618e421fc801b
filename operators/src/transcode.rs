//! `kind = "transcode"`: any encoding of a media column to another one, in one step.
//!
//! Each record is decoded, so that a damaged one is refused, and encoded. The original is kept where it is
//! right already (the same lossless codec), and where encoding would make it larger.
//!
//! That holds of a codec that is chosen, `codec = { auto = .. }`, too: it was chosen as if nothing were kept, so that its
//! bound is that of the setting for all records. What is kept loses nothing, and gains nothing either. A record that `shadow` watches, which is to be
//! stored without loss, is transcoded like any other, only by a lossless codec: a PNG file stays as it is, and so does a
//! JPEG file that is smaller than a lossless one of what it shows; with `if_larger = "replace"` it becomes that. Its loss
//! is that of what it would have become otherwise: none where its original would have been kept. Of a record that
//! `protect` protects the better setting is taken, and then the original where that is no larger.
//!
//! ```
//! use anabranch_operators::TranscodeOptions;
//! use anabranch_pipelines::graph::SchemaError;
//! use anabranch_pipelines::record::{Modality, media};
//! use arrow::datatypes::Schema;
//!
//! let options: TranscodeOptions = serde_json::from_value(serde_json::json!({
//!     "column": "image", "codec": "webp", "quality": 80
//! }))?;
//! let transcode = options.build()?;
//! let field = media::field("image", Modality::Image, media::State::Encoded);
//! let output = transcode.output(&[Schema::new(vec![field]).into()])?;
//! assert!(output.field_with_name("image_encoding").is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::record::media;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::auto::{Acting, Auto, AutoOptions, Choosing, CodecOption, Storing};
use crate::codec::{Codec, Limits, Media, Setting};
use crate::decode;
use crate::derived::Derived;
use crate::original::{self, Original};
use crate::rewrite::{self, Column, Expected, Rewritten};

/// Options of `kind = "transcode"`: stored pictures and sounds get another encoding, where it is worth it.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TranscodeOptions {
    /// The media column, encoded.
    pub column: String,
    /// Pictures: `"jpeg"`, `"png"`, `"webp"` or `"qoi"`. Sounds: `"wav"`, `"flac"` or `"opus"`. Or the cheapest
    /// setting whose loss on a task is small enough, as of `encode`: `{ auto = "classify", .. }`. It is chosen from
    /// records whose bytes are there; references are not followed for that.
    pub codec: CodecOption,
    /// 1 to 100, for `"jpeg"` and `"webp"`; 75 unless said otherwise. WebP is lossless at 100.
    pub quality: Option<u16>,
    /// 6 to 510 kilobits per second, for `"opus"`; its own choice for the rate and channels unless said
    /// otherwise.
    pub bitrate: Option<u16>,
    /// Colours of pictures: `"rgb"`, `"gray"`, or `"keep"` as stored. One whose colours change is never kept.
    #[serde(default = "decode::keep")]
    pub mode: String,
    /// What becomes of a record that would grow: `"keep"` its original, or `"replace"` it all the same, for
    /// those who need one encoding everywhere.
    #[serde(default = "decode::keep")]
    pub if_larger: String,
    /// What decoding one record may take at most.
    #[serde(default)]
    pub limits: Limits,
    /// With `if_larger = "replace"`: encoded bytes per stored byte that are planned for.
    #[serde(default = "decode::growth")]
    pub growth: f64,
}

impl TranscodeOptions {
    /// The operator.
    ///
    /// # Errors
    /// When there is no such codec, or an option is out of range.
    pub fn build(self) -> Result<Arc<dyn Operator>, OptionsError> {
        decode::check(&self.mode, self.growth)?;
        let replace = match self.if_larger.as_str() {
            "keep" => false,
            "replace" => true,
            other => {
                let message = format!("`if_larger = {other:?}`: it is \"keep\" or \"replace\"");
                return Err(OptionsError(message));
            }
        };
        match self.codec.named() {
            Ok(name) => {
                let setting = Setting::new(name, self.quality, self.bitrate, &[])?;
                Ok(Arc::new(Transcode::new(self, setting, replace)))
            }
            Err(auto) => {
                let auto = auto.clone();
                self.choose(auto, replace)
            }
        }
    }

    /// The operator that chooses its codec first.
    fn choose(
        mut self,
        auto: AutoOptions,
        replace: bool,
    ) -> Result<Arc<dyn Operator>, OptionsError> {
        if self.quality.is_some() || self.bitrate.is_some() {
            let message = "with `codec = { auto = .. }` the setting is chosen: leave `quality` and `bitrate` out";
            return Err(OptionsError(message.to_owned()));
        }
        let auto = Auto::new(auto)?;
        self.codec = CodecOption::Auto(Box::new(auto.options().clone()));
        let options = serde_json::to_value(&self).unwrap_or_default();
        let (like, modality) = (self.clone(), auto.modality());
        let decoded = move |batch: &RecordBatch, row: usize, samples: &mut Vec<u8>| {
            let column = Column::of(batch, &like.column, modality);
            let (start, bytes) = (samples.len(), column.bytes(row)?);
            let facts = decode::one(&column, bytes, row, (modality, &like.limits), samples);
            let (facts, _) = facts.inspect_err(|_| samples.truncate(start)).ok()?;
            Some(decode::recolour(facts, start, &like.mode, samples))
        };
        let with = move |acting: Acting| {
            let transcode = Transcode::new(self.clone(), acting.setting(), replace);
            Arc::new(Transcode { acting: Some(acting), ..transcode }) as Arc<dyn Operator>
        };
        Ok(Arc::new(Choosing::new(auto, options, Box::new(decoded), Box::new(with))))
    }
}

struct Transcode {
    setting: Setting,
    /// Where the setting was chosen: what else was decided.
    acting: Option<Acting>,
    replace: bool,
    options: TranscodeOptions,
    /// That of its output, and the one before losses are added to it.
    schema: Derived<[SchemaRef; 2]>,
    bytes: Expected,
}

impl Transcode {
    fn new(options: TranscodeOptions, setting: Setting, replace: bool) -> Self {
        let (schema, bytes) = (Derived::default(), Expected::default());
        Self { setting, acting: None, replace, options, schema, bytes }
    }

    /// Appends what becomes of the record in row `row`. `samples` is room to decode it into; `storing` is there where
    /// the setting was chosen.
    fn transcode(
        &self,
        (column, row): (&Column<'_>, usize),
        came: &[u8],
        storing: Option<&mut Storing<'_>>,
        samples: &mut Vec<u8>,
        bytes: &mut Vec<u8>,
    ) -> Result<Rewritten, String> {
        let modality = self.setting.codec.modality();
        samples.clear();
        let (stored, codec) =
            decode::one(column, came, row, (modality, &self.options.limits), samples)?;
        let facts = decode::recolour(stored, 0, &self.options.mode, samples);
        let encoding = codec.map_or(stored.encoding(), Codec::name);
        // One whose colours changed is another picture.
        let original = Original { bytes: came, encoding, smaller: !self.replace };
        let original = Some(original).filter(|_| facts == stored);
        let media = Media { samples, facts };
        match storing {
            Some(storing) => storing.store(row, &media, original, bytes),
            None => {
                let encoding = original::store(self.setting, &media, original, bytes)?;
                Ok(Rewritten { encoding, facts: Some(facts) })
            }
        }
    }
}

impl Operator for Transcode {
    fn kind(&self) -> &'static str {
        "transcode"
    }

    fn options(&self) -> serde_json::Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        let [input] = inputs else {
            return Err(SchemaError::Mismatch("transcode reads one input".into()));
        };
        let (column, modality) = (&self.options.column, self.setting.codec.modality());
        SchemaError::require_media(input, column, modality, Some(media::State::Encoded))?;
        let output = rewrite::schema(input, column, modality, media::State::Encoded);
        match &self.acting {
            Some(acting) => acting.output(output, column),
            None => Ok(output),
        }
    }

    fn growth(&self) -> Growth {
        let grows = self.replace || self.options.mode != "keep";
        Growth { factor: if grows { self.options.growth } else { 1.0 }, per_record: 4096 }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        context: &Context,
    ) -> Result<Outcome, OperatorError> {
        let (name, modality) = (&self.options.column, self.setting.codec.modality());
        let input = batch.schema();
        let [schema, rewritten] = self.schema.of(&input, || {
            let output = self.output(&[Arc::clone(&input)])?;
            let rewritten = rewrite::schema(&input, name, modality, media::State::Encoded);
            Ok::<_, SchemaError>([output, rewritten])
        })?;
        let fetched = decode::fetch(&batch, name, &self.options.limits, context)?;
        let column = Column::of(&batch, name, modality);
        let mut storing = self.acting.as_ref().map(|of| of.storing(&batch)).transpose()?;
        let mut samples = Vec::new();
        let transcode = |row: usize, bytes: &mut Vec<u8>| {
            let Some(came) = decode::stored(&column, &fetched, row)? else { return Ok(None) };
            self.transcode((&column, row), came, storing.as_mut(), &mut samples, bytes).map(Some)
        };
        let outcome = rewrite::column(&batch, name, modality, &rewritten, &self.bytes, transcode)?;
        match storing {
            Some(storing) => storing.finish(outcome, name, &schema),
            None => Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Pcm};
    use crate::conformance::codec::Example;
    use anabranch_pipelines::record::Modality;
    use arrow::array::AsArray;
    use arrow::datatypes::Schema;

    fn encoded(codec: &str, step: Option<u16>, example: &Example) -> Vec<u8> {
        let mut bytes = Vec::new();
        let media = Media { samples: &example.samples, facts: example.facts };
        codec::named(codec).unwrap().encode(&media, step, &mut bytes).unwrap();
        bytes
    }

    /// What becomes of these files, and what it is called.
    fn transcoded(json: &str, modality: Modality, files: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
        let column = media::column(
            files.iter().map(|f| Some(f.as_slice())).collect(),
            vec![None; files.len()],
        );
        let field = media::field("media", modality, media::State::Encoded);
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column)]);
        let options: TranscodeOptions = serde_json::from_str(json).unwrap();
        let outcome =
            options.build().unwrap().invoke(batch.unwrap(), &Allocation::PLAIN, &Context::plain());
        let outcome = outcome.unwrap();
        assert_eq!(outcome.refused, []);
        let media = media::of(&outcome.records, "media").unwrap();
        let names = outcome.records.column_by_name("media_encoding").unwrap().as_string::<i32>();
        let rows = 0..files.len();
        rows.map(|row| (names.value(row).to_owned(), media::bytes(media, row).unwrap().to_vec()))
            .collect()
    }

    #[test]
    fn originals_are_kept_where_they_are_right_or_smaller() {
        let picture = Example::picture(64, 48, 3);
        let files = [("png", None), ("jpeg", Some(30)), ("jpeg", Some(95)), ("webp", Some(100))]
            .map(|(codec, step)| encoded(codec, step, &picture));
        let options = r#"{ "column": "media", "codec": "jpeg", "quality": 80 }"#;
        let after = transcoded(options, Modality::Image, &files);
        for ((name, bytes), file) in after.iter().zip(&files) {
            assert!(bytes == file || name == "jpeg", "{name}");
            assert!(bytes.len() <= file.len());
        }
        // What was coarser already is not made larger, and what was finer shrinks.
        assert_eq!(after[1].1, files[1]);
        assert!(after[2].1.len() < files[2].len());
        let lossless = r#"{ "column": "media", "codec": "png", "if_larger": "replace" }"#;
        let after = transcoded(lossless, Modality::Image, &files);
        assert!(after.iter().all(|(name, _)| name == "png"));
        assert_eq!(after[0].1, files[0]);
    }

    #[test]
    fn colours_change_and_sounds_become_smaller() {
        let files = [encoded("jpeg", Some(10), &Example::picture(64, 48, 3))];
        let options = r#"{ "column": "media", "codec": "png", "mode": "gray" }"#;
        assert_eq!(transcoded(options, Modality::Image, &files)[0].0, "png");
        let files = [encoded("wav", None, &Example::sound(Pcm::S16, 1, 8000))];
        let options = r#"{ "column": "media", "codec": "opus", "bitrate": 16 }"#;
        let [(name, bytes)] = &transcoded(options, Modality::Audio, &files)[..] else { panic!() };
        assert!(name == "opus" && bytes.len() * 4 < files[0].len(), "{}", bytes.len());
    }

    #[test]
    fn options_that_make_no_operator() {
        for (options, told) in [
            (r#"{ "column": "a", "codec": "jpeg", "if_larger": "drop" }"#, "if_larger"),
            (r#"{ "column": "a", "codec": "mp3" }"#, "only one that decodes"),
            (r#"{ "column": "a", "codec": "jpeg", "mode": "cmyk" }"#, "mode"),
        ] {
            let options: TranscodeOptions = serde_json::from_str(options).unwrap();
            let Err(OptionsError(error)) = options.build() else { panic!("{told}") };
            assert!(error.contains(told), "{error}");
        }
    }
}
