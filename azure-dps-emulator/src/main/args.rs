//! The command line of the program. clap parses it; `values.rs` parses structured values.

#[path = "args/health.rs"]
mod health;
#[path = "args/policy.rs"]
mod policy;
#[path = "args/values.rs"]
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use azure_dps_emulator::{
    CertificatePolicy, DefaultAllocation, Emulator, EmulatorBuilder, EntraRole, Hub, OnKeylessUpdate, Quotas,
    RefuseAt,
};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, value_parser};

pub(crate) use health::HealthArgs;
use policy::PolicyFlag;
pub(crate) use values::CaCertificateFile;
use values::{Latencies, Secret};

use crate::flag_names::FlagNames;

/// An Azure IoT Hub Device Provisioning Service on your machine, for tests only.
#[derive(Debug, Parser)]
#[command(
    name = "azure-dps-emulator",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// The subcommands, which do something else than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Writes a test PKI to files, prints their paths as one line of JSON, and ends.
    ///
    /// DIR gets root.pem, intermediate-N.pem and, for each device, ID.pem (the certificate) and ID-chain.pem
    /// (the chain that the device presents). The private key of each certificate is in the file that ends
    /// with -key.pem. Two more certificates are for negative tests: expired and foreign. Existing files are
    /// never overwritten.
    Pki(PkiArgs),
    /// Asks a running emulator whether it is healthy, prints one line, and ends with status 0 if it is and 1
    /// if not.
    ///
    /// The environment variables of the emulator, such as DPS_EMULATOR_MANAGE_PORT, give its address. So the
    /// health check of a container needs no flags.
    Health(HealthArgs),
    /// Prints a script that completes this command line in a shell.
    Completions {
        /// The shell that reads the script.
        shell: clap_complete::Shell,
    },
}

/// The certificates of a test PKI.
#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct PkiArgs {
    /// The directory to write to. It is created if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The registration ID of a device; can be repeated.
    #[arg(long = "device", value_name = "ID")]
    pub(crate) devices: Vec<String>,
    /// The number of intermediates between the root and the devices, from 0 to 8.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) intermediates: usize,
}

