import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Validator } from '@seriousme/openapi-schema-validator'
import { errorCodes } from '../../src/base/errors.ts'

const { reference } = (await import(new URL('../../scripts/reference.js', import.meta.url).href)) as {
  reference(): Promise<Map<string, string>>
}
const { tables } = (await import(new URL('../../scripts/options.js', import.meta.url).href)) as {
  tables: readonly (readonly [title: string, file: string, table: string])[]
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = join(root, 'docs/reference')
const read = (page: string): string => readFileSync(join(folder, page), 'utf8')
const pages = globSync('*.md', { cwd: folder }).map(read)
/** Names that markers of one kind list on all pages. */
const listed = (kind: string): Set<string> =>
  new Set(
    pages.flatMap((page) =>
      [...page.matchAll(/^<!-- (\w+): (.*?) -->$/gm)].flatMap(([, of, names = '']) =>
        of === kind ? names.split(' ') : [],
      ),
    ),
  )

describe('docs/reference', () => {
  let expected: Map<string, string>
  before(async () => {
    expected = await reference()
  })

  it('has what scripts/reference.js writes', () => {
    for (const [page, text] of expected) assert.equal(read(page), text, `run npm run reference: ${page}`)
  })

  it('has every table of options', () => {
    const missing = tables.filter(([title]) => !listed('options').has(title))
    assert.deepEqual(missing, [])
  })

  it('has every error that a running app or proxy can have', () => {
    /** Of the command line and the reference application. */
    const others =
      /USAGE|UNREACHABLE|WORKER_NOT_READY|RELOAD_FAILED|DEPLOY_FAILED|ROLLBACK_FAILED|CONTROL|PROGRAM|SERVICE|PORT_TAKEN|LOGIN_FAILED/
    const missing = errorCodes.filter((code) => !others.test(code) && !listed('errors').has(code))
    assert.deepEqual(missing, [])
  })

  it('has every metric', () => {
    const rows = readFileSync(join(root, 'docs/observability.md'), 'utf8').match(/^\| `(?:fleet|http)_.*$/gm) ?? []
    const missing = rows.filter((row) => !pages.some((page) => page.includes(row)))
    assert.deepEqual(missing, [])
  })

  it('has every header that the source names', () => {
    const page = read('http-headers.md').toLowerCase()
    const sources = globSync('src/{base,instance,state,edge,dashboard,geo}/**/*.ts', { cwd: root })
    const names = sources.flatMap((file) =>
      [
        ...readFileSync(join(root, file), 'utf8').matchAll(
          /'(x-(?:fleet|instance|served|response|session|load|stateless|request|server)[a-z-]*)'/gi,
        ),
      ].map(([, name = '']) => name.toLowerCase()),
    )
    /** Of requests from the instance to itself. */
    const internal = 'x-fleet-cache-load'
    const missing = [...new Set(names)].filter((name) => name !== internal && !page.includes(`\`${name}\``))
    assert.ok(names.length > 10)
    assert.deepEqual(missing, [])
  })

  it('has every kind of key in Redis', () => {
    const page = read('redis-keys.md')
    const sources = globSync('src/state/**/*.ts', { cwd: root }).map((file) => readFileSync(join(root, file), 'utf8'))
    const kinds = sources.flatMap((text) =>
      [...text.matchAll(/(?:#key|redisKey|[^\w.]key)\(['`]([a-z-]+)/g)].map(([, kind = '']) => kind),
    )
    const missing = [...new Set(kinds)].filter((kind) => !page.includes(`\`${kind}`))
    assert.ok(kinds.length > 10)
    assert.deepEqual(missing, [])
  })

  it('has a valid OpenAPI document, with a summary of every route', async () => {
    const document = JSON.parse(read('openapi.json'))
    const { valid, errors } = await new Validator().validate(document)
    assert.ok(valid, JSON.stringify(errors))
    for (const [path, operations] of Object.entries<Record<string, { summary?: string }>>(document.paths))
      for (const [method, { summary }] of Object.entries(operations)) assert.ok(summary, `${method} ${path}`)
  })

  it('links each page from its index', () => {
    const index = read('index.md')
    const missing = globSync('*.md', { cwd: folder }).filter(
      (page) => page !== 'index.md' && !index.includes(`](${page})`),
    )
    assert.deepEqual(missing, [])
  })
})
