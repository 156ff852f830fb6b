'use strict';
// Maps the well-known ports of localhost and of the hub to those of the emulator, below the official clients,
// which do not take a port, and the name of the hub, which no server resolves, to localhost.
// Nothing else about them is changed: name check, trust, requests and waits are their own.

const dns = require('dns');
const net = require('net');
const tls = require('tls');

const ports = {
  443: port('DPS_INTEROP_PORT'),
  5671: port('DPS_INTEROP_AMQP_PORT'),
  8883: port('DPS_INTEROP_MQTT_PORT'),
};

const hub = process.env.DPS_INTEROP_HUB;

for (const layer of [net, tls]) {
  const connect = layer.connect;
  // The AMQP library passes port and host one by one, and again among the options behind them.
  layer.connect = function (...targets) {
    return connect.apply(this, targets.map((target) => {
      const ours = ['localhost', hub].includes(target?.host) ? ports[target.port] : undefined;
      return ours ? { ...target, port: ours, lookup } : target;
    }));
  };
}

function lookup(_name, ...rest) {
  dns.lookup('localhost', ...rest);
}

function port(name) {
  const value = Number(process.env[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} is not a port`);
  return value;
}
