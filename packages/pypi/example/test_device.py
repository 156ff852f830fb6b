import json
import socket
import urllib.request

import pytest
from device import register

HUB = "emulator-hub-2.azure-devices.net"
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ENROLLMENT = {
    "registrationId": "dev1",
    "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY}},
    "allocationPolicy": "static",
    "iotHubs": [HUB],
}


@pytest.fixture
def mqtt_port(dps_emulator, monkeypatch):
    """The official client connects to port 8883 only. This redirects it to the port of the emulator."""
    port = int(dps_emulator.endpoints["mqtt"].rsplit(":")[-1])
    resolve = socket.getaddrinfo

    def redirect(host, asked, *rest, **named):
        return resolve(host, port if asked == 8883 else asked, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", redirect)


@pytest.mark.dps_emulator(retry_after=0, seed={"enrollments": [ENROLLMENT]})
def test_a_device_gets_the_hub_of_its_enrollment(dps_emulator, mqtt_port, monkeypatch):
    device = {"DPS_REGISTRATION_ID": "dev1", "DPS_KEY": KEY, "DPS_TRANSPORT": "mqtt"}
    for name, value in {**dps_emulator.env, **device}.items():
        monkeypatch.setenv(name, value)

    assert register() == HUB
    with urllib.request.urlopen(dps_emulator.endpoints["manage"] + "/registrations") as answer:
        [registration] = json.load(answer)
    assert registration["status"] == "assigned"
