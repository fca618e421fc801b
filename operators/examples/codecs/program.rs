//! The program: jobs are run as a person runs them, and what they leave is counted.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data;

/// Runs an example job on the data, or on those of another folder (`data` among the variables), into a folder that
/// must not be there yet.
pub(crate) fn run_job(job: &str, out: &Path, set: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/examples");
    let mut command = Command::new(program()?);
    command.arg("run").arg(jobs.join(job));
    if !set.iter().any(|(name, _)| *name == "data") {
        command.args(["--set", &format!("data={}", data().display())]);
    }
    command.args(["--set", &format!("out={}", out.display())]);
    for (name, value) in set {
        command.args(["--set", &format!("{name}={value}")]);
    }
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{job}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn program() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(program) = std::env::var_os("ANABRANCH_PROGRAM") {
        return Ok(program.into());
    }
    // Examples are built into a folder beside the program.
    let here = std::env::current_exe()?;
    let beside = here.parent().and_then(Path::parent).map(|folder| folder.join("anabranch"));
    let program = beside.filter(|program| program.is_file());
    program.ok_or_else(|| "build the program first: cargo build --release -p anabranch".into())
}

/// Bytes of all files below a folder whose path the filter takes, relative to it.
pub(crate) fn bytes(folder: &Path, takes: impl Fn(&Path) -> bool) -> Result<u64, Box<dyn Error>> {
    let (mut folders, mut sum) = (vec![folder.to_owned()], 0);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false if takes(entry.path().strip_prefix(folder)?) => {
                    sum += entry.metadata()?.len()
                }
                false => {}
            }
        }
    }
    Ok(sum)
}
