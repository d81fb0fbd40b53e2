import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { uncommitted } from '../../../src/cli/init/git.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import '../../helpers/cleanup.ts'
import { commitAll, type Files, git, manifest, write } from './projects.ts'

function repository(files: Files): string {
  const folder = temporaryFolder('git')
  write(folder, files)
  commitAll(folder)
  return folder
}

const installed = (more: object = {}): string =>
  manifest({ dependencies: { fastify: '^5.0.0', 'fastify-fleet': '^0.1.0' }, ...more })

describe('files that are not committed', () => {
  it('are not a package.json that differs by the entry of fastify-fleet, also in a folder of the repository', () => {
    const folder = repository({ 'package.json': '{ "private": true }\n', 'packages/api/package.json': manifest() })
    const app = join(folder, 'packages/api')
    assert.deepEqual(uncommitted(app, ['package.json']), [])
    write(app, { 'package.json': installed() })
    assert.deepEqual(uncommitted(app, ['package.json']), [])
    assert.deepEqual(uncommitted(app, []), [])
  })

  it('are a package.json with another change, staged or not', () => {
    const folder = repository({ 'package.json': manifest() })
    const zod = { dependencies: { fastify: '^5.0.0', 'fastify-fleet': '^0.1.0', zod: '^4.0.0' } }
    for (const text of [manifest(zod), installed({ devDependencies: { 'fastify-fleet': '*' } })]) {
      write(folder, { 'package.json': text })
      assert.deepEqual(uncommitted(folder, ['package.json']), ['package.json'], text)
    }
    write(folder, { 'package.json': installed({ description: 'mine' }) })
    git(folder, 'add', 'package.json')
    assert.deepEqual(uncommitted(folder, ['package.json']), ['package.json'])
  })

  it('are those that were never committed', () => {
    const folder = temporaryFolder('git')
    write(folder, { 'package.json': manifest(), 'app.js': '' })
    assert.equal(uncommitted(folder, ['app.js']), undefined, 'there is no repository')
    git(folder, 'init', '--quiet')
    git(folder, 'add', '--all')
    assert.deepEqual(uncommitted(folder, ['app.js', 'package.json']), ['app.js', 'package.json'])
  })

  it('have exactly the given names', () => {
    const folder = repository({ 'a[b].js': '', 'ab.js': '', 'package.json': manifest() })
    write(folder, { 'ab.js': '// mine' })
    assert.deepEqual(uncommitted(folder, ['a[b].js', 'package.json']), [])
    assert.deepEqual(uncommitted(folder, ['ab.js', 'a[b].js']), ['ab.js'])
  })
})
