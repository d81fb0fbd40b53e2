import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Limits } from '../../../src/cli/deploy/compare.ts'
import { perform } from '../../../src/cli/deploy/perform.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { isAlive } from '../../helpers/alive.ts'
import { until } from '../../helpers/until.ts'
import { serversState, standInForDocker, startInstance, startRuntimeApi } from './stand-ins.ts'

const none = {}
const shell = (script: string, timeoutMs = 60_000) =>
  ({ do: 'run', argv: ['/bin/sh', '-c', script], timeoutMs }) as const

describe('run', () => {
  it('succeeds when the program exits with 0, with its variables, and leaves no file', async (t) => {
    const [folder, before] = [temporaryFolder('run'), process.env.TMPDIR]
    process.env.TMPDIR = folder
    t.after(() => {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
    })
    const to = join(temporaryFolder('to'), 'file')
    const env = { FLEET_VERSION: '2', TO: to }
    await perform({ ...shell('echo "$FLEET_VERSION $PATH" > "$TO"'), env }, none)
    assert.equal(readFileSync(to, 'utf8'), `2 ${process.env.PATH}\n`)
    assert.deepEqual(readdirSync(folder), [])
  })

  it('fails with the command, the exit and the last five lines of its output', async () => {
    const failing = shell('for i in 1 2 3 4 5 6 7; do echo "line $i"; done >&2; exit 3')
    await assert.rejects(perform(failing, none), ({ message }: Error) => {
      assert.match(message, /^\/bin\/sh -c [\s\S]* exited with 3: line 3\nline 4\nline 5\nline 6\nline 7$/)
      return true
    })
    for (const signal of ['KILL', 'TERM', 'INT'])
      await assert.rejects(perform(shell(`kill -${signal} $$`), none), new RegExp(`exited with SIG${signal}$`))
    await assert.rejects(perform({ do: 'run', argv: ['/no/such/program'], timeoutMs: 1_000 }, none), /ENOENT/)
  })

  it('ends the program and its children after the time', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const to = join(temporaryFolder('to'), 'pid')
    const slow = shell(`sleep 600 & echo $! > ${to}; wait`, 2_000)
    const ended = assert.rejects(perform(slow, none), /took longer than 2 s/)
    const pid = await until(() => Number(readFileSync(to, 'utf8')), { what: 'its child' })
    t.mock.timers.tick(2_000)
    await ended
    await until(() => !isAlive(pid), { what: 'its end' })
  })

  it('leaves a program running that was started in the background', async (t) => {
    const to = join(temporaryFolder('to'), 'pid')
    await perform(shell(`sleep 600 & echo $! > ${to}`), none)
    const pid = Number(readFileSync(to, 'utf8'))
    t.after(() => process.kill(pid))
    assert.ok(isAlive(pid))
  })
})

describe('write', () => {
  it('replaces the file at once and keeps its mode', async () => {
    const folder = temporaryFolder('write')
    const file = join(folder, 'upstreams.conf')
    writeFileSync(file, 'old')
    chmodSync(file, 0o640)
    const { ino } = statSync(file)
    await perform({ do: 'write', file, content: 'new' }, none)
    assert.deepEqual([readFileSync(file, 'utf8'), statSync(file).mode & 0o777], ['new', 0o640])
    assert.notEqual(statSync(file).ino, ino)
    assert.deepEqual(readdirSync(folder), ['upstreams.conf'])
  })

  it('leaves nothing behind when the file cannot be replaced', async () => {
    const folder = temporaryFolder('write')
    await assert.rejects(perform({ do: 'write', file: join(folder, 'absent'), content: 'new' }, none), /ENOENT/)
    mkdirSync(join(folder, 'folder'))
    await assert.rejects(perform({ do: 'write', file: join(folder, 'folder'), content: 'new' }, none))
    assert.deepEqual(readdirSync(folder), ['folder'])
  })
})

