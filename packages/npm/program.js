'use strict';
// Finds the program, which is in a package of its own for each platform.

const { optionalDependencies = {} } = require('./package.json');

const NAME = 'azure-dps-emulator';

/** The path of the program for this machine. Throws an error that says what to do if there is none. */
function findProgram() {
  const platform = thisPlatform();
  const name = `${NAME}-${platform}`;
  try {
    return require.resolve(`${name}/bin/${NAME}${process.platform === 'win32' ? '.exe' : ''}`);
  } catch {
    throw new Error(name in optionalDependencies ? missing(name) : unsupported(platform));
  }
}

function missing(name) {
  return `the package ${name}, which has the program for this machine, is not installed; install ${NAME} ` +
    'again on this machine, with optional dependencies (not with --omit=optional, and not as a copy of ' +
    'node_modules from another system)';
}

function unsupported(platform) {
  const known = Object.keys(optionalDependencies).map((name) => name.slice(NAME.length + 1));
  return `there is no ${NAME} for ${platform}, only for ${known.join(', ')}; build the program from its ` +
    'sources, and pass its path to start() as the option `program`';
}

function thisPlatform() {
  const { platform, arch } = process;
  return platform === 'linux' ? `${platform}-${arch}-${(libc ??= thisLibc())}` : `${platform}-${arch}`;
}

let libc;

function thisLibc() {
  const { report } = process;
  const before = report.excludeNetwork;
  // Otherwise the report looks up the names of all connected peers.
  report.excludeNetwork = true;
  try {
    return report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl';
  } finally {
    report.excludeNetwork = before;
  }
}

module.exports = { findProgram };
