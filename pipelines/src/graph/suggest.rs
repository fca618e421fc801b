//! The nearest valid name, for messages about a misspelt one.

/// The candidate most like `name`, if any is close enough to have been meant.
///
/// ```
/// use anabranch_pipelines::graph::nearest;
/// assert_eq!(nearest("qualty", ["codec", "quality"]), Some("quality"));
/// assert_eq!(nearest("banana", ["codec", "quality"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count().max(3) + 1) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
