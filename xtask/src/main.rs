//! The project's own commands, `cargo xtask …`: reads the arguments and runs the command.

// A command prints for a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod compatibility;
mod deny;
mod docs;
mod features;
mod floors;
mod fuzz;
mod metadata;
mod package;
mod packed;
mod reliability;
mod test;
mod tools;
mod workflows;
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
        ["test", options @ ..] => match test::chosen(options) {
            Ok(steps) => Workspace::load().and_then(|workspace| test::run(&workspace, &steps)),
            Err(what) => return misused(&what),
        },
        ["site"] => Workspace::load().and_then(|workspace| docs::site(&workspace)),
        ["advisories"] => Workspace::load().and_then(|workspace| deny::advisories(&workspace)),
        ["docs"] => Workspace::load().and_then(|workspace| test::write_docs(&workspace)),
        ["soak", "--minutes", minutes] => match minutes.parse() {
            Ok(minutes @ 1..) => {
                Workspace::load().and_then(|workspace| reliability::soak(&workspace, minutes))
            }
            _ => return misused(&format!("`{minutes}` is not a number of minutes")),
        },
        ["package"] => Workspace::load().and_then(|workspace| package::write(&workspace)),
        ["notices", folder] => {
            Workspace::load().and_then(|workspace| package::write_notices(&workspace, folder.as_ref()))
        }
        ["reliability"] => Workspace::load().and_then(|workspace| reliability::write(&workspace)),
        ["bench"] => Workspace::load().and_then(|workspace| bench::write(&workspace)),
        ["fuzz", "--again", target, input] => {
            Workspace::load().and_then(|workspace| fuzz::again(&workspace, target, input))
        }
        ["fuzz", options @ ..] => match fuzz::Plan::read(options) {
            Some(plan) => Workspace::load().and_then(|workspace| fuzz::run(&workspace, &plan)),
            None => return misused(&format!("invalid options for fuzz: `{}`", options.join(" "))),
        },
        other => return misused(&format!("unknown command `{}`", other.join(" "))),
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
cargo xtask test               run all steps, in the order below
cargo xtask test --only STEP [--only STEP]...
                               run these steps only, in the order below
cargo xtask docs               run the tests behind docs/compatibility.md, and write the page;
                               write the pictures in azure-dps-emulator/docs/images
cargo xtask site               build the documentation site in target/site, and follow its links
cargo xtask advisories         run the step deny, and look for security advisories, whose list is downloaded
cargo xtask package            build the packages for npm and PyPI, for this machine, below target/packages
cargo xtask notices FOLDER     write the licence texts of what the emulator program contains into this folder
cargo xtask reliability        run the fault matrix, and write its section of docs/reliability.md
cargo xtask soak --minutes N   run a mixed load, and write its section of docs/reliability.md; fails if memory,
                               descriptors or tasks grow
cargo xtask bench              measure, and write docs/performance.md; takes minutes; needs an otherwise idle machine
cargo xtask fuzz [--seconds N] [--only TARGET]
                               run each fuzz target, or one, for N seconds [default: 30]
cargo xtask fuzz --again TARGET FILE
                               run a fuzz target once, on an input that made it fail
cargo xtask help               print this help

Steps:
{lines}
The run ends at the first step that fails, with a status other than 0. A step installs missing tools below
target/ and, as root on Debian, missing packages with apt-get. Elsewhere it reports what to install.
"
    )
}
