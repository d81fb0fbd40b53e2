import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { http } from '../../base/internals/node-http.ts'
import { urlAt } from '../../base/urls.ts'
import { guard } from '../boundary.ts'
import { addressOf, type Target } from './target.ts'

export interface ProbeOptions {
  /** `http` asks `path` and wants a 2xx; `tcp` only connects; `off` asks nothing. @default 'http' */
  type: 'http' | 'tcp' | 'off'
  /** @default '/ready' */
  path: string
  /** Between two probes of one target, in milliseconds; a quarter of it while the verdict is changing. @default 1000 */
  intervalMs: number
  /** A probe that has not answered by then has failed, in milliseconds. @default 1000 */
  timeoutMs: number
  /** Passes in a row that bring a target back. @default 2 */
  rise: number
  /** Failures in a row that take a target out. @default 2 */
  fall: number
}

/** What a probe found; `draining` when the target itself says so. */
export type Verdict = 'pass' | 'fail' | 'draining'

interface Watch {
  /** What the listener was told last; undefined when that no longer counts. */
  told?: Verdict
  /** The latest verdict, and how many times in a row it came. */
  latest?: Verdict
  count: number
  /** Passes that are needed now. */
  rise: number
  timer?: NodeJS.Timeout
  running?: AbortController
}

/** Probes targets and tells one listener when its mind about one changes. It knows nothing of rotation or policies. */
export class Prober {
  readonly #options: ProbeOptions
  readonly #listener: (target: Target, verdict: Verdict) => void
  readonly #watches = new Map<Target, Watch>()

  constructor(options: ProbeOptions, listener: (target: Target, verdict: Verdict) => void) {
    this.#options = options
    this.#listener = listener
  }

  /** Starts at once; the first verdict about a new target needs one probe only. */
  watch(target: Target): void {
    if (this.#options.type === 'off' || this.#watches.has(target)) return
    const watch: Watch = { count: 0, rise: 1 }
    this.#watches.set(target, watch)
    this.#probe(target, watch)
  }

  unwatch(target: Target): void {
    const watch = this.#watches.get(target)
    if (!watch) return
    this.#watches.delete(target)
    clearTimeout(watch.timer)
    watch.running?.abort()
  }

  /** Something else has taken the target out: what was found so far is void, it has to pass `rise` probes from now on. */
  doubt(target: Target): void {
    const watch = this.#watches.get(target)
    if (!watch) return
    watch.running?.abort()
    clearTimeout(watch.timer)
    Object.assign(watch, { told: undefined, latest: undefined, count: 0, rise: this.#options.rise })
    this.#schedule(target, watch)
  }

  close(): void {
    for (const target of [...this.#watches.keys()]) this.unwatch(target)
  }

  #probe(target: Target, watch: Watch): void {
    const running = new AbortController()
    watch.running = running
    const { type, path, timeoutMs } = this.#options
    const found =
      type === 'http'
        ? probeHttp(target, path, timeoutMs, running.signal)
        : probeTcp(target.url, timeoutMs, running.signal)
    const judge = guard('a verdict on a target', (verdict: Verdict) => this.#judge(target, watch, verdict))
    found.then((verdict) => {
      if (running.signal.aborted) return
      watch.running = undefined
      judge(verdict)
      if (this.#watches.get(target) === watch && watch.running === undefined) this.#schedule(target, watch)
    })
  }

  #judge(target: Target, watch: Watch, verdict: Verdict): void {
    watch.count = verdict === watch.latest ? watch.count + 1 : 1
    watch.latest = verdict
    const needed = { pass: watch.rise, fall: this.#options.fall, fail: this.#options.fall, draining: 1 }[verdict]
    const first = watch.told === undefined && watch.rise === 1
    if (verdict === watch.told || (watch.count < needed && !first)) return
    watch.told = verdict
    watch.rise = this.#options.rise
    this.#listener(target, verdict)
  }

  #schedule(target: Target, watch: Watch): void {
    clearTimeout(watch.timer)
    const settled = watch.told !== undefined && watch.told === watch.latest
    const interval = settled ? this.#options.intervalMs : this.#options.intervalMs / 4
    // ± 10 %, so that many fronts do not probe in step.
    const probe = guard('a probe', () => this.#probe(target, watch))
    watch.timer = setTimeout(probe, interval * (0.9 + Math.random() * 0.2)).unref()
  }
}

/** Of a response to a probe; its connection is closed when more comes, or when `timeoutMs` is over. */
const maxProbeBytes = 64 * 1024

/** Over a connection of its own: whether the target still accepts new ones is part of the question. */
function probeHttp(target: Target, path: string, timeoutMs: number, signal: AbortSignal): Promise<Verdict> {
  const { url, serverName } = target
  return new Promise((resolve) => {
    const send = url.protocol === 'https:' ? httpsRequest : http.request
    const options = { agent: false, signal, headers: { 'user-agent': 'fleet-probe' } }
    const request = send(urlAt(url, path), serverName ? { ...options, servername: serverName } : options)
    const fail = (): void => void request.destroy()
    const timer = setTimeout(fail, timeoutMs)
    request.on('error', () => resolve('fail'))
    const closed = guard('the end of a probe', () => {
      clearTimeout(timer)
      resolve('fail')
    })
    request.on('close', closed)
    const judge = (response: IncomingMessage): void => {
      let length = 0
      const count = guard('a response to a probe', (chunk: Buffer) => {
        length += chunk.length
        if (length > maxProbeBytes) request.destroy()
      })
      response.on('data', count)
      response.on('error', () => {})
      const { statusCode = 0, headers } = response
      const pass = statusCode >= 200 && statusCode < 300
      resolve(headers['x-fleet-draining'] === '1' ? 'draining' : pass ? 'pass' : 'fail')
    }
    request.on('response', guard('a probe', judge, fail))
    request.end()
  })
}

function probeTcp(url: URL, timeoutMs: number, signal: AbortSignal): Promise<Verdict> {
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
