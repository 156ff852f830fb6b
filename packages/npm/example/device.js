'use strict';
// A device that registers over MQTT, with the official client.

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const { DPS_ENDPOINT, DPS_ID_SCOPE, DPS_REGISTRATION_ID, DPS_KEY } = process.env;
const security = new SymmetricKeySecurityClient(DPS_REGISTRATION_ID, DPS_KEY);
const client = ProvisioningDeviceClient.create(DPS_ENDPOINT, DPS_ID_SCOPE, new Mqtt(), security);
client.register((error, result) => {
  if (error) throw error;
  console.log(result.assignedHub);
});
