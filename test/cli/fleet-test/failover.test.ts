import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { Operators } from '../../../src/cli/operators.ts'
import { failover } from '../../../src/cli/smoke/failover.ts'
import { context, peer, recorder, requestClock, response, target } from './stand-ins.ts'

interface Fleet {
  /** The instances in rotation of the front. */
  rotation: string[]
  readonly commands: string[]
  /** What a command does; by default it takes effect at once. */
  command?(name: 'drain' | 'undrain', id: string): void
  respond?(instanceId: string): object
}

/** Runs the check on a clock that each request moves by 50 ms. */
async function run(
  t: TestContext,
  fleet: Fleet,
  timeoutMs = 30_000,
  states = { a: 'serving', b: 'serving' },
): Promise<string[]> {
  const tick = requestClock(t, 50)
  let turn = 0
  const front = target((path) => {
    tick()
    assert.equal(path, '/health')
    const instanceId = fleet.rotation[turn++ % fleet.rotation.length] ?? ''
    return fleet.respond?.(instanceId) ?? { instanceId }
  })
  const operators = {
    instances: async () => Object.entries(states).map(([id, state]) => peer(id, { state: state as 'serving' })),
    async command(name: 'drain' | 'undrain', id: string) {
      fleet.commands.push(`${name} ${id}`)
      if (fleet.command) fleet.command(name, id)
      else if (name === 'undrain') fleet.rotation = [...new Set([...fleet.rotation, id])]
      else fleet.rotation = fleet.rotation.filter((each) => each !== id)
    },
  } as unknown as Operators
  const { results, said } = recorder()
  await failover(context({ front }), operators, results, timeoutMs)
  return said()
}

describe('failover', () => {
  it('passes an instance that leaves and returns without a failed request', async (t) => {
    const fleet: Fleet = { rotation: ['a', 'b'], commands: [] }
    const said = await run(t, fleet)
    assert.match(said[0] ?? '', /^pass a left rotation \d\.\d s after the drain began$/)
    assert.match(said[1] ?? '', /^pass a was back \d\.\d s after the undrain$/)
    assert.match(said[2] ?? '', /^pass \d{2,} requests meanwhile, none failed$/)
    assert.deepEqual(fleet.commands, ['drain a', 'undrain a', 'undrain a'])
  })

  it('needs another instance that serves', async (t) => {
    const fleet: Fleet = { rotation: ['a'], commands: [] }
    assert.deepEqual(await run(t, fleet, 30_000, { a: 'serving', b: 'draining' }), [
      'fail 1 instance in rotation: no other could take over',
    ])
    assert.deepEqual(fleet.commands, [])
  })

  it('fails if the instance never responds through the front', async (t) => {
    const fleet: Fleet = { rotation: ['b'], commands: [] }
    const said = await run(t, fleet)
    assert.equal(said[0], 'fail a does not respond through the front, so it cannot leave rotation')
    assert.deepEqual(fleet.commands, ['undrain a'])
  })

  it('fails if the instance stays in rotation', async (t) => {
    const fleet: Fleet = { rotation: ['a', 'b'], commands: [], command: () => undefined }
    const said = await run(t, fleet, 5_000)
    assert.deepEqual(said.slice(0, 2), [
      'fail a still responded 5.0 s after the drain',
      '→ check the front’s health checks',
    ])
    assert.match(said[2] ?? '', /^pass a was back/)
  })

  it('fails if silence could be a lack of load', async (t) => {
    const fleet: Fleet = {
      rotation: ['a', 'b'],
      commands: [],
      command: (name) => {
        fleet.rotation = name === 'drain' ? [''] : ['a', 'b']
      },
      respond: (instanceId) => (instanceId === '' ? { status: 503 } : { instanceId }),
    }
    // Responses without an instance are load, too: 20 for each of the two.
    assert.match((await run(t, fleet)).join(), /left rotation.*requests failed: \d+ × 503/)
  })

  it('fails if the instance does not return, and tries to undrain it once more', async (t) => {
    const fleet: Fleet = {
      rotation: ['a', 'b'],
      commands: [],
      command: (name) => {
        if (name === 'drain') fleet.rotation = ['b']
      },
    }
    const said = await run(t, fleet, 10_000)
    assert.equal(
      said.find((line) => line.includes('return')),
      'fail a did not return within 10.0 s',
    )
    assert.deepEqual(fleet.commands, ['drain a', 'undrain a', 'undrain a'])
  })

  it('counts failed requests by outcome', async (t) => {
    let count = 0
    const fleet: Fleet = {
      rotation: ['a', 'b'],
      commands: [],
      respond: (instanceId) => (++count === 9 ? response({ status: 502 }) : { instanceId }),
    }
    assert.match((await run(t, fleet)).at(-1) ?? '', /^fail 1 of \d+ requests failed: 1 × 502$/)
  })
})
