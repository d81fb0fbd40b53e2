import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { it } from 'node:test'
import { type App, type ForkOptions, forkApp } from '../fork-app.ts'
import { until } from '../until.ts'
import { type Place, play, type Script } from './client.ts'

/** Resource usage of a process under attack. */
export interface Stats {
  /** Bytes in use after garbage collection. */
  readonly heap: number
  readonly [gauge: string]: number
}

/** A program under attack, in a separate process. It responds to the message `stats` with {@link Stats}. */
export class Victim {
  readonly app: App
  #idle: { stats: Stats; descriptors: number } | undefined

  constructor(file: URL, options: ForkOptions = {}) {
    this.app = forkApp(file, { ...options, execArgv: ['--expose-gc'], ipc: true })
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.app.pid}/fd`).length
  }

  async stats(): Promise<Stats> {
    const { length } = this.app.messages
    this.app.send('stats')
    return (await until(() => this.app.messages[length])) as Stats
  }

  /** @throws with its output when the process has ended */
  assertRunning(): void {
    assert.equal(this.app.ended, undefined, this.app.stderr)
  }

  /** Records the resource usage at rest, after a warm-up. */
  async rest(): Promise<void> {
    this.#idle = { stats: await this.stats(), descriptors: this.descriptors }
  }

  /** Waits until the usage is back at rest. @throws when the process ended or does not release everything */
  async restored(): Promise<void> {
    this.assertRunning()
    const idle = this.#idle
    assert.ok(idle, 'rest() was called')
    let last = ''
    await until(
      async () => {
        const { heap, ...gauges } = await this.stats()
        last = JSON.stringify({ heap, ...gauges, descriptors: this.descriptors, idle })
        return (
          heap < idle.stats.heap + 16e6 &&
          this.descriptors <= idle.descriptors &&
          Object.entries(gauges).every(([name, value]) => value <= (idle.stats[name] ?? 0))
        )
      },
      { what: 'the state at rest' },
    ).catch((cause) => assert.fail(`${cause.message}: ${last}`))
  }
}

/**
 * Starts a program that prints its ports as JSON, and records its resource usage at rest.
 *
 * @param serve throws when an ordinary client does not get a response from one of the listeners
 * @returns the ports, and a function that waits until ordinary clients are served, however late: hostile clients may keep
 * the process busy
 */
export async function startVictim<Ports>(
  file: URL,
  serve: (ports: Ports) => Promise<void>,
  options: ForkOptions = {},
): Promise<{ victim: Victim; ports: Ports; served: () => Promise<void> }> {
  const victim = new Victim(file, options)
  const [, json] = await victim.app.waitFor(/ports (\{.*\})/)
  const ports = JSON.parse(json as string) as Ports
  const served = async (): Promise<void> => {
    await until(
      async () => {
        if (victim.app.ended) return true
        await serve(ports)
        return true
      },
      { what: 'a response from every listener' },
    )
    victim.assertRunning()
  }
  await served()
  await victim.rest()
  return { victim, ports, served }
}

/** Declares a test for each script. */
export function testScripts(
  listener: string,
  place: Place,
  scripts: Readonly<Record<string, Script>>,
  served: () => Promise<void>,
): void {
  for (const [title, script] of Object.entries(scripts)) {
    it(`on ${listener} ${title}: its connection is closed and other clients are served`, async () => {
      await play(place, script)
      await served()
    })
  }
}

/** Call in a victim: responds to `stats`. */
export function reportStats(gauges: () => Record<string, number>): void {
  process.on('message', (message) => {
    if (message !== 'stats') return
    globalThis.gc?.()
    const { heapUsed, external } = process.memoryUsage()
    process.send?.({ heap: heapUsed + external, ...gauges() })
  })
}
