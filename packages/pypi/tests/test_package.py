"""The installed package: run it in an environment where it is installed."""

import base64
import importlib.metadata
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import azure_dps_emulator
import pytest
from azure_dps_emulator._program import find_program

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def test_several_emulators_run_at_once_and_stop_waits_for_the_end_of_one():
    scopes = [f"0ne0000000{number}" for number in range(4)]
    running = [azure_dps_emulator.start(id_scope=scope) for scope in scopes]

    assert [dps.id_scope for dps in running] == scopes
    assert all(health(dps.endpoints) for dps in running)
    running[0].stop()
    assert not running[0].running and not Path(running[0].ca_file).exists()
    running[0].stop()
    assert all(health(dps.endpoints) for dps in running[1:])
    for dps in running:
        dps.stop()


def test_the_members_are_those_of_the_ready_line_and_env_has_the_variables_of_clients():
    options = {"hub": ["a.example,weight=2", "b.example"], "policy": "p,rights=EnrollmentRead"}
    with azure_dps_emulator.start(**options) as dps:
        assert dps.hubs == ["a.example", "b.example"]
        assert list(dps.hub_connection_strings) == dps.hubs
        assert sorted(dps.policy_connection_strings) == ["p", "provisioningserviceowner"]
        assert Path(dps.ca_file).read_text().startswith("-----BEGIN CERTIFICATE-----")
        assert dps.env == {
            "DPS_CONNECTION_STRING": dps.service_connection_string,
            "DPS_ENDPOINT": dps.endpoints["https"],
            "DPS_ID_SCOPE": "0ne00EMU1A7",
            "DPS_CA_FILE": dps.ca_file,
        }
        assert health(dps.endpoints)
    assert not dps.running


def test_a_seed_is_a_file_or_the_value_itself_which_no_file_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    seed = {"enrollments": [{"registrationId": "dev1", "attestation": {"type": "symmetricKey"}}]}
    file = tmp_path / "seed.json"
    file.write_text(json.dumps(seed))
    for given in (seed, file, str(file)):
        with azure_dps_emulator.start(seed=given) as dps:
            assert manage(dps.endpoints, "/enrollments")["enrollments"][0]["registrationId"] == "dev1"
            assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "options, wanted",
    [
        ({"seed": "/nowhere/seed.json"}, "azure-dps-emulator: --seed /nowhere/seed.json: "),
        ({"colour": "red"}, "azure-dps-emulator: error: unexpected argument '--colour' found"),
        ({"seed": {"enrolments": []}}, "the seed cannot be used: "),
        ({"seed": {"enrollments": [b"bytes"]}}, "the seed cannot be used: "),
        ({"program": "/nowhere/emulator"}, "/nowhere/emulator cannot be started: "),
        ({"id_scope": "a\0b"}, "cannot be started: embedded null byte"),
        ({"manage_token": ""}, "the token of the management port has 0 characters"),
        ({"policy": ["a,rights=EnrollmentRead", ""]}, "invalid value for '--policy': policy ``: "),
    ],
)
def test_a_start_that_fails_raises_the_line_of_the_program(options, wanted):
    with pytest.raises(azure_dps_emulator.StartError) as failure:
        azure_dps_emulator.start(**options)

    assert wanted in str(failure.value) and "Usage" not in str(failure.value)


def test_a_seed_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(azure_dps_emulator.StartError, match="the disk is full"):
        azure_dps_emulator.start(seed={})

    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(azure_dps_emulator.StartError, match=f"--mqtt-port: .*:{port} for MQTT: "):
            azure_dps_emulator.start(mqtt_port=port)


