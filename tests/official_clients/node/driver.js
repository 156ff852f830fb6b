'use strict';
// What the drivers have in common: they read one JSON request from each line of stdin and write one JSON outcome to
// each line of stdout. Secrets come in by stdin, because a command line is public.

require('./ports');

const readline = require('readline');

// Announces the client and answers requests until stdin ends. `carryOut` takes a request and a callback
// (error, result).
module.exports = async function drive(client, carryOut) {
  const { name, version } = require(`${client}/package.json`);
  write({ client: `${name} ${version}` });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    write(await outcome(carryOut, JSON.parse(line)));
  }
};

function outcome(carryOut, request) {
  return new Promise((resolve) => {
    const settle = (error, result) => resolve(error ? { error: describe(error) } : { result: result ?? null });
    try {
      carryOut(request, settle);
    } catch (error) {
      settle(error);
    }
  });
}

function describe(error) {
  return {
    name: error.name,
    message: error.message,
    condition: error.condition ?? null,
    status: error.response?.statusCode ?? null,
    body: parse(error.responseBody),
    result: error.result ?? null,
  };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text ?? null;
  }
}

function write(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
