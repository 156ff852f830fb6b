//! The container recipe without a container engine: the program in one network namespace, with the variables
//! of the Dockerfile and as its user, and Microsoft's device client in another, under another host name.
//!
//! `DPS_INTEROP_NODE` names the folder with the official clients for Node; `cargo xtask test` sets it. The test
//! needs root on Linux with iproute2 and setpriv, and says in one line that it is left out if it cannot run.

#![cfg(target_os = "linux")]
// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

/// The folder of the project, with the Dockerfile.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const HOST: &str = "dps.example";
const HUBS: &str = "emulator-hub-1.azure-devices.net emulator-hub-2.azure-devices.net";
const TRANSPORTS: [&str; 3] = ["https", "mqtt", "amqp"];
const TOKEN: &str = "correct-horse-battery";

#[test]
fn an_official_client_registers_from_another_machine_under_another_host_name() {
    let Some(clients) = env::var_os("DPS_INTEROP_NODE").map(PathBuf::from) else {
        return leave_out("DPS_INTEROP_NODE is not set");
    };
    let machines = match Machines::new() {
        Ok(machines) => machines,
        Err(why) => return leave_out(&why),
    };
    let mut server = machines.server();
    let mut line = String::new();
    BufReader::new(&mut server.stdout).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();

    let wanted = r#"{"https":"dps.example:443","mqtt":"dps.example:8883","amqp":"dps.example:5671","manage":"http://dps.example:8080"}"#;
    assert_eq!(ready["endpoints"], serde_json::from_str::<Value>(wanted).unwrap());
    let string = ready["serviceConnectionString"].as_str().unwrap();
    assert!(string.starts_with("HostName=dps.example;"), "{string}");
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let has = |name: &str, wanted: &str| {
        status.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim().starts_with(wanted)))
    };
    assert!(has("Uid:", "65532") && has("CapEff:", "0000000000000000"), "{status}");

    let devices =
        ["https", "mqtt", "amqp"].map(|transport| (transport, machines.device(&clients, transport)));
    for (transport, device) in devices {
        let Output { stdout, stderr, .. } = device.wait_with_output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        let wanted = format!("dev-{transport} has sent a message to emulator-hub-");
        assert!(stdout.starts_with(&wanted), "{transport}: {stdout}{stderr}");
    }

    let here = machines.run(&machines.emulator, &mut machines.health(&[]));
    assert_eq!(here, (Some(0), "healthy: http://127.0.0.1:8080/health\n".to_owned()));
    let elsewhere = machines.health(&["--manage-host=192.0.2.1"]);
    let elsewhere = machines.run(&machines.device, &mut { elsewhere });
    assert_eq!(elsewhere, (Some(0), "healthy: http://192.0.2.1:8080/health\n".to_owned()));

    let mut asks = Command::new("node");
    asks.args(["-e", ASK]).env("TOKEN", TOKEN);
    let (status, answers) = machines.run(&machines.device, &mut asks);
    assert_eq!(status, Some(0), "{answers}");
    let answers: Value = serde_json::from_str(&answers).unwrap();
    let statuses =
        ["open", "none", "wrong", "bearer", "basic", "address", "another"].map(|name| &answers[name]);
    assert_eq!(statuses, [200, 401, 401, 200, 200, 200, 421]);
    let fronts =
        ["https", "mqtt", "amqp"].map(|front| answers["fronts"].as_array().unwrap().contains(&front.into()));
    assert_eq!(fronts, [true; 3], "{answers}");
    assert!(!machines.log().contains(TOKEN));
}

