//! What was damaged and what stood in for it: on stderr for people, and in a file for programs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anabranch_connectors::table::read::{Damage, RowAt, TableReader};
use serde_json::{Value, json};

use super::make::Replaced;
use super::{ReadArgs, tell};
use crate::terminal::plural;

/// Records that do not decode and are told of one by one; the report has all.
const TOLD: u64 = 10;

/// Keeps account of damage.
pub(super) struct Report {
    file: Option<(PathBuf, BufWriter<File>)>,
    shards: BTreeSet<String>,
    replaced: u64,
    undecoded: u64,
    resume: u64,
}

impl Report {
    pub(super) fn create(args: &ReadArgs, table: &TableReader) -> Result<Self, String> {
        let file = args.report.as_ref().map(|path| {
            let created = File::create(path);
            let file =
                created.map_err(|e| format!("cannot write the report {}: {e}", path.display()))?;
            Ok::<_, String>((path.clone(), BufWriter::new(file)))
        });
        let mut report = Self {
            file: file.transpose()?,
            shards: BTreeSet::new(),
            replaced: 0,
            undecoded: 0,
            resume: args.from,
        };
        report.line(&json!({
            "table": table.location(),
            "version": table.version(),
            "rows": table.rows(),
            "shuffle": args.shuffle,
            "window": args.window,
            "from": args.from,
            "worker": [args.worker.index, args.worker.of],
        }))?;
        Ok(report)
    }

    /// Takes in what was found to be damaged, and which records stand in the place of others.
    pub(super) fn add(&mut self, damage: &[Damage], replaced: &[Replaced]) -> Result<(), String> {
        for Damage { shard, rows, error } in damage {
            tell(&format!(
                "warning: rows {} to {} of `{shard}` cannot be read, and others stand in for them: {error}",
                rows.start,
                rows.end.saturating_sub(1)
            ));
            self.shards.insert(shard.clone());
            self.line(
                &json!({ "damaged": shard, "rows": [rows.start, rows.end], "error": error }),
            )?;
        }
        for Replaced { position, record, by, error, rejected } in replaced {
            if let Some(error) = error {
                self.undecoded += 1;
                if self.undecoded <= TOLD {
                    tell(&format!(
                        "warning: row {} of `{}` does not decode, and another stands in for it: {error}",
                        record.row, record.shard
                    ));
                }
            }
            self.replaced += 1;
            let row = |at: &RowAt| json!({ "shard": at.shard.as_ref(), "row": at.row });
            let mut line = json!({ "position": position, "record": row(record), "by": row(by) });
            if let (Some(error), Some(line)) = (error, line.as_object_mut()) {
                line.insert("error".to_owned(), error.as_str().into());
            }
            if let (false, Some(line)) = (rejected.is_empty(), line.as_object_mut()) {
                let one = |(at, error): &(RowAt, String)| json!({ "shard": at.shard.as_ref(), "row": at.row, "error": error });
                line.insert("rejected".to_owned(), rejected.iter().map(one).collect());
            }
            self.line(&line)?;
        }
        Ok(())
    }

    /// Notes where to go on.
    pub(super) fn reached(&mut self, resume: u64) {
        self.resume = resume;
    }

    /// Ends the file.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let line = json!({ "resume": self.resume, "replaced": self.replaced });
        self.line(&line)?;
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|e| unwritten(path, &e)),
            None => Ok(()),
        }
    }

    /// What a person should know in the end.
    pub(super) fn summary(&self) -> Option<String> {
        (self.replaced > 0).then(|| {
            let of = match self.shards.len() as u64 {
                0 => String::new(),
                shards => format!(
                    ", and {} {} damaged",
                    plural(shards, "shard"),
                    if shards == 1 { "is" } else { "are" }
                ),
            };
            let hint = match self.file {
                Some(_) => "the report names them",
                None => "`--report FILE` names them",
            };
            format!("{} stood in for others{of}; {hint}", plural(self.replaced, "record"))
        })
    }

    fn line(&mut self, value: &Value) -> Result<(), String> {
        match &mut self.file {
            Some((path, file)) => writeln!(file, "{value}").map_err(|e| unwritten(path, &e)),
            None => Ok(()),
        }
    }
}

fn unwritten(path: &std::path::Path, error: &std::io::Error) -> String {
    format!("cannot write the report {}: {error}", path.display())
}
