'use strict';
// The official device client with the official package for TPMs, on the TPM at DPS_INTEROP_TPM_PORT. A request is
// { do, ... }: `keys`, `register` with { transport, idScope, registrationId? }, or `sign` with { text }.

const net = require('net');
const drive = require('./driver');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Amqp, AmqpWs } = require('azure-iot-provisioning-device-amqp');
const { TpmSecurityClient } = require('azure-iot-security-tpm');
const { Tpm } = require('tss.js');

const TRANSPORTS = { http: Http, amqp: Amqp, 'amqp-ws': AmqpWs };

// Takes the place of the device file, the only TPM that the package knows besides Microsoft's simulator: raw commands,
// one connection for each.
class SocketDevice {
  connect(continuation) {
    setImmediate(continuation, null);
    return null;
  }

  dispatchCommand(command, continuation) {
    const chunks = [];
    const socket = net.connect(Number(process.env.DPS_INTEROP_TPM_PORT), '127.0.0.1', () => socket.write(command));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', (error) => continuation(error, null));
    socket.on('end', () => continuation(null, Buffer.concat(chunks)));
  }

  close() {}
}

const tpm = new Tpm(false);
tpm.device = new SocketDevice();
let security = new TpmSecurityClient(undefined, tpm);

const handlers = {
  keys(request, callback) {
    security.getEndorsementKey((error, key) => {
      if (error) return callback(error);
      return security.getRegistrationId((problem, registrationId) => {
        callback(problem, { endorsementKey: key.toString('base64'), registrationId });
      });
    });
  },

  register({ transport, idScope, registrationId }, callback) {
    if (registrationId !== undefined) security = new TpmSecurityClient(registrationId, tpm);
    ProvisioningDeviceClient.create('localhost', idScope, new TRANSPORTS[transport](), security).register(callback);
  },

  sign({ text }, callback) {
    security.signWithIdentity(Buffer.from(text), (error, signature) => callback(error, signature?.toString('base64')));
  },
};

drive('azure-iot-security-tpm', (request, callback) => handlers[request.do](request, callback));
