"""The official service client of a hub, for its REST API.

A request is { do, ... }. The first one is `connect`, with { connectionString }.
"""

import ports  # noqa: F401  leads the well-known ports to the emulator, below the client
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification
from driver import by_name, drive
from msrest.exceptions import HttpOperationError


def connect(connectionString):
    global registry
    registry = IoTHubRegistryManager.from_connection_string(connectionString)


def create(id, key):
    return shown(registry.create_device_with_sas(id, key, key, "enabled"))


def disable(id):
    device = registry.get_device(id)
    keys = device.authentication.symmetric_key
    return shown(
        registry.update_device_with_sas(
            id, device.etag, keys.primary_key, keys.secondary_key, "disabled"
        )
    )


def get(id):
    return shown(registry.get_device(id))


def list():
    return [shown(device) for device in registry.get_devices()]


def delete(id):
    registry.delete_device(id)


def modules(id):
    return [shown(module) for module in registry.get_modules(id)]


def twin(id):
    return shown(registry.get_twin(id))


def update_twin(id, patch, etag=None):
    return shown(registry.update_twin(id, patch, etag))


def replace_twin(id, twin):
    return shown(registry.replace_twin(id, twin))


def method(id, name, payload):
    call = CloudToDeviceMethod(
        method_name=name, payload=payload, connect_timeout_in_seconds=20, response_timeout_in_seconds=20
    )
    return shown(registry.invoke_device_method(id, call))


def query(size):
    """Reads page after page."""
    pages, token = [], None
    while True:
        page = registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices"), token, size)
        pages.append([shown(twin) for twin in page.items])
        token = page.continuation_token
        if not token:
            return pages


def shown(model):
    return model.serialize(keep_readonly=True)


def describe(error):
    described = {"name": type(error).__name__, "message": str(error), "status": None}
    if isinstance(error, HttpOperationError):
        described["status"] = error.response.status_code
    return described


drive(
    "azure-iot-hub",
    by_name(
        connect, create, disable, get, list, delete, modules, twin, update_twin, replace_twin, method, query
    ),
    describe,
)
