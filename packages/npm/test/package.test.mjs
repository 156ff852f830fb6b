// The installed package: run it in a folder where it is installed.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { start } from 'azure-dps-emulator';

const require = createRequire(import.meta.url);
const run = promisify(execFile);
const home = path.dirname(require.resolve('azure-dps-emulator'));
const bin = path.join(home, 'bin.js');
const limit = { timeout: 60_000 };
// A folder that no other program writes to.
process.env.TMPDIR = fs.mkdtempSync(path.join(os.tmpdir(), 'package-test-'));
after(() => fs.rmSync(process.env.TMPDIR, { recursive: true }));
const onUnix = { ...limit, skip: process.platform === 'win32' };
const onLinux = { ...limit, skip: process.platform !== 'linux' };

test('CommonJS and ESM have the same start', limit, () => {
  assert.equal(require('azure-dps-emulator').start, start);
});

test('several emulators run at once, and stop waits for the end of one', limit, async (t) => {
  const all = await Promise.all([1, 2, 3, 4].map((number) => start({ idScope: `0ne0000000${number}` })));
  t.after(() => Promise.all(all.map((dps) => dps.stop())));

  assert.deepEqual(all.map((dps) => dps.idScope), [1, 2, 3, 4].map((number) => `0ne0000000${number}`));
  for (const dps of all) assert.equal(await health(dps), 'ok');
  await all[0].stop();
  assert.throws(() => process.kill(all[0].pid, 0), { code: 'ESRCH' });
  assert.ok(!fs.existsSync(all[0].caFile));
  assert.deepEqual(await all[0].exited, { code: 0, signal: null });
  await all[0].stop();
  for (const dps of all.slice(1)) assert.equal(await health(dps), 'ok');
});

test('the members are those of the ready line, and env has the variables of clients', limit, async (t) => {
  const dps = await start({ hub: ['a.example,weight=2', 'b.example'], policy: 'p,rights=EnrollmentRead' });
  t.after(() => dps.stop());

  assert.deepEqual(dps.hubs, ['a.example', 'b.example']);
  assert.deepEqual(Object.keys(dps.hubConnectionStrings), dps.hubs);
  assert.deepEqual(Object.keys(dps.policyConnectionStrings).sort(), ['p', 'provisioningserviceowner']);
  assert.match(dps.endpoints.amqp, /^localhost:\d+$/);
  assert.ok(fs.readFileSync(dps.caFile, 'utf8').startsWith('-----BEGIN CERTIFICATE-----'));
  assert.deepEqual(dps.env, {
    DPS_CONNECTION_STRING: dps.serviceConnectionString,
    DPS_ENDPOINT: dps.endpoints.https,
    DPS_ID_SCOPE: '0ne00EMU1A7',
    DPS_CA_FILE: dps.caFile,
  });
});

test('a seed is a file or the value itself, which no file keeps', limit, async (t) => {
  const seed = { enrollments: [{ registrationId: 'dev1', attestation: { type: 'symmetricKey' } }] };
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'seed-test-')), 'seed.json');
  fs.writeFileSync(file, JSON.stringify(seed));
  const before = seedFolders();
  for (const given of [seed, file]) {
    const dps = await start({ seed: given });
    t.after(() => dps.stop());
    const { enrollments } = await (await fetch(`${dps.endpoints.manage}/enrollments`)).json();
    assert.equal(enrollments[0].registrationId, 'dev1');
  }
  assert.deepEqual(seedFolders().filter((folder) => !before.includes(folder)), []);
  fs.rmSync(path.dirname(file), { recursive: true });
});

test('a seed that cannot be written leaves nothing behind', limit, async (t) => {
  const before = seedFolders();
  const cycle = {};
  cycle.enrollments = [cycle];
  await assert.rejects(start({ seed: cycle }), /circular/);
  await assert.rejects(start({ seed: { enrollments: [1n] } }), /BigInt/);
  t.mock.method(fs.promises, 'writeFile', () => Promise.reject(new Error('the disk is full')));
  await assert.rejects(start({ seed: {} }), /the disk is full/);
  assert.deepEqual(seedFolders(), before);
});