describe('runtime', () => {
  it('succeeds with an empty or tolerated response only', async () => {
    const { socket, commands } = await startRuntimeApi((command) => (command === 'a' ? '' : 'Agent was not set'))
    await perform({ do: 'runtime', socket, command: 'a' }, none)
    await perform({ do: 'runtime', socket, command: 'b', tolerate: 'was not' }, none)
    await assert.rejects(perform({ do: 'runtime', socket, command: 'b', tolerate: 'other' }, none), /b: Agent was not/)
    await assert.rejects(perform({ do: 'runtime', socket, command: 'c' }, none), /c: Agent was not set/)
    assert.deepEqual(commands, ['a', 'b', 'b', 'c'])
  })

  it('fails without HAProxy', async () => {
    const socket = join(temporaryFolder('api'), 'sock')
    await assert.rejects(perform({ do: 'runtime', socket, command: 'a' }, none), {
      code: 'FLEET_ERR_UNREACHABLE',
      message: /runtime API at .*ENOENT/,
    })
  })
})

describe('server-up', () => {
  it('waits until HAProxy has the server up', async () => {
    let asked = 0
    const lines = () => [
      { name: 'app-1', op: 2 },
      { name: 'app-20', op: 2 },
      { name: 'app-2', op: ++asked < 3 ? 0 : 2 },
    ]
    const { socket, commands } = await startRuntimeApi(() => serversState(...lines()))
    const step = { do: 'server-up', socket, backend: 'fleet', server: 'app-2', timeoutMs: 60_000 } as const
    await perform(step, none)
    assert.deepEqual(commands, Array(3).fill('show servers state fleet'))
    for (const server of ['app-2', 'app-9']) {
      asked = -100
      const late = perform({ ...step, server, timeoutMs: 10 }, none)
      await assert.rejects(late, new RegExp(`fleet/${server} is not up after 0.01 s: its checks do not pass`))
    }
  })
})

describe('ready', () => {
  it('waits for readiness, the version and the color', async () => {
    const instance = await startInstance()
    const expected = { do: 'ready', url: instance.url, version: '2', color: 'green' } as const
    const wrong = async (change: object, message: RegExp): Promise<void> => {
      Object.assign(instance, { ready: true, version: '2', color: 'green' }, change)
      await assert.rejects(perform({ ...expected, timeoutMs: 1 }, none), message)
    }
    await wrong({ ready: false }, /is not ready as version 2, green after 0.001 s: 503 draining$/)
    await wrong({ version: '1' }, /: version 1, green$/)
    await wrong({ color: 'blue' }, /: version 2, blue$/)
    instance.onRequest = () => instance.probes > 2 && Object.assign(instance, { color: 'green' })
    instance.probes = 0
    await perform({ ...expected, timeoutMs: 60_000 }, none)
    assert.ok(instance.probes > 2)
    instance.version = '7'
    await perform({ do: 'ready', url: instance.url, timeoutMs: 1 }, none)
    instance.ready = false
    for (const version of ['7', undefined]) {
      const unready = perform({ do: 'ready', url: instance.url, version, timeoutMs: 1 }, none)
      await assert.rejects(unready, /: 503 draining$/, 'the version alone does not suffice')
    }
  })
})

describe('healthy', () => {
  const healthy = { Status: 'running', Health: { Status: 'healthy' } }

  it('counts new containers that are healthy, or running without a health check', async (t) => {
    const given = standInForDocker(t, { old: { Status: 'exited' }, a: healthy, b: { Status: 'running' } })
    await perform({ do: 'healthy', ...given, besides: ['old'], count: 2 }, none)
    await assert.rejects(perform({ do: 'healthy', ...given, besides: ['old'], count: 3 }, none), /3 new × app/)
    await assert.rejects(
      perform({ do: 'healthy', ...given, besides: [], count: 3 }, none),
      /: exited, healthy, running/,
    )
    await assert.rejects(perform({ do: 'healthy', ...given, besides: ['old', 'a', 'b'], count: 1 }, none), /none exist/)
  })

  it('fails for a container that is starting or unhealthy', async (t) => {
    for (const Status of ['starting', 'unhealthy']) {
      const given = standInForDocker(t, { a: { Status: 'running', Health: { Status } } })
      await assert.rejects(perform({ do: 'healthy', ...given, besides: [], count: 1 }, none), new RegExp(Status))
    }
  })
})

