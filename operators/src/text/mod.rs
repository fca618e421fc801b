//! Texts compressed one by one with zstd, with a dictionary trained on the first of them.
//!
//! Each text is a frame of its own, so any record is read without its neighbours. The dictionary is the
//! operator's decision, byte for byte as zstd takes it, and stands once in the run log of the run that
//! wrote the table: `_anabranch/runs/RUN/decisions/OPERATOR`. A frame names the dictionary that it needs by
//! number; `decode` finds the files by the source of tables, or is given them (`dictionaries = [..]`), as any
//! other zstd is (`zstd -D FILE`).
//! Long texts, such as pieces of a file, are smaller as [`blocks`], which need no dictionary.
//!
//! Where the first texts are too few for a dictionary to help, the decision is empty and frames need none.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use anabranch_pipelines::graph::SchemaError;
use anabranch_pipelines::operator::{
    Allocation, Context, Growth, Journaled, Operator, OperatorError, Outcome,
};
use anabranch_pipelines::quantity::ByteSize;
use anabranch_pipelines::record::{Modality, Reference, media};
use anabranch_pipelines::source::BatchSize;
use anabranch_pipelines::store::Location;
use arrow::array::{Array, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe;

use crate::codec::Limits;
use crate::derived::Derived;
use crate::rewrite::{self, Column, Expected, Rewritten};
use crate::{EncodeOptions, OptionsError, utf8};

pub(crate) mod blocks;

/// The codec's name.
pub(crate) const ZSTD: &str = "zstd";

pub(crate) const LEVEL: i32 = 9;
const DICTIONARY: ByteSize = ByteSize(64 << 10);
/// Bytes of texts for each byte of a dictionary; with fewer it learns them by heart.
const SAMPLE_PER_BYTE: usize = 8;
/// Bytes of a dictionary that is read, at most.
const LARGEST_DICTIONARY: u64 = 64 << 20;
const LEAST_DICTIONARY: usize = 1 << 10;

/// The operator for these options.
pub(crate) fn compress(options: EncodeOptions) -> Result<Arc<dyn Operator>, OptionsError> {
    let level = options.level.unwrap_or(LEVEL);
    if !(1..=22).contains(&level) {
        return Err(OptionsError(format!("`level = {level}`: it is 1 to 22")));
    }
    let dictionary = options.dictionary.unwrap_or(DICTIONARY).as_usize();
    let compress = Compress::new(options, Method::Zstd { level, dictionary: None });
    Ok(match dictionary {
        0 => Arc::new(compress),
        largest => Arc::new(Train { compress, level, largest }),
    })
}

/// How texts are compressed.
pub(crate) enum Method {
    Zstd { level: i32, dictionary: Option<EncoderDictionary<'static>> },
    Bzip2(bzip2::Compression),
}

/// Adds a text to bytes, compressed.
pub(crate) type Writer<'a> = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> io::Result<()> + 'a>;

impl Method {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Zstd { .. } => ZSTD,
            Self::Bzip2(_) => blocks::BZIP2,
        }
    }

    pub(crate) fn writer(&self) -> io::Result<Writer<'_>> {
        let mut compressor = match self {
            Self::Bzip2(level) => {
                return Ok(Box::new(|text, bytes| blocks::write(text, *level, bytes)));
            }
            Self::Zstd { dictionary: Some(dictionary), .. } => {
                Compressor::with_prepared_dictionary(dictionary)?
            }
            Self::Zstd { level, dictionary: None } => Compressor::new(*level)?,
        };
        let mut frame = Vec::new();
        Ok(Box::new(move |text, bytes| {
            frame.clear();
            frame.reserve(zstd_safe::compress_bound(text.len()));
            compressor.compress_to_buffer(text, &mut frame)?;
            bytes.extend_from_slice(&frame);
            Ok(())
        }))
    }
}

/// Compresses texts, as decided.
struct Compress {
    options: EncodeOptions,
    method: Method,
    schema: Derived<SchemaRef>,
    bytes: Expected,
}

