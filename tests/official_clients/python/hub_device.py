"""The official device client at its hub, over MQTT, and MQTT in a WebSocket.

A request is { do, ... }. `register` takes what `provision` takes, and `connect` the hub and the credential.
The device answers each call of the method `echo` with the payload of the call.
"""

import queue
import tempfile

import provision
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse
from driver import by_name, drive


def register(**request):
    return provision.register(request)


def connect(transport, hub, deviceId, key=None, token=None, chain=None, privateKey=None):
    global client, changes, messages, lost_connections
    changes, messages, lost_connections = queue.Queue(), queue.Queue(), queue.Queue()
    common = {
        "server_verification_cert": provision.CA,
        "websockets": transport == "mqtt-ws",
        # With its own policy the client would hide a lost connection.
        "connection_retry": False,
        "auto_connect": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        if token:
            client = IoTHubDeviceClient.create_from_sastoken(token, **common)
        elif key:
            client = IoTHubDeviceClient.create_from_symmetric_key(key, hub, deviceId, **common)
        else:
            x509 = provision.certificate(folder, chain, privateKey)
            client = IoTHubDeviceClient.create_from_x509_certificate(x509, hub, deviceId, **common)
        client.connect()
    client.on_connection_state_change = state_changed


def state_changed():
    if not client.connected:
        lost_connections.put("")


def start():
    """Reads the twin and listens to all that the hub sends."""
    client.on_method_request_received = answer
    client.on_message_received = lambda message: messages.put(
        {"body": message.data.decode(), "properties": sorted(message.custom_properties.items())}
    )
    client.on_twin_desired_properties_patch_received = changes.put
    return client.get_twin()


def answer(call):
    client.send_method_response(MethodResponse.create_from_method_request(call, 200, call.payload))


def report(patch):
    client.patch_twin_reported_properties(patch)


def send(body, properties):
    message = Message(body, content_encoding="utf-8", content_type="application/json")
    message.custom_properties.update(properties)
    client.send_message(message)


def desired():
    return changes.get()


def message():
    return messages.get()


def lost():
    return lost_connections.get()


def close():
    client.shutdown()


drive(
    "azure-iot-device",
    by_name(register, connect, start, report, send, desired, message, lost, close),
    provision.causes,
)
