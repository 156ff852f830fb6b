//! The flags of the program: reading them, and telling about them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use azure_dps_emulator::{
    AccessPolicy, DefaultAllocation, Emulator, EmulatorBuilder, EntraRole, Hub, OnKeylessUpdate, Quotas,
    RefuseAt, Right,
};

/// What the program was told.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) builder: EmulatorBuilder,
    /// The file with the enrollments to begin with.
    pub(crate) seed: Option<PathBuf>,
    /// The names under which certificates of authorities are uploaded, and their files.
    pub(crate) ca_certificates: Vec<(String, PathBuf)>,
    pub(crate) ca_dir: Option<PathBuf>,
    /// The file with the authorities of webhooks.
    pub(crate) webhook_ca: Option<PathBuf>,
    pub(crate) quiet: bool,
}

/// What the program is to do.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Box<Args>),
    /// Write a test PKI and end.
    Pki(PkiArgs),
    /// Print this and end.
    Tell(String),
}

/// What a test PKI is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PkiArgs {
    pub(crate) out: PathBuf,
    pub(crate) devices: Vec<String>,
    pub(crate) intermediates: usize,
}

impl Args {
    /// Reads the subcommand, if there is one, and flags as `--flag value` and `--flag=value`.
    ///
    /// # Errors
    /// What cannot be understood, in one line.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, String> {
        let mut args = args.into_iter().peekable();
        if args.next_if(|first| first == "help").is_some() {
            return Ok(Parsed::Tell(HELP.to_owned()));
        }
        if args.next_if(|first| first == "pki").is_some() {
            return PkiArgs::parse(args);
        }
        let builder = Emulator::builder().retry_after(DEFAULT_RETRY_AFTER);
        let mut parsed = Args {
            builder,
            seed: None,
            ca_certificates: Vec::new(),
            ca_dir: None,
            webhook_ca: None,
            quiet: false,
        };
        let (mut https, mut mqtt, mut amqp, mut manage) = (None, None, None, 0);
        let mut standard = false;
        let mut seen = HashSet::new();
        while let Some(arg) = args.next() {
            let (flag, inline) = split(&arg)?;
            check_repeated(flag, &mut seen)?;
            let given = inline.is_some();
            let mut value = Value { flag, inline, rest: &mut args };
            let builder = parsed.builder;
            parsed.builder = match flag {
                "--help" | "-h" => return Ok(Parsed::Tell(HELP.to_owned())),
                "--version" | "-V" => return Ok(Parsed::Tell(VERSION.to_owned())),
                "--host" => builder.host(value.host()?),
                "--https-port" => {
                    https = Some(value.number(NO_PORT)?);
                    builder
                }
                "--mqtt-port" => {
                    mqtt = Some(value.number(NO_PORT)?);
                    builder
                }
                "--amqp-port" => {
                    amqp = Some(value.number(NO_PORT)?);
                    builder
                }
                "--manage-port" => {
                    manage = value.number(NO_PORT)?;
                    builder
                }
                "--id-scope" => builder.id_scope(value.text()?),
                "--hub" => builder.hub(hub(&value.text()?)?),
                "--policy" => builder.access_policy(policy(&value.text()?)?),
                "--entra-role" => {
                    let text = value.text()?;
                    let (object_id, role) = entra_role(&text)?;
                    builder.entra_role(object_id, role)
                }
                "--allocation" => builder.allocation(value.one_of(&[
                    ("hashed", DefaultAllocation::Hashed),
                    ("static", DefaultAllocation::Static),
                    ("geoLatency", DefaultAllocation::GeoLatency),
                ])?),
                "--latencies" => latencies(builder, &value.text()?)?,
                "--webhook-timeout" => builder.webhook_timeout(value.time()?),
                "--webhook-ca" => {
                    parsed.webhook_ca = Some(value.raw()?.into());
                    builder
                }
                "--seed" => {
                    parsed.seed = Some(value.raw()?.into());
                    builder
                }
                "--ca-certificate" => {
                    let (name, path) = ca_certificate(&value.text()?)?;
                    parsed.ca_certificates.push((name, path));
                    builder
                }
                "--ca-dir" => {
                    let dir = PathBuf::from(value.raw()?);
                    parsed.ca_dir = Some(dir.clone());
                    builder.ca_dir(dir)
                }
                "--polls" => builder.polls(value.number(NO_NUMBER)?),
                "--retry-after" => builder.retry_after(value.number(NO_NUMBER)?),
                "--refuse-at" => builder.refuse_at(
                    value.one_of(&[("register", RefuseAt::Register), ("connect", RefuseAt::Connect)])?,
                ),
                "--on-keyless-update" => builder.on_keyless_update(value.one_of(&[
                    ("keep", OnKeylessUpdate::Keep),
                    ("regenerate", OnKeylessUpdate::Regenerate),
                ])?),
                "--standard-ports"
                | "--quotas"
                | "--loose"
                | "--quiet"
                | "--require-verified-ca"
                | "--reset-in-place"
                    if given =>
                {
                    return Err(format!("{flag} takes no value"));
                }
                "--require-verified-ca" => builder.require_verified_ca(),
                "--reset-in-place" => builder.reset_in_place(),
                "--standard-ports" => {
                    standard = true;
                    builder
                }
                "--quotas" => builder.quotas(Quotas::documented()),
                "--loose" => builder.loose(),
                "--quiet" => {
                    parsed.quiet = true;
                    builder
                }
                "--out" | "--device" | "--intermediates" => {
                    return Err(format!(
                        "{flag} belongs to pki, which comes first: azure-dps-emulator pki --out DIR"
                    ));
                }
                "pki" => return Err("pki comes first: azure-dps-emulator pki --out DIR".to_owned()),
                _ => return Err(format!("unknown flag {flag}; --help tells which there are")),
            };
        }
        let [standard_https, standard_mqtt, standard_amqp] =
            if standard { [443, 8883, 5671] } else { [0; 3] };
        parsed.builder = parsed
            .builder
            .port(https.unwrap_or(standard_https))
            .mqtt_port(mqtt.unwrap_or(standard_mqtt))
            .amqp_port(amqp.unwrap_or(standard_amqp))
            .manage_port(manage);
        Ok(Parsed::Run(Box::new(parsed)))
    }
}

