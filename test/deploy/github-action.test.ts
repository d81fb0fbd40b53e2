import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { parse } from 'yaml'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { smallFleet, token } from '../cli/small-fleet.ts'

const folder = fileURLToPath(new URL('../../deploy/github-action', import.meta.url))
const action = parse(readFileSync(join(folder, 'action.yml'), 'utf8'))

/** Composite actions by GitHub’s reference of the metadata syntax, as far as this one goes. */
const text = { type: 'string', minLength: 1 }
const of = (required: string[], properties: object): object => ({
  type: 'object',
  additionalProperties: false,
  required,
  properties,
})
const step = of(['run', 'shell'], {
  name: text,
  shell: { enum: ['bash'] },
  run: text,
  env: { type: 'object', additionalProperties: text },
})
const schema = of(['name', 'description', 'inputs', 'runs'], {
  name: text,
  description: text,
  inputs: {
    type: 'object',
    propertyNames: { pattern: '^[a-z][a-z0-9-]*$' },
    additionalProperties: of(['description'], {
      description: text,
      required: { type: 'boolean' },
      default: { type: 'string' },
    }),
  },
  runs: of(['using', 'steps'], { using: { const: 'composite' }, steps: { type: 'array', minItems: 1, items: step } }),
})

const { run, env } = action.runs.steps[0] as { run: string; env: Record<string, string> }

/** Runs the step as a runner does: with inputs or their defaults in its environment, by `bash -e -o pipefail`. */
async function runStep(given: Record<string, string>): Promise<{ code: number; summary: string; reports: string }> {
  const cwd = temporaryFolder('github-action')
  const summary = join(cwd, 'summary.md')
  const inputs = Object.entries(env).map(([name, expression]) => {
    const input = /^\$\{\{ inputs\.([a-z0-9-]+) \}\}$/.exec(expression)?.[1] ?? ''
    assert.ok(input in action.inputs, `${name}: ${expression}`)
    return [name, given[input] ?? action.inputs[input].default ?? '']
  })
  const variables = { PATH: process.env.PATH, GITHUB_ACTION_PATH: folder, GITHUB_STEP_SUMMARY: summary }
  const options = { cwd, env: { ...variables, ...Object.fromEntries(inputs) } }
  const code = await new Promise<number>((resolve) => {
    execFile('bash', ['--noprofile', '--norc', '-e', '-o', 'pipefail', '-c', run], options, (error) =>
      resolve(error ? Number(error.code) : 0),
    )
  })
  return { code, summary: readFileSync(summary, 'utf8'), reports: join(cwd, given.reports ?? 'fleet-test') }
}

const start = async (t: TestContext) => {
  const fleet = await smallFleet()
  t.after(() => fleet.close())
  return fleet
}

describe('deploy/github-action', () => {
  it('has the form of a composite action, and inserts no input into its script', async () => {
    const app = Fastify({ ajv: { customOptions: { removeAdditional: false, coerceTypes: false } } })
    app.post('/', { schema: { body: schema } }, async () => 'valid')
    assert.equal((await app.inject({ method: 'POST', url: '/', body: action })).body, 'valid')
    assert.doesNotMatch(run, /\$\{\{/)
    const used = Object.values(env).join(' ')
    for (const input of Object.keys(action.inputs)) assert.ok(used.includes(`inputs.${input} }}`), input)
  })

  it('tests a fleet and writes each report', async (t) => {
    const { front } = await start(t)
    const given = {
      url: front,
      instances: '3',
      token,
      options: '--requests 60 --load-distribution',
      'max-p95': '600000',
    }
    const { code, summary, reports } = await runStep({ ...given, reports: 'out/of tests' })
    assert.equal(code, 0, summary)
    assert.match(
      summary,
      /^### fleet test of http:\S+: passed\n\n```text\n✓ load: 60 requests to \/health, none failed\n/,
    )
    assert.equal(JSON.parse(readFileSync(join(reports, 'report.json'), 'utf8')).verdict, 'pass')
    for (const file of ['report.html', 'junit.xml']) assert.ok(existsSync(join(reports, file)), file)
  })

  it('fails with the exit code of fleet test', async (t) => {
    const { front } = await start(t)
    const failed = await runStep({ url: front, instances: '4', options: '--load-distribution --requests 40' })
    assert.equal(failed.code, 1)
    assert.match(failed.summary, /: failed\n[\s\S]*✗ load: 3 of 4 instances responded → /)
    const unreachable = await runStep({ url: 'http://127.0.0.1:1', kill: `echo "it's"` })
    assert.equal(unreachable.code, 2)
    assert.match(unreachable.summary, /^### fleet test could not run\n\n```text\n✗ .*ECONNREFUSED/)
    assert.match(readFileSync(join(unreachable.reports, 'junit.xml'), 'utf8'), /<error type="FLEET_ERR_UNREACHABLE"/)
  })
})
