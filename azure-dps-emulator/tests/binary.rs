//! Runs the program as users and test suites do: flags, the ready line, errors, signals.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

const SERVICE: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";

#[test]
fn the_ready_line_has_everything_that_a_test_suite_needs() {
    let program =
        Program::start(&["--id-scope", "0ne00ABCDEF", "--hub", "a.example,weight=2", "--hub=b.example"]);
    let ready = &program.ready;

    assert!(
        program.line.starts_with(r#"{"event":"ready","idScope":"0ne00ABCDEF","serviceConnectionString":"#)
    );
    let names: Vec<&str> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "caFile",
            "endpoints",
            "event",
            "hubConnectionStrings",
            "hubs",
            "idScope",
            "serviceConnectionString",
        ]
    );
    let (https, mqtt, amqp) = (program.port("https"), program.port("mqtt"), program.port("amqp"));
    assert_eq!(
        ready["serviceConnectionString"],
        format!(
            "HostName=localhost:{https};SharedAccessKeyName=provisioningserviceowner;\
             SharedAccessKey=dGhpcy1lbXVsYXRvci1rZXktcHJvdGVjdHMtbm9uZSE="
        )
    );
    assert_eq!(ready["hubs"], json!(["a.example", "b.example"]));
    let hub = ready["hubConnectionStrings"]["b.example"].as_str().unwrap();
    assert!(
        hub.starts_with("HostName=b.example:") && hub.contains(";SharedAccessKeyName=iothubowner;"),
        "{hub}"
    );
    assert_eq!(ready["endpoints"].as_object().unwrap().len(), 4);
    for port in [mqtt, amqp] {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
    let ca_file = PathBuf::from(ready["caFile"].as_str().unwrap());
    assert!(ca_file.is_absolute());
    assert_eq!(fs::read_to_string(ca_file).unwrap(), program.manage("GET", "/ca.pem", ""));
    assert_eq!(program.manage("GET", "/health", ""), r#"{"status":"ok"}"#);
}

#[test]
fn the_ready_line_has_the_connection_strings_of_all_policies_if_there_are_several() {
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let reader = format!("reader,rights=EnrollmentRead+RegistrationStatusRead,primary={key},secondary={key}");
    let flags = [
        "--policy",
        &reader,
        "--policy=writer,rights=EnrollmentWrite",
        "--entra-role=a-b=reader",
        "--quotas",
    ];
    let program = Program::start(&flags);

    let strings = program.ready["policyConnectionStrings"].as_object().unwrap();

    assert_eq!(strings.len(), 3);
    assert_eq!(strings["provisioningserviceowner"], program.ready["serviceConnectionString"]);
    let https = program.port("https");
    let wanted = format!("HostName=localhost:{https};SharedAccessKeyName=reader;SharedAccessKey={key}");
    assert_eq!(strings["reader"], wanted);
    let generated = strings["writer"].as_str().unwrap().rsplit_once("SharedAccessKey=").unwrap().1;
    assert_eq!(generated.len(), 44);
}

#[test]
#[cfg(unix)]
fn each_signal_ends_it_at_once_with_status_0_and_without_leftovers() {
    for signal in signals() {
        let mut program = Program::start(&[]);
        let ca_file = PathBuf::from(program.ready["caFile"].as_str().unwrap());
        // An open, silent connection does not delay the end.
        let _held = TcpStream::connect((Ipv4Addr::LOCALHOST, program.port("https"))).unwrap();

        program.signal(signal);
        let begun = Instant::now();
        let status = program.child.wait().unwrap();

        // Sooner than a silent connection is closed.
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(status.code(), Some(0), "SIG{signal}");
        assert!(!ca_file.exists());
        let mut rest = String::new();
        program.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "there is one line on stdout");
    }
}

/// The signals that end the program. Below `nohup`, a program ignores SIGHUP from its start.
#[cfg(unix)]
fn signals() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let has_hangup = ignored.is_none_or(|mask| mask & 1 == 0);
    ["TERM", "INT"].into_iter().chain(has_hangup.then_some("HUP")).collect()
}

