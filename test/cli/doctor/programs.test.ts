import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer as createHttpsServer } from 'node:https'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import doctor from '../../../src/cli/commands/doctor.ts'
import { evaluatePm2 } from '../../../src/cli/doctor/programs/pm2.ts'
import { fleet } from '../../../src/index.ts'
import { pem, startListening } from '../../edge/listening.ts'
import { runCommand } from '../commands.ts'
import { type Project, project, root } from './project.ts'

interface Report {
  readonly findings: readonly { code: string; file: string; line: number; message: string; confidence: string }[]
  readonly files: readonly { file: string; kind: string; unjudged: readonly { why: string }[] }[]
}

async function report(...args: string[]): Promise<Report> {
  const { stdout, stderr } = await runCommand(doctor, ...args, '--offline', '--json')
  assert.equal(stderr, '')
  return JSON.parse(stdout)
}

const codes = ({ findings }: Report): string[] => findings.map(({ code, confidence }) => `${confidence} ${code}`).sort()

const front = `events {}
http {
  upstream app { server 127.0.0.1:3000 fail_timeout=6s; server 127.0.0.1:3001 fail_timeout=6s; keepalive 32; keepalive_timeout 30s; }
  server { listen 8080; location / {
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; } }
}
`

/** An app in a folder of its own, which has the packages of this project. */
function app(own: Project, body: string): string {
  const imports = `import Fastify from ${JSON.stringify(join(root, 'node_modules/fastify/fastify.js'))}
import { fleet } from ${JSON.stringify(join(root, 'src/index.ts'))}
`
  own.write('server.mjs', imports + body)
  own.write('nginx.conf', front)
  return own.path('server.mjs')
}

