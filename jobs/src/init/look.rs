//! What lies below a path.

use anabranch_pipelines::store::{Location, explain};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};

use super::labels::Table;

/// Objects that are looked at, at most: enough to tell what a folder holds.
const OBJECTS: usize = 20_000;
/// Bytes that are read of a table beside the data.
const BEGINNING: u64 = 256 << 10;
/// Tables that are read, at most.
const TABLES: usize = 8;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The path as it was given, without a slash at its end.
    pub root: String,
    /// Whether it is one object and no folder.
    pub is_object: bool,
    /// Names below the root, sorted; only the first ones of very many.
    pub names: Vec<String>,
    /// The beginnings of tables that may hold labels.
    pub tables: Vec<Table>,
}

/// Looks at `path`, which is a folder or an object of any store.
///
/// # Errors
/// A sentence for people, when it cannot be read or nothing is there.
pub async fn look(path: &str) -> Result<Found, String> {
    let place = Location::parse(path).map_err(|error| error.to_string())?;
    let root = path.trim_end_matches('/').to_owned();
    if !place.path.as_ref().is_empty() && place.store.head(&place.path).await.is_ok() {
        let names = place.path.filename().map(str::to_owned).into_iter().collect();
        return Ok(Found { root, is_object: true, names, tables: Vec::new() });
    }
    let listed = place.store.list(Some(&place.path)).take(OBJECTS);
    let listed = listed.try_collect::<Vec<_>>().await.map_err(|error| explain(&error))?;
    let below = |at: &object_store::path::Path| {
        let parts = at.prefix_match(&place.path)?;
        Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
    };
    let mut names: Vec<String> =
        listed.iter().filter_map(|object| below(&object.location)).collect();
    names.sort();
    if names.is_empty() {
        return Err(nothing(path, &place));
    }
    let mut tables = Vec::new();
    let candidates = names.iter().filter(|name| Table::is_named_like_one(name));
    for name in candidates.take(TABLES) {
        let object = place.join(name);
        let size = object.store.head(&object.path).await.map_or(0, |object| object.size);
        if size == 0 {
            continue;
        }
        let range = 0..size.min(BEGINNING);
        let bytes = object.store.get_range(&object.path, range).await;
        let bytes = bytes.map_err(|error| explain(&error))?;
        tables.extend(Table::parse(name, &bytes));
    }
    Ok(Found { root, is_object: false, names, tables })
}

/// Why nothing was found, and what to do.
fn nothing(path: &str, place: &Location) -> String {
    let url = &place.url;
    match place.local_path() {
        Some(at) if at.is_dir() => format!("the folder {url} has no files"),
        _ if path.contains(['*', '{', '?']) => {
            format!(
                "there is nothing at {url}; give the folder, without wildcards: the job gets a pattern"
            )
        }
        _ => format!("there is nothing at {url}; check the path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn why_nothing_was_found_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |below: &str| format!("{}/{below}", folder.path().display());
        let empty = look(&at("")).await.unwrap_err();
        assert!(empty.ends_with("has no files"), "{empty}");
        let pattern = look(&at("*.jpg")).await.unwrap_err();
        assert!(pattern.contains("without wildcards"), "{pattern}");
        let wrong = look(&at("nosuch")).await.unwrap_err();
        assert!(wrong.ends_with("check the path"), "{wrong}");
    }
}
