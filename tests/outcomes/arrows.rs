//! Which crate may know what, how long files may be, and what they are called (DESIGN, section 3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anabranch_tests::program::root;

/// The crates of the workspace that each may depend on, tests aside.
const ARROWS: [(&str, &[&str]); 6] = [
    ("anabranch-pipelines", &[]),
    ("anabranch-models", &[]),
    ("anabranch-operators", &["anabranch-pipelines", "anabranch-models"]),
    ("anabranch-connectors", &["anabranch-pipelines"]),
    (
        "anabranch",
        &["anabranch-pipelines", "anabranch-models", "anabranch-operators", "anabranch-connectors"],
    ),
    (
        "anabranch-tests",
        &[
            "anabranch",
            "anabranch-pipelines",
            "anabranch-models",
            "anabranch-operators",
            "anabranch-connectors",
        ],
    ),
];

/// Libraries that belong to one crate, or a few.
const OWNED: [(&str, &[&str]); 12] = [
    ("timely", &["anabranch-pipelines"]),
    ("differential-dataflow", &["anabranch-pipelines"]),
    ("delta_kernel", &["anabranch-connectors"]),
    ("delta_kernel_default_engine", &["anabranch-connectors"]),
    ("tar", &["anabranch-connectors"]),
    ("csv", &["anabranch-connectors"]),
    ("webp", &["anabranch-operators"]),
    ("zune-jpeg", &["anabranch-operators"]),
    ("jpeg-encoder", &["anabranch-operators"]),
    ("burn", &["anabranch-models"]),
    ("clap", &["anabranch"]),
    ("indicatif", &["anabranch"]),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];

/// Names of the dependencies of each crate of the workspace that are built into it.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let of = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let built = all.filter(|dependency| dependency["kind"] != "dev");
        (text(&package["name"]), built.map(|dependency| text(&dependency["name"])).collect())
    };
    packages.map(of).collect()
}

/// Every Rust file of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<PathBuf> =
        names.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect();
    assert!(files.len() > 50, "git lists {} files", files.len());
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn arrows_between_crates_point_one_way() {
    let found = dependencies();
    assert_eq!(found.len(), ARROWS.len(), "crates without a rule: {:?}", found.keys());
    for (name, allowed) in ARROWS {
        let ours = found[name].iter().filter(|dependency| dependency.starts_with("anabranch"));
        for dependency in ours {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not know {dependency}");
        }
    }
}

#[test]
fn libraries_stay_in_their_crates() {
    let found = dependencies();
    for (library, owners) in OWNED {
        for (name, dependencies) in &found {
            let knows = dependencies.iter().any(|dependency| dependency == library);
            assert!(!knows || owners.contains(&name.as_str()), "{name} must not know {library}");
        }
    }
}

#[test]
fn only_jobs_prints() {
    let macros = ["println!(", "eprintln!(", "print!(", "eprint!(", "dbg!("];
    for path in sources() {
        // Modules of unit tests and programs for people print for whoever runs them.
        let place = path.with_extension("");
        let may = place.starts_with("jobs")
            || place.iter().any(|part| ["tests", "testing", "examples"].iter().any(|n| part == *n));
        let text = read(&path);
        // What stands below the unit tests' mark prints for whoever runs them.
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = program.lines().filter(|line| !line.trim_start().starts_with("//"));
        let prints = code.filter(|line| macros.iter().any(|name| line.contains(name))).count();
        assert!(may || prints == 0, "{} prints", path.display());
    }
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    let mut lengths = Vec::new();
    for path in sources() {
        let lines = read(&path).lines().count();
        let reason = read(&path).lines().next().is_some_and(|line| line.contains("long because"));
        assert!(lines <= 600 || reason, "{} has {lines} lines", path.display());
        lengths.push(lines);
        for part in path.with_extension("").components() {
            let name = part.as_os_str().to_str().unwrap();
            assert!(!EMPTY_NAMES.contains(&name), "{}: `{name}` says nothing", path.display());
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 180, "the median file has {median} lines");
}
