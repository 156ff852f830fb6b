'use strict';
// Starts the emulator program, waits for its ready line, and ends it. index.d.ts describes what is exported.

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');
const { findProgram } = require('./program.js');

const NAME = 'azure-dps-emulator';
/** How many lines of the log are kept. */
const LOG_LINES = 500;
/** How long the program may take to end, in milliseconds, before it is killed. */
const STOP_TIMEOUT = 10_000;
/** The same while it saves its state, which may be large. */
const SAVE_TIMEOUT = 120_000;
/** The options that go to the program as variables. */
const SECRETS = ['manageToken', 'policy'];

async function start(options = {}) {
  const { program = findProgram(), startTimeout = 30_000, stopTimeout, onLog, seed, ...given } = options;
  const env = environment({ ...given, seed });
  // An empty variable counts as absent.
  const saves = Boolean(given.data ?? env.DPS_EMULATOR_DATA);
  const end = { saves, timeout: stopTimeout ?? (saves ? SAVE_TIMEOUT : STOP_TIMEOUT) };
  const inline = typeof seed === 'object' && seed !== null ? await writeSeed(seed) : undefined;
  try {
    const flags = toFlags({ ...given, seed: inline?.file ?? seed });
    return await ready(launch(program, flags, env, onLog), startTimeout, end);
  } finally {
    // The program has read the file before it is ready.
    if (inline) await remove(inline.folder);
  }
}

/**
 * Each option is the flag of that name: `{ httpsPort: 0, hub: ['a', 'b'], loose: true }`. A secret is a variable.
 * An empty secret is a flag, which the program refuses: an empty variable would count as absent.
 */
function toFlags(options) {
  return Object.entries(options).flatMap(([name, value]) => {
    const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const values = toList(value).filter((one) => !SECRETS.includes(name) || one === '');
    return values.map((one) => (one === true ? flag : `${flag}=${one}`));
  });
}

/**
 * The environment of the program: that of this process, with the options that other users of the machine must
 * not read. An option that is `false` or `[]` beats the variable of its flag, as every other option does.
 */
function environment(options) {
  const env = { ...process.env };
  for (const [name, value] of Object.entries(options)) {
    const variable = `DPS_EMULATOR_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`;
    const values = toList(value);
    if (SECRETS.includes(name) && values.length > 0) {
      // The variable of a flag that can be repeated separates its values so.
      env[variable] = values.join(';');
    } else if (isGiven(value) && values.length === 0) {
      env[variable] = '';
    }
  }
  return env;
}

/** The values of an option. */
function toList(value) {
  return [value].flat().filter((one) => isGiven(one) && one !== false);
}

function isGiven(value) {
  return value !== undefined && value !== null;
}

/** Writes a seed that is not in a file yet to one that only this user can read, since it may have keys. */
async function writeSeed(seed) {
  const text = JSON.stringify(seed);
  const folder = await fs.promises.mkdtemp(path.join(os.tmpdir(), `${NAME}-seed-`));
  const file = path.join(folder, 'seed.json');
  try {
    await fs.promises.writeFile(file, text);
  } catch (error) {
    await remove(folder);
    throw error;
  }
  return { folder, file };
}

async function remove(folder) {
  await fs.promises.rm(folder, { recursive: true, force: true });
}

/**
 * The running program. It ends when its standard input closes, which this process holds open: so it does not
 * outlive this process, however that ends.
 */
function launch(program, flags, env, onLog) {
  const child = spawn(program, ['--until-stdin-closes', ...flags], { env, stdio: 'pipe', windowsHide: true });
  const log = [];
  readline.createInterface({ input: child.stderr }).on('line', (line) => {
    log.push(line);
    if (log.length > LOG_LINES) log.shift();
    onLog?.(line);
  });
  // The program may have ended.
  child.stdin.on('error', () => {});
  const failed = new Promise((resolve) => child.once('error', resolve));
  const exited = new Promise((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  return { child, program, log, failed, exited };
}

async function ready(launched, startTimeout, end) {
  const { child, program, log, failed, exited } = launched;
  const lines = readline.createInterface({ input: child.stdout });
  const line = new Promise((resolve) => lines.once('line', resolve));
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, startTimeout); });
  try {
    return emulator(launched, await Promise.race([
      line.then((text) => parse(text)),
      failed.then((error) => { throw new Error(`${program} cannot be started: ${error.message}`); }),
      exited.then((end) => { throw new Error(whyEnded(log, end)); }),
      late.then(() => { throw new Error(`${NAME} was not ready within ${startTimeout} ms`); }),
    ]), end);
  } catch (error) {
    child.kill('SIGKILL');
    const runs = child.pid !== undefined && child.exitCode === null && child.signalCode === null;
    if (runs) await once(child, 'exit');
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function parse(line) {
  try {
    const { event, ...members } = JSON.parse(line);
    if (event === 'ready') return members;
  } catch {
    // Reported below.
  }
  throw new Error(`not the ready line of ${NAME}: ${line}`);
}

/** The line with which the program reports why it failed. */
function ownLine(log) {
  return log.filter((line) => line.startsWith(`${NAME}: `)).pop();
}

/** Why the program cannot start. */
function whyEnded(log, { code, signal }) {
  const own = ownLine(log);
  if (own) return own;
  // A flag that is not valid: what is wrong and a hint, without the usage below it.
  const text = log.join('\n');
  if (text.startsWith('error: ')) return `${NAME}: ${text.split(/\s*\n\s*\n(?:Usage|For more)/)[0]}`;
  return `${NAME} ended with ${signal ?? `status ${code}`} before it was ready: ${text}`;
}

function whyKilled(timeout, saves) {
  const lost = saves ? ', and its state was not saved: a larger `stopTimeout` gives it more time' : '';
  return `${NAME} did not end within ${timeout} ms and was killed${lost}`;
}

function emulator({ child, log, exited }, members, { saves, timeout }) {
  const held = [child, child.stdin, child.stdout, child.stderr];
  // A forgotten stop() does not keep this process alive.
  for (const one of held) one.unref();
  let stopped;
  const stop = () => (stopped ??= end());
  const end = async () => {
    for (const one of held) one.ref();
    child.stdin.end();
    // A process that was forked without exec may hold the standard input open too. On Windows, where none is,
    // this would kill the program.
    if (process.platform !== 'win32') child.kill('SIGTERM');
    let killed = false;
    const timer = setTimeout(() => { killed = child.kill('SIGKILL'); }, timeout);
    const { code, signal } = await exited;
    clearTimeout(timer);
    if (code === 0) return;
    if (killed) throw new Error(whyKilled(timeout, saves));
    // Such as a state that cannot be saved, or an end before this one.
    throw new Error(ownLine(log) ?? `${NAME} ended with ${signal ?? `status ${code}`}`);
  };
  return {
    ...members,
    env: {
      DPS_CONNECTION_STRING: members.serviceConnectionString,
      DPS_ENDPOINT: members.endpoints.https,
      DPS_ID_SCOPE: members.idScope,
      DPS_CA_FILE: members.caFile,
    },
    pid: child.pid,
    log,
    exited,
    stop,
    ...(Symbol.asyncDispose && { [Symbol.asyncDispose]: stop }),
  };
}

module.exports = { start };
