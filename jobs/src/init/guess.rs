//! From names to a source, its modality and a codec.

use std::collections::BTreeMap;

use anabranch_pipelines::record::Modality;

use super::labels::{self, Labels};
use super::look::Found;

/// What a job for the data could look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// Kind of the source.
    pub kind: &'static str,
    /// Its `path`.
    pub path: String,
    /// How many of the names that were seen it takes.
    pub files: usize,
    /// What its records hold, where that is one thing.
    pub modality: Option<Modality>,
    /// How that is stored best, and why.
    pub codec: Option<Codec>,
    /// Labels beside the files, with a path below the root.
    pub labels: Option<Labels>,
    /// What else is there and is left out: `12 .wav`.
    pub others: Vec<String>,
}

/// A codec, and the reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// Its name.
    pub name: &'static str,
    /// Its quality, where it has one.
    pub quality: Option<u8>,
    /// Why this one.
    pub reason: &'static str,
}

const WEBP: Codec = Codec {
    name: "webp",
    quality: Some(75),
    reason: "WebP takes the fewest bytes of the ordinary codecs; 100 is lossless.",
};
const FLAC: Codec =
    Codec { name: "flac", quality: None, reason: "FLAC is about half of WAV, and loses nothing." };
const ZSTD: Codec = Codec {
    name: "zstd",
    quality: None,
    reason: "zstd with a dictionary that is trained on the first texts; it loses nothing.",
};

/// A format that names tell: extensions, the kind of source, the modality, and a codec.
struct Format {
    extensions: &'static [&'static str],
    kind: &'static str,
    modality: Option<Modality>,
    codec: Option<Codec>,
}

const FORMATS: &[Format] = &[
    Format {
        extensions: &["jpg", "jpeg", "png", "webp", "qoi"],
        kind: "files",
        modality: Some(Modality::Image),
        codec: Some(WEBP),
    },
    Format {
        extensions: &["wav"],
        kind: "files",
        modality: Some(Modality::Audio),
        codec: Some(FLAC),
    },
    Format {
        // Compressed already: decoding them to compress again would cost quality, or gain nothing.
        extensions: &["flac", "mp3", "ogg", "opus", "m4a", "aac"],
        kind: "files",
        modality: Some(Modality::Audio),
        codec: None,
    },
    Format {
        extensions: &["txt", "md"],
        kind: "text",
        modality: Some(Modality::Text),
        codec: Some(ZSTD),
    },
    Format { extensions: &["jsonl", "ndjson"], kind: "jsonl", modality: None, codec: None },
    Format { extensions: &["parquet"], kind: "parquet", modality: None, codec: None },
    Format {
        extensions: &["tar", "tar.gz", "tgz", "tar.zst"],
        kind: "tar",
        modality: None,
        codec: None,
    },
    Format { extensions: &["zip"], kind: "zip", modality: None, codec: None },
    Format {
        extensions: &["idx3-ubyte", "idx3-ubyte.gz"],
        kind: "idx",
        modality: None,
        codec: None,
    },
    Format { extensions: &["csv", "tsv"], kind: "csv", modality: None, codec: None },
];

/// Guesses from what was found.
///
/// # Errors
/// A sentence for people, when no name tells a format.
pub fn guess(found: &Found) -> Result<Guess, String> {
    let names: Vec<&str> = found.names.iter().map(String::as_str).collect();
    let plain = |kind, path: String, files| Guess {
        kind,
        path,
        files,
        modality: None,
        codec: None,
        labels: None,
        others: Vec::new(),
    };
    if names.iter().any(|name| name.starts_with("_delta_log/")) {
        return Ok(plain("table", found.root.clone(), names.len()));
    }
    if names.contains(&"index.json") && names.iter().any(|name| name.contains(".mds")) {
        return Ok(plain("mds", found.root.clone(), names.len()));
    }
    // Nothing but a name tells CIFAR's pixels from other bytes.
    let is_batch = |name: &&str| {
        name.ends_with(".bin") && (name.contains("_batch") || found.root.contains("cifar"))
    };
    if let Some(first) = names.iter().find(|name| is_batch(name)) {
        let path = format!("{}/{first}", found.root);
        return Ok(Guess { modality: Some(Modality::Image), ..plain("cifar", path, 1) });
    }
    // The format of most files; a table counts only where there is nothing that it could be the labels of.
    let by_format = FORMATS.iter().map(|format| {
        let files: Vec<&str> = names.iter().copied().filter(|name| format.takes(name)).collect();
        (format, files)
    });
    let tables = |format: &Format| format.kind == "csv";
    let best = by_format
        .filter(|(_, files)| !files.is_empty())
        .max_by_key(|(format, files)| (!tables(format), files.len()));
    let Some((format, files)) = best else {
        let there = kinds(&names);
        return Err(format!("no name tells a format: there are {}", there.join(", ")));
    };
    let labels = match format.modality {
        Some(Modality::Image | Modality::Audio) => labels::find(&found.tables, &files),
        _ => None,
    };
    let is_labels = |name: &str| labels.as_ref().is_some_and(|labels| labels.name == name);
    let others: Vec<&str> =
        names.iter().copied().filter(|name| !files.contains(name) && !is_labels(name)).collect();
    Ok(Guess {
        kind: format.kind,
        path: pattern(found, &files),
        files: files.len(),
        modality: format.modality,
        codec: format.codec,
        labels,
        others: kinds(&others),
    })
}

