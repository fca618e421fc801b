//! The spoken digits of FSDD: `{digit}_{speaker}_{index}.wav` in a tar archive.

use std::error::Error;
use std::io::Read;

use anabranch_operators::codec::{self, Facts, Limits, Media};

use crate::data;

/// A recording.
pub(crate) struct Recording {
    pub(crate) speaker: String,
    pub(crate) digit: u32,
    /// Bytes of its WAV file.
    pub(crate) wav: usize,
    pub(crate) samples: Vec<u8>,
    pub(crate) facts: Facts,
}

impl Recording {
    pub(crate) fn media(&self) -> Media<'_> {
        Media { samples: &self.samples, facts: self.facts }
    }
}

/// Who speaks, in the order of the alphabet.
pub(crate) const SPEAKERS: [&str; 6] =
    ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"];

/// All recordings, in the order of the archive.
pub(crate) fn all() -> Result<Vec<Recording>, Box<dyn Error>> {
    let file = data().join("fsdd/fsdd_train_idx5-49.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(file)?);
    let wav = codec::named("wav").ok_or("no codec wav")?;
    let mut all = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((digit, rest)) = name.split_once('_') else { continue };
        let Some((speaker, _)) = rest.rsplit_once('_') else { continue };
        let (digit, speaker) = (digit.parse()?, speaker.to_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let mut samples = Vec::new();
        let facts = wav.decode(&bytes, &Limits::default(), &mut samples)?;
        all.push(Recording { speaker, digit, wav: bytes.len(), samples, facts });
    }
    Ok(all)
}
