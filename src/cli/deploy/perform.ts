import { spawn } from 'node:child_process'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childEnv } from '../../base/env.ts'
import { replaceFile } from '../replace-file.ts'
import { waitUntil } from '../wait-until.ts'
import { type Sample, summarise, whyWorse } from './compare.ts'
import { containers } from './fronts/compose.ts'
import { ask, servers } from './haproxy-api.ts'
import { readStatus, sample } from './instance-status.ts'
import type { Compare, Healthy, Ready, Run, Runtime, ServerUp, Steady, Step } from './step.ts'

const pollMs = 100
const samplePollMs = 500

/** Values that steps need and that a plan must not contain. */
export interface Secrets {
  /** FLEET_ADMIN_TOKEN of the instances. */
  readonly token?: string
  /** Maps an instance's URL to that of its operators' paths. @default the same URL */
  operatorsUrl?(url: string): string
}

/** Executes a step. Rejects with an error for the operator. */
export const perform = (step: Step, secrets: Secrets): Promise<void> =>
  (performers[step.do] as Performer<Step>)(step, secrets)

type Performer<S extends Step> = (step: S, secrets: Secrets) => Promise<void>
const performers: { readonly [D in Step['do']]: Performer<Extract<Step, { do: D }>> } = {
  run,
  write: ({ file, content }) => replaceFile(file, content),
  runtime,
  'server-up': serverUp,
  ready,
  healthy,
  steady,
  compare,
  pause: ({ ms }) => sleep(ms),
}

/**
 * The program may start an instance in the background. Its own process group protects the instance from Ctrl-C in this terminal, and
 * its output goes to a file because a pipe would close with this process.
 */
async function run({ argv: [program = '', ...args], env, timeoutMs }: Run): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fleet-deploy-'))
  const output = join(folder, 'output')
  const file = await open(output, 'w')
  try {
    const stdio = ['ignore', file.fd, file.fd] as const
    const child = spawn(program, args, { env: childEnv(env), stdio: [...stdio], detached: true })
    const failure = await new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
        resolve(`took longer than ${timeoutMs / 1000} s`)
      }, timeoutMs)
      const settle = (how: string | undefined): void => {
        clearTimeout(timer)
        resolve(how)
      }
      child.once('error', (error) => settle(error.message))
      child.once('exit', (code, signal) => settle(code === 0 ? undefined : `exited with ${signal ?? code}`))
    })
    child.unref()
    if (failure === undefined) return
    const last = (await readFile(output, 'utf8')).trim().split('\n').slice(-5).join('\n')
    throw new Error([`${[program, ...args].join(' ')} ${failure}`, last].filter(Boolean).join(': '))
  } finally {
    await file.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function runtime({ socket, command, tolerate }: Runtime): Promise<void> {
  const response = await ask(socket, command)
  if (response !== '' && (tolerate === undefined || !response.includes(tolerate)))
    throw new Error(`${command}: ${response}`)
}

function serverUp({ socket, backend, server, timeoutMs }: ServerUp): Promise<void> {
  return until(timeoutMs, `${backend}/${server} is not up`, async () => {
    const state = (await servers(socket, backend)).find(({ name }) => name === server)
    return state?.up ? undefined : 'its checks do not pass'
  })
}

function ready({ url, version, color, timeoutMs }: Ready): Promise<void> {
  const expected = [version && `version ${version}`, color].filter(Boolean).join(', ')
  return until(timeoutMs, `${url} is not ready${expected && ` as ${expected}`}`, async () => {
    const found = await readStatus(url)
    const right = (version === undefined || found.version === version) && (color === undefined || found.color === color)
    return found.ready && right ? undefined : found.summary
  })
}

async function healthy({ count, besides, ...compose }: Healthy): Promise<void> {
  const fresh = (await containers(compose)).filter(({ id }) => !besides.includes(id)).map(({ state }) => state)
  // A container without a health check is `running`.
  if (fresh.length === count && fresh.every((state) => state === 'healthy' || state === 'running')) return
  throw new Error(`${count} new × ${compose.service} should be healthy: ${fresh.join(', ') || 'none exist'}`)
}

async function steady({ urls, version, forMs }: Steady): Promise<void> {
  const end = performance.now() + forMs
  do {
    for (const url of urls) {
      const found = await readStatus(url)
      if (!found.ready || found.version !== version) throw new Error(`${url} did not stay ready: ${found.summary}`)
    }
    await sleep(pollMs)
  } while (performance.now() < end)
}

async function compare(
  { canary, stable, windowMs, limits }: Compare,
  { token, operatorsUrl = (url) => url }: Secrets,
): Promise<void> {
  const samples = new Map<string, Sample[]>([...canary, ...stable].map((url) => [url, []]))
  const of = (urls: readonly string[]): Sample[][] => urls.map((url) => samples.get(url) ?? [])
  const end = performance.now() + windowMs
  for (let over = false; !over; ) {
    over = performance.now() >= end
    await Promise.all(
      [...samples].map(async ([url, taken]) => {
        const now = await sample(operatorsUrl(url), token)
        if (now.requests < (taken.at(-1)?.requests ?? 0)) throw new Error(`${url} restarted during the comparison`)
        taken.push(now)
      }),
    )
    const why = whyWorse(summarise(of(canary)), summarise(of(stable)), limits, over)
    if (why) throw new Error(`the canary is worse: ${why}`)
    if (!over) await sleep(Math.max(0, Math.min(samplePollMs, end - performance.now())))
  }
}

/** Polls until `missing` returns `undefined`. */
async function until(timeoutMs: number, what: string, missing: () => Promise<string | undefined>): Promise<void> {
  let why: string | undefined
  const isDone = async (): Promise<boolean> => {
    why = await missing()
    return why === undefined
  }
  if (!(await waitUntil(isDone, timeoutMs, pollMs))) throw new Error(`${what} after ${timeoutMs / 1000} s: ${why}`)
}
