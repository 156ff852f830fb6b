"""The official service client.

A request is { do, ... }. The first one is `connect`, with { connectionString }, or { endpoint } and either a { token }
of Entra ID or { policy, key } to make a SAS token of. A kind is the name of a model, an id that of a record.
"""

import time

from azure.core.credentials import AccessToken, AzureSasCredential
from azure.core.exceptions import HttpResponseError
from azure.iot.deviceprovisioning import DeviceProvisioningClient, generate_sas_token
from driver import by_name, drive


class StaticCredential:
    def __init__(self, token):
        self.token = token

    def get_token(self, *scopes, **options):
        return AccessToken(self.token, int(time.time()) + 3600)


OPERATIONS = {}


def connect(connectionString=None, endpoint=None, token=None, policy=None, key=None):
    if connectionString:
        client = DeviceProvisioningClient.from_connection_string(connectionString)
    elif token:
        client = DeviceProvisioningClient(endpoint, StaticCredential(token))
    else:
        credential = AzureSasCredential(generate_sas_token(endpoint, policy, key))
        client = DeviceProvisioningClient(endpoint, credential)
    OPERATIONS["IndividualEnrollment"] = client.enrollment
    OPERATIONS["EnrollmentGroup"] = client.enrollment_group
    OPERATIONS["DeviceRegistrationState"] = client.device_registration_state


def put(kind, id, record):
    # The client knows no models, so it does not take the etag out of one.
    return OPERATIONS[kind].create_or_update(id, record, if_match=record.get("etag"))


def get(kind, id):
    return OPERATIONS[kind].get(id)


def attestation(kind, id):
    return OPERATIONS[kind].get_attestation_mechanism(id)


def delete(kind, id, etag=None, record=None):
    if record:
        etag = record["etag"]
    OPERATIONS[kind].delete(id, if_match=etag)


def bulk(kind, operation):
    return OPERATIONS[kind].run_bulk_operation(operation)


def pages(kind, query, group=None, size=None, token=None, most=None):
    """Reads as many pages as there are, or `most`, and returns the token of the next one."""
    items = OPERATIONS[kind].query(group or query, top=size)
    pager = items.by_page(continuation_token=token)
    read = []
    for page in pager:
        read.append(list(page))
        if len(read) == most:
            break
    return {"pages": read, "token": pager.continuation_token}


def describe(error):
    described = {"name": type(error).__name__, "message": str(error), "status": None, "body": None}
    if isinstance(error, HttpResponseError) and error.response is not None:
        described |= {"status": error.status_code, "body": error.response.json()}
    return described


drive("azure-iot-deviceprovisioning", by_name(connect, put, get, attestation, delete, bulk, pages), describe)
