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
  if (platform !== 'linux') return `${platform}-${arch}`;
  return `${platform}-${arch}-${process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl'}`;
}

module.exports = { findProgram };
