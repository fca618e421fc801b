//! From a guess to the text of a job file, with a reason beside every choice.

use std::fmt::Write;

use anabranch_pipelines::record::Modality;
use toml::Value;

use super::guess::Guess;

/// The job for data below `root`.
pub fn job(root: &str, guess: &Guess) -> String {
    let name = name(root);
    let mut out = format!(
        "# Written by `anabranch init` after a look at {root}. Check it, then:\n\
         #   anabranch plan FILE --sample 100    what the first records become, and a prediction\n\
         #   anabranch run FILE\n\n\
         [job]\nname = \"{name}\"\n\n"
    );
    let what = match guess.files {
        1 => "one file".to_owned(),
        files => format!("{files} files"),
    };
    let _ = write!(out, "# {what}");
    if !guess.others.is_empty() {
        let _ = write!(out, "; left out: {}", guess.others.join(", "));
    }
    let _ = write!(
        out,
        ".\n[source.input]\nkind = \"{}\"\npath = {}\n",
        guess.kind,
        Value::from(guess.path.as_str())
    );
    if let Some(labels) = &guess.labels {
        let path = Value::from(format!("{root}/{}", labels.name));
        let _ = writeln!(
            out,
            "# This table names the files; its columns come along: {}.",
            labels.columns.join(", ")
        );
        let key = Value::from(labels.key.as_str());
        let _ = writeln!(out, "labels = {{ path = {path}, key = {key} }}");
    }
    if guess.kind == "text" {
        out.push_str("# What a record is: \"lines\", \"paragraphs\", \"pieces\" or \"files\".\nsplit = \"paragraphs\"\n");
    }
    let last = operators(&mut out, guess);
    let _ = write!(
        out,
        "\n# Parquet files under a Delta log: Polars, DuckDB and Spark open it. For Hugging Face `datasets`, say\n\
         # `kind = \"parquet\"` instead.\n\
         [sink.table]\nkind = \"table\"\npath = \"{name}-table\"\ninputs = [\"{last}\"]\n"
    );
    out
}

/// The operators; the name of the last node before the sink.
fn operators(out: &mut String, guess: &Guess) -> &'static str {
    let (Some(modality), Some(codec)) = (guess.modality, guess.codec) else { return "input" };
    let mut last = "input";
    if modality != Modality::Text {
        let _ = write!(
            out,
            "\n# A file that does not decode becomes a dead letter with its reason; the others go on.\n\
             [operator.decode]\nkind = \"decode\"\ncolumn = \"{modality}\"\ninputs = [\"input\"]\n"
        );
        last = "decode";
    }
    let _ = write!(
        out,
        "\n# {}\n[operator.compress]\nkind = \"encode\"\ncolumn = \"{modality}\"\ncodec = \"{}\"\n",
        codec.reason, codec.name
    );
    if let Some(quality) = codec.quality {
        let _ = writeln!(out, "quality = {quality}");
    }
    let _ = writeln!(out, "inputs = [\"{last}\"]");
    "compress"
}

/// A job's name from a path: its last part, in the letters that names may have.
fn name(root: &str) -> String {
    let last = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.split_once('.').map_or(last, |(stem, _)| stem);
    let name: String = last
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "job".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_that_jobs_may_have() {
        let names = ["s3://bucket/Träining set/", "photos", "/", "a.tar.gz"].map(name);
        assert_eq!(names, ["Tr-ining-set", "photos", "job", "a"]);
    }
}
