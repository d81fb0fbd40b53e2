import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import deploy from '../../../src/cli/commands/deploy.ts'
import { readStatus, sample } from '../../../src/cli/deploy/instance-status.ts'
import { execute, show } from '../../../src/cli/deploy/runner.ts'
import { type DeployPlan, describe as describeStep, type Stage, type Step } from '../../../src/cli/deploy/step.ts'
import { Output } from '../../../src/cli/output.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { runCommand } from '../commands.ts'
import { startInstance } from './stand-ins.ts'

function recorder() {
  const file = join(temporaryFolder('runner'), 'log')
  writeFileSync(file, '')
  const step = (name: string, exit = 0): Step => ({
    do: 'run',
    argv: ['/bin/sh', '-c', `echo ${name} >> ${file}; echo no ${name} >&2; exit ${exit}`],
    timeoutMs: 60_000,
  })
  const stage = (name: string, exit = 0, undoExit = 0): Stage => ({
    title: name,
    steps: [step(`${name}1`, exit), step(`${name}2`)],
    undo: [step(`undo-${name}1`, undoExit), step(`undo-${name}2`)],
  })
  const said: string[] = []
  const stream = { write: (text: string) => said.push(text) }
  const out = new Output({ stdout: stream, stderr: stream })
  const reported: string[] = []
  const report = (kind: string, text: string): void => void reported.push(`${kind}: ${text}`)
  const run = (plan: DeployPlan): Promise<void> => execute(plan, out, {}, report)
  return { step, stage, run, said, reported, out, done: () => readFileSync(file, 'utf8').trim().split('\n').join(' ') }
}

describe('a plan', () => {
  it('executes all steps in order', async () => {
    const { run, stage, said, reported, done } = recorder()
    await run([stage('a'), stage('b')])
    assert.equal(done(), 'a1 a2 b1 b2')
    assert.deepEqual(said, ['… a\n', '✓ a\n', '… b\n', '✓ b\n'])
    assert.deepEqual(reported.slice(0, -1), [
      'deploy-started: 2 steps',
      'deploy-step: 1 of 2: a',
      'deploy-step: 2 of 2: b',
    ])
    assert.match(reported.at(-1) ?? '', /^deploy-finished: 2 steps in \d+ s$/)
    await run([])
    assert.equal(reported.length, 4, 'nothing to do')
  })

  it('undoes the failed stage and all before it, the last first, and executes no later step', async () => {
    const { run, stage, said, reported, done } = recorder()
    await assert.rejects(run([stage('a'), stage('b', 3), stage('c')]), {
      code: 'FLEET_ERR_DEPLOY_FAILED',
      message: /b: .* exited with 3: no b1$/,
    })
    assert.equal(done(), 'a1 a2 b1 undo-b1 undo-b2 undo-a1 undo-a2')
    assert.ok(said.includes('✗ b\n'))
    assert.match(
      reported.join('; '),
      /step: 2 of 3: b; deploy-failed: b: .* exited with 3.*; rolled-back: the previous version serves$/s,
    )
    assert.match(said.join(''), /^rolling back: .* exited with 3/m)
  })

  it('continues a rollback after a failure, and reports both', async () => {
    const { run, stage, reported, done } = recorder()
    await assert.rejects(run([stage('a', 0, 4), stage('b', 3, 5)]), ({ code, message }: Error & { code: string }) => {
      assert.equal(code, 'FLEET_ERR_ROLLBACK_FAILED')
      assert.match(
        message,
        /exited with 5: no undo-b1; .*exited with 4: no undo-a1\. The rollback was caused by: .*exited with 3/s,
      )
      return true
    })
    assert.match(reported.at(-1) ?? '', /^rolled-back: incomplete: /)
    assert.equal(done(), 'a1 a2 b1 undo-b1 undo-b2 undo-a1 undo-a2')
  })

  it('is printed with what undoes it', () => {
    const { out, said } = recorder()
    const pause = (ms: number): Step => ({ do: 'pause', ms, why: 'x' })
    const bare: Stage = { title: 'b', steps: [pause(3_000)], undo: [] }
    show([{ title: 'a', steps: [pause(1_000)], undo: [pause(2_000)] }, bare], out)
    const undo = ['  if this or a later stage fails:', '    wait 2 s: x']
    assert.deepEqual(
      said.map((line) => line.trimEnd()),
      ['a', '  wait 1 s: x', ...undo, 'b', '  wait 3 s: x'],
    )
    said.length = 0
    show([], out)
    assert.deepEqual(said, ['nothing to do\n'])
  })
})

