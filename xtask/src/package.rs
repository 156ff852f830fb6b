//! `cargo xtask package` and the step `packages`: the packages for npm and PyPI that carry the emulator program.
//!
//! maturin builds the program and the wheel. The package for npm has the same program, taken out of the wheel.

mod check;
mod notices;
mod npm;
mod platform;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use self::check::check;
pub(crate) use self::notices::write as write_notices;
use crate::tools;
use crate::workspace::{Result, Workspace, on_path, run};

/// Builds the packages for this machine below target/packages, and prints their paths.
pub(crate) fn write(workspace: &Workspace) -> Result {
    let Packages { wheel, launcher, platform } = build(workspace)?;
    for package in [wheel, launcher, platform] {
        println!("{}", package.display());
    }
    Ok(())
}

/// The optimized program that the packages carry. Where maturin cannot be installed, cargo builds it alone.
pub(crate) fn program(workspace: &Workspace) -> Result<PathBuf> {
    match tools::packaging_tool(workspace, "maturin") {
        Ok(maturin) => {
            let wheel = build_wheel(workspace, &maturin, &empty(&workspace.target("packaging/wheel"))?)?;
            program_in(workspace, &wheel)
        }
        Err(failure) => {
            println!("      the program is built by cargo, not by maturin for the packages: {failure}");
            run(&mut workspace.cargo(&["build", "--release", "--package", NAME]))?;
            Ok(workspace.target("release").join(PROGRAM))
        }
    }
}

/// The packages for this machine.
struct Packages {
    wheel: PathBuf,
    launcher: PathBuf,
    platform: PathBuf,
}

fn build(workspace: &Workspace) -> Result<Packages> {
    let folder = empty(&workspace.target("packages"))?;
    let wheel = build_wheel(workspace, &tools::packaging_tool(workspace, "maturin")?, &folder)?;
    let (launcher, platform) = npm::pack(workspace, &program_in(workspace, &wheel)?, &folder)?;
    Ok(Packages { wheel, launcher, platform })
}

/// Builds the package for PyPI into an empty folder.
fn build_wheel(workspace: &Workspace, maturin: &Path, folder: &Path) -> Result<PathBuf> {
    let source = workspace.root().join(PYPI);
    for licence in LICENCES {
        let own = fs::read(source.join(licence)).unwrap_or_default();
        if fs::read(workspace.root().join(licence)).map_or(true, |text| text != own) {
            return Err(format!("{PYPI}/{licence} is not a copy of {licence}"));
        }
    }
    // maturin takes files of this folder only.
    notices::write(workspace, &source)?;
    let mut command = workspace.program(maturin, &["build", "--quiet", "--release", "--locked", "--strip"]);
    // An old glibc, so that the program runs on old systems. zig has the libraries to link with.
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        command.args(["--zig", "--compatibility", "manylinux_2_17"]);
        on_path(&mut command, maturin.parent().unwrap_or(maturin));
    }
    run(command.arg("--out").arg(folder).current_dir(source))?;
    only(folder, "whl")
}

/// Takes the program out of a wheel, whose folder for programs has the version in its name.
fn program_in(workspace: &Workspace, wheel: &Path) -> Result<PathBuf> {
    let folder = empty(&workspace.target("packaging/program"))?;
    let python = tools::packaging_tool(workspace, "python")?;
    run(workspace.program(python, &["-m", "zipfile", "-e"]).arg(wheel).arg(&folder))?;
    let program = only(&folder, "data")?.join("scripts").join(PROGRAM);
    executable(&program)?;
    Ok(program)
}

/// The version of all packages, which is that of the crate.
fn version(workspace: &Workspace) -> Result<String> {
    let package = workspace.published().find(|(name, _)| *name == NAME);
    package.map(|(_, version)| version.to_owned()).ok_or_else(|| format!("{NAME} has no version"))
}

/// Makes a folder, or empties it.
fn empty(folder: &Path) -> Result<PathBuf> {
    let remove = || if folder.exists() { fs::remove_dir_all(folder) } else { Ok(()) };
    remove()
        .and_then(|()| fs::create_dir_all(folder))
        .map_err(|error| format!("{} cannot be emptied: {error}", folder.display()))?;
    Ok(folder.to_owned())
}

/// The only entry of a folder with this extension.
fn only(folder: &Path, extension: &str) -> Result<PathBuf> {
    let unreadable = |error| format!("{} cannot be read: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(unreadable)?.collect::<std::io::Result<Vec<_>>>();
    let mut paths: Vec<PathBuf> = entries.map_err(unreadable)?.iter().map(fs::DirEntry::path).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    match paths.as_slice() {
        [path] => Ok(path.clone()),
        _ => Err(format!(
            "{} has {} entries that end with .{extension}, not one",
            folder.display(),
            paths.len()
        )),
    }
}

#[cfg(unix)]
fn executable(file: &Path) -> Result {
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{} cannot be made executable: {error}", file.display()))
}

#[cfg(not(unix))]
fn executable(_file: &Path) -> Result {
    Ok(())
}

const NAME: &str = "azure-dps-emulator";
const PROGRAM: &str = if cfg!(windows) { "azure-dps-emulator.exe" } else { "azure-dps-emulator" };
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const NPM: &str = "packages/npm";
const PYPI: &str = "packages/pypi";
