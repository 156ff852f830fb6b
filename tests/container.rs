//! The Dockerfile, .dockerignore and the recipe in packages/container: their files exist, and their variables,
//! ports and versions are those of the program and of the official clients. Without a container engine;
//! `azure-dps-emulator/tests/namespaces.rs` runs the same.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn each_file_that_the_image_is_built_from_exists_and_is_sent_to_the_build() {
    let ignored = read(".dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let is_kept = |path: &str| {
        let fits = |kept: &&str| match kept.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == *kept,
        };
        ignored.lines().any(|line| line == "*") && kept.iter().any(fits)
    };

    let dockerfile = read("Dockerfile");
    let copied =
        instructions(&dockerfile, "COPY").into_iter().filter(|words| !words[0].starts_with("--from"));
    let mut sources: Vec<String> =
        copied.flat_map(|words| words[..words.len() - 1].to_vec()).filter(|source| source != ".").collect();
    assert!(sources.contains(&"LICENSE-MIT".to_owned()), "{sources:?}");
    sources.extend(["Cargo.toml", "Cargo.lock"].map(str::to_owned));
    sources.extend(members());
    for source in sources {
        assert!(exists(&source), "{source} does not exist");
        assert!(is_kept(&source), "{source} is not sent to the build: .dockerignore excludes it");
    }
    for pattern in kept {
        let start = pattern.trim_end_matches('*');
        let names = fs::read_dir(ROOT).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().any(|name| name.to_str().unwrap().starts_with(start)), "{pattern}");
    }
}

#[test]
fn the_image_runs_the_program_that_it_copies_and_opens_its_ports() {
    let dockerfile = read("Dockerfile");
    let copied = instructions(&dockerfile, "COPY").into_iter().find(|words| {
        words[1..] == ["/src/target/release/azure-dps-emulator", "/usr/local/bin/azure-dps-emulator"]
    });
    assert!(copied.is_some(), "{dockerfile}");
    let program = r#""/usr/local/bin/azure-dps-emulator""#;
    for command in [format!("CMD [{program}, \"health\"]"), format!("ENTRYPOINT [{program}]")] {
        assert!(dockerfile.contains(&command), "{command}");
    }
    let manage = variables(&dockerfile)
        .find_map(|(name, value)| (name == "DPS_EMULATOR_MANAGE_PORT").then_some(value));
    assert_eq!(instructions(&dockerfile, "EXPOSE"), [["443", "8883", "5671", &manage.unwrap()]]);
    assert_eq!(instructions(&dockerfile, "USER"), [["65532:65532"]]);
}

#[test]
fn the_image_has_the_licences_of_the_program_and_of_what_it_contains() {
    let dockerfile = read("Dockerfile");
    let place = "/usr/share/doc/azure-dps-emulator/";
    let written = "cargo run --locked --package xtask -- notices /notices";
    assert!(instructions(&dockerfile, "RUN").iter().any(|words| words.join(" ").ends_with(written)));
    let copied = instructions(&dockerfile, "COPY");
    for copy in [vec!["LICENSE-APACHE", "LICENSE-MIT", place], vec!["--from=build", "/notices/", place]] {
        assert!(copied.iter().any(|words| *words == copy), "{copy:?}");
    }
}

#[test]
fn each_variable_of_the_image_and_the_recipe_is_one_of_the_program() {
    let guide = read("azure-dps-emulator/docs/emulator.md");
    let mut count = 0;
    for text in [read("Dockerfile"), read("packages/container/compose.yaml")] {
        for (name, _) in variables(&text) {
            count += 1;
            assert!(guide.contains(&format!("| `{name}` |")), "{name} is not in the table of the guide");
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn the_device_of_the_recipe_cannot_read_the_keys_of_the_authorities() {
    let recipe = read("packages/container/compose.yaml");
    let (emulator, device) = recipe.split_once("\n  device:\n").unwrap();
    assert!(emulator.contains("- ca:/ca\n") && device.contains("- ca:/ca:ro\n"));
    assert!(device.contains("\n    user: node\n"), "root can read the files of each user");
}

#[test]
fn the_files_and_the_versions_of_the_recipe_exist() {
    let recipe = read("packages/container/compose.yaml");
    let mounts = recipe.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next());
    let mounts: Vec<&str> = mounts.collect();
    assert_eq!(mounts, ["seed.json", "device.js"]);
    for mount in mounts {
        assert!(exists(&format!("packages/container/{mount}")), "{mount}");
    }
    let seed: serde_json::Value = serde_json::from_str(&read("packages/container/seed.json")).unwrap();
    let key = seed["enrollments"][0]["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    assert!(recipe.contains(&format!("DPS_KEY: {key}\n")), "the device has the key of its enrollment");
    let tested = read("tests/official_clients/node/package.json");
    let installed = recipe.split_whitespace().filter_map(|word| word.split_once('@'));
    let installed: Vec<_> = installed.filter(|(name, _)| name.starts_with("azure-iot-")).collect();
    assert_eq!(installed.len(), 7);
    for (name, version) in installed {
        assert!(tested.contains(&format!("\"{name}\": \"{version}\"")), "{name}@{version} is not tested");
    }
}

/// The words of each instruction of this name, in Dockerfiles.
fn instructions(dockerfile: &str, name: &str) -> Vec<Vec<String>> {
    let lines = dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The variables of the program that a Dockerfile or a recipe sets.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("ENV ").trim_end_matches(" \\"));
    let pairs = lines.filter_map(|line| line.split_once('=').or_else(|| line.split_once(": ")));
    pairs
        .filter(|(name, _)| name.starts_with("DPS_EMULATOR_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The folders of the workspace's members, which cargo reads.
fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("members = [").unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn exists(path: &str) -> bool {
    Path::new(ROOT).join(path).exists()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}
