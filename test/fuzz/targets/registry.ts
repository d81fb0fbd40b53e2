import assert from 'node:assert/strict'
import type { Peer } from '../../../src/instance/identity.ts'
import { SignedMessages } from '../../../src/state/broadcast/signed-messages.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import { Peers } from '../../../src/state/registry/peers.ts'
import type { HeartbeatReply } from '../../../src/state/registry/redis-directory.ts'
import { SignedEntries } from '../../../src/state/registry/signed-entries.ts'
import { Choices } from '../engine/choices.ts'
import type { Target } from '../engine/target.ts'

const keys = (secret: string): FleetKeys => new FleetKeys([secret], 'registry', 'shop')
const fleet = keys('a secret that all instances share, long')
const entries = new SignedEntries(fleet)
const outsiders = new SignedEntries(keys('a secret of another tenant, long enough'))
const boot = 'b'.repeat(16)

const peer = (id: string): Peer =>
  ({
    ...{
      id,
      host: '10.0.0.1',
      pid: 1,
      port: 3000,
      weight: 1,
      state: 'serving',
      version: '1',
      color: 'none',
      pool: 'default',
      failing: [],
    },
    ...{ startedAt: new Date(0).toISOString(), lastSeen: '', rps: 1, p95: 2, eventLoopUtilization: 0.5, memory: 3 },
  }) as unknown as Peer

/** Signed by the fleet, with content that no instance of this version would write. */
function strange(id: string, choices: Choices): { facts: string; load: string } {
  const { facts, load } = entries.seal(boot, peer(id), true)
  const members = { ...(JSON.parse(facts) as object) } as Record<string, unknown>
  for (const name of ['signedAt', 'mac']) delete members[name]
  for (let turns = choices.below(4); turns > 0; turns--) {
    const name = choices.below(2) === 0 ? choices.pick(Object.keys(members)) : choices.name()
    if (name !== '')
      Object.defineProperty(members, name, { value: choices.value(true), enumerable: true, configurable: true })
  }
  const signed = `${JSON.stringify(members).slice(0, -1)},"signedAt":${Date.now()}`
  const values = `[${JSON.stringify(choices.value(true)) ?? 'null'},${Date.now()}`
  return {
    facts: `${signed},"mac":"${fleet.sign('facts', id, boot, signed)}"}`,
    load: choices.below(2) === 0 ? load : `${values},"${fleet.sign('load', id, boot, values)}"]`,
  }
}

/** A text with a part replaced by the input. */
function mutated(text: string, input: Buffer): string {
  const at = ((input[0] ?? 0) * text.length) >> 8
  return text.slice(0, at) + input.toString('latin1', 2) + text.slice(at + ((input[1] ?? 0) % 8))
}

function messages(input: Buffer): string {
  const sender = new SignedMessages(fleet, 4096)
  const receiver = new SignedMessages(fleet, 4096)
  const outsider = new SignedMessages(keys('another secret, also long enough for it'), 4096)
  const sealed = sender.seal('channel', '{"a":1}')
  const opened = [
    receiver.open('channel', input.toString('latin1')),
    receiver.open('channel', mutated(sealed, input)),
    receiver.open('channel', outsider.seal('channel', '{"a":1}')),
    receiver.open('other', sealed),
  ]
  const [raw, part, foreign, other] = opened
  for (const one of [raw, foreign, other]) assert.ok(one && 'rejected' in one)
  // The last character of a signature has unused bits: an accepted variant is still the same message.
  if (part && 'json' in part) assert.equal(part.json, '{"a":1}')
  return opened.map((one) => ('rejected' in one ? one.rejected : 'accepted')).join(' ')
}

/** Redis data of a peer: unsigned data is ignored, signed data is validated, and nothing throws. */
export default {
  seeds: [
    '',
    'b {"id":"a"}',
    '\x01\x02{"id":"a","host":"x","signedAt":1,"mac":""}',
    '\x80\x00hello',
    '\xff\x07[1,2,3]',
  ],
  dictionary: ['"', '{', '}', ',', ',"signedAt":', ',"mac":"', '__proto__', '"id":"a"', '\n', ' ', '1e999', '[', ']'],
  maxBytes: 512,
  run(input) {
    const rejected: string[] = []
    const table = new Peers('self', 1000, entries, (reason) => rejected.push(reason))
    const honest = entries.seal(boot, peer('honest'), true)
    const forged = outsiders.seal(boot, peer('forged'), true)
    const odd = strange('odd', new Choices(input))
    const facts = mutated(`${boot} ${honest.facts}`, input)
    const reply: HeartbeatReply = {
      ...{ epoch: 'e', version: 1, full: true, changed: false, reset: false },
      changes: new Map([
        ['honest', `${boot} ${honest.facts}`],
        ['mutated', facts],
        ['raw', input.toString('latin1')],
        ['forged', `${boot} ${forged.facts}`],
        ['odd', `${boot} ${odd.facts}`],
      ]),
      removed: new Map(),
      loads: new Map([
        ['honest', mutated(honest.load, input)],
        ['odd', odd.load],
        ['raw', input.toString('latin1')],
      ]),
    }
    table.apply(reply)
    const list = table.list(peer('self'))
    for (const { id, rps, port, weight, failing } of list) {
      assert.ok(['self', 'honest', 'odd'].includes(id), id)
      assert.ok(Number.isFinite(rps) && Number.isInteger(weight) && Array.isArray(failing))
      assert.ok(port === undefined || Number.isInteger(port))
    }
    assert.ok(list.some(({ id }) => id === 'honest'))
    return `${list.length} ${rejected} ${messages(input)}`
  },
} satisfies Target
