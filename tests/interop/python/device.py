"""The official device client over MQTT.

A request is { host, idScope, registrationId, key or groupKey, payload? }; its outcome is that of one registration.
"""

import base64
import hashlib
import hmac
import json
import os

import ports  # noqa: F401  leads the well-known port to the emulator, below the client
from azure.iot.device import ProvisioningDeviceClient
from driver import drive

with open(os.environ["DPS_INTEROP_CA"], encoding="ascii") as file:
    CA = file.read()


def register(request):
    key = request.get("key") or derive(request["groupKey"], request["registrationId"])
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host="localhost",
        registration_id=request["registrationId"],
        id_scope=request["idScope"],
        symmetric_key=key,
        server_verification_cert=CA,
    )
    if "payload" in request:
        client.provisioning_payload = request["payload"]
    result = client.register()
    state = result.registration_state
    return {
        "status": result.status,
        "assignedHub": state.assigned_hub,
        "deviceId": state.device_id,
        "substatus": state.sub_status,
        "payload": json.loads(state.response_payload) if state.response_payload else None,
    }


def derive(group_key, registration_id):
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def causes(error):
    chain = []
    while error is not None:
        chain.append({"name": type(error).__name__, "message": str(error)})
        error = error.__cause__
    return chain


drive("azure-iot-device", register, causes)
