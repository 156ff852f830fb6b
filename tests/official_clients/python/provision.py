"""Registers a device with the official client over MQTT, and MQTT in a WebSocket.

A request is { transport, idScope, registrationId, payload? } and the credential: key, groupKey, or chain and
privateKey as PEM.
"""

import base64
import hashlib
import hmac
import json
import os
import tempfile

import ports  # noqa: F401  leads the well-known ports to the emulator, below the client
from azure.iot.device import X509, ProvisioningDeviceClient

with open(os.environ["DPS_INTEROP_CA"], encoding="ascii") as file:
    CA = file.read()


def register(request):
    with tempfile.TemporaryDirectory() as folder:
        client = make(request, folder)
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


def make(request, folder):
    common = {
        "provisioning_host": "localhost",
        "registration_id": request["registrationId"],
        "id_scope": request["idScope"],
        "server_verification_cert": CA,
        "websockets": request["transport"] == "mqtt-ws",
    }
    if "chain" in request:
        x509 = certificate(folder, request["chain"], request["privateKey"])
        return ProvisioningDeviceClient.create_from_x509_certificate(x509=x509, **common)
    key = request.get("key") or derive(request["groupKey"], request["registrationId"])
    return ProvisioningDeviceClient.create_from_symmetric_key(symmetric_key=key, **common)


def certificate(folder, chain, private_key):
    """What the client takes: files only."""
    return X509(write(folder, "chain.pem", chain), write(folder, "key.pem", private_key))


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def derive(group_key, registration_id):
    digest = hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def causes(error):
    chain = []
    while error is not None:
        chain.append({"name": type(error).__name__, "message": str(error)})
        error = error.__cause__
    return chain