describe('steady', () => {
  it('watches every instance at least once', async () => {
    const instances = [await startInstance({ version: '2' }), await startInstance({ version: '2' })]
    const step = { do: 'steady', urls: instances.map(({ url }) => url), version: '2', forMs: 0 } as const
    await perform(step, none)
    assert.deepEqual(
      instances.map(({ probes }) => probes),
      [1, 1],
    )
  })

  it('fails as soon as one is not ready or has another version', async () => {
    for (const change of [{ ready: false }, { version: '1' }]) {
      const [good, bad] = [await startInstance({ version: '2' }), await startInstance({ version: '2' })]
      bad.onRequest = () => bad.probes > 1 && Object.assign(bad, change)
      const step = { do: 'steady', urls: [good.url, bad.url], version: '2', forMs: 60_000 } as const
      await assert.rejects(perform(step, none), new RegExp(`${bad.url} did not stay ready`))
    }
  })
})

describe('compare', () => {
  const limits: Limits = { errorMargin: 0.01, p95Factor: 1.5, minRequests: 50 }
  const secrets = { token: 'secret' }
  async function sides() {
    const [canary, stable] = [await startInstance(), await startInstance()]
    const step = { do: 'compare', canary: [canary.url], stable: [stable.url], windowMs: 100, limits } as const
    /** After the first sample. */
    const report = (metrics: object): void => {
      let samples = 0
      canary.onRequest = () => ++samples > 1 && Object.assign(canary.metrics, metrics)
    }
    return { canary, stable, step, report }
  }

  it('passes a canary that is not worse, by the counts within the window', async () => {
    const { canary, step, report } = await sides()
    canary.metrics = { totals: { requests: 1_000, errors: 900 }, p95: 5 }
    report({ totals: { requests: 1_100, errors: 900 } })
    await perform(step, secrets)
  })

  it('fails one with errors before the end of the window, and one with too few requests at its end', async () => {
    const { canary, step, report } = await sides()
    report({ totals: { requests: 100, errors: 50 } })
    await assert.rejects(perform({ ...step, windowMs: 600_000 }, secrets), /the canary is worse: 50 % of its responses/)
    canary.metrics = { totals: { requests: 0, errors: 0 }, p95: 5 }
    report({ totals: { requests: 49, errors: 0 } })
    await assert.rejects(perform(step, secrets), /it received 49 requests/)
  })

  it('fails when an instance restarts meanwhile', async () => {
    const { canary, step, report } = await sides()
    canary.metrics = { totals: { requests: 1_000, errors: 0 }, p95: 5 }
    report({ totals: { requests: 3, errors: 0 } })
    await assert.rejects(perform(step, secrets), new RegExp(`${canary.url} restarted during the comparison`))
  })

  it('asks the operators’ paths, with the token', async () => {
    const { canary, stable, step, report } = await sides()
    await assert.rejects(perform(step, {}), { code: 'FLEET_ERR_NOT_OPERATOR' })
    report({ totals: { requests: 100, errors: 0 } })
    const operators = new Map([
      ['http://canary', canary.url],
      ['http://stable', stable.url],
    ])
    const mapped = { ...step, canary: ['http://canary'], stable: ['http://stable'] }
    await perform(mapped, { ...secrets, operatorsUrl: (url) => operators.get(url) ?? assert.fail(url) })
    for (const metrics of [{ totals: { requests: 1 }, p95: 5 }, { totals: { requests: 1, errors: 1 } }, { p95: 1 }]) {
      canary.metrics = metrics
      canary.onRequest = undefined
      await assert.rejects(perform(step, secrets), /not an instance of a fleet/)
    }
  })
})

it('a pause lasts its time', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let over = false
  const paused = perform({ do: 'pause', ms: 5_000, why: '' }, none).then(() => {
    over = true
  })
  t.mock.timers.tick(4_999)
  await new Promise(setImmediate)
  assert.equal(over, false)
  t.mock.timers.tick(1)
  await paused
})
