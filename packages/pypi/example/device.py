"""A device that registers with the official client. Its settings are environment variables."""

import os
from pathlib import Path

from azure.iot.device import ProvisioningDeviceClient

# Whether MQTT goes in a WebSocket. The client has no `auto`: here it means MQTT.
WEBSOCKETS = {"auto": False, "mqtt": False, "mqtt-ws": True}


def register():
    transport = os.environ.get("DPS_TRANSPORT", "auto")
    if transport not in WEBSOCKETS:
        raise ValueError(f"DPS_TRANSPORT is not one of {', '.join(WEBSOCKETS)}")
    ca_file = os.environ.get("DPS_CA_FILE")
    endpoint = os.environ.get("DPS_ENDPOINT", "global.azure-devices-provisioning.net")
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=endpoint.split(":")[0],  # the client takes no port
        id_scope=os.environ["DPS_ID_SCOPE"],
        registration_id=os.environ["DPS_REGISTRATION_ID"],
        symmetric_key=os.environ["DPS_KEY"],
        websockets=WEBSOCKETS[transport],
        server_verification_cert=Path(ca_file).read_text() if ca_file else None,
    )
    return client.register().registration_state.assigned_hub
