import assert from 'node:assert/strict'
import childProcess, { type ExecFileOptions } from 'node:child_process'
import { chmodSync, readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { Source } from '../../../src/cli/doctor/facts.ts'
import { askApp } from '../../../src/cli/doctor/programs/app.ts'
import { composeConfig } from '../../../src/cli/doctor/programs/compose.ts'
import { evaluateNamed } from '../../../src/cli/doctor/programs/index.ts'
import { kustomize } from '../../../src/cli/doctor/programs/kustomize.ts'
import { readApp } from '../../../src/cli/doctor/readers/app.ts'
import { project } from './project.ts'

describe('a program that evaluates files', () => {
  const { PATH } = process.env
  let own: ReturnType<typeof project>
  beforeEach(() => {
    own = project()
    own.write('bin/none', '')
    process.env.PATH = own.path('bin')
  })
  afterEach(() => {
    process.env.PATH = PATH
  })

  /** Puts a program on PATH that records its arguments. */
  function provide(name: string, body: string): () => string[] {
    own.write(`bin/${name}`, `#!/bin/sh\necho "$@" >> '${own.path(name)}'\n${body}\n`)
    chmodSync(own.path(`bin/${name}`), 0o755)
    return () => readFileSync(own.path(name), 'utf8').trim().split('\n')
  }
  const printing = (text: string): string => `/bin/cat <<'END'\n${text}\nEND`

  it('is Docker for compose files, with all profiles and the override of a file alone', async () => {
    const calls = provide('docker', printing('{"services":{"app":{"image":"shop"}}}'))
    const [main, override] = [own.path('compose.yml'), own.path('compose.override.yml')]
    const config = ['--profile', '*', 'config', '--format', 'json'].join(' ')
    assert.deepEqual(await composeConfig([main]), { services: { app: { image: 'shop' } } })
    own.write('compose.override.yml', '')
    await composeConfig([main])
    await composeConfig([main, own.path('b.yml')])
    assert.deepEqual(calls(), [
      `compose -f ${main} ${config}`,
      `compose -f ${main} -f ${override} ${config}`,
      `compose -f ${main} -f ${own.path('b.yml')} ${config}`,
    ])
  })

  it('does not matter where it is missing, and tells why it rejects a file', async () => {
    assert.equal(await composeConfig(['compose.yml']), undefined)
    for (const message of ["docker: 'compose' is not a docker command.", 'unknown flag: --profile']) {
      provide('docker', `echo "${message}" >&2; exit 1`)
      assert.equal(await composeConfig(['compose.yml']), undefined)
    }
    provide('docker', 'echo "a warning" >&2; echo "services.app is wrong" >&2; exit 15')
    assert.deepEqual(await composeConfig(['compose.yml']), { error: 'services.app is wrong' })
  })

  it('is killed after a minute', async (t) => {
    const { execFile } = childProcess
    const given: ExecFileOptions[] = []
    const run = async (_command: string, _args: readonly string[], options: ExecFileOptions) => {
      given.push(options)
      return { stdout: '{}', stderr: '' }
    }
    const replace = (by: object): void => {
      Object.assign(childProcess, { execFile: by })
      syncBuiltinESMExports()
    }
    replace(Object.assign(() => {}, { [promisify.custom]: run }))
    t.after(() => replace(execFile))
    await composeConfig(['compose.yml'])
    assert.deepEqual(
      given.map(({ timeout, killSignal }) => [timeout, killSignal]),
      [[60_000, 'SIGKILL']],
    )
  })

  it('runs for named files only, for those of one folder together', async () => {
    const calls = provide('docker', printing('{"services":{}}'))
    const source = (file: string, named: boolean): Source => ({ file: own.path(file), text: 'services: {}\n', named })
    const found = await evaluateNamed(
      [
        source('compose.yml', true),
        source('b/compose.yml', true),
        source('compose.prod.yml', true),
        source('c/compose.yml', false),
      ],
      {},
    )
    assert.deepEqual(
      found.map(({ evaluated }) => evaluated),
      [{ services: {} }, { services: {} }, { services: {} }, undefined],
    )
    assert.deepEqual(
      calls().map((call) => call.match(/\S+\.yml/g)),
      [[own.path('compose.yml'), own.path('compose.prod.yml')], [own.path('b/compose.yml')]],
    )
    const code = { file: own.path('ecosystem.config.cjs'), text: 'module.exports = []' }
    own.write('ecosystem.config.cjs', code.text)
    assert.deepEqual(await evaluateNamed([code], {}), [code])
    assert.deepEqual((await evaluateNamed([{ ...code, named: true }], {}))[0]?.evaluated, { value: [] })
  })

  it('is kubectl for kustomizations, or kustomize without it', async () => {
    const source = { file: own.path('kustomization.yml'), text: '', named: true }
    const error = (await kustomize(source)).evaluated
    assert.deepEqual(error, { error: 'kubectl is not installed' })
    const second = provide('kustomize', printing('kind: Pod'))
    const { file, text, kind } = await kustomize(source)
    assert.deepEqual([file, text, kind], [`${source.file} (kubectl kustomize)`, 'kind: Pod\n', 'kubernetes'])
    const first = provide('kubectl', printing('kind: Job'))
    assert.equal((await kustomize(source)).text, 'kind: Job\n')
    assert.equal((await evaluateNamed([source], {}))[0]?.text, 'kind: Job\n')
    assert.deepEqual([second(), first()], [[`build ${own.folder}`], Array(2).fill(`kustomize ${own.folder}`)])
    provide('kubectl', 'echo "no such resource" >&2; exit 1')
    assert.deepEqual((await kustomize(source)).evaluated, { error: 'no such resource' })
    const unnamed = { ...source, named: false }
    assert.deepEqual(await evaluateNamed([unnamed], {}), [unnamed])
  })
})

describe('an app', () => {
  it('is given up after its time', async () => {
    const own = project()
    own.write('loop.mjs', 'setInterval(() => {}, 1e6)\n')
    await assert.rejects(askApp(own.path('loop.mjs'), 1), {
      code: 'FLEET_ERR_USAGE',
      message: /did not report within 0\.001 s/,
    })
    await assert.rejects(askApp(own.path('none.mjs')), { code: 'FLEET_ERR_USAGE', message: /no such file/ })
  })

  const app = { production: true, checks: {}, trustProxy: 'none' }
  const read = (more: object, file = 'server.js') =>
    readApp([{ file, text: '', evaluated: { doctor: 'report', app: { ...app, ...more } } }], new Map(), () => undefined)
  const environment = (more: object): Record<string, string | undefined> => {
    const [one] = [...(read(more) as Awaited<ReturnType<typeof readApp>>)]
    return one?.role === 'instance' ? Object.fromEntries([...one.env].map(([name, { value }]) => [name, value])) : {}
  }

  it('has the drain that it reports, which is not known without fleet or outside production', () => {
    const drain = { drainDelayMs: 0, shutdownTimeoutMs: 9_000 }
    assert.deepEqual(environment(drain), { DRAIN_DELAY: '0', SHUTDOWN_TIMEOUT: '9000' })
    assert.deepEqual(environment({ ...drain, production: false }), { SHUTDOWN_TIMEOUT: '9000' })
    assert.deepEqual(environment({}), { DRAIN_DELAY: undefined, SHUTDOWN_TIMEOUT: undefined })
    assert.equal('TRUST_PROXY' in environment({ trustProxy: 'some' }), true)
  })

  it('is certain in production, or if it runs', () => {
    const assumed = (production: boolean, file?: string) =>
      (read({ production }, file) as Awaited<ReturnType<typeof readApp>>).map(
        (one) => (one as { assumed?: string }).assumed,
      )
    assert.deepEqual([assumed(true), assumed(false, 'https://shop')], [[undefined], [undefined]])
    assert.deepEqual(assumed(false), ['this shell has the environment of the deployment'])
  })

  it('has a problem with what it reports as down, and nothing else', () => {
    const checks = {
      redis: { status: 'down', lastError: 'ECONNREFUSED' },
      database: { status: 'degraded' },
      disk: { status: 'down' },
    }
    const found = read({ checks }) as Awaited<ReturnType<typeof readApp>>
    assert.deepEqual(
      found.flatMap((one) => (one.role === 'violation' ? [[one.code, one.detail]] : [])),
      [['DOCTOR_REDIS_UNREACHABLE', 'ECONNREFUSED']],
    )
  })
})
