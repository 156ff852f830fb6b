"""The official service client of the first generation, which takes and returns models.

A request is { do, ... } as for service.py, but `connect` takes a { connectionString } only. Registration records are not
listed: the client's `create_registration_state_query` fails inside the client whatever the service answers.
"""

from driver import by_name, drive
from provisioningserviceclient import (
    BulkEnrollmentOperation,
    ProvisioningServiceClient,
    ProvisioningServiceError,
    QuerySpecification,
    models,
)

NAMES = {
    "IndividualEnrollment": "individual_enrollment",
    "EnrollmentGroup": "enrollment_group",
    "DeviceRegistrationState": "registration_state",
}


def connect(connectionString):
    global client
    client = ProvisioningServiceClient.create_from_connection_string(connectionString)


def put(kind, id, record):
    return to_json(client.create_or_update(to_model(kind, record)))


def get(kind, id):
    return to_json(getattr(client, f"get_{NAMES[kind]}")(id))


def attestation(kind, id):
    return to_json(getattr(client, f"get_{NAMES[kind]}_attestation_mechanism")(id))


def delete(kind, id, etag=None, record=None):
    if record:
        client.delete(to_model(kind, record))
    else:
        getattr(client, f"delete_{NAMES[kind]}_by_param")(id, etag)


def bulk(kind, operation):
    enrollments = [to_model(kind, record) for record in operation["enrollments"]]
    return to_json(client.run_bulk_operation(BulkEnrollmentOperation(operation["mode"], enrollments)))


def pages(kind, query, size=None, token=None, most=None):
    """Reads as many pages as there are, or `most`, and returns the token of the next one."""
    query = getattr(client, f"create_{NAMES[kind]}_query")(QuerySpecification(query["query"]), size)
    read = [query.next(token)]
    while query.has_next and len(read) != most:
        read.append(query.next())
    return {"pages": [[to_json(item) for item in page] for page in read], "token": query.continuation_token}


def to_model(kind, record):
    twin = record.pop("initialTwin", None)
    model = getattr(models, kind).from_dict(record)
    if twin:
        model.initial_twin = models.InitialTwin.create(twin["tags"], twin["properties"]["desired"])
    return model


def to_json(model):
    # The client wraps a twin, which its own serializer does not know.
    twin = getattr(model, "initial_twin", None)
    if twin:
        model.initial_twin = None
    described = model.serialize(keep_readonly=True)
    if twin:
        described["initialTwin"] = {"tags": twin.tags, "properties": {"desired": twin.desired_properties}}
    return described


def describe(error):
    described = {"name": type(error).__name__, "message": str(error), "status": None, "body": None}
    if isinstance(error, ProvisioningServiceError):
        response = error.cause.response
        described |= {"status": response.status_code, "body": response.json()}
    return described


drive("azure-iothub-provisioningserviceclient", by_name(connect, put, get, attestation, delete, bulk, pages), describe)
