import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { Output } from '../../../src/cli/output.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { canAsk, isYes, mayInstall } from '../../../src/cli/up/consent.ts'
import { findProgram } from '../../../src/cli/up/find.ts'
import { type Program, provide } from '../../../src/cli/up/install.ts'
import '../../helpers/cleanup.ts'

function executable(file: string): string {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, '#!/bin/sh\n', { mode: 0o755 })
  return file
}

test('finds a program on PATH, else in the folder of the highest version', () => {
  const folder = temporaryFolder('find')
  for (const version of ['9', '15', '10']) executable(join(folder, version, 'bin', 'fleet-test-server'))
  writeFileSync(join(folder, '15', 'bin', 'fleet-test-text'), '')
  const places = [join(folder, '*', 'bin')]
  assert.equal(findProgram(['fleet-test-server'], places), join(folder, '15', 'bin', 'fleet-test-server'))
  assert.equal(findProgram(['fleet-test-text'], places), undefined)
  assert.equal(findProgram(['fleet-test-nothing', 'sh'])?.endsWith('/sh'), true)
})

test('rejects a missing program with the command that installs it', async () => {
  const program: Program = { title: 'Thing', names: ['fleet-test-thing'], apt: ['thing-server'], brew: 'thing' }
  await assert.rejects(provide(program, { install: false }), {
    code: 'FLEET_ERR_PROGRAM_MISSING',
    message: /Thing: it is not installed; install it with `sudo apt-get install thing-server` or `brew install thing`/,
  })
  const own = executable(join(temporaryFolder('own'), 'thing'))
  assert.equal(await provide(program, { program: own }), own)
})

test('names the packages of all missing programs, unless they may be installed or none is missing', async () => {
  const said: string[] = []
  const stream = { write: (text: string) => said.push(text) }
  const out = new Output({ stdout: stream, stderr: stream })
  const one = { title: 'One', names: ['one'], apt: ['a', 'b'], brew: 'x', instead: 'pass `--front node`' }
  const two = { title: 'Two', names: ['two'], apt: ['c'], brew: 'y' }
  assert.equal(await mayInstall([one], true, out), true)
  assert.equal(await mayInstall([], false, out), false)
  await assert.rejects(mayInstall([one, two], false, out), {
    code: 'FLEET_ERR_PROGRAM_MISSING',
    message:
      /One, Two: not installed; install them with `sudo apt-get install a b c` or `brew install x y`(?:, or let `--install` do it)?; or pass `--front node`$/,
  })
  assert.deepEqual(said, [], 'it asks on a terminal only')
})

test('a program without a required part counts as missing, unless it was named', async () => {
  const folder = temporaryFolder('part')
  const file = executable(join(folder, 'fleet-test-part'))
  const program: Program = {
    title: 'Thing',
    names: ['fleet-test-part'],
    folders: [folder],
    apt: ['thing'],
    brew: 'thing',
  }
  assert.equal(await provide({ ...program, complete: (path) => path === file }), file)
  const incomplete = { ...program, complete: () => false }
  await assert.rejects(provide(incomplete, { install: false }), { code: 'FLEET_ERR_PROGRAM_MISSING' })
  assert.equal(await provide(incomplete, { program: file }), file)
})

test('a question needs a terminal to show it and one to reply, and only a yes is one', async (t) => {
  const out = (interactive: boolean) => ({ interactive, note: () => {} }) as unknown as Output
  let stdin = Object.assign(new PassThrough(), { isTTY: true })
  t.mock.getter(process, 'stdin', () => stdin as never)
  assert.deepEqual([canAsk(out(true)), canAsk(out(false))], [true, false])
  const replies = ['y', 'Yes', ' YES ', 'n', '', 'ye', 'yikes', 'my', undefined]
  const taken = await Promise.all(
    replies.map((reply) => {
      stdin = Object.assign(new PassThrough(), { isTTY: false })
      assert.equal(canAsk(out(true)), false)
      const taken = isYes('?', out(true))
      stdin.end(reply === undefined ? '' : `${reply}\n`)
      return taken
    }),
  )
  assert.deepEqual(taken, [true, true, true, ...Array(6).fill(false)])
})
