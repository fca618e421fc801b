//! What a killed writer leaves on a local disk.

use std::io;

use super::Location;

impl Location {
    /// Removes the temporary files that killed writers of objects below this folder left, for objects whose
    /// names begin with `prefix`. The caller knows that nobody is writing such objects.
    ///
    /// A local object is written as `NAME#1` and then renamed, so a kill may leave that file, which no
    /// listing shows. Other stores show nothing of an unfinished write; what they hold of unfinished
    /// uploads is the business of their lifecycle rules.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub async fn clear_leftovers(&self, prefix: &str) -> io::Result<()> {
        let Some(folder) = self.local_path() else { return Ok(()) };
        let prefix = prefix.to_owned();
        let clear = move || {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let leftover = entry.file_name().to_str().is_some_and(|name| {
                    name.starts_with(&prefix)
                        && name.rsplit_once('#').is_some_and(|(_, number)| {
                            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
                        })
                });
                if leftover {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(clear).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_leftovers_of_these_writers_go() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            ["r1-a.parquet", "r1-a.parquet#1", "r1-b.parquet#12", "r2-a.parquet#1", "r1-#x"];
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let place = Location::parse(folder.path().to_str().unwrap()).unwrap();
        place.clear_leftovers("r1-").await.unwrap();
        let left = std::fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> =
            left.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["r1-#x", "r1-a.parquet", "r2-a.parquet#1"]);
        place.join("none").clear_leftovers("r1-").await.unwrap();
    }
}
