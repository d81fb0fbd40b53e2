import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { haproxyRotation } from '../../../src/cli/deploy/fronts/haproxy.ts'
import { nginxRotation } from '../../../src/cli/deploy/fronts/nginx.ts'
import { servers } from '../../../src/cli/deploy/haproxy-api.ts'
import { type Share, type Shares, sameShares } from '../../../src/cli/deploy/rotation.ts'
import type { Step } from '../../../src/cli/deploy/step.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { serversState, startRuntimeApi } from './stand-ins.ts'

const at = (port: number): string => `127.0.0.1:${port}`
const [a, b, c] = [at(1), at(2), at(3)]
const shares = (...entries: [string, Share][]): Shares => new Map(entries)

it('is the same rotation only with the same addresses and shares', () => {
  const now = shares([a, 'full'], [b, 20])
  assert.ok(sameShares(now, shares([b, 20], [a, 'full'])))
  for (const other of [shares([a, 'full'], [b, 21]), shares([a, 20], [b, 'full']), shares([a, 'full'], [c, 20])])
    assert.equal(sameShares(now, other), false)
  for (const other of [shares([a, 'full']), shares([a, 'full'], [b, 20], [c, 'none'])])
    assert.equal(sameShares(now, other), false)
})

describe('HAProxy', () => {
  it('counts a server as up if it is running or starting and no operator has removed it', async () => {
    const lines = [
      ...[0, 1, 2, 3].map((op) => ({ name: `op-${op}`, op })),
      ...[0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40].map((admin) => ({ name: `admin-${admin}`, admin })),
    ]
    const { socket } = await startRuntimeApi(() => serversState(...lines))
    const states = await servers(socket, 'fleet')
    const up = states.filter((state) => state.up).map(({ name }) => name)
    assert.deepEqual(up, ['op-1', 'op-2', 'admin-32', 'admin-64'])
    const out = states.filter((state) => state.out).map(({ name }) => name)
    assert.deepEqual(out, ['admin-1', 'admin-2', 'admin-4', 'admin-8', 'admin-16'])
  })

  it('reads the rotation: out, a weight of the runtime API, or the configured one, also by an agent', async () => {
    const lines = [
      { name: 'full', port: 1 },
      { name: 'out', port: 2, admin: 8 },
      { name: 'weighed', port: 3, weight: 20 },
      { name: 'by-agent', port: 4, weight: 30, agent: 6 },
      { name: 'agent-off', port: 5, weight: 40, agent: 2 },
      { name: 'no-agent', port: 6, weight: 50, agent: 4 },
      { name: 'other', port: 10 },
      { name: 'elsewhere', host: '10.0.0.7', port: 2 },
    ]
    const { socket } = await startRuntimeApi(() => serversState(...lines))
    const { now } = await haproxyRotation({ socket, backend: 'fleet', timeoutMs: 1 }, [1, 2, 3, 4, 5, 6].map(at))
    assert.deepEqual(
      [...now],
      [
        [at(1), 'full'],
        [at(2), 'none'],
        [at(3), 20],
        [at(4), 'full'],
        [at(5), 40],
        [at(6), 50],
      ],
    )
  })

  it('gives before it takes, and keeps the agent from undoing either', async () => {
    const lines = [1, 2, 3].map((port) => ({ name: `app-${port}`, port }))
    const { socket } = await startRuntimeApi(() => serversState(...lines))
    const rotation = await haproxyRotation({ socket, backend: 'fleet', timeoutMs: 7 }, [a, b, c])
    const change = (from: Shares, to: Shares): string[] => rotation.change(from, to).map(brief)
    const from = shares([a, 'full'], [b, 'none'])
    const disable = (name: string): string => `disable agent fleet/${name}`
    assert.deepEqual(change(from, shares([b, 'full'], [c, 20])), [
      'set weight fleet/app-2 100%',
      'set server fleet/app-2 state ready',
      'enable agent fleet/app-2, unless Agent was not configured',
      'app-2 up within 7',
      disable('app-3'),
      'set weight fleet/app-3 20',
      'set server fleet/app-3 state ready',
      'app-3 up within 7',
      disable('app-1'),
      'set server fleet/app-1 state drain',
    ])
    assert.deepEqual(change(from, from), [])
    assert.deepEqual(change(from, shares([a, 'full'])), [], 'an absent one is out')
  })

  it('rejects an unknown backend and an address without a server', async () => {
    const { socket } = await startRuntimeApi((command) =>
      command.endsWith(' fleet') ? serversState({ name: 'app-1' }) : "Can't find backend.",
    )
    const open = (backend: string) => haproxyRotation({ socket, backend, timeoutMs: 1 }, [a, b])
    await assert.rejects(open('fleet'), {
      code: 'FLEET_ERR_USAGE',
      message: /backend fleet has no server at 127\.0\.0\.1:2$/,
    })
    await assert.rejects(open('x'), { code: 'FLEET_ERR_USAGE', message: /Can't find backend/ })
  })
})

function brief(step: Step): string {
  if (step.do === 'runtime') return step.tolerate ? `${step.command}, unless ${step.tolerate}` : step.command
  if (step.do === 'server-up') return `${step.server} up within ${step.timeoutMs}`
  if (step.do === 'run') return step.argv.join(' ')
  return step.do === 'pause' ? `pause ${step.ms}` : step.do
}

describe('nginx', () => {
  const text = `upstream fleet {\n  server ${a};\n  server ${b} down;\n  server ${at(9)};\n}\n`
  const written = (content = text): string => {
    const file = join(temporaryFolder('nginx'), 'upstreams.conf')
    writeFileSync(file, content)
    return file
  }
  const options = { upstream: 'fleet', command: ['nginx', '-p', '/etc/fleet'], settleMs: 30, timeoutMs: 7 }

  it('checks the file before nginx reads it, and waits for old workers', async () => {
    const file = written()
    const { now, change } = await nginxRotation({ ...options, file }, [a, b, c])
    assert.deepEqual(
      [...now],
      [
        [a, 'full'],
        [b, 'none'],
      ],
    )
    const steps = change(now, shares([b, 'full']))
    const calls = ['nginx -p /etc/fleet -t', 'nginx -p /etc/fleet -s reload']
    assert.deepEqual(steps.map(brief), ['write', ...calls, 'pause 30'])
    const [write] = steps
    assert.ok(write?.do === 'write')
    assert.deepEqual([write.file, write.content], [file, `upstream fleet {\n  server ${b};\n  server ${at(9)};\n}\n`])
    assert.equal(readFileSync(file, 'utf8'), text)
    assert.deepEqual(change(now, now), [])
  })

  it('rejects a file without the upstream, or without one of its addresses, and one that cannot be read', async () => {
    const open = (file: string, managed = [a], upstream = 'fleet') =>
      nginxRotation({ ...options, file, upstream }, managed)
    await assert.rejects(open('/no/such/file'), { code: 'FLEET_ERR_USAGE', message: /--upstreams: ENOENT/ })
    await assert.rejects(open(written(), [a], 'other'), { code: 'FLEET_ERR_USAGE', message: /has no upstream other/ })
    await assert.rejects(open(written(), [c]), { code: 'FLEET_ERR_USAGE', message: /with one of 127\.0\.0\.1:3$/ })
    await assert.rejects(open(written('upstream fleet {\n}\n')), { code: 'FLEET_ERR_USAGE' })
    await assert.rejects(open(written(`upstream fleet {\n  # server ${a};\n  server unix:x;\n}\n`)), {
      code: 'FLEET_ERR_USAGE',
    })
  })
})
