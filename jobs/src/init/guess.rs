//! From names to a source, its modality and a codec.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use anabranch_connectors::source::{are_samples, count_kinds};
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
        extensions: &["jsonl", "ndjson", "jsonl.gz", "ndjson.gz", "jsonl.zst", "ndjson.zst"],
        kind: "jsonl",
        modality: None,
        codec: None,
    },
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
    Format {
        extensions: &["csv", "tsv", "csv.gz", "tsv.gz", "csv.zst", "tsv.zst"],
        kind: "csv",
        modality: None,
        codec: None,
    },
    // Last: texts beside something else are often about it.
    Format {
        extensions: &["txt", "md", "txt.gz", "txt.zst"],
        kind: "text",
        modality: Some(Modality::Text),
        codec: Some(ZSTD),
    },
];

/// Names of texts that are about the data and no data.
const ABOUT: &[&str] = &[
    "attribution",
    "authors",
    "changelog",
    "changes",
    "citation",
    "contributing",
    "copying",
    "history",
    "licence",
    "license",
    "notice",
    "readme",
    "sources",
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
        let path = match found.is_object {
            true => found.root.clone(),
            false => format!("{}/{first}", found.root),
        };
        let others: Vec<&str> = names.iter().copied().filter(|name| name != first).collect();
        let modality = Some(Modality::Image);
        return Ok(Guess { modality, others: kinds(&others), ..plain("cifar", path, 1) });
    }
    let by_format = || {
        FORMATS.iter().enumerate().map(|(at, format)| {
            let files = names.iter().copied().filter(|name| format.takes(name));
            let files: Vec<&str> = files.collect();
            let data = files.iter().filter(|name| !format.is_about(name)).count();
            (at, format, files, data)
        })
    };
    // Beside media a table holds their labels.
    let has_media =
        by_format().any(|(.., format, files, _)| format.holds_media() && !files.is_empty());
    // The format of most files, the first one of equals.
    let best = by_format().filter(|(.., files, _)| !files.is_empty()).max_by_key(
        |(at, format, files, data)| {
            let labels = format.kind == "csv" && has_media;
            (*data > 0 && !labels, *data, files.len(), Reverse(*at))
        },
    );
    let Some((_, format, files, data)) = best else {
        let there = kinds(&names);
        return Err(format!(
            "no name tells a format; there is {}: give them their usual names, or write the job by hand \
             (`anabranch reference` lists what is read)",
            there.join(", ")
        ));
    };
    let (path, files) = match data {
        0 => (pattern(found, format, &files), files),
        _ => {
            let data: Vec<&str> =
                files.iter().copied().filter(|name| !format.is_about(name)).collect();
            let ends: HashSet<String> = data.iter().filter_map(|name| format.end(name)).collect();
            // What the pattern takes, whatever it is about.
            let taken = files.iter().copied();
            let taken = taken.filter(|name| match data.as_slice() {
                [one] => name == one,
                _ => format.end(name).is_some_and(|end| ends.contains(&end)),
            });
            (pattern(found, format, &data), taken.collect::<Vec<_>>())
        }
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
        path,
        files: files.len(),
        modality: format.modality,
        codec: format.codec,
        labels,
        others: kinds(&others),
    })
}

impl Guess {
    /// What the names of an archive's first members tell: whether several of them are one record.
    pub fn with_names(self, names: &[String]) -> Self {
        match self.kind == "tar" && are_samples(names) {
            true => Self { kind: "webdataset", ..self },
            false => self,
        }
    }

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
        self.end(name).is_some()
    }

    /// What a name ends with that tells the format, with the separator before it: `.JPG`, `-idx3-ubyte.gz`.
    fn end(&self, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        let ends = self.extensions.iter().filter_map(|end| {
            let stem = lower.strip_suffix(end)?;
            let begin = stem.len().checked_sub(1).filter(|begin| *begin > 0)?;
            name.get(begin..).filter(|_| stem.ends_with(['.', '-']))
        });
        ends.max_by_key(|end| end.len()).map(str::to_owned)
    }

    /// Whether it is a format of pictures, sounds, or archives of them.
    fn holds_media(&self) -> bool {
        matches!(self.modality, Some(Modality::Image | Modality::Audio))
            || matches!(self.kind, "tar" | "zip")
    }

    /// Whether a file of this format is about the data.
    fn is_about(&self, name: &str) -> bool {
        let file = name.rsplit_once('/').map_or(name, |(_, file)| file).to_ascii_lowercase();
        let first = file.split(['.', '-', '_']).next().unwrap_or_default();
        self.modality == Some(Modality::Text) && ABOUT.contains(&first)
    }
}

/// A glob for these files: their common folder, and what all of their names end with.
fn pattern(found: &Found, format: &Format, files: &[&str]) -> String {
    if found.is_object {
        return found.root.clone();
    }
    if let [one] = files {
        return format!("{}/{one}", found.root);
    }
    let ends: BTreeSet<String> = files.iter().filter_map(|file| format.end(file)).collect();
    let dotted: Option<Vec<&str>> = ends.iter().map(|end| end.strip_prefix('.')).collect();
    let (separator, ends) = match dotted {
        Some(ends) => (".", ends),
        None => ("", ends.iter().map(String::as_str).collect()),
    };
    let ends = match ends.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{{{}}}", several.join(",")),
    };
    format!("{}/**/*{separator}{ends}", found.root)
}

