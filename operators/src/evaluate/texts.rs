//! Texts: what every level of their codecs stores of each.
//!
//! Nothing is lost of a text. What comes back is compared with it, byte for byte, so that its score is that of the
//! original; one that came back otherwise would count as one that the codec cannot hold.

use anabranch_pipelines::operator::OperatorError;
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
const ZSTD_DICTIONARY: &str = "zstd_dictionary";
/// Levels of the ladders, the smallest results first.
const ZSTD_LEVELS: [i32; 9] = [22, 19, 15, 12, 9, 7, 5, 3, 1];
const BZIP2_LEVELS: [u32; 9] = [9, 8, 7, 6, 5, 4, 3, 2, 1];

/// The most settings that there are.
pub(super) const SETTINGS: usize = 2 * ZSTD_LEVELS.len() + BZIP2_LEVELS.len();

/// The codecs of texts that are tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codecs {
    zstd: bool,
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
        let there = !dictionary.is_empty() && codecs.zstd;
        if there && zstd::zstd_safe::get_dict_id_from_dict(dictionary).is_none() {
            return Err(OperatorError::Failed("its decision is no zstd dictionary".to_owned()));
        }
        let mut all = Vec::new();
        let mut add = |codec, level: u32, method| {
            all.push(Level { codec, step: u16::try_from(level).unwrap_or(0), method });
        };
        for level in ZSTD_LEVELS.into_iter().filter(|_| there) {
            let dictionary = Some(EncoderDictionary::copy(dictionary, level));
            let method = Method::Zstd { level, dictionary };
            add(ZSTD_DICTIONARY, level.unsigned_abs(), method);
        }
        for level in ZSTD_LEVELS.into_iter().filter(|_| codecs.zstd) {
            add(ZSTD, level.unsigned_abs(), Method::Zstd { level, dictionary: None });
        }
        for level in BZIP2_LEVELS.into_iter().filter(|_| codecs.bzip2) {
            add(BZIP2, level, Method::Bzip2(Compression::new(level)));
        }
        Ok(Self { all, dictionary: there.then(|| DecoderDictionary::copy(dictionary)) })
    }

    /// What is needed to try them on the texts of a batch.
    ///
    /// # Errors
    /// When zstd cannot be set up.
    pub(super) fn trial(&self) -> Result<Trial<'_>, OperatorError> {
        let mut writers = Vec::with_capacity(self.all.len());
        for level in &self.all {
            writers.push((level, level.method.writer().map_err(failed)?));
        }
        let with = self.dictionary.as_ref().map(Decompressor::with_prepared_dictionary);
        Ok(Trial {
            writers,
            plain: Decompressor::new().map_err(failed)?,
            with_dictionary: with.transpose().map_err(failed)?,
            room: Vec::new(),
            text: Vec::new(),
        })
    }
}

/// Tries settings on texts, one after the other.
pub(super) struct Trial<'a> {
    writers: Vec<(&'a Level, Writer<'a>)>,
    plain: Decompressor<'static>,
    with_dictionary: Option<Decompressor<'a>>,
    /// Bytes as they are stored, and the text that comes back of them.
    room: Vec<u8>,
    text: Vec<u8>,
}

impl Trial<'_> {
    /// The points of a text whose original has this score.
    pub(super) fn points(&mut self, text: &str, score: Option<f64>, times: bool) -> Vec<Point> {
        let Self { writers, plain, with_dictionary, room, text: back } = self;
        let point = |(level, write): &mut (&Level, Writer<'_>)| {
            let mut point =
                Point { codec: level.codec, step: Some(level.step), ..Point::default() };
            room.clear();
            let start = thread_time();
            if write(text.as_bytes(), room).is_err() {
                return point;
            }
            let encoded = thread_time();
            let read = match (&level.method, with_dictionary.as_mut()) {
                (Method::Bzip2(_), _) => blocks::decode(room, &Limits::default()).map(|found| {
                    *back = found.into_bytes();
                }),
                (Method::Zstd { dictionary: Some(_), .. }, Some(with)) => frame(with, room, back),
                (Method::Zstd { .. }, _) => frame(plain, room, back),
            };
            let decoded = thread_time();
            if read.is_err() || back != text.as_bytes() {
                return point;
            }
            point.bytes = i64::try_from(room.len()).ok();
            point.score = score;
            if times {
                let took = [encoded.saturating_sub(start), decoded.saturating_sub(encoded)];
                point.seconds = took.map(|time| Some(time.as_secs_f64()));
            }
            point
        };
        writers.iter_mut().map(point).collect()
    }
}

/// Reads a frame of zstd into the room.
fn frame(with: &mut Decompressor<'_>, frame: &[u8], room: &mut Vec<u8>) -> Result<(), String> {
    room.clear();
    room.reserve(text::size(frame, &Limits::default())?);
    with.decompress_to_buffer(frame, room).map(|_| ()).map_err(|e| e.to_string())
}
