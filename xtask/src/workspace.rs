//! The workspace: its folders, the metadata of its packages, and the commands that run in it.

use std::env;
use std::ffi::OsStr;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// A value, or one line that says what failed.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The workspace as cargo describes it.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    packages: Vec<Value>,
    preferred: OnceLock<PathBuf>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent folder")?;
        let mut command = cargo(root, &["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_str(&output(&mut command)?)
            .map_err(|error| format!("cargo metadata cannot be read: {error}"))?;
        let target = metadata.get("target_directory").and_then(Value::as_str);
        let target = target.ok_or("cargo metadata names no target folder")?.into();
        let packages = metadata.get("packages").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self { root: root.to_owned(), target, packages, preferred: OnceLock::new() })
    }

    /// The packages that are published, as `cargo metadata` describes them.
    pub(crate) fn published_packages(&self) -> impl Iterator<Item = &Value> {
        self.packages.iter().filter(|package| package["publish"].is_null())
    }

    /// The names and versions of the packages that are published.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&str, &str)> {
        self.published_packages()
            .filter_map(|package| Some((package["name"].as_str()?, package["version"].as_str()?)))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the target folder.
    pub(crate) fn target(&self, path: &str) -> PathBuf {
        self.target.join(path)
    }

    /// Lets all further commands find the programs of a folder, before others of the same name.
    pub(crate) fn prefer(&self, folder: PathBuf) {
        // A second call names the same folder.
        let _ = self.preferred.set(folder);
    }

    /// Whether [`prefer`](Self::prefer) was called.
    pub(crate) fn has_preferred(&self) -> bool {
        self.preferred.get().is_some()
    }

    /// Cargo, about to run at the root.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.with_path(cargo(&self.root, arguments))
    }

    /// Any other program, about to run at the root.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        self.with_path(program_at(&self.root, program, arguments))
    }

    /// A program of the machine, which finds only the other programs of the machine.
    pub(crate) fn own_program(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        program_at(&self.root, program, arguments)
    }

    fn with_path(&self, mut command: Command) -> Command {
        if let Some(folder) = self.preferred.get() {
            on_path(&mut command, folder);
        }
        command
    }
}

/// Lets a command find the programs of this folder, before others of the same name.
pub(crate) fn on_path(command: &mut Command, folder: &Path) {
    let others = env::var_os("PATH").unwrap_or_default();
    // A path that cannot be joined has no such programs.
    if let Ok(path) = env::join_paths(iter::once(folder.to_owned()).chain(env::split_paths(&others))) {
        command.env("PATH", path);
    }
}

/// Runs a command to its end. Its output is not captured.
pub(crate) fn run(command: &mut Command) -> Result {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", line(command))),
        Err(error) => Err(format!("`{}` cannot be started: {error}", line(command))),
    }
}

/// The standard output of a command. Its standard error is not captured.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{}` cannot be started: {error}", line(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` ended with {}", line(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{}` does not print UTF-8", line(command)))
}

/// The standard output of a command, or `None` if it fails.
pub(crate) fn probe(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The command line of a command.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    program_at(root, env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

fn program_at(root: &Path, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root);
    // `cargo run` describes xtask in these variables. Build scripts watch some of them, and would run again
    // each time that cargo is called by xtask and by hand in turn.
    let described = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(described)) {
        command.env_remove(name);
    }
    command
}