impl Compress {
    fn new(options: EncodeOptions, method: Method) -> Self {
        let (schema, bytes) = (Derived::default(), Expected::default());
        Self { options, method, schema, bytes }
    }
}

impl Operator for Compress {
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
        utf8::require(input, column, &format!("`{}` compresses texts", self.method.name()))?;
        Ok(rewrite::schema(input, column, Modality::Text, media::State::Encoded))
    }

    fn growth(&self) -> Growth {
        let per_record = match self.method {
            // What does not compress is stored as it is, in a frame.
            Method::Zstd { .. } => 192,
            // Or grows by a hundredth, and six hundred bytes (the library's manual, section 3.5.1).
            Method::Bzip2(_) => 768,
        };
        Growth { factor: 1.01, per_record }
    }

    fn invoke(
        &self,
        batch: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        let input = batch.schema();
        let schema = self.schema.of(&input, || self.output(&[Arc::clone(&input)]))?;
        let texts = utf8::of(&batch, &self.options.column)?;
        let mut write = self.method.writer().map_err(failed)?;
        let column = &self.options.column;
        rewrite::column(&batch, column, Modality::Text, &schema, &self.bytes, |row, bytes| {
            if texts.is_null(row) {
                return Ok(None);
            }
            write(texts.value(row).as_bytes(), bytes).map_err(|e| e.to_string())?;
            Ok(Some(Rewritten { encoding: self.method.name(), facts: None }))
        })
    }
}

/// Trains a dictionary on the first texts, once for the run.
struct Train {
    compress: Compress,
    level: i32,
    largest: usize,
}

impl Operator for Train {
    fn kind(&self) -> &'static str {
        self.compress.kind()
    }

    fn options(&self) -> serde_json::Value {
        self.compress.options()
    }

    fn output(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, SchemaError> {
        self.compress.output(inputs)
    }

    fn growth(&self) -> Growth {
        self.compress.growth()
    }

    fn invoke(
        &self,
        _: RecordBatch,
        _: &Allocation,
        _: &Context,
    ) -> Result<Outcome, OperatorError> {
        Err(OperatorError::Failed("its dictionary was not decided on yet".to_owned()))
    }

    fn journaled(&self) -> Option<&dyn Journaled> {
        Some(self)
    }
}

impl Journaled for Train {
    fn sample(&self) -> BatchSize {
        sample(self.largest)
    }

    fn decide(&self, sample: &[RecordBatch]) -> Result<Vec<u8>, OperatorError> {
        let mut texts: Vec<&[u8]> = Vec::new();
        for batch in sample {
            texts.extend(
                utf8::of(batch, &self.compress.options.column)?.iter().flatten().map(str::as_bytes),
            );
        }
        trained(&texts, self.largest, self.level)
    }

    fn decided(&self, decision: &[u8]) -> Result<Arc<dyn Operator>, OperatorError> {
        let (options, level) = (&self.compress.options, self.level);
        let dictionary = match decision {
            [] => None,
            bytes if zstd_safe::get_dict_id_from_dict(bytes).is_none() => {
                return Err(OperatorError::Failed("its decision is no zstd dictionary".to_owned()));
            }
            bytes => Some(EncoderDictionary::copy(bytes, level)),
        };
        Ok(Arc::new(Compress::new(options.clone(), Method::Zstd { level, dictionary })))
    }
}

/// What a dictionary of so many bytes is trained on, at most.
pub(crate) fn sample(largest: usize) -> BatchSize {
    // A hundred times the dictionary is what its authors recommend.
    BatchSize { records: 16_384, bytes: largest.saturating_mul(100) }
}