/// Asks the management port from the other machine, and prints the answers as one object.
const ASK: &str = r#"
const http = require('node:http');
const bearer = { authorization: `Bearer ${process.env.TOKEN}` };
const basic = { authorization: `Basic ${Buffer.from(`any:${process.env.TOKEN}`).toString('base64')}` };
function ask(path, headers, host = 'dps.example') {
  return new Promise((resolve, reject) => {
    http.get({ host, port: 8080, path, headers }, (answer) => {
      let body = '';
      answer.on('data', (part) => { body += part; });
      answer.on('end', () => resolve([answer.statusCode, body]));
    }).on('error', reject);
  });
}
(async () => {
  const [open] = await ask('/health', {});
  const [none] = await ask('/journal', {});
  const [wrong] = await ask('/journal', { authorization: 'Bearer x' });
  const [journal, body] = await ask('/journal', bearer);
  const [withPassword] = await ask('/journal', basic);
  const [address] = await ask('/journal', bearer, '192.0.2.1');
  const [another] = await ask('/journal', { ...bearer, host: 'evil.example:8080' });
  const fronts = JSON.parse(body).map((entry) => entry.front);
  console.log(JSON.stringify({ open, none, wrong, bearer: journal, basic: withPassword, address, another, fronts }));
})();
"#;

/// Two network namespaces with a cable between them. Dropping it removes them.
struct Machines {
    emulator: String,
    device: String,
    folder: PathBuf,
}