impl Guess {
    /// What members of an archive tell, once somebody has looked: their modality, the encoding of the first
    /// one, and the names that a table may call.
    pub fn with_members(
        mut self,
        found: &Found,
        modality: Option<Modality>,
        encoding: Option<&str>,
        members: &[&str],
    ) -> Self {
        self.modality = modality;
        self.codec = match (modality, encoding) {
            (Some(Modality::Image), _) => Some(WEBP),
            (Some(Modality::Audio), Some("wav")) => Some(FLAC),
            _ => None,
        };
        self.labels = labels::find(&found.tables, members);
        if let Some(labels) = &self.labels {
            let left = found.names.iter().filter(|name| **name != labels.name);
            let left: Vec<&str> = left.map(String::as_str).collect();
            let archives = FORMATS.iter().find(|format| format.kind == self.kind);
            let others = left.into_iter().filter(|name| !archives.is_some_and(|f| f.takes(name)));
            self.others = kinds(&others.collect::<Vec<_>>());
        }
        self
    }
}

impl Format {
    fn takes(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let mut ends = self.extensions.iter();
        ends.any(|end| {
            name.strip_suffix(end).is_some_and(|stem| stem.ends_with(['.', '-']) && stem.len() > 1)
        })
    }
}

/// A glob for these files: their common folder, and their extension where they have one in common.
fn pattern(found: &Found, files: &[&str]) -> String {
    if found.is_object {
        return found.root.clone();
    }
    if let [one] = files {
        return format!("{}/{one}", found.root);
    }
    let extension = |name: &str| {
        let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
        file.rsplit_once('.').map(|(_, extension)| extension.to_owned())
    };
    let mut extensions: Vec<String> = files.iter().filter_map(|file| extension(file)).collect();
    extensions.sort();
    extensions.dedup();
    let extensions = match extensions.as_slice() {
        [one] => one.clone(),
        several => format!("{{{}}}", several.join(",")),
    };
    format!("{}/**/*.{extensions}", found.root)
}

/// How many names there are of each extension, most first.
fn kinds(names: &[&str]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let file = name.rsplit_once('/').map_or(*name, |(_, file)| file);
        let kind = match file.rsplit_once('.') {
            Some((_, extension)) => format!(".{}", extension.to_ascii_lowercase()),
            None => "without an extension".to_owned(),
        };
        *counts.entry(kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(6).map(|(kind, count)| format!("{count} {kind}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Guess, String> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        guess(&Found { root: "data".into(), names, ..Found::default() })
    }

    #[test]
    fn most_files_decide_and_the_rest_is_told() {
        let found = of(&["a.jpg", "b/c.png", "d.wav", "notes"]).unwrap();
        assert_eq!((found.kind, found.modality), ("files", Some(Modality::Image)));
        assert_eq!(found.path, "data/**/*.{jpg,png}");
        assert_eq!(found.others, ["1 .wav", "1 without an extension"]);
    }

    #[test]
    fn every_format_has_its_source() {
        let cases: [(&[&str], &str); 9] = [
            (&["_delta_log/0.json", "data/a.parquet"], "table"),
            (&["index.json", "shard.00000.mds"], "mds"),
            (&["a.parquet"], "parquet"),
            (&["a.tar.gz"], "tar"),
            (&["a.zip"], "zip"),
            (&["train-images-idx3-ubyte.gz"], "idx"),
            (&["a.tsv"], "csv"),
            (&["a.jsonl"], "jsonl"),
            (&["a.txt"], "text"),
        ];
        for (names, kind) in cases {
            assert_eq!(of(names).unwrap().kind, kind, "{names:?}");
        }
        assert_eq!(of(&["x.bin"]).unwrap_err(), "no name tells a format: there are 1 .bin");
    }

    #[test]
    fn sounds_that_are_compressed_already_stay_as_they_are() {
        assert_eq!(of(&["a.mp3"]).unwrap().codec, None);
        assert_eq!(of(&["a.wav"]).unwrap().codec, Some(FLAC));
    }
}
