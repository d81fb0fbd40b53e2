import assert from 'node:assert/strict'
import { type Fleet, type Member, startFleet } from '../haproxy/fleet.ts'
import { startRedis } from '../helpers/redis.ts'
import { type ClientKind, type Kill, type Method, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import type { Proof } from './prove.ts'

/** A load balancer in front of the fleet. */
export interface ProvenFront {
  port: number
  /** Unsafe methods that it repeats when an instance crashes. */
  repeats?: readonly Method[]
  /** It forwards connections and sends no request again. */
  layer4?: boolean
  /** It checks `/ready`, so that an instance that drains or is not ready gets no request. */
  checks: boolean
  /** Clients whose requests it never loses while it is reloaded. @default mixed */
  onReload?: ClientKind
  reload?(): Promise<void>
  /** With SIGKILL. */
  kill(): Promise<void>
  restart(): Promise<void>
}

/** Creates a value when it is first used. */
export function lazy<T>(create: () => Promise<T>): () => Promise<T> {
  let value: Promise<T> | undefined
  return () => {
    value ??= create()
    return value
  }
}

/** Three instances with a Redis, for all proofs of a file. */
export const lazyFleet = (drainDelayMs: number): (() => Promise<Fleet>) =>
  lazy(async () => startFleet({ REDIS_URL: (await startRedis()).url, DRAIN_DELAY: drainDelayMs }))

type Starts = () => Promise<{ fleet: Fleet; front: ProvenFront }>

interface Faults {
  kills: Kill[]
  outages: Kill[]
}

/** Runs a task under load, and accounts for every request. */
async function underLoad(
  proof: Proof,
  starts: Starts,
  task: (traffic: Traffic, fleet: Fleet, front: ProvenFront, faults: Faults) => Promise<void>,
  kind: (front: ProvenFront) => ClientKind = () => 'mixed',
): Promise<void> {
  const { fleet, front } = await starts()
  // A proof that failed may have left a slot empty.
  for (const member of fleet.members) if (!member.running) await member.start()
  const traffic = new Traffic(front.port, 10, kind(front), {
    repeats: front.repeats ?? [],
    layer4: front.layer4 ?? false,
    // On most instances a request is in flight at any time.
    slowMs: 300,
  })
  const faults: Faults = { kills: [], outages: [] }
  try {
    await traffic.more()
    await task(traffic, fleet, front, faults)
    await traffic.more()
    proof.count(await traffic.stop(fleet.orders, faults.kills, faults.outages))
    for (const { id } of fleet.members) assert.ok(traffic.byInstance.has(id), `${id} served requests`)
  } finally {
    await traffic.halt()
  }
}

/** Replaces every instance, each as soon as the previous one is back. */
export const restarts = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(proof, starts, async (traffic, { members }) => {
    const rounds = proof.pick(1, 20)
    for (let round = 1; round <= rounds; round++) {
      for (const member of members) {
        assert.equal(await member.end('SIGTERM'), 0, `${member.id} exits with 0`)
        await member.start({ FLEET_VERSION: `round-${round}` })
      }
      await traffic.more()
      assert.ok(traffic.versions.has(`round-${round}`), 'new processes serve')
    }
    proof.count({ replaced: rounds * members.length })
  })

/** Kills instances. Only unsafe requests in flight on them are lost. */
export const kills = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(proof, starts, async (traffic, { members }, _front, faults) => {
    const rounds = proof.pick(1, 20)
    for (let round = 0; round < rounds; round++) {
      for (const member of members) {
        faults.kills.push(await traffic.kill(() => member.end('SIGKILL')))
        await traffic.more()
        await member.start()
        await traffic.more()
      }
    }
    proof.count({ killed: faults.kills.length })
  })

/** Drains and undrains instances through their operators' API. */
export const drains = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(proof, starts, async (traffic, { members }, front) => {
    const rounds = proof.pick(1, 20)
    const served = ({ id }: Member): number => traffic.byInstance.get(id) ?? 0
    for (let round = 0; round < rounds; round++) {
      for (const member of members) {
        await until(() => served(member) > 0, { what: `responses of ${member.id}` })
        await member.command('drain')
        if (front.checks) {
          const isQuiet = async (): Promise<boolean> => {
            const before = served(member)
            await traffic.turn()
            await traffic.more()
            return served(member) === before
          }
          await until(isQuiet, { what: `no requests for ${member.id}` })
          await traffic.turn()
          const before = served(member)
          await traffic.more(300)
          assert.equal(served(member), before, `${member.id} drains`)
        } else await traffic.more(300)
        await member.command('undrain')
        const before = served(member)
        await until(() => served(member) > before, { what: `further responses of ${member.id}` })
      }
    }
    proof.count({ drained: rounds * members.length })
  })

/** Replaces an instance by builds that exit, hang, or never become ready, and then by a good one. */
export const badBuilds = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(proof, starts, async (traffic, { members }, front) => {
    const rounds = proof.pick(1, 10)
    const all = ['exits', 'hangs', ...(front.checks ? ['unready'] : [])]
    for (let round = 0; round < rounds; round++) {
      for (const [i, BROKEN] of all.entries()) {
        const member = members[i % members.length] as Member
        await member.end('SIGTERM')
        const bad = member.launch({ BROKEN, FLEET_VERSION: 'bad' })
        if (BROKEN === 'exits') await bad.exit
        if (BROKEN === 'unready') await until(() => fetch(`${member.url}/ready`), { what: 'a listener' })
        await traffic.more(200)
        await member.end('SIGKILL')
        await member.start({ FLEET_VERSION: 'good' })
      }
    }
    assert.ok(!traffic.versions.has('bad'), 'a bad build serves no request')
    proof.count({ bad: rounds * all.length })
  })

/** Reloads the load balancer. */
export const reloads = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(
    proof,
    starts,
    async (traffic, _fleet, front) => {
      const rounds = proof.pick(3, 50)
      for (let round = 0; round < rounds; round++) {
        await front.reload?.()
        await traffic.more(100)
      }
      proof.count({ reloads: rounds, ...(traffic.repeated > 0 && { resent: traffic.repeated }) })
    },
    ({ onReload = 'mixed' }) => onReload,
  )

/** Kills the load balancer and starts it again. */
export const crashes = (proof: Proof, starts: Starts): Promise<void> =>
  underLoad(proof, starts, async (traffic, _fleet, front, faults) => {
    const rounds = proof.pick(1, 20)
    for (let round = 0; round < rounds; round++) {
      const outage = await traffic.kill(async () => {
        await front.kill()
        await front.restart()
      })
      faults.outages.push(outage)
      await traffic.more(100)
    }
    proof.count({ killed: rounds })
  })
