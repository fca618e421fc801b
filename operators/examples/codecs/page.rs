//! The page of results: a JSON file of figures with every raw value, and the same for people.
//!
//! Each part is written by itself, so that one part can be run again without the others.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::part::{Found, Runs};

/// What stands before the parts.
const HEADER: &str = "# Results: codecs\n\nWritten by `ci/results codecs`, checked by `ci/verify codecs`. Bytes are \
    those of files as they are stored, everything included that reading a record needs. Intervals hold with \
    confidence 95 %.\n";

/// What the page holds.
pub(crate) struct Recorded {
    /// Figures by name, and `_run`.
    figures: Map<String, Value>,
}

impl Recorded {
    /// The page as it stands, empty when there is none.
    pub(crate) fn read() -> Result<Self, Box<dyn Error>> {
        let file = folder().join("codecs.json");
        let figures = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("{}: {error}", file.display()))?,
            Err(_) => Map::new(),
        };
        Ok(Self { figures })
    }

    /// A run as it was recorded.
    pub(crate) fn run(&self, part: &str, run: &str) -> Option<&Value> {
        self.figures.get("_run")?.get("parts")?.get(part)?.get("raw")?.get(run)
    }

    /// Puts a part in the place of what was there of it.
    pub(crate) fn put(
        &mut self,
        part: &str,
        found: &Found,
        runs: &Runs,
        seeds: &[u64],
        commit: &str,
    ) -> Result<(), Box<dyn Error>> {
        let prefix = format!("{part}.");
        let foreign = found.figures.keys().find(|name| !name.starts_with(&prefix));
        if let Some(name) = foreign {
            return Err(format!("{name} is no figure of {part}").into());
        }
        self.figures.retain(|name, _| !name.starts_with(&prefix));
        let figures = found.figures.iter().map(|(name, value)| (name.clone(), json!(value)));
        self.figures.extend(figures);
        let run = self.figures.entry("_run").or_insert_with(
            || json!({ "command": "ci/results codecs", "seeds": [], "raw": {}, "parts": {} }),
        );
        run["machine"] = json!(machine());
        run["parts"][part] =
            json!({ "commit": commit, "seeds": seeds, "raw": runs, "text": found.text });
        let parts = run["parts"].as_object().cloned().unwrap_or_default();
        let mut commits: Vec<&str> =
            parts.values().filter_map(|part| part["commit"].as_str()).collect();
        commits.sort_unstable();
        commits.dedup();
        run["commit"] = json!(commits.join(" "));
        let of = |what: &str| -> Map<String, Value> {
            parts.iter().map(|(name, part)| (name.clone(), part[what].clone())).collect()
        };
        run["seeds"] = json!(of("seeds"));
        // The raw values stand in `parts`; here is where to look.
        run["raw"] = json!("parts/NAME/raw");
        Ok(())
    }

    /// Writes `codecs.json` and `codecs.md`.
    pub(crate) fn write(&self) -> Result<(), Box<dyn Error>> {
        std::fs::create_dir_all(folder())?;
        let pretty = serde_json::to_string_pretty(&self.figures)? + "\n";
        std::fs::write(folder().join("codecs.json"), pretty)?;
        let parts = self.figures.get("_run").and_then(|run| run["parts"].as_object());
        let order = crate::PARTS.iter().filter_map(|part| parts?.get(part.name()));
        let texts = order.filter_map(|part| part["text"].as_str());
        let machine = format!("Machine: {}.\n", machine());
        let text: String =
            [HEADER, &machine].into_iter().chain(texts.flat_map(|t| ["\n", t])).collect();
        std::fs::write(folder().join("codecs.md"), text)?;
        Ok(())
    }
}

/// Where pages are.
fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results"))
}

/// The commit of the working tree, with a `+` when it has changes.
pub(crate) fn commit() -> Result<String, Box<dyn Error>> {
    let git = |arguments: &[&str]| -> Result<String, Box<dyn Error>> {
        let here = ["-C", env!("CARGO_MANIFEST_DIR")];
        let output = Command::new("git").args(here).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed =
        !git(&["status", "--porcelain", "--untracked-files=no", ":(exclude,top)docs"])?.is_empty();
    Ok(git(&["rev-parse", "--short=10", "HEAD"])? + if changed { "+" } else { "" })
}

/// What the runs were made on.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| Some(line.split_once(':')?.1.trim()));
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    format!("{processors} cores of {}, shared", model.unwrap_or(std::env::consts::ARCH))
}
