//! Runs the sample programs as a person would: on the embedded emulator, and against an instance that the
//! environment names. An emulator takes the place of that instance, and `DPS_CA_FILE` names its CA.
#![allow(clippy::unwrap_used)] // Test code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use azure_dps_emulator::{AccessPolicy, CertificatePolicy, Emulator, EmulatorBuilder, Pki, Right};

#[cfg(unix)] // With its signals.
#[path = "samples/gateway.rs"]
mod gateway;

/// A sample without the environment of this process. Cargo builds the samples beside the tests.
fn sample(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} does not exist, because the test alone does not build the samples: run `cargo build -p \
         azure-dps-examples --examples` first",
        path.display()
    );
    let mut command = Command::new(path);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
}

/// A sample whose environment names this emulator, as it would name an instance.
fn sample_at(emulator: &Emulator, ca: &Path, name: &str) -> Command {
    let mut command = sample(name);
    command.env("DPS_CONNECTION_STRING", emulator.service_connection_string());
    command.env("DPS_ID_SCOPE", emulator.id_scope()).env("DPS_CA_FILE", ca);
    command.env("DPS_MQTT_PORT", emulator.mqtt_port().to_string());
    command.env("DPS_AMQP_PORT", emulator.amqp_port().to_string());
    command
}

fn output(command: Command) -> (bool, String, String) {
    let mut command = command;
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An emulator in the place of an instance, and the file with its CA. It asks for no waits, because with an
/// instance the samples wait as long as it asks.
async fn instance(name: &str) -> (Emulator, PathBuf) {
    instance_of(Emulator::builder(), name).await
}

async fn instance_of(builder: EmulatorBuilder, name: &str) -> (Emulator, PathBuf) {
    let emulator = builder.start().await.unwrap();
    let ca = std::env::temp_dir().join(format!("azure-dps-{name}-{}.pem", std::process::id()));
    std::fs::write(&ca, emulator.ca_pem()).unwrap();
    (emulator, ca)
}

/// The records that were created and deleted, from the journal.
fn balance(emulator: &Emulator) -> (usize, usize) {
    let count = |method: &str, part: &str| {
        let journal = emulator.journal();
        journal.iter().filter(|e| e.method == method && e.target.contains(part) && e.status < 300).count()
    };
    (count("PUT", "/enrollment"), count("DELETE", "/enrollment"))
}

#[test]
fn quickstart_prints_where_both_devices_belong() {
    let (success, printed, errors) = output(sample("quickstart"));
    assert!(success, "{errors}");
    assert!(printed.starts_with("embedded emulator at localhost:"), "{printed}");
    let table: Vec<_> = printed.lines().skip(2).collect();
    assert_eq!(table.len(), 5, "{printed}");
    let columns: Vec<_> =
        table.first().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(
        columns,
        ["registration id", "attestation", "transport", "assigned hub", "device id", "requests", "ms"]
    );
    let rows = ["HTTPS", "MQTT"].into_iter().flat_map(|t| [("key, individual", t), ("key, group", t)]);
    for (row, (attestation, transport)) in table.iter().skip(1).zip(rows) {
        assert!(
            row.contains(attestation)
                && row.contains(&format!("  {transport} "))
                && row.contains(".azure-devices.net"),
            "{row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_runs_against_the_instance_of_the_environment_and_deletes_what_it_made() {
    let (emulator, ca) = instance("instance").await;
    let (success, printed, errors) = output(sample_at(&emulator, &ca, "quickstart"));
    std::fs::remove_file(ca).unwrap();
    assert!(success, "{errors}");
    assert!(printed.starts_with("instance at localhost:"), "{printed}");
    assert_eq!((printed.matches("HTTPS").count(), printed.matches("MQTT").count()), (2, 2), "{printed}");
    assert_eq!(balance(&emulator), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_deletes_what_it_made_also_after_an_error() {
    let (emulator, ca) = instance("error").await;
    let mut command = sample_at(&emulator, &ca, "quickstart");
    command.env("DPS_ID_SCOPE", "0neSOMEBODYELSE");
    let (success, _, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(!success);
    assert!(errors.contains("error: the service refused the request: status 404"), "{errors}");
    assert!(errors.contains("help: no instance has this ID scope"), "{errors}");
    assert_eq!(balance(&emulator), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_comes_first_and_nothing_is_told_of_what_was_never_made() {
    let (emulator, ca) = instance("refused").await;
    let connection = emulator.service_connection_string();
    let (rest, _) = connection.split_once("SharedAccessKey=").unwrap();
    for name in ON_AN_INSTANCE {
        let mut command = sample_at(&emulator, &ca, name);
        command.env("DPS_CONNECTION_STRING", format!("{rest}SharedAccessKey=d3Jvbmc="));
        command.env("DPS_HUBS", emulator.hubs().join(","));
        command.env("DPS_CERTIFICATE_POLICY", "plant-north/plant-ca/sensors");
        let (success, _, errors) = output(command);
        assert!(
            !success && errors.starts_with("error: ") && errors.contains("status 401"),
            "{name}: {errors}"
        );
        assert_eq!(
            errors.lines().filter(|line| !line.starts_with("  because ")).count(),
            2,
            "{name}: {errors}"
        );
    }
    std::fs::remove_file(ca).unwrap();
    assert_eq!(balance(&emulator), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_is_named_after_the_error() {
    let rights = [Right::EnrollmentRead, Right::EnrollmentWrite];
    let policy = AccessPolicy::new("enroller", rights);
    let (emulator, ca) = instance_of(Emulator::builder().access_policy(policy), "left").await;
    let mut command = sample_at(&emulator, &ca, "quickstart");
    command.env("DPS_CONNECTION_STRING", emulator.connection_string("enroller").unwrap());
    command.env("DPS_ID_SCOPE", "0neSOMEBODYELSE");
    let (success, _, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(!success);
    let lines: Vec<_> = errors.lines().filter(|line| !line.starts_with("help: ")).collect();
    let [error, single, member] = lines.as_slice() else { panic!("{errors}") };
    assert!(error.starts_with("error: ") && error.contains("status 404"), "{errors}");
    for (line, id) in [(single, "-single: "), (member, "-member: ")] {
        assert!(line.starts_with("left behind: registration record quickstart-"), "{errors}");
        assert!(line.contains(id) && line.contains("status 401"), "{errors}");
    }
    assert_eq!(balance(&emulator), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_that_is_not_trusted_comes_with_what_to_set() {
    let (emulator, ca) = instance("untrusted").await;
    let mut command = sample_at(&emulator, &ca, "quickstart");
    command.env_remove("DPS_CA_FILE");
    let (success, _, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(!success && errors.contains("help: ") && errors.contains("DPS_CA_FILE"), "{errors}");
}

#[test]
fn a_sample_that_gets_an_argument_says_what_it_does_and_does_nothing() {
    for name in ON_AN_INSTANCE.into_iter().chain(["x509_group", "custom_allocation"]) {
        for (argument, status) in [("--help", 0), ("-h", 0), ("--dry-run", 2), ("anything", 2)] {
            let mut command = sample(name);
            // The user would see the error of an emulator that does not answer.
            command.env("DPS_CONNECTION_STRING", "no connection string").env("DPS_ID_SCOPE", "0ne00111111");
            let Output { status: ended, stdout, stderr } = command.arg(argument).output().unwrap();
            let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
            assert_eq!(ended.code(), Some(status), "{name} {argument}: {stderr}");
            let (reported, silent) = if status == 0 { (stdout, stderr) } else { (stderr, stdout) };
            assert!(silent.is_empty(), "{name} {argument}: {silent}");
            assert_eq!(
                status == 2,
                reported.contains(&format!("{argument:?}")),
                "{name} {argument}: {reported}"
            );
            assert!(
                reported.contains(&format!("`cargo run --example {name}`")),
                "{name} {argument}: {reported}"
            );
            for variable in ["`DPS_CONNECTION_STRING`", "`DPS_ID_SCOPE`"] {
                assert!(reported.contains(variable), "{name} {argument}: {reported}");
            }
        }
    }
}

#[test]
fn enrollments_tells_the_life_of_an_enrollment() {
    let (success, printed, errors) = output(sample("enrollments"));
    assert!(success && errors.is_empty(), "{errors}");
    let steps: Vec<_> =
        printed.lines().skip(2).filter_map(|line| line.split_once("  ").map(|(step, _)| step)).collect();
    let wanted =
        ["created", "read", "mechanism", "updated", "conflict", "stale tag", "deleted", "created", "deleted"];
    assert_eq!(steps, wanted, "{printed}");
    assert!(printed.lines().any(|line| line.starts_with("read ") && line.ends_with("has keys: false")));
}

#[test]
fn bulk_creates_all_but_the_one_that_exists() {
    let (success, printed, errors) = output(sample("bulk"));
    assert!(success && errors.is_empty(), "{errors}");
    assert!(
        printed.contains("\ncreated 24 of 25\n") && printed.contains("\ndeleted 25 of 25\n"),
        "{printed}"
    );
    assert!(printed.contains("-03: code 409201"), "{printed}");
}

#[test]
fn list_tells_enrollments_and_records() {
    let (success, printed, errors) = output(sample("list"));
    assert!(success && errors.is_empty(), "{errors}");
    assert!(printed.contains("5 of this sample among the first 5"), "{printed}");
    assert!(printed.contains("the page after the first one has 2 items"), "{printed}");
    assert_eq!(printed.matches("-member-").count(), 3, "{printed}");
}

#[test]
fn x509_individual_rolls_a_certificate_over() {
    let (success, printed, errors) = output(sample("x509_individual"));
    assert!(success && errors.is_empty(), "{errors}");
    let steps: Vec<_> =
        printed.lines().skip(3).filter_map(|line| line.split_once(": ").map(|(step, _)| step)).collect();
    let wanted = [
        "registered old certificate",
        "refused    new certificate",
        "registered new certificate, beside the old one",
        "registered new certificate, alone",
    ];
    assert_eq!(steps, wanted, "{printed}");
}

#[test]
fn x509_group_registers_devices_that_were_never_enrolled() {
    let (success, printed, errors) = output(sample("x509_group"));
    assert!(success && errors.is_empty(), "{errors}");
    for device in ["sample-gateway", "sample-sensor"] {
        assert!(printed.contains(&format!("registered {device} at ")), "{printed}");
    }
    assert_eq!(printed.matches("intermediate").count(), 4, "{printed}");
}

#[test]
fn issue_certificate_prints_chains_and_renews() {
    let (success, printed, errors) = output(sample("issue_certificate"));
    assert!(success && errors.is_empty(), "{errors}");
    for issued in ["key, individual", "key, group", "X.509, individual", "renewal"] {
        assert!(printed.contains(&format!("issued     {issued}: sample-")), "{printed}");
    }
    // With a TPM there is one leaf more.
    let leaves = printed.matches("issued     ").count();
    assert_eq!(printed.matches(", issued by ").count(), 2 * leaves, "each leaf and its issuer: {printed}");
    for step in ["kept       key and chain of CN=sample-", "replaced   ", "not issued the service assigned"] {
        assert!(printed.contains(step), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issue_certificate_asks_for_the_policy_of_an_instance() {
    let (emulator, ca) = instance("no-policy").await;
    let (success, _, errors) = output(sample_at(&emulator, &ca, "issue_certificate"));
    assert!(!success && errors.contains("DPS_CERTIFICATE_POLICY=namespace/authority/policy"), "{errors}");
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn transports_prints_the_whole_matrix() {
    let (success, printed, errors) = output(sample("transports"));
    assert!(success && errors.is_empty(), "{errors}");
    let rows: Vec<_> = printed.lines().skip(3).collect();
    assert_eq!(rows.len(), 24, "{printed}");
    for (transport, count) in [
        ("  HTTPS ", 4),
        ("  MQTT ", 4),
        ("  MQTT-WS ", 4),
        ("  AMQP ", 4),
        ("  AMQP-WS ", 4),
        ("  Auto: MQTT ", 4),
    ] {
        assert_eq!(rows.iter().filter(|row| row.contains(transport)).count(), count, "{printed}");
    }
    for attestation in ["key, individual", "key, group", "X.509, individual", "X.509, group"] {
        assert_eq!(rows.iter().filter(|row| row.starts_with(attestation)).count(), 6, "{printed}");
    }
}

#[test]
#[cfg(feature = "tpm")]
fn tpm_registers_a_device_and_shows_no_secret() {
    let (success, printed, errors) = output(sample("tpm"));
    assert!(success, "{errors}");
    let steps: Vec<_> = printed.lines().skip(2).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(steps, ["simulator", "enrolled", "registered", "signed"], "{printed}");
    assert!(printed.contains(".azure-devices.net") && printed.contains("good until"), "{printed}");
    assert!(!printed.contains("SharedAccessSignature") && !printed.contains("AToAAQ"), "{printed}");
}

#[test]
#[cfg(feature = "tpm")]
fn tpm_says_what_to_do_without_a_tpm() {
    let mut command = sample("tpm");
    command.env("DPS_TPM", "device:/dev/no-such-tpm");
    let (success, _, errors) = output(command);
    assert!(!success);
    assert!(errors.contains("/dev/no-such-tpm cannot be opened: the machine has no TPM 2.0"), "{errors}");
    let mut command = sample("tpm");
    command.env("PATH", "");
    let (success, _, errors) = output(command);
    assert!(!success);
    assert!(errors.contains("set DPS_TPM, or install swtpm"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn x509_group_says_which_files_an_instance_needs() {
    let (emulator, ca) = instance("x509").await;
    let (success, _, errors) = output(sample_at(&emulator, &ca, "x509_group"));
    std::fs::remove_file(ca).unwrap();
    assert!(!success);
    assert!(errors.contains("DPS_X509_CA is not set"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn x509_group_takes_the_files_of_the_environment() {
    let (emulator, ca) = instance("files").await;
    let files = std::env::temp_dir().join(format!("azure-dps-files-{}", std::process::id()));
    Pki::new(["sensor-042"], 1).unwrap().write_to(&files).unwrap();
    let mut command = sample_at(&emulator, &ca, "x509_group");
    command.env("DPS_X509_CA", files.join("root.pem"));
    command.env("DPS_CERT_FILE", files.join("sensor-042-chain.pem"));
    command.env("DPS_KEY_FILE", files.join("sensor-042-key.pem"));
    let (success, printed, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    std::fs::remove_dir_all(files).unwrap();
    assert!(success && errors.is_empty(), "{errors}");
    assert!(printed.contains("registered sensor-042 at "), "{printed}");
    assert_eq!(balance(&emulator), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn reprovision_says_which_hubs_an_instance_needs() {
    let (emulator, ca) = instance("hubs").await;
    for (hubs, said) in [
        (None, "DPS_HUBS is not set: name two hubs"),
        (Some(" , "), "DPS_HUBS is not set: name two hubs"),
        (Some("one.azure-devices.net"), "the number of hubs in DPS_HUBS is 1: name two hubs"),
        (Some("a.example,b.example,c.example"), "the number of hubs in DPS_HUBS is 3: name two hubs"),
    ] {
        let mut command = sample_at(&emulator, &ca, "reprovision");
        command.envs(hubs.map(|hubs| ("DPS_HUBS", hubs)));
        let (success, _, errors) = output(command);
        assert!(!success && errors.contains(said), "{errors}");
        assert!(errors.contains("DPS_HUBS=one.azure-devices.net,two.azure-devices.net"), "{errors}");
    }
    std::fs::remove_file(ca).unwrap();
    assert_eq!(balance(&emulator), (0, 0));
}

#[test]
fn reprovision_moves_the_fleet_as_each_policy_says() {
    let (success, printed, errors) = output(sample("reprovision"));
    assert!(success && errors.is_empty(), "{errors}");
    for (outcome, count) in [
        ("hub-1.azure-devices.net: initialAssignment, twin first", 9),
        ("hub-2.azure-devices.net: deviceDataMigrated, twin first", 3),
        ("hub-1.azure-devices.net: deviceDataReset, twin fourth", 3),
    ] {
        assert_eq!(printed.matches(outcome).count(), count, "{printed}");
    }
}

#[test]
fn retire_closes_the_way_back_before_it_takes_the_hub_away() {
    let (success, printed, errors) = output(sample("retire"));
    assert!(success && errors.is_empty(), "{errors}");
    for (line, count) in [
        ("registered at", 3),
        ("individual enrollment, disabled", 1),
        ("registration record deleted", 2),
        ("identity deleted at", 2),
        ("does not get in any more", 2),
        ("left to do", 0),
    ] {
        assert_eq!(printed.matches(line).count(), count, "{line}: {printed}");
    }
    let at = |line: &str| printed.find(line).unwrap();
    assert!(
        at("disabled") < at("identity deleted") && at("identity deleted") < at("record deleted"),
        "{printed}"
    );
}

#[test]
fn custom_allocation_asks_our_webhook() {
    let (success, printed, errors) = output(sample("custom_allocation"));
    assert!(success && errors.is_empty(), "{errors}");
    for line in [
        "webhook    camera-1 is a camera: emulator-hub-2",
        "device     camera-1: at emulator-hub-2.azure-devices.net, received {\"interval\":1}",
        "device     meter-2: at emulator-hub-1.azure-devices.net, received {\"interval\":60}",
        "device     toaster-1: the service could not assign the device, code 400207",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let (success, _, errors) = output({
        let mut command = sample("custom_allocation");
        command.env("DPS_CONNECTION_STRING", "HostName=h.example;SharedAccessKeyName=p;SharedAccessKey=MDEy");
        command.env("DPS_ID_SCOPE", "0ne00ABCDEF");
        command
    });
    assert!(!success && errors.contains("which an instance cannot reach"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_leave_nothing_behind_in_an_instance() {
    let policy = CertificatePolicy::new("plants", "berlin", "ninety-days").unwrap();
    let (emulator, ca) = instance_of(Emulator::builder().certificate_policy(policy), "others").await;
    for name in ON_AN_INSTANCE {
        let mut command = sample_at(&emulator, &ca, name);
        command.env("DPS_CERTIFICATE_POLICY", "plants/berlin/ninety-days");
        command.env("DPS_HUBS", emulator.hubs().join(", "));
        let (success, printed, errors) = output(command);
        assert!(success && errors.is_empty(), "{name}: {errors}");
        assert!(printed.starts_with("instance at localhost:"), "{name}: {printed}");
        let left = format!("{} {}", emulator.enrollments(), emulator.registrations());
        assert!(!left.contains("sample-") && !left.contains("quickstart-"), "{name}: {left}");
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn hub_shows_the_life_of_a_device_at_its_hub() {
    let (success, printed, errors) = output(sample("hub"));
    assert!(success && errors.is_empty(), "{errors}");
    let steps: Vec<_> = printed.lines().skip(2).filter_map(|line| line.split_once("  ")).collect();
    let has = |step: &str, part: &str| steps.iter().any(|(name, text)| *name == step && text.contains(part));
    for (step, part) in [
        ("twin", "interval 60"),
        ("desired", "interval 5"),
        ("method", "reboot {\"delay\":1}"),
        ("back end", "answered with 200"),
        ("renewed", ".azure-devices.net"),
        ("twin", "interval 5"),
    ] {
        assert!(has(step, part), "{step} {part}: {printed}");
    }
}

#[test]
fn gateway_shows_the_first_boot_a_move_and_a_reboot() {
    let (success, printed, errors) = output(sample("gateway"));
    assert!(success && errors.is_empty(), "{errors}");
    let (first_boot, reboot) = printed.split_once("-- a reboot").unwrap();
    for (part, hub) in
        [("\nConnected ", "hub-1"), ("\nDisconnected(ProvisionAnew) ", "hub-1"), ("\nStopped ", "hub-2")]
    {
        let (_, rest) = first_boot.split_once(part).unwrap();
        assert!(rest.lines().next().unwrap().contains(hub), "{part}: {printed}");
    }
    assert!(reboot.contains("\nConnected ") && !reboot.contains("Registering"), "{printed}");
}

#[test]
fn half_an_instance_is_refused_with_what_to_do() {
    let mut command = sample("quickstart");
    command.env("DPS_ID_SCOPE", "0ne00111111");
    let (success, _, errors) = output(command);
    assert!(!success);
    assert!(errors.contains("set both DPS_CONNECTION_STRING and DPS_ID_SCOPE"), "{errors}");
}

/// The sample `register_device` at this emulator, on the port of HTTPS and WebSockets.
fn device_at(emulator: &Emulator, ca: &Path) -> Command {
    let mut command = sample("register_device");
    command.env("DPS_ID_SCOPE", emulator.id_scope()).env("DPS_CA_FILE", ca);
    command.env("DPS_ENDPOINT", format!("localhost:{}", emulator.https_port()));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_that_enroll_devices_prints_are_those_that_register_device_reads() {
    let (emulator, ca) = instance("copied").await;
    // The second run finds the enrollments of the first one.
    for _ in 0..2 {
        let (success, printed, errors) = output(sample_at(&emulator, &ca, "enroll_devices"));
        assert!(success && errors.is_empty(), "{errors}");
        let lines: Vec<_> = printed.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), 2, "{printed}");
        // The variables of a shell in which both lines are executed.
        let mut variables = BTreeMap::from([("DPS_CERT_FILE", "/of/another/device.pem")]);
        for line in lines {
            let (removed, set) = line.split_once("; export ").unwrap();
            for name in removed.strip_prefix("unset ").unwrap().split(' ') {
                variables.remove(name);
            }
            variables.extend(set.split(' ').map(|set| set.split_once('=').unwrap()));
            let mut command = device_at(&emulator, &ca);
            command.envs(&variables);
            let (success, printed, errors) = output(command);
            assert!(success && errors.is_empty(), "{errors}");
            assert!(printed.starts_with("device sample-") && printed.contains("over MQTT-WS"), "{printed}");
        }
    }
    std::fs::remove_file(ca).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn register_device_uses_the_certificate_and_the_transport_of_the_environment() {
    let pki = Pki::new(["sample-plant"], 1).unwrap();
    let root = serde_json::to_string(&pki.root.certificate_pem).unwrap();
    let seed = format!(
        r#"{{ "enrollmentGroups": [{{ "enrollmentGroupId": "plants", "attestation": {{ "type": "x509",
            "x509": {{ "signingCertificates": {{ "primary": {{ "certificate": {root} }} }} }} }} }}] }}"#
    );
    let (emulator, ca) = instance_of(Emulator::builder().seed_json(seed), "certificate").await;
    let [device] = pki.devices.as_slice() else { panic!("{:?}", pki.devices) };
    // Chain and key can be in one file.
    let file = std::env::temp_dir().join(format!("azure-dps-plant-{}.pem", std::process::id()));
    std::fs::write(&file, format!("{}{}", device.chain_pem, device.private_key_pem)).unwrap();
    let (https, mqtt, amqp) = (emulator.https_port(), emulator.mqtt_port(), emulator.amqp_port());
    for (transport, port) in [
        ("https", https),
        ("mqtt", mqtt),
        ("mqtt-ws", https),
        ("amqp", amqp),
        ("amqp-ws", https),
        ("auto", https),
    ] {
        let mut command = device_at(&emulator, &ca);
        command.env("DPS_ENDPOINT", format!("localhost:{port}")).env("DPS_TRANSPORT", transport);
        command.env("DPS_CERT_FILE", &file).env("DPS_KEY_FILE", &file);
        let (success, printed, errors) = output(command);
        assert!(success && errors.is_empty(), "{transport}: {errors}");
        let used = if transport == "auto" { "mqtt-ws" } else { transport };
        assert!(printed.starts_with("device sample-plant is at "), "{printed}");
        assert!(printed.contains(&format!("over {})", used.to_uppercase())), "{printed}");
    }
    std::fs::remove_file(ca).and_then(|()| std::fs::remove_file(file)).unwrap();
}

#[test]
fn a_copied_sample_without_its_variables_names_them_and_the_next_step() {
    for (name, wanted) in [
        ("enroll_devices", "Error: the environment variable DPS_CONNECTION_STRING is not set\nhelp: "),
        (
            "register_device",
            "Error: the environment does not describe a device: set DPS_ID_SCOPE, and DPS_REGISTRATION_ID, and \
             one of DPS_KEY, DPS_GROUP_KEY, or DPS_CERT_FILE with DPS_KEY_FILE\nhelp: ",
        ),
    ] {
        let (success, printed, errors) = output(sample(name));
        assert!(!success && printed.is_empty(), "{printed}");
        assert!(errors.starts_with(wanted), "{errors}");
    }
}

/// The samples that run against an instance as it is, without files.
const ON_AN_INSTANCE: [&str; 11] = [
    "issue_certificate",
    "quickstart",
    "enrollments",
    "bulk",
    "list",
    "x509_individual",
    "transports",
    "reprovision",
    "retire",
    "hub",
    "gateway",
];
const VARIABLES: &[&str] = &[
    "DPS_CONNECTION_STRING",
    "DPS_ID_SCOPE",
    "DPS_REGISTRATION_ID",
    "DPS_KEY",
    "DPS_GROUP_KEY",
    "DPS_CERT_FILE",
    "DPS_KEY_FILE",
    "DPS_ENDPOINT",
    "DPS_TRANSPORT",
    "DPS_CA_FILE",
    "DPS_MQTT_PORT",
    "DPS_AMQP_PORT",
    "DPS_HUBS",
    "DPS_CERTIFICATE_POLICY",
    "DPS_X509_CA",
    "DPS_TPM",
    "GATEWAY_FOLDER",
    "GATEWAY_SECONDARY_KEY",
    "GATEWAY_HUB",
    "GATEWAY_LONGEST_PAUSE",
    "SSL_CERT_FILE",
];