impl Machines {
    /// # Errors
    /// Why this machine cannot have them.
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let name = |kind: &str| format!("dps-{kind}-{id}");
        let machines = Machines {
            emulator: name("emulator"),
            device: name("device"),
            // Below a folder that each user may read, other than the one with the program.
            folder: env::temp_dir().join(name("machines")),
        };
        let (emulator, device) = (machines.emulator.as_str(), machines.device.as_str());
        tool(&["setpriv", "--version"])?;
        remove_leftovers()?;
        for name in [emulator, device] {
            tool(&["ip", "netns", "add", name])?;
            tool(&["ip", "-netns", name, "link", "set", "lo", "up"])?;
        }
        let (near, far) = (format!("e{id}"), format!("d{id}"));
        let cable = ["ip", "-netns", emulator, "link", "add", &near, "type", "veth", "peer", "name", &far];
        tool(&[&cable[..], &["netns", device]].concat())?;
        for (name, cable, address) in [(emulator, &near, "192.0.2.1/24"), (device, &far, "192.0.2.2/24")] {
            tool(&["ip", "-netns", name, "address", "add", address, "dev", cable])?;
            tool(&["ip", "-netns", name, "link", "set", cable, "up"])?;
        }
        // As in a container of Docker, where each user may bind each port.
        let anyone = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
        tool(&["ip", "netns", "exec", emulator, "sh", "-c", anyone])?;
        // `ip netns exec` puts the files of this folder over those in /etc.
        let etc = Path::new("/etc/netns").join(device);
        fs::create_dir_all(&etc).map_err(|error| format!("{}: {error}", etc.display()))?;
        fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n192.0.2.1 {HOST} {HUBS}\n")).unwrap();
        for folder in [machines.folder.clone(), machines.folder.join("ca")] {
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::os::unix::fs::chown(machines.folder.join("ca"), Some(USER), Some(USER)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_azure-dps-emulator"), machines.program()).unwrap();
        fs::write(machines.folder.join("seed.json"), seed()).unwrap();
        Ok(machines)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn program(&self) -> PathBuf {
        self.folder.join("azure-dps-emulator")
    }

    /// The emulator with the variables of the image and of the recipe, as a user without privileges.
    fn server(&self) -> Server {
        let user = USER.to_string();
        let mut command = within(&self.emulator);
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(self.program());
        command.envs(image_variables()).env("DPS_EMULATOR_CA_DIR", self.folder.join("ca"));
        command.env("DPS_EMULATOR_SEED", self.folder.join("seed.json")).env("DPS_EMULATOR_RETRY_AFTER", "1");
        // So that it ends with a test that is killed.
        command.env("DPS_EMULATOR_UNTIL_STDIN_CLOSES", "true").stdin(Stdio::piped());
        command.env("DPS_EMULATOR_DNS_NAME", HOST);
        command.env("DPS_EMULATOR_MANAGE_HOST", "0.0.0.0").env("DPS_EMULATOR_MANAGE_TOKEN", TOKEN);
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        Server { stdout: process.stdout.take().unwrap(), process }
    }

    /// The device of the recipe on the other machine.
    fn device(&self, clients: &Path, transport: &str) -> Child {
        let mut command = within(&self.device);
        command.arg("node").arg(recipe("device.js"));
        command.env("NODE_PATH", clients.join("node_modules"));
        command.env("NODE_EXTRA_CA_CERTS", self.folder.join("ca/ca.pem"));
        command.env("DPS_ENDPOINT", HOST).env("DPS_ID_SCOPE", "0ne00EMU1A7");
        command.env("DPS_REGISTRATION_ID", format!("dev-{transport}"));
        command.env("DPS_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        command.env("DPS_TRANSPORT", transport);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn health(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.arg("health").args(flags).envs(image_variables());
        command
    }

    /// Runs a command on a machine, and returns its exit status and its output.
    fn run(&self, machine: &str, command: &mut Command) -> (Option<i32>, String) {
        let mut inside = within(machine);
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let Output { status, mut stdout, stderr } = inside.output().unwrap();
        stdout.extend(stderr);
        (status.code(), String::from_utf8(stdout).unwrap())
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of the emulator:\n{}", self.log());
        }
        remove(&self.emulator);
        remove(&self.device);
        let _removed = fs::remove_dir_all(&self.folder);
    }
}

/// The running program; dropping it ends it.
struct Server {
    process: Child,
    stdout: ChildStdout,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Removes a namespace and its files; the cable goes with its ends. One that was not made stays away.
fn remove(namespace: &str) {
    let _removed = tool(&["ip", "netns", "delete", namespace]);
    let _removed = fs::remove_dir_all(Path::new("/etc/netns").join(namespace));
}

/// Removes the namespaces of tests that were killed.
fn remove_leftovers() -> Result<(), String> {
    let list = Command::new("ip").args(["netns", "list"]).output();
    let list = list.map_err(|error| format!("ip does not run: {error}"))?.stdout;
    let list = String::from_utf8_lossy(&list).into_owned();
    let is_ended = |id: &str| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| {
            let id = ["dps-emulator-", "dps-device-"].iter().find_map(|kind| name.strip_prefix(kind));
            id.is_some_and(is_ended)
        })
        .for_each(remove);
    Ok(())
}

/// A command that runs the program in its arguments in a namespace.
fn within(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

/// The variables that the Dockerfile sets for the emulator.
fn image_variables() -> Vec<(String, String)> {
    let dockerfile = fs::read_to_string(Path::new(PROJECT).join("Dockerfile")).unwrap();
    let words = dockerfile.split_whitespace().filter_map(|word| word.split_once('='));
    let own = words.filter(|(name, _)| name.starts_with("DPS_EMULATOR_"));
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The seed of the recipe, with a device for each transport, because a device has one connection to its hub.
fn seed() -> String {
    let mut seed: Value = serde_json::from_slice(&fs::read(recipe("seed.json")).unwrap()).unwrap();
    let recipe = seed["enrollments"][0].clone();
    seed["enrollments"] = TRANSPORTS
        .map(|transport| {
            let mut enrollment = recipe.clone();
            enrollment["registrationId"] = format!("dev-{transport}").into();
            enrollment
        })
        .to_vec()
        .into();
    seed.to_string()
}

fn recipe(file: &str) -> PathBuf {
    Path::new(PROJECT).join("packages/container").join(file)
}

/// Runs a tool of the system.
fn tool(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| format!("{} does not run: {error}", words[0]))?;
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    if output.status.success() { Ok(()) } else { Err(format!("`{}` fails: {why}", words.join(" "))) }
}

fn leave_out(why: &str) {
    // Written past the capture of the test harness, which hides what a passing test prints.
    let _written = writeln!(io::stderr(), "namespaces: left out, {why}");
}

/// The user of the image.
const USER: u32 = 65_532;