it('describes each kind of step in one line', () => {
  const [socket, timeoutMs, url] = ['/sock', 1_500, 'http://a']
  const limits = { errorMargin: 0, p95Factor: 1, minRequests: 1 }
  const lines: [Step, string][] = [
    [{ do: 'run', argv: ['a', "b'c d", ''], env: { X: 'y z' }, timeoutMs }, `$ X='y z' a 'b'\\''c d' ''`],
    [
      { do: 'write', file: 'f', content: 'upstream x {\n  server a:1;\n  server b:1 down;\n}' },
      'write f: server a:1; server b:1 down',
    ],
    [{ do: 'write', file: 'f', content: '' }, 'write f: '],
    [{ do: 'runtime', socket, command: 'show info' }, 'haproxy> show info'],
    [
      { do: 'server-up', socket, backend: 'fleet', server: 'app-1', timeoutMs },
      'wait until HAProxy has fleet/app-1 up, 1.5 s at most',
    ],
    [{ do: 'ready', url, timeoutMs }, 'wait until http://a is ready, 1.5 s at most'],
    [{ do: 'ready', url, version: '2', timeoutMs }, 'wait until http://a is ready as version 2, 1.5 s at most'],
    [{ do: 'ready', url, color: 'blue', timeoutMs }, 'wait until http://a is ready as blue, 1.5 s at most'],
    [{ do: 'healthy', command: [], service: 'app', besides: [], count: 2 }, 'check that 2 new × app are healthy'],
    [
      { do: 'steady', urls: [url, 'http://b'], version: '2', forMs: 2_000 },
      'watch for 2 s that http://a, http://b stay ready',
    ],
    [
      { do: 'compare', canary: [url], stable: ['http://b'], windowMs: 3_000, limits },
      'compare http://a with http://b for 3 s',
    ],
  ]
  for (const [step, line] of lines) assert.equal(describeStep(step), line)
})

describe('the state of an instance', () => {
  it('has its version and color, or why it is not ready', async () => {
    const instance = await startInstance()
    const status = { ready: true, version: '1', color: 'blue', summary: 'version 1, blue' }
    assert.deepEqual(await readStatus(instance.url), status)
    instance.ready = false
    assert.deepEqual(await readStatus(instance.url), { ready: false, version: '1', summary: '503 draining' })
    assert.deepEqual(await readStatus('http://127.0.0.1:1'), {
      ready: false,
      version: undefined,
      summary: 'ECONNREFUSED',
    })
  })

  it('has counters for operators', async () => {
    const { url } = await startInstance({ metrics: { totals: { requests: 7, errors: 2 }, p95: 9 } })
    assert.deepEqual(await sample(url, 'secret'), { requests: 7, errors: 2, p95: 9 })
    await assert.rejects(sample(url, 'other'), { code: 'FLEET_ERR_NOT_OPERATOR' })
  })
})

describe('fleet deploy', () => {
  async function given() {
    const instances = [await startInstance(), await startInstance()]
    const file = join(temporaryFolder('deploy'), 'upstreams.conf')
    const content = `upstream fleet {\n${instances.map(({ address }) => `  server ${address};\n`).join('')}}\n`
    writeFileSync(file, content)
    const targets = instances.flatMap(({ address }) => ['--target', address])
    const nginx = ['--front', 'nginx', '--upstreams', file, '--settle', '0', '--nginx', '/bin/true']
    return { instances, file, content, args: [...nginx, ...targets, '--version', '2', '--json'] }
  }

  it('prints the plan with --dry-run and executes nothing', async () => {
    const { args, file, content } = await given()
    const { code, stdout } = await runCommand(deploy, 'rolling', ...args, '--start', 'false', '--dry-run')
    const { plan } = JSON.parse(stdout) as { plan: DeployPlan }
    assert.deepEqual([code, plan.length, readFileSync(file, 'utf8')], [0, 5, content])
    const start = plan[1]?.steps[0]
    assert.ok(start?.do === 'run')
    assert.deepEqual([start.argv, start.timeoutMs], [['false'], 60_000])
  })

  it('rolls back and reports the failure', async () => {
    const { args, file, content } = await given()
    const { code, stdout, stderr } = await runCommand(deploy, 'rolling', ...args, '--start', 'false')
    const { ok, error } = JSON.parse(stdout) as { ok: boolean; error: { code: string } }
    assert.deepEqual(
      [code, ok, error.code],
      [1, false, 'FLEET_ERR_ROLLBACK_FAILED'],
      'the command fails in both directions',
    )
    assert.match(stderr, /error FLEET_ERR_ROLLBACK_FAILED/)
    assert.equal(readFileSync(file, 'utf8'), content)
  })

  it('has nothing to do when all instances have the version', async () => {
    const { args, instances, file, content } = await given()
    for (const instance of instances) instance.version = '2'
    assert.deepEqual(await runCommand(deploy, 'rolling', ...args.slice(0, -1), '--start', 'false'), {
      code: 0,
      stdout: 'nothing to do\n',
      stderr: '',
    })
    const done = await runCommand(deploy, 'rolling', ...args, '--start', 'false')
    assert.deepEqual(JSON.parse(done.stdout), { ok: true, plan: [] })
    assert.equal(readFileSync(file, 'utf8'), content)
  })
})
