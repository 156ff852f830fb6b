#!/usr/bin/env node
'use strict';
// The command azure-dps-emulator: runs the program with the same arguments, and ends it with this process.

const { spawn } = require('node:child_process');
const { findProgram } = require('./program.js');

const FLAG = '--until-stdin-closes';

const args = process.argv.slice(2);
// Everything but a subcommand serves until it is ended.
const serves = args.length === 0 || args[0].startsWith('-');
const tied = serves && !args.includes(FLAG);

let child;
try {
  child = spawn(findProgram(), tied ? [FLAG, ...args] : args, {
    stdio: [tied ? 'pipe' : 'inherit', 'inherit', 'inherit'],
  });
} catch (error) {
  fail(error.message);
}
child.on('error', (error) => fail(error.message));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK']) process.on(signal, () => pass(signal));
child.on('exit', (code, signal) => {
  if (!signal) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});

function pass(signal) {
  // There kill() ends a process at once. The program gets Ctrl-C from the console itself.
  const kills = process.platform === 'win32';
  // A closed terminal ends the program as the end of this process does.
  if (tied && (kills || signal === 'SIGHUP')) child.stdin.end();
  else if (!kills) child.kill(signal);
}

function fail(message) {
  console.error(`azure-dps-emulator: ${message}`);
  process.exit(1);
}
