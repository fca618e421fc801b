//! `codec = "bzip2"`: long texts, sorted block by block (Burrows and Wheeler, DEC SRC report 124, 1994).
//!
//! Of prose it makes less than zstd does at its highest level, since it sees what follows each character anywhere in the
//! block. So a file in pieces of 160 KiB, each of which can be read alone, takes no more than the file compressed at
//! once with zstd. Short texts are better off with zstd and its dictionary: a block sorts what it has. Every record is a
//! stream that `bunzip2` and the standard library of Python read.

use std::io::{self, Read};
use std::sync::Arc;

use anabranch_pipelines::operator::Operator;
use bzip2::Compression;
use bzip2::read::{BzDecoder, BzEncoder};

use super::{Compress, Method};
use crate::codec::Limits;
use crate::{EncodeOptions, OptionsError};

/// The codec's name.
pub(crate) const BZIP2: &str = "bzip2";
/// Hundreds of kilobytes that are sorted at once.
const LEVEL: u32 = 9;

/// The operator for these options.
pub(crate) fn compress(options: EncodeOptions) -> Result<Arc<dyn Operator>, OptionsError> {
    if options.dictionary.is_some() {
        return Err(OptionsError(format!("`{BZIP2}` has no `dictionary`; \"zstd\" has")));
    }
    let level = options.level.map_or(Ok(LEVEL), u32::try_from);
    match level {
        Ok(level @ 1..=9) => {
            Ok(Arc::new(Compress::new(options, Method::Bzip2(Compression::new(level)))))
        }
        _ => {
            let level = options.level.unwrap_or_default();
            Err(OptionsError(format!("`level = {level}`: for `{BZIP2}` it is 1 to 9")))
        }
    }
}

/// Adds a text to bytes, as a stream.
pub(super) fn write(text: &[u8], level: Compression, bytes: &mut Vec<u8>) -> io::Result<()> {
    BzEncoder::new(text, level).read_to_end(bytes).map(|_| ())
}

/// Whether bytes begin like a stream.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    matches!(bytes, [b'B', b'Z', b'h', b'1'..=b'9', ..])
}

/// The text of a stream. It does not say how long it is, so that it is read no further than the limit.
pub(crate) fn decode(stream: &[u8], limits: &Limits) -> Result<String, String> {
    let mut text = Vec::new();
    let mut reader = BzDecoder::new(stream).take(limits.bytes.0.saturating_add(1));
    let read = reader.read_to_end(&mut text);
    read.map_err(|e| format!("not a whole bzip2 stream: {e}"))?;
    if text.len() as u64 > limits.bytes.0 {
        return Err(format!(
            "it holds more than the limit of {}; raise `limits` if that is no mistake",
            limits.bytes
        ));
    }
    String::from_utf8(text).map_err(|e| format!("it is no text: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecodeOptions;
    use anabranch_pipelines::operator::{Allocation, Context, Outcome};
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use proptest::prelude::*;

    fn operator(more: &str) -> Result<Arc<dyn Operator>, OptionsError> {
        let options = format!(r#"{{"column": "text", "codec": "bzip2"{more}}}"#);
        serde_json::from_str::<EncodeOptions>(&options).unwrap().build()
    }

    fn batch(texts: &[Option<&str>]) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("text", texts, true)]).unwrap()
    }

    fn there(batch: RecordBatch) -> RecordBatch {
        let outcome = operator("").unwrap().invoke(batch, &Allocation::PLAIN, &Context::plain());
        outcome.unwrap().records
    }

    fn back(batch: RecordBatch, more: &str) -> Outcome {
        let options = format!(r#"{{"column": "text"{more}}}"#);
        let decode = serde_json::from_str::<DecodeOptions>(&options).unwrap().build().unwrap();
        decode.invoke(batch, &Allocation::PLAIN, &Context::plain()).unwrap()
    }

    #[test]
    fn one_byte_nothing_and_null_come_back() {
        let input = batch(&[Some("a"), None, Some(""), Some("Grüße")]);
        assert_eq!(back(there(input.clone()), "").records.column(0), input.column(0));
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_refused() {
        let long = "a".repeat(1 << 20);
        let small = there(batch(&[Some(&long), Some("short")]));
        let outcome = back(small, r#", "limits": { "bytes": "64KiB" }"#);
        assert_eq!((outcome.records.num_rows(), outcome.refused.len()), (1, 1));
        assert!(outcome.refused[0].error.contains("limit of 64"), "{}", outcome.refused[0].error);
    }

    #[test]
    fn damage_is_told_and_never_a_text() {
        let text = "It was the best of times, it was the worst of times. ".repeat(20);
        let mut whole = Vec::new();
        BzEncoder::new(text.as_bytes(), Compression::best()).read_to_end(&mut whole).unwrap();
        let limits = Limits::default();
        assert_eq!(decode(&whole, &limits).as_deref(), Ok(text.as_str()));
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut], &limits).is_err() || cut == 0, "cut at {cut}");
        }
        for at in 4..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(decode(&damaged, &limits).map_or(true, |found| found == text), "byte {at}");
        }
    }

    #[test]
    fn options_of_others_are_told() {
        let told = |more| operator(more).err().map(|error| error.0).unwrap();
        assert!(told(r#", "level": 10"#).contains("1 to 9"));
        assert!(told(r#", "level": -1"#).contains("1 to 9"));
        assert!(told(r#", "dictionary": "1KiB""#).contains("\"zstd\" has"));
        assert!(told(r#", "quality": 5"#).contains("has no `quality`"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_comes_back(text in "(\\PC{0,40}){0,10}") {
            let input = batch(&[Some(&text)]);
            let output = back(there(input.clone()), "").records;
            prop_assert_eq!(output.column(0), input.column(0));
        }
    }
}
