'use strict';
// A device that registers with the official client. Its settings are environment variables.

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Amqp, AmqpWs } = require('azure-iot-provisioning-device-amqp');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

// The client has no `auto`: here it means MQTT.
const transports = { auto: Mqtt, https: Http, mqtt: Mqtt, 'mqtt-ws': MqttWs, amqp: Amqp, 'amqp-ws': AmqpWs };

const { DPS_ID_SCOPE, DPS_REGISTRATION_ID, DPS_KEY } = process.env;
const { DPS_ENDPOINT = 'global.azure-devices-provisioning.net', DPS_TRANSPORT = 'auto' } = process.env;
const Transport = transports[DPS_TRANSPORT];
if (!Transport) throw new Error(`DPS_TRANSPORT is not one of ${Object.keys(transports).join(', ')}`);
const security = new SymmetricKeySecurityClient(DPS_REGISTRATION_ID, DPS_KEY);
const client = ProvisioningDeviceClient.create(DPS_ENDPOINT, DPS_ID_SCOPE, new Transport(), security);

client.register((error, result) => {
  if (error) throw error;
  console.log(result.assignedHub);
});
