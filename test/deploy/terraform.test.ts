import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { parse } from '@cdktf/hcl2json'
import { findProgram } from '../../src/cli/up/find.ts'
import { root } from '../cli/doctor/project.ts'

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json }
type Body = { readonly [name: string]: Json }
type Labelled = Readonly<Record<string, readonly Body[]>>

interface Module {
  readonly resource: Readonly<Record<string, Labelled>>
  readonly data: Readonly<Record<string, Labelled>>
  readonly variable: Labelled
  readonly output: Labelled
  readonly locals: readonly Body[]
  readonly texts: ReadonlyMap<string, string>
}

/** Every path of a provider's schema, and whether it is required (see make-provider-schema.ts). */
const schema = new Map<string, string | undefined>(
  readFileSync(new URL('provider-schema.txt', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((line) => [line.split(' ')[0] ?? '', line.split(' ')[1]]),
)
const childrenOf = (path: string): string[] =>
  [...schema.keys()].filter((key) => key.startsWith(`${path}.`) && !key.slice(path.length + 1).includes('.'))

/** The files of a module, parsed by HashiCorp's parser. */
async function load(folder: string, edit: (text: string) => string = (text) => text): Promise<Module> {
  const merged = { resource: {}, data: {}, variable: {}, output: {} } as Record<string, Record<string, Labelled>>
  const locals: Body[] = []
  const texts = new Map<string, string>()
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.tf'))) {
    const text = edit(readFileSync(join(folder, file), 'utf8'))
    texts.set(file, text)
    const { locals: own = [], ...kinds } = (await parse(file, text)) as Record<string, never>
    locals.push(...(own as Body[]))
    for (const [kind, blocks] of Object.entries<Record<string, Labelled>>(kinds)) {
      const known = merged[kind]
      if (!known) continue
      // Resources of one type may be in several files.
      for (const [name, block] of Object.entries(blocks))
        known[name] = Array.isArray(block) ? block : { ...known[name], ...block }
    }
  }
  return { ...merged, locals, texts } as unknown as Module
}

const meta = new Set(['for_each', 'count', 'depends_on', 'lifecycle', 'provider'])
const isBody = (value: Json | undefined): value is Body =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Unknown and missing attributes of a block. */
function problemsOf(path: string, block: Body): string[] {
  const { dynamic = {}, ...own } = block
  const blocks: [string, Json][] = Object.entries(own).filter(([name]) => !meta.has(name))
  // A `dynamic` block is checked by its content.
  for (const [name, made] of Object.entries(dynamic as Body))
    blocks.push([name, (made as readonly Body[]).flatMap(({ content }) => content ?? [])])
  const wrong = blocks.flatMap(([name, value]) => {
    const below = `${path}.${name}`
    if (!schema.has(below)) return [`${below} is unknown`]
    if (schema.get(below) === 'computed') return [`${below} cannot be set`]
    if (childrenOf(below).length === 0) return []
    return [value]
      .flat()
      .filter(isBody)
      .flatMap((inner) => problemsOf(below, inner))
  })
  const given = new Set(blocks.map(([name]) => name))
  const missing = childrenOf(path).filter(
    (child) => schema.get(child) === 'required' && !given.has(child.slice(path.length + 1)),
  )
  return [...wrong, ...missing.map((child) => `${child} is missing`)]
}

const misfits = ({ resource, data }: Module): string[] =>
  [...Object.entries(resource), ...Object.entries(data)].flatMap(([type, named]) => [
    ...(childrenOf(type).length === 0 ? [`${type} is no resource`] : []),
    ...Object.values(named).flatMap((blocks) => blocks.flatMap((block) => problemsOf(type, block))),
  ])

/** References to missing objects, and unused variables. */
function dangling({ resource, data, variable, locals, texts }: Module): string[] {
  const expressions = [...texts.values()].map((text) => text.replaceAll(/^\s*#.*$/gm, '')).join('\n')
  const declared = new Set([
    ...Object.keys(variable).map((name) => `var.${name}`),
    ...locals.flatMap((body) => Object.keys(body)).map((name) => `local.${name}`),
  ])
  const lost = [...expressions.matchAll(/\b(?:var|local)\.\w+/g)]
    .map(([name]) => name)
    .filter((name) => !declared.has(name))
  for (const [whole, prefix, type = '', name = '', attribute] of expressions.matchAll(
    /\b(data\.)?((?:aws|cloudflare)_\w+)\.(\w+)(?:\[[^\]]+\])?(?:\.(\w+))?/g,
  )) {
    const blocks = (prefix ? data : resource)[type]
    if (!blocks?.[name]) lost.push(whole)
    else if (attribute && !schema.has(`${type}.${attribute}`)) lost.push(whole)
  }
  const unused = Object.keys(variable).filter((name) => !new RegExp(`\\bvar\\.${name}\\b`).test(expressions))
  return [...lost, ...unused.map((name) => `var.${name} is not used`)]
}

for (const name of ['aws', 'cloudflare']) {
  const folder = join(root, 'deploy', name)

  describe(`deploy/${name}`, () => {
    it('has no unknown attribute and every required one', async () => {
      assert.deepEqual(misfits(await load(folder)), [])
    })

    it('has no dangling reference and no unused variable', async () => {
      assert.deepEqual(dangling(await load(folder)), [])
    })

    it('describes every variable and output', async () => {
      const { variable, output } = await load(folder)
      for (const [of, [block]] of [...Object.entries(variable), ...Object.entries(output)])
        assert.ok(block?.description, of)
    })

    it('is formatted by terraform fmt', {
      skip: findProgram(['terraform', 'tofu']) ? false : 'terraform is not installed',
    }, () => {
      const program = findProgram(['terraform', 'tofu']) as string
      execFileSync(program, ['fmt', '-check', '-diff', folder], { stdio: 'pipe' })
    })
  })
}

describe('the plan of the doctor’s tests', () => {
  it('has the values of the modules', async () => {
    const plan = readFileSync(join(root, 'test/cli/doctor/shipped-plan.json'), 'utf8').replaceAll('\\"', '"')
    const [aws, cloudflare] = [await load(join(root, 'deploy/aws')), await load(join(root, 'deploy/cloudflare'))]
    const [balancer] = aws.resource.aws_lb?.this ?? []
    const [group] = aws.resource.aws_lb_target_group?.this ?? []
    const [monitor] = cloudflare.resource.cloudflare_load_balancer_monitor?.this ?? []
    const [check] = (group?.health_check ?? []) as readonly Body[]
    const budgets = aws.locals.find((body) => 'budgets' in body)?.budgets as Readonly<Record<string, Body>>
    const { drain, shutdown } = budgets.application as { drain: number; shutdown: number }
    const shown = [
      `"idle_timeout": ${balancer?.idle_timeout}`,
      `"deregistration_delay": "${shutdown + 15}"`,
      ...Object.entries(check ?? {}).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`),
      `"path": "${monitor?.path}"`,
      ...[...(aws.texts.get('ecs.tf') ?? '').matchAll(/\{ name = ("\w+"), value = ("[^"$]+") \}/g)].map(
        ([, name, value]) => `{"name":${name},"value":${value}}`,
      ),
      `"stopTimeout":${shutdown + 15}`,
      `{"name":"DRAIN_DELAY","value":"${drain * 1_000}"}`,
      `{"name":"SHUTDOWN_TIMEOUT","value":"${shutdown * 1_000}"}`,
      '{"name":"FLEET_POOL","value":"default"}',
    ]
    for (const text of shown) assert.ok(plan.includes(text), text)
    assert.ok(shown.length >= 18, `${shown.length}`)
  })
})

describe('the check of Terraform files', () => {
  const folder = join(root, 'deploy/aws')

  it('detects a misspelt argument, a missing one, and a read-only one', async () => {
    const wrong = await load(folder, (text) =>
      text
        .replace('idle_timeout = 60', 'idle_timeouts = 60')
        .replace('bucket  = access_logs.value', '')
        .replace('drop_invalid_header_fields = true', 'arn_suffix = "x"'),
    )
    assert.deepEqual(misfits(wrong).sort(), [
      'aws_lb.access_logs.bucket is missing',
      'aws_lb.arn_suffix cannot be set',
      'aws_lb.idle_timeouts is unknown',
    ])
  })

  it('detects dangling references', async () => {
    const wrong = await load(folder, (text) =>
      text
        .replace('= aws_lb.this[0].arn\n  port              = 80', '= aws_lb.that[0].arn\n  port              = 80')
        .replace('= aws_iam_role.execution.name', '= aws_iam_role.execution.title'),
    )
    assert.deepEqual(dangling(wrong), ['aws_iam_role.execution.title', 'aws_lb.that[0].arn'])
  })

  it('detects invalid HCL', async () => {
    await assert.rejects(load(folder, (text) => text.replace('resource "aws_lb" "this" {', 'resource "aws_lb" "this"')))
  })
})