test('a start that fails rejects with the line of the program', limit, async (t) => {
  const taken = net.createServer().listen(0, '127.0.0.1');
  t.after(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address();
  for (const [options, wanted] of [
    [{ httpsPort: port }, `azure-dps-emulator: --https-port: cannot listen on 127.0.0.1:${port} for HTTPS: `],
    [{ seed: '/nowhere/seed.json' }, 'azure-dps-emulator: --seed /nowhere/seed.json: '],
    [{ colour: 'red' }, "azure-dps-emulator: error: unexpected argument '--colour' found"],
    [{ seed: { enrolments: [] } }, 'the seed cannot be used: '],
    [{ program: '/nowhere/emulator' }, '/nowhere/emulator cannot be started: '],
    [{ manageToken: '' }, 'the token of the management port has 0 characters'],
    [{ policy: ['a,rights=EnrollmentRead', ''] }, "invalid value for '--policy': policy ``: "],
  ]) {
    const error = await start(options).then(() => assert.fail('started'), (reason) => reason);
    assert.ok(error.message.includes(wanted) && !error.message.includes('Usage'), error.message);
  }
});

test('a program that is never ready is ended at the deadline', onUnix, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'never-ready-'));
  const [program, note] = ['program', 'pid'].map((name) => path.join(folder, name));
  fs.writeFileSync(program, `#!/bin/sh\necho $$ > ${note}\nexec cat\n`, { mode: 0o755 });

  await assert.rejects(start({ program, startTimeout: 5_000 }), /was not ready within 5000 ms/);

  const pid = Number(fs.readFileSync(note, 'utf8'));
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  fs.rmSync(folder, { recursive: true });
});

test('stop rejects with the line of the program if the state cannot be saved', onUnix, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gone-'));
  const dps = await start({ data: path.join(folder, 'state.json') });
  fs.rmSync(folder, { recursive: true });

  await assert.rejects(dps.stop(), /^Error: azure-dps-emulator: .*state\.json/);
  await assert.rejects(dps.stop(), /state\.json/);
});

test('stop rejects if the emulator ended badly before', onUnix, async () => {
  const dps = await start();
  process.kill(dps.pid, 'SIGKILL');
  assert.deepEqual(await ended(dps), { code: null, signal: 'SIGKILL' });
  await assert.rejects(dps.stop(), /^Error: azure-dps-emulator ended with SIGKILL$/);

  const other = await start();
  process.kill(other.pid, 'SIGTERM');
  assert.deepEqual(await ended(other), { code: 0, signal: null });
  await other.stop();
});

test('stop kills a program that does not end in time, and says what is lost', onUnix, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'never-ends-'));
  const program = path.join(folder, 'program');
  const ready = JSON.stringify({ event: 'ready', endpoints: {} });
  fs.writeFileSync(program, `#!/bin/sh\ntrap '' TERM\necho '${ready}'\nexec sleep 60\n`, { mode: 0o755 });
  for (const [options, wanted] of [
    [{}, /did not end within 200 ms and was killed$/],
    [{ data: 'state.json' }, /within 200 ms and was killed, and its state was not saved: .*`stopTimeout`/],
  ]) {
    const dps = await start({ program, stopTimeout: 200, ...options });
    await assert.rejects(dps.stop(), wanted);
  }
  fs.writeFileSync(program, `#!/bin/sh\necho '${ready}'\nexec sleep 60\n`);
  const dps = await start({ program });
  await assert.rejects(dps.stop(), /ended with SIGTERM/);
  fs.rmSync(folder, { recursive: true });
});

test('a state that a variable names has the time to be saved too', onUnix, async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'variable-'));
  const [program, data] = ['program', 'state.json'].map((name) => path.join(folder, name));
  const ready = JSON.stringify({ event: 'ready', endpoints: {} });
  fs.writeFileSync(program, `#!/bin/sh\ntrap '' TERM\necho '${ready}'\nexec sleep 60\n`, { mode: 0o755 });
  variable(t, 'DPS_EMULATOR_DATA', data);
  await assert.rejects((await start({ program, stopTimeout: 200 })).stop(), /and its state was not saved/);
  variable(t, 'DPS_EMULATOR_DATA', '');
  await assert.rejects((await start({ program, stopTimeout: 200 })).stop(), /and was killed$/);
  fs.rmSync(folder, { recursive: true });
});

test('a variable of a flag counts until an option says otherwise, and false and [] do', limit, async (t) => {
  variable(t, 'DPS_EMULATOR_QUIET', 'true');
  variable(t, 'DPS_EMULATOR_HUB', 'variable.example');
  const own = ['emulator-hub-1.azure-devices.net', 'emulator-hub-2.azure-devices.net'];
  for (const [options, logs, hubs] of [
    [{}, false, ['variable.example']],
    [{ quiet: false, hub: [] }, true, own],
    [{ quiet: true, hub: 'option.example' }, false, ['option.example']],
  ]) {
    const dps = await start(options);
    await dps.stop();
    assert.deepEqual([dps.log.length > 0, dps.hubs], [logs, hubs], dps.log.join('\n'));
  }
});

test('the program for this machine is found once, without a look at the network', onLinux, async () => {
  const script = `
    const { start } = require('azure-dps-emulator');
    const { report } = process;
    const getReport = report.getReport.bind(report);
    const seen = [];
    report.getReport = () => { seen.push(report.excludeNetwork); return getReport(); };
    (async () => {
      for (let n = 0; n < 2; n += 1) await (await start()).stop();
      console.log(JSON.stringify(seen));
    })();`;
  const { stdout } = await run(process.execPath, ['--eval', script]);
  assert.equal(stdout, '[true]\n');
});