impl PkiArgs {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Parsed, String> {
        let (mut out, mut devices, mut intermediates) = (None, Vec::new(), 1);
        let mut seen = HashSet::new();
        while let Some(arg) = args.next() {
            let (flag, inline) = split(&arg)?;
            check_repeated(flag, &mut seen)?;
            let mut value = Value { flag, inline, rest: &mut args };
            match flag {
                "help" | "--help" | "-h" => return Ok(Parsed::Tell(HELP.to_owned())),
                "--out" => out = Some(PathBuf::from(value.raw()?)),
                "--device" => devices.push(value.text()?),
                "--intermediates" => intermediates = value.number("no whole number: give one from 0 to 8")?,
                _ => {
                    return Err(format!("pki knows no {flag}; it takes --out, --device and --intermediates"));
                }
            }
        }
        let out = out.ok_or("pki needs --out DIR")?;
        Ok(Parsed::Pki(PkiArgs { out, devices, intermediates }))
    }
}

/// Tells a flag from the value behind its `=`.
fn split(arg: &OsString) -> Result<(&str, Option<OsString>), String> {
    let text = arg.to_str().ok_or_else(|| format!("{} is not UTF-8", arg.display()))?;
    Ok(match text.split_once('=') {
        Some((flag, value)) => (flag, Some(OsString::from(value))),
        None => (text, None),
    })
}

/// Refuses a flag that is there already and can be given once only.
fn check_repeated(flag: &str, seen: &mut HashSet<String>) -> Result<(), String> {
    match REPEATABLE.contains(&flag) || seen.insert(flag.to_owned()) {
        true => Ok(()),
        false => Err(format!("{flag} is given twice: give it once")),
    }
}

