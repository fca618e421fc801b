//! `index.json`: which shards there are, and what their columns are.

use std::collections::HashSet;

use serde::Deserialize;

/// What an index is called.
pub(super) const NAME: &str = "index.json";

/// An index as written.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) shards: Vec<Shard>,
}

/// A shard as its index describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Shard {
    pub(super) column_names: Vec<String>,
    pub(super) column_encodings: Vec<String>,
    pub(super) column_sizes: Vec<Option<u64>>,
    format: String,
    pub(super) raw_data: File,
    pub(super) zip_data: Option<File>,
    pub(super) samples: u32,
    version: u32,
}

/// A file of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct File {
    pub(super) basename: String,
    pub(super) bytes: u64,
}

impl Index {
    /// Reads an index and checks what needs no shard to check it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(bytes)
            .map_err(|e| format!("it is no index of MDS shards: {e}"))?;
        let Some(first) = index.shards.first() else {
            return Err("it names no shard".to_owned());
        };
        let columns = |shard: &Shard| {
            let names = shard.column_names.iter().zip(&shard.column_encodings);
            names
                .map(|(name, encoding)| format!("{name} {encoding}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut files = HashSet::new();
        for shard in &index.shards {
            let name = &shard.raw_data.basename;
            for file in [Some(&shard.raw_data), shard.zip_data.as_ref()].into_iter().flatten() {
                let name = &file.basename;
                let parts = || name.split(['/', '\\']);
                if name.is_empty() || parts().any(|part| matches!(part, "" | "." | "..")) {
                    return Err(format!("it names a shard `{name}`, which is outside its folder"));
                }
                if !files.insert(name) {
                    return Err(format!("it names `{name}` twice"));
                }
            }
            if (index.version, shard.version) != (2, 2) || shard.format != "mds" {
                return Err(format!(
                    "`{name}` is of format `{}`, version {}; `mds` of version 2 is read",
                    shard.format, shard.version
                ));
            }
            let count = shard.column_names.len();
            if shard.column_encodings.len() != count || shard.column_sizes.len() != count {
                return Err(format!(
                    "`{name}` has {count} names, {} encodings and {} sizes of columns",
                    shard.column_encodings.len(),
                    shard.column_sizes.len()
                ));
            }
            if columns(shard) != columns(first) || shard.column_sizes != first.column_sizes {
                return Err(format!(
                    "the columns of `{name}` are ({}), those of the first shard ({})",
                    columns(shard),
                    columns(first)
                ));
            }
        }
        Ok(index)
    }
}
