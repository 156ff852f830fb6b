'use strict';
// The official device client. A request is { transport, idScope, registrationId, key or groupKey, payload? }; its
// outcome is that of one registration.

const crypto = require('crypto');
const drive = require('./driver');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

drive('azure-iot-provisioning-device', ({ transport, idScope, registrationId, key, groupKey, payload }, callback) => {
  const deviceKey = key ?? derive(groupKey, registrationId);
  const security = new SymmetricKeySecurityClient(registrationId, deviceKey);
  const client = ProvisioningDeviceClient.create('localhost', idScope, transport === 'mqtt' ? new Mqtt() : new Http(), security);
  if (payload !== undefined) client.setProvisioningPayload(payload);
  client.register(callback);
});

// The client leaves this to its user.
function derive(groupKey, registrationId) {
  return crypto.createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId).digest('base64');
}