/// The value of a flag, which stands behind `=` or in the next argument.
struct Value<'a, I> {
    flag: &'a str,
    inline: Option<OsString>,
    rest: &'a mut I,
}

impl<I: Iterator<Item = OsString>> Value<'_, I> {
    fn raw(&mut self) -> Result<OsString, String> {
        self.inline.take().or_else(|| self.rest.next()).ok_or_else(|| format!("{} needs a value", self.flag))
    }

    fn text(&mut self) -> Result<String, String> {
        self.raw()?.into_string().map_err(|raw| format!("{} {} is not UTF-8", self.flag, raw.display()))
    }

    /// A number; `otherwise` says what another text is, and what to give.
    fn number<T: FromStr>(&mut self, otherwise: &str) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("{} {text} is {otherwise}", self.flag))
    }

    /// A time in seconds that is longer than none.
    fn time(&mut self) -> Result<Duration, String> {
        let text = self.text()?;
        let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.filter(|time| !time.is_zero()).ok_or_else(|| {
            format!("{} {text} is no time: give seconds, more than 0, such as 10 or 0.5", self.flag)
        })
    }

    fn host(&mut self) -> Result<IpAddr, String> {
        let text = self.text()?;
        if text == "localhost" {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        text.parse().map_err(|_| {
            format!("{} {text} is no IP address: give one, such as 127.0.0.1, or localhost", self.flag)
        })
    }

    fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("{} {text} is none of {}", self.flag, words.join(", "))
        })
    }
}

/// Reads `NAME[,weight=N][,region=R][,named-only]`.
fn hub(text: &str) -> Result<Hub, String> {
    let mut parts = text.split(',');
    let mut hub = Hub::new(parts.next().unwrap_or_default());
    for part in parts {
        hub = match part.split_once('=') {
            None if part == "named-only" => hub.named_only(),
            Some(("weight", weight)) => hub
                .weight(weight.parse().map_err(|_| format!("--hub {text}: weight {weight} is {NO_NUMBER}"))?),
            Some(("region", region)) if !region.is_empty() => hub.region(region),
            _ => return Err(format!("--hub {text}: `{part}` is none of weight=N, region=NAME, named-only")),
        };
    }
    Ok(hub)
}

/// Reads `DEVICES,REGION=MS[,REGION=MS...]`.
fn latencies(builder: EmulatorBuilder, text: &str) -> Result<EmulatorBuilder, String> {
    let no = || format!("--latencies {text} is not DEVICES,REGION=MILLISECONDS[,REGION=MILLISECONDS...]");
    let (devices, regions) = text.split_once(',').ok_or_else(no)?;
    let regions = regions.split(',').map(|region| {
        let (region, millis) = region.split_once('=')?;
        Some((region, millis.parse().ok()?))
    });
    Ok(builder.latencies(devices, regions.collect::<Option<Vec<_>>>().ok_or_else(no)?))
}

/// Reads `NAME,rights=RIGHT+RIGHT[,primary=BASE64][,secondary=BASE64]`.
fn policy(text: &str) -> Result<AccessPolicy, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let (mut rights, mut primary, mut secondary) = (None, None, None);
    for part in parts {
        // Not told back: it may be a key in the wrong place.
        let unknown = || format!("--policy {name}: there are rights=…, primary=… and secondary=… only");
        let (member, value) = part.split_once('=').ok_or_else(unknown)?;
        match member {
            "rights" => rights = Some(value.split('+').map(right).collect::<Result<Vec<_>, _>>()?),
            "primary" => primary = Some(value),
            "secondary" => secondary = Some(value),
            _ => return Err(unknown()),
        }
    }
    let rights = rights.ok_or_else(|| format!("--policy {name}: rights=RIGHT+RIGHT is missing"))?;
    let mut policy = AccessPolicy::new(name, rights);
    if let Some(key) = primary {
        policy = policy.primary_key(key);
    }
    if let Some(key) = secondary {
        policy = policy.secondary_key(key);
    }
    Ok(policy)
}