test('an option that is null is absent', limit, async (t) => {
  const dps = await start({ manageToken: null, policy: null, hub: null });
  t.after(() => dps.stop());
  assert.equal((await fetch(`${dps.endpoints.manage}/journal`)).status, 200);
});

test('keys and the token of management are not on the command line', onLinux, async (t) => {
  const manageToken = 'correct-horse-battery';
  const key = Buffer.alloc(32, 7).toString('base64');
  const policy = ['a,rights=EnrollmentRead', `b,rights=EnrollmentRead,primary=${key}`];
  const dps = await start({ manageToken, policy });
  t.after(() => dps.stop());

  const ask = (headers) => fetch(`${dps.endpoints.manage}/journal`, { headers });
  assert.equal((await ask({})).status, 401);
  assert.equal((await ask({ authorization: `Bearer ${manageToken}` })).status, 200);
  assert.deepEqual(Object.keys(dps.policyConnectionStrings).sort(), ['a', 'b', 'provisioningserviceowner']);
  assert.ok(dps.policyConnectionStrings.b.includes(key));
  const line = fs.readFileSync(`/proc/${dps.pid}/cmdline`, 'utf8');
  assert.ok(![manageToken, key].some((secret) => line.includes(secret)), line);
});

test('the log has the reason of a refusal, line by line', limit, async (t) => {
  const lines = [];
  const dps = await start({ onLog: (line) => lines.push(line), retryAfter: 0 });
  t.after(() => dps.stop());
  const https = require('node:https');
  const ca = fs.readFileSync(dps.caFile);
  const request = https.get(`https://${dps.endpoints.https}/enrollments/dev1?api-version=2021-10-01`, { ca });
  const [answer] = await once(request, 'response');
  answer.resume();
  assert.equal(answer.statusCode, 401);

  await dps.stop();

  assert.deepEqual(dps.log, lines);
  assert.equal(lines.filter((line) => line.includes('status=401')).length, 1, lines.join('\n'));
});

