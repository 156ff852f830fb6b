"""Registers devices with the official client, one after the other, as one measured process.

The job is the first argument, in JSON: { transport, count, idScope, groupKey, prefix }.
"""

import base64
import hashlib
import hmac
import json
import os
import sys

import ports  # noqa: F401  leads the well-known port to the emulator, below the client
from azure.iot.device import ProvisioningDeviceClient

JOB = json.loads(sys.argv[1])

with open(os.environ["DPS_INTEROP_CA"], encoding="ascii") as file:
    CA = file.read()


def register(registration_id):
    digest = hmac.new(base64.b64decode(JOB["groupKey"]), registration_id.encode(), hashlib.sha256).digest()
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host="localhost",
        registration_id=registration_id,
        id_scope=JOB["idScope"],
        symmetric_key=base64.b64encode(digest).decode(),
        server_verification_cert=CA,
        websockets=JOB["transport"] == "mqtt-ws",
    )
    if client.register().status != "assigned":
        sys.exit("not assigned")


for number in range(JOB["count"]):
    register(f"{JOB['prefix']}-{number}")
print(JOB["count"])
