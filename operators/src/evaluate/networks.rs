//! The networks whose features are compared, and how their layers come to be weighed.

use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::codec::{Media, Setting};
use crate::metric::{Change, FeatureDistance, Weights};
use crate::round_trip::RoundTrip;
use crate::task::{Spectra, open};

/// Records that decide on weights at most, and settings that each of them goes through.
pub(super) const RECORDS: usize = 64;
const SETTINGS: usize = 4;

/// A network whose features are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// The folder of an artifact, with `card.json` and `weights.safetensors`.
    pub model: String,
    /// The SHA-256 of its `card.json`, which has that of the weights. Taken when the job starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// For networks of sounds: how these become spectra.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<Spectra>,
}

/// Reads the networks and notes their hashes; `None` when there are none.
pub(super) fn read(
    options: &mut [NetworkOptions],
) -> Result<Option<FeatureDistance>, OptionsError> {
    if options.is_empty() {
        return Ok(None);
    }
    let mut networks = Vec::with_capacity(options.len());
    for network in options {
        let opened = open(&network.model, network.sha256.as_deref());
        let (artifact, hash) =
            opened.map_err(|e| OptionsError(format!("a network of `models`: {e}")))?;
        network.sha256 = Some(hash);
        networks.push((artifact, network.spectrum));
    }
    let features = FeatureDistance::new(networks);
    features.map(Some).map_err(|e| OptionsError(format!("`models`: {e}")))
}

/// How the layers of the networks are weighed, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighting {
    /// For people: what was decided, in a line.
    pub told: String,
    /// Originals and what came back of them that weights were fitted to.
    pub pairs: u64,
    /// Of each network.
    pub networks: Vec<Weights>,
}

impl Weighting {
    /// Of what [`pairs`] gave.
    pub(super) fn of(features: &FeatureDistance, pairs: &[Vec<Change>]) -> Self {
        let networks = features.fit(pairs);
        let told = networks.iter().map(|of| match of.explained {
            Some(explained) => format!(
                "{} by how its logits change in {} pairs ({:.0}% explained)",
                of.network,
                pairs.len(),
                100.0 * explained
            ),
            None => format!("{} alike, since too few pairs say otherwise", of.network),
        });
        let told = told.collect::<Vec<_>>().join("; ");
        let told = format!("layers of networks are weighed: {told}");
        Self { told, pairs: pairs.len() as u64, networks }
    }
}

/// How the networks' view of a record changes, by a few settings that lose something. The next record goes through
/// other ones.
pub(super) fn pairs(
    features: &FeatureDistance,
    settings: &[Setting],
    media: &Media<'_>,
    record: usize,
) -> Vec<Vec<Change>> {
    let lossy: Vec<Setting> = settings.iter().copied().filter(|s| !s.lossless()).collect();
    let Ok(seen) = features.seen(media) else { return Vec::new() };
    let mut room = RoundTrip::default();
    let count = SETTINGS.min(lossy.len());
    let some = (0..count)
        .filter_map(|part| lossy.get((record + part * lossy.len() / count) % lossy.len()));
    let changes = some.filter_map(|setting| {
        let facts = room.go(*setting, media).ok()?;
        features.changes(&seen, &room.media(facts)).ok()
    });
    changes.collect()
}
