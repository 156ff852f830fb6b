'use strict';
// The official service client. A request is { do, ... }. The first one is `connect`, with { connectionString }, or
// { endpoint, token } for a token of Entra ID. A kind is the name of a model, an id that of a record.

const drive = require('./driver');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

let client;

const handlers = {
  connect({ connectionString, endpoint, token }, callback) {
    client = token
      ? ProvisioningServiceClient.fromTokenCredential(endpoint, staticCredential(token))
      : ProvisioningServiceClient.fromConnectionString(connectionString);
    callback();
  },

  put({ kind, record }, callback) {
    client[`createOrUpdate${kind}`](record, callback);
  },

  get({ kind, id }, callback) {
    client[`get${kind}`](id, callback);
  },

  attestation({ kind, id }, callback) {
    client[`get${kind}AttestationMechanism`](id, callback);
  },

  delete({ kind, id, etag, record }, callback) {
    if (etag) client[`delete${kind}`](id, etag, callback);
    else client[`delete${kind}`](record ?? id, callback);
  },

  // The promise that this method returns without a callback never settles.
  bulk({ operation }, callback) {
    client.runBulkEnrollmentOperation(operation, callback);
  },

  // Reads as many pages as there are, or `most`, and returns the token of the next one.
  pages({ kind, query, group, size, token, most }, callback) {
    const listing = group
      ? client.createEnrollmentGroupDeviceRegistrationStateQuery(query, group, size)
      : client[`create${kind}Query`](query, size);
    const pages = [];
    const take = (error, page) => {
      if (error) return callback(error);
      pages.push(page);
      if (listing.hasMoreResults && pages.length !== most) return listing.next(take);
      return callback(null, { pages, token: listing.continuationToken ?? null });
    };
    // With a callback `next` continues by itself; the promise form would read the first page again and again.
    if (token) listing.next(token, take);
    else listing.next(take);
  },
};

function staticCredential(token) {
  return { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3600_000 }) };
}

drive('azure-iot-provisioning-service', (request, callback) => handlers[request.do](request, callback));
