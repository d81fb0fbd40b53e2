import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const assets = new URL('../../src/dashboard/assets/', import.meta.url)
const biome = fileURLToPath(new URL('../../node_modules/.bin/biome', import.meta.url))

test('the scripts of the page declare what they use and use what they declare', (t) => {
  const html = readFileSync(new URL('page.html', assets), 'utf8')
  const files = [...html.matchAll(/<script src="([\w-]+\.js)">/g)].map((match) => match[1] ?? '')
  assert.ok(files.length > 5)
  const folder = mkdtempSync(join(tmpdir(), 'fleet-page-'))
  t.after(() => rmSync(folder, { recursive: true }))
  // They share their top level, so the linter sees them as one file.
  writeFileSync(join(folder, 'page.js'), files.map((file) => readFileSync(new URL(file, assets), 'utf8')).join('\n'))
  writeFileSync(join(folder, 'biome.json'), '{ "root": true }')
  const rules = ['noUnusedVariables', 'noUndeclaredVariables', 'noInvalidUseBeforeDeclaration']
  const only = rules.map((rule) => `--only=correctness/${rule}`)
  const args = ['lint', '--error-on-warnings', ...only, 'page.js']
  const { status, stderr, stdout } = spawnSync(biome, args, { cwd: folder, encoding: 'utf8' })
  assert.equal(status, 0, stderr + stdout)
})
