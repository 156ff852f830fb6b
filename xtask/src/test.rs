//! The steps of `cargo xtask test`: the rules that the project keeps, and the commands that check them.
//! `workspace.rs` runs commands.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench;
use crate::compatibility;
use crate::deny;
use crate::docs;
use crate::features::{FEATURE_SETS, all};
use crate::floors;
use crate::fuzz;
use crate::metadata;
use crate::package;
use crate::packed;
use crate::reliability;
use crate::tools;
use crate::workflows;
use crate::workspace::{Result, Workspace, output, run as run_command};

/// A rule that the project keeps, and its check.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    run: fn(&Workspace) -> Result,
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "metadata",
        what: "published crates declare their Rust version and licence",
        run: metadata::check,
    },
    Step { name: "fmt", what: "the code is formatted", run: fmt },
    Step {
        name: "floors",
        what: "imports follow the floors in docs/architecture.md; files and lines are short",
        run: floors::check,
    },
    Step {
        name: "workflows",
        what: "the workflows reveal no secret; they and the Dockerfile are valid",
        run: workflows::check,
    },
    Step { name: "clippy", what: "no target has a warning, with all features", run: clippy },
    Step { name: "features", what: "each named feature set compiles alone, without warnings", run: features },
    Step { name: "proofs", what: "no feature set depends on a crate that it excludes", run: proofs },
    Step { name: "deny", what: "all dependencies have allowed licences and sources", run: deny::check },
    Step {
        name: "test",
        what: "unit, integration and documentation tests pass, and the samples run",
        run: test,
    },
    Step {
        name: "matrix",
        what: "one network fault anywhere ends in success or the right error",
        run: reliability::check,
    },
    Step { name: "attack", what: "the released emulator program survives attacks", run: attack },
    Step {
        name: "packages",
        what: "the packages for npm and PyPI install offline and work",
        run: package::check,
    },
    Step { name: "doc", what: "the documentation has no warnings and no dead links", run: docs::check },
    Step { name: "site", what: "the documentation site has every page and no dead links", run: docs::site },
    Step {
        name: "packed",
        what: "the crates can be uploaded, and docs.rs can build them",
        run: packed::check,
    },
    Step {
        name: "interop",
        what: "the official Node and Python clients work with the emulator, also from another machine",
        run: interop,
    },
    Step { name: "browser", what: "the page on the management port works in a real browser", run: browser },
    Step { name: "bench", what: "the benchmarks build and run once", run: bench::once },
    Step {
        name: "compat",
        what: "docs/compatibility.md lists what the steps test and interop ran",
        run: compat,
    },
];

/// The steps that the options of `cargo xtask test` name, in the order of the list. Without options: all.
///
/// # Errors
/// One line that says which option is wrong.
pub(crate) fn chosen(options: &[&str]) -> Result<Vec<Step>> {
    let mut names = BTreeSet::new();
    for option in options.chunks(2) {
        match option {
            ["--only", name] if STEPS.iter().any(|step| step.name == *name) => names.insert(*name),
            ["--only", name] => return Err(format!("unknown step `{name}`")),
            _ => return Err(format!("invalid options for test: `{}`", options.join(" "))),
        };
    }
    let wanted = |step: &&Step| names.is_empty() || names.contains(step.name);
    Ok(STEPS.iter().filter(wanted).copied().collect())
}

/// Runs steps until one fails, and prints how long each took.
pub(crate) fn run(workspace: &Workspace, steps: &[Step]) -> Result {
    let mut times = String::new();
    let mut total = Duration::ZERO;
    let mut outcome = Ok(());
    for (number, Step { name, what, run }) in steps.iter().enumerate() {
        println!("[{}/{}] {name}: {what}", number + 1, steps.len());
        let start = Instant::now();
        outcome = run(workspace).map_err(|failure| format!("step {name}: {failure}"));
        let time = start.elapsed();
        total += time;
        let word = if outcome.is_ok() { "" } else { "  failed" };
        times += &format!("{name:<10}{:>7.1} s{word}\n", time.as_secs_f64());
        if outcome.is_err() {
            break;
        }
    }
    println!("\n{times}{:<10}{:>7.1} s", "together", total.as_secs_f64());
    outcome
}

