//! Runs the sample programs as a person would: on the embedded emulator, and against an instance that the environment
//! names. An emulator of our own stands in for that instance; `SSL_CERT_FILE` makes its CA one of the platform's roots.
#![allow(clippy::unwrap_used)] // Test code.

use std::path::PathBuf;
use std::process::{Command, Output};

use azure_dps_emulator::Emulator;

/// A sample without the environment of whoever runs the tests. Cargo builds the samples beside the tests.
fn sample(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    let mut command = Command::new(path.with_extension(std::env::consts::EXE_EXTENSION));
    for name in
        ["DPS_CONNECTION_STRING", "DPS_ID_SCOPE", "DPS_MQTT_PORT", "DPS_AMQP_PORT", "DPS_HUBS", "DPS_TPM"]
    {
        command.env_remove(name);
    }
    command
}

fn output(command: Command) -> (bool, String, String) {
    let mut command = command;
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An emulator in the place of an instance, and the file with its CA. It lets nobody wait, because against an instance
/// the samples wait as in the field.
async fn instance(name: &str) -> (Emulator, PathBuf) {
    let emulator = Emulator::builder().polls(0).start().await.unwrap();
    let ca = std::env::temp_dir().join(format!("azure-dps-{name}-{}.pem", std::process::id()));
    std::fs::write(&ca, emulator.ca_pem()).unwrap();
    (emulator, ca)
}

/// What was made and what was deleted, from the journal.
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
    assert!(printed.starts_with("embedded emulator, localhost:"), "{printed}");
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
    let mut command = sample("quickstart");
    command.env("DPS_CONNECTION_STRING", emulator.service_connection_string());
    command.env("DPS_ID_SCOPE", emulator.id_scope()).env("SSL_CERT_FILE", &ca);
    command.env("DPS_MQTT_PORT", emulator.mqtt_port().to_string());
    let (success, printed, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(success, "{errors}");
    assert!(printed.starts_with("Azure, localhost:"), "{printed}");
    assert_eq!((printed.matches("HTTPS").count(), printed.matches("MQTT").count()), (2, 2), "{printed}");
    assert_eq!(balance(&emulator), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_deletes_what_it_made_also_after_an_error() {
    let (emulator, ca) = instance("error").await;
    let mut command = sample("quickstart");
    command.env("DPS_CONNECTION_STRING", emulator.service_connection_string());
    command.env("DPS_ID_SCOPE", "0neSOMEBODYELSE").env("SSL_CERT_FILE", &ca);
    let (success, _, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(!success);
    assert!(errors.contains("error: the service refused the request: status 404"), "{errors}");
    assert!(errors.contains("help: no instance has this ID scope"), "{errors}");
    assert_eq!(balance(&emulator), (2, 2));
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
    let steps: Vec<_> = printed.lines().skip(2).map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(steps.len(), 5, "{printed}");
    assert!(steps.iter().filter(|step| **step == "registered new certificate").count() == 2, "{printed}");
    assert!(
        printed.contains("\nrefused    ") && printed.contains("\nregistered old certificate: "),
        "{printed}"
    );
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
fn transports_prints_the_whole_matrix() {
    let (success, printed, errors) = output(sample("transports"));
    assert!(success && errors.is_empty(), "{errors}");
    let rows: Vec<_> = printed.lines().skip(3).collect();
    assert_eq!(rows.len(), 24, "{printed}");
    for (transport, count) in
        [(" HTTPS ", 4), (" MQTT ", 8), (" MQTT-WS ", 4), (" AMQP ", 4), (" AMQP-WS ", 4)]
    {
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
    assert!(printed.contains(".azure-devices.net") && printed.contains("good for"), "{printed}");
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
    let mut command = sample("x509_group");
    command.env("DPS_CONNECTION_STRING", emulator.service_connection_string());
    command.env("DPS_ID_SCOPE", emulator.id_scope()).env("SSL_CERT_FILE", &ca).env_remove("DPS_X509_CA");
    let (success, _, errors) = output(command);
    std::fs::remove_file(ca).unwrap();
    assert!(!success);
    assert!(errors.contains("DPS_X509_CA is not set"), "{errors}");
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
        "device     camera-1: at emulator-hub-2.azure-devices.net, told {\"interval\":1}",
        "device     meter-2: at emulator-hub-1.azure-devices.net, told {\"interval\":60}",
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
    assert!(!success && errors.contains("which Azure cannot reach"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_samples_leave_nothing_behind_in_an_instance() {
    let (emulator, ca) = instance("others").await;
    for name in ["enrollments", "bulk", "list", "x509_individual", "transports", "reprovision", "retire"] {
        let hubs = emulator.hubs().join(", ");
        let mut command = sample(name);
        command.env("DPS_MQTT_PORT", emulator.mqtt_port().to_string());
        command.env("DPS_AMQP_PORT", emulator.amqp_port().to_string());
        command.env("DPS_CONNECTION_STRING", emulator.service_connection_string());
        command.env("DPS_ID_SCOPE", emulator.id_scope()).env("SSL_CERT_FILE", &ca).env("DPS_HUBS", hubs);
        let (success, printed, errors) = output(command);
        assert!(success && errors.is_empty(), "{name}: {errors}");
        assert!(printed.starts_with("Azure, localhost:"), "{name}: {printed}");
        let left = format!("{} {}", emulator.enrollments(), emulator.registrations());
        assert!(!left.contains("sample-"), "{name}: {left}");
    }
    std::fs::remove_file(ca).unwrap();
}

#[test]
fn half_an_instance_is_refused_with_what_to_do() {
    let mut command = sample("quickstart");
    command.env("DPS_ID_SCOPE", "0ne00111111");
    let (success, _, errors) = output(command);
    assert!(!success);
    assert!(errors.contains("set both DPS_CONNECTION_STRING and DPS_ID_SCOPE"), "{errors}");
}
