//! The reference page: every kind with its options, types, defaults and an example that runs.
//!
//! It is generated from the option types themselves, so it cannot tell anything else than the program does;
//! `jobs/REFERENCE.md` is this text, and a test compares the two.
//!
//! ```
//! use anabranch::{components::Registry, reference::reference};
//!
//! let page = reference(&Registry::standard());
//! assert!(page.contains("### Source `tar`"));
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value as Json};

use crate::components::{Component, Registry};
use crate::job::job_schema;

mod examples;
mod types;

pub use examples::example;

/// The whole page, as Markdown.
pub fn reference(registry: &Registry) -> String {
    let schema = job_schema(registry);
    let mut page = Page { schema: &schema, out: HEAD.to_owned(), shared: BTreeSet::new() };
    page.job();
    page.role("Source", &registry.sources);
    page.role("Operator", &registry.operators);
    page.role("Sink", &registry.sinks);
    page.codecs();
    page.shared_tables();
    page.out
}

const HEAD: &str = "# Reference of job files\n\n\
    Written by `anabranch reference`; a test keeps it true. What every kind has to keep to stands in\n\
    [COMPONENTS.md](COMPONENTS.md). Examples run as they are: `anabranch run FILE --set data=FOLDER`.\n\
    \n\
    ## Places\n\
    \n\
    A place is a path, relative to the folder in which `anabranch` is started, or a URL of scheme `file`, `s3`, `gs`, `az`,\n\
    `http` or `https` (the last two only to read from). Credentials come from the environment, or from the machine's role:\n\
    \n\
    | Scheme | Variables |\n\
    | --- | --- |\n\
    | `s3` | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`; `AWS_SKIP_SIGNATURE=true` for a public bucket; `AWS_ENDPOINT_URL` (and `AWS_ALLOW_HTTP=true`) for another server |\n\
    | `gs` | `GOOGLE_APPLICATION_CREDENTIALS`, the path of a key file |\n\
    | `az` | `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY` |\n";

/// Keys of a role that do not depend on the kind; they are told once.
const ROLE_KEYS: [&str; 4] = ["kind", "inputs", "order", "resources"];

struct Page<'s> {
    schema: &'s Json,
    out: String,
    /// Definitions that options refer to and that are told at the end.
    shared: BTreeSet<String>,
}

