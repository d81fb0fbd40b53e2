import { execFile } from 'node:child_process'
import { globSync, readFileSync, statSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Random } from '../../fuzz/engine/random.ts'
import { isAlive } from '../../helpers/alive.ts'
import type { Customers } from './customers.ts'
import type { Instance } from './instance.ts'
import { direct, type Node } from './redis-pair.ts'
import type { FullShop } from './shop.ts'

/** What fails, which decides the failures that the docs allow. */
export type Cause = 'state' | 'instance' | 'front'

export interface Fault {
  readonly name: string
  readonly cause: Cause
  /** Why it cannot be made here. */
  readonly missing?: (place: FullShop, clock: string | undefined) => string | undefined
  /** @returns ends it */
  begin(place: FullShop, random: Random, customers: Customers): Promise<() => unknown>
}

const run = promisify(execFile)

/** Changes a soft limit of a process, unless it has ended: the other fault may have killed it. */
export const limit = (pid: number, resource: string, value: number | 'unlimited'): Promise<unknown> =>
  run('prlimit', ['--pid', String(pid), `--${resource}=${value}:`]).catch((error: Error) => {
    if (isAlive(pid)) throw error
  })

/** Of open files; undefined for a process that has ended. */
function softLimit(pid: number): number | undefined {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1])
  } catch {
    return undefined
  }
}

/** From here on, a Redis can write nothing more to its append-only file. */
export async function fillDisk({ server }: Node): Promise<() => Promise<unknown>> {
  const sizes = globSync(`${server.folder}/appendonlydir/*.incr.aof`).map((file) => statSync(file).size)
  const { pid } = server
  await limit(pid, 'fsize', Math.max(1, ...sizes))
  return () => limit(pid, 'fsize', 'unlimited')
}

const anInstance = ({ shop }: FullShop, random: Random): Instance => random.pick(shop.instances)

export const faults: readonly Fault[] = [
  {
    name: 'instance suspended',
    cause: 'instance',
    async begin(place, random) {
      const { child } = anInstance(place, random)
      await child?.kill('SIGSTOP')
      return () => child?.kill('SIGCONT')
    },
  },
  {
    name: 'instance killed',
    cause: 'instance',
    async begin(place, random) {
      const instance = anInstance(place, random)
      await instance.child?.kill('SIGKILL')
      // It need not become ready before the other fault ends.
      return () => instance.launch()
    },
  },
  {
    name: 'event loop blocked',
    cause: 'instance',
    async begin(place, random) {
      anInstance(place, random).send({ block: 1500 + random.below(2500) })
      return () => {}
    },
  },
  {
    name: 'heap nearly full',
    cause: 'instance',
    async begin(place, random) {
      const instance = anInstance(place, random)
      instance.send({ fillHeap: true })
      return () => instance.send({ fillHeap: false })
    },
  },
  {
    name: 'descriptors used up',
    cause: 'instance',
    async begin(place, random) {
      const instance = anInstance(place, random)
      const { pid } = instance
      const before = softLimit(pid)
      // The other fault has killed it.
      if (before === undefined) return () => {}
      await limit(pid, 'nofile', instance.descriptors)
      return () => limit(pid, 'nofile', before)
    },
  },
  {
    name: 'clock jumped',
    cause: 'instance',
    missing: (_, clock) => (clock ? undefined : 'libfaketime is missing'),
    async begin(place, random) {
      const instance = anInstance(place, random)
      instance.setClock(random.pick([3600, -3600]))
      return () => instance.setClock(0)
    },
  },
  {
    name: 'Redis slow',
    cause: 'state',
    async begin({ redis }, random) {
      const { relay } = await redis.primary()
      relay.delay(20 + random.below(180))
      return () => relay.delay(0)
    },
  },
  {
    name: 'Redis partitioned',
    cause: 'state',
    async begin({ redis }, _random, customers) {
      const { relay } = await redis.primary()
      await customers.beforeFailover(() => redis.replicated())
      relay.silence()
      // The connections are stale, as after a real partition.
      return async () => {
        relay.cut()
        await relay.restore()
      }
    },
  },
  {
    name: 'Redis failed over',
    cause: 'state',
    async begin({ redis }, _random, customers) {
      const node = await redis.primary()
      await customers.beforeFailover(() => redis.replicated())
      await node.server.kill()
      return () => redis.restart(node)
    },
  },
  {
    name: 'Redis full',
    cause: 'state',
    async begin({ redis }) {
      const node = await redis.primary()
      await direct(node, (client) => client.config('SET', 'maxmemory', 1)).catch(() => {})
      // A server that was killed meanwhile has lost the setting.
      return () => direct(node, (client) => client.config('SET', 'maxmemory', 0)).catch(() => {})
    },
  },
  {
    name: 'disk of Redis full',
    cause: 'state',
    async begin({ redis }, _random, customers) {
      const node = await redis.primary()
      // It replies to the pings of sentinels with an error, so they replace it. Until they have, it may recover and
      // accept writes that its successor does not get.
      await customers.beforeFailover(() => redis.replicated())
      return fillDisk(node)
    },
  },
  {
    name: 'database primary killed',
    cause: 'state',
    async begin({ database: { primary } }) {
      await primary.kill()
      return () => primary.restart()
    },
  },
  {
    name: 'database replica killed',
    cause: 'state',
    async begin({ database: { replica } }) {
      await replica.kill()
      return () => replica.restart()
    },
  },
  {
    name: 'front killed',
    cause: 'front',
    async begin({ shop: { front } }) {
      await front.kill()
      return () => front.restart()
    },
  },
  {
    name: 'front reloaded',
    cause: 'front',
    missing: ({ shop }) => (shop.frontName === 'fleet balance' ? 'it has no reload' : undefined),
    async begin({ shop: { front, frontName } }) {
      await front.kill(frontName === 'nginx' ? 'SIGHUP' : 'SIGUSR2')
      return () => {}
    },
  },
  {
    name: 'DNS gone',
    cause: 'state',
    missing: ({ dns }) => (dns ? undefined : 'only root may bind port 53'),
    async begin({ dns }, random) {
      if (random.below(2) === 0) dns?.silence()
      else dns?.close()
      return () => dns?.restore()
    },
  },
]

/** The kinds of failures that README and docs allow while these causes are active. */
export function isAllowed(kind: string, causes: readonly Cause[]): boolean {
  // Rejected before any work, to be repeated; 409: the first request with this key is still in flight.
  if (/^\w+ \S+ 503\b|^POST \/orders 409 FLEET_ERR_IDEMPOTENCY_IN_FLIGHT$/.test(kind)) return true
  // A request that may change something is never repeated by a front.
  if (causes.includes('instance') && /^\w+ \S+ 50[24]\b/.test(kind)) return true
  return causes.includes('front') && /^\w+ \S+ connection\b/.test(kind)
}
