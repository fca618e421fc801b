//! `anabranch init`: a job file for a path that it looked into.

use std::path::{Path, PathBuf};

use anabranch_connectors::source::first_members;
use anabranch_pipelines::record::{KEY, Modality};
use arrow::array::AsArray;
use futures::StreamExt;

use super::{Exit, Failure, plan, print, scan, tell};
use crate::components::{Registry, make, with_path};
use crate::init::{Guess, guess, job, look};
use crate::job::Job;

/// What to look at, and where to write.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// A folder or a file, as a path or URL.
    #[arg(value_name = "PATH")]
    path: String,
    /// The job file to write; `-` is stdout.
    #[arg(long, value_name = "FILE", default_value = "job.toml")]
    to: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// Writes the job and checks it.
pub(super) fn init(registry: &Registry, args: &InitArgs) -> Result<Exit, Failure> {
    let path = args.path.trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let failed = |message: String| {
        Failure::new(Exit::Failed, format!("error: cannot make a job for {path}: {message}"))
    };
    let found = plan::with_io(look(path))?.map_err(failed)?;
    let mut guess = guess(&found).map_err(failed)?;
    if guess.kind == "tar" {
        // An archive that cannot be read has no names; the check below tells of it.
        let names = plan::with_io(first_members(&guess.path))?.unwrap_or_default();
        guess = guess.with_names(&names);
    }
    if matches!(guess.kind, "tar" | "zip")
        && let Some(members) = plan::with_io(members(registry, &guess))?
    {
        let names: Vec<&str> = members.names.iter().map(String::as_str).collect();
        guess = guess.with_members(&found, members.modality, members.encoding.as_deref(), &names);
    }
    let text = job(path, &guess);
    let to_stdout = args.to.as_os_str() == "-";
    if to_stdout {
        print(&text)?;
    } else {
        write(&args.to, &text, args.force)?;
    }
    let label = args.to.display().to_string();
    let checked = Job::read(registry, &label, &text, &[]).map_err(|p| p.to_string());
    let checked = match checked {
        Ok(job) => plan::with_io(job.plan())?.map(|_| ()).map_err(|p| p.to_string()),
        Err(problems) => Err(problems),
    };
    if let Err(problems) = checked {
        tell(&format!("{problems}\nthe job is written, but not right yet: mend what stands above"));
    }
    if !to_stdout {
        print(&format!(
            "wrote {label}: {} of `kind = \"{}\"`\nnext: anabranch plan {label} --sample 100\n",
            guess.path, guess.kind
        ))?;
    }
    Ok(Exit::Done)
}

/// The first members of an archive.
struct Members {
    modality: Option<Modality>,
    encoding: Option<String>,
    names: Vec<String>,
}

/// Looks into the archives; `None` when they cannot be read, which the check then tells.
async fn members(registry: &Registry, guess: &Guess) -> Option<Members> {
    let source = make(registry, &registry.sources, guess.kind, &with_path(&guess.path)).ok()?;
    let schema = source.schema().await.ok()?;
    let mut media = schema.fields().iter().filter_map(|field| Some((field, Modality::of(field)?)));
    let (field, modality) = media.next()?;
    let batch = scan::open(source.as_ref()).await.ok()?.next().await?.ok()?.records;
    let texts = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    let encodings = texts(&format!("{}_encoding", field.name()));
    Some(Members {
        modality: Some(modality),
        encoding: encodings.and_then(|e| e.iter().flatten().next().map(str::to_owned)),
        names: texts(KEY).into_iter().flatten().flatten().map(str::to_owned).collect(),
    })
}

fn write(to: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed =
        |why: String| Failure::new(Exit::Failed, format!("error: {}: {why}", to.display()));
    let mut options = std::fs::OpenOptions::new();
    let options =
        if force { options.create(true).truncate(true) } else { options.create_new(true) };
    let mut file = options.write(true).open(to).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            failed("it is there already; `--force` replaces it, `--to` names another".to_owned())
        }
        _ => failed(error.to_string()),
    })?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|error| failed(error.to_string()))
}