test('each flag of the program is an option', limit, async () => {
  const { stdout } = await run(process.execPath, [bin, '--help']);
  const flags = [...stdout.matchAll(/^ +(?:-\w, )?--([a-z-]+)/gm)].map(([, flag]) => flag);
  const types = fs.readFileSync(path.join(home, 'index.d.ts'), 'utf8');
  const options = types.slice(types.indexOf('interface Flags'), types.indexOf('interface Options'));
  const named = [...options.matchAll(/^ {2}(\w+)\?:/gm)]
    .map(([, name]) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`));

  // The package itself sets the last one.
  const others = ['help', 'version', 'until-stdin-closes'];
  assert.ok(flags.length > 30);
  assert.deepEqual(named.sort(), flags.filter((flag) => !others.includes(flag)).sort());
});

test('the emulator ends when its parent is killed', onUnix, async () => {
  const script = `
    const { start } = require('azure-dps-emulator');
    start().then((dps) => { console.log(JSON.stringify(dps)); setInterval(() => {}, 1000); });`;
  const { child, dps } = await parent(['--eval', script]);
  assert.equal(await health(dps), 'ok');

  child.kill('SIGKILL');

  await closed(dps);
});

test('a parent that forgets to stop the emulator ends, and the emulator too', limit, async () => {
  const script = `
    const { start } = require('azure-dps-emulator');
    start().then((dps) => console.log(JSON.stringify(dps)));`;
  const { child, dps } = await parent(['--eval', script]);

  if (child.exitCode === null) await once(child, 'exit');

  assert.equal(child.exitCode, 0);
  await closed(dps);
});

test('the command runs the program, and ends it when it is ended or killed', limit, async () => {
  const { version } = require('azure-dps-emulator/package.json');
  assert.equal((await run(process.execPath, [bin, '--version'])).stdout, `azure-dps-emulator ${version}\n`);
  const failed = await run(process.execPath, [bin, '--colour']).catch((error) => error);
  assert.equal(failed.code, 2);
  for (const signal of process.platform === 'win32' ? ['SIGKILL'] : ['SIGTERM', 'SIGHUP', 'SIGKILL']) {
    const { child, dps } = await parent([bin, '--id-scope=0ne00ABCDEF']);
    assert.equal(dps.idScope, '0ne00ABCDEF');
    child.kill(signal);
    // The emulator deletes its file only if it ends well.
    await closed(dps);
  }
});

test('the device of the sample derives its key from the key of its group', limit, async (t) => {
  const key = Buffer.alloc(64, 7).toString('base64');
  const attestation = { type: 'symmetricKey', symmetricKey: { primaryKey: key } };
  const group = { enrollmentGroupId: 'group', attestation };
  const dps = await start({ retryAfter: 0, seed: { enrollmentGroups: [group] } });
  t.after(() => dps.stop());
  const env = { ...process.env, ...dps.env, DPS_REGISTRATION_ID: 'dev1', DPS_GROUP_KEY: key };
  const cwd = new URL('../example', import.meta.url);
  const { stdout } = await run(process.execPath, ['device.js'], { cwd, env });
  assert.match(stdout, /^emulator-hub-\d\.azure-devices\.net\n$/);
});

test('on Windows Ctrl-C ends the command with its state saved', onUnix, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'windows-'));
  const [preload, data] = ['windows.cjs', 'state.json'].map((name) => path.join(folder, name));
  // There kill() ends a process at once, whatever the signal is.
  fs.writeFileSync(preload, `
    const program = require(${JSON.stringify(path.join(home, 'program.js'))});
    const found = program.findProgram();
    program.findProgram = () => found;
    const { ChildProcess } = require('node:child_process');
    const { kill } = ChildProcess.prototype;
    ChildProcess.prototype.kill = function () { return kill.call(this, 'SIGKILL'); };
    Object.defineProperty(process, 'platform', { value: 'win32' });`);
  const { child, dps } = await parent(['--require', preload, bin, '--quiet', '--data', data]);
  child.kill('SIGINT');
  const [code] = await once(child, 'exit');
  assert.deepEqual([code, fs.existsSync(data), fs.existsSync(dps.caFile)], [0, true, false]);
  fs.rmSync(folder, { recursive: true });
});

test('the notices beside the program name each crate whose files it names', limit, async () => {
  const program = require(path.join(home, 'program.js')).findProgram();
  const folder = path.dirname(path.dirname(program));
  const sources = /[/\\]registry[/\\]src[/\\][^/\\]+[/\\]([\w-]+?)-(\d[\w.+-]*)[/\\]/g;
  const crates = fs.readFileSync(program, 'latin1').matchAll(sources);
  const named = new Set([...crates].map(([, name, version]) => `\n${name} ${version}: `));
  const notices = fs.readFileSync(path.join(folder, 'THIRD-PARTY.txt'), 'utf8');
  assert.ok(named.size > 30, String(named.size));
  assert.deepEqual([...named].filter((line) => !notices.includes(line)), []);
  const authors = ['Isis Agora Lovecruft', 'Brian Smith', 'Rich Felker'];
  assert.ok(authors.every((author) => notices.includes(author)));
  const rust = fs.readFileSync(path.join(folder, 'THIRD-PARTY-RUST.html'), 'utf8');
  assert.ok(rust.includes('Copyright notices for The Rust Standard Library'));
});

test('a machine without a program gets one clear message', limit, async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'no-program-'));
  const copy = path.join(folder, 'azure-dps-emulator');
  fs.cpSync(home, copy, { recursive: true });
  const missing = await run(process.execPath, [path.join(copy, 'bin.js')]).catch((error) => error);
  assert.match(missing.stderr, /^azure-dps-emulator: the package \S+, which .* is not installed; install .*\n$/);
  const script = `
    Object.defineProperty(process, 'platform', { value: 'sunos' });
    require(${JSON.stringify(copy)}).start().catch((error) => console.log(error.message));`;
  const { stdout } = await run(process.execPath, ['--eval', script]);
  assert.match(stdout, /^there is no azure-dps-emulator for sunos-\S+, only for .*x64-gnu.*; build .*\n$/);
  fs.rmSync(folder, { recursive: true });
});

async function health(dps) {
  return (await (await fetch(`${dps.endpoints.manage}/health`)).json()).status;
}

/** A process that prints one line, with the members of an emulator. */
async function parent(args) {
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(child.stdout), 'line');
  return { child, dps: JSON.parse(line) };
}

/** Waits until the emulator has ended by itself: it listens no more, and has deleted its file. */
async function closed(dps) {
  for (;;) {
    const listens = await health(dps).then(() => true, () => false);
    if (!listens && !fs.existsSync(dps.caFile)) return;
    await sleep(20);
  }
}

/** Waits for the end of an emulator, which does not keep this process alive. */
async function ended(dps) {
  const timer = setInterval(() => {}, 1000);
  try {
    return await dps.exited;
  } finally {
    clearInterval(timer);
  }
}

/** Sets an environment variable for the rest of a test. */
function variable(t, name, value) {
  process.env[name] = value;
  t.after(() => { delete process.env[name]; });
}

function seedFolders() {
  return fs.readdirSync(os.tmpdir()).filter((name) => name.startsWith('azure-dps-emulator-seed-'));
}
