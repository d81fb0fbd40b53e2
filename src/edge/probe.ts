import { connect } from 'node:net'
import { int, oneOf, path, type Resolved } from '../base/options.ts'
import { guard } from './boundary.ts'
import type { Server } from './http/wire/connect.ts'
import type { HeadHandler, UpstreamController } from './http/wire/response-head.ts'
import { addressOf, authorityOf } from './target-url.ts'

export const probeOptions = {
  /** `http` requests `path` and expects a 2xx; `tcp` only connects; `off` disables probing. */
  type: oneOf('http', 'tcp', 'off').default('http'),
  /** Path of HTTP probes. */
  path: path.default('/ready'),
  /** Between two probes of one target; a quarter of it while the verdict is changing. */
  intervalMs: int(1, 3_600_000, 'milliseconds').default(1000),
  /** A probe without a response after this time has failed. */
  timeoutMs: int(1, 3_600_000, 'milliseconds').default(1000),
  /** Consecutive passes that bring a target back. */
  rise: int(1, 100).default(2),
  /** Consecutive failures that take a target out. */
  fall: int(1, 100).default(2),
}
export type ProbeOptions = Resolved<typeof probeOptions>

/** A server to probe. */
export type ProbeTarget = Server

/** Result of a probe; `draining` when the target reports it. */
export type Verdict = 'pass' | 'fail' | 'draining'

interface Watch {
  /** The verdict that the listener has; undefined once it no longer counts. */
  reported?: Verdict
  /** The latest verdict, and how many times in a row it occurred. */
  latest?: Verdict
  count: number
  /** Passes needed for the next `pass` verdict. */
  rise: number
  timer?: NodeJS.Timeout
  running?: AbortController
}

/** Probes servers and reports changed verdicts to one listener. */
export class Prober<T extends ProbeTarget> {
  readonly #options: ProbeOptions
  readonly #listener: (target: T, verdict: Verdict) => void
  readonly #watches = new Map<T, Watch>()

  constructor(options: ProbeOptions, listener: (target: T, verdict: Verdict) => void) {
    this.#options = options
    this.#listener = listener
  }

  /** Starts at once; the first verdict on a new target needs one probe only. */
  watch(target: T): void {
    if (this.#options.type === 'off' || this.#watches.has(target)) return
    const watch: Watch = { count: 0, rise: 1 }
    this.#watches.set(target, watch)
    this.#probe(target, watch)
  }

  unwatch(target: T): void {
    const watch = this.#watches.get(target)
    if (!watch) return
    this.#watches.delete(target)
    clearTimeout(watch.timer)
    watch.running?.abort()
  }

  /** Discards all results so far, because something else took the target out: it needs `rise` new passes. */
  doubt(target: T): void {
    const watch = this.#watches.get(target)
    if (!watch) return
    watch.running?.abort()
    clearTimeout(watch.timer)
    Object.assign(watch, { reported: undefined, latest: undefined, rise: this.#options.rise })
    this.#schedule(target, watch)
  }

  close(): void {
    for (const target of [...this.#watches.keys()]) this.unwatch(target)
  }

  #probe(target: T, watch: Watch): void {
    const running = new AbortController()
    watch.running = running
    const { type, path, timeoutMs } = this.#options
    const found =
      type === 'http' ? probeHttp(target, path, timeoutMs, running.signal) : probeTcp(target, timeoutMs, running.signal)
    const judge = guard('a verdict on a target', (verdict: Verdict) => this.#judge(target, watch, verdict))
    found.then((verdict) => {
      if (running.signal.aborted) return
      watch.running = undefined
      judge(verdict)
      if (this.#watches.get(target) === watch && watch.running === undefined) this.#schedule(target, watch)
    })
  }

  #judge(target: T, watch: Watch, verdict: Verdict): void {
    watch.count = verdict === watch.latest ? watch.count + 1 : 1
    watch.latest = verdict
    const needed = { pass: watch.rise, fail: this.#options.fall, draining: 1 }[verdict]
    const first = watch.reported === undefined && watch.rise === 1
    if (verdict === watch.reported || (watch.count < needed && !first)) return
    watch.reported = verdict
    watch.rise = this.#options.rise
    this.#listener(target, verdict)
  }

  #schedule(target: T, watch: Watch): void {
    clearTimeout(watch.timer)
    const settled = watch.reported !== undefined && watch.reported === watch.latest
    const interval = settled ? this.#options.intervalMs : this.#options.intervalMs / 4
    // ± 10 %, so that many balancers do not probe in step.
    const probe = guard('a probe', () => this.#probe(target, watch))
    watch.timer = setTimeout(probe, interval * (0.9 + Math.random() * 0.2)).unref()
  }
}

/** Limit for a response to a probe. The connection is closed above it, or after `timeoutMs`. */
const maxProbeBytes = 64 * 1024

/** Uses a new connection, so that it also tests whether the target still accepts connections. */
async function probeHttp(target: ProbeTarget, path: string, timeoutMs: number, signal: AbortSignal): Promise<Verdict> {
  // Loaded on first use: most apps probe nothing.
  const { connectTo } = await import('./http/wire/connect.ts')
  return new Promise((resolve) => {
    const bounds = { connectTimeoutMs: timeoutMs, responseTimeoutMs: timeoutMs, bodyTimeoutMs: timeoutMs }
    const keepAlive = { keepAliveMs: 1, unsafeKeepAliveMs: 1, maxHeaderBytes: maxProbeBytes }
    const pool = connectTo(target, { ...bounds, ...keepAlive })
    let controller: UpstreamController | undefined
    let length = 0
    const cancel = guard('the end of a probe', () => controller?.abort(new Error('probe ended')))
    const timer = setTimeout(cancel, timeoutMs)
    const end = (): void => {
      clearTimeout(timer)
      resolve('fail')
      void pool.close()
    }
    const handler: HeadHandler = {
      onRequestStart: (started) => {
        controller = started
        if (signal.aborted) cancel()
      },
      onResponseHead: (_, { status, draining }) => {
        if (status >= 200) resolve(draining ? 'draining' : status < 300 ? 'pass' : 'fail')
      },
      onResponseData: (_, chunk) => {
        length += chunk.length
        if (length > maxProbeBytes) cancel()
      },
      onResponseEnd: end,
      onResponseError: end,
    }
    const headers = `host: ${authorityOf(target.url)}\r\nuser-agent: fleet-probe\r\n`
    pool.dispatch({ method: 'GET', path, headers, body: null, rejectable: false }, handler, true)
    signal.addEventListener('abort', cancel)
  })
}

function probeTcp({ url }: ProbeTarget, timeoutMs: number, signal: AbortSignal): Promise<Verdict> {
  return new Promise((resolve) => {
    const socket = connect({ ...addressOf(url), signal })
    const timer = setTimeout(() => socket.destroy(), timeoutMs)
    const connected = guard('a probe', () => {
      resolve('pass')
      socket.destroy()
    })
    const closed = guard('the end of a probe', () => {
      clearTimeout(timer)
      resolve('fail')
    })
    socket.on('connect', connected)
    socket.on('error', () => {})
    socket.on('close', closed)
  })
}
