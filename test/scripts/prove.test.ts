import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { canContain } from '../prove/titles.ts'

const main = new URL('../prove/main.ts', import.meta.url).pathname

it('npm run prove -- --only with a text that no proof has runs nothing, says so, and fails', () => {
  const out = temporaryFolder('proofs')
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, '--only', 'no such proof', '--out', out], {
    encoding: 'utf8',
  })
  assert.match(stdout, /^0 passed, 0 failed$/m, stderr)
  assert.equal(status, 1)
  assert.match(readFileSync(join(out, 'report.html'), 'utf8'), /<html/)
})

it('npm run prove -- --only looks into each template, which may insert the text', () => {
  assert.ok(canContain('reloads of nginx *', 'nginx 1.30'))
  assert.ok(canContain('reloads of workers', 'of work'))
  assert.ok(!canContain('reloads of workers', 'of nginx'))
})
