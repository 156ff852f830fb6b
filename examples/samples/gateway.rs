//! Runs the sample `gateway` as a device runs it: a process that is stopped, killed and started again,
//! while its hub and its service, an emulator in the test, change.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use azure_dps_emulator::{CertificatePolicy, Emulator, Fault, MethodCall, Operation};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::SharedKey;
use azure_dps_service::core::models::{
    ApiVersion, AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::sample;

/// An emulator with one enrolled device, and what the device keeps.
struct Site {
    emulator: Emulator,
    service: ServiceClient,
    /// The primary and the secondary key.
    keys: [String; 2],
    /// The hub of the enrollment, and another one.
    hubs: [String; 2],
    place: PathBuf,
}

impl Site {
    /// A site whose enrollment has a certificate policy: the device signs in with issued certificates.
    async fn with_certificates(name: &str) -> Self {
        Self::new(name, |enrollment| enrollment.with_certificate_policy("plants", "berlin", "a-week")).await
    }

    /// A site without one: the device signs in with its key.
    async fn with_keys(name: &str) -> Self {
        Self::new(name, |enrollment| enrollment).await
    }

    async fn new(name: &str, adapt: impl FnOnce(IndividualEnrollment) -> IndividualEnrollment) -> Self {
        let policy = CertificatePolicy::new("plants", "berlin", "a-week").unwrap().with_days(7).unwrap();
        let emulator = Emulator::builder().certificate_policy(policy).start().await.unwrap();
        let place = std::env::temp_dir().join(format!("azure-dps-gateway-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("ca.pem"), emulator.ca_pem()).unwrap();
        let builder = ServiceClient::builder_from_connection_string(&emulator.service_connection_string());
        let builder = builder.unwrap().trust_only(emulator.ca_pem()).unwrap();
        let service = builder.api_version(ApiVersion::V2026_11_01).build().unwrap();
        let keys = [key(), key()];
        let hubs = <[String; 2]>::try_from(emulator.hubs()).unwrap();
        let enrollment =
            IndividualEnrollment::new(DEVICE, attestation(&keys)).with_static_allocation(&hubs[0]);
        service.enrollments().create_or_update(&adapt(enrollment)).await.unwrap();
        Self { emulator, service, keys, hubs, place }
    }

    /// The program as the device of this site.
    fn command(&self) -> Command {
        let mut command = sample("gateway");
        command.env("DPS_ID_SCOPE", self.emulator.id_scope()).env("DPS_REGISTRATION_ID", DEVICE);
        command.env("DPS_KEY", &self.keys[0]);
        command.env("DPS_ENDPOINT", format!("localhost:{}", self.emulator.https_port()));
        command.env("DPS_CA_FILE", self.place.join("ca.pem"));
        command.env("GATEWAY_FOLDER", self.place.join("device"));
        command.env("GATEWAY_HUB", format!("localhost:{}", self.emulator.mqtt_port()));
        command.env("GATEWAY_LONGEST_PAUSE", "0.1");
        command
    }

    fn boot(&self) -> Program {
        Program::start(self.command())
    }

    async fn change(&self, edit: impl FnMut(&mut IndividualEnrollment) + Send) {
        self.service.enrollments().update(DEVICE, edit).await.unwrap();
    }

    /// How many registrations were asked for.
    fn registrations(&self) -> usize {
        self.emulator.journal().iter().filter(|entry| entry.target.contains("register")).count()
    }

    /// The names of the files that the device keeps.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.join("device")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.place);
    }
}

/// A program that runs. It is killed when the test ends.
struct Program {
    child: Child,
    lines: UnboundedReceiver<String>,
    /// All lines that were read.
    log: Vec<String>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded_channel();
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let forward = move |read: Box<dyn std::io::Read + Send>| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(read).lines().map_while(Result::ok) {
                    let _sent = sender.send(line);
                }
            });
        };
        forward(Box::new(out));
        forward(Box::new(errors));
        Self { child, lines, log: Vec::new() }
    }

    /// Reads lines up to one that begins with `event`, and returns that one.
    async fn until(&mut self, event: &str) -> String {
        loop {
            let line = timeout(LIMIT, self.lines.recv()).await.ok().flatten();
            assert!(line.is_some(), "no {event:?}: {:#?}", self.log);
            self.log.extend(line);
            if let Some(line) = self.log.last().filter(|line| line.starts_with(event)) {
                return line.clone();
            }
        }
    }

    /// Reads lines up to the first connection, and returns the events before it.
    async fn online(&mut self) -> Vec<String> {
        let before = self.log.len();
        self.until("Connected").await;
        self.events(before)
    }

    /// The first word of each line from this one on.
    fn events(&self, from: usize) -> Vec<String> {
        let words = self.log.iter().skip(from).map(|line| line.split(' ').next().unwrap_or_default());
        words.map(str::to_owned).collect()
    }

    /// Ends it with a signal. It must end cleanly.
    async fn end(mut self, signal: &str) -> Vec<String> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let (status, log) = self.ended().await;
        assert!(status.success(), "{log:#?}");
        assert!(log.last().unwrap().starts_with("Stopped"), "{log:#?}");
        log
    }

    /// Waits for its end. Returns its exit status, and all lines.
    async fn ended(&mut self) -> (ExitStatus, Vec<String>) {
        // The lines end when the program closes its output.
        while let Some(line) = timeout(LIMIT, self.lines.recv()).await.unwrap() {
            self.log.push(line);
        }
        (self.child.wait().unwrap(), self.log.clone())
    }

    /// Ends it as a power failure does.
    async fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.ended().await.1
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn key() -> String {
    SharedKey::generate().unwrap().to_base64().to_string()
}