/// A dictionary for texts like these; nothing when none makes them smaller.
pub(crate) fn trained(
    texts: &[&[u8]],
    largest: usize,
    level: i32,
) -> Result<Vec<u8>, OperatorError> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let size = largest.min(bytes / SAMPLE_PER_BYTE);
    if size < LEAST_DICTIONARY {
        return Ok(Vec::new());
    }
    // Texts that are all alike, or too few, train no dictionary; that is no failure.
    let Ok(dictionary) = zstd::dict::from_samples(texts, size) else {
        return Ok(Vec::new());
    };
    let total = |mut compressor: Compressor<'_>| {
        let sizes = texts.iter().map(|text| Ok(compressor.compress(text)?.len()));
        sizes.sum::<io::Result<usize>>().map_err(failed)
    };
    let without = total(Compressor::new(level).map_err(failed)?)?;
    let with = total(Compressor::with_dictionary(level, &dictionary).map_err(failed)?)?;
    Ok(if with < without { dictionary } else { Vec::new() })
}

pub(crate) fn failed(error: io::Error) -> OperatorError {
    OperatorError::Failed(format!("zstd: {error}"))
}

/// Dictionaries by number, read when the first batch comes.
#[derive(Default)]
pub(crate) struct Dictionaries {
    read: OnceLock<HashMap<u32, DecoderDictionary<'static>>>,
}

impl Dictionaries {
    /// The dictionaries in these files or, where none are given, in those that the column names. There,
    /// decisions of other operators stand beside them.
    pub(crate) fn get(
        &self,
        files: &[String],
        column: Option<&Field>,
        context: &Context,
    ) -> Result<&HashMap<u32, DecoderDictionary<'static>>, OperatorError> {
        if let Some(read) = self.read.get() {
            return Ok(read);
        }
        let fail = |file: &str, e: &dyn std::fmt::Display| {
            OperatorError::Failed(format!("the dictionary `{file}`: {e}"))
        };
        let mut read = HashMap::new();
        let named = column.and_then(|column| column.metadata().get(media::DICTIONARIES_KEY));
        let named = named.filter(|_| files.is_empty()).map_or("", String::as_str);
        for file in files.iter().map(String::as_str).chain(named.lines()) {
            let uri = Location::parse(file).map_err(|e| fail(file, &e))?.url;
            for bytes in context.fetch(&[Reference { uri, range: None }], LARGEST_DICTIONARY) {
                let bytes = bytes.map_err(|e| fail(file, &e))?;
                // A run that decided for none leaves an empty file.
                if bytes.is_empty() {
                    continue;
                }
                match zstd_safe::get_dict_id_from_dict(&bytes) {
                    Some(number) => {
                        read.insert(number.get(), DecoderDictionary::copy(&bytes));
                    }
                    None if files.is_empty() => {}
                    None => return Err(fail(file, &"it is no zstd dictionary")),
                }
            }
        }
        Ok(self.read.get_or_init(|| read))
    }
}