#[test]
fn it_ends_with_status_0_when_its_standard_input_closes_if_the_flag_says_so() {
    let mut program = Program::started(program().arg("--until-stdin-closes").stdin(Stdio::piped()));
    let ca_file = PathBuf::from(program.ready["caFile"].as_str().unwrap());
    let mut stdin = program.child.stdin.take().unwrap();
    // What arrives is ignored, however much it is: a pipe has room for 64 KiB.
    stdin.write_all(&[b'x'; 200_000]).unwrap();
    assert_eq!(program.manage("GET", "/health", ""), r#"{"status":"ok"}"#);

    drop(stdin);

    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    assert!(!ca_file.exists());
}

#[test]
fn a_standard_input_that_is_at_its_end_ends_it_at_once_with_the_flag_only() {
    let Output { status, stdout, .. } =
        program().arg("--until-stdin-closes").stdin(Stdio::null()).output().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(String::from_utf8(stdout).unwrap().starts_with(r#"{"event":"ready","#));

    let without = Program::started(program().stdin(Stdio::null()));
    for _ in 0..20 {
        assert_eq!(without.manage("GET", "/health", ""), r#"{"status":"ok"}"#);
    }
}

#[test]
#[cfg(unix)]
fn a_signal_ends_it_while_its_standard_input_is_open() {
    let mut program = Program::started(program().arg("--until-stdin-closes").stdin(Stdio::piped()));
    let _open = program.child.stdin.take().unwrap();

    program.signal("TERM");

    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_was_started_by_nohup_goes_on_when_the_terminal_closes() {
    let mut program =
        Program::started(Command::new("nohup").arg(program().get_program()).stdin(Stdio::null()));

    program.signal("HUP");

    assert_eq!(program.manage("GET", "/health", ""), r#"{"status":"ok"}"#);
    program.signal("TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

#[test]
#[allow(clippy::too_many_lines)] // Most of it is a table.
fn a_wrong_flag_or_file_is_reported_in_one_line_on_stderr_with_an_exit_code() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = Directory::new("bad-input");
    let (misspelt, not_json) = (dir.0.join("misspelt.json"), dir.0.join("not.json"));
    fs::write(&misspelt, r#"{"enrollments": [{"registrationID": "a"}]}"#).unwrap();
    fs::write(&not_json, "enrollments:\n  - a\n").unwrap();
    let (misspelt, not_json) = (misspelt.to_str().unwrap(), not_json.to_str().unwrap());
    let der = dir.0.join("root.der");
    fs::write(&der, b"\x30\x82\xff").unwrap();
    let der = der.to_str().unwrap();
    let convert = format!("if it is DER, convert it: openssl x509 -inform der -in {der} -out {der}.pem");
    let taken_by = |flag: &str, speech: &str| {
        format!(
            "{flag}: cannot listen on 127.0.0.1:{port} for {speech}: the port is already in use; \
             choose another port, 0 picks a free one"
        )
    };
    // Below the range of ephemeral ports, so that no other process takes it meanwhile.
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let free = (20_000..30_000).find(is_free).unwrap().to_string();
    let out = dir.0.join("pki");
    let out = out.to_str().unwrap();
    for (args, status, wanted) in [
        (vec!["--colour", "red"], 2, "unexpected argument '--colour' found"),
        (vec!["--polls", "many"], 2, "invalid value 'many' for '--polls <N>'"),
        (vec!["--https-port", &port], 1, &taken_by("--https-port", "HTTPS")),
        (vec!["--mqtt-port", &port], 1, &taken_by("--mqtt-port", "MQTT")),
        (vec!["--amqp-port", &port], 1, &taken_by("--amqp-port", "AMQP")),
        (vec!["--manage-port", &port], 1, &taken_by("--manage-port", "management")),
        (
            vec!["--https-port", &free, "--mqtt-port", &free],
            1,
            &format!(
                "--https-port and --mqtt-port: HTTPS and MQTT cannot both have port {free}: \
                 choose another port, 0 picks a free one"
            ),
        ),
        (
            vec!["--host", "192.0.2.1"],
            1,
            "--host: cannot listen on 192.0.2.1: this machine has no such address; ",
        ),
        (vec!["--hub", "a.example", "--hub", "A.example"], 1, "--hub: hub `A.example` is linked twice"),
        (
            vec!["--policy", "a b,rights=EnrollmentRead"],
            1,
            "--policy: `a b` cannot be the name of an access policy: ",
        ),
        (
            vec!["--policy", "a,rights=EnrollmentRead,primary=%"],
            1,
            "--policy: the primary key of policy `a` is not base64: there is '%' at position 1; give one such as ",
        ),
        (
            vec!["--policy", "a,rights=Everything"],
            2,
            "the right Everything does not exist; the rights are EnrollmentRead, ",
        ),
        (
            vec!["--manage-host", "0.0.0.0"],
            1,
            "--manage-host: the management port on 0.0.0.0 needs a token, because other machines can reach it \
             there; set --manage-token or DPS_EMULATOR_MANAGE_TOKEN",
        ),
        (vec!["--manage-token", "SECRET"], 1, "--manage-token: the token of the management port has 6 char"),
        (
            vec!["--manage-host", "192.0.2.1", "--manage-token", TOKEN],
            1,
            "--manage-host: cannot listen on 192.0.2.1: this machine has no such address; ",
        ),
        (
            vec!["--dns-name", "dps.example:443"],
            1,
            "--dns-name: `dps.example:443` cannot be a DNS name of the emulator: it has a port; ",
        ),
        (vec!["--id-scope", "a/b"], 1, "--id-scope: `a/b` cannot be an ID scope: "),
        (vec!["--seed", "/nowhere/seed.json"], 1, "--seed /nowhere/seed.json: "),
        (
            vec!["--seed", misspelt],
            1,
            &format!(
                "--seed {misspelt}: the seed cannot be used: no api-version knows enrollments[0].regist"
            ),
        ),
        (vec!["--seed", not_json], 1, &format!("--seed {not_json}: the seed cannot be used: not JSON: ")),
        (vec!["--seed", der], 1, &format!("--seed {der} is not text in UTF-8; ")),
        (vec!["--seed", SECRET_KEY], 1, "--seed (not shown, because it looks like a key): "),
        (
            vec!["--data", &format!("{SECRET_KEY}/a")],
            1,
            "--data: cannot use the data file (not shown, because",
        ),
        (vec!["--webhook-ca", SECRET_KEY], 1, "--webhook-ca (not shown, because it looks like a key): "),
        (
            vec!["--ca-certificate", &format!("a={SECRET_KEY}")],
            1,
            "--ca-certificate a=(not shown, because it looks like a key): ",
        ),
        (
            vec!["--ca-dir", &format!("{misspelt}/{SECRET_KEY}")],
            1,
            "--ca-dir: cannot keep the certificate authority in (not shown, because it looks like a key): ",
        ),
        (vec!["--id-scope", SECRET_KEY], 1, "--id-scope: `(not shown, because it looks like a key)` cannot"),
        (
            vec!["--hub", SECRET_KEY],
            1,
            "--hub: `(not shown, because it looks like a key)` cannot be the host",
        ),
        (vec!["--dns-name", SECRET_KEY], 1, "--dns-name: `(not shown, because it looks like a key)` cannot"),
        (
            vec!["--policy", &format!("{SECRET_KEY},rights=EnrollmentRead")],
            1,
            "--policy: `(not shown, because it looks like a key)` cannot be the name of an access policy: ",
        ),
        (vec!["--webhook-ca", "/nowhere/ca.pem"], 1, "--webhook-ca /nowhere/ca.pem: "),
        (
            vec!["--webhook-ca", not_json],
            1,
            "--webhook-ca: the PEM text with the authorities to trust webhooks by has no certificate",
        ),
        (vec!["--webhook-ca", der], 1, &format!("--webhook-ca {der} is not PEM; {convert}")),
        (vec!["--ca-certificate", "root=/nowhere/root.pem"], 1, "--ca-certificate root=/nowhere/root.pem: "),
        (
            vec!["--ca-certificate", &format!("root={not_json}")],
            1,
            "--ca-certificate: certificate `root` is neither PEM nor base64",
        ),
        (
            vec!["--ca-certificate", &format!("root={der}")],
            1,
            &format!("--ca-certificate root={der} is not PEM; {convert}"),
        ),
        (vec!["pki"], 2, "--out <DIR>"),
        (vec!["pki", "--out", out, "--device", "a/b"], 1, "`a/b` is not a valid registration id"),
        (vec!["pki", "--out", out, "--device", "root"], 1, "two files would be named "),
        (vec!["pki", "--out", out, "--intermediates=9"], 1, "9 intermediates are too many"),
        (vec!["pki", "--out", misspelt], 1, "misspelt.json is not a directory"),
        (
            vec!["--ca-dir", misspelt],
            1,
            &format!(
                "--ca-dir: cannot keep the certificate authority in {misspelt}: it is not a directory; "
            ),
        ),
    ] {
        let Output { status: ended, stdout, stderr } = program().args(&args).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(ended.code(), Some(status), "{args:?}: {stderr}");
        assert_eq!(stdout, b"", "{args:?}");
        // clap reports mistakes in flags, with a hint in the next lines.
        let start = if status == 2 { "error: " } else { "azure-dps-emulator: " };
        assert!(status == 2 || stderr.lines().count() == 1, "{args:?}: {stderr}");
        assert!(stderr.starts_with(start) && stderr.contains(wanted), "{args:?}: {stderr}");
        assert!(
            !stderr.contains("SECRET") && !stderr.contains("U0VDUkVU") && !stderr.contains(TOKEN),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
#[cfg(unix)]
fn a_device_without_an_end_is_not_read() {
    for (args, wanted) in [
        (["--webhook-ca", "/dev/zero"], "--webhook-ca /dev/zero: it is larger than 1 MiB"),
        (["--ca-certificate", "a=/dev/zero"], "--ca-certificate a=/dev/zero: it is larger than 1 MiB"),
        (["--data", "/dev/zero"], "--data: cannot use the data file /dev/zero: it is not a regular file"),
        (
            ["--policy", "a,rights=EnrollmentRead,primary-file=/dev/zero"],
            "policy `a`: key file /dev/zero: it is larger than 1 MiB",
        ),
    ] {
        let ended = program().args(args).output().unwrap();

        assert!(!ended.status.success(), "{args:?}");
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert!(stderr.contains(wanted), "{stderr}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for (flag, wanted) in [("--help", "--on-keyless-update"), ("--version", "azure-dps-emulator 0.")] {
        let Output { status, stdout, stderr } = program().arg(flag).output().unwrap();
        assert!(status.success() && stderr.is_empty());
        assert!(String::from_utf8(stdout).unwrap().contains(wanted), "{flag}");
    }
}

#[test]
fn a_seed_and_the_management_port_work_as_in_the_library() {
    let dir = Directory::new("seed");
    let seed = dir.0.join("seed.json");
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let attestation = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key}});
    let seeded = json!({"enrollments": [{"registrationId": "dev1", "attestation": attestation}]});
    fs::write(&seed, seeded.to_string()).unwrap();

    let program = Program::start(&["--seed", seed.to_str().unwrap()]);

    let enrollments = program.manage("GET", "/enrollments", "");
    assert!(enrollments.contains(r#""registrationId":"dev1""#) && !enrollments.contains(key));
}

#[test]
#[cfg(unix)]
fn a_data_file_keeps_the_state_over_every_kind_of_end() {
    use std::os::unix::fs::PermissionsExt;

    let dir = Directory::new("data");
    let data = dir.0.join("state.json");
    let flags = ["--data", data.to_str().unwrap(), "--policy=reader,rights=EnrollmentRead"];
    let mut program = Program::start(&[&flags[..], &["--id-scope=0ne00ABCDEF", "--hub=a.example"]].concat());
    program.manage("PUT", "/clock", r#"{"now":"2031-05-04T00:00:00Z"}"#);
    let (ca, strings) = (program.manage("GET", "/ca.pem", ""), keys(&program));
    assert!(!data.exists(), "before it is asked for");
    program.manage("POST", "/state/save", "");
    let saved = fs::read_to_string(&data).unwrap();
    assert!(saved.contains("0ne00ABCDEF"), "on request");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o600);

    for signal in signals() {
        program.signal(signal);
        assert_eq!(program.child.wait().unwrap().code(), Some(0));
        program = Program::start(&flags);

        assert_eq!(program.ready["idScope"], "0ne00ABCDEF");
        assert_eq!(program.ready["hubs"], json!(["a.example"]));
        assert_eq!((program.manage("GET", "/ca.pem", ""), keys(&program)), (ca.clone(), strings.clone()));
        let now = program.manage("PUT", "/clock", r#"{"advanceSeconds":1}"#);
        assert!(now.contains("2031-05-04T00:00:0"), "{now}");
    }
    let state = program.manage("GET", "/state", "");
    drop(program);
    let ended_by_a_pipe = [&flags[..], &["--until-stdin-closes"]].concat();
    let mut program = Program::started(self::program().args(ended_by_a_pipe).stdin(Stdio::piped()));
    assert_ne!(program.manage("GET", "/state", ""), state, "a killed program saves nothing");
    program.manage("PUT", "/state", &state);
    drop(program.child.stdin.take());
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    assert_eq!(Program::start(&flags).manage("GET", "/state", ""), state);
}

#[test]
#[cfg(unix)]
fn a_state_that_cannot_be_saved_or_used_is_one_clear_line() {
    let dir = Directory::new("unsaved");
    let data = dir.0.join("state.json");
    let path = data.to_str().unwrap().to_owned();
    let mut program = Program::start(&["--data", &path]);
    program.manage("POST", "/state/save", "");
    let before = fs::read_to_string(&data).unwrap();

    let run = |flags: &[&str]| self::program().args(flags).output().unwrap();
    let second = run(&["--data", &path]);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(
        last_line(&second.stderr),
        format!(
            "azure-dps-emulator: --data: cannot use the data file {path}: another emulator uses it: end that one, \
             or give this one another file"
        )
    );

    // Nothing can be written where a directory is.
    fs::create_dir_all(dir.0.join("state.json.new/x")).unwrap();
    program.manage("POST", "/reset", "");
    let answer = program.manage_any("POST", "/state/save", "");
    assert!(
        answer.starts_with("HTTP/1.1 500 ")
            && answer
                .contains(&format!("cannot save the state to {path}, which keeps what was saved before: ")),
        "{answer}"
    );
    program.signal("TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_to_string(&data).unwrap(), before);

    for (text, wanted) in [
        (
            before.replacen("\"version\":1", "\"version\":2", 1),
            "the state has version 2, and this emulator (",
        ),
        (
            before[..before.len() / 2].to_owned(),
            "the state cannot be restored: it is cut off at line 1 column ",
        ),
        (String::new(), "the state cannot be restored: it is cut off at line 1 column 0"),
        (
            "{\"enrollments\":[]}".to_owned(),
            "the state cannot be restored: it has no version, so it is not a state",
        ),
    ] {
        fs::write(&data, &text).unwrap();
        let refused = run(&["--data", &path]);
        assert_eq!(refused.status.code(), Some(1));
        let line = last_line(&refused.stderr);
        assert!(line.starts_with(&format!("azure-dps-emulator: --data: {wanted}")), "{line}");
        assert_eq!(fs::read_to_string(&data).unwrap(), text, "it is left alone");
    }
    let nowhere = run(&["--data", "/nowhere/state.json"]);
    assert!(
        last_line(&nowhere.stderr)
            .starts_with("azure-dps-emulator: --data: cannot use the data file /nowhere/s")
    );
}

/// The keys in the connection strings of the policies.
fn keys(program: &Program) -> Vec<String> {
    let strings = program.ready["policyConnectionStrings"].as_object().unwrap().values();
    strings.map(|text| text.as_str().unwrap().rsplit_once("SharedAccessKey=").unwrap().1.to_owned()).collect()
}

fn last_line(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn the_issuing_authority_and_the_policies_of_flags_are_on_the_management_port_and_not_in_the_ca_file() {
    let policies = ["--certificate-policy=plant/plant-ca/sensors,days=7,keys=p384+rsa,root"];
    let program =
        Program::start(&[&policies[..], &["--certificate-policy", "plant/plant-ca/cameras"]].concat());

    let names = r#""namespaceName":"plant","certificateAuthorityName":"plant-ca","certificatePolicyName":"#;
    assert_eq!(
        program.manage("GET", "/certificate-policies", ""),
        format!(
            r#"[{{{names}"sensors","days":7,"keys":["p384","rsa"],"root":true}},{{{names}"cameras","days":30,"keys":["p384","p256","rsa"],"root":false}}]"#
        )
    );
    let issuing = program.manage("GET", "/issuing-ca.pem", "");
    assert_eq!((issuing.matches("BEGIN CERTIFICATE").count(), issuing.contains("KEY")), (2, false));
    let trusted = fs::read_to_string(program.ready["caFile"].as_str().unwrap()).unwrap();
    let blocks = |pem: &str| pem.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
    let (issuing, trusted): (Vec<_>, Vec<_>) = (blocks(&issuing), blocks(&trusted));
    assert!(trusted.len() == 1 && !issuing.contains(&trusted[0]));
}

#[test]
fn a_test_pki_is_written_and_never_overwritten() {
    let dir = Directory::new("pki");
    let out = dir.0.join("fleet");
    let run = || {
        let flags = ["--device", "sensor-042", "--device=Gw:7", "--intermediates", "2"];
        program().arg("pki").arg("--out").arg(&out).args(flags).output().unwrap()
    };

    let Output { status, stdout, stderr } = run();

    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success() && stderr.is_empty());
    assert_eq!(stdout.lines().count(), 1);
    let files: Value = serde_json::from_str(&stdout).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut wanted = vec!["root.pem".to_owned(), "root-key.pem".to_owned()];
    for stem in ["intermediate-1", "intermediate-2", "sensor-042", "Gw:7", "expired", "foreign"] {
        wanted.extend(["", "-chain", "-key"].map(|kind| format!("{stem}{kind}.pem")));
    }
    wanted.sort();
    assert_eq!(names, wanted);
    let read = |path: &Value| fs::read_to_string(path.as_str().unwrap()).unwrap();
    let count = |path: &Value| read(path).matches("BEGIN CERTIFICATE").count();
    let device = &files["devices"][1];
    assert_eq!(
        (&device["name"], count(&device["certificate"]), count(&device["chain"])),
        (&json!("Gw:7"), 1, 3)
    );
    assert!(read(&files["root"]["privateKey"]).starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!((count(&files["expired"]["chain"]), count(&files["foreign"]["chain"])), (3, 1));
    assert_eq!(files["intermediates"][1]["certificate"], out.join("intermediate-2.pem").to_str().unwrap());
    #[cfg(unix)]
    for name in names.iter().filter(|name| name.ends_with("-key.pem")) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(out.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    let Output { status, stdout, stderr } = run();
    assert_eq!((status.code(), stdout.len()), (Some(1), 0));
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("root.pem already exists, and nothing is overwritten"), "{stderr}");
    let root = fs::read_to_string(out.join("root.pem")).unwrap();

    // The flags accept the written files.
    let upload = format!("root-2026={}", out.join("root.pem").display());
    let emulator = Program::start(&["--ca-certificate", &upload, "--require-verified-ca"]);
    let uploaded: Value = serde_json::from_str(&emulator.manage("GET", "/certificates", "")).unwrap();
    assert_eq!((&uploaded[0]["name"], &uploaded[0]["isVerified"]), (&json!("root-2026"), &json!(true)));
    let again = json!({"certificate": root}).to_string();
    emulator.manage("PUT", "/certificates/again", &again);
}

#[test]
fn a_directory_keeps_the_authority_across_starts() {
    let dir = Directory::new("ca");
    let kept = dir.0.join("kept");
    let start = || {
        let program = Program::start(&["--ca-dir", kept.to_str().unwrap()]);
        assert_eq!(program.ready["caFile"], kept.join("ca.pem").to_str().unwrap());
        ["/ca.pem", "/issuing-ca.pem"].map(|path| program.manage("GET", path, ""))
    };

    let first = start();
    assert_eq!(start(), first);

    assert_eq!(fs::read_to_string(kept.join("ca.pem")).unwrap(), first[0]);
    let issuing =
        ["issuing-ca.pem", "issuing-root.pem"].map(|file| fs::read_to_string(kept.join(file)).unwrap());
    assert_eq!(issuing.concat(), first[1]);
    for key_file in ["ca-key.pem", "issuing-ca-key.pem"] {
        let key_file = kept.join(key_file);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let key = fs::read(&key_file).unwrap();
        fs::write(&key_file, "nothing").unwrap();
        let Output { status, stderr, .. } = program().arg("--ca-dir").arg(&kept).output().unwrap();
        assert_eq!(status.code(), Some(1));
        let wanted = format!("{} has no private key", key_file.display());
        assert!(String::from_utf8(stderr).unwrap().contains(&wanted));
        fs::write(&key_file, key).unwrap();
    }
}

#[test]
#[cfg(unix)]
fn the_log_has_the_reason_of_a_refusal_on_one_line_and_no_other_request() {
    let dir = Directory::new("log");
    let seed = dir.0.join("seed.json");
    let attestation = json!({"type": "symmetricKey"});
    let enrollment = json!({"registrationId": "dev1", "attestation": attestation});
    fs::write(&seed, json!({"enrollments": [enrollment]}).to_string()).unwrap();
    let ask = |program: &Program| {
        assert!(program.ask("/enrollments/dev1", SERVICE).starts_with("HTTP/1.1 200 "));
        let another = SERVICE.replace("sig=f", "sig=g");
        assert!(program.ask("/enrollments/a%0A%1B[2Jb", &another).starts_with("HTTP/1.1 401 "));
        assert!(program.ask(&format!("/enrollments/{}", "x".repeat(4_000)), "").starts_with("HTTP/1.1 401 "));
    };
    let flags = ["--seed", seed.to_str().unwrap()];

    let mut program = Program::start(&flags);
    ask(&program);
    let log = program.end();
    let answered: Vec<&str> = log.lines().filter(|line| line.contains("answered")).collect();
    assert_eq!(answered.len(), 2, "{log}");
    let wrong = r#"id="a  [2Jb" status=401 error_code=401002 cause="signature does not match the key of "#;
    assert!(answered[0].contains(" INFO ") && answered[0].contains(wrong), "{log}");
    assert!(answered[1].contains("cause=") && answered[1].len() < 3_000, "{log}");
    assert!(!log.contains("sig="), "{log}");

    let mut quiet = Program::start(&[&flags[..], &["--quiet"]].concat());
    ask(&quiet);
    assert_eq!(quiet.end(), "");
}

#[test]
#[cfg(unix)]
fn a_log_without_a_reader_does_not_block_the_program() {
    let mut program = Program::start(&[]);
    let long = "x".repeat(1_000);
    // A pipe has room for 64 KiB. Refusals of the same request would be counted in one line.
    for number in 0..100 {
        assert!(program.ask(&format!("/enrollments/{number}{long}"), "").starts_with("HTTP/1.1 401 "));
    }

    let (lines, log) = mpsc::channel();
    let stderr = BufReader::new(program.child.stderr.take().unwrap());
    thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    let next = || log.recv_timeout(Duration::from_secs(60)).ok();
    let answered = std::iter::from_fn(next).filter(|line| line.contains("answered"));
    assert_eq!(answered.take(100).count(), 100, "those that wait are written when they are read");
}

#[test]
#[cfg(unix)]
fn a_log_without_a_reader_does_not_block_an_end_with_an_error() {
    let dir = Directory::new("unread");
    let data = dir.0.join("state.json");
    let mut program = Program::start(&["--data", data.to_str().unwrap()]);
    // Nothing can be written where a directory is.
    fs::create_dir_all(dir.0.join("state.json.new/x")).unwrap();
    let long = "x".repeat(1_000);
    for number in 0..100 {
        program.ask(&format!("/enrollments/{number}{long}"), "");
    }

    program.signal("TERM");

    let begun = Instant::now();
    let status = loop {
        match program.child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(begun.elapsed() < Duration::from_secs(60), "it waits for a reader"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
}

#[test]
fn the_directory_keeps_an_authority_that_may_not_sign_for_names_of_a_later_start() {
    let dir = Directory::new("ca-names");
    let kept = dir.0.join("kept");
    let flags = ["--ca-dir", kept.to_str().unwrap()];
    let made = Program::start(&flags).manage("GET", "/ca.pem", "");
    // Every authority covers hubs in Azure's domain and loopback addresses.
    Program::start(&[&flags[..], &["--hub=other.azure-devices.net", "--host=::1"]].concat());

    let later = [&flags[..], &["--hub=hub.example", "--hub=10.0.0.1"]].concat();
    let Output { status, stderr, .. } = program().args(later).output().unwrap();

    assert_eq!(status.code(), Some(1));
    let stderr = String::from_utf8(stderr).unwrap();
    let wanted = "ca.pem may not sign for hub.example, 10.0.0.1, which this start serves; delete ca.pem and ca-key.pem";
    assert!(stderr.starts_with("azure-dps-emulator: --ca-dir: ") && stderr.contains(wanted), "{stderr}");
    assert_eq!(fs::read_to_string(kept.join("ca.pem")).unwrap(), made, "clients trust it");
}

#[test]
#[cfg(target_os = "linux")] // Other systems have one loopback address by default.
fn emulators_on_other_loopback_addresses_have_the_same_ports_side_by_side() {
    let first = Program::start(&["--host", "127.0.0.2"]);
    let ports = ["https", "mqtt", "amqp"].map(|speech| first.port(speech).to_string());
    let [https, mqtt, amqp] = ports.each_ref().map(String::as_str);
    let flags = ["--host=127.0.0.3", "--https-port", https, "--mqtt-port", mqtt, "--amqp-port", amqp];
    let second = Program::start(&flags);

    for (program, host) in [(&first, "127.0.0.2"), (&second, "127.0.0.3")] {
        for (speech, port) in [("https", https), ("mqtt", mqtt), ("amqp", amqp)] {
            assert_eq!(program.ready["endpoints"][speech], format!("{host}:{port}"));
        }
        let string = program.ready["serviceConnectionString"].as_str().unwrap();
        assert!(string.starts_with(&format!("HostName={host}:{https};")), "{string}");
        let pem = program.manage("GET", "/ca.pem", "");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        for port in [https, mqtt, amqp] {
            let config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
            let mut client = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
            let mut tcp = TcpStream::connect((host, port.parse().unwrap())).unwrap();
            client.complete_io(&mut tcp).unwrap();
            assert!(!client.is_handshaking(), "{host}:{port}");
        }
    }
}

#[test]
#[cfg(unix)]
fn a_start_on_an_address_that_others_can_reach_logs_warnings() {
    for quiet in [&[][..], &["--quiet"]] {
        let mut program = Program::start(&[&["--host", "0.0.0.0", "--entra-role=o=reader"], quiet].concat());
        let log = program.end();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), 6, "{log}");
        for (line, wanted) in warnings.iter().zip([
            "other machines can reach the emulator at 0.0.0.0",
            "the keys of policy provisioningserviceowner are public",
            "signatures of Microsoft Entra ID tokens are not checked",
            "iothubowner",
            "can make the emulator post to any URL",
            "only this machine can reach the management port",
        ]) {
            assert!(line.contains(wanted), "{line}");
        }
    }
    for host in ["127.0.0.1", "localhost", "::1"] {
        let log = Program::start(&["--host", host]).end();
        assert!(!log.contains(" WARN "), "{log}");
    }
}

#[test]
fn keys_of_policies_come_from_files_and_the_environment() {
    let dir = Directory::new("keys");
    let file = dir.0.join("primary");
    let (primary, secondary) = ("cHJpbWFyeQ==", "c2Vjb25kYXJ5");
    fs::write(&file, format!("{primary}\n")).unwrap();
    let policy = format!(
        "--policy=reader,rights=EnrollmentRead,primary-file={},secondary-env=DPS_TEST_SECONDARY",
        file.display()
    );

    let started = Program::started(program().arg(&policy).env("DPS_TEST_SECONDARY", secondary));

    let string = started.ready["policyConnectionStrings"]["reader"].as_str().unwrap();
    assert!(string.ends_with(&format!(";SharedAccessKeyName=reader;SharedAccessKey={primary}")), "{string}");
    fs::write(&file, "\n").unwrap();
    let Output { status, stderr, .. } =
        program().arg(policy).env("DPS_TEST_SECONDARY", secondary).output().unwrap();
    assert_eq!(status.code(), Some(1));
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        stderr.contains("--policy: the primary key of policy `reader` is empty; give one such as "),
        "{stderr}"
    );
}

#[test]
#[cfg(unix)] // Where `TMPDIR` sets the directory for temporary files.
fn the_next_start_removes_the_file_of_a_killed_program() {
    let dir = Directory::new("killed");
    let start = || Program::started(program().env("TMPDIR", &dir.0));
    let file = |program: &Program| PathBuf::from(program.ready["caFile"].as_str().unwrap());
    let (mut killed, living) = (start(), start());
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert!(file(&killed).exists(), "nothing could remove it");

    let mut next = start();

    assert!(!file(&killed).exists());
    assert!(file(&living).exists() && file(&next).exists());
    next.end();
    assert!(!file(&next).exists() && file(&living).exists());
}

#[test]
fn the_management_port_stays_on_the_loopback_address() {
    let program = Program::start(&["--host", "0.0.0.0"]);

    assert_eq!(program.ready["endpoints"]["https"], format!("localhost:{}", program.port("https")));
    assert!(program.ready["endpoints"]["manage"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    // Linux has all of 127.0.0.0/8, where a listener on all addresses can be reached and one on 127.0.0.1
    // cannot.
    if cfg!(target_os = "linux") {
        let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
        TcpStream::connect((elsewhere, program.port("https"))).unwrap();
        TcpStream::connect((elsewhere, program.port("manage"))).unwrap_err();
    }
}

#[test]
#[cfg(unix)]
fn the_management_port_is_on_another_address_with_a_token_that_no_log_shows() {
    let flags = ["--manage-host=0.0.0.0", "--manage-token", TOKEN, "--dns-name=dps.example"];
    let mut program = Program::start(&flags);

    let manage = program.port("manage");
    assert_eq!(program.ready["endpoints"]["manage"], format!("http://dps.example:{manage}"));
    assert_eq!(program.ready["endpoints"]["mqtt"], format!("dps.example:{}", program.port("mqtt")));
    let string = program.ready["serviceConnectionString"].as_str().unwrap();
    assert!(string.starts_with(&format!("HostName=dps.example:{};", program.port("https"))), "{string}");
    let mut elsewhere = Ipv4Addr::LOCALHOST;
    // Linux has all of 127.0.0.0/8.
    if cfg!(target_os = "linux") {
        elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    }
    let ask = |path: &str, header: &str| {
        let mut stream = TcpStream::connect((elsewhere, manage)).unwrap();
        let host = format!("Host: {elsewhere}:{manage}\r\nConnection: close\r\n{header}");
        write!(stream, "GET {path} HTTP/1.1\r\n{host}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let answers = [ask("/health", ""), ask("/hubs", ""), ask("/hubs", "Authorization: Bearer x\r\n")];
    assert_eq!(answers, ["200", "401", "401"]);
    assert_eq!(ask("/hubs", &bearer), "200");

    let log = program.end();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    let wanted = "other machines can reach the management port at 0.0.0.0: anyone who knows its token";
    assert!(warnings.len() == 1 && warnings[0].contains(wanted), "{log}");
    assert!(!log.contains(TOKEN) && !program.line.contains(TOKEN), "{log}");
}

#[test]
fn the_server_certificate_is_valid_for_each_dns_name() {
    let program = Program::start(&["--dns-name", "dps.example", "--dns-name=emulator"]);
    let pem = program.manage("GET", "/ca.pem", "");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    for (name, trusted) in [("dps.example", true), ("emulator", true), ("a.dps.example", false)] {
        for speech in ["https", "mqtt", "amqp"] {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = config.unwrap().with_root_certificates(roots.clone()).with_no_client_auth();
            let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
            let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, program.port(speech))).unwrap();
            assert_eq!(client.complete_io(&mut tcp).is_ok(), trusted, "{name} {speech}");
        }
    }
}

#[test]
fn flags_come_from_variables_and_a_flag_beats_its_variable() {
    let command = |args: &[&str]| {
        let mut command = program();
        command.args(args).env("DPS_EMULATOR_ID_SCOPE", "0ne00FROMENV").env("DPS_EMULATOR_SEED", "");
        command.env("DPS_EMULATOR_HUB", "a.example,weight=2; b.example").env("DPS_EMULATOR_QUIET", "true");
        command
    };

    let ready = |args: &[&str]| Program::started(&mut command(args)).ready.clone();
    let from_variables = ready(&[]);
    assert_eq!(from_variables["idScope"], "0ne00FROMENV");
    assert_eq!(from_variables["hubs"], json!(["a.example", "b.example"]));
    let flags_win = ready(&["--id-scope=0ne00FLAG", "--hub=c.example"]);
    assert_eq!(flags_win["idScope"], "0ne00FLAG");
    assert_eq!(flags_win["hubs"], json!(["c.example"]));

    for (variable, value, status, wanted) in [
        ("POLLS", "many", 2, "error: invalid value 'many' for 'DPS_EMULATOR_POLLS': "),
        ("LOOSE", "maybe", 2, "error: invalid value for 'DPS_EMULATOR_LOOSE': expected true or false"),
        ("ID_SCOPE", "a/b", 1, "azure-dps-emulator: DPS_EMULATOR_ID_SCOPE: `a/b` cannot be an ID scope: "),
        ("SEED", "/nowhere", 1, "azure-dps-emulator: DPS_EMULATOR_SEED /nowhere: "),
        ("HUB", "a;A", 1, "azure-dps-emulator: DPS_EMULATOR_HUB: hub `A` is linked twice"),
        ("DNS_NAME", "a b", 1, "azure-dps-emulator: DPS_EMULATOR_DNS_NAME: `a b` cannot be a DNS name "),
        (
            "MANAGE_HOST",
            "::",
            1,
            "azure-dps-emulator: DPS_EMULATOR_MANAGE_HOST: the management port on :: needs a token, because other \
             machines can reach it there; set --manage-token or DPS_EMULATOR_MANAGE_TOKEN",
        ),
        (
            "MANAGE_TOKEN",
            "SECRET",
            1,
            "azure-dps-emulator: DPS_EMULATOR_MANAGE_TOKEN: the token of the management port has 6 characters",
        ),
        ("POLICY", "a,SECRET", 2, "error: invalid value for 'DPS_EMULATOR_POLICY': policy `a`: "),
    ] {
        let failed = program().env(format!("DPS_EMULATOR_{variable}"), value).output().unwrap();
        let stderr = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(status), "{variable}: {stderr}");
        assert!(stderr.starts_with(wanted) && !stderr.contains("SECRET"), "{variable}: {stderr}");
    }

    #[cfg(unix)]
    {
        let misspelt = Program::started(program().env("DPS_EMULATOR_POLS", "SECRET")).end();
        let wanted = "the environment variable DPS_EMULATOR_POLS belongs to no flag and is ignored";
        assert!(misspelt.contains(wanted) && !misspelt.contains("SECRET"), "{misspelt}");
    }

    let help = program().arg("--help").env("DPS_EMULATOR_MANAGE_TOKEN", "SECRET").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("DPS_EMULATOR_MANAGE_PORT") && !help.contains("SECRET"), "{help}");
}

#[test]
fn a_health_check_takes_the_address_from_the_variables_of_the_server() {
    let command = |port: &str, args: &[&str]| {
        let mut command = program();
        command.args(args).env("DPS_EMULATOR_MANAGE_PORT", port);
        command.env("DPS_EMULATOR_MANAGE_HOST", "0.0.0.0").env("DPS_EMULATOR_MANAGE_TOKEN", TOKEN);
        command
    };
    let server = Program::started(&mut command("0", &[]));
    let port = server.port("manage").to_string();
    let health = |args: &[&str]| {
        let Output { status, stdout, stderr } =
            command(&port, &[&["health"], args].concat()).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        (status.code(), stdout, stderr)
    };

    let url = format!("http://127.0.0.1:{port}/health");
    assert_eq!(health(&[]), (Some(0), format!("healthy: {url}\n"), String::new()));
    assert_eq!(health(&["--manage-port", &port, "--manage-host=127.0.0.1", "--timeout=60"]).0, Some(0));
    let (status, _, stderr) = health(&["--manage-port=0"]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("set --manage-port or DPS_EMULATOR_MANAGE_PORT for both"), "{stderr}");

    drop(server);
    let (status, stdout, stderr) = health(&[]);
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with(&format!("azure-dps-emulator: not healthy: {url}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// A key in place of a name.
const SECRET_KEY: &str = "U0VDUkVULXNlY3JldC1TRUNSRVQtc2VjcmV0LVNFQ1JFVA==";
const TOKEN: &str = "correct-horse-battery";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_azure-dps-emulator"))
}

/// A running program that has printed its ready line; dropping it ends it.
struct Program {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    line: String,
    ready: Value,
}

impl Program {
    fn start(args: &[&str]) -> Self {
        Self::started(program().args(args))
    }

    fn started(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        Program { child, stdout, line, ready }
    }

    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        // The shell's builtin `kill`, because small systems have no other.
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Ends the program, and returns its log.
    #[cfg(unix)]
    fn end(&mut self) -> String {
        self.signal("TERM");
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        self.child.wait().unwrap();
        log
    }

    /// Sends a request to the service API in literal HTTP, and returns the answer.
    fn ask(&self, path: &str, token: &str) -> String {
        let pem = fs::read(self.ready["caFile"].as_str().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth());
        let connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port("https"))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        write!(
            stream,
            "GET {path}?api-version=2021-10-01 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: {token}\r\n\r\n"
        )
        .unwrap();
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8(answer.to_vec()).unwrap()
    }

    fn port(&self, front: &str) -> u16 {
        let endpoint = self.ready["endpoints"][front].as_str().unwrap();
        endpoint.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Sends a request to the management port in literal HTTP, and returns the body.
    fn manage(&self, method: &str, path: &str, body: &str) -> String {
        let answer = self.manage_any(method, path, body);
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The same with the whole answer, which may be a refusal.
    fn manage_any(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port("manage"))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may already have ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
        if let Some(file) = self.ready["caFile"].as_str().filter(|file| !file.ends_with("ca.pem")) {
            // A killed program does not remove its file.
            let _removed = fs::remove_file(Path::new(file));
        }
    }
}

/// A directory for one test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
