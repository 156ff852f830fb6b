//! The snippets of the page, each run as it stands.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::{Emulated, PRIMARY};
use azure_dps_tests::tpm_device::TPM;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use tokio::process::Command;

use crate::browser::Browser;

#[tokio::test]
async fn the_snippets_register_the_first_enabled_enrollment_with_a_symmetric_key() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let tpm =
        json!({"type": "tpm", "tpm": {"endorsementKey": BASE64_STANDARD.encode(TPM.endorsement_key())}});
    peer.enroll("a-tpm", json!({"attestation": tpm})).await;
    peer.enroll("b-disabled", json!({"provisioningStatus": "disabled"})).await;
    peer.enroll("dev1", json!({"deviceId": "pump-1"})).await;
    peer.enroll_group("plant", json!({})).await;
    let Some(mut page) = Snippets::of(&peer, "single").await else { return };

    let hidden = page.text("Environment").await;
    assert!(hidden.contains("export DPS_REGISTRATION_ID='dev1'"), "{hidden}");
    assert!(!hidden.contains(PRIMARY), "{hidden}");
    page.browser.see("#snippet-note", "The key is hidden here; Copy copies it.").await;
    page.browser.click("button", "Show keys").await;

    let hub = page.all_register(&peer, "pump-1").await;

    assert_eq!(peer.emulator.registrations()[0]["assignedHub"], hub);
}

#[tokio::test]
async fn without_such_an_enrollment_they_register_a_device_of_the_first_such_group() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    let Some(mut page) = Snippets::of(&peer, "group").await else { return };
    page.browser.see("#snippet", "export DPS_KEY='KEY_OF_THE_ENROLLMENT'").await;
    page.browser.see("#snippet-note", "no enabled enrollment has a symmetric key").await;
    peer.enroll("b-disabled", json!({"provisioningStatus": "disabled"})).await;
    peer.enroll_group("plant", json!({})).await;
    page.browser.see("#snippet", "export DPS_GROUP_KEY='").await;
    page.browser.click("button", "Show keys").await;

    page.all_register(&peer, "my-device").await;
}

