"""A device that registers over MQTT, with the official client."""

from azure.iot.device import ProvisioningDeviceClient


def register(id_scope, registration_id, key, ca):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host="localhost",
        registration_id=registration_id,
        id_scope=id_scope,
        symmetric_key=key,
        server_verification_cert=ca,
    )
    return client.register().registration_state.assigned_hub
