import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childEnv } from '../../base/env.ts'
import { type Sample, summarise, whyWorse } from './compare.ts'
import { containers } from './fronts/compose.ts'
import { ask, servers } from './haproxy-api.ts'
import { readStatus, sample } from './instance-status.ts'
import type { Compare, Healthy, Ready, Run, Runtime, ServerUp, Steady, Step, Write } from './step.ts'

/** How often something is asked while it is waited for, ms. */
const everyMs = 100
const sampleEveryMs = 500

/** What steps need and a plan must not tell. */
export interface Secrets {
  /** FLEET_ADMIN_TOKEN of the instances. */
  readonly token?: string
  /** The URL of an instance's operators' endpoints, where it has a listener of its own for them. @default its URL */
  operatorsUrl?(url: string): string
}

/** Carries out one step. Rejects with what went wrong, in words. */
export async function perform(step: Step, secrets: Secrets): Promise<void> {
  switch (step.do) {
    case 'run':
      return run(step)
    case 'write':
      return write(step)
    case 'runtime':
      return runtime(step)
    case 'server-up':
      return serverUp(step)
    case 'ready':
      return ready(step)
    case 'healthy':
      return healthy(step)
    case 'steady':
      return steady(step)
    case 'compare':
      return compare(step, secrets)
    case 'pause':
      return sleep(step.ms)
  }
}

/**
 * A program that starts an instance may leave it behind: so it has a process group of its own, which a Ctrl-C in this
 * terminal does not reach, and writes into a file, which does not end with this process as a pipe would.
 */
async function run({ argv: [program = '', ...args], env, timeoutMs }: Run): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'fleet-deploy-'))
  const output = join(folder, 'output')
  const file = await open(output, 'w')
  try {
    const stdio = ['ignore', file.fd, file.fd] as const
    const child = spawn(program, args, { env: childEnv(env), stdio: [...stdio], detached: true })
    const end = await new Promise<string | undefined>((resolve) => {
      const impatience = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
        resolve(`took longer than ${timeoutMs / 1000} s`)
      }, timeoutMs)
      const settle = (how: string | undefined): void => {
        clearTimeout(impatience)
        resolve(how)
      }
      child.once('error', (error) => settle(error.message))
      child.once('exit', (code, signal) => settle(code === 0 ? undefined : `ended with ${signal ?? code}`))
    })
    child.unref()
    if (end === undefined) return
    const last = (await readFile(output, 'utf8')).trim().split('\n').slice(-5).join('\n')
    throw new Error([`${[program, ...args].join(' ')} ${end}`, last].filter(Boolean).join(': '))
  } finally {
    await file.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function write({ file, content }: Write): Promise<void> {
  // In the same folder, because only within one file system a rename is one act.
  const fresh = `${file}.${randomBytes(6).toString('hex')}.new`
  // Never through a link that somebody has put there.
  await writeFile(fresh, content, { flush: true, flag: 'wx', mode: 0o600 })
  try {
    await chmod(fresh, (await stat(file)).mode)
    await rename(fresh, file)
  } finally {
    await rm(fresh, { force: true })
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
  const wanted = [version && `version ${version}`, color].filter(Boolean).join(', ')
  return until(timeoutMs, `${url} is not ready${wanted && ` as ${wanted}`}`, async () => {
    const found = await readStatus(url)
    const right = (version === undefined || found.version === version) && (color === undefined || found.color === color)
    return found.ready && right ? undefined : found.words
  })
}

async function healthy({ count, besides, ...compose }: Healthy): Promise<void> {
  const fresh = (await containers(compose)).filter(({ id }) => !besides.includes(id)).map(({ state }) => state)
  // One without a health check is healthy when it runs.
  if (fresh.length === count && fresh.every((state) => state === 'healthy' || state === 'running')) return
  throw new Error(`${count} new × ${compose.service} should be healthy: ${fresh.join(', ') || 'none is there'}`)
}

async function steady({ urls, version, forMs }: Steady): Promise<void> {
  const end = performance.now() + forMs
  do {
    for (const url of urls) {
      const found = await readStatus(url)
      if (!found.ready || found.version !== version) throw new Error(`${url} did not stay ready: ${found.words}`)
    }
    await sleep(everyMs)
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
        if (now.requests < (taken.at(-1)?.requests ?? 0)) throw new Error(`${url} was started anew while it was judged`)
        taken.push(now)
      }),
    )
    const why = whyWorse(summarise(of(canary)), summarise(of(stable)), limits, over)
    if (why) throw new Error(`the canary is worse: ${why}`)
    if (!over) await sleep(Math.max(0, Math.min(sampleEveryMs, end - performance.now())))
  }
}

/** Waits until `missing` says nothing. */
async function until(timeoutMs: number, what: string, missing: () => Promise<string | undefined>): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const why = await missing()
    if (why === undefined) return
    if (performance.now() >= deadline) throw new Error(`${what} after ${timeoutMs / 1000} s: ${why}`)
    await sleep(everyMs)
  }
}
