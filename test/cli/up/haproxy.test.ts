import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname } from 'node:path'
import { it } from 'node:test'
import { exchange } from '../../../src/cli/exchange.ts'
import { findProgram } from '../../../src/cli/up/find.ts'
import { haproxyFront } from '../../../src/cli/up/haproxy.ts'
import { startListening } from '../../edge/listening.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'

const skip = findProgram(['haproxy']) ? false : 'needs haproxy'

it('HAProxy of fleet up serves this machine only, with statistics for the password of its note', {
  skip,
}, async (t) => {
  const app = createServer((_request, response) => response.writeHead(200, { connection: 'close' }).end('from the app'))
  const plan = { port: await freePort(), instances: [await startListening(app), 1], agents: [1, 2], drainDelayMs: 0 }
  const server = await haproxyFront.start(plan, { install: false })
  t.after(() => server.stop())
  const [files = '', figures = ''] = server.notes ?? []
  const [, config = '', log = ''] = /^HAProxy runs (\S+), logs to (\S+), runtime API \S+sock$/.exec(files) ?? []
  assert.equal(dirname(config), dirname(log))
  const text = readFileSync(config, 'utf8')
  assert.match(text, new RegExp(`127\\.0\\.0\\.1:${plan.instances[0]}"? agent-port "?1\\b`))
  assert.match(text, /127\.0\.0\.1:1"? agent-port "?2\b/)
  await until(async () => (await (await fetch(`http://127.0.0.1:${plan.port}/`)).text()) === 'from the app')

  const pattern = /^HAProxy statistics (\S+), user admin, password (\S+); metrics (\S+)$/
  const [, stats = '', password = '', metrics = ''] = pattern.exec(figures) ?? []
  const asking = (secret: string) => ({ headers: { authorization: `Basic ${btoa(`admin:${secret}`)}` } })
  assert.equal((await fetch(stats, asking(password))).status, 200)
  assert.equal((await fetch(stats, asking('guess'))).status, 401)
  assert.equal((await fetch(metrics)).status, 200)
  if (process.platform !== 'linux') return
  for (const port of [plan.port, Number(new URL(stats).port), Number(new URL(metrics).port)])
    assert.equal((await exchange({ host: '127.0.0.2', port, timeoutMs: 10_000 })).error, 'ECONNREFUSED')
})

it('HAProxy of fleet up does not show a password of the environment', { skip }, async (t) => {
  process.env.LB_STATS_PASSWORD = 'not-for-the-screen'
  t.after(() => void delete process.env.LB_STATS_PASSWORD)
  const plan = { port: await freePort(), instances: [1], drainDelayMs: 0 }
  const server = await haproxyFront.start(plan, { install: false })
  t.after(() => server.stop())
  assert.match(server.notes?.[1] ?? '', /, password LB_STATS_PASSWORD; /)
})