/// The flags of the server. A flag without a stated default changes nothing when it is left out.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    certificates: Certificates,
    #[command(flatten)]
    issuing: Issuing,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    behaviour: Behaviour,
    /// Logs only warnings and errors of the emulator itself, and no refused requests.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Ends the program when its standard input closes, too. A parent that holds the other end of a pipe
    /// there does not leave the program behind, not even when it is killed. What arrives is ignored.
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Where it listens")]
struct Listen {
    /// The address for HTTPS, MQTT and AMQP: an IP address, or localhost for 127.0.0.1 and ::1. If other
    /// machines can reach it, warnings on stderr say what they can do.
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", value_parser = values::host)]
    host: IpAddr,
    /// The port of the service API and the device API, and of MQTT and AMQP in WebSockets; 0 picks a free
    /// port.
    #[arg(long, value_name = "PORT", default_value_t = 0, default_value_if("standard_ports", "true", "443"))]
    https_port: u16,
    /// The port of the device API over MQTT; 0 picks a free port.
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        default_value_if("standard_ports", "true", "8883")
    )]
    mqtt_port: u16,
    /// The port of the device API over AMQP; 0 picks a free port.
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        default_value_if("standard_ports", "true", "5671")
    )]
    amqp_port: u16,
    /// A DNS name under which clients reach the emulator; can be repeated. The server certificate is valid for
    /// it, and the first one is the host of the connection strings.
    #[arg(long = "dns-name", value_name = "NAME")]
    dns_names: Vec<String>,
    /// The address of the management port. Any other address than a loopback address needs --manage-token.
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", value_parser = values::host)]
    manage_host: IpAddr,
    /// The port of the management API, which is plain HTTP; 0 picks a free port.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    manage_port: u16,
    /// The token that every management request but GET /health must carry: 16 to 256 letters, digits and
    /// -._~+/=. Other users of the machine can read a command line; the variable DPS_EMULATOR_MANAGE_TOKEN is
    /// for a token that matters.
    // Checked at the start, because an error of clap would repeat the value.
    #[arg(long, value_name = "TOKEN")]
    manage_token: Option<Secret>,
    /// Uses the ports 443, 8883 and 5671 where no other port is given.
    #[arg(long)]
    standard_ports: bool,
    /// Keeps the certificate authority in this directory, as ca.pem and ca-key.pem, and the authority that
    /// issues certificates to devices, as issuing-root.pem, issuing-ca.pem and issuing-ca-key.pem. Without it
    /// and without --data every start makes new authorities.
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What it serves")]
struct Data {
    /// The ID scope that devices name. Without it, it is that of --data, or else 0ne00EMU1A7.
    #[arg(long, value_name = "SCOPE")]
    id_scope: Option<String>,
    /// Links a hub; can be repeated. A hub with named-only gets devices only from enrollments that name it
    /// and webhooks that choose it. Without this flag two hubs of weight 1 are linked. Devices connect to their
    /// hub over MQTT at the address of the emulator.
    #[arg(long = "hub", value_name = "NAME[,weight=N][,region=R][,named-only]", value_parser = values::hub)]
    hubs: Vec<Hub>,
    /// The allocation policy for enrollments that have none.
    #[arg(long, value_name = "POLICY", default_value = "hashed", value_parser = values::one_of(ALLOCATION))]
    allocation: DefaultAllocation,
    /// The latencies from devices to regions, for geoLatency; can be repeated. DEVICES is a registration ID,
    /// or a prefix of one and `*`.
    #[arg(long, value_name = "DEVICES,REGION=MS[,REGION=MS...]", value_parser = values::latencies)]
    latencies: Vec<Latencies>,
    /// A JSON file with the initial enrollments: {"enrollments": [...], "enrollmentGroups": [...]}.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Keeps the state in this file: enrollments, registrations, hubs, keys, authorities and the rest. The start
    /// reads it if it exists, and then not the seed. It is saved when the program ends, and by POST /state/save on
    /// the management port. It contains private keys, so only you can read it.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Who may register with a certificate")]
struct Certificates {
    /// Uploads a CA certificate as verified; can be repeated.
    #[arg(long = "ca-certificate", value_name = "NAME=FILE", value_parser = values::ca_certificate)]
    ca_certificates: Vec<CaCertificateFile>,
    /// Admits devices of X.509 groups only if a verified CA certificate is at the end of their chain, as the
    /// service does.
    #[arg(long)]
    require_verified_ca: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Which certificates it issues")]
struct Issuing {
    /// Adds a certificate policy, to which enrollments refer by its three names; can be repeated. A device
    /// whose enrollment does so gets a certificate for the certificate signing request (csr) of its
    /// registration. Certificates live 7 to 90 days, by default 30. They are issued for the types of keys
    /// that are listed, by default all three. The chain ends with the root if root is given, or else below
    /// it.
    #[arg(
        long = "certificate-policy",
        value_name = "NAMESPACE/CA/POLICY[,days=N][,keys=p384+p256+rsa][,root]",
        value_parser = values::certificate_policy
    )]
    certificate_policies: Vec<CertificatePolicy>,
    /// The connectionProfile of assigned devices, such as classic or mqttV5, for clients of api-version
    /// 2026-11-02-preview.
    #[arg(long, value_name = "PROFILE")]
    connection_profile: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Who may use the service API")]
struct Access {
    /// Adds an access policy, or replaces one; can be repeated. Rights: EnrollmentRead, EnrollmentWrite,
    /// RegistrationStatusRead, RegistrationStatusWrite, ServiceConfig. The policy provisioningserviceowner
    /// has all of them. Keys are base64 and are generated when left out. Other users of the machine can read
    /// a command line: take keys that matter from a file with primary-file=PATH or from an environment
    /// variable with primary-env=VARIABLE, and the same with secondary.
    // Parsed later, because an error of clap would repeat the value and with it the keys.
    #[arg(long = "policy", value_name = "NAME,rights=RIGHT[+RIGHT...][,primary=KEY][,secondary=KEY]")]
    policies: Vec<Secret>,
    /// Assigns a role to a principal of Microsoft Entra ID; can be repeated. While no principal has a role,
    /// every principal counts as a contributor.
    #[arg(long = "entra-role", value_name = "OBJECT_ID=reader|contributor", value_parser = values::entra_role)]
    entra_roles: Vec<(String, EntraRole)>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "How it behaves")]
