//! Environment variables for flags: each flag of the server is also a variable, and becomes a flag behind those
//! of the command line. Pure: the caller reads the environment.
//!
//! | the variable of `--some-flag`, `DPS_EMULATOR_SOME_FLAG`, is | the program gets |
//! | --- | --- |
//! | absent or empty, or the flag is on the command line | nothing from the variable |
//! | `tcp://ADDRESS`, of `--some-port` | nothing: Kubernetes set it for a service |
//! | `VALUE`, of a flag with a value | `--some-flag=VALUE` |
//! | `A; B`, of a repeatable flag | `--some-flag=A` and `--some-flag=B` |
//! | `true`, `1`, `yes` or `on`, of a flag without a value | `--some-flag` |
//! | `false`, `0`, `no` or `off`, of a flag without a value | nothing |
//! | another text, of a flag without a value | an error |
//!
//! clap's own variables would take an empty variable for a value, would not take several values from one, and
//! would name the flag in errors.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};

use crate::args::CommandLine;
use crate::flag_names::FlagNames;

/// Reads the command line and the variables.
///
/// # Errors
/// An error of clap. It names the variable if the mistake is in one.
pub(crate) fn read(
    mut given: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(CommandLine, FlagNames), clap::Error> {
    let mut command = CommandLine::command();
    let mut names = FlagNames::default();
    let added = flags_from_variables(&command, &given, variable, &mut names)
        .map_err(|message| command.error(ErrorKind::InvalidValue, message))?;
    // Behind the others, so that --help comes before a mistake in a variable.
    given.extend(added);
    if let Some(flag) = flag_with_pem(&given) {
        let message = format!(
            "invalid value for '{}': it is PEM text, which may be a private key: write it to a file, and give the \
             name of that file",
            names.of(&flag)
        );
        return Err(command.error(ErrorKind::InvalidValue, message));
    }
    let line =
        command.try_get_matches_from_mut(given).and_then(|matches| CommandLine::from_arg_matches(&matches));
    line.map(|line| (line, names.clone())).map_err(|error| names.put_into(error))
}

fn flags_from_variables(
    server: &Command,
    given: &[OsString],
    variable: impl Fn(&str) -> Option<OsString>,
    names: &mut FlagNames,
) -> Result<Vec<OsString>, String> {
    let mut added = Vec::new();
    let Some(command) = addressed(server, given) else { return Ok(added) };
    for arg in flags(server) {
        let Some(flag) = arg.get_long() else { continue };
        let Some(own) = command.get_arguments().find(|own| own.get_long() == Some(flag)) else { continue };
        let name = variable_of(flag);
        let counts =
            |value: &OsString| !value.is_empty() && !is_given(flag, given) && !is_of_kubernetes(flag, value);
        let Some(value) = variable(&name).filter(counts) else { continue };
        added
            .extend(flags_of(own, flag, &value).map_err(|why| format!("invalid value for '{name}': {why}"))?);
        names.add(&format!("--{flag}"), name);
    }
    Ok(added)
}

/// The flag whose value is PEM text, which no flag takes and clap's errors would show.
fn flag_with_pem(given: &[OsString]) -> Option<String> {
    let mut flag = "an argument".to_owned();
    for word in given.iter().skip(1) {
        let word = word.to_string_lossy();
        let value = match word.split_once('=').filter(|(name, _)| is_flag(name)) {
            Some((name, value)) => {
                flag = name.to_owned();
                value
            }
            None if is_flag(&word) => {
                flag = word.to_string();
                continue;
            }
            None => &word,
        };
        if value.contains("-----BEGIN") {
            return Some(flag);
        }
    }
    None
}

fn is_flag(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
}

/// The variables among `names` that look like those of flags and are not, usually because they are misspelt.
pub(crate) fn unknown(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let server = CommandLine::command();
    let known: Vec<String> = flags(&server).filter_map(Arg::get_long).map(variable_of).collect();
    let is_foreign = |name: &str| {
        let rest = name.strip_prefix(PREFIX).unwrap_or_default();
        // The tests name the program to test by the first. Kubernetes sets the others for a service that is
        // called dps-emulator.
        ["PROGRAM", "PORT"].contains(&rest) || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
    };
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !is_foreign(name)).collect();
    unknown.sort();
    unknown
}

