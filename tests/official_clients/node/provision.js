'use strict';
// Registers a device with the official client. A request is { transport, idScope, registrationId, payload? }
// and the credential: key, groupKey, or chain and privateKey as PEM.

const crypto = require('crypto');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Amqp, AmqpWs } = require('azure-iot-provisioning-device-amqp');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const TRANSPORTS = { http: Http, mqtt: Mqtt, 'mqtt-ws': MqttWs, amqp: Amqp, 'amqp-ws': AmqpWs };

module.exports = function register(request, callback) {
  const transport = new TRANSPORTS[request.transport]();
  const client = ProvisioningDeviceClient.create('localhost', request.idScope, transport, security(request));
  if (request.payload !== undefined) client.setProvisioningPayload(request.payload);
  client.register(callback);
};

function security({ registrationId, key, groupKey, chain, privateKey }) {
  if (chain !== undefined) return new X509Security(registrationId, { cert: chain, key: privateKey });
  return new SymmetricKeySecurityClient(registrationId, key ?? derive(groupKey, registrationId));
}

// The client leaves this to its user.
function derive(groupKey, registrationId) {
  return crypto.createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId).digest('base64');
}
