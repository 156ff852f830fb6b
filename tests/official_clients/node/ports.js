'use strict';
// Maps the well-known ports of localhost to those of the emulator, below the official clients, which do not take
// a port.
// Nothing else about them is changed: name check, trust, requests and waits are their own.

const net = require('net');
const tls = require('tls');

const ports = {
  443: port('DPS_INTEROP_PORT'),
  5671: port('DPS_INTEROP_AMQP_PORT'),
  8883: port('DPS_INTEROP_MQTT_PORT'),
};

for (const layer of [net, tls]) {
  const connect = layer.connect;
  // The AMQP library passes port and host one by one, and again among the options behind them.
  layer.connect = function (...targets) {
    return connect.apply(this, targets.map((target) => {
      const ours = target?.host === 'localhost' ? ports[target.port] : undefined;
      return ours ? { ...target, port: ours } : target;
    }));
  };
}

function port(name) {
  const value = Number(process.env[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} is not a port`);
  return value;
}