#[tokio::test]
async fn the_snippet_for_curl_changes_nothing_unless_its_comments_are_removed() {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("dev1", json!({})).await;
    let Some(mut page) = Snippets::of(&peer, "curl").await else { return };
    let script = page.text("curl").await;

    let answers = page.shell(&script, &[]).await.unwrap();

    assert!(answers.contains(r#""target":"/enrollments/dev1?api-version=2021-10-01""#), "{answers}");
    assert_eq!((peer.listed().await, peer.emulator.faults()), (vec!["dev1".to_owned()], Vec::new()));
    let answers = page.shell(&script.replace("# curl", "curl"), &[]).await.unwrap();
    assert!(answers.contains(r#"{"now":""#), "{answers}");
    assert_eq!(peer.emulator.enrollments()["enrollments"], json!([]), "the last line is a reset");
    page.browser.assert_innocent().await;
}

#[tokio::test]
async fn with_a_token_the_snippets_for_a_shell_need_it_and_say_so() {
    let token = "correct-horse-battery-staple";
    let peer = Emulated::start(Emulator::builder().manage_port(0).manage_token(token)).await;
    let Some(mut page) = Snippets::signed_in(&peer, "token", Some(token)).await else { return };

    for (language, last) in [("curl", "true"), ("Environment", "cat azure-dps-emulator-ca.pem")] {
        let script = page.text(language).await + "\n" + last;
        assert!(!script.contains(token));
        let refused = page.shell(&script, &[]).await.unwrap_err();
        assert!(refused.contains("TOKEN: must be the value of --manage-token"), "{refused}");
        let refused = page.shell(&script, &[("TOKEN", "wrong")]).await.unwrap_err();
        assert!(refused.contains("401"), "{refused}");
        let answers = page.shell(&script, &[("TOKEN", token)]).await.unwrap();
        assert!(language == "curl" || answers.contains(peer.emulator.ca_pem()), "{answers}");
    }
}

/// The section Connect, and a folder with the file that its button saves.
struct Snippets {
    browser: Browser,
    folder: PathBuf,
}

impl Snippets {
    async fn of(peer: &Emulated, name: &str) -> Option<Self> {
        Self::signed_in(peer, name, None).await
    }

    async fn signed_in(peer: &Emulated, name: &str, token: Option<&str>) -> Option<Self> {
        let mut browser = Browser::start().await?;
        let user = token.map(|token| json!({"username": "any", "password": token}));
        let url = crate::browser::page(&peer.emulator, "connect");
        browser.open(json!({"url": url, "user": user})).await;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(format!("snippets-{name}"));
        let _absent = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let ca = browser.act("download", json!({"name": "Download the CA certificate"})).await;
        fs::write(folder.join(ca["file"].as_str().unwrap()), ca["text"].as_str().unwrap()).unwrap();
        browser.see("#snippet", "export DPS_").await;
        Some(Snippets { browser, folder })
    }

    async fn text(&mut self, language: &str) -> String {
        self.browser.act("check", json!({"label": language})).await;
        self.browser.text("#snippet").await
    }

    /// Runs each snippet that registers, and returns the hub.
    async fn all_register(&mut self, peer: &Emulated, device: &str) -> String {
        let script = self.text("Environment").await;
        let variables = self.shell(&format!("{script}\nenv"), &[]).await.unwrap();
        let variables: HashMap<&str, &str> = variables
            .lines()
            .filter(|line| line.starts_with("DPS_"))
            .filter_map(|line| line.split_once('='))
            .collect();
        assert_eq!(variables["DPS_CONNECTION_STRING"], peer.emulator.service_connection_string());

        assert_eq!(self.text("Rust").await.trim(), include_str!("register.rs").trim());
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--ignored", "--exact", "snippets::the_snippet_for_rust_as_a_program", "--nocapture"]);
        let printed = self.run(program.envs(&variables)).await.unwrap();
        let registered = printed.lines().find(|line| line.ends_with(&format!(" {device}")));
        let registered = registered.unwrap_or_else(|| panic!("{printed}")).to_owned();

        for (language, file) in [("Node", "register.js"), ("Python", "register.py")] {
            let snippet = self.text(language).await;
            fs::write(self.folder.join(file), snippet).unwrap();
        }
        for mut client in official_clients(peer) {
            assert_eq!(self.run(&mut client).await.unwrap().trim(), registered, "{client:?}");
        }
        self.browser.assert_innocent().await;
        registered.split(' ').next().unwrap().to_owned()
    }

    /// What a script prints, or what it reports if it fails.
    async fn shell(&self, script: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let mut shell = Command::new("sh");
        self.run(shell.args(["-euc", script]).envs(variables.iter().copied())).await
    }

    async fn run(&self, command: &mut Command) -> Result<String, String> {
        let output = command.current_dir(&self.folder).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// The official clients that run the files, if the step `interop` has installed them.
fn official_clients(peer: &Emulated) -> Vec<Command> {
    let installed = |name: &str| std::env::var_os(name).map(|folder| fs::canonicalize(folder).unwrap());
    let (Some(node), Some(python)) = (installed("DPS_INTEROP_NODE"), installed("DPS_INTEROP_PYTHON")) else {
        let _ = writeln!(
            io::stderr(),
            "browser: the snippets for Node and Python did not run; see cargo xtask help"
        );
        return Vec::new();
    };
    let mut with_node = Command::new("node");
    with_node.arg("register.js").env("NODE_PATH", node.join("node_modules"));
    with_node.env("NODE_EXTRA_CA_CERTS", "azure-dps-emulator-ca.pem");
    // The client has no setting for the port.
    let mut with_python = Command::new(python.join("bin/python"));
    with_python
        .args(["-c", "import ports, runpy; runpy.run_path('register.py')"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/official_clients/python"))
        .env("DPS_INTEROP_PORT", peer.emulator.https_port().to_string())
        .env("DPS_INTEROP_MQTT_PORT", peer.emulator.mqtt_port().to_string())
        .env("DPS_INTEROP_HUB", &peer.emulator.hubs()[0]);
    vec![with_node, with_python]
}

mod program {
    include!("register.rs");

    pub(super) fn run() {
        main().unwrap();
    }
}

#[test]
#[ignore = "another test runs it as a program, with the variables of the page"]
fn the_snippet_for_rust_as_a_program() {
    program::run();
}
