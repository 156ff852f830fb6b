'use strict';
// The official service client. The first request is { connectionString } and makes the client; each further one is
// { call, with }, a method and its arguments without the callback.

const drive = require('./driver');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

let client;

drive('azure-iot-provisioning-service', (request, callback) => {
  if (request.connectionString !== undefined) {
    client = ProvisioningServiceClient.fromConnectionString(request.connectionString);
    callback();
  } else {
    client[request.call](...request.with, callback);
  }
});
