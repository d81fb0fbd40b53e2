import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { relative } from 'node:path'
import { before, describe, it } from 'node:test'
import doctor from '../../../src/cli/commands/doctor.ts'
import type { Source } from '../../../src/cli/doctor/facts.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { askApp } from '../../../src/cli/doctor/programs/app.ts'
import type { AppReport } from '../../../src/cli/doctor/programs/check-hook.ts'
import { examine } from '../../../src/cli/doctor/run.ts'
import { timeoutRules } from '../../../src/cli/doctor/timeout-rules.ts'
import { runCommand } from '../commands.ts'
import { mistakes } from './mistakes.ts'
import { project, root, shipped } from './project.ts'

const fastify = JSON.stringify(`${root}node_modules/fastify/fastify.js`)
const fleet = JSON.stringify(`${root}src/index.ts`)

/** Asks a program that Node runs as its main module. */
async function ask(name: string, text: string): Promise<AppReport> {
  const own = project()
  own.write(name, text)
  return await askApp(own.path(name))
}

describe('planted mistakes of timeouts', () => {
  const copy = project(shipped)
  const codes: ReadonlySet<string> = new Set(timeoutRules.map(({ code }) => code))
  let app: Source

  before(async () => {
    const report = await ask(
      'server.mjs',
      `const secret = process.getBuiltinModule('node:crypto').randomBytes(32).toString('hex')
Object.assign(process.env, { NODE_ENV: 'production', FLEET_ALLOW_MEMORY: '1', SESSION_SECRET: secret, JWT_SECRET: secret })
const { default: Fastify } = await import(${fastify})
const { fleet, serverOptions } = await import(${fleet})
const app = Fastify(serverOptions())
await app.register(fleet, { name: 'shop', preset: 'core' })
await app.listen({ port: 0 })
`,
    )
    assert.equal(report.error, undefined)
    app = { file: 'server.mjs', text: '', kind: 'app', named: true, evaluated: report }
  })

  for (const { what, code, file, from, to, at = file, also } of mistakes.filter((one) => codes.has(one.code)))
    it(`${what}: certain with --app`, async () => {
      const undo = [copy.edit(file, from, to), also ? copy.edit(also.file, also.from, also.to) : () => {}]
      try {
        const sources = collect(shipped.map((one) => copy.path(one)))
        const { findings } = await examine([...sources, app], { longestMs: 10_000, connect: false })
        const own = findings.filter((one) => one.code === code && relative(copy.folder, one.file) === at)
        assert.deepEqual([...new Set(own.map(({ confidence }) => confidence))], ['certain'])
      } finally {
        for (const back of undo) back()
      }
    })
})

describe('a plugin of fastify-cli', () => {
  it('runs in an app with its options, decorates the app itself, and has some time to connect', async () => {
    const { app } = await ask(
      'app.mjs',
      `import { fleet } from ${fleet}
export const options = { keepAliveTimeout: 4000 }
export default async function app (fastify, opts) {
  await fastify.register(fleet, { name: 'shop', preset: 'core', lifecycle: { shutdownTimeoutMs: 3 * opts.keepAliveTimeout } })
  let attempts = 0
  fastify.health.add('late', () => { if (attempts++ === 0) throw new Error('connecting') })
}
`,
    )
    assert.equal(app?.keepAliveTimeoutMs, 4_000)
    assert.equal(app?.shutdownTimeoutMs, 12_000)
    assert.equal(app?.checks.late?.status, 'up')
  })

  it('may be a CommonJS module, with a callback', async () => {
    const { app } = await ask(
      'app.cjs',
      `module.exports = (fastify, opts, done) => setTimeout(done, 20)
module.exports.options = { trustProxy: true }
`,
    )
    assert.equal(app?.trustProxy, 'all')
  })

  it('may fail', async () => {
    const { error } = await ask('app.mjs', `export default async () => { throw new Error('no database here') }\n`)
    assert.equal(error, 'no database here')
  })

  it('is no function that creates an app', async () => {
    const text = `const fastify = require(${fastify})\nmodule.exports = (options = {}) => fastify(options)\n`
    assert.match((await ask('build.cjs', text)).error ?? '', /creates an app: pass the file that calls it/)
  })
})

