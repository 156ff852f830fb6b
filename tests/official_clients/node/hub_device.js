'use strict';
// The official device client at its hub. A request is { do, ... }. `register` takes what `provision` takes,
// and `connect` the hub and the credential. The device answers each call of the method `echo` with the payload
// of the call.

const drive = require('./driver');
const Inbox = require('./inbox');
const register = require('./provision');
const { NoRetry } = require('azure-iot-common');
const { Client, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const TRANSPORTS = { mqtt: Mqtt, 'mqtt-ws': MqttWs };

let client, twin, desired, messages, lost;

const handlers = {
  register,

  connect({ transport, hub, deviceId, key, token, chain, privateKey }, callback) {
    const device = `HostName=${hub};DeviceId=${deviceId}`;
    if (token) client = Client.fromSharedAccessSignature(token, TRANSPORTS[transport]);
    else {
      const credential = key ? `SharedAccessKey=${key}` : 'x509=true';
      client = Client.fromConnectionString(`${device};${credential}`, TRANSPORTS[transport]);
    }
    // With its own policy the client would hide a lost connection.
    client.setRetryPolicy(new NoRetry());
    [desired, messages, lost] = [new Inbox(), new Inbox(), new Inbox()];
    client.on('disconnect', (result) => lost.put(String(result.transportObj ?? '')));
    if (key || token) return client.open(callback);
    return client.setOptions({ cert: chain, key: privateKey }, (error) => {
      if (error) callback(error);
      else client.open(callback);
    });
  },

  // Reads the twin and listens to all that the hub sends.
  start(_, callback) {
    client.onDeviceMethod('echo', (call, answer) => answer.send(200, call.payload, () => {}));
    client.on('message', (message) => {
      const properties = message.properties.propertyList.map(({ key, value }) => [key, value]);
      client.complete(message, () => messages.put({ body: message.data.toString(), properties }));
    });
    client.getTwin((error, found) => {
      if (error) return callback(error);
      twin = found;
      const { desired: wanted, reported } = twin.properties;
      const state = JSON.parse(JSON.stringify({ desired: wanted, reported }));
      // What the twin has already is the first change that the client reports.
      twin.on('properties.desired', (patch) => {
        if (patch.$version > state.desired.$version) desired.put({ ...patch });
      });
      return callback(null, state);
    });
  },

  report: ({ patch }, callback) => twin.properties.reported.update(patch, callback),

  send({ body, properties }, callback) {
    const message = new Message(body);
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    for (const [name, value] of Object.entries(properties)) message.properties.add(name, value);
    client.sendEvent(message, (error) => callback(error));
  },

  desired: (_, callback) => desired.take(callback),
  message: (_, callback) => messages.take(callback),
  lost: (_, callback) => lost.take(callback),
  close: (_, callback) => client.close((error) => callback(error)),
};

drive('azure-iot-device', (request, callback) => handlers[request.do](request, callback));