fn fmt(workspace: &Workspace) -> Result {
    tools::component(workspace, "rustfmt")?;
    run_command(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    run_command(&mut workspace.cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result {
    tools::component(workspace, "clippy")?;
    let select = ["clippy", "--workspace", "--all-targets"];
    run_command(workspace.cargo(&select).args(all(workspace)).args(NO_WARNINGS))?;
    // The fuzz targets' lock file, and the code that is compiled for them only.
    fuzz::fetch(workspace)?;
    let doors = ["clippy", "--quiet", "--workspace", "--lib"];
    run_command(workspace.cargo(&doors).args(all(workspace)).args(NO_WARNINGS).args(["--cfg", "fuzzing"]))
}

fn features(workspace: &Workspace) -> Result {
    tools::component(workspace, "clippy")?;
    let tpm = tools::tpm(workspace);
    for set in FEATURE_SETS.iter().filter(|set| tpm || !set.has_tpm()) {
        println!("      {}", set.name);
        // Clippy, because warnings denied by RUSTFLAGS would build every dependency anew.
        run_command(workspace.cargo(&["clippy", "--quiet"]).args(set.select).args(NO_WARNINGS))?;
    }
    Ok(())
}

fn proofs(workspace: &Workspace) -> Result {
    for set in &FEATURE_SETS {
        let mut tree = workspace.cargo(&["tree", "--edges", "normal", "--target", "all", "--prefix", "none"]);
        let names = package_names(&output(tree.args(set.select))?);
        if let Some(name) = set.without.iter().find(|name| names.contains(**name)) {
            return Err(format!("{} depends on {name}; see `cargo tree --invert {name}`", set.name));
        }
        println!("      {}: {} packages, without {}", set.name, names.len(), set.without.join(", "));
    }
    Ok(())
}

fn test(workspace: &Workspace) -> Result {
    let mut test = workspace.cargo(&["test", "--workspace"]);
    test.args(all(workspace)).env(EVIDENCE, evidence(workspace, "test")?);
    // Most tests wait for a peer or for a deadline.
    run_command(test.env(TEST_THREADS, "8"))
}

/// Attacks the program of the packages, which is optimized: its stack use and its speed differ from those of the
/// program that cargo builds for tests.
fn attack(workspace: &Workspace) -> Result {
    let program = package::program(workspace)?;
    let mut test = workspace.cargo(&["test", "--workspace", "--test", "attack"]);
    test.args(all(workspace)).args(["--", "--ignored"]);
    run_command(test.env("DPS_EMULATOR_PROGRAM", program).env(TEST_THREADS, "8"))
}

fn interop(workspace: &Workspace) -> Result {
    let (node, python) = (tools::node_clients(workspace)?, tools::python_clients(workspace)?);
    tools::namespaces(workspace);
    let tests = ["test", "--workspace", "--test", "official_clients", "--test", "namespaces"];
    let mut test = workspace.cargo(&tests);
    test.env("DPS_INTEROP_NODE", node).env("DPS_INTEROP_PYTHON", python);
    run_command(test.args(all(workspace)).env(EVIDENCE, evidence(workspace, "interop")?))
}

/// Tests the page. `pictures` is the folder for the pictures of the guide, if they are to be written.
fn browser_tests(workspace: &Workspace, pictures: Option<&Path>) -> Result {
    let Some((browser, driver)) = tools::browser(workspace)? else { return Ok(()) };
    let mut test = workspace.cargo(&["test", "--workspace", "--test", "browser"]);
    test.args(all(workspace)).env("DPS_BROWSER", browser).env("DPS_BROWSER_NODE", driver);
    // The step `interop` installs them. They run the snippets of the page.
    let (node, python) =
        (workspace.target("interop").join("node"), workspace.target("interop").join("python"));
    if node.is_dir() && python.is_dir() {
        test.env("DPS_INTEROP_NODE", node).env("DPS_INTEROP_PYTHON", python);
    }
    if let Some(folder) = pictures {
        test.env("DPS_BROWSER_PICTURES", folder);
    }
    run_command(test.env(TEST_THREADS, "4"))
}

fn browser(workspace: &Workspace) -> Result {
    browser_tests(workspace, None)
}

/// Creates the empty file in which the tests of a step note what they ran.
fn evidence(workspace: &Workspace, step: &str) -> Result<PathBuf> {
    let file = notes(workspace, step);
    std::fs::create_dir_all(workspace.target("evidence"))
        .and_then(|()| std::fs::write(&file, ""))
        .map_err(|error| format!("{} cannot be written: {error}", file.display()))?;
    Ok(file)
}

fn notes(workspace: &Workspace, step: &str) -> PathBuf {
    workspace.target("evidence").join(step).with_extension("jsonl")
}

fn noted(workspace: &Workspace) -> Result<String> {
    ["test", "interop"]
        .map(|step| {
            std::fs::read_to_string(notes(workspace, step))
                .map_err(|_| format!("the step {step} has not run; `cargo xtask test` runs all"))
        })
        .into_iter()
        .collect()
}

fn compat(workspace: &Workspace) -> Result {
    let facts = noted(workspace)?;
    let page = workspace.root().join(PAGE);
    let written =
        std::fs::read_to_string(&page).map_err(|error| format!("{PAGE} cannot be read: {error}"))?;
    if !compatibility::has_tpm(&facts) {
        println!("      not compared: no test ran with a TPM on this machine");
        return Ok(());
    }
    if compatibility::page(&facts)? != written {
        return Err(format!("{PAGE} differs from what ran; `cargo xtask docs` writes it again"));
    }
    Ok(())
}

/// Runs the tests that the page of compatibility is about, and writes it. Writes the pictures in the guide too.
pub(crate) fn write_docs(workspace: &Workspace) -> Result {
    let mut suites = workspace.cargo(&["test", "--workspace", "--test", "together"]);
    if tools::tpm(workspace) {
        suites.args(["--test", "tpm"]);
    }
    run_command(suites.args(all(workspace)).env(EVIDENCE, evidence(workspace, "test")?))?;
    interop(workspace)?;
    browser_tests(workspace, Some(&workspace.root().join(PICTURES)))?;
    let page = compatibility::page(&noted(workspace)?)?;
    std::fs::write(workspace.root().join(PAGE), page)
        .map_err(|error| format!("{PAGE} cannot be written: {error}"))
}

/// The names of the packages that `cargo tree --prefix none` prints.
fn package_names(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Where the guide to the emulator has its pictures.
const PICTURES: &str = "azure-dps-emulator/docs/images";
const PAGE: &str = "docs/compatibility.md";
/// The variable that names the file in which tests note what they ran.
const EVIDENCE: &str = "DPS_EVIDENCE";
/// How many tests of one target run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";
const NO_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_choose_steps_and_the_list_their_order() {
        let names =
            |options: &[&str]| chosen(options).map(|steps| Vec::from_iter(steps.iter().map(|s| s.name)));

        assert_eq!(names(&["--only", "doc", "--only", "fmt", "--only", "doc"]).unwrap(), ["fmt", "doc"]);
        assert_eq!(names(&[]).unwrap().len(), STEPS.len());
        assert_eq!(names(&["--only", "everything"]).unwrap_err(), "unknown step `everything`");
        for wrong in [&["--only"][..], &["fmt"], &["--only", "fmt", "doc"]] {
            assert!(names(wrong).unwrap_err().starts_with("invalid options for test: `"), "{wrong:?}");
        }
    }

    #[test]
    fn each_package_is_named_once_by_its_first_word() {
        let tree = "azure-dps-core v0.1.0 (/src/core)\nserde v1.0.0\nserde_derive v1.0.0 (proc-macro)\nserde v1.0.0 (*)\n";

        assert_eq!(Vec::from_iter(package_names(tree)), ["azure-dps-core", "serde", "serde_derive"]);
    }
}
