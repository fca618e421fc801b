//! The epochs of a stream: how each was cut, written before anything of it is read.
//!
//! A batch job's cuts follow from its data; a stream's depend on when the data came. So a stream's cut is
//! written to the run log first, and a start after a kill cuts the same epochs again.

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::run_log::{json, number};
use super::{Cut, LogError, RunLog};

/// One epoch of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, which is the name of the entry.
    pub epoch: u64,
    /// The generation that cut it.
    pub generation: u64,
    /// The commit that it belongs to.
    pub commit: u64,
    /// Its parts, at most one of each source. None when it does nothing but close the commit.
    pub parts: Vec<StreamPart>,
    /// Whether the commit is closed with it.
    pub closes: bool,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPart {
    /// What the commit will say of it.
    pub cut: Cut,
    /// What to read: ordinal of the split in the listing, and offsets `from..to` in it.
    pub ranges: Vec<(u64, u64, u64)>,
}

impl RunLog {
    /// Writes an epoch before anything of it is read. When an older generation cut it since this one began,
    /// that is how it is cut, and is given back.
    ///
    /// # Errors
    /// [`LogError::Fenced`] when a newer generation cut this epoch.
    pub async fn record(&self, epoch: &Epoch) -> Result<Option<Epoch>, LogError> {
        let path = self.epoch_path(epoch.epoch);
        if self.create(&path, json(&path, epoch)?).await? {
            return Ok(None);
        }
        match self.read_if_there::<Epoch>(&path).await? {
            Some(there) if there == *epoch => Ok(None),
            Some(there) if there.generation < epoch.generation => Ok(Some(there)),
            there => Err(LogError::Fenced {
                number: epoch.commit,
                generation: there.map_or(0, |there| there.generation),
            }),
        }
    }

    /// The epochs that were cut from number `first` on, in order.
    ///
    /// # Errors
    /// When the store fails, an entry is damaged or one is missing.
    pub async fn epochs(&self, first: u64) -> Result<Vec<Epoch>, LogError> {
        let prefix = self.root().clone().join("cuts");
        let mut names: Vec<Path> = self
            .store()
            .list(Some(&prefix))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|source| self.error(&prefix, source))?;
        names.retain(|name| number(name).is_some_and(|number| number >= first));
        names.sort();
        let mut epochs = Vec::with_capacity(names.len());
        for (number, path) in (first..).zip(&names) {
            let damaged = |message: &str| LogError::Damaged {
                path: path.to_string(),
                message: message.into(),
            };
            let epoch = self.read_if_there::<Epoch>(path).await?;
            let epoch = epoch.ok_or_else(|| damaged("it is gone"))?;
            if epoch.epoch != number {
                return Err(damaged(&format!("epoch {number}, which comes before it, is missing")));
            }
            epochs.push(epoch);
        }
        Ok(epochs)
    }

    /// Deletes the entries of epochs before this one, whose commits are durable.
    ///
    /// # Errors
    /// When the store fails. What is left then costs space and nothing else.
    pub async fn forget_epochs_before(&self, epoch: u64) -> Result<(), LogError> {
        let prefix = self.root().clone().join("cuts");
        let old = |path: &Path| number(path).is_some_and(|number| number < epoch);
        let names: Vec<Path> = self
            .store()
            .list(Some(&prefix))
            .map_ok(|object| object.location)
            .try_filter(|path| std::future::ready(old(path)))
            .try_collect()
            .await
            .map_err(|source| self.error(&prefix, source))?;
        for path in names {
            match self.store().delete(&path).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => {}
                Err(source) => return Err(self.error(&path, source)),
            }
        }
        Ok(())
    }

    fn epoch_path(&self, epoch: u64) -> Path {
        self.root().clone().join("cuts").join(format!("{epoch:012}.json"))
    }
}