describe('--app', () => {
  it('reports what the app runs with, however its code computes it, and binds no port', async (t) => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    t.after(() => taken.close())
    const { port } = taken.address() as { port: number }
    const own = project()
    const file = app(
      own,
      `const app = Fastify({ trustProxy: 1, keepAliveTimeout: 65 * 1000 })
await app.register(fleet, { name: 'shop', lifecycle: { shutdownTimeoutMs: 4 * 3000, drainDelayMs: 7000 } })
app.addHook('onReady', async () => (await import('node:fs')).writeFileSync(${JSON.stringify(own.path('ran'))}, ''))
await app.listen({ host: '127.0.0.1', port: ${port} })
`,
    )
    const found = await report('--app', file, own.path('nginx.conf'), '--longest', '10')
    assert.deepEqual(codes(found), ['certain DOCTOR_AVOID', 'certain DOCTOR_SHUTDOWN'])
    assert.match(JSON.stringify(found.findings), /drain 7 s [^"]*server\.mjs:1/)
    assert.ok(!existsSync(own.path('ran')), 'hooks of a ready app did not run')
  })

  it('counts assignments, and warns that nobody is trusted in this environment', async () => {
    const own = project()
    const file = app(
      own,
      `const app = Fastify()
app.server.keepAliveTimeout = 5000
await app.listen({ port: 0 })
`,
    )
    const found = await report('--app', file, own.path('nginx.conf'))
    assert.deepEqual(codes(found), ['assumed DOCTOR_TRUST_MISSING', 'certain DOCTOR_KEEPALIVE'])
  })

  it('reports an app that trusts everyone, also one that ends without listening', async () => {
    const own = project()
    const file = app(own, 'Fastify({ trustProxy: true })\n')
    assert.deepEqual(codes(await report('--app', file)), ['certain DOCTOR_TRUST_EVERYONE'])
  })

  it('reports an app that does not start, and whose Redis is down', async () => {
    const own = project()
    const file = app(own, `Fastify({ trustProxy: '300.0.0.0/8' })\n`)
    const [finding] = (await report('--app', file)).findings
    assert.equal(finding?.code, 'DOCTOR_APP_START')
    assert.match(finding?.message ?? '', /300\.0\.0\.0/)
    const redis = `const app = Fastify()
await app.register(fleet, { name: 'shop', redis: { url: 'redis://127.0.0.1:1' } })
await app.listen({ port: 0 })
`
    assert.ok(codes(await report('--app', app(own, redis))).includes('certain DOCTOR_REDIS_UNREACHABLE'))
  })

  it('cannot ask a program without a Fastify app, or a file that does not exist', async () => {
    const own = project()
    own.write('cli.mjs', 'console.log("no server here")\n')
    const { code, stderr } = await runCommand(doctor, '--app', own.path('cli.mjs'))
    assert.equal(code, 2)
    assert.match(stderr, /without a Fastify app; its output: no server here/)
    assert.equal((await runCommand(doctor, '--app', own.path('none.mjs'))).code, 2)
  })

  it('is needed for code, which a folder’s report names', async () => {
    const own = project()
    app(own, 'Fastify({ trustProxy: true, keepAliveTimeout: 1 })\n')
    const { stdout } = await runCommand(doctor, own.folder, '--offline')
    assert.match(stdout, /server\.mjs: not read: code is not read: ask the app with `--app FILE`/)
    assert.doesNotMatch(stdout, /DOCTOR_TRUST_EVERYONE|DOCTOR_KEEPALIVE/)
  })
})

describe('--url', () => {
  it('asks a running instance, with the token of a file', async (t) => {
    const token = 'an-operators-token-of-forty-characters-x'
    const instance = Fastify({ keepAliveTimeout: 5_000 })
    t.after(() => instance.close())
    await instance.register(fleet, {
      preset: 'core',
      operators: { token },
      loadBalancer: {},
      lifecycle: { signals: false, drainDelayMs: 4_000 },
    })
    const url = await instance.listen({ host: '127.0.0.1', port: 0 })
    const own = project()
    own.write('token', `${token}\n`)
    own.write('nginx.conf', front)
    const found = await report('--url', url, '--token-file', own.path('token'), own.path('nginx.conf'))
    assert.deepEqual(codes(found), ['certain DOCTOR_KEEPALIVE', 'certain DOCTOR_TRUST_MISSING'])
    assert.doesNotMatch(JSON.stringify(found), /an-operators-token/)

    const wrong = await runCommand(doctor, '--url', url, '--token', 'x'.repeat(40))
    assert.match(wrong.stderr, /FLEET_ERR_NOT_OPERATOR/)
    assert.equal((await runCommand(doctor, '--url', url, '--token-file', own.path('none'))).code, 2)
    const both = await runCommand(doctor, '--url', url, '--token', token, '--token-file', own.path('token'))
    assert.deepEqual([both.code, /pass either --token or --token-file/.test(both.stderr)], [2, true])
    process.env.FLEET_ADMIN_TOKEN = token
    t.after(() => delete process.env.FLEET_ADMIN_TOKEN)
    assert.deepEqual(codes(await report('--url', url, own.path('nginx.conf'))), codes(found))
  })

  it('accepts a self-signed certificate with --insecure only', async () => {
    const server = createHttpsServer(pem, (_request, response) => response.end('{}'))
    const url = `https://localhost:${await startListening(server)}`
    assert.match((await runCommand(doctor, '--url', url)).stderr, /FLEET_ERR_UNREACHABLE .*SELF_SIGNED/)
    const { stderr } = await runCommand(doctor, '--url', url, '--insecure')
    assert.match(stderr, /does not report its effective configuration/)
  })
})

describe('a named ecosystem file', () => {
  it('is evaluated as pm2 does, with lines where its text has them', async () => {
    const own = project()
    const text = `const os = require('os')
const apps = ['shop', 'blog'].map((name) => ({
  name, script: 'server.js', instances: os.cpus().length, wait_ready: true, kill_timeout: 1000 * 5,
  env: { FLEET_NAME: name, SHUTDOWN_TIMEOUT: process.env.SHUTDOWN_TIMEOUT || 30000, HOME: process.env.HOME },
}))
module.exports = { apps }
`
    own.write('ecosystem.config.cjs', text)
    assert.deepEqual(codes(await report(own.path('ecosystem.config.cjs'))), ['certain DOCTOR_GRACE'])
    const [folder] = (await report(own.folder)).files
    assert.match(folder?.unjudged[0]?.why ?? '', /apps are computed; name the file/)
  })

  it('cannot read other files, start processes or threads, connect, or see this environment', async () => {
    const own = project()
    own.write('secret', 'outside')
    own.write(
      'deploy/ecosystem.config.cjs',
      `const attempts = {
  read: () => require('fs').readFileSync(${JSON.stringify(own.path('secret'))}),
  write: () => require('fs').writeFileSync(__dirname + '/x', ''),
  spawn: () => require('child_process').execFileSync('true'),
  thread: () => new (require('worker_threads').Worker)('', { eval: true }),
  connect: () => require('net').connect(1, '127.0.0.1'),
  listen: () => require('net').createServer().listen(0),
  datagram: () => require('dgram').createSocket('udp4').bind(0),
}
const outcome = (attempt) => { try { attempt(); return 'done' } catch (error) { return error.code } }
module.exports = () => ({ env: Object.keys(process.env), ...Object.fromEntries(Object.entries(attempts).map(([name, attempt]) => [name, outcome(attempt)])) })
`,
    )
    const denied = 'ERR_ACCESS_DENIED'
    assert.deepEqual(await evaluatePm2(own.path('deploy/ecosystem.config.cjs')), {
      value: {
        ...{ env: [], read: denied, write: denied, spawn: denied, thread: denied },
        ...{ connect: denied, listen: denied, datagram: denied },
      },
    })
  })

  it('is bounded in time, memory and output, and its errors are reported', async () => {
    const own = project()
    own.write('loop.config.cjs', 'for (;;);\n')
    assert.deepEqual(await evaluatePm2(own.path('loop.config.cjs'), 500), { error: 'it did not end within 0.5 s' })
    const stubborn =
      "process.on('SIGTERM', () => process.exit()); module.exports = () => new Promise(() => setInterval(() => {}, 1e6))"
    own.write('stubborn.config.cjs', `${stubborn}\n`)
    assert.deepEqual(await evaluatePm2(own.path('stubborn.config.cjs'), 500), { error: 'it did not end within 0.5 s' })
    own.write('verbose.config.cjs', "process.stdout.write('x'.repeat(1_000_001)); module.exports = {}\n")
    assert.deepEqual(await evaluatePm2(own.path('verbose.config.cjs')), { error: 'it has more than 1 MB' })
    own.write('large.config.cjs', 'const all = []; for (;;) all.push(new Array(1e5).fill(1))\n')
    assert.match((await evaluatePm2(own.path('large.config.cjs'))).error ?? '', /128 MiB/)
    own.write('ecosystem.config.cjs', "module.exports = require('./missing.js')\n")
    const [file] = (await report(own.path('ecosystem.config.cjs'))).files
    assert.match(file?.unjudged[0]?.why ?? '', /it cannot be evaluated: Cannot find module '\.\/missing\.js'/)
  })
})

const runs = (command: string, ...args: string[]): boolean => {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

describe('other programs', () => {
  it('evaluate named compose files', {
    skip: !runs('docker', 'compose', 'version') && 'Docker Compose is not installed',
  }, async () => {
    const own = project()
    own.write(
      'compose.yml',
      `services:
  base:
    image: shop
    stop_grace_period: 5s
  app:
    extends: base
    environment:
      FLEET_NAME: shop
      SHUTDOWN_TIMEOUT: \${SHUTDOWN_OF_THIS_TEST:-\${OTHER:-20000}}
      SESSION_SECRET: \${SECRET_OF_THIS_TEST}
`,
    )
    own.write('compose.prod.yml', 'services:\n  app:\n    entrypoint: [npm]\n    command: [start]\n')
    const found = await report(own.path('compose.yml'), own.path('compose.prod.yml'))
    assert.deepEqual(codes(found), ['certain DOCTOR_GRACE', 'certain DOCTOR_SIGNALS'])
    assert.deepEqual(
      found.findings.map(({ line }) => line),
      [3, 4],
    )
    own.write('compose.yml', 'services:\n  app:\n    image: shop\n    unknown_key: 1\n')
    const [file] = (await report(own.path('compose.yml'))).files
    assert.match(file?.unjudged[0]?.why ?? '', /Docker rejects it: .*unknown_key/)
  })

  it('build a named kustomization', {
    skip: !runs('kubectl', 'version', '--client') && 'kubectl is not installed',
  }, async () => {
    const own = project()
    own.write('base/kustomization.yml', 'resources: [app.yml]\n')
    own.write(
      'base/app.yml',
      `apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        - name: shop
          image: shop
          env: [{ name: FLEET_NAME, value: shop }, { name: SHUTDOWN_TIMEOUT, value: "30000" }, { name: TRUST_PROXY, value: loopback }, { name: REDIS_URL, value: "redis://redis" }]
          readinessProbe: { httpGet: { path: /ready, port: 3000 } }
`,
    )
    own.write(
      'prod/kustomization.yml',
      `resources: [../base]
patches:
  - target: { kind: Deployment }
    patch: '[{ "op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 10 }]'
`,
    )
    const found = await report(own.path('prod/kustomization.yml'))
    assert.deepEqual(codes(found), ['certain DOCTOR_GRACE'])
    assert.match(found.findings[0]?.file ?? '', /kustomization\.yml \(kubectl kustomize\)$/)
  })
})
