import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { byName, countBy, succeeded } from '../smoke/context.ts'
import { percentile } from '../smoke/load.ts'
import type { Connection, Target, TargetResponse } from '../target.ts'

export interface BenchOptions {
  readonly path: string
  readonly connections: number
  readonly seconds: number
  /** Time before the measurement, in which connections open and code is compiled. */
  readonly warmUpSeconds: number
  /** Requests per second at random times, independent of responses. Without it each connection sends after a response. */
  readonly rate?: number
}

export interface Times {
  readonly requests: number
  /** Requests without a 2xx response. */
  readonly failed: number
  /** 2xx responses per second. */
  readonly rate: number
  /** Of 2xx responses, ms. */
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export interface BenchReport extends Times {
  readonly url: string
  readonly path: string
  readonly connections: number
  readonly seconds: number
  /** Failures by status or by the transport's error. */
  readonly errors: Readonly<Record<string, number>>
  readonly instances: readonly (Times & { readonly instance: string })[]
  /** Event loop utilization of this process; near 1, it measured itself instead of the fleet. */
  readonly ownUtilization: number
}

type Timed = TargetResponse & { readonly took: number }

const unsent: TargetResponse = { status: 0, headers: {}, text: '', cookies: [], ms: 0, error: 'no connection was free' }

/** A response without an instance id. */
const unknownInstance = '-'

/**
 * Sends requests over keep-alive connections.
 *
 * With a rate, the time of a request starts when it was due, not when a connection was free. Otherwise a fleet that stalls for a
 * second would receive no requests meanwhile and look fast (coordinated omission, G. Tene).
 */
export async function measure(
  target: Target,
  options: BenchOptions,
  progress: (secondsLeft: number) => void,
): Promise<BenchReport> {
  const connections = Array.from({ length: options.connections }, () => target.connect())
  try {
    const run = options.rate === undefined ? closedLoop : openLoop
    await run(connections, options, options.warmUpSeconds, () => undefined)
    const responses: Timed[] = []
    const begin = performance.now()
    const busy = performance.eventLoopUtilization()
    const ticking = setInterval(() => progress(options.seconds - (performance.now() - begin) / 1_000), 250)
    await run(connections, options, options.seconds, (response) => responses.push(response)).finally(() =>
      clearInterval(ticking),
    )
    const seconds = (performance.now() - begin) / 1_000
    const ownUtilization = performance.eventLoopUtilization(busy).utilization
    return { ...report(target, options, responses, seconds), ownUtilization: Math.round(ownUtilization * 100) / 100 }
  } finally {
    await Promise.all(connections.map((connection) => connection.close()))
  }
}

type Take = (response: Timed) => void

async function closedLoop(
  all: readonly Connection[],
  { path }: BenchOptions,
  seconds: number,
  take: Take,
): Promise<void> {
  const end = performance.now() + seconds * 1_000
  await Promise.all(
    all.map(async (connection) => {
      while (performance.now() < end) {
        const response = await connection.request(path)
        take({ ...response, took: response.ms })
        // Avoid a busy loop when connections fail.
        if (response.error !== undefined) await sleep(10)
      }
    }),
  )
}

async function openLoop(
  all: readonly Connection[],
  { path, rate = 1 }: BenchOptions,
  seconds: number,
  take: Take,
): Promise<void> {
  const end = performance.now() + seconds * 1_000
  const free = [...all]
  const due: number[] = []
  const running = new Set<Promise<void>>()
  const ask = async (connection: Connection, at: number): Promise<void> => {
    const response = await connection.request(path)
    take({ ...response, took: performance.now() - at })
    const next = due.shift()
    if (next === undefined) free.push(connection)
    else await ask(connection, next)
  }
  for (let next = performance.now(); next < end; ) {
    for (; next <= performance.now() && next < end; next += (-Math.log(1 - Math.random()) * 1_000) / rate) {
      const connection = free.pop()
      if (connection === undefined) due.push(next)
      else {
        const asking: Promise<void> = ask(connection, next).finally(() => running.delete(asking))
        running.add(asking)
      }
    }
    await sleep(1)
  }
  // Waiting for connections for these would lower the measured rate.
  for (const at of due.splice(0)) take({ ...unsent, took: performance.now() - at })
  await Promise.all(running)
}

function report(
  target: Target,
  { path, connections }: BenchOptions,
  responses: readonly Timed[],
  seconds: number,
): Omit<BenchReport, 'ownUtilization'> {
  const failures = responses.filter((response) => !succeeded(response))
  const errors = Object.fromEntries(countBy(failures.map(({ error, status }) => error ?? String(status))))
  const by = Map.groupBy(responses, ({ instanceId }) => instanceId ?? unknownInstance)
  const instances = [...by]
    .map(([instance, its]) => ({ instance, ...times(its, seconds) }))
    .sort((a, b) => byName(a.instance, b.instance))
  return {
    url: target.url,
    path,
    connections,
    seconds: round(seconds),
    ...times(responses, seconds),
    errors,
    instances,
  }
}

function times(responses: readonly Timed[], seconds: number): Times {
  const good = responses.filter(succeeded).map(({ took }) => took)
  return {
    requests: responses.length,
    failed: responses.length - good.length,
    rate: round(good.length / seconds),
    p50: round(percentile(good, 0.5)),
    p95: round(percentile(good, 0.95)),
    p99: round(percentile(good, 0.99)),
    max: round(percentile(good, 1)),
  }
}

const round = (value: number): number => Math.round(value * 100) / 100
