import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const program = `
import { registerHooks } from 'node:module'

const files = []
registerHooks({
  load(url, context, next) {
    files.push(url)
    return next(url, context)
  },
})
const { default: Fastify } = await import('fastify')
const { fleet } = await import('./src/index.ts')

const app = Fastify()
await app.register(fleet)
await app.ready()
console.log(JSON.stringify([...process.moduleLoadList, ...files]))
await app.close()
`

/** Modules that cost memory and are of no use in an app with only the umbrella plugin. */
const unused = [
  'NativeModule internal/deps/undici/',
  '/node_modules/undici/',
  '/node_modules/ioredis/',
  '/node_modules/pg/',
  '/src/database/',
  '/src/edge/http/',
  '/src/edge/balancer/',
  '/src/geo/database',
]

test('an app does not load unused modules', async () => {
  const cwd = fileURLToPath(new URL('../..', import.meta.url))
  const args = ['--input-type=module', '--eval', program]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, maxBuffer: 2 ** 24 })
  const loaded: string[] = JSON.parse(stdout)
  assert.ok(
    loaded.some((name) => name.includes('/node_modules/fastify/')),
    'the list is one of what was loaded',
  )
  // Node's own undici comes with an import of any value from `node:http`; see src/base/internals/node-http.ts.
  for (const name of unused) assert.deepEqual(loaded.filter((one) => one.includes(name)).slice(0, 1), [])
})
