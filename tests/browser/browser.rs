//! A browser as a child process, and what a person does and sees in it.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use azure_dps_emulator::Emulator;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// A page in the one browser of all tests, with a profile that no other test has. Dropping it closes the input of
/// its driver, which closes the page.
pub(crate) struct Browser {
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Starts a driver, and the browser if it does not run. Says once if none is installed.
    pub(crate) async fn start() -> Option<Self> {
        static RUNNING: OnceLock<Option<Running>> = OnceLock::new();

        let running = RUNNING.get_or_init(Running::start).as_ref()?;
        let mut driver = Command::from(driver(&running.modules));
        let mut driver = driver.arg(&running.address).spawn().expect("node starts");
        let stdin = driver.stdin.take().unwrap();
        let stdout = BufReader::new(driver.stdout.take().unwrap()).lines();
        let mut browser = Browser { stdin, stdout };
        assert!(browser.line().await["browser"].is_string());
        Some(browser)
    }

    /// Starts a browser on a section of an emulator's page.
    pub(crate) async fn on(emulator: &Emulator, section: &str) -> Option<Self> {
        let mut browser = Self::start().await?;
        browser.open(json!({"url": page(emulator, section)})).await;
        Some(browser)
    }

    /// Opens an address in a fresh profile, in a window of this `width` and `height`, `dark` or not, with
    /// `script` or without.
    pub(crate) async fn open(&mut self, given: Value) -> Value {
        self.act("open", given).await
    }

    /// Clicks the link or button with this name.
    pub(crate) async fn click(&mut self, role: &str, name: &str) {
        self.act("click", json!({"role": role, "name": name})).await;
    }

    /// Goes to a section by its link, and waits for its heading.
    pub(crate) async fn go(&mut self, section: &str, heading: &str) {
        self.act("goto", json!({"section": section})).await;
        self.see("h2", heading).await;
    }

    pub(crate) async fn fill(&mut self, label: &str, text: &str) {
        self.act("fill", json!({"label": label, "text": text})).await;
    }

    pub(crate) async fn choose(&mut self, label: &str, option: &str) {
        self.act("choose", json!({"label": label, "option": option})).await;
    }

    /// Waits until a visible element that matches the selector has this text.
    pub(crate) async fn see(&mut self, within: &str, text: &str) {
        self.act("see", json!({"within": within, "text": text})).await;
    }

    /// Waits until no visible element that matches the selector has this text.
    pub(crate) async fn miss(&mut self, within: &str, text: &str) {
        self.act("miss", json!({"within": within, "text": text})).await;
    }

    /// Opens the row with this text.
    pub(crate) async fn unfold(&mut self, list: &str, text: &str) {
        self.act("unfold", json!({"list": list, "text": text})).await;
    }

    /// The text of the first element that matches the selector.
    pub(crate) async fn text(&mut self, within: &str) -> String {
        self.act("text", json!({"within": within})).await.as_str().unwrap().to_owned()
    }

    /// The number of elements that match the selector.
    pub(crate) async fn count(&mut self, selector: &str) -> u64 {
        self.act("count", json!({"selector": selector})).await.as_u64().unwrap()
    }

    /// What a script returns in the page.
    pub(crate) async fn evaluate(&mut self, code: &str) -> Value {
        self.act("evaluate", json!({"code": code})).await
    }

    /// Checks that there was no error, no dialog, and no request to another address since the page was opened.
    pub(crate) async fn assert_innocent(&mut self) {
        assert_eq!(self.offences().await, Vec::<String>::new());
    }

    /// Waits until there was one of these, and returns all of them: the browser reports them a little later.
    pub(crate) async fn first_offences(&mut self) -> Vec<String> {
        let first = async {
            loop {
                match self.offences().await {
                    none if none.is_empty() => sleep(Duration::from_millis(50)).await,
                    some => return some,
                }
            }
        };
        timeout(DEADLINE, first).await.expect("an offence")
    }

    pub(crate) async fn offences(&mut self) -> Vec<String> {
        serde_json::from_value(self.act("offences", json!({})).await).unwrap()
    }

    pub(crate) async fn act(&mut self, act: &str, mut given: Value) -> Value {
        given["act"] = act.into();
        self.stdin.write_all(format!("{given}\n").as_bytes()).await.expect("the driver still reads");
        let mut outcome = self.line().await;
        assert_eq!(
            outcome["error"],
            Value::Null,
            "{given}: {}",
            outcome["error"].as_str().unwrap_or_default()
        );
        outcome["result"].take()
    }

    async fn line(&mut self) -> Value {
        let line =
            timeout(DEADLINE, self.stdout.next_line()).await.expect("the driver answers in time").unwrap();
        serde_json::from_str(&line.expect("the driver still runs")).unwrap()
    }
}

/// The browser. It ends with this process, which holds the input of its driver until then.
struct Running {
    modules: PathBuf,
    address: String,
    /// With its standard input.
    _server: process::Child,
}

impl Running {
    fn start() -> Option<Self> {
        let (Some(program), Some(installed)) =
            (std::env::var_os("DPS_BROWSER"), std::env::var_os("DPS_BROWSER_NODE"))
        else {
            // Written past the capture of the test harness, which hides what a passing test prints.
            let _ = writeln!(io::stderr(), "browser: skipped, DPS_BROWSER is not set; see cargo xtask help");
            return None;
        };
        let modules = fs::canonicalize(PathBuf::from(installed).join("node_modules"))
            .expect("DPS_BROWSER_NODE names a folder with node_modules");
        let mut server =
            driver(&modules).arg("serve").env("DPS_BROWSER", program).spawn().expect("node starts");
        let mut line = String::new();
        io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the browser starts");
        let address = ready["address"].as_str().unwrap().to_owned();
        Some(Running { modules, address, _server: server })
    }
}

/// Node with the driver, which keeps its files below target/.
fn driver(modules: &Path) -> process::Command {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/browser");
    fs::create_dir_all(folder).unwrap();
    let mut command = process::Command::new("node");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/driver.js"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// The address of a section.
pub(crate) fn page(emulator: &Emulator, section: &str) -> String {
    format!("http://127.0.0.1:{}/#{section}", emulator.manage_port().unwrap())
}

const DEADLINE: Duration = Duration::from_secs(60);
