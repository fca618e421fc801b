//! `anabranch completions` and `anabranch man`: what shells and `man` know of this command line.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit, Failure, print};

/// Prints the script that completes arguments in `shell`.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "anabranch", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the manual page; with a folder, writes one for every command to it.
pub(super) fn man(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else { return print(&page(Cli::command())?) };
    let write = |name: &str, text: String| {
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let program = Cli::command();
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("anabranch-{}", command.get_name());
        // The page's title; clap wants names that live as long as the program, which ends after this.
        let title: &'static str = name.clone().leak();
        write(&name, page(command.clone().name(title))?)?;
    }
    write("anabranch", page(program)?)
}

fn page(command: clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    let rendered = Man::new(command).render(&mut page);
    rendered.map_err(|error| Failure::new(Exit::Failed, format!("error: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("error: cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        man(Some(&folder.path().join("man1"))).unwrap();
        let text = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name));
        assert!(text("anabranch.1").unwrap().contains("streaming dataflow"));
        assert!(text("anabranch-run.1").unwrap().contains("if\\-exists"));
        // What the program starts itself is nobody's to call.
        assert!(text("anabranch-worker.1").is_err());
    }
}
