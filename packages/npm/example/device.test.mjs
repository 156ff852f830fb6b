import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { start } from 'azure-dps-emulator';

const run = promisify(execFile);
const HUB = 'emulator-hub-2.azure-devices.net';
const KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';

test('a device gets the hub of its enrollment', async (t) => {
  const attestation = { type: 'symmetricKey', symmetricKey: { primaryKey: KEY } };
  const enrollment = { registrationId: 'dev1', attestation, allocationPolicy: 'static', iotHubs: [HUB] };
  const dps = await start({ retryAfter: 0, seed: { enrollments: [enrollment] } });
  t.after(() => dps.stop());

  const device = { ...process.env, ...dps.env, DPS_REGISTRATION_ID: 'dev1', DPS_KEY: KEY };
  const mqtt = { DPS_TRANSPORT: 'mqtt', DPS_ENDPOINT: dps.endpoints.mqtt, NODE_EXTRA_CA_CERTS: dps.caFile };
  const cwd = new URL('.', import.meta.url);
  for (const env of [device, { ...device, ...mqtt }]) {
    const { stdout } = await run(process.execPath, ['device.js'], { cwd, env });
    assert.equal(stdout.trim(), HUB);
  }

  const [registration] = await (await fetch(`${dps.endpoints.manage}/registrations`)).json();
  assert.equal(registration.status, 'assigned');
});