struct Behaviour {
    /// The number of polls that are answered `assigning`. Without it, polls are answered so until the time
    /// that the device was asked to wait has passed.
    #[arg(long, value_name = "N")]
    polls: Option<u32>,
    /// How long devices are asked to wait between polls; at most 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = value_parser!(u32).range(..=3600))]
    retry_after: u32,
    /// The delay of every answer in milliseconds, as over a network; at most 600000, which is 10 minutes.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = value_parser!(u32).range(..=600_000))]
    latency: u32,
    /// Answers 429 beyond the documented quotas. Without it nothing is limited.
    #[arg(long)]
    quotas: bool,
    /// Spreads the Retry-After of 429 answers: they add in turn 0, 1, 2 and so on up to this number; at most
    /// 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "quotas",
        value_parser = value_parser!(u32).range(..=3600))]
    retry_spread: u32,
    /// Accepts requests with members that no api-version has.
    #[arg(long)]
    loose: bool,
    /// Where MQTT and AMQP refuse a wrong credential.
    #[arg(long, value_name = "WHEN", default_value = "register", value_parser = values::one_of(REFUSE_AT))]
    refuse_at: RefuseAt,
    /// Resets a device whose enrollment says so on its current hub too, and not only when its hub changes.
    #[arg(long)]
    reset_in_place: bool,
    /// Lists enrollments and registration records in ascending order of their IDs, which the service does
    /// not.
    #[arg(long)]
    list_by_id: bool,
    /// The time limit of a custom allocation webhook; more than 0.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = values::time)]
    webhook_timeout: Duration,
    /// A PEM file with authorities to trust for webhooks, in addition to those that the machine trusts.
    #[arg(long, value_name = "FILE")]
    webhook_ca: Option<PathBuf>,
    /// Whether an update without keys keeps the keys of an enrollment or generates new ones.
    #[arg(long, value_name = "WHAT", default_value = "keep", value_parser = values::one_of(KEYLESS_UPDATE))]
    on_keyless_update: OnKeylessUpdate,
}

impl Serve {
    /// The builder with all flags but those that name files. Messages call the flags by `names`.
    ///
    /// # Errors
    /// A policy cannot be parsed; the message shows no key.
    pub(crate) fn builder(&self, names: &FlagNames) -> Result<EmulatorBuilder, clap::Error> {
        let Serve { listen, data, certificates, issuing, access, behaviour, .. } = self;
        let mut builder = Emulator::builder()
            .host(listen.host)
            .port(listen.https_port)
            .mqtt_port(listen.mqtt_port)
            .amqp_port(listen.amqp_port)
            .manage_host(listen.manage_host)
            .manage_port(listen.manage_port)
            .allocation(data.allocation)
            .retry_after(behaviour.retry_after)
            .latency(Duration::from_millis(behaviour.latency.into()))
            .refuse_at(behaviour.refuse_at)
            .webhook_timeout(behaviour.webhook_timeout)
            .on_keyless_update(behaviour.on_keyless_update);
        builder = data.id_scope.iter().fold(builder, EmulatorBuilder::id_scope);
        builder = behaviour.polls.into_iter().fold(builder, EmulatorBuilder::polls);
        builder = data.hubs.iter().cloned().fold(builder, EmulatorBuilder::hub);
        let policies = issuing.certificate_policies.iter().cloned();
        builder = policies.fold(builder, EmulatorBuilder::certificate_policy);
        let profile = issuing.connection_profile.iter();
        builder = profile.fold(builder, EmulatorBuilder::connection_profile);
        for Latencies { devices, regions } in &data.latencies {
            builder = builder.latencies(devices, regions.iter().cloned());
        }
        for Secret(text) in &access.policies {
            let policy = text.parse().and_then(PolicyFlag::read).map_err(|message: String| {
                let message = format!("invalid value for '{}': {message}", names.of("--policy"));
                CommandLine::command().error(ErrorKind::ValueValidation, message)
            })?;
            builder = builder.access_policy(policy);
        }
        for (object_id, role) in &access.entra_roles {
            builder = builder.entra_role(object_id, *role);
        }
        builder = listen.dns_names.iter().fold(builder, EmulatorBuilder::dns_name);
        if let Some(Secret(token)) = &listen.manage_token {
            builder = builder.manage_token(token);
        }
        if let Some(directory) = &listen.ca_dir {
            builder = builder.ca_dir(directory);
        }
        let builder = match behaviour.quotas {
            true => builder.quotas(Quotas::documented().with_retry_spread(behaviour.retry_spread)),
            false => builder,
        };
        type Switch = fn(EmulatorBuilder) -> EmulatorBuilder;
        let switches: [(bool, Switch); 4] = [
            (certificates.require_verified_ca, EmulatorBuilder::require_verified_ca),
            (behaviour.loose, EmulatorBuilder::loose),
            (behaviour.reset_in_place, EmulatorBuilder::reset_in_place),
            (behaviour.list_by_id, EmulatorBuilder::list_by_id),
        ];
        Ok(switches.into_iter().filter(|(on, _)| *on).fold(builder, |builder, (_, switch)| switch(builder)))
    }

