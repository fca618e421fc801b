//! Names of members: which sample, and which of its columns.

/// What a member's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// A member of the sample `key`; `ending` is what stands behind the first dot, in lower case.
    Of { key: &'a str, ending: String },
    /// No data: notes of WebDataset itself, and what systems leave behind in archives.
    Passed,
    /// It has no ending, and so belongs to no column.
    Plain,
}

impl<'a> Name<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        let note = |part: &str| part.len() > 4 && part.starts_with("__") && part.ends_with("__");
        if file.starts_with('.') || name.split('/').any(note) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
