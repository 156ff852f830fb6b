//! The project's own commands, `cargo xtask …`: which words there are and what they answer.

// A command talks to a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod compatibility;
mod docs;
mod features;
mod floors;
mod fuzz;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use crate::test::{STEPS, Step};
use crate::workspace::Workspace;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help" | "--help" | "-h"] | ["fuzz", "--help" | "-h"] => {
            print!("{}", help());
            return ExitCode::SUCCESS;
        }
        ["test"] => Workspace::load().and_then(|workspace| test::run(&workspace, &STEPS)),
        ["test", "--only", name] => match STEPS.iter().find(|step| step.name == *name) {
            Some(step) => {
                Workspace::load().and_then(|workspace| test::run(&workspace, std::slice::from_ref(step)))
            }
            None => return misused(&format!("there is no step `{name}`")),
        },
        ["docs"] => Workspace::load().and_then(|workspace| test::write_docs(&workspace)),
        ["fuzz", "--again", target, input] => {
            Workspace::load().and_then(|workspace| fuzz::again(&workspace, target, input))
        }
        ["fuzz", options @ ..] => match fuzz::Plan::read(options) {
            Some(plan) => Workspace::load().and_then(|workspace| fuzz::run(&workspace, &plan)),
            None => return misused(&format!("`{}` are no options of fuzz", options.join(" "))),
        },
        other => return misused(&format!("`{}` is not a command", other.join(" "))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn misused(what: &str) -> ExitCode {
    eprintln!("error: {what}; see `cargo xtask help`");
    ExitCode::from(2)
}

fn help() -> String {
    let lines: String = STEPS.iter().map(|Step { name, what, .. }| format!("  {name:<12}{what}\n")).collect();
    format!(
        "\
cargo xtask test               run everything that has to hold, in the order below
cargo xtask test --only STEP   run one step
cargo xtask docs               write docs/compatibility.md from what the test suites run
cargo xtask fuzz [--seconds N] [--only TARGET]
                               run each fuzz target for N seconds, 30 unless told
cargo xtask fuzz --again TARGET FILE
                               run a fuzz target once, on an input that was found
cargo xtask help               print this

Steps:
{lines}
The first failure ends the run with a status other than 0. What a step needs and the machine lacks is installed
under target/ or, as root on Debian, with apt-get; otherwise the step says what to install.
"
    )
}
