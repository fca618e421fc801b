//! Names of members: which sample, and which of its columns.

/// What a member's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// A member of the sample `key`; `ending` is what stands behind the first dot, in lower case.
    Of { key: &'a str, ending: String },
    /// No data: notes of WebDataset itself, which are called `__NAME__` or stand in a folder at the top that is, and
    /// what systems leave behind in archives.
    Passed,
    /// It has no ending, and so belongs to no column.
    Plain,
}

impl<'a> Name<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        // As the `webdataset` library tells it: `^__[^/]*__($|/)`. Further down a folder may be called as it likes.
        let top = name.split('/').next().unwrap_or(name);
        let note = top.len() >= 4 && top.starts_with("__") && top.ends_with("__");
        if file.starts_with('.') || note {
            return Self::Passed;
        }
        match file.split_once('.') {
            Some((stem, ending)) if !ending.is_empty() => {
                let folder = name.len() - file.len();
                let key = name.get(..folder + stem.len()).unwrap_or(name);
                Self::Of { key, ending: ending.to_lowercase() }
            }
            _ => Self::Plain,
        }
    }
}

/// Whether these names of members, in their order, are those of samples: most have a neighbour of the same key with
/// another ending.
pub fn are_samples(names: &[String]) -> bool {
    let names: Vec<Name<'_>> =
        names.iter().map(|name| Name::of(name)).filter(|name| *name != Name::Passed).collect();
    let of_one = |pair: &[Name<'_>]| match pair {
        [Name::Of { key, ending }, Name::Of { key: other_key, ending: other }] => {
            key == other_key && ending != other
        }
        _ => false,
    };
    let beside: Vec<bool> = names.windows(2).map(of_one).collect();
    let none = [false];
    let has_neighbour =
        none.iter().chain(&beside).zip(beside.iter().chain(&none)).filter(|(a, b)| **a || **b);
    has_neighbour.count() * 2 > names.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_members_beside_others_of_their_key() {
        let are = |names: &[&str]| {
            are_samples(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        assert!(are(&["1.jpg", "1.cls", "2.jpg", "2.cls"]));
        assert!(are(&["._1.jpg", "a/1.jpg", "a/1.json", "a/1.txt", "a/2.jpg"]));
        assert!(!are(&["1.jpg", "2.jpg", "3.jpg", "3.txt", "4.jpg"]));
        assert!(!are(&["a/1.jpg", "b/1.png", "1.cls"]) && !are(&["README"]) && !are(&[]));
    }

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_file() {
        let of = |key, ending: &str| Name::Of { key, ending: ending.to_owned() };
        assert_eq!(Name::of("0001.jpg"), of("0001", "jpg"));
        assert_eq!(Name::of("a.b/c/0001.seg.PNG"), of("a.b/c/0001", "seg.png"));
        assert_eq!(Name::of("a.b/README"), Name::Plain);
        assert_eq!(Name::of("a."), Name::Plain);
        for passed in ["a/._0001.jpg", "__key__", "__index__/a.json", ".DS_Store"] {
            assert_eq!(Name::of(passed), Name::Passed, "{passed}");
        }
        assert_eq!(Name::of("__x.jpg"), of("__x", "jpg"));
        // What our own sink writes, of a key such as `train/__old__/1.jpg`.
        assert_eq!(Name::of("train/__old__/1.jpg"), of("train/__old__/1", "jpg"));
        assert_eq!(Name::of("a/__x__.jpg"), of("a/__x__", "jpg"));
        assert_eq!(Name::of("a/__x__"), Name::Plain);
    }
}
