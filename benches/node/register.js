'use strict';
// Registers devices with the official client, some at once, as one measured process. The job is the first argument, in
// JSON: { transport, count, width, idScope, groupKey, prefix }.

require('../../tests/official_clients/node/ports');

const crypto = require('crypto');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');

const job = JSON.parse(process.argv[2]);

// Each process loads one transport, as an application would.
const load = {
  http: () => require('azure-iot-provisioning-device-http').Http,
  mqtt: () => require('azure-iot-provisioning-device-mqtt').Mqtt,
  'mqtt-ws': () => require('azure-iot-provisioning-device-mqtt').MqttWs,
  amqp: () => require('azure-iot-provisioning-device-amqp').Amqp,
  'amqp-ws': () => require('azure-iot-provisioning-device-amqp').AmqpWs,
};
const Transport = load[job.transport]();

let next = 0;
let done = 0;
for (let started = 0; started < Math.min(job.width, job.count); started += 1) register();

function register() {
  if (next === job.count) return;
  const id = `${job.prefix}-${next}`;
  next += 1;
  const key = crypto.createHmac('sha256', Buffer.from(job.groupKey, 'base64')).update(id).digest('base64');
  const transport = new Transport();
  // Its default waits 2 s before each poll; the emulator asks for no wait.
  if (transport.setTransportOptions) transport.setTransportOptions({ pollingInterval: 1 });
  const security = new SymmetricKeySecurityClient(id, key);
  const client = ProvisioningDeviceClient.create('localhost', job.idScope, transport, security);
  client.register((error) => {
    if (error) {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    }
    done += 1;
    if (done === job.count) process.stdout.write(`${done}\n`, () => process.exit(0));
    else register();
  });
}