/// The schema with the column as text again, without the column that named its encoding.
pub(crate) fn decoded_schema(input: &SchemaRef, column: &str) -> SchemaRef {
    let encoding = format!("{column}_encoding");
    let text = Modality::Text.mark(Field::new(column, DataType::Utf8, true));
    let fields = input.fields().iter().filter(|field| field.name() != &encoding);
    let fields: Vec<Arc<Field>> = fields
        .map(|field| match field.name() == column {
            true => Arc::new(text.clone()),
            false => Arc::clone(field),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The texts of a compressed column.
pub(crate) fn decode(
    batch: &RecordBatch,
    name: &str,
    schema: &SchemaRef,
    dictionaries: &HashMap<u32, DecoderDictionary<'static>>,
    limits: &Limits,
) -> Result<Outcome, OperatorError> {
    let column = Column::of(batch, name, Modality::Text);
    let mut decompressor = Decompressor::new().map_err(failed)?;
    let mut dictionary = None;
    let mut text = Vec::new();
    let mut texts = StringBuilder::new();
    let mut outcome = Outcome::keeping(batch, |row| {
        let Some(frame) = column.bytes(row) else {
            texts.append_null();
            return Ok(());
        };
        if blocks::recognises(frame) {
            texts.append_value(blocks::decode(frame, limits)?);
            return Ok(());
        }
        let size = size(frame, limits)?;
        let needed = zstd_safe::get_dict_id_from_frame(frame).map(|number| number.get());
        if needed != dictionary {
            let none = [];
            match needed {
                Some(number) => {
                    let found = dictionaries.get(&number).ok_or_else(|| missing(number))?;
                    decompressor.set_prepared_dictionary(found)
                }
                None => decompressor.set_dictionary(&none),
            }
            .map_err(|e| e.to_string())?;
            dictionary = needed;
        }
        text.clear();
        text.reserve(size);
        decompressor
            .decompress_to_buffer(frame, &mut text)
            .map_err(|e| format!("not a whole zstd frame: {e}"))?;
        texts.append_value(std::str::from_utf8(&text).map_err(|e| format!("it is no text: {e}"))?);
        Ok(())
    })?;
    let texts: arrow::array::ArrayRef = Arc::new(texts.finish());
    let replaced = HashMap::from([(name.to_owned(), texts)]);
    outcome.records = rewrite::replace(&outcome.records, schema, &replaced)?;
    Ok(outcome)
}

/// The size that a frame declares, if it is within the limits.
pub(crate) fn size(frame: &[u8], limits: &Limits) -> Result<usize, String> {
    let size = zstd_safe::get_frame_content_size(frame).map_err(|_| "it is no zstd frame")?;
    let size = size.ok_or("its zstd frame does not say how large it is")?;
    match usize::try_from(size) {
        Ok(bytes) if size <= limits.bytes.0 => Ok(bytes),
        _ => Err(format!(
            "it declares {size} bytes of text, more than the limit of {}; raise `limits` if that is no mistake",
            limits.bytes
        )),
    }
}

fn missing(number: u32) -> String {
    format!(
        "it needs dictionary {number}, which is in none of the `dictionaries`; name the file \
         `_anabranch/runs/RUN/decisions/OPERATOR` of the run that wrote it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_pipelines::operator::{Class, FetchError, Fetcher};
    use arrow::array::{ArrayRef, StringArray};
    use bytes::Bytes;

    fn captions(count: usize) -> RecordBatch {
        let colours = ["red", "green", "blue", "white", "violet"];
        let things = ["bicycle", "harbour", "lighthouse", "meadow", "tram", "orchard", "kitchen"];
        let text = |at: usize| {
            let colour = colours[at % colours.len()];
            let thing = things[(at * 13 + at / 7) % things.len()];
            format!("A photograph of a {colour} {thing} taken in the afternoon, number {at}.")
        };
        let texts: StringArray = (0..count).map(|at| (at % 50 != 7).then(|| text(at))).collect();
        RecordBatch::try_from_iter_with_nullable([("caption", Arc::new(texts) as ArrayRef, true)])
            .unwrap()
    }

    fn operator(more: &str) -> Arc<dyn Operator> {
        let options = format!(r#"{{"column": "caption", "codec": "zstd"{more}}}"#);
        serde_json::from_str::<EncodeOptions>(&options).unwrap().build().unwrap()
    }

    /// A store that holds one dictionary, whatever it is asked for.
    struct Shelf(Vec<u8>);

    impl Fetcher for Shelf {
        fn fetch(&self, references: &[Reference], _: u64) -> Vec<Result<Bytes, FetchError>> {
            references.iter().map(|_| Ok(Bytes::from(self.0.clone()))).collect()
        }
    }

    fn decode(batch: RecordBatch, dictionaries: &str, shelf: Vec<u8>) -> Outcome {
        let options = format!(r#"{{"column": "caption", "dictionaries": {dictionaries}}}"#);
        let decode = serde_json::from_str::<crate::DecodeOptions>(&options).unwrap();
        let context = Context::new(Arc::new(Shelf(shelf)), Arc::default());
        decode.build().unwrap().invoke(batch, &Allocation::PLAIN, &context).unwrap()
    }

    fn size_of(batch: &RecordBatch) -> usize {
        let column = media::of(batch, "caption").unwrap();
        media::bytes_array(column).unwrap().value_data().len()
    }

    #[test]
    fn a_trained_dictionary_shrinks_texts_and_brings_them_back() {
        let (batch, plain) = (captions(3000), Context::plain());
        let train = operator("");
        assert_eq!(train.class(), Class::Journaled);
        let decision = train.journaled().unwrap().decide(std::slice::from_ref(&batch)).unwrap();
        assert!(!decision.is_empty());
        let decided = train.journaled().unwrap().decided(&decision).unwrap();
        let small = decided.invoke(batch.clone(), &Allocation::PLAIN, &plain).unwrap().records;
        let large = operator(r#", "dictionary": "0B""#);
        assert_eq!(large.class(), Class::Pure);
        let large = large.invoke(batch.clone(), &Allocation::PLAIN, &plain).unwrap().records;
        assert!(size_of(&small) * 2 < size_of(&large), "{} {}", size_of(&small), size_of(&large));
        for (records, dictionaries) in [(small.clone(), r#"["memory://a/d"]"#), (large, "[]")] {
            let back = decode(records, dictionaries, decision.clone());
            assert!(back.refused.is_empty());
            assert_eq!(back.records.column(0), batch.column(0));
            assert_eq!(back.records.num_columns(), 1);
        }
        // Without the option, the column may name them.
        let mut fields: Vec<Field> =
            small.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        let mut metadata = fields[0].metadata().clone();
        metadata.insert(media::DICTIONARIES_KEY.to_owned(), "memory://a/d".to_owned());
        fields[0] = fields[0].clone().with_metadata(metadata);
        let named = Arc::new(Schema::new(fields));
        let named = RecordBatch::try_new(named, small.columns().to_vec()).unwrap();
        let back = decode(named.clone(), "[]", decision.clone());
        assert_eq!(back.records.column(0), batch.column(0));
        assert!(back.records.schema().field(0).metadata().get(media::DICTIONARIES_KEY).is_none());
        let other = decode(named, "[]", b"another operator's decision".to_vec());
        assert_eq!(other.records.num_rows(), 60);
        let lost = decode(small, "[]", Vec::new());
        assert_eq!(lost.records.num_rows(), 60);
        assert!(lost.refused[0].error.contains("decisions/OPERATOR"), "{}", lost.refused[0].error);
    }

    #[test]
    fn few_texts_train_no_dictionary() {
        let train = operator("");
        for sample in [vec![], vec![captions(0)], vec![captions(9)]] {
            assert_eq!(train.journaled().unwrap().decide(&sample).unwrap(), Vec::<u8>::new());
        }
        assert!(train.journaled().unwrap().decided(b"no dictionary").is_err());
    }

    #[test]
    fn damaged_frames_and_bombs_are_refused() {
        let bomb = zstd::bulk::compress(&vec![b'a'; 1 << 20], 3).unwrap();
        let latin = zstd::bulk::compress(b"caf\xe9", 3).unwrap();
        let whole = zstd::bulk::compress("café".as_bytes(), 3).unwrap();
        let mut frames: Vec<Option<&[u8]>> = vec![Some(&bomb), Some(&latin), Some(b"text"), None];
        frames.extend((0..whole.len()).map(|keep| Some(&whole[..keep])));
        frames.push(Some(&whole));
        let column = media::column(frames.clone(), vec![None; frames.len()]);
        let field = media::field("caption", Modality::Text, media::State::Encoded);
        let encoding = Field::new("caption_encoding", DataType::Utf8, true);
        let schema = Arc::new(Schema::new(vec![field, encoding]));
        let encodings: StringArray = frames.iter().map(|frame| frame.map(|_| ZSTD)).collect();
        let batch =
            RecordBatch::try_new(schema, vec![Arc::new(column), Arc::new(encodings)]).unwrap();
        let options = r#"{"column": "caption", "limits": {"bytes": "1KiB"}}"#;
        let decode =
            serde_json::from_str::<crate::DecodeOptions>(options).unwrap().build().unwrap();
        let outcome = decode.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap();
        assert_eq!(outcome.records.num_rows(), 2);
        assert_eq!(outcome.refused.len(), frames.len() - 2);
        assert!(outcome.refused[0].error.contains("limit"));
    }
}