@POSIX
def test_stop_raises_the_line_of_the_program_if_the_state_cannot_be_saved(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    dps = azure_dps_emulator.start(data=folder / "state.json")
    shutil.rmtree(folder)

    with pytest.raises(azure_dps_emulator.StopError, match=r"^azure-dps-emulator: .*state\.json"):
        dps.stop()
    dps.stop()


@POSIX
def test_stop_raises_once_if_the_emulator_ended_badly_before():
    dps = azure_dps_emulator.start()
    os.kill(dps.pid, signal.SIGKILL)
    wait_for_the_end(dps)
    with pytest.raises(azure_dps_emulator.StopError, match="^azure-dps-emulator ended with status -9$"):
        dps.stop()
    dps.stop()


@POSIX
def test_stop_is_content_with_an_emulator_that_ended_well_before():
    dps = azure_dps_emulator.start()
    os.kill(dps.pid, signal.SIGTERM)
    wait_for_the_end(dps)
    dps.stop()


@POSIX
def test_stop_ends_an_emulator_whose_input_a_forked_process_holds_open_too(tmp_path):
    state = tmp_path / "state.json"
    dps = azure_dps_emulator.start(data=state, stop_timeout=60)
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    forked.start()
    try:
        dps.stop()
        assert forked.is_alive() and state.exists()
    finally:
        forked.kill()
        forked.join()


@POSIX
@pytest.mark.parametrize(
    "options, variable, wanted",
    [
        ({}, "", "did not end within 0.2 s and was killed$"),
        ({"data": "state.json"}, "", "was killed, and its state was not saved: a larger `stop_timeout`"),
        ({}, "state.json", "was killed, and its state was not saved"),
        ({"data": False}, "state.json", "and was killed$"),
    ],
)
def test_stop_kills_a_program_that_does_not_end_in_time(tmp_path, monkeypatch, options, variable, wanted):
    monkeypatch.setenv("DPS_EMULATOR_DATA", variable)
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ntrap '' TERM\necho '{\"event\": \"ready\"}'\nexec sleep 60\n")
    program.chmod(0o755)
    dps = azure_dps_emulator.start(program=program, stop_timeout=0.2, **options)

    with pytest.raises(azure_dps_emulator.StopError, match=wanted):
        dps.stop()


def test_an_exception_of_on_log_is_reported_and_the_log_goes_on(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))

    def fail(line):
        raise ValueError(line)

    with azure_dps_emulator.start(on_log=fail) as dps:
        url = dps.endpoints["https"]
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                context = ssl.create_default_context(cafile=dps.ca_file)
                urllib.request.urlopen(f"https://{url}/enrollments/a?api-version=2021-10-01", context=context)

    assert [str(error) for error in reported] == dps.log
    assert len(dps.log) > 1


@pytest.mark.parametrize(
    "options, logs, hubs",
    [
        ({}, False, ["variable.example"]),
        ({"quiet": None, "hub": None}, False, ["variable.example"]),
        ({"quiet": False, "hub": []}, True, [f"emulator-hub-{n}.azure-devices.net" for n in (1, 2)]),
        ({"quiet": True, "hub": "option.example"}, False, ["option.example"]),
    ],
)
def test_a_variable_of_a_flag_counts_until_an_option_says_otherwise(monkeypatch, options, logs, hubs):
    monkeypatch.setenv("DPS_EMULATOR_QUIET", "true")
    monkeypatch.setenv("DPS_EMULATOR_HUB", "variable.example")
    with azure_dps_emulator.start(**options) as dps:
        assert dps.hubs == hubs
        assert dps.policy_connection_strings == {}
    assert bool(dps.log) == logs


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_keys_and_the_token_of_management_are_not_on_the_command_line():
    token = "correct-horse-battery"
    key = base64.b64encode(bytes(range(32))).decode()
    policy = ["a,rights=EnrollmentRead", f"b,rights=EnrollmentRead,primary={key}"]
    with azure_dps_emulator.start(manage_token=token, policy=policy) as dps:
        journal = dps.endpoints["manage"] + "/journal"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(journal)
        asked = urllib.request.Request(journal, headers={"Authorization": f"Bearer {token}"})
        urllib.request.urlopen(asked).close()
        assert sorted(dps.policy_connection_strings) == ["a", "b", "provisioningserviceowner"]
        assert key in dps.policy_connection_strings["b"]
        line = Path(f"/proc/{dps.pid}/cmdline").read_text()
        assert token not in line and key not in line


@POSIX
def test_a_program_that_is_never_ready_is_ended_at_the_deadline(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)

    with pytest.raises(azure_dps_emulator.StartError, match="was not ready within 0.5 s"):
        azure_dps_emulator.start(program=program, start_timeout=0.5)


def test_a_package_without_its_program_says_what_to_do(monkeypatch):
    monkeypatch.setattr("azure_dps_emulator._program.files", lambda name: [])

    with pytest.raises(azure_dps_emulator.StartError, match="install it again from a wheel for this machine"):
        azure_dps_emulator.start()


def test_each_flag_of_the_program_is_an_option():
    text = subprocess.run([find_program(), "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", text, re.MULTILINE))
    options = {name.replace("_", "-") for name in azure_dps_emulator.Options.__annotations__}

    assert len(flags) > 30
    # The package itself sets the last one.
    flags -= {"help", "version", "until-stdin-closes"}
    assert options - flags == {"program", "start-timeout", "stop-timeout", "on-log"}
    assert flags - options == set()


