//! The bytes that a record came in, which may stay as they are.

use crate::codec::{Media, Setting};

/// The bytes that a record came in, if they still hold what it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) encoding: &'static str,
    /// Whether they stay where an encoding is no smaller.
    pub(crate) smaller: bool,
}

impl Original<'_> {
    /// Whether they are what a setting makes already: those of the same lossless codec.
    fn is(&self, setting: Setting) -> bool {
        setting.lossless() && self.encoding == setting.codec.name()
    }

    /// Whether they stay, where a setting made so many bytes of the record.
    pub(crate) fn stays(&self, setting: Setting, encoded: usize) -> bool {
        self.is(setting) || (self.smaller && encoded >= self.bytes.len())
    }
}

/// Appends a record as a setting stores it, or its original where that stays, and names the encoding.
///
/// # Errors
/// When the codec cannot hold the record, as a sentence.
pub(crate) fn store(
    setting: Setting,
    media: &Media<'_>,
    original: Option<Original<'_>>,
    bytes: &mut Vec<u8>,
) -> Result<&'static str, String> {
    let start = bytes.len();
    if original.is_none_or(|original| !original.is(setting)) {
        setting.encode(media, bytes).map_err(|e| e.to_string())?;
    }
    match original.filter(|original| original.stays(setting, bytes.len() - start)) {
        Some(original) => {
            bytes.truncate(start);
            bytes.extend_from_slice(original.bytes);
            Ok(original.encoding)
        }
        None => Ok(setting.codec.name()),
    }
}
