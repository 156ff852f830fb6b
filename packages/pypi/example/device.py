"""A device that registers with the official client. Its settings are environment variables."""

import base64
import hmac
import os
from pathlib import Path

from azure.iot.device import ProvisioningDeviceClient

# Whether MQTT goes in a WebSocket. The client has no `auto`: here it means MQTT.
WEBSOCKETS = {"auto": False, "mqtt": False, "mqtt-ws": True}


def device_key(registration_id):
    """The key of the device. In a group it follows from the key of the group."""
    if "DPS_KEY" in os.environ:
        return os.environ["DPS_KEY"]
    group_key = base64.b64decode(os.environ["DPS_GROUP_KEY"])
    return base64.b64encode(hmac.digest(group_key, registration_id.encode(), "sha256")).decode()


def register():
    transport = os.environ.get("DPS_TRANSPORT", "auto")
    if transport not in WEBSOCKETS:
        raise ValueError(f"DPS_TRANSPORT is not one of {', '.join(WEBSOCKETS)}")
    registration_id = os.environ["DPS_REGISTRATION_ID"]
    ca_file = os.environ.get("DPS_CA_FILE")
    endpoint = os.environ.get("DPS_ENDPOINT", "global.azure-devices-provisioning.net")
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=endpoint.split(":")[0],  # the client takes no port
        id_scope=os.environ["DPS_ID_SCOPE"],
        registration_id=registration_id,
        symmetric_key=device_key(registration_id),
        websockets=WEBSOCKETS[transport],
        server_verification_cert=Path(ca_file).read_text() if ca_file else None,
    )
    return client.register().registration_state.assigned_hub
