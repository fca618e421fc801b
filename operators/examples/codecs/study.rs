//! Makes the runs that are missing and writes the page; or one run of each part again.

use std::error::Error;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::page::{self, Recorded};
use crate::part::{Part, Runs};

/// Runs what is missing of these parts and writes them into the page.
pub(crate) fn results(parts: &[&dyn Part]) -> Result<(), Box<dyn Error>> {
    let folder = std::env::var_os("ANABRANCH_RESULTS")
        .map_or_else(|| PathBuf::from("target/results"), PathBuf::from)
        .join("codecs");
    std::fs::create_dir_all(&folder)?;
    for part in parts {
        let (mut runs, mut commits, mut others) = (Runs::new(), Vec::new(), Vec::new());
        for name in part.runs() {
            let file = folder.join(format!("{}-{name}.json", part.name()));
            let Some(kept) = kept(&file, || {
                println!("{} {name}", part.name());
                part.run(&name)
            })?
            else {
                others.push(format!("{} {name}", part.name()));
                continue;
            };
            commits.extend(kept["commit"].as_str().map(str::to_owned));
            runs.insert(name, kept["run"].clone());
        }
        if !others.is_empty() {
            println!("left to others, which are at it: {}; run this again then", others.join(", "));
            continue;
        }
        commits.sort_unstable();
        commits.dedup();
        let found = part.found(&runs)?;
        for (name, value) in &found.figures {
            println!("{name} {value:.3}");
        }
        // Read now: another process may have written its part meanwhile.
        let mut recorded = Recorded::read()?;
        recorded.put(part.name(), &found, &runs, &part.seeds(), &commits.join(" "))?;
        recorded.write()?;
    }
    Ok(())
}

/// The run that is kept in a file, or is made and kept there now; `None` when another process is making it. (One that
/// was killed leaves its claim, `.claim`, to be removed.)
fn kept(
    file: &Path,
    make: impl FnOnce() -> Result<Value, Box<dyn Error>>,
) -> Result<Option<Value>, Box<dyn Error>> {
    if let Ok(text) = std::fs::read(file) {
        return Ok(Some(serde_json::from_slice(&text)?));
    }
    let claim = file.with_extension("claim");
    if let Err(error) = File::create_new(&claim) {
        let claimed = error.kind() == ErrorKind::AlreadyExists;
        return if claimed { Ok(None) } else { Err(error.into()) };
    }
    let made = page::commit().and_then(|commit| Ok(json!({ "commit": commit, "run": make()? })));
    let written = made.and_then(|kept| {
        // Whole or not at all, for those that look meanwhile.
        let whole = file.with_extension("whole");
        std::fs::write(&whole, serde_json::to_vec(&kept)?)?;
        std::fs::rename(whole, file)?;
        Ok(kept)
    });
    std::fs::remove_file(claim)?;
    written.map(Some)
}

/// The first run of each part at a tiny size, of those that have such: what its section would look like.
pub(crate) fn try_out(parts: &[&dyn Part]) -> Result<(), Box<dyn Error>> {
    for part in parts {
        let (Some(run), Some(name)) = (part.tiny().transpose()?, part.runs().into_iter().next())
        else {
            println!("{}: cannot be tried at a tiny size", part.name());
            continue;
        };
        println!("{}", part.found(&Runs::from([(name, run)]))?.text);
    }
    Ok(())
}

/// The first run of each part again: fails when one of its numbers is not near the recorded one.
pub(crate) fn verify(parts: &[&dyn Part]) -> Result<(), Box<dyn Error>> {
    let recorded = Recorded::read()?;
    let mut wrong = Vec::new();
    for part in parts {
        let first = part.runs().into_iter().next().ok_or("a part without runs")?;
        let before = recorded.run(part.name(), &first);
        let before = before.ok_or_else(|| {
            format!("{} {first} is not recorded: `ci/results codecs` first", part.name())
        })?;
        let again = part.run(&first)?;
        let count = wrong.len();
        differences(*part, "", before, &again, &mut wrong);
        let verdict = if wrong.len() == count { "as recorded" } else { "DIFFERS" };
        println!("{} {first}: {verdict}", part.name());
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("not as recorded: {}", wrong.join("; ")).into()),
    }
}

/// Collects the numbers that are not near.
fn differences(part: &dyn Part, at: &str, before: &Value, now: &Value, wrong: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) if before.len() == now.len() => {
            for (name, value) in before {
                let found = now.get(name).unwrap_or(&Value::Null);
                differences(part, &format!("{at}/{name}"), value, found, wrong);
            }
        }
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            for (place, (value, found)) in before.iter().zip(now).enumerate() {
                differences(part, &format!("{at}/{place}"), value, found, wrong);
            }
        }
        (Value::Number(one), Value::Number(other)) => {
            let (one, other) = (one.as_f64(), other.as_f64());
            let near = one.zip(other).is_some_and(|(one, other)| part.near(at, one, other));
            if !near {
                wrong.push(format!("{}{at}: {now}, recorded {before}", part.name()));
            }
        }
        _ if before == now => {}
        _ => wrong.push(format!("{}{at}: {now}, recorded {before}", part.name())),
    }
}
