//! Texts, of which every paragraph can be read alone, against the whole file compressed at once.

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::{Value, json};

use crate::data;
use crate::part::{Found, Part, Runs};
use crate::program::{bytes, run_job};

pub(crate) struct Text;

/// The texts.
const FILES: [(&str, &str); 2] =
    [("tinyshakespeare", "tinyshakespeare.txt"), ("dickens", "dickens_first5MB.txt")];
/// The level of zstd that both are compared at.
const LEVEL: i32 = 19;

impl Part for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn runs(&self) -> Vec<String> {
        FILES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn run(&self, run: &str) -> Result<Value, Box<dyn Error>> {
        let (_, file) = FILES.iter().find(|(name, _)| *name == run).ok_or("no such text")?;
        let whole = std::fs::read(data().join("text").join(file))?;
        let at_once = zstd::bulk::compress(&whole, LEVEL)?.len();
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("table");
        run_job("text.toml", &out, &[("files", file)])?;
        let all = bytes(&out, |_| true)?;
        Ok(json!({ "raw": whole.len(), "zstd19_file": at_once, "table": all }))
    }

    fn found(&self, runs: &Runs) -> Result<Found, Box<dyn Error>> {
        let mut text =
            "## Text\n\n| | bytes | zstd -19 of the file | table |\n|---|---|---|---|\n".to_owned();
        let mut figures = BTreeMap::new();
        let mut least = f64::INFINITY;
        for (name, _) in FILES {
            let of = |what: &str| runs[name][what].as_f64().unwrap_or(f64::NAN);
            let (raw, at_once, table) = (of("raw"), of("zstd19_file"), of("table"));
            text += &format!("| {name} | {raw} | {at_once} | {table} |\n");
            figures.insert(format!("text.vs_zstd19_file.{name}"), at_once / table);
            least = least.min(at_once / table);
        }
        figures.insert("text.vs_zstd19_file".to_owned(), least);
        Ok(Found { figures, text })
    }
}
