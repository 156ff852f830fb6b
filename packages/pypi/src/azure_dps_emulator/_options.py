"""The options of `start`, which are the flags of the program, and their way to the command line."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Literal, Mapping, Sequence, TypedDict, Union, cast

Path = Union[str, "os.PathLike[str]"]
Texts = Union[str, Sequence[str]]


class Seed(TypedDict, total=False):
    """The initial enrollments and groups. Each has the members that the service API defines."""

    enrollments: Sequence[Mapping[str, Any]]
    enrollmentGroups: Sequence[Mapping[str, Any]]


class Options(TypedDict, total=False):
    """What `start` and the pytest marker take. `azure-dps-emulator --help` says more about each flag. Where
    there is no option, the environment variable `DPS_EMULATOR_…` of the flag counts. `False` and an empty
    list are options too."""

    host: str
    """The address for HTTPS, MQTT and AMQP: an IP address, or `localhost`, the default."""
    https_port: int
    """The port of HTTPS, and of MQTT and AMQP in WebSockets. By default any free port."""
    mqtt_port: int
    """The port of MQTT. By default any free port."""
    amqp_port: int
    """The port of AMQP. By default any free port."""
    dns_name: Texts
    """DNS names under which clients reach the emulator. The first one is in the connection strings."""
    manage_host: str
    """The address of the management API. Any other than a loopback address needs `manage_token`."""
    manage_port: int
    """The port of the management API. By default any free port."""
    manage_token: str
    """The token that every management request but `GET /health` must carry."""
    standard_ports: bool
    """Uses the ports 443, 8883 and 5671 where no other port is given."""
    ca_dir: Path
    """Keeps the certificate authority in this directory. Without it every start makes a new one."""
    id_scope: str
    """The ID scope that devices name."""
    hub: Texts
    """Links hubs: `NAME[,weight=N][,region=R][,named-only]`. Without it two hubs are linked."""
    allocation: Literal["hashed", "static", "geoLatency"]
    """The allocation policy for enrollments that have none."""
    latencies: Texts
    """Latencies from devices to regions, for geoLatency: `DEVICES,REGION=MS[,REGION=MS...]`."""
    seed: Union[Path, Seed]
    """The initial enrollments: a JSON file, or the value itself."""
    data: Path
    """Keeps the state in this file, which `stop()` saves and the next start reads. It contains keys."""
    ca_certificate: Texts
    """Uploads CA certificates as verified: `NAME=FILE`."""
    require_verified_ca: bool
    """Admits devices of X.509 groups only if a verified CA certificate is at the end of their chain."""
    certificate_policy: Texts
    """Adds certificate policies: `NAMESPACE/CA/POLICY[,days=N][,keys=p384+p256+rsa][,root]`."""
    connection_profile: str
    """The connectionProfile of assigned devices, such as `classic` or `mqttV5`."""
    policy: Texts
    """Adds access policies: `NAME,rights=RIGHT[+RIGHT...][,primary=KEY][,secondary=KEY]`."""
    entra_role: Texts
    """Assigns roles to principals of Microsoft Entra ID: `OBJECT_ID=reader` or `OBJECT_ID=contributor`."""
    polls: int
    """The number of polls that are answered `assigning`. Without it the time to wait decides."""
    retry_after: int
    """How long devices are asked to wait between polls, in seconds. The default is 3."""
    latency: int
    """The delay of every answer, in milliseconds."""
    quotas: bool
    """Answers 429 beyond the documented quotas."""
    retry_spread: int
    """By how many seconds the Retry-After of 429 answers may differ. Needs `quotas`."""
    loose: bool
    """Accepts requests with members that no api-version has."""
    refuse_at: Literal["register", "connect"]
    """Where MQTT and AMQP refuse a wrong credential."""
    reset_in_place: bool
    """Resets a device whose enrollment says so on its current hub too."""
    list_by_id: bool
    """Lists enrollments and registration records in ascending order of their IDs."""
    webhook_timeout: float
    """The time limit of a custom allocation webhook, in seconds. The default is 10."""
    webhook_ca: Path
    """A PEM file with authorities to trust for webhooks."""
    on_keyless_update: Literal["keep", "regenerate"]
    """Whether an update without keys keeps the keys of an enrollment or generates new ones."""
    quiet: bool
    """Logs only warnings and errors of the emulator itself, and no refused requests."""

    program: Path
    """The path of another build of the program. Not a flag."""
    start_timeout: float
    """How long the emulator may take to be ready, in seconds. The default is 30. Not a flag."""
    stop_timeout: float
    """How long the emulator may take to end before it is killed, in seconds. The default is 10, and 120 with
    `data`, because a large state takes long to save. Not a flag."""
    on_log: Callable[[str], None]
    """Gets each line of the log, without its line break, in another thread. Not a flag."""


def to_flags(options: Mapping[str, Any]) -> list[str]:
    """Each option is the flag of that name: `https_port=0, hub=["a", "b"], loose=True`. A secret is a
    variable. An empty secret is a flag, which the program refuses: an empty variable would count as absent."""
    flags: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        for one in _to_list(value):
            if name not in _SECRETS or one == "":
                flags.append(flag if one is True else f"{flag}={one}")
    return flags


def to_variables(options: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables for the options that other users of the machine must not read, as they can a
    command line. An option that is `False` or `[]` beats the variable of its flag, as every other option
    does."""
    variables: dict[str, str] = {}
    for name, value in options.items():
        variable = "DPS_EMULATOR_" + name.upper()
        values = _to_list(value)
        if name in _SECRETS and values:
            # The variable of a flag that can be repeated separates its values so.
            variables[variable] = ";".join(str(one) for one in values)
        elif value is not None and not values:
            variables[variable] = ""
    return variables


def _to_list(value: Any) -> list[Any]:
    values = cast("list[Any]", value) if isinstance(value, (list, tuple)) else [value]
    return [one for one in values if one is not None and one is not False]


def to_snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


_SECRETS = ("manage_token", "policy")
