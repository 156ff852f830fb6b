'use strict';
// Leads port 443 of localhost to the port of the emulator, below the official clients, which cannot be told a port.
// Nothing else about them is changed: name check, trust, requests and waits are their own.

const net = require('net');
const tls = require('tls');

const port = Number(process.env.DPS_INTEROP_PORT);
if (!Number.isInteger(port) || port < 1) throw new Error('DPS_INTEROP_PORT is not a port');

for (const layer of [net, tls]) {
  const connect = layer.connect;
  layer.connect = function (options, ...rest) {
    const ours = options?.host === 'localhost' && Number(options.port) === 443;
    return connect.call(this, ours ? { ...options, port } : options, ...rest);
  };
}