@POSIX
def test_the_emulator_ends_when_its_parent_is_killed():
    parent, ready = parent_of_an_emulator("time.sleep(60)")
    assert health(ready["endpoints"])

    parent.send_signal(signal.SIGKILL)

    parent.wait()
    wait_until_closed(ready)


def test_a_parent_that_forgets_to_stop_the_emulator_ends_and_the_emulator_too():
    parent, ready = parent_of_an_emulator("")

    assert parent.wait(30) == 0
    wait_until_closed(ready)


def test_the_command_is_the_program_of_the_version_of_the_package():
    command = Path(sys.executable).parent / "azure-dps-emulator"
    text = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert text == f"azure-dps-emulator {importlib.metadata.version('azure-dps-emulator')}\n"


def test_the_device_of_the_sample_derives_its_key_from_the_key_of_its_group(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "example"))
    from device import device_key

    # The example in Microsoft's documentation of symmetric key attestation.
    group_key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    monkeypatch.setenv("DPS_GROUP_KEY", group_key)
    derived = device_key("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")
    assert derived == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="


def test_the_notices_in_the_wheel_name_each_crate_whose_files_the_program_names():
    installed = {file.name: file for file in importlib.metadata.files("azure-dps-emulator")}
    notices = installed["THIRD-PARTY.txt"].read_text("utf-8")
    sources = rb"[/\\]registry[/\\]src[/\\][^/\\]+[/\\]([\w-]+?)-(\d[\w.+-]*)[/\\]"
    crates = set(re.findall(sources, find_program().read_bytes()))
    lines = [f"\n{name.decode()} {version.decode()}: " for name, version in crates]
    assert len(lines) > 30
    assert [line for line in lines if line not in notices] == []
    assert all(author in notices for author in ("Isis Agora Lovecruft", "Brian Smith", "Rich Felker"))
    assert "Rust Standard Library" in installed["THIRD-PARTY-RUST.html"].read_text("utf-8")


pytest_plugins = ["pytester"]


def test_the_fixture_takes_options_and_a_failing_test_reports_the_log(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def dps_emulator_options():
            return {"id_scope": "0ne00ABCDEF", "retry_after": 0, "hub": "a.example"}
        """
    )
    pytester.makepyfile(
        """
        import ssl, urllib.request
        import pytest

        pytestmark = pytest.mark.dps_emulator(hub="b.example")

        def test_of_the_module(dps_emulator):
            assert (dps_emulator.id_scope, dps_emulator.hubs) == ("0ne00ABCDEF", ["b.example"])

        @pytest.mark.dps_emulator(hub=["c.example"])
        def test_of_its_own(dps_emulator):
            assert (dps_emulator.id_scope, dps_emulator.hubs) == ("0ne00ABCDEF", ["c.example"])

        def test_that_fails(dps_emulator):
            url = f"https://{dps_emulator.endpoints['https']}/enrollments/dev1?api-version=2021-10-01"
            context = ssl.create_default_context(cafile=dps_emulator.ca_file)
            urllib.request.urlopen(url, context=context)
        """
    )

    result = pytester.runpytest_subprocess("--strict-markers")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([".*Log of azure-dps-emulator.*", ".*status=401.*"])


def wait_for_the_end(dps):
    end = time.monotonic() + 30
    while dps.running:
        assert time.monotonic() < end, "the emulator still runs"
        time.sleep(0.02)


def manage(endpoints, path):
    with urllib.request.urlopen(endpoints["manage"] + path) as answer:
        return json.load(answer)


def health(endpoints):
    return manage(endpoints, "/health")["status"] == "ok"


def parent_of_an_emulator(end):
    script = f"""
import json, time, azure_dps_emulator
dps = azure_dps_emulator.start()
print(json.dumps({{"endpoints": dps.endpoints, "ca_file": dps.ca_file}}), flush=True)
{end}
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    return parent, json.loads(parent.stdout.readline())


def wait_until_closed(ready):
    """Waits until the emulator has ended by itself: it listens no more, and has deleted its file."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            health(ready["endpoints"])
        except OSError:
            if not Path(ready["ca_file"]).exists():
                return
        time.sleep(0.02)
    pytest.fail("the emulator still runs")
