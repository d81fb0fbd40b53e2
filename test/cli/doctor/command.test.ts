import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import doctor from '../../../src/cli/commands/doctor.ts'
import { inequality, meaning } from '../../../src/cli/doctor/explain.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { rules } from '../../../src/cli/doctor/rules.ts'
import { readAll } from '../../../src/cli/doctor/run.ts'
import { instanceDefaults, timeoutRules } from '../../../src/cli/doctor/timeout-rules.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { startPostgres } from '../../helpers/postgres.ts'
import { startRedis } from '../../helpers/redis.ts'
import { runCommand } from '../commands.ts'
import { project, root, shipped } from './project.ts'

const weak = 'FLEET_NAME=shop\nJWT_SECRET=short\n'

describe('fleet doctor', () => {
  it('exits with 0 when there is no problem', async () => {
    const own = project()
    own.write('.env', 'FLEET_NAME=shop\n')
    const { code, stdout } = await runCommand(doctor, own.path('.env'))
    assert.equal(code, 0)
    assert.match(stdout, /1 file read, 1 fact, 2 rules applied, no problems/)
  })

  it('exits with 1, prints the place, the problem and the fix, and never shows a secret', async () => {
    const own = project()
    own.write('.env', 'FLEET_NAME=shop\nJWT_SECRET=tooshort4you\n')
    const { code, stdout } = await runCommand(doctor, own.path('.env'))
    assert.equal(code, 1)
    assert.match(stdout, /\.env:2 DOCTOR_SECRET_WEAK\n {2}a secret can be guessed .*\n {2}fix: /)
    assert.doesNotMatch(stdout, /tooshort4you/)
  })

  it('prints JSON with --json', async () => {
    const own = project()
    own.write('.env', weak)
    const { stdout } = await runCommand(doctor, own.path('.env'), '--json')
    const { healthy, findings, files } = JSON.parse(stdout)
    assert.equal(healthy, false)
    assert.deepEqual(
      files.map((file: { kind: string }) => file.kind),
      ['environment'],
    )
    assert.deepEqual(Object.keys(findings[0]).sort(), ['code', 'confidence', 'file', 'fix', 'line', 'message'])
  })

  it('skips the codes of --ignore', async () => {
    const own = project()
    own.write('.env', weak)
    assert.equal((await runCommand(doctor, own.path('.env'), '--ignore', 'DOCTOR_SECRET_WEAK')).code, 0)
  })

  it('uses the duration of --longest, without which a short shutdown is a warning', async () => {
    const own = project()
    own.write('.env', 'SHUTDOWN_TIMEOUT=10000\nDRAIN_DELAY=5000\n')
    assert.equal((await runCommand(doctor, own.path('.env'), '--offline')).code, 0)
    assert.equal((await runCommand(doctor, own.path('.env'), '--offline', '--longest', '10')).code, 1)
    own.write('.env', 'SHUTDOWN_TIMEOUT=30000\nDRAIN_DELAY=5000\n')
    assert.equal((await runCommand(doctor, own.path('.env'), '--longest', '25')).code, 0)
    assert.equal((await runCommand(doctor, own.path('.env'), '--longest', '26')).code, 1)
  })

  it('exits with 2 for a folder without files, a missing file or an invalid number', async () => {
    const own = project()
    for (const args of [[own.folder], [own.path('none.conf')], [own.folder, '--longest', 'long']]) {
      assert.equal((await runCommand(doctor, ...args)).code, 2)
    }
  })

  it('reads the output of kubectl kustomize from stdin', async () => {
    const child = spawn(process.execPath, [join(root, 'src/cli/main.ts'), 'doctor', '-'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdin.end(
      'apiVersion: apps/v1\nkind: Deployment\nspec: { template: { spec: { containers: [{ readinessProbe: { httpGet: { path: /health } } }] } } }\n',
    )
    assert.match(await text(child.stdout), /-:3 DOCTOR_READINESS_PATH/)
  })

  it('reads at most 16 MB of stdin', async (t) => {
    const stdin = new PassThrough()
    t.mock.getter(process, 'stdin', () => stdin as never)
    stdin.end(Buffer.alloc(16_000_001, 'x'))
    const { code, stderr } = await runCommand(doctor, '-', '--offline')
    assert.equal(code, 2)
    assert.match(stderr, /stdin is longer than 16 MB/)
  })
})

describe('servers in .env files', () => {
  it('are contacted, and reported only when they reject the login', async (t) => {
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
    const rejected = await runCommand(doctor, own.path('.env'), ...ignored)
    assert.match(rejected.stdout, /DOCTOR_REDIS_UNREACHABLE\n.*WRONGPASS/)
  })

  it('are reported when unreachable, unless --offline is set', async () => {
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

  it('have the same codes as docs/doctor.md', () => {
    const documented = [...read('docs/doctor.md').matchAll(/^\| `(DOCTOR_\w+)` \|/gm)].map((match) => match[1])
    const codes = [...timeoutRules.map(({ code }) => code), ...Object.keys(rules)]
    assert.deepEqual(documented.sort(), [...new Set(codes)].sort())
  })

  it('are in the table of docs/timeouts.md, which names every term', () => {
    const rows = timeoutRules.map((rule) => `| \`${inequality(rule)}\` | ${rule.why} | \`${rule.code}\` |`)
    const text = read('docs/timeouts.md')
    assert.ok(text.includes(['| rule | why | code |', '|---|---|---|', ...rows, ''].join('\n')), rows.join('\n'))
    for (const [term, what] of Object.entries(meaning))
      assert.ok(text.replaceAll('`', '').includes(`\n- ${term}: ${what}\n`), term)
  })

  /** Where, setting, default, shipped value and term of a setting with a rule. */
  const row = /^\| ([^|]+) \| ([^|]+) \| [^|]* \| ([^|]*) \| `(\w+)` \|$/gm

  it('list the values of the shipped files', async () => {
    const { readings } = await readAll(collect(shipped.map((file) => join(root, file))))
    const sources: Record<string, string> = { HAProxy: 'haproxy', Kubernetes: 'kubernetes', ALB: 'alb', ECS: 'ecs' }
    const units: Record<string, number> = { s: 1_000, min: 60_000, h: 3_600_000 }
    let compared = 0
    const table = read('docs/timeouts.md').split('## Every timeout')[1] ?? ''
    const known = new Set<string>(timeoutRules.flatMap(({ less, more }) => [...less, ...more]))
    for (const [, where = '', setting, listed = '', term = ''] of table.matchAll(row)) {
      assert.ok(known.has(term), term)
      const [, count, unit = ''] = /^([\d.]+) (s|min|h)\b/.exec(listed) ?? []
      if (where === 'app' || !count) continue
      const source = sources[where] ?? where
      const facts = readings.flatMap((reading) =>
        (reading.role === 'front' || reading.role === 'instance') && reading.source === source
          ? [(reading as never as Record<string, { value: number } | undefined>)[`${term}Ms`]?.value ?? []].flat()
          : [],
      )
      assert.ok(
        facts.length > 0 && facts.some((ms) => ms === Number(count) * (units[unit] ?? 0)),
        `${where} ${setting}: ${listed}, read ${facts}`,
      )
      compared++
    }
    assert.ok(compared >= 11, `${compared}`)
  })

  it('have the defaults of an instance', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    const { NODE_ENV } = process.env
    process.env.NODE_ENV = 'production'
    await app.register(lifecycle, { signals: false })
    if (NODE_ENV === undefined) delete process.env.NODE_ENV
    else process.env.NODE_ENV = NODE_ENV
    const { shutdownTimeoutMs, drainDelayMs } = (
      app.fleet as never as { configuration: { lifecycle: { shutdownTimeoutMs: number; drainDelayMs: number } } }
    ).configuration.lifecycle
    assert.equal(shutdownTimeoutMs, instanceDefaults.shutdownMs)
    assert.equal(drainDelayMs, instanceDefaults.drainMs)
    assert.equal(Fastify().initialConfig.keepAliveTimeout, instanceDefaults.keepAliveMs)
  })
})
