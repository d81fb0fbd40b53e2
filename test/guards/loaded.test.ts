import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const program = (options: string): string => `
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
await app.register(fleet, ${options})
await app.ready()
console.log(JSON.stringify([...process.moduleLoadList, ...files, app.printPlugins()]))
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
  '/node_modules/@fastify/cors/',
]
/** What `preset: 'core'` does without. The package's entry exports all plugins, which are loaded when they are registered. */
const unusedByCore = [
  '/node_modules/@fastify/helmet/',
  '/node_modules/@fastify/rate-limit/',
  '/node_modules/jsonwebtoken/',
  ...[
    'broadcast',
    'registry',
    'locks',
    'rate-limit/index',
    'jwt',
    'cache',
    'http-cache',
    'idempotency',
    'operator-links',
  ].map((name) => `/src/state/${name}`),
  ...['security-headers', 'error-responses', 'admin-api', 'agent-check'].map((name) => `/src/instance/${name}`),
  ...['/src/dashboard/', '/src/geo/', '/src/edge/'],
  ...['fleet-helmet', 'load-balancer', 'agent-check', 'geo', 'broadcast', 'registry', 'locks', 'rate-limit', 'jwt'],
  ...['fleet-cache', 'http-cache', 'idempotency', 'dashboard', 'error-responses'],
]

for (const [options, names] of [
  ['{}', unused],
  ["{ preset: 'core' }", [...unused, ...unusedByCore]],
] as const) {
  test(`an app with the options ${options} does not load unused modules`, () => doesNotLoad(options, names))
}

async function doesNotLoad(options: string, names: readonly string[]): Promise<void> {
  const cwd = fileURLToPath(new URL('../..', import.meta.url))
  const args = ['--input-type=module', '--eval', program(options)]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, maxBuffer: 2 ** 24 })
  const loaded: string[] = JSON.parse(stdout)
  assert.ok(
    loaded.some((name) => name.includes('/node_modules/fastify/')),
    'the list is one of what was loaded',
  )
  // Node's own undici comes with an import of any value from `node:http`; see src/base/internals/node-http.ts.
  const found = (name: string): string[] => {
    const isPlugin = !/[/ ]/.test(name)
    const lines = isPlugin ? (loaded.at(-1) ?? '').split('\n') : loaded.slice(0, -1)
    return lines
      .filter((one) => one.includes(isPlugin && !name.startsWith('fleet-') ? `fleet-${name}` : name))
      .slice(0, 1)
  }
  for (const name of names) assert.deepEqual(found(name), [])
}
