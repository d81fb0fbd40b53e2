import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import doctor from '../../../src/cli/commands/doctor.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { others, traps } from '../../../src/cli/doctor/rules.ts'
import { readAll } from '../../../src/cli/doctor/run.ts'
import { instanceDefaults, ladder, settings, timeoutTables } from '../../../src/cli/doctor/timeout-rules.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { startPostgres } from '../../helpers/postgres.ts'
import { startRedis } from '../../helpers/redis.ts'
import { runCommand } from '../commands.ts'
import { project, root, shipped } from './project.ts'

const weak = 'FLEET_NAME=shop\nJWT_SECRET=short\n'

describe('fleet doctor', () => {
  it('says nothing wrong with exit code 0', async () => {
    const own = project()
    own.write('.env', 'FLEET_NAME=shop\n')
    const { code, stdout } = await runCommand(doctor, own.path('.env'))
    assert.equal(code, 0)
    assert.match(stdout, /1 file read, nothing wrong/)
  })

  it('says what is wrong, where, and how it is mended, with exit code 1, and never shows a secret', async () => {
    const own = project()
    own.write('.env', 'FLEET_NAME=shop\nJWT_SECRET=tooshort4you\n')
    const { code, stdout } = await runCommand(doctor, own.path('.env'))
    assert.equal(code, 1)
    assert.match(stdout, /\.env:2 DOCTOR_SECRET_WEAK\n {2}a secret can be guessed .*\n {2}mend: /)
    assert.doesNotMatch(stdout, /tooshort4you/)
  })

  it('has it as JSON', async () => {
    const own = project()
    own.write('.env', weak)
    const { stdout } = await runCommand(doctor, own.path('.env'), '--json')
    const { healthy, findings, files } = JSON.parse(stdout)
    assert.equal(healthy, false)
    assert.deepEqual(
      files.map((file: { kind: string }) => file.kind),
      ['environment'],
    )
    assert.deepEqual(Object.keys(findings[0]).sort(), ['code', 'file', 'line', 'mend', 'message'])
  })

  it('leaves out what is ignored', async () => {
    const own = project()
    own.write('.env', weak)
    assert.equal((await runCommand(doctor, own.path('.env'), '--ignore', 'DOCTOR_SECRET_WEAK')).code, 0)
  })

  it('takes the longest request into account', async () => {
    const own = project()
    own.write('.env', 'SHUTDOWN_TIMEOUT=30000\n')
    assert.equal((await runCommand(doctor, own.path('.env'), '--longest', '25')).code, 0)
    assert.equal((await runCommand(doctor, own.path('.env'), '--longest', '26')).code, 1)
  })

  it('cannot run on nothing, on what is not there, or with a wrong number', async () => {
    const own = project()
    for (const args of [[own.folder], [own.path('none.conf')], [own.folder, '--longest', 'long']]) {
      assert.equal((await runCommand(doctor, ...args)).code, 2)
    }
  })

  it('reads what kubectl kustomize prints from stdin', async () => {
    const child = spawn(process.execPath, [join(root, 'src/cli/main.ts'), 'doctor', '-'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdin.end(
      'apiVersion: apps/v1\nkind: Deployment\nspec: { template: { spec: { containers: [{ readinessProbe: { httpGet: { path: /health } } }] } } }\n',
    )
    assert.match(await text(child.stdout), /-:3 DOCTOR_READINESS_PATH/)
  })
})

describe('servers that .env files name', () => {
  it('are asked, and found when they answer', async (t) => {
    const [redis, postgres] = await Promise.all([
      startRedis({ args: ['--requirepass', 'x'.repeat(40)] }),
      startPostgres(),
    ])
    t.after(() => Promise.all([redis.stop(), postgres.stop()]))
    const own = project()
    const withPassword = (password: string): string => redis.url.replace('redis://', `redis://:${password}@`)
    own.write('.env', `REDIS_URL=${withPassword('x'.repeat(40))}\nDATABASE_URL=${postgres.url}\n`)
    const ignored = ['--ignore', 'DOCTOR_SECRET_WEAK']
    assert.deepEqual(JSON.parse((await runCommand(doctor, own.path('.env'), '--json', ...ignored)).stdout).findings, [])

    own.write('.env', `REDIS_URL=${withPassword('y'.repeat(40))}\n`)
    const refused = await runCommand(doctor, own.path('.env'), ...ignored)
    assert.match(refused.stdout, /DOCTOR_REDIS_UNREACHABLE\n.*WRONGPASS/)
  })

  it('are reported when they do not, unless --offline', async () => {
    const own = project()
    const port = await freePort()
    own.write('.env', `REDIS_HOST=127.0.0.1\nREDIS_PORT=${port}\nDATABASE_URL=postgresql://127.0.0.1:${port}/shop\n`)
    const { stdout } = await runCommand(doctor, own.path('.env'))
    assert.match(stdout, /\.env:1 DOCTOR_REDIS_UNREACHABLE\n.*ECONNREFUSED/)
    assert.match(stdout, /\.env:3 DOCTOR_DATABASE_UNREACHABLE\n.*ECONNREFUSED/)
    assert.equal((await runCommand(doctor, own.path('.env'), '--offline')).code, 0)
  })
})

describe('the rules', () => {
  const read = (file: string): string => readFileSync(join(root, file), 'utf8')

  it('and docs/doctor.md name the same codes', () => {
    const documented = [...read('docs/doctor.md').matchAll(/^\| `(DOCTOR_\w+)` \|/gm)].map((match) => match[1])
    const codes = [...ladder, ...Object.values(traps), ...Object.values(others)].map(({ code }) => code)
    assert.deepEqual(documented.sort(), [...new Set(codes)].sort())
  })

  it('and docs/timeouts.md have the same tables', () => {
    for (const table of timeoutTables().split('\n\n')) assert.ok(read('docs/timeouts.md').includes(table), table)
  })

  it('say of the shipped files what they are', async () => {
    const { readings } = await readAll(collect(shipped.map((file) => join(root, file))))
    const sources: Record<string, string> = { HAProxy: 'haproxy', Kubernetes: 'kubernetes', ALB: 'alb', ECS: 'ecs' }
    const units: Record<string, number> = { s: 1_000, min: 60_000, h: 3_600_000 }
    let compared = 0
    for (const { where, setting, shipped: told, term } of settings) {
      const [, count, unit = ''] = /^([\d.]+) (s|min|h)\b/.exec(told) ?? []
      if (term === 'none' || where === 'app' || !count) continue
      const source = sources[where] ?? where
      const facts = readings.flatMap((reading) =>
        reading.role !== 'sighting' && reading.source === source
          ? [(reading as never as Record<string, { value: number } | undefined>)[`${term}Ms`]?.value ?? []].flat()
          : [],
      )
      assert.ok(
        facts.length > 0 && facts.some((ms) => ms === Number(count) * (units[unit] ?? 0)),
        `${where} ${setting}: ${told}, read ${facts}`,
      )
      compared++
    }
    assert.ok(compared >= 11, `${compared}`)
  })

  it('know the instance’s own defaults', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false })
    const { shutdownTimeoutMs } = (
      app.fleet as never as { configuration: { lifecycle: { shutdownTimeoutMs: number } } }
    ).configuration.lifecycle
    assert.equal(shutdownTimeoutMs, instanceDefaults.shutdownMs)
    assert.equal(Fastify().initialConfig.keepAliveTimeout, instanceDefaults.keepAliveMs)
    // DRAIN_DELAY's default in production stands in the room's own documentation.
    assert.match(
      read('src/instance/lifecycle/index.ts'),
      new RegExp(`else ${instanceDefaults.drainMs} with NODE_ENV=production`),
    )
  })
})
