'use strict';
// A device of the service `device` in compose.yaml: registers once with Microsoft's client, and prints its ID
// and its hub.

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Amqp } = require('azure-iot-provisioning-device-amqp');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const { DPS_ENDPOINT, DPS_ID_SCOPE, DPS_REGISTRATION_ID, DPS_KEY, DPS_TRANSPORT } = process.env;
const Transport = { https: Http, mqtt: Mqtt, amqp: Amqp }[DPS_TRANSPORT];
const credential = new SymmetricKeySecurityClient(DPS_REGISTRATION_ID, DPS_KEY);
const client = ProvisioningDeviceClient.create(DPS_ENDPOINT, DPS_ID_SCOPE, new Transport(), credential);

client.register((error, registered) => {
  if (error) throw error;
  console.log(`${registered.deviceId} is assigned to ${registered.assignedHub}`);
});