impl Page<'_> {
    fn job(&mut self) {
        self.out.push_str("\n## `[job]`\n\n");
        let job = self.schema.pointer("/properties/job").cloned().unwrap_or_default();
        self.options(&job, &[]);
    }

    fn role<T: ?Sized>(&mut self, role: &str, components: &[Component<T>]) {
        let _ = write!(self.out, "\n## {role}s\n\n| Kind | Does |\n| --- | --- |\n");
        for component in components {
            let kind = component.kind;
            let anchor = format!("{}-{kind}", role.to_lowercase());
            let _ =
                writeln!(self.out, "| [`{kind}`](#{anchor}) | {} |", cell(&component.summary()));
        }
        let lower = role.to_lowercase();
        if let Some(first) = components.first() {
            let keys = self.definition(&format!("{lower}-{}", first.kind));
            let own = |name: &&str| *name == "kind" || !ROLE_KEYS.contains(name);
            let others: Vec<&str> = names(&keys).filter(own).collect();
            let _ = write!(self.out, "\nEvery {lower} also has:\n\n");
            self.options(&keys, &others);
        }
        for component in components {
            let key = format!("{lower}-{}", component.kind);
            let schema = self.definition(&key);
            let _ = write!(self.out, "\n### {role} `{}`\n\n", component.kind);
            if let Some(text) = schema.get("description").and_then(Json::as_str) {
                let _ = write!(self.out, "{}\n\n", sentence(&paragraphs(text)));
            }
            self.options(&schema, &ROLE_KEYS);
            if let Some(example) = example(&key) {
                let _ = write!(self.out, "\n```toml\n{}\n```\n", example.trim());
            }
        }
    }

    fn codecs(&mut self) {
        self.out.push_str(
            "\n## Codecs\n\nNames for `codec` of `kind = \"encode\"`; `decode` tells a codec by its first \
             bytes.\n\n| Codec | Modality |\n| --- | --- |\n",
        );
        let codecs = anabranch_operators::codec::ALL.iter().copied();
        let (encoders, only_decoded): (Vec<_>, Vec<_>) = codecs.partition(|codec| codec.encodes());
        for codec in encoders {
            let _ = writeln!(self.out, "| `{}` | {} |", codec.name(), codec.modality());
        }
        self.out.push_str("| `latent` | image, audio |\n| `zstd` | text |\n| `bzip2` | text |\n| `pco` | tensor |\n");
        self.out.push_str(
            "\nOnly decoded, so no names for `codec`:\n\n| Codec | Modality |\n| --- | --- |\n",
        );
        for codec in only_decoded {
            let _ = writeln!(self.out, "| `{}` | {} |", codec.name(), codec.modality());
        }
    }

    /// Tables that several options share, and those that these refer to.
    fn shared_tables(&mut self) {
        self.out.push_str("\n## Tables of options\n");
        let mut told = BTreeSet::new();
        while let Some(name) = self.shared.difference(&told).next().cloned() {
            let schema = self.definition(&name);
            let _ = write!(self.out, "\n### {name}\n\n");
            if let Some(text) = schema.get("description").and_then(Json::as_str) {
                let _ = write!(self.out, "{}\n\n", paragraphs(text));
            }
            self.options(&schema, &[]);
            told.insert(name);
        }
    }

    /// A table of the options of `schema`, those that must be given first.
    fn options(&mut self, schema: &Json, but: &[&str]) {
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let mut rows: Vec<_> =
            properties.iter().filter(|(name, _)| !but.contains(&name.as_str())).collect();
        rows.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
        if rows.is_empty() {
            self.out.push_str("No options of its own.\n");
            return;
        }
        self.out.push_str("| Option | Type | What |\n| --- | --- | --- |\n");
        for (name, option) in rows {
            let mut types = types::Types { schema: self.schema, tables: &mut self.shared };
            let kind = types.of(option);
            let must = if required.contains(&name.as_str()) { ", required" } else { "" };
            let text = option.get("description").and_then(Json::as_str).unwrap_or_default();
            let default = types::default(option);
            let _ = writeln!(
                self.out,
                "| `{name}` | {}{must} | {}{default} |",
                cell(&kind),
                cell(&paragraphs(text))
            );
        }
    }

    fn definition(&self, name: &str) -> Json {
        self.schema.pointer(&format!("/$defs/{name}")).cloned().unwrap_or_default()
    }
}

fn names(schema: &Json) -> impl Iterator<Item = &str> {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str))
}

/// Documentation as one line per paragraph: where lines of source break says nothing.
fn paragraphs(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// What a kind does, from the documentation of its options.
fn sentence(text: &str) -> String {
    let what = match text.split_once("`: ") {
        Some((before, what)) if before.starts_with("Options of") => what,
        _ => text,
    };
    let mut letters = what.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text that stays within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", "<br>").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_this_program_s() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/REFERENCE.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference(&Registry::standard()),
            "jobs/REFERENCE.md is out of date: `cargo run -- reference > jobs/REFERENCE.md`"
        );
    }

    #[test]
    fn codecs_that_encode_are_those_that_encode_takes() {
        let page = reference(&Registry::standard());
        let codecs = page.split("\n## Codecs\n").nth(1).unwrap();
        let (encoded, decoded) = codecs.split_once("Only decoded").unwrap();
        let decoded = decoded.split("\n## ").next().unwrap();
        let schema = |codec: &str| {
            let options = serde_json::json!({ "column": "a", "codec": codec });
            serde_json::from_value::<anabranch_operators::EncodeOptions>(options).unwrap().build()
        };
        for codec in anabranch_operators::codec::ALL {
            let row = format!("| `{}` |", codec.name());
            let takes = schema(codec.name()).is_ok();
            assert_eq!((encoded.contains(&row), decoded.contains(&row)), (takes, !takes), "{row}");
        }
    }

    #[test]
    fn every_kind_has_an_example_and_says_what_it_does() {
        let registry = Registry::standard();
        let kinds = registry.sources.iter().map(|c| (format!("source-{}", c.kind), c.summary()));
        let kinds = kinds
            .chain(registry.operators.iter().map(|c| (format!("operator-{}", c.kind), c.summary())))
            .chain(registry.sinks.iter().map(|c| (format!("sink-{}", c.kind), c.summary())));
        for (name, summary) in kinds {
            assert!(example(&name).is_some(), "no jobs/examples/reference/{name}.toml");
            assert!(!summary.is_empty(), "{name} has no description");
        }
    }
}
