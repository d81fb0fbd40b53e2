import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parse } from 'yaml'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { root } from '../cli/doctor/project.ts'
import { releases, startFront as startHaproxy } from '../haproxy/haproxy.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { startFront as startNginx } from '../nginx/front.ts'
import { promtool } from './promtool.ts'

const folder = join(root, 'deploy/observability')
const boards = join(folder, 'grafana/dashboards')

interface Rule {
  readonly record?: string
  readonly alert?: string
  readonly expr: string
}
const rules: Rule[] = readdirSync(join(folder, 'rules')).flatMap((file) =>
  parse(readFileSync(join(folder, 'rules', file), 'utf8')).groups.flatMap((group: { rules: Rule[] }) => group.rules),
)

interface Panel {
  readonly id: number
  readonly title: string
  readonly datasource: { uid: string }
  readonly gridPos: { x: number; y: number; w: number; h: number }
  readonly targets: readonly { expr: string }[]
}
const dashboards = readdirSync(boards).map((file) => ({
  file,
  ...(JSON.parse(readFileSync(join(boards, file), 'utf8')) as { uid: string; title: string; panels: Panel[] }),
}))

/** Names of metrics in an expression: the rest after strings, labels, functions and keywords. */
function metricsIn(expr: string): string[] {
  const bare = expr
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\{[^}]*\}/g, '')
    .replaceAll(/\[[^\]]*\]/g, '')
    .replaceAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '')
  const words = new Set(['and', 'or', 'unless', 'by', 'without', 'bool', 'offset'])
  return [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w*\s*\()/g)].map(([name]) => name).filter((name) => !words.has(name))
}

describe('Prometheus', () => {
  const work = mkdtempSync(join(tmpdir(), 'fleet-observability-'))
  after(() => rmSync(work, { recursive: true, force: true }))

  it('accepts the configuration and the rules', async () => {
    cpSync(folder, work, { recursive: true })
    const token = join(work, 'token')
    writeFileSync(token, 'x')
    const file = join(work, 'prometheus.yml')
    writeFileSync(file, readFileSync(file, 'utf8').replace('/run/secrets/FLEET_ADMIN_TOKEN', token))
    const { code, output } = await promtool('check', 'config', file)
    assert.equal(code, 0, output)
    assert.match(output, /SUCCESS: 2 rule files found|SUCCESS: \d+ rules found/)
  })

  it('fires each alert when expected, and not otherwise', async () => {
    const tests = readdirSync(join(folder, 'tests')).map((file) => join(folder, 'tests', file))
    const { code, output } = await promtool('test', 'rules', ...tests)
    assert.equal(code, 0, output)
    const tested = tests.map((file) => readFileSync(file, 'utf8')).join('')
    for (const { alert } of rules.filter((rule) => rule.alert))
      assert.match(tested, new RegExp(`alertname: ${alert}\\n +exp_alerts`))
  })

  it('parses every expression of every dashboard', async () => {
    const all = dashboards.flatMap(({ panels }) => panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)))
    assert.ok(all.length > 20)
    const file = join(work, 'panels.yml')
    const groups = [{ name: 'panels', rules: all.map((expr, index) => ({ record: `panel:${index}`, expr })) }]
    writeFileSync(file, JSON.stringify({ groups }))
    const { code, output } = await promtool('check', 'rules', file)
    assert.equal(code, 0, output)

    writeFileSync(
      file,
      JSON.stringify({ groups: [{ name: 'broken', rules: [{ record: 'a:b', expr: 'sum(rate(x))' }] }] }),
    )
    assert.notEqual((await promtool('check', 'rules', file)).code, 0)
  })
})

