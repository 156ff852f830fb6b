// Compiled by tsc, not run: what the types allow, and what they refuse.

import { start, type Emulator, type Options } from 'azure-dps-emulator';

const options: Options = {
  httpsPort: 0,
  hub: ['a.example', 'b.example'],
  policy: 'reader,rights=EnrollmentRead',
  allocation: 'static',
  loose: true,
  seed: { enrollments: [{ registrationId: 'dev1', attestation: { type: 'symmetricKey' } }] },
  onLog: (line) => line.length,
  startTimeout: 1000,
  stopTimeout: 1000,
};

export async function used(): Promise<string[]> {
  await using dps: Emulator = await start(options);
  const { code, signal } = await dps.exited;
  // @ts-expect-error The package sets this flag itself.
  await start({ untilStdinCloses: true });
  // @ts-expect-error No such policy.
  await start({ allocation: 'random' });
  // @ts-expect-error May be absent.
  dps.policyConnectionStrings.reader;
  return [dps.idScope, dps.endpoints.mqtt, dps.env.DPS_ENDPOINT, String(code ?? signal)];
}
