import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import '../../helpers/cleanup.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { freePort } from '../../helpers/free-port.ts'
import { until } from '../../helpers/until.ts'
import { commitAll, contents, fleetInit, project, read, report } from './projects.ts'
import { type Shape, shapes } from './shapes.ts'

/** Applies a diff with git to a copy. */
function patched(folder: string, diff: string): string {
  const copy = temporaryFolder('patched')
  cpSync(folder, copy, { recursive: true, filter: (path) => !path.includes('node_modules') && !path.includes('.git/') })
  execFileSync('git', ['apply', '--whitespace=nowarn', '-'], { cwd: copy, input: diff })
  return copy
}

async function initialised({ files, folder = '', args = [], has, joined = [], notes = [] }: Shape): Promise<string> {
  const all = project(files)
  commitAll(all)
  const app = join(all, folder)
  const before = contents(app)
  const shown = await fleetInit(app, ...args)
  assert.equal(shown.code, 1)
  assert.match(shown.stdout, /there is no terminal to ask on; apply it with --yes\n$/)
  const dry = await report(app, ...args, '--dry-run')
  assert.deepEqual(contents(app), before, 'it changes nothing before a yes')
  assert.deepEqual(dry.manual, [])
  for (const pattern of joined)
    assert.ok(
      dry.joined.some((line) => pattern.test(line)),
      `${pattern}: ${dry.joined}`,
    )
  for (const pattern of notes)
    assert.ok(
      dry.notes.some((line) => pattern.test(line)),
      `${pattern}: ${dry.notes}`,
    )

  const expected = contents(patched(app, dry.diff))
  const applied = await fleetInit(app, ...args, '--yes')
  assert.equal(applied.code, 0, applied.stdout + applied.stderr)
  assert.deepEqual(contents(app), expected, 'the diff is what is written')
  for (const [file, lines] of Object.entries(has)) {
    const text = read(app, file).split('\n')
    for (const line of lines) assert.ok(text.includes(line), `${file} has not ${line}:\n${text.join('\n')}`)
  }
  const again = await fleetInit(app, ...args, '--yes')
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stdout, /nothing to do: fleet is set up\n$/)
  return app
}

describe('fleet init edits an app', { concurrency: 2 }, () => {
  for (const [name, shape] of Object.entries(shapes)) {
    it(`${name}: shows a diff, applies it, ${shape.run ? 'and the app is ready' : 'and is done the second time'}`, async () => {
      const folder = await initialised(shape)
      if (!shape.run) return
      const port = await freePort()
      const env = { PORT: port, HOST: '127.0.0.1', REDIS_URL: undefined }
      const app = forkApp(join(folder, shape.run), { cwd: folder, env })
      const ready = async () => app.ended ?? (await fetch(`http://127.0.0.1:${port}/ready`))
      const response = await until(ready, { what: `${name} is listening` })
      assert.ok('headers' in response, app.stderr)
      assert.equal(response.status, 200)
      assert.ok(response.headers.get('x-instance-id'), 'fleet is registered')
      await app.kill('SIGKILL')
    })
  }
})
