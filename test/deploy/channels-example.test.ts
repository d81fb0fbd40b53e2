import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { root } from '../cli/doctor/project.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

it('the example of docs/observability.md receives states and requests', async (t) => {
  const example = /```js\n(\/\/ spans\.mjs[\s\S]*?)```/.exec(
    readFileSync(join(root, 'docs/observability.md'), 'utf8'),
  )?.[1]
  assert.ok(example)
  const folder = mkdtempSync(join(tmpdir(), 'fleet-channels-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'spans.mjs')
  writeFileSync(file, example)

  const port = await freePort()
  const app = forkApp(join(root, 'test/deploy/fixtures/app.ts'), {
    execArgv: ['--import', file],
    env: { PORT: port, INSTANCE_ID: 'one', LOG_LEVEL: 'silent', REDIS_URL: undefined, NODE_ENV: undefined },
  })
  await app.waitFor(/one is serving/)
  const response = await fetch(`http://127.0.0.1:${port}/`)
  const id = response.headers.get('x-request-id')
  await until(() => app.stdout.includes(`GET / ${id} `), { what: 'the request' })
  await app.kill('SIGTERM')
  assert.match(app.stdout, /one is draining\n[\s\S]*one is closed/)
})
