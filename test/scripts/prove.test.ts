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

it('npm run prove -- --jobs runs several files at once, each with its own log', () => {
  const out = temporaryFolder('proofs')
  const args = ['--jobs', '3', '--only', 'ten million sessions', '--out', out]
  // With this variable the runner would take itself for a file of this run.
  const env = { ...process.env, NODE_TEST_CONTEXT: undefined }
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env })
  assert.equal(status, 0, stdout + stderr)
  assert.match(stdout, /^sessions$/m)
  assert.match(stdout, /^[1-9]\d* passed, 0 failed$/m)
  assert.doesNotMatch(stdout, /ℹ tests/)
  assert.match(readFileSync(join(out, 'sessions.log'), 'utf8'), /^ℹ fail 0$/m)
  assert.match(readFileSync(join(out, 'nginx.log'), 'utf8'), /^ℹ fail 0$/m)
})

it('npm run prove -- --jobs must be from 1 to 8', () => {
  for (const jobs of ['0', '9', 'two']) {
    const { status, stderr } = spawnSync(process.execPath, [main, `--jobs=${jobs}`], { encoding: 'utf8' })
    assert.equal(status, 2, jobs)
    assert.match(stderr, /--jobs N/)
  }
})

it('npm run prove -- --only looks into each template, which may insert the text', () => {
  assert.ok(canContain('reloads of nginx *', 'nginx 1.30'))
  assert.ok(canContain('reloads of workers', 'of work'))
  assert.ok(!canContain('reloads of workers', 'of nginx'))
})
