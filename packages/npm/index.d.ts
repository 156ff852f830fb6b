/**
 * The flags of the program. `azure-dps-emulator --help` says more about each. Where there is no option, the
 * environment variable `DPS_EMULATOR_…` of the flag counts. `false` and an empty list are options too.
 */
export interface Flags {
  /** The address for HTTPS, MQTT and AMQP: an IP address, or `localhost`, the default. */
  host?: string;
  /** The port of HTTPS, and of MQTT and AMQP in WebSockets. By default any free port. */
  httpsPort?: number;
  /** The port of MQTT. By default any free port. */
  mqttPort?: number;
  /** The port of AMQP. By default any free port. */
  amqpPort?: number;
  /** DNS names under which clients reach the emulator. The first one is in the connection strings. */
  dnsName?: string | readonly string[];
  /** The address of the management API. Any other than a loopback address needs `manageToken`. */
  manageHost?: string;
  /** The port of the management API. By default any free port. */
  managePort?: number;
  /** The token that every management request but `GET /health` must carry. */
  manageToken?: string;
  /** Uses the ports 443, 8883 and 5671 where no other port is given. */
  standardPorts?: boolean;
  /** Keeps the certificate authority in this directory. Without it every start makes a new one. */
  caDir?: string;
  /** The ID scope that devices name. */
  idScope?: string;
  /** Links hubs: `NAME[,weight=N][,region=R][,named-only]`. Without it two hubs are linked. */
  hub?: string | readonly string[];
  /** The allocation policy for enrollments that have none. */
  allocation?: 'hashed' | 'static' | 'geoLatency';
  /** Latencies from devices to regions, for geoLatency: `DEVICES,REGION=MS[,REGION=MS...]`. */
  latencies?: string | readonly string[];
  /** The initial enrollments: a JSON file, or the value itself. */
  seed?: string | Seed;
  /** Keeps the state in this file, which `stop()` saves and the next start reads. It contains keys. */
  data?: string;
  /** Uploads CA certificates as verified: `NAME=FILE`. */
  caCertificate?: string | readonly string[];
  /** Admits devices of X.509 groups only if a verified CA certificate is at the end of their chain. */
  requireVerifiedCa?: boolean;
  /** Adds certificate policies: `NAMESPACE/CA/POLICY[,days=N][,keys=p384+p256+rsa][,root]`. */
  certificatePolicy?: string | readonly string[];
  /** The connectionProfile of assigned devices, such as `classic` or `mqttV5`. */
  connectionProfile?: string;
  /** Adds access policies: `NAME,rights=RIGHT[+RIGHT...][,primary=KEY][,secondary=KEY]`. */
  policy?: string | readonly string[];
  /** Assigns roles to principals of Microsoft Entra ID: `OBJECT_ID=reader` or `OBJECT_ID=contributor`. */
  entraRole?: string | readonly string[];
  /** The number of polls that are answered `assigning`. Without it the time to wait decides. */
  polls?: number;
  /** How long devices are asked to wait between polls, in seconds. The default is 3. */
  retryAfter?: number;
  /** The delay of every answer, in milliseconds. */
  latency?: number;
  /** Answers 429 beyond the documented quotas. */
  quotas?: boolean;
  /** By how many seconds the Retry-After of 429 answers may differ. Needs `quotas`. */
  retrySpread?: number;
  /** Accepts requests with members that no api-version has. */
  loose?: boolean;
  /** Where MQTT and AMQP refuse a wrong credential. */
  refuseAt?: 'register' | 'connect';
  /** Resets a device whose enrollment says so on its current hub too. */
  resetInPlace?: boolean;
  /** Lists enrollments and registration records in ascending order of their IDs. */
  listById?: boolean;
  /** The time limit of a custom allocation webhook, in seconds. The default is 10. */
  webhookTimeout?: number;
  /** A PEM file with authorities to trust for webhooks. */
  webhookCa?: string;
  /** Whether an update without keys keeps the keys of an enrollment or generates new ones. */
  onKeylessUpdate?: 'keep' | 'regenerate';
  /** Logs only warnings and errors of the emulator itself, and no refused requests. */
  quiet?: boolean;
}

export interface Options extends Flags {
  /** The path of another build of the program. */
  program?: string;
  /** How long the emulator may take to be ready, in milliseconds. The default is 30000. */
  startTimeout?: number;
  /**
   * How long the emulator may take to end before it is killed, in milliseconds. The default is 10000, and
   * 120000 with `data`, because a large state takes long to save.
   */
  stopTimeout?: number;
  /** Gets each line of the log, without its line break. */
  onLog?: (line: string) => void;
}

/** The initial enrollments and groups. Each has the members that the service API defines. */
export interface Seed {
  enrollments?: readonly object[];
  enrollmentGroups?: readonly object[];
}

export type Variable = 'DPS_CONNECTION_STRING' | 'DPS_ENDPOINT' | 'DPS_ID_SCOPE' | 'DPS_CA_FILE';

/** A running emulator. */
export interface Emulator {
  /** The ID scope that devices name. */
  readonly idScope: string;
  /** The connection string for a service client, with all rights. */
  readonly serviceConnectionString: string;
  /** A PEM file with the authority that clients have to trust. Without `caDir` it is deleted at the end. */
  readonly caFile: string;
  /** Where the emulator listens. `https`, `mqtt` and `amqp` are `host:port`, `manage` is a URL. */
  readonly endpoints: Readonly<Record<'https' | 'mqtt' | 'amqp' | 'manage', string>>;
  /** The names of the linked hubs. */
  readonly hubs: readonly string[];
  /** The connection string for a service client of each hub, by the name of the hub. */
  readonly hubConnectionStrings: Readonly<Record<string, string>>;
  /** The connection string of each access policy, by its name. Only with the option `policy`. */
  readonly policyConnectionStrings?: Readonly<Record<string, string>>;
  /** The environment variables with which a client uses this emulator. `DPS_ENDPOINT` is `endpoints.https`. */
  readonly env: Readonly<Record<Variable, string>>;
  /** The id of the process. */
  readonly pid: number;
  /** The last lines of the log, with the reason of each refused request. */
  readonly log: readonly string[];
  /** Resolves when the emulator has ended, whoever ended it. */
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  /**
   * Ends the emulator, and waits until it has ended. Calls after the first one wait for the same end. Rejects
   * if the emulator does not end well, or did not before this call: for example because it cannot save its
   * state, was killed, or is killed after `stopTimeout`.
   */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts an emulator. It ends with `stop()`, or when this process ends, even when it is killed. Rejects if
 * the emulator cannot start, with the reason.
 */
export function start(options?: Options): Promise<Emulator>;

declare global {
  // For the versions of TypeScript's library that do not have it.
  interface SymbolConstructor {
    readonly asyncDispose: unique symbol;
  }
}