fn right(word: &str) -> Result<Right, String> {
    Right::ALL.into_iter().find(|right| right.as_str() == word).ok_or_else(|| {
        let words = Right::ALL.map(Right::as_str);
        format!("--policy: right {word} is none of {}", words.join(", "))
    })
}

/// Reads `NAME=FILE`.
fn ca_certificate(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err(format!("--ca-certificate {text} is not NAME=FILE")),
    }
}

/// Reads `OBJECT_ID=ROLE`.
fn entra_role(text: &str) -> Result<(&str, EntraRole), String> {
    match text.split_once('=') {
        Some((object_id, "reader")) if !object_id.is_empty() => Ok((object_id, EntraRole::DataReader)),
        Some((object_id, "contributor")) if !object_id.is_empty() => {
            Ok((object_id, EntraRole::DataContributor))
        }
        _ => Err(format!("--entra-role {text} is neither OBJECT_ID=reader nor OBJECT_ID=contributor")),
    }
}

const DEFAULT_RETRY_AFTER: u32 = 3;
const REPEATABLE: [&str; 6] =
    ["--hub", "--policy", "--entra-role", "--latencies", "--ca-certificate", "--device"];
const NO_PORT: &str = "no port: give a number from 0 to 65535; 0 picks a free one";
const NO_NUMBER: &str = "no whole number: give one from 0 to 4294967295";
const VERSION: &str = concat!("azure-dps-emulator ", env!("CARGO_PKG_VERSION"), "\n");
const HELP: &str = "\
An Azure IoT Hub Device Provisioning Service on your machine, for tests only.

Usage: azure-dps-emulator [FLAGS]
       azure-dps-emulator pki --out DIR [--device ID]... [--intermediates N]

When it is ready it prints one line of JSON: id scope, service connection string, the file with
its certificate authority, endpoints, hubs and their connection strings, and with --policy the
connection strings of all policies. It logs to stderr, where each refused request stands with
the real reason, and ends with SIGTERM or Ctrl-C.

Where it listens
  --host ADDRESS             where HTTPS, MQTT and AMQP listen: an IP address, or localhost
                             [127.0.0.1 and, where the machine has IPv6, ::1]
  --https-port PORT          service API and device API, and MQTT and AMQP in WebSockets; 0 picks a
                             free one [0]
  --mqtt-port PORT           device API over MQTT; 0 picks a free one [0]
  --amqp-port PORT           device API over AMQP; 0 picks a free one [0]
  --manage-port PORT         management, plain HTTP on 127.0.0.1 only; 0 picks a free one [0]
  --standard-ports           443, 8883 and 5671, where no other port is given
  --ca-dir DIR               keeps the certificate authority there [made anew by every start]

