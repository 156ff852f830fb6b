'use strict';
// The device of compose.yaml: registers with Microsoft's client, and sends one message to its hub.

const { Client, Message } = require('azure-iot-device');
const { Mqtt: HubMqtt } = require('azure-iot-device-mqtt');
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
