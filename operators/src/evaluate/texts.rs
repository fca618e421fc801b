//! Texts: what every level of their codecs stores of each.
//!
//! Nothing is lost of a text. What comes back is compared with it, byte for byte, so that its score is that of the
//! original; one that came back otherwise would count as one that the codec cannot hold.

use anabranch_pipelines::operator::{Context, OperatorError};
use anabranch_pipelines::quantity::ByteSize;
use bzip2::Compression;
use zstd::bulk::Decompressor;
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use super::point::Point;
use crate::OptionsError;
use crate::codec::Limits;
use crate::round_trip::thread_time;
use crate::text::blocks::{self, BZIP2};
use crate::text::{self, Method, Writer, ZSTD, failed};

/// What `zstd` is called when it has a dictionary.
pub(super) const ZSTD_DICTIONARY: &str = "zstd_dictionary";
/// Levels of the ladders, the smallest results first. Those of zstd beyond 19 take memory like nothing else in a run.
const ZSTD_LEVELS: [u16; 9] = [19, 17, 15, 12, 9, 7, 5, 3, 1];
const BZIP2_LEVELS: [u16; 9] = [9, 8, 7, 6, 5, 4, 3, 2, 1];

/// The most settings that there are.
pub(super) const SETTINGS: usize = 2 * ZSTD_LEVELS.len() + BZIP2_LEVELS.len();

/// Whether points of this codec are of texts.
pub(super) fn is_of_texts(codec: &str) -> bool {
    [ZSTD, ZSTD_DICTIONARY, BZIP2].contains(&codec)
}

/// The codecs of texts that are tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codecs {
    pub(super) zstd: bool,
    bzip2: bool,
}

impl Codecs {
    /// Those of these names, or all of them.
    ///
    /// # Errors
    /// When one is for no text.
    pub(super) fn named(names: Option<&[String]>) -> Result<Self, OptionsError> {
        let Some(names) = names else { return Ok(Self { zstd: true, bzip2: true }) };
        if let Some(other) = names.iter().find(|name| ![ZSTD, BZIP2].contains(&name.as_str())) {
            let message = format!(
                "`codecs` names {other:?}, which is for no text; there are \"{ZSTD}\" and \"{BZIP2}\""
            );
            return Err(OptionsError(message));
        }
        let has = |codec: &str| names.iter().any(|name| name == codec);
        Ok(Self { zstd: has(ZSTD), bzip2: has(BZIP2) })
    }
}

/// A codec at a level.
struct Level {
    codec: &'static str,
    step: u16,
    method: Method,
}

/// The settings, ready to be used.
pub(super) struct Levels {
    all: Vec<Level>,
    dictionary: Option<DecoderDictionary<'static>>,
}

impl Levels {
    /// With `dictionary`, as it was decided, zstd is tried with it and without.
    ///
    /// # Errors
    /// When the dictionary is none.
    pub(super) fn new(codecs: Codecs, dictionary: &[u8]) -> Result<Self, OperatorError> {
        let there = !dictionary.is_empty();
        if there && zstd::zstd_safe::get_dict_id_from_dict(dictionary).is_none() {
            return Err(OperatorError::Failed("its decision is no zstd dictionary".to_owned()));
        }
        let mut all = Vec::new();
        let mut add = |codec, step, method| all.push(Level { codec, step, method });
        for step in ZSTD_LEVELS.into_iter().filter(|_| there) {
            let level = i32::from(step);
            let dictionary = Some(EncoderDictionary::copy(dictionary, level));
            add(ZSTD_DICTIONARY, step, Method::Zstd { level, dictionary });
        }
        for step in ZSTD_LEVELS.into_iter().filter(|_| codecs.zstd) {
            add(ZSTD, step, Method::Zstd { level: step.into(), dictionary: None });
        }
        for step in BZIP2_LEVELS.into_iter().filter(|_| codecs.bzip2) {
            add(BZIP2, step, Method::Bzip2(Compression::new(step.into())));
        }
        Ok(Self { all, dictionary: there.then(|| DecoderDictionary::copy(dictionary)) })
    }

    /// The points of each text, given the scores of originals. One level goes over all texts before the next, so that
    /// there is one encoder at a time: at high levels each takes megabytes.
    ///
    /// # Errors
    /// When zstd cannot be set up, or the run was cancelled.
    pub(super) fn points(
        &self,
        texts: &[(&str, Option<f64>)],
        times: bool,
        context: &Context,
    ) -> Result<Vec<Vec<Point>>, OperatorError> {
        let mut points: Vec<Vec<Point>> = texts.iter().map(|_| Vec::new()).collect();
        let mut room = Room::default();
        for level in &self.all {
            let mut write = level.method.writer().map_err(failed)?;
            let mut reader = match (&level.method, &self.dictionary) {
                (Method::Zstd { dictionary: Some(_), .. }, Some(dictionary)) => {
                    Decompressor::with_prepared_dictionary(dictionary)
                }
                _ => Decompressor::new(),
            }
            .map_err(failed)?;
            for ((text, score), points) in texts.iter().zip(&mut points) {
                context.check_cancelled()?;
                let mut point =
                    Point { codec: level.codec, step: Some(level.step), ..Point::default() };
                if let Some(took) = room.go(text, level, &mut write, &mut reader) {
                    point.bytes = i64::try_from(room.stored.len()).ok();
                    point.score = *score;
                    point.seconds = took.map(|seconds| Some(seconds).filter(|_| times));
                }
                points.push(point);
            }
        }
        Ok(points)
    }
}

/// Bytes as they are stored, and the text that comes back of them.
#[derive(Default)]
struct Room {
    stored: Vec<u8>,
    back: Vec<u8>,
}

impl Room {
    /// Seconds of encoding and of decoding; `None` when the text does not come back.
    fn go(
        &mut self,
        text: &str,
        level: &Level,
        write: &mut Writer<'_>,
        reader: &mut Decompressor<'_>,
    ) -> Option<[f64; 2]> {
        // It is in memory already.
        let limits = Limits { bytes: ByteSize(u64::MAX - 1), ..Limits::default() };
        let Self { stored, back } = self;
        stored.clear();
        back.clear();
        let start = thread_time();
        write(text.as_bytes(), stored).ok()?;
        let encoded = thread_time();
        let same = match level.method {
            Method::Bzip2(_) => blocks::decode(stored, &limits).ok()? == text,
            Method::Zstd { .. } => {
                back.reserve(text::size(stored, &limits).ok()?);
                reader.decompress_to_buffer(stored.as_slice(), back).ok()?;
                std::str::from_utf8(back).ok()? == text
            }
        };
        let decoded = thread_time();
        let took = [encoded.saturating_sub(start), decoded.saturating_sub(encoded)];
        same.then(|| took.map(|time| time.as_secs_f64()))
    }
}