/// The command that the command line is for: the server's, or a subcommand. `None` if there is no such one.
fn addressed<'a>(server: &'a Command, given: &[OsString]) -> Option<&'a Command> {
    match given.get(1) {
        Some(word) if !word.to_string_lossy().starts_with('-') => {
            server.get_subcommands().find(|command| word == command.get_name())
        }
        _ => Some(server),
    }
}

/// The flags of the server that can be variables.
fn flags(server: &Command) -> impl Iterator<Item = &Arg> {
    server.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
}

/// Returns whether Kubernetes set the variable of a port: for a service that is called
/// dps-emulator-manage, it sets `DPS_EMULATOR_MANAGE_PORT` to the address of the service.
fn is_of_kubernetes(flag: &str, value: &OsStr) -> bool {
    let value = value.to_string_lossy();
    flag.ends_with("-port") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

/// Returns whether the command line has a flag.
fn is_given(flag: &str, given: &[OsString]) -> bool {
    given.iter().any(|word| {
        let word = word.to_string_lossy();
        let rest = word.strip_prefix("--").and_then(|word| word.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

/// The flags that the value of a variable makes.
fn flags_of(arg: &Arg, flag: &str, value: &OsStr) -> Result<Vec<OsString>, String> {
    let with = |value: &OsStr| {
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        word
    };
    let text = || value.to_str().ok_or("it is not text in UTF-8");
    Ok(match arg.get_action() {
        ArgAction::Append => {
            let values = text()?.split(SEPARATOR).map(str::trim).filter(|value| !value.is_empty());
            values.map(|value| with(OsStr::new(value))).collect()
        }
        ArgAction::SetTrue => match text()?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => vec![format!("--{flag}").into()],
            "false" | "0" | "no" | "off" | "" => Vec::new(),
            _ => return Err("expected true or false".to_owned()),
        },
        _ => vec![with(value)],
    })
}

fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_ascii_uppercase())
}

const PREFIX: &str = "DPS_EMULATOR_";
/// Between the values of a repeatable flag, because hubs and policies contain commas.
const SEPARATOR: char = ';';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_its_flag_unless_the_command_line_has_the_flag() {
        for (args, variables, wanted) in [
            (&[][..], &[("POLLS", "2")][..], &["--polls=2"][..]),
            (&["--polls=3"], &[("POLLS", "2")], &[]),
            (&["--polls", "3"], &[("POLLS", "2")], &[]),
            (&["--retry-spread=1"], &[("RETRY_AFTER", "2")], &["--retry-after=2"]),
            (&["--retry-after"], &[("RETRY_AFTER", "2")], &[]),
            (&[], &[("POLLS", "")], &[]),
            (&[], &[("CA_DIR", " a b")], &["--ca-dir= a b"]),
            (&[], &[("HUB", "a,weight=2; b.example ;;")], &["--hub=a,weight=2", "--hub=b.example"]),
            (&[], &[("HUB", ";")], &[]),
            (&[], &[("MANAGE_PORT", "tcp://10.0.0.1:80"), ("MQTT_PORT", "udp://10.0.0.1:1")], &[]),
            (&["health"], &[("MANAGE_PORT", "tcp://10.0.0.1:80")], &[]),
            (&[], &[("CA_DIR", "tcp://10.0.0.1:80")], &["--ca-dir=tcp://10.0.0.1:80"]),
            (&["--hub=c"], &[("HUB", "a;b")], &[]),
            (&[], &[("DNS_NAME", "a\n;b\n")], &["--dns-name=a", "--dns-name=b"]),
            (&[], &[("LOOSE", "true"), ("QUIET", "ON")], &["--loose", "--quiet"]),
            (&[], &[("LOOSE", "1"), ("QUIET", "no"), ("QUOTAS", "0")], &["--loose"]),
            (&["--loose"], &[("LOOSE", "true")], &[]),
            (&[], &[("HELP", "true"), ("VERSION", "true"), ("PROGRAM", "x"), ("PORT", "tcp://h:1")], &[]),
            (&["pki", "--out=x"], &[("POLLS", "2"), ("OUT", "y"), ("DEVICE", "z")], &[]),
            (&["completions", "bash"], &[("POLLS", "many")], &[]),
            (&["help"], &[("POLLS", "2")], &[]),
            (&["health"], &[("MANAGE_PORT", "8"), ("POLLS", "2"), ("TIMEOUT", "1")], &["--manage-port=8"]),
            (&["health", "--manage-port=9"], &[("MANAGE_PORT", "8")], &[]),
        ] {
            let mut names = FlagNames::default();
            let added = flags_from_variables(&CommandLine::command(), &line(args), of(variables), &mut names);
            assert_eq!(added.unwrap(), wanted, "{args:?} {variables:?}");
        }
    }

    #[test]
    fn the_defaults_and_needs_of_flags_are_the_same_for_variables() {
        let (_, names) = parse(&["--retry-spread=5"], &[("QUOTAS", "true")]).unwrap();
        assert_eq!((names.of("--quotas"), names.of("--hub")), ("DPS_EMULATOR_QUOTAS", "--hub"));
        let ports = parse(&[], &[("STANDARD_PORTS", "true"), ("MQTT_PORT", "1883")]).unwrap().0;
        let shown = format!("{:?}", ports.serve);
        for port in ["https_port: 443", "mqtt_port: 1883", "amqp_port: 5671"] {
            assert!(shown.contains(port), "{shown}");
        }
        let token = parse(&[], &[("MANAGE_TOKEN", "SECRET")]).unwrap().0;
        assert!(!format!("{token:?}").contains("SECRET"));
        let policy = parse(&["--policy=a,rights=EnrollmentRead,primary=SECRET"], &[]).unwrap().0;
        assert!(!format!("{policy:?}").contains("SECRET"));
    }

    #[test]
    fn an_error_names_the_variable_and_shows_no_secret() {
        for (args, variables, wanted) in [
            (&[][..], &[("POLLS", "many")][..], "invalid value 'many' for 'DPS_EMULATOR_POLLS': "),
            (&["--polls=many"], &[("POLLS", "2")], "invalid value 'many' for '--polls <N>': "),
            (&["--colour"], &[("POLLS", "2")], "unexpected argument '--colour' found"),
            (&[], &[("REFUSE_AT", "regster")], "invalid value 'regster' for 'DPS_EMULATOR_REFUSE_AT'"),
            (&[], &[("HUB", "a;b,wait=1")], "invalid value 'b,wait=1' for 'DPS_EMULATOR_HUB': "),
            (&[], &[("LOOSE", "maybe")], "invalid value for 'DPS_EMULATOR_LOOSE': expected true or false"),
            (
                &["--manage-token=SECRET"],
                &[("RETRY_SPREAD", "2"), ("MANAGE_TOKEN", "SECRET")],
                "tip: these environment variables are set: DPS_EMULATOR_RETRY_SPREAD",
            ),
            (&["health"], &[("MANAGE_PORT", "x")], "invalid value 'x' for 'DPS_EMULATOR_MANAGE_PORT'"),
            (&["--help"], &[("POLLS", "many"), ("MANAGE_TOKEN", "SECRET")], "Usage: "),
        ] {
            let error = parse(args, variables).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains("SECRET"), "{args:?} {variables:?}: {error}");
        }
        for policies in ["SECRET;SECRET", "a,SECRET"] {
            let (line, names) = parse(&[], &[("POLICY", policies)]).unwrap();
            let error = line.serve.builder(&names).unwrap_err().to_string();
            assert!(error.contains("invalid value for 'DPS_EMULATOR_POLICY': policy "), "{error}");
        }
    }

    #[test]
    fn pem_text_in_place_of_a_value_is_refused_and_not_shown() {
        const PEM: &str = "-----BEGIN PRIVATE KEY-----\nSECRET";
        let certificate = format!("root={PEM}");
        let policy = format!("a,rights=EnrollmentRead,primary-file={PEM}");
        let seed = format!("--seed={PEM}");
        for (args, variables, flag) in [
            (&["--seed", PEM][..], &[][..], "--seed"),
            (&[&seed], &[], "--seed"),
            (&["--webhook-ca", PEM], &[], "--webhook-ca"),
            (&["--policy", &policy], &[], "--policy"),
            (&["pki", "--out", PEM], &[], "--out"),
            (&["-x", PEM], &[], "an argument"),
            (&["--polls=2"], &[("SEED", PEM)], "DPS_EMULATOR_SEED"),
            (&[], &[("CA_DIR", PEM)], "DPS_EMULATOR_CA_DIR"),
            (&[], &[("DATA", PEM)], "DPS_EMULATOR_DATA"),
            (&[], &[("POLLS", PEM)], "DPS_EMULATOR_POLLS"),
            (&[], &[("CA_CERTIFICATE", &certificate)], "DPS_EMULATOR_CA_CERTIFICATE"),
        ] {
            let error = parse(args, variables).unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(error.contains(&format!("invalid value for '{flag}': it is PEM text")), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_path_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;

        let path = || OsString::from_vec(b"/\xff".to_vec());
        let of = |name: &'static str| move |asked: &str| (asked == name).then(path);
        let (line, _) = read(line(&[]), of("DPS_EMULATOR_SEED")).unwrap();
        assert_eq!(line.serve.seed().unwrap().as_os_str(), path());
        for name in ["DPS_EMULATOR_HUB", "DPS_EMULATOR_LOOSE"] {
            let error = read(self::line(&[]), of(name)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("invalid value for '{name}': it is not text in UTF-8")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_table_of_the_guide_has_each_flag_with_its_variable() {
        let (_, table) =
            include_str!("../../docs/emulator.md").split_once("| flag | variable | form |\n").unwrap();
        let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
        let wanted: Vec<String> = flags(&CommandLine::command())
            .map(|arg| {
                let flag = arg.get_long().unwrap();
                let form = match arg.get_action() {
                    ArgAction::SetTrue => "`true` or `false`",
                    ArgAction::Append => "values with `;` between them",
                    _ => "a value",
                };
                format!("| `--{flag}` | `{}` | {form} |", variable_of(flag))
            })
            .collect();
        assert_eq!(rows, wanted, "the table in docs/emulator.md should be:\n{}", wanted.join("\n"));
    }

    #[test]
    fn a_variable_that_is_misspelt_is_unknown_and_those_of_something_else_are_no_flags() {
        let foreign = ["PROGRAM", "PORT", "PORT_443_TCP", "SERVICE_HOST", "SERVICE_PORT_MQTT"];
        let server = CommandLine::command();
        let mut known: Vec<String> = flags(&server).filter_map(Arg::get_long).map(variable_of).collect();
        for name in foreign {
            assert!(!known.contains(&format!("{PREFIX}{name}")), "{name}");
        }
        known.extend(foreign.map(|name| format!("{PREFIX}{name}")));
        known.extend(
            ["PATH", "DPS_KEY", "DPS_EMULATOR", "DPS_EMULATOR_POLS", "DPS_EMULATOR_"].map(String::from),
        );

        let unknown = unknown(known.into_iter().map(OsString::from));

        assert_eq!(unknown, ["DPS_EMULATOR_", "DPS_EMULATOR_POLS"]);
    }

    fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<(CommandLine, FlagNames), clap::Error> {
        read(line(args), of(variables))
    }

    fn line(args: &[&str]) -> Vec<OsString> {
        ["azure-dps-emulator"].iter().chain(args).map(OsString::from).collect()
    }

    fn of(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| {
            let found = variables.iter().find(|(known, _)| format!("{PREFIX}{known}") == name);
            found.map(|(_, value)| value.into())
        }
    }
}
