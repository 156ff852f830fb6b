'use strict';
// The device of compose.yaml: registers with Microsoft's client, and sends one message to its hub.

const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const { Client, Message } = require('azure-iot-device');
const { Mqtt: HubMqtt } = require('azure-iot-device-mqtt');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Amqp, AmqpWs } = require('azure-iot-provisioning-device-amqp');
const { Http } = require('azure-iot-provisioning-device-http');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const { DPS_CA_FILE, DPS_ID_SCOPE, DPS_REGISTRATION_ID, DPS_KEY, DPS_GROUP_KEY } = process.env;
const { DPS_ENDPOINT = 'global.azure-devices-provisioning.net', DPS_TRANSPORT = 'auto' } = process.env;
const [host, port] = DPS_ENDPOINT.split(':');

// The client has no `auto`. A port is that of HTTPS then, as in `env` of the emulator.
const name = DPS_TRANSPORT !== 'auto' ? DPS_TRANSPORT : port ? 'https' : 'mqtt';
const transports = { https: Http, mqtt: Mqtt, 'mqtt-ws': MqttWs, amqp: Amqp, 'amqp-ws': AmqpWs };
const Transport = transports[name];
if (!Transport) throw new Error(`DPS_TRANSPORT is not one of auto, ${Object.keys(transports).join(', ')}`);
if (name === 'https') {
  // The client itself has no setting for them.
  const ca = DPS_CA_FILE && fs.readFileSync(DPS_CA_FILE);
  https.globalAgent = new https.Agent({ port: port ?? 443, ca });
} else if (name.endsWith('-ws') && (port ?? '443') !== '443') {
  throw new Error(`with DPS_TRANSPORT=${name} the client connects to port 443, not to ${DPS_ENDPOINT}`);
}
const endpoint = ['mqtt', 'amqp'].includes(name) ? DPS_ENDPOINT : host;

// The key of a device in a group follows from the key of the group.
const derive = (key) => crypto.createHmac('sha256', Buffer.from(key, 'base64')).update(DPS_REGISTRATION_ID);
const key = DPS_KEY ?? derive(DPS_GROUP_KEY).digest('base64');
const security = new SymmetricKeySecurityClient(DPS_REGISTRATION_ID, key);
const client = ProvisioningDeviceClient.create(endpoint, DPS_ID_SCOPE, new Transport(), security);

client.register((error, registered) => {
  if (error) throw error;
  const { deviceId, assignedHub } = registered;
  const address = `HostName=${assignedHub};DeviceId=${deviceId};SharedAccessKey=${key}`;
  const hub = Client.fromConnectionString(address, HubMqtt);
  hub.sendEvent(new Message('hello'), (error) => {
    if (error) throw error;
    console.log(`${deviceId} has sent a message to ${assignedHub}`);
    hub.close();
  });
});