    /// The directory that keeps the certificate authority.
    pub(crate) fn ca_dir(&self) -> Option<&Path> {
        self.listen.ca_dir.as_deref()
    }

    /// The file with the initial enrollments.
    pub(crate) fn seed(&self) -> Option<&Path> {
        self.data.seed.as_deref()
    }

    /// The file that keeps the state.
    pub(crate) fn data(&self) -> Option<&Path> {
        self.data.data.as_deref()
    }

    /// The CA certificates to upload.
    pub(crate) fn ca_certificates(&self) -> &[CaCertificateFile] {
        &self.certificates.ca_certificates
    }

    /// The file with the authorities for webhooks.
    pub(crate) fn webhook_ca(&self) -> Option<&Path> {
        self.behaviour.webhook_ca.as_deref()
    }
}

const ALLOCATION: &[(&str, DefaultAllocation)] = &[
    ("hashed", DefaultAllocation::Hashed),
    ("static", DefaultAllocation::Static),
    ("geoLatency", DefaultAllocation::GeoLatency),
];
const REFUSE_AT: &[(&str, RefuseAt)] = &[("register", RefuseAt::Register), ("connect", RefuseAt::Connect)];
const KEYLESS_UPDATE: &[(&str, OnKeylessUpdate)] =
    &[("keep", OnKeylessUpdate::Keep), ("regenerate", OnKeylessUpdate::Regenerate)];
const AFTER_HELP: &str = "\
When the emulator is ready it prints one line of JSON on stdout: the ID scope, the service connection \
string, the file with its certificate authority, the endpoints, the hubs and their connection strings, and \
with --policy the connection strings of all policies. It logs to stderr, with the real reason of each refused \
request, and ends on SIGTERM, SIGHUP, Ctrl-C, or with --until-stdin-closes at the end of its standard input.