describe('dashboards', () => {
  it('have unique ids, and panels that do not overlap', () => {
    assert.equal(new Set(dashboards.map(({ uid }) => uid)).size, dashboards.length)
    for (const { file, panels } of dashboards) {
      assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, file)
      for (const { title, datasource, gridPos } of panels) {
        assert.equal(datasource.uid, 'prometheus', `${file}: ${title}`)
        assert.ok(gridPos.x + gridPos.w <= 24, `${file}: ${title}`)
        const covers = panels.filter(
          ({ gridPos: other }) =>
            other !== gridPos &&
            other.x < gridPos.x + gridPos.w &&
            gridPos.x < other.x + other.w &&
            other.y < gridPos.y + gridPos.h &&
            gridPos.y < other.y + other.h,
        )
        assert.deepEqual(
          covers.map((panel) => panel.title),
          [],
          `${file}: ${title}`,
        )
      }
    }
  })
})

describe('a running instance', () => {
  let app: App
  let port: number
  let agentPort: number

  before(async () => {
    const redis = await startRedis()
    port = await freePort()
    agentPort = await freePort()
    app = forkApp(join(root, 'src/cli/main.ts'), {
      args: [
        'start',
        join(root, 'test/deploy/fixtures/app.ts'),
        '--workers',
        '1',
        '--control',
        join(temporaryFolder('control'), 's'),
      ],
      env: {
        PORT: port,
        REDIS_URL: redis.url,
        TRUST_PROXY: 'loopback',
        FLEET_AGENT_PORT: agentPort,
        LOG_LEVEL: 'info',
        NODE_ENV: undefined,
      },
    })
    await until(async () => (await fetch(`http://127.0.0.1:${port}/ready`)).ok, { what: 'the instance' })
  })

  it('exports every metric that rules and dashboards use', async () => {
    await fetch(`http://127.0.0.1:${port}/`)
    const recorded = new Set(rules.map(({ record }) => record))
    const expressions = [
      ...rules.map(({ expr }) => expr),
      ...dashboards.flatMap(({ panels }) => panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))),
    ]
    const names = new Set(expressions.flatMap(metricsIn))
    assert.ok(names.size > 15, [...names].join(' '))
    // Metrics of a process group are partial while a worker does not respond in time, so poll until they are complete.
    const complete = async (): Promise<boolean> => {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
      const there = new Set([...text.matchAll(/^([a-zA-Z_:][\w:]*)/gm)].map(([, name]) => name))
      // Prometheus adds the last two itself.
      const known = (name: string): boolean => there.has(name) || recorded.has(name) || ['up', 'ALERTS'].includes(name)
      const unknown = [...names].filter((name) => !known(name))
      assert.deepEqual(unknown, [], `no metric ${unknown}`)
      return /fleet_check_up\{[^}]*check="redis"/.test(text)
    }
    await until(complete, { what: 'every metric' })
  })

  const loggedByApp = (id: string): boolean => app.stdout.split('\n').some((line) => line.includes(`"reqId":"${id}"`))
  const idOf = async (url: string): Promise<string> => {
    // A client's own id is not trusted: the load balancer's id is in all logs.
    const response = await fetch(url, { headers: { 'x-request-id': 'mine' } })
    assert.equal(response.status, 200)
    const id = response.headers.get('x-request-id') ?? ''
    assert.match(id, /^[\w-]{16,}$/)
    return id
  }

  it('logs a request with the same id as nginx', async () => {
    const front = await startNginx({ FLEET_TARGETS: `127.0.0.1:${port}` })
    const id = await idOf(`${front.url}/`)
    await until(() => front.log().some((line) => line.request_id === id), { what: 'the id in nginx’s log' })
    await until(() => loggedByApp(id), { what: 'the id in the instance’s log' })
  })

  it('logs a request with the same id as HAProxy', async () => {
    const [release] = releases
    assert.ok(release)
    // The other two slots are empty.
    const front = await startHaproxy(release, {
      ...{ LB_SERVER_1: `127.0.0.1:${port}`, LB_AGENT_1: String(agentPort) },
      ...{ LB_SERVER_2: '127.0.0.1:1', LB_SERVER_3: '127.0.0.1:1' },
    })
    await front.up('app-1')
    const id = await idOf(`${front.url}/`)
    await until(() => front.log.some((line) => line.requestId === id), { what: 'the id in HAProxy’s log' })
    await until(() => loggedByApp(id), { what: 'the id in the instance’s log' })
  })
})
