'use strict';
// The device of compose.yaml: registers with Microsoft's client, and sends one message to its hub.

const { Client, Message } = require('azure-iot-device');
const { Mqtt: HubMqtt } = require('azure-iot-device-mqtt');
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
  const { deviceId, assignedHub } = registered;
  const address = `HostName=${assignedHub};DeviceId=${deviceId};SharedAccessKey=${DPS_KEY}`;
  const hub = Client.fromConnectionString(address, HubMqtt);
  hub.sendEvent(new Message('hello'), (error) => {
    if (error) throw error;
    console.log(`${deviceId} has sent a message to ${assignedHub}`);
    hub.close();
  });
});
