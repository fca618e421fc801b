//! Names of samples.
//!
//! Readers put consecutive members together whose names are equal up to the first dot behind the last `/`, skip
//! what begins and ends with `__`, and lose what has no letter before its dot. So a key loses its file extension, as
//! in a folder of `a.jpg` and `a.txt`, and its other dots become `_`; and a name that stands in the shard already is
//! told apart by a number, as is every name of a very large shard.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Names of a shard that are remembered, at most. A map of so many takes less than [`BYTES`], also while it grows.
const MOST: usize = 28_000;
/// Bytes that the names of a shard take, at most.
pub(super) const BYTES: usize = 1 << 20;

/// Names that a shard has.
///
/// What is remembered of them is bounded: behind the first 28,000 every sample's name ends in its number in the shard,
/// which no other one has. A part is of 4096 records unless the job says otherwise.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By the hash of a name, how often it was asked for. That two hashes are equal costs a number, no sample.
    taken: HashMap<u64, u32>,
    samples: u64,
}

impl Names {
    /// The name of the next sample, which no other of the shard has.
    pub(super) fn next(&mut self, key: &str) -> String {
        let name = plain(key);
        self.samples += 1;
        if self.taken.len() + 2 > MOST {
            let mut stem = name;
            loop {
                let candidate = format!("{stem}-{}", self.samples);
                if !self.taken.contains_key(&hash(&candidate)) {
                    return candidate;
                }
                // One of the first is called so by its key. All later ones end in another number.
                stem.push('_');
            }
        }
        let mut number = self.taken.get(&hash(&name)).copied().unwrap_or(0);
        loop {
            number += 1;
            let candidate = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            if number == 1 || !self.taken.contains_key(&hash(&candidate)) {
                self.taken.insert(hash(&candidate), 1);
                self.taken.insert(hash(&name), number);
                return candidate;
            }
        }
    }
}

fn hash(name: &str) -> u64 {
    let hash = Sha256::digest(name.as_bytes());
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A key as a name without dots in its last part.
fn plain(key: &str) -> String {
    let mut parts: Vec<String> = key
        .split('/')
        .map(|part| part.replace(char::is_control, "_"))
        .filter(|part| !part.is_empty())
        .collect();
    let last = parts.pop().unwrap_or_default();
    for part in &mut parts {
        if part.bytes().all(|byte| byte == b'.') {
            *part = part.replace('.', "_");
        }
    }
    parts.push(without_extension(&last).replace('.', "_"));
    let name = parts.join("/");
    match name.strip_prefix("__") {
        Some(rest) => format!("_{}", rest.trim_start_matches('_')),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}

/// A file name without `.jpg`; `v1.5` and `.hidden` have no extension.
fn without_extension(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, end))
            if !stem.is_empty()
                && (1..=5).contains(&end.len())
                && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && end.bytes().any(|byte| byte.is_ascii_alphabetic()) =>
        {
            stem
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_the_keys_that_people_gave() {
        let names = [
            ("photos/kodim01.png", "photos/kodim01"),
            ("a.b/cat.001.jpg", "a.b/cat_001"),
            ("v1.5", "v1_5"),
            (".hidden", "_hidden"),
            ("rows.jsonl:17", "rows_jsonl:17"),
            ("/root//x.wav", "root/x"),
            ("../x", "_/x"),
            ("__meta__/x.jpg", "_meta__/x"),
            ("", "_"),
            ("größe.jpg", "größe"),
        ];
        for (key, name) in names {
            assert_eq!(plain(key), name);
        }
    }

    #[test]
    fn equal_names_are_numbered() {
        let mut names = Names::default();
        let named = ["a.jpg", "a.png", "a-2", "a", "b"].map(|key| names.next(key));
        assert_eq!(named, ["a", "a-2", "a-2-2", "a-3", "b"]);
    }

    #[test]
    fn a_hundred_thousand_equal_keys_are_no_trouble() {
        let mut names = Names::default();
        let distinct: HashSet<String> = (0..100_000).map(|_| names.next("same")).collect();
        assert_eq!(distinct.len(), 100_000);
    }

    #[test]
    fn names_of_a_large_shard_are_bounded_and_all_different() {
        let mut names = Names::default();
        let count = 3 * MOST as u64;
        let mut seen: HashSet<String> = HashSet::new();
        // The first are called as later ones would be by their numbers.
        for number in 0..count {
            let key = match number % 3 {
                0 => format!("k-{}", number + MOST as u64),
                1 => "k".to_owned(),
                _ => format!("other {number}"),
            };
            assert!(seen.insert(names.next(&key)), "{number}");
        }
        assert!(names.taken.len() <= MOST);
        // Both maps, while one grows into the other.
        assert!(names.taken.capacity() * 8 / 7 * 17 * 3 / 2 <= BYTES);
    }

    proptest! {
        /// As `webdataset` and `datasets` tell it: `^((?:.*/|)[^.]+)[.]([^/]*)$`.
        #[test]
        fn every_key_is_a_sample_of_its_own(keys in prop::collection::vec("[ab./_-]{0,6}", 1..40)) {
            let mut names = Names::default();
            let named: Vec<String> = keys.iter().map(|key| names.next(key)).collect();
            for name in &named {
                let member = format!("{name}.jpg");
                let at = member.rfind('/').map_or(0, |at| at + 1);
                let (stem, extension) = member[at..].split_once('.').unwrap();
                prop_assert_eq!((&member[..at + stem.len()], extension), (name.as_str(), "jpg"));
                prop_assert!(!stem.is_empty() && !name.starts_with('/') && !name.starts_with("__"));
                prop_assert!(member.split('/').all(|part| !part.is_empty() && part != ".."));
            }
            prop_assert_eq!(named.iter().collect::<HashSet<_>>().len(), named.len());
        }
    }
}
