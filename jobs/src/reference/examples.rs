//! One job for each kind, which a test runs: `jobs/examples/reference/ROLE-KIND.toml`.

/// The example of a kind, e.g. of `source-tar`.
pub fn example(name: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

macro_rules! examples {
    ($($name:literal),* $(,)?) => {
        const EXAMPLES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../examples/reference/", $name, ".toml")))),*];
    };
}

examples![
    "operator-crop",
    "operator-decode",
    "operator-dedup",
    "operator-digest",
    "operator-encode",
    "operator-evaluate",
    "operator-filter",
    "operator-infer",
    "operator-join",
    "operator-loudness",
    "operator-mono",
    "operator-normalise",
    "operator-quality",
    "operator-resample",
    "operator-resize",
    "operator-select",
    "operator-spectrum",
    "operator-tokenise",
    "operator-train",
    "operator-transcode",
    "operator-trim",
    "operator-watch",
    "sink-files",
    "sink-jsonl",
    "sink-mds",
    "sink-parquet",
    "sink-table",
    "sink-webdataset",
    "source-cifar",
    "source-csv",
    "source-files",
    "source-idx",
    "source-jsonl",
    "source-mds",
    "source-mixture",
    "source-parquet",
    "source-sample",
    "source-table",
    "source-tar",
    "source-text",
    "source-urls",
    "source-webdataset",
    "source-zip",
];
