import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const src = fileURLToPath(new URL('../../src', import.meta.url))

/** Files outside `base/internals` that use private parts, with the reason. */
const exceptions: Readonly<Record<string, string>> = {}

const privateNames =
  /\b_storeHeader\b|\b_headerSent\b|\b_hasBody\b|(?<!\w)_header\b|getOwnPropertySymbols|\bprintRoutes\(\)|\b_originalClient\b|\b_requestHandler\b|\b_extensions\b|['"`]fastify\.(?:context|options|reply|Reply|Request|serverBindings)/

const headings = ['Touches', 'Seen in', 'Worth', 'Fallback'] as const

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*/g, '')

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.includes('generated'))
  .map((file) => file.split(sep).join('/'))
const read = (file: string): string => readFileSync(join(src, file), 'utf8')
const isInternal = (file: string): boolean => file.startsWith('base/internals/')

describe('private parts of Node, Fastify and other packages', () => {
  it('are used in src/base/internals only', () => {
    const found = files.filter((file) => !isInternal(file) && privateNames.test(withoutComments(read(file))))
    assert.deepEqual(found, Object.keys(exceptions))
  })

  it('are documented at the top of each file that uses them', () => {
    const undocumented = files
      .filter((file) => isInternal(file) && privateNames.test(withoutComments(read(file))))
      .flatMap((file) =>
        headings.filter((name) => !read(file).includes(`// ${name}: `)).map((name) => `${file}: ${name}`),
      )
    assert.deepEqual(undocumented, [])
  })

  it('include undici, which changes the global fetch as it loads', () => {
    const loads = /^import (?!type)[^\n]*from 'undici'|\b(?:import|load|require)\('undici'\)/m
    assert.deepEqual(
      files.filter((file) => loads.test(withoutComments(read(file)).replace(/typeof import\('undici'\)/g, ''))),
      ['base/internals/undici.ts'],
    )
  })

  it('are recognized by this test', () => {
    for (const line of [
      'response._header += body',
      'Object.getOwnPropertySymbols(app)',
      "symbolOf(app, 'fastify.Reply')",
    ])
      assert.match(line, privateNames)
    for (const line of ['nginx: `proxy_set_header Host`', "fp(plugin, { fastify: '5.x' })"])
      assert.doesNotMatch(line, privateNames)
  })
})
