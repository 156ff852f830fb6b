//! The step `packages`: installs the built packages into empty folders without a network, and runs their tests and
//! examples there, the latter with the official device clients.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{NPM, PYPI, build, empty};
use crate::tools;
use crate::workspace::{Result, Workspace, output, run};

pub(crate) fn check(workspace: &Workspace) -> Result {
    for (folder, examples) in
        [(NPM, ["device.js", "device.test.mjs"]), (PYPI, ["device.py", "test_device.py"])]
    {
        shown(&workspace.root().join(folder), &examples)?;
    }
    let packages = build(workspace)?;
    node(workspace, &[&packages.launcher, &packages.platform])?;
    python(workspace, &packages.wheel)
}

fn node(workspace: &Workspace, packages: &[&Path]) -> Result {
    let clients = tools::node_clients(workspace)?.join("node_modules");
    let folder = empty(&workspace.target("packaging/installed/node"))?;
    let arguments = ["install", "--offline", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"];
    run(tools::npm(workspace, &arguments).args(packages).current_dir(&folder))?;
    for tests in ["example", "test"] {
        copy_all(&workspace.root().join(NPM).join(tests), &folder.join(tests))?;
    }
    let types =
        ["--noEmit", "--strict", "--module", "nodenext", "--lib", "es2022,esnext.disposable", "--types", ""];
    let mut tsc = workspace.program("node", &[]);
    tsc.arg(tools::node_tool(workspace, "typescript/bin/tsc")?).args(types).arg("test/types.mts");
    run(tsc.current_dir(&folder))?;
    let mut tests = workspace.program(
        "node",
        &["--test", "--test-reporter=spec", "example/device.test.mjs", "test/package.test.mjs"],
    );
    run(tests.env("NODE_PATH", clients).current_dir(&folder))
}

fn python(workspace: &Workspace, wheel: &Path) -> Result {
    let folder = empty(&workspace.target("packaging/installed/python"))?;
    run(workspace.program("python3", &["-m", "venv", "--without-pip"]).arg(&folder))?;
    let own = folder.join(tools::BIN).join("python");
    let tools_python = tools::packaging_tool(workspace, "python")?;
    let install = ["-m", "pip", "--python"];
    let arguments = ["install", "--quiet", "--disable-pip-version-check", "--no-index"];
    run(workspace.program(&tools_python, &install).arg(&own).args(arguments).arg(wheel))?;
    let pyright = tools::node_tool(workspace, "pyright/index.js")?;
    let mut pyright = workspace.program("node", &[&pyright.to_string_lossy(), "--pythonpath"]);
    run(pyright.arg(&tools_python).current_dir(workspace.root().join(PYPI)))?;
    // The official client and pytest are not part of the package, and are taken from where they are installed.
    let clients = tools::python_clients(workspace)?.join(tools::BIN).join("python");
    let libraries = [libraries(workspace, &clients)?, libraries(workspace, &tools_python)?];
    let path = env::join_paths(libraries).map_err(|error| error.to_string())?;
    let mut tests =
        workspace.program(own, &["-m", "pytest", "--quiet", "--strict-markers", "example", "tests"]);
    tests.args(["-p", "no:cacheprovider"]).env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
    run(tests.current_dir(workspace.root().join(PYPI)))
}

/// Checks that the page of a package shows the examples that run here.
fn shown(folder: &Path, examples: &[&str]) -> Result {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let page = folder.join("README.md");
    let text = read(&page)?;
    for name in examples {
        let example = folder.join("example").join(name);
        if !text.contains(&format!("\n{}```", read(&example)?)) {
            return Err(format!("{} does not show {}", page.display(), example.display()));
        }
    }
    Ok(())
}

/// The folder with the packages of a virtual environment.
fn libraries(workspace: &Workspace, python: &Path) -> Result<PathBuf> {
    let print = "import sysconfig; print(sysconfig.get_path('purelib'))";
    Ok(output(&mut workspace.program(python, &["-c", print]))?.trim().into())
}

/// Copies the files of a folder.
fn copy_all(from: &Path, to: &Path) -> Result {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|error| format!("{} cannot be copied: {error}", from.display()))
}
