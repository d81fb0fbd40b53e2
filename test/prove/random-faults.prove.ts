import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Customers, type Phase, phase } from './faults/customers.ts'
import { type Fault, faults, isAllowed } from './faults/faults.ts'
import { clockLibrary } from './faults/instance.ts'
import { type FrontName, type FullShop, startFullShop } from './faults/shop.ts'
import { type Proof, prove } from './prove.ts'

/** Two faults at once, until both are over and everything is healthy. */
async function pair(place: FullShop, customers: Customers, proof: Proof, possible: typeof faults): Promise<void> {
  const first = proof.random.pick(possible)
  const second = proof.random.pick(possible.filter((fault) => fault !== first))
  const names = `${first.name} + ${second.name}`
  const faulty = phase(names, true)
  await overlap([first, second], faulty, place, customers, proof).catch((cause: Error) => {
    throw new Error([`${names}: ${cause.message}`, listed(faulty), ...place.shop.errors].join('\n'), { cause })
  })
}

const listed = ({ failures }: Phase): string =>
  [...failures].map(([kind, count]) => `${count} × ${kind}`).join(', ') || 'no failure'

async function overlap(
  [first, second]: readonly [Fault, Fault],
  faulty: Phase,
  place: FullShop,
  customers: Customers,
  { random, note }: Proof,
): Promise<void> {
  const clean = customers.phase
  customers.phase = faulty
  const ends = [await first.begin(place, random, customers)]
  await sleep(random.below(1500))
  ends.push(await second.begin(place, random, customers))
  await sleep(1000 + random.below(5000))
  if (random.below(2) === 0) ends.reverse()
  for (const end of ends) await end()
  await place.redis.healthy()
  await place.shop.healthy()
  await customers.settled()
  customers.phase = phase(`after ${faulty.name}`, false)
  const failedOver = await place.redis.failovers()
  await customers.more(200)
  assert.equal(await place.redis.failovers(), failedOver, 'a failover without a fault: this machine is too busy')
  await customers.account()
  note(`${faulty.name}: ${listed(faulty)}`)
  const causes = [first.cause, second.cause]
  const unexpected = [...faulty.failures.keys()].filter((kind) => !isAllowed(kind, causes))
  assert.deepEqual([clean.failures, unexpected, customers.wrong], [new Map(), [], []], faulty.name)
}

for (const front of ['nginx', 'HAProxy', 'fleet balance'] as const satisfies FrontName[])
  prove(
    `${front}: pairs of faults at random lose and repeat nothing`,
    'random-faults',
    async (proof) => {
      const { path: clock, missing } = await clockLibrary()
      if (missing) proof.note(`no clock jumps: ${missing}`)
      const place = await startFullShop(front, clock)
      const possible = faults.filter((fault) => fault.missing?.(place, clock) === undefined)
      const customers = Customers.start(place.shop)
      await customers.more(100)
      assert.equal(await place.redis.failovers(), 0, 'a failover without a fault: this machine is too busy')
      const end = performance.now() + proof.pick(0, 600_000)
      try {
        do {
          await pair(place, customers, proof, possible)
          proof.count({ pairs: 1 })
        } while (performance.now() < end)
        await customers.stop()
      } finally {
        await customers.halt()
        proof.count(customers.counts)
      }
      assert.deepEqual(customers.wrong, [])
    },
    { fullOnly: true },
  )