fn attestation([primary, secondary]: &[String; 2]) -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(primary.clone(), secondary.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_boots_first_gets_a_certificate_and_works_at_its_hub() {
    let site = Site::with_certificates("first").await;
    let mut program = site.boot();

    let wanted = ["Started", "Registering", "Assigned", "CertificateIssued", "Connecting", "Connected"];
    assert_eq!(program.online().await, wanted);
    let first = site.emulator.wait_for_telemetry(&site.hubs[0], DEVICE, 0, LIMIT).await.unwrap();
    assert!(site.is_connected());
    site.emulator.set_desired(&site.hubs[0], DEVICE, json!({ "interval": 1 })).unwrap();
    site.emulator.wait_for_telemetry(&site.hubs[0], DEVICE, first.sequence, LIMIT).await.unwrap();
    site.until("/twin/properties/reported/interval", &json!(1)).await;
    site.emulator.set_desired(&site.hubs[0], DEVICE, json!({ "interval": null })).unwrap();
    site.until("/twin/properties/reported/interval", &json!(60)).await;

    let log = program.end("-TERM").await;
    assert!(log.iter().any(|line| line.starts_with("Disconnected(Closed)")), "{log:#?}");
    assert!(!site.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_reboots_reaches_its_hub_without_the_service() {
    let site = Site::with_certificates("offline").await;
    let mut program = site.boot();
    program.online().await;
    program.end("-INT").await;
    let registrations = site.registrations();

    // A service that accepts no connection, and counts them.
    let service = TcpListener::bind("localhost:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let mut command = site.command();
    command.env("DPS_ENDPOINT", format!("localhost:{}", service.local_addr().unwrap().port()));
    let mut program = Program::start(command);
    assert_eq!(program.online().await, ["Started", "Connecting", "Connected"]);
    program.end("-TERM").await;
    assert_eq!(service.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(site.registrations(), registrations);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_hub_is_busy_or_drops_it_connects_again_without_the_service() {
    let site = Site::with_certificates("busy").await;
    let mut program = site.boot();
    program.online().await;
    let (online, registrations) = (program.log.len(), site.registrations());

    site.emulator.inject(Fault::status(503).on(Operation::HubConnect).times(2)).unwrap();
    assert!(site.emulator.disconnect(&site.hubs[0], DEVICE).unwrap());
    program.online().await;
    let events = program.events(online);
    let ends: Vec<_> = events.iter().filter(|event| event.starts_with("Disconnected")).collect();
    assert_eq!(ends, ["Disconnected(Lost)", "Disconnected(Unreachable)", "Disconnected(Unreachable)"]);
    assert_eq!(site.registrations(), registrations);
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_its_hub_deleted_registers_again() {
    let site = Site::with_certificates("deleted").await;
    let mut program = site.boot();
    program.online().await;
    let (online, registrations) = (program.log.len(), site.registrations());

    assert!(site.emulator.delete_hub_device(&site.hubs[0], DEVICE));
    let refused = program.until("Disconnected(Refused)").await;
    assert!(refused.contains("CONNACK 5"), "{refused}");
    program.until("Registering").await;
    program.online().await;
    let events = program.events(online);
    assert!(events.contains(&"Assigned".to_owned()), "{events:?}");
    assert!(site.registrations() > registrations);
    assert!(site.emulator.hub_device(&site.hubs[0], DEVICE).is_some());
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_its_back_end_moves_answers_first_and_goes_to_the_other_hub() {
    let site = Site::with_certificates("moved").await;
    let [old, new] = &site.hubs;
    let mut program = site.boot();
    program.online().await;

    let answer = site.emulator.invoke_method(old, DEVICE, MethodCall::new("selfDestruct")).await.unwrap();
    assert_eq!(answer.status, 404);
    site.change(|enrollment| enrollment.iot_hubs = Some(vec![new.clone()])).await;
    let answer = site.emulator.invoke_method(old, DEVICE, MethodCall::new("reprovision")).await.unwrap();
    assert_eq!(answer.status, 200);
    program.until("Disconnected(ProvisionAnew)").await;
    let assigned = program.until("Assigned").await;
    assert!(assigned.contains(new), "{assigned}");
    site.emulator.wait_for_telemetry(new, DEVICE, 0, LIMIT).await.unwrap();
    program.end("-TERM").await;

    let mut program = site.boot();
    assert_eq!(program.online().await, ["Started", "Connecting", "Connected"]);
    assert!(program.log.last().unwrap().contains(new), "{:#?}", program.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_keys_were_rotated_keeps_its_assignment() {
    let mut site = Site::with_keys("rotated").await;
    let mut program = site.boot();
    program.online().await;
    program.end("-TERM").await;

    site.keys = [key(), key()];
    let keys = site.keys.clone();
    site.change(|enrollment| enrollment.attestation = attestation(&keys)).await;
    let mut program = site.boot();
    let started = program.until("Started").await;
    assert!(started.contains(&site.hubs[0]) && !started.contains("error="), "{started}");
    program.online().await;
    let events = program.events(1);
    assert_eq!(events[..2], ["Connecting", "Disconnected(Refused)"], "its hub has the old keys");
    assert!(events.contains(&"Registering".to_owned()), "{events:?}");
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_first_key_is_refused_uses_the_other_one() {
    let site = Site::with_keys("fallback").await;
    let mut command = site.command();
    command.env("DPS_KEY", key());
    command.env("GATEWAY_SECONDARY_KEY", &site.keys[1]);
    let mut program = Program::start(command);
    program.until("CredentialChanged").await;
    program.online().await;
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_certificate_is_due_renews_it_and_keeps_one_key() {
    let site = Site::with_certificates("renewed").await;
    // Six of its seven days are over when the certificate is issued.
    site.emulator.set_clock(SystemTime::now() - Duration::from_secs(6 * 24 * 3600));
    let mut program = site.boot();
    program.online().await;
    let proven = program.until("CertificateProven").await;
    assert!(proven.contains("certificate_days=0"), "{proven}");

    site.emulator.reset_clock();
    let proven = loop {
        let proven = program.until("CertificateProven").await;
        if !proven.contains("certificate_days=0") {
            break proven;
        }
    };
    assert!(proven.contains("certificate_days=6"), "{proven}");
    let log = program.end("-TERM").await;
    assert!(!log.iter().any(|line| line.starts_with("Disconnected(Refused)")), "{log:#?}");
    let files = site.files();
    assert_eq!(files.iter().filter(|name| name.ends_with(".key")).count(), 1, "{files:?}");

    let mut program = site.boot();
    assert_eq!(program.online().await, ["Started", "Connecting", "Connected"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_certificate_was_revoked_gets_another_one() {
    let site = Site::with_certificates("revoked").await;
    let mut program = site.boot();
    program.online().await;
    program.until("CertificateProven").await;

    assert!(site.emulator.revoke(DEVICE));
    assert!(site.emulator.disconnect(&site.hubs[0], DEVICE).unwrap());
    program.until("Disconnected(Refused)").await;
    program.until("CertificateIssued").await;
    program.until("CertificateProven").await;
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_while_it_writes_finds_a_usable_store() {
    let site = Site::with_certificates("killed").await;
    let mut program = site.boot();
    program.online().await;
    program.kill().await;

    // On a fast disk some writes end before the signal comes.
    let mut unfinished = 0;
    for round in 0.. {
        if round >= ROUNDS && unfinished > 0 {
            break;
        }
        assert!(round < 20 * ROUNDS, "no program was killed while it wrote");
        // A device that has to register writes three records and a key, and deletes a key.
        site.emulator.delete_hub_device(&site.hubs[0], DEVICE);
        let program = site.boot();
        match round % 2 {
            0 => tokio::time::sleep(random(Duration::from_millis(300))).await,
            _ => site.write_begins().await,
        }
        let log = program.kill().await;
        unfinished += usize::from(site.is_writing());
        usable(&log);

        let mut program = site.boot();
        program.online().await;
        site.emulator.invoke_method(&site.hubs[0], DEVICE, MethodCall::new("reprovision")).await.unwrap();
        tokio::time::sleep(random(Duration::from_millis(300))).await;
        usable(&program.kill().await);
    }
    let mut program = site.boot();
    program.online().await;
    site.emulator.invoke_method(&site.hubs[0], DEVICE, MethodCall::new("reprovision")).await.unwrap();
    program.until("Disconnected(ProvisionAnew)").await;
    program.until("CertificateProven").await;
    let log = program.end("-TERM").await;
    usable(&log);
    let files = site.files();
    assert_eq!(files.len(), 2, "a record and a key: {files:?} {log:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_with_one_identity_one_gives_way() {
    let site = Site::with_keys("twins").await;
    let mut first = site.boot();
    first.online().await;
    let mut command = site.command();
    command.env("GATEWAY_FOLDER", site.place.join("another"));
    let mut second = Program::start(command);

    let (status, log) = tokio::select! {
        ended = first.ended() => ended,
        ended = second.ended() => ended,
    };
    let has = |part: &str| log.iter().any(|line| line.contains(part));
    assert!(has("Disconnected(TakenOver)"), "{log:#?}");
    // The unit for systemd in the README names it.
    assert_eq!(status.code(), Some(3), "{log:#?}");
    assert!(include_str!("../README.md").contains("\nRestartPreventExitStatus=3\n"));
    assert!(has("error: another program") && has("help: end that program"), "{log:#?}");
    site.until("/identity/connectionState", &json!("Connected")).await;
    let running = [&mut first, &mut second].map(|program| program.child.try_wait().unwrap().is_none());
    assert_eq!(running.into_iter().filter(|is_running| *is_running).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_while_the_service_is_silent_ends() {
    let site = Site::with_keys("silent").await;
    site.emulator.inject(Fault::stall().on(Operation::Register)).unwrap();
    let mut program = site.boot();
    program.until("Registering").await;
    program.end("-TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_write_its_folder_works_and_says_so() {
    let site = Site::with_keys("folder").await;
    std::fs::write(site.place.join("device"), "a file").unwrap();
    let mut program = site.boot();
    let failed = program.until("StoreFailed").await;
    assert!(failed.contains("the record of the device cannot be saved"), "{failed}");
    program.online().await;
    program.end("-TERM").await;
}

#[test]
fn a_gateway_says_which_variable_it_needs() {
    for (variables, said) in [
        (&[][..], "DPS_ID_SCOPE"),
        (&[("GATEWAY_HUB", "localhost:https")], "GATEWAY_HUB"),
        (&[("GATEWAY_LONGEST_PAUSE", "soon")], "GATEWAY_LONGEST_PAUSE"),
        (&[("GATEWAY_LONGEST_PAUSE", "-1")], "GATEWAY_LONGEST_PAUSE"),
        (&[("GATEWAY_SECONDARY_KEY", "marker!")], "GATEWAY_SECONDARY_KEY"),
    ] {
        let mut command = sample("gateway");
        command.env("GATEWAY_FOLDER", std::env::temp_dir().join("azure-dps-gateway-never-made"));
        if !variables.is_empty() {
            command.env("DPS_ID_SCOPE", "0ne00111111").env("DPS_REGISTRATION_ID", DEVICE);
            command.env("DPS_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        }
        let (success, printed, errors) = super::output({
            command.envs(variables.iter().copied());
            command
        });
        assert!(!success && printed.is_empty(), "{said}: {printed}");
        assert!(errors.starts_with("error: ") && errors.contains(said), "{said}: {errors}");
        assert!(errors.contains("\nhelp: ") && !errors.contains("marker"), "{said}: {errors}");
    }
}

impl Site {
    /// Whether the device has this value at its hub.
    fn has(&self, pointer: &str, value: &Value) -> bool {
        let device = self.emulator.hub_device(&self.hubs[0], DEVICE);
        device.is_some_and(|device| device.pointer(pointer) == Some(value))
    }

    fn is_connected(&self) -> bool {
        self.has("/identity/connectionState", &json!("Connected"))
    }

    /// Waits until the device has this value at its hub.
    async fn until(&self, pointer: &str, value: &Value) {
        let found = async {
            while !self.has(pointer, value) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, found).await.unwrap();
    }

    /// Waits until the device begins to write a file, at most for two seconds.
    async fn write_begins(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && !self.is_writing() {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the device has a file whose write has begun, but not ended.
    fn is_writing(&self) -> bool {
        self.files().iter().any(|name| name.starts_with('.') && name.ends_with(".new"))
    }
}

/// The program found the record of the device, and could write it.
fn usable(log: &[String]) {
    let is_bad = |line: &String| {
        line.starts_with("StoreFailed") || line.starts_with("Started") && !line.contains(" hub=")
    };
    assert!(!log.iter().any(is_bad), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("stored record")), "{log:#?}");
}

/// A part of this time.
fn random(longest: Duration) -> Duration {
    longest.mul_f64(RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64)
}

const DEVICE: &str = "gateway-7";
/// For a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const ROUNDS: usize = 12;
