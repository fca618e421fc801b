//! The dataset card `README.md`, which tells Hugging Face `datasets` what to load from a folder.

use anabranch_pipelines::sink::SinkError;
use anabranch_pipelines::store::{Location, explain};
use object_store::{Error, ObjectStoreExt, PutMode};

const NAME: &str = "README.md";
/// The line by which a card is known as ours.
const MARK: &str = "# Written by Anabranch, which leaves the file alone once this line is gone.";

/// Which files are which split.
pub(super) struct Card {
    split: String,
    files: &'static str,
}

impl Card {
    /// A card that calls these files, as a glob, this split. The error is a sentence.
    pub(super) fn new(split: String, files: &'static str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if split.is_empty() || !split.chars().all(fits) {
            return Err(format!("`split = {split:?}`: a split's name is letters, digits and `_`"));
        }
        Ok(Self { split, files })
    }

    /// Whether a file is one of them, by its name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.rsplit_once('*').is_some_and(|(_, end)| name.ends_with(end))
    }

    fn text(&self) -> String {
        let Self { split, files } = self;
        format!(
            "---\n{MARK}\nconfigs:\n- config_name: default\n  data_files:\n  - split: {split}\n    path: {files}\n---\n"
        )
    }

    /// Writes it, unless there is one that somebody else wrote.
    pub(super) async fn write(&self, location: &Location) -> Result<(), SinkError> {
        let place = location.join(NAME);
        let failed =
            |e: Error| SinkError::Store { location: place.url.clone(), message: explain(&e) };
        let there = match place.store.get(&place.path).await {
            Ok(found) => Some(found.bytes().await.map_err(failed)?),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        let text = self.text();
        let ours = |there: &[u8]| String::from_utf8_lossy(there).contains(MARK);
        let mode = match &there {
            None => PutMode::Create,
            Some(there) if ours(there) && there.as_ref() != text.as_bytes() => PutMode::Overwrite,
            Some(there) => {
                if !String::from_utf8_lossy(there).contains(self.files) {
                    tracing::warn!(
                        "{} is left as it is; for Hugging Face `datasets`, its `configs` should name `{}`",
                        place.url,
                        self.files
                    );
                }
                return Ok(());
            }
        };
        match place.store.put_opts(&place.path, text.into(), mode.into()).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(location: &Location) -> String {
        let place = location.join(NAME);
        let bytes = place.store.get(&place.path).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_card_of_ours_follows_the_job_and_others_are_left_alone() {
        let location = Location::parse("memory://card/a").unwrap();
        let card = |split: &str| Card::new(split.to_owned(), "data/*.tar").unwrap();
        for split in ["train", "test"] {
            card(split).write(&location).await.unwrap();
            let text = text(&location).await;
            assert!(
                text.contains(&format!("  - split: {split}\n    path: data/*.tar\n")),
                "{text}"
            );
        }
        let place = location.join(NAME);
        place.store.put(&place.path, "# My photos".into()).await.unwrap();
        card("train").write(&location).await.unwrap();
        assert_eq!(text(&location).await, "# My photos");
        assert!(Card::new("a b".to_owned(), "").is_err());
    }
}
