import type { Job } from './generator.ts'
import type { Machine, Program, RunOptions } from './machine.ts'
import type { Figures, Open, Subject } from './scenario.ts'

/** Load as a scenario gives it: the port and the time are the runner's. */
export type Work = Omit<Job, 'port' | 'seconds'>

export interface ServerOptions extends RunOptions {
  /** A file of `programs/`. */
  file: string
  args?: readonly string[]
}

/** What an app with the umbrella plugin needs in production; without `REDIS_URL`, its state lives in memory. */
export const fleetEnv = {
  FLEET_ALLOW_MEMORY: '1',
  SESSION_SECRET: 'only-for-benchmarks-and-at-least-32-bytes',
  JWT_SECRET: 'only-for-benchmarks-too-and-32-bytes-long',
} as const

/**
 * How long a server runs before its first round, in seconds: V8 goes on compiling for some 60,000 requests, whatever the
 * server (`profiles/hello.md`).
 */
export const warmUpSeconds = 5

/** A subject that is one program under load: figures for `serverMetrics`. */
export function server(name: string, options: ServerOptions, work: Work | (() => Work)): Subject {
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      const program = await machine.program(options.file, options)
      return underLoad(machine, program, work)
    },
  }
}

/** Any program that was started already, under load. */
export async function underLoad(
  machine: Machine,
  program: Pick<Program, 'port' | 'pid' | 'stop'>,
  work: Work | (() => Work),
): Promise<Open> {
  const job = (seconds: number): Job => ({
    ...(typeof work === 'function' ? work() : work),
    port: program.port,
    seconds,
  })
  await machine.load(job(warmUpSeconds))
  return {
    async round(seconds): Promise<Figures> {
      const { result: _, ...figures } = await machine.measure(job(seconds), [program.pid])
      return figures
    },
    close: () => program.stop(),
  }
}