Each flag is also an environment variable: DPS_EMULATOR_ and its name, such as DPS_EMULATOR_MANAGE_PORT for \
--manage-port. A flag beats its variable, and an empty variable counts as unset. A flag without a value takes \
true or false; a flag that can be repeated takes its values with `;` between them.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_the_flags_are_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_are_read_in_both_forms() {
        let serve = serve(&[
            "--seed",
            "a.json",
            "--ca-dir=/x",
            "--polls=2",
            "--host",
            "localhost",
            "--hub",
            "a.b,weight=3,region=west,named-only",
            "--latencies",
            "berlin-*,west=12,east=95",
            "--webhook-timeout=0.5",
            "--webhook-ca=hooks.pem",
            "--reset-in-place",
            "--list-by-id",
            "--loose",
            "--mqtt-port",
            "0",
            "--policy=reader,rights=EnrollmentRead+RegistrationStatusRead,primary=AA==",
            "--entra-role=oid-1=reader",
            "--quotas",
            "--retry-spread=20",
            "--latency=50",
            "--ca-certificate",
            "root=ca=1.pem",
            "--require-verified-ca",
            "--certificate-policy=plant/plant-ca/sensors,days=7,keys=p384+rsa,root",
            "--connection-profile=mqttV5",
            "--quiet",
            "--until-stdin-closes",
        ]);

        assert_eq!(serve.seed(), Some(Path::new("a.json")));
        assert_eq!(serve.ca_dir(), Some(Path::new("/x")));
        assert_eq!(serve.webhook_ca(), Some(Path::new("hooks.pem")));
        let certificate = CaCertificateFile { name: "root".to_owned(), path: PathBuf::from("ca=1.pem") };
        assert_eq!(serve.ca_certificates(), [certificate]);
        assert!(serve.quiet && serve.until_stdin_closes && serve.builder(&FlagNames::default()).is_ok());
    }

    #[test]
    fn standard_ports_fill_in_the_ports_that_are_not_given() {
        let ports = |args: &[&str]| {
            let Listen { https_port, mqtt_port, amqp_port, .. } = serve(args).listen;
            (https_port, mqtt_port, amqp_port)
        };

        assert_eq!(ports(&[]), (0, 0, 0));
        assert_eq!(ports(&["--standard-ports"]), (443, 8883, 5671));
        assert_eq!(ports(&["--mqtt-port=0", "--standard-ports"]), (443, 0, 5671));
    }

    #[test]
    fn flags_that_make_a_list_can_be_repeated() {
        let flags = [
            "--hub=a",
            "--policy=p,rights=EnrollmentRead",
            "--entra-role=o=reader",
            "--latencies=*,a=1",
            "--ca-certificate=a=b",
            "--certificate-policy=abc/abc/abc",
        ];

        let twice: Vec<&str> = flags.into_iter().chain(flags).collect();

        assert!(serve(&twice).builder(&FlagNames::default()).is_ok());
    }

    #[test]
    fn a_test_pki_has_its_own_flags() {
        let line = parse(&["pki", "--out=x", "--device", "a", "--device=b", "--intermediates", "0"]).unwrap();

        let wanted = PkiArgs { out: "x".into(), devices: vec!["a".into(), "b".into()], intermediates: 0 };
        assert!(matches!(line.task, Some(Task::Pki(pki)) if pki == wanted));
    }

    #[test]
    fn an_error_names_the_flag_and_the_mistake() {
        for (args, wanted) in [
            (&["--colour"][..], "unexpected argument '--colour' found"),
            (&["--poll", "3"], "tip: a similar argument exists: '--polls'"),
            (&["seed.json"], "'seed.json'"),
            (&["--seed"], "a value is required for '--seed <FILE>'"),
            (&["--manage-port=99999"], "invalid value '99999' for '--manage-port <PORT>'"),
            (&["--polls", "many"], "invalid value 'many' for '--polls <N>'"),
            (&["--latency", "50ms"], "invalid value '50ms' for '--latency <MS>'"),
            (&["--latency=600001"], "'--latency <MS>': 600001 is not in 0..=600000"),
            (&["--quotas", "--retry-spread=3601"], "'--retry-spread <SECONDS>': 3601 is not in 0..=3600"),
            (&["--retry-after=3601"], "'--retry-after <SECONDS>': 3601 is not in 0..=3600"),
            (&["--host", "example.org"], "expected an IP address, such as 127.0.0.1, or localhost"),
            (&["--seed=a", "--seed=b"], "'--seed <FILE>' cannot be used multiple times"),
            (&["--refuse-at=regster"], "tip: a similar value exists: 'register'"),
            (&["--loose=yes"], "unexpected value 'yes' for '--loose'"),
            (&["--retry-spread=20"], "--quotas"),
            (&["--entra-role", "oid-1=owner"], "expected OBJECT_ID=reader or OBJECT_ID=contributor"),
            (&["--ca-certificate", "root.pem"], "expected NAME=FILE"),
            (&["--hub", "a,wait=1"], "`wait=1` is not weight=N, region=NAME or named-only"),
            (&["--hub", "a,weight=-1"], "weight -1 is not a whole number from 0 to 4294967295"),
            (&["--certificate-policy=abc/abc"], "expected NAMESPACE/CA/POLICY[,days=N]"),
            (&["--certificate-policy=abc/abc/abc,days=x"], "days x is not a number from 7 to 90"),
            (&["--certificate-policy=abc/abc/abc,days=91"], "certificates cannot live 91 days"),
            (&["--certificate-policy=abc/abc/abc,keys=ed25519"], "`ed25519` is not p384, p256 or rsa"),
            (
                &["--certificate-policy=abc/abc/abc,day=7"],
                "`day=7` is not days=N, keys=p384+p256+rsa or root",
            ),
            (&["--certificate-policy=ABC/abc/abc"], "`ABC` cannot be the name of a namespace"),
            (&["--latencies", "a,west"], "expected DEVICES,REGION=MILLISECONDS[,REGION=MILLISECONDS...]"),
            (&["--webhook-timeout=-1"], "expected seconds, more than 0, such as 10 or 0.5"),
            (&["--webhook-timeout", "0"], "expected seconds, more than 0, such as 10 or 0.5"),
            (&["pki"], "--out <DIR>"),
            (&["--quiet", "pki", "--out=a"], "the subcommand 'pki' cannot be used with '--quiet'"),
        ] {
            let message = parse(args).unwrap_err().to_string();
            assert!(message.contains(wanted), "{args:?}: {message}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_parsed_is_reported_without_its_keys() {
        for (policy, wanted) in [
            ("a", "policy `a`: rights=RIGHT+RIGHT is missing"),
            ("a,SECRET", "policy `a`: expected only rights=…, and for a key primary=…, primary-file=… or "),
            (
                "a,key=SECRET",
                "policy `a`: expected only rights=…, and for a key primary=…, primary-file=… or ",
            ),
            (
                "a,rights=EnrollmentRead,primary=SECRET,primary-env=X",
                "policy `a`: the key of `primary-env` is given twice",
            ),
            ("a,rights=EnrollmentRead,rights=EnrollmentRead", "policy `a`: rights is given twice"),
            (
                "a,rights=EnrollmentRead,primary=SECRET,secondary-file=/nowhere/key",
                "policy `a`: key file /nowhere/key: ",
            ),
            (
                "a,rights=EnrollmentRead,primary-env=DPS_NOT_SET",
                "policy `a`: the environment variable DPS_NOT_SET is not set",
            ),
            (
                "a,rights=EnrollmentRead,primary-env=SECRETSECRETSECRETSECRETSECRETSECRET+w==",
                "policy `a`: the environment variable (not shown, because it looks like a key) is not set",
            ),
            (
                "a,rights=EnrollmentRead,primary-file=SECRETSECRETSECRETSECRETSECRETSECRETSECR",
                "policy `a`: key file (not shown, because it looks like a key): ",
            ),
            ("SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRET=", "rights=RIGHT+RIGHT is missing"),
            ("a,rights=SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRET=", "does not exist; the rights are "),
            ("a,primary=SECRET,rights=EnrollmentRead+Read", "the right Read does not exist; the rights are "),
        ] {
            let message =
                serve(&["--policy", policy]).builder(&FlagNames::default()).unwrap_err().to_string();
            assert!(message.contains(wanted) && !message.contains("SECRET"), "{message}");
        }
    }

    #[test]
    fn the_help_fits_in_the_width_of_a_terminal() {
        let help = CommandLine::command().render_long_help().to_string();

        assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    }

    fn parse(args: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from([&["azure-dps-emulator"], args].concat())
    }

    fn serve(args: &[&str]) -> Serve {
        parse(args).unwrap().serve
    }
}
