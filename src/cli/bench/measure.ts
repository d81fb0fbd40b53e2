import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { dictionary } from '../../base/dictionary.ts'
import { byName, succeeded } from '../smoke/context.ts'
import { percentile } from '../smoke/load.ts'
import type { Connection, Target, TargetResponse } from '../target.ts'

export interface BenchOptions {
  readonly path: string
  readonly connections: number
  readonly seconds: number
  /** Not counted: connections are opened, code is compiled. */
  readonly warmUpSeconds: number
  /** Requests per second, at random moments, whether or not answers come; without it each connection asks when answered. */
  readonly rate?: number
}

export interface Times {
  readonly requests: number
  /** Requests without an response, or with one that is not 2xx. */
  readonly failed: number
  /** Good answers per second. */
  readonly rate: number
  /** Of good responses, in milliseconds. */
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
  /** Share of the time in which this process was busy itself: near 1 it has measured itself and not the fleet. */
  readonly ownUtilization: number
}

type Timed = TargetResponse & { readonly took: number }

const unsent: TargetResponse = { status: 0, headers: {}, text: '', cookies: [], ms: 0, error: 'no connection was free' }

/** What does not say who answered. */
const nobody = '-'

/**
 * Requests over kept connections, as a front or a busy client sends them.
 *
 * With a rate, a request's time counts from the moment it was due and not from when a connection was free for it: a
 * fleet that stops for a second must not look well because nobody asked it meanwhile (G. Tene's coordinated omission).
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
        // What refuses connections would otherwise be asked without a pause.
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
  // Nobody was free for these until the end; to wait for them would be to measure another, lower rate.
  for (const at of due.splice(0)) take({ ...unsent, took: performance.now() - at })
  await Promise.all(running)
}

function report(
  target: Target,
  { path, connections }: BenchOptions,
  responses: readonly Timed[],
  seconds: number,
): Omit<BenchReport, 'ownUtilization'> {
  const errors = dictionary<number>()
  for (const response of responses) {
    if (succeeded(response)) continue
    const reason = response.error ?? String(response.status)
    errors[reason] = (errors[reason] ?? 0) + 1
  }
  const by = Map.groupBy(responses, ({ instanceId }) => instanceId ?? nobody)
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
