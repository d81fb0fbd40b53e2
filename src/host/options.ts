export interface SupervisorOptions {
  /** The program that each worker runs. Each worker loads it from disk, so a reload picks up a new build. */
  file: string
  /** The program's arguments. */
  args: readonly string[]
  /** Number of workers. */
  workers: number
  /** Prefix of the workers' instance ids: `<id>-<number>-<random>`. */
  id: string
  /** How long a worker may take to become ready. */
  readyTimeoutMs: number
  /** How long a worker may take to drain and exit before it is killed. */
  shutdownTimeoutMs: number
  /** A worker without a heartbeat for longer is killed and restarted. */
  stuckAfterMs: number
  /** A worker whose resident set size stays above this is replaced, in bytes; 0: never. */
  memoryLimit: number
  /** Added to the environment of the workers; `undefined` removes a variable. */
  env: Readonly<Record<string, string | undefined>>
  log: SupervisorLog
  /** Called when the number of workers that serve may have changed. */
  onChange: () => void
}

export type SupervisorLog = Readonly<Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>>
