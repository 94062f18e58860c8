//! `doorbell completions` and `doorbell man`: made from the same definition that parses the command line.

use crate::cli::Cli;
use crate::context::{Context, print};
use crate::exit::{self, Exit, TABLE};
use crate::failure::Failure;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use doorbell_client::api::{SOCKET_DEFAULT, SOCKET_ENV};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The directory; it must exist
    dir: PathBuf,
}

pub(crate) fn completions(context: &Context, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "doorbell", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if context.json {
        context.show(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }), |_| {
            String::new()
        })?;
    } else {
        print(&script)?;
    }
    Ok(Exit::Done)
}

pub(crate) fn pages(context: &Context, args: &ManArgs) -> Result<Exit, Failure> {
    let mut command = without_help(Cli::command());
    command.build();
    let mut written = Vec::new();
    write_pages(&command, &args.dir, &mut written).map_err(|error| {
        let dir = args.dir.display();
        Failure::new(
            Exit::Misused,
            format!("cannot write man pages into {dir}: {error}; give a directory that exists"),
        )
    })?;
    context.show(&written, |written| written.iter().map(|path| format!("{path}\n")).collect())?;
    Ok(Exit::Done)
}

/// The `help` commands say what the pages say, and have none of their own to refer to.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// A page for this command and for each command below it.
fn write_pages(command: &Command, dir: &Path, written: &mut Vec<String>) -> io::Result<()> {
    let man = Man::new(command.clone())
        .manual("Doorbell")
        .source(format!("doorbell {}", env!("CARGO_PKG_VERSION")));
    let path = dir.join(man.get_filename());
    std::fs::write(&path, page(command, &man)?)?;
    written.push(path.display().to_string());
    for below in command.get_subcommands() {
        write_pages(below, dir, written)?;
    }
    Ok(())
}

fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    notes(command).to_writer(&mut text)?;
    exit_status().to_writer(&mut text)?;
    environment().to_writer(&mut text)?;
    Ok(text)
}

/// As the help has it: only there the `--` in front of a guest's command is shown.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage.trim_start_matches("Usage: "))]);
    roff
}

/// What the help has behind the options, but for the table of statuses, which has a section of its own here.
fn notes(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let behind = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let notes = behind.split(exit::HEAD).next().unwrap_or_default().trim_end();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        for paragraph in notes.split("\n\n") {
            roff.control("PP", []);
            roff.text([roman(paragraph)]);
        }
    }
    roff
}

fn exit_status() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in TABLE {
        roff.control("TP", []);
        roff.text([bold(status)]);
        roff.text([roman(meaning)]);
    }
    roff
}

fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    roff.control("TP", []);
    roff.text([bold(SOCKET_ENV)]);
    roff.text([roman(format!(
        "the manager's socket, where --socket is not given; {SOCKET_DEFAULT} without either"
    ))]);
    roff.control("TP", []);
    roff.text([bold("NO_COLOR")]);
    roff.text([roman("no colours, on a terminal either")]);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page_with_the_exit_statuses() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Cli::command();
        command.build();
        let mut written = Vec::new();
        write_pages(&command, dir.path(), &mut written).expect("pages");
        for name in [
            "doorbell",
            "doorbell-run",
            "doorbell-guest-add",
            "doorbell-link-down",
            "doorbell-request-output",
        ] {
            let text = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).expect("a page");
            assert!(text.contains(".SH \"EXIT STATUS\""), "{name} has no exit statuses");
            assert!(text.contains("could not be started"), "{name} has an empty table");
            let has_notes = text.contains(".SH NOTES") && text.contains("once more detaches");
            assert_eq!(has_notes, name == "doorbell-run", "{name}");
            assert_eq!(text.matches("could not be started").count(), 1, "{name} has the table twice");
        }
    }
}