/// How many names there are of each extension, most first.
fn kinds(names: &[&str]) -> Vec<String> {
    let counts = count_kinds(names.iter()).into_iter().take(6);
    counts.map(|(kind, count)| format!("{count} {kind}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_connectors::source::TarOptions;

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
    fn batches_of_pixels_that_are_not_taken_are_told() {
        let found =
            of(&["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin", "a.txt"]).unwrap();
        assert_eq!((found.kind, found.path.as_str()), ("cifar", "data/data_batch_1.bin"));
        assert_eq!(found.others, ["2 .bin", "1 .txt"]);
    }

    #[test]
    fn packed_tables_and_texts_are_known_as_their_sources_know_them() {
        let of = |name: &str| of(&[name]).unwrap().kind;
        let names = ["a.csv.gz", "a.tsv.zst", "a.jsonl.gz", "a.txt.gz", "a.tar.gz"];
        assert_eq!(names.map(of), ["csv", "csv", "jsonl", "text", "tar"]);
    }

    #[test]
    fn a_readme_is_not_chosen_over_the_data() {
        let tables: Vec<String> = (0..10).map(|n| format!("{n}.csv")).collect();
        let beside = |more: &[&str]| {
            let all = tables.iter().map(String::as_str).chain(more.iter().copied());
            of(&all.collect::<Vec<_>>()).unwrap()
        };
        let found = beside(&["README.md", "docs/LICENSE-MIT.txt"]);
        assert_eq!((found.kind, found.path.as_str(), found.files), ("csv", "data/**/*.csv", 10));
        assert_eq!(found.others, ["1 .md", "1 .txt"]);
        assert_eq!(beside(&["a.txt"]).kind, "csv");
        // Beside media a table holds labels, however many there are.
        assert_eq!(beside(&["a.jpg"]).kind, "files");
        assert_eq!(beside(&["a.tar"]).kind, "tar");
        let texts = of(&["a.txt", "b.txt", "README.md", "c.csv"]).unwrap();
        assert_eq!((texts.path.as_str(), texts.files), ("data/**/*.txt", 2));
        assert_eq!(of(&["README.md"]).unwrap().path, "data/README.md");
        assert_eq!(of(&["1.jpg", "1.txt", "2.jpg", "2.txt"]).unwrap().kind, "files");
    }

    #[test]
    fn patterns_take_what_was_counted_and_no_more() {
        let mnist = [
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
        ];
        let packed = mnist.map(|name| format!("{name}.gz"));
        let packed: Vec<&str> = packed.iter().map(String::as_str).collect();
        let cases: [(&[&str], &str); 6] = [
            (&mnist, "data/**/*-idx3-ubyte"),
            (&packed, "data/**/*-idx3-ubyte.gz"),
            (&["a.idx3-ubyte", "b-idx3-ubyte"], "data/**/*{-idx3-ubyte,.idx3-ubyte}"),
            (&["a.tar.gz", "b.tar.gz", "c.json.gz"], "data/**/*.tar.gz"),
            (&["a.tar", "b.v1.tar.gz"], "data/**/*.{tar,tar.gz}"),
            (&["a.JPG", "b.jpg"], "data/**/*.{JPG,jpg}"),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (names, path) in cases {
            let found = of(names).unwrap();
            assert_eq!(found.path, path);
            // Archives are told apart when they are listed, and not by what is in them.
            let folder = tempfile::tempdir().unwrap();
            for name in names {
                std::fs::write(folder.path().join(name), b"x").unwrap();
            }
            let path = path.replacen("data", folder.path().to_str().unwrap(), 1);
            let options = serde_json::json!({ "path": path, "modality": "image" });
            let options: TarOptions = serde_json::from_value(options).unwrap();
            let splits = runtime.block_on(options.build().unwrap().splits()).unwrap();
            assert_eq!(splits.len(), found.files, "{path}");
        }
    }

    #[test]
    fn members_that_are_samples_are_a_webdataset() {
        let with = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            of(&["a.tar"]).unwrap().with_names(&names).kind
        };
        assert_eq!(with(&["0.jpg", "0.json", "1.jpg", "1.json"]), "webdataset");
        assert_eq!(with(&["0.jpg", "1.jpg"]), "tar");
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
        let unknown = of(&["x.bin"]).unwrap_err();
        assert!(unknown.starts_with("no name tells a format; there is 1 .bin: "), "{unknown}");
    }

    #[test]
    fn sounds_that_are_compressed_already_stay_as_they_are() {
        assert_eq!(of(&["a.mp3"]).unwrap().codec, None);
        assert_eq!(of(&["a.wav"]).unwrap().codec, Some(FLAC));
    }
}