What it serves
  --id-scope SCOPE           the id scope that devices name [0ne00EMU1A7]
  --hub NAME[,weight=N][,region=R][,named-only]
                             links a hub, with named-only for enrollments that name it and webhooks
                             that choose it; may be repeated [two hubs with weight 1]
  --allocation POLICY        hashed, static or geoLatency, for enrollments that name none [hashed]
  --latencies DEVICES,REGION=MS[,REGION=MS...]
                             how far these devices, a registration id or the beginning of one and *,
                             are from regions, for geoLatency; may be repeated [nothing is known]
  --seed FILE                enrollments to begin with, as JSON:
                             {\"enrollments\": [...], \"enrollmentGroups\": [...]}

Who may register by certificate
  --ca-certificate NAME=FILE uploads the certificate of an authority, verified; may be repeated
  --require-verified-ca      lets X.509 groups in only if a verified certificate is at the end of
                             the chain, as the service does [their own certificate is enough]

Who may use the service API
  --policy NAME,rights=RIGHT[+RIGHT...][,primary=KEY][,secondary=KEY]
                             adds an access policy, or replaces one; keys in base64, generated
                             when left out; rights: EnrollmentRead, EnrollmentWrite,
                             RegistrationStatusRead, RegistrationStatusWrite, ServiceConfig;
                             may be repeated [provisioningserviceowner with all of them]
  --entra-role OID=reader|contributor
                             gives a principal of Microsoft Entra ID a role; may be repeated
                             [while nobody has one, everybody is a contributor]

How it behaves
  --polls N                  how many polls of a device are answered `assigning` [1]
  --retry-after SECONDS      what devices are told to wait between polls [3]
  --quotas                   answers 429 beyond the documented quotas [nothing is limited]
  --loose                    lets requests carry members that no api-version knows
  --refuse-at WHEN           register or connect: where MQTT and AMQP refuse a wrong credential
                             [register]
  --reset-in-place           resets a device, where its enrollment says so, on its own hub too
                             [only when its hub changes]
  --webhook-timeout SECONDS  how long a custom allocation webhook may take, more than 0 [10]
  --webhook-ca FILE          authorities, in PEM, to trust webhooks by, besides the machine's own
  --on-keyless-update WHAT   keep or regenerate: what an update without keys does to them [keep]

A test PKI in files
  pki --out DIR              writes root.pem, intermediate-N.pem, of each device ID.pem,
                             ID-chain.pem and ID-key.pem, and with expired and foreign in place of
                             ID what nobody should accept; prints one line of JSON, and ends;
                             never overwrites a file
  --device ID                a device; may be repeated
  --intermediates N          how many authorities stand between the root and the devices [1]

  --quiet                    logs no refusals, only what goes wrong with the emulator itself
  --help, --version
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_both_forms() {
        let parsed = parse(&[
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
            "--loose",
            "--mqtt-port",
            "0",
            "--amqp-port=0",
            "--policy=reader,rights=EnrollmentRead+RegistrationStatusRead,primary=AA==",
            "--entra-role=oid-1=reader",
            "--quotas",
            "--ca-certificate",
            "root=ca=1.pem",
            "--require-verified-ca",
            "--quiet",
        ]);

        let Ok(Parsed::Run(args)) = parsed else { panic!("{parsed:?}") };
        assert_eq!(args.seed, Some(PathBuf::from("a.json")));
        assert_eq!(args.ca_dir, Some(PathBuf::from("/x")));
        assert_eq!(args.webhook_ca, Some(PathBuf::from("hooks.pem")));
        assert_eq!(args.ca_certificates, [("root".to_owned(), PathBuf::from("ca=1.pem"))]);
        assert!(args.quiet);
    }

    #[test]
    fn a_test_pki_has_flags_of_its_own() {
        let parsed = parse(&["pki", "--out=x", "--device", "a", "--device=b", "--intermediates", "0"]);

        let wanted = PkiArgs { out: "x".into(), devices: vec!["a".into(), "b".into()], intermediates: 0 };
        assert!(matches!(parsed, Ok(Parsed::Pki(args)) if args == wanted));
        assert!(matches!(parse(&["pki", "--help"]), Ok(Parsed::Tell(text)) if text == HELP));
    }

    #[test]
    fn what_cannot_be_understood_is_named_in_one_line() {
        for (args, wanted) in [
            (&["--colour"][..], "unknown flag --colour; --help tells which there are"),
            (&["seed.json"], "unknown flag seed.json; --help tells which there are"),
            (&["--seed"], "--seed needs a value"),
            (
                &["--https-port", "abc"],
                "--https-port abc is no port: give a number from 0 to 65535; 0 picks a free one",
            ),
            (
                &["--manage-port=99999"],
                "--manage-port 99999 is no port: give a number from 0 to 65535; 0 picks a free one",
            ),
            (&["--polls", "-1"], "--polls -1 is no whole number: give one from 0 to 4294967295"),
            (&["--retry-after=1.5"], "--retry-after 1.5 is no whole number: give one from 0 to 4294967295"),
            (
                &["--host", "example.org"],
                "--host example.org is no IP address: give one, such as 127.0.0.1, or localhost",
            ),
            (&["--seed", "a", "--polls", "2", "--seed=b"], "--seed is given twice: give it once"),
            (&["--loose", "--loose"], "--loose is given twice: give it once"),
            (&["--refuse-at=never"], "--refuse-at never is none of register, connect"),
            (&["--loose=yes"], "--loose takes no value"),
            (&["--quotas=on"], "--quotas takes no value"),
            (&["--policy", "a"], "--policy a: rights=RIGHT+RIGHT is missing"),
            (&["--policy", "a,key=x"], "--policy a: there are rights=…, primary=… and secondary=… only"),
            (
                &["--policy", "a,rights=EnrollmentRead+Read"],
                "--policy: right Read is none of EnrollmentRead, EnrollmentWrite, RegistrationStatusRead, \
                 RegistrationStatusWrite, ServiceConfig",
            ),
            (
                &["--entra-role", "oid-1=owner"],
                "--entra-role oid-1=owner is neither OBJECT_ID=reader nor OBJECT_ID=contributor",
            ),
            (&["--ca-certificate", "root.pem"], "--ca-certificate root.pem is not NAME=FILE"),
            (&["--require-verified-ca=yes"], "--require-verified-ca takes no value"),
            (&["pki"], "pki needs --out DIR"),
            (&["pki", "--out"], "--out needs a value"),
            (&["pki", "--polls", "1"], "pki knows no --polls; it takes --out, --device and --intermediates"),
            (&["pki", "--out=a", "--out=b"], "--out is given twice: give it once"),
            (&["--out", "x"], "--out belongs to pki, which comes first: azure-dps-emulator pki --out DIR"),
            (&["--quiet", "pki"], "pki comes first: azure-dps-emulator pki --out DIR"),
            (&["pki", "--intermediates=x"], "--intermediates x is no whole number: give one from 0 to 8"),
            (&["--hub", "a,wait=1"], "--hub a,wait=1: `wait=1` is none of weight=N, region=NAME, named-only"),
            (
                &["--latencies", "a,west"],
                "--latencies a,west is not DEVICES,REGION=MILLISECONDS[,REGION=MILLISECONDS...]",
            ),
            (
                &["--webhook-timeout=-1"],
                "--webhook-timeout -1 is no time: give seconds, more than 0, such as 10 or 0.5",
            ),
            (
                &["--webhook-timeout", "0"],
                "--webhook-timeout 0 is no time: give seconds, more than 0, such as 10 or 0.5",
            ),
            (
                &["--hub", "a,weight=-1"],
                "--hub a,weight=-1: weight -1 is no whole number: give one from 0 to 4294967295",
            ),
        ] {
            assert_eq!(parse(args).unwrap_err(), wanted);
        }
    }

    #[test]
    fn the_help_names_every_flag_within_the_width_of_a_terminal() {
        assert!(HELP.lines().all(|line| line.len() <= 100));
        for args in [&["--help"][..], &["-h"], &["help"], &["help", "pki"], &["pki", "help"]] {
            assert!(matches!(parse(args), Ok(Parsed::Tell(text)) if text == HELP), "{args:?}");
        }
    }

    #[test]
    fn what_makes_a_list_may_be_repeated() {
        let twice =
            ["--hub=a", "--policy=p,rights=EnrollmentRead", "--entra-role=o=reader", "--latencies=*,a=1"];
        let args: Vec<&str> = twice.into_iter().chain(twice).chain(["--ca-certificate=a=b"; 2]).collect();
        assert!(matches!(parse(&args), Ok(Parsed::Run(_))));
    }

    fn parse(args: &[&str]) -> Result<Parsed, String> {
        Args::parse(args.iter().map(OsString::from))
    }
}