describe('an app that listens', () => {
  it('may start other servers first, which bind no port', async (t) => {
    const taken = createServer()
    taken.listen(0, '127.0.0.1')
    await once(taken, 'listening')
    t.after(() => taken.close())
    const { app, error } = await ask(
      'app.mjs',
      `import { once } from 'node:events'
import { createServer } from 'node:net'
import fastify from ${fastify}
const metrics = createServer().listen(${(taken.address() as AddressInfo).port}, '127.0.0.1')
await once(metrics, 'listening')
await fastify({ keepAliveTimeout: 1000 }).listen({ port: 0 })
`,
    )
    assert.equal(error, undefined)
    assert.equal(app?.keepAliveTimeoutMs, 1_000)
  })

  it('has two seconds to close', async () => {
    const own = project()
    own.write(
      'app.mjs',
      `import { writeFileSync } from 'node:fs'
import fastify from ${fastify}
const times = []
process.on('exit', () => writeFileSync(${JSON.stringify(own.path('times'))}, times.join()))
const { setTimeout: later } = globalThis
globalThis.setTimeout = (run, ms, ...values) => {
  times.push(ms)
  return later(run, ms / 100, ...values)
}
const app = fastify()
app.addHook('onClose', () => new Promise(() => {}))
await app.listen({ port: 0 })
`,
    )
    assert.equal((await askApp(own.path('app.mjs'))).error, undefined)
    assert.match(readFileSync(own.path('times'), 'utf8'), /\b2000\b/)
  })
})

describe('an app that never listens', () => {
  it('is the last one, and reported once it waits for nothing, though it keeps a process alive', async () => {
    const { app } = await ask(
      'app.cjs',
      `const fastify = require(${fastify})
const { Worker } = require('node:worker_threads')
new Worker('setInterval(() => {}, 1e6)', { eval: true })
fastify({ keepAliveTimeout: 3000 })
module.exports = fastify({ trustProxy: true, keepAliveTimeout: require.main === module ? 1000 : 2000 })
`,
    )
    assert.equal(app?.trustProxy, 'all')
    assert.equal(app?.keepAliveTimeoutMs, 1_000)
  })

  it('is waited for while it starts, with its plugins', async () => {
    const { app } = await ask(
      'app.mjs',
      `import fastify from ${fastify}
const app = fastify()
const start = async () => {
  await new Promise((resolve) => setTimeout(resolve, 2500))
  app.register(async () => { app.server.keepAliveTimeout = 1000 })
  await app.listen({ port: 0 })
}
start()
`,
    )
    assert.equal(app?.keepAliveTimeoutMs, 1_000)
  })
})

describe('several apps', () => {
  it('in the workers of a cluster report by their primary', async () => {
    const { app } = await ask(
      'cluster.mjs',
      `import cluster from 'node:cluster'
import fastify from ${fastify}
if (cluster.isPrimary) cluster.fork()
else await fastify({ keepAliveTimeout: 1000 }).listen({ port: 0 })
`,
    )
    assert.equal(app?.keepAliveTimeoutMs, 1_000)
  })

  it('report for themselves only', async () => {
    const own = project()
    for (const name of ['a', 'b'])
      own.write(
        `${name}.mjs`,
        `import fastify from ${fastify}\nawait fastify({ keepAliveTimeout: 5000 }).listen({ port: 0 })\n`,
      )
    own.write(
      'compose.yml',
      'services:\n  shop:\n    build: .\n    stop_grace_period: 5s\n    environment: { FLEET_NAME: shop, REDIS_URL: redis://redis, TRUST_PROXY: loopback }\n',
    )
    const apps = ['a', 'b'].flatMap((name) => ['--app', own.path(`${name}.mjs`)])
    const { stdout } = await runCommand(doctor, ...apps, own.folder, '--json', '--offline')
    const found = JSON.parse(stdout).findings.map(
      ({ code, confidence }: Record<string, string>) => `${confidence} ${code}`,
    )
    assert.deepEqual(found, ['assumed DOCTOR_GRACE'])
  })
})
