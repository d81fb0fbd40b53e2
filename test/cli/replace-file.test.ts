import assert from 'node:assert/strict'
import { chmodSync, chownSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import promises from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { replaceFile } from '../../src/cli/replace-file.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import '../helpers/cleanup.ts'
import { mockBuiltins } from '../helpers/mock-builtins.ts'

/** `look` sees each call of a function of `node:fs/promises` first. */
function spy(t: TestContext, name: 'chmod' | 'writeFile', look: (...args: never[]) => void): void {
  const real = promises[name] as (...args: unknown[]) => Promise<void>
  const looking = async (...args: unknown[]): Promise<void> => {
    look(...(args as never[]))
    await real(...args)
  }
  mockBuiltins(t, () => t.mock.method(promises, name, looking as never))
}

const skip = process.getuid?.() === 0 ? false : 'needs root'
test('the file still belongs to its user and its group', { skip }, async () => {
  const file = join(temporaryFolder('replace'), '.env')
  writeFileSync(file, 'old', { mode: 0o600 })
  chownSync(file, 4_321, 1_234)
  await replaceFile(file, 'new')
  const { uid, gid, mode } = statSync(file)
  assert.deepEqual([uid, gid, mode & 0o777, readFileSync(file, 'utf8')], [4_321, 1_234, 0o600, 'new'])
})

test('the new text is private until it has the mode of the file, and on the disk before it has its name', async (t) => {
  const file = join(temporaryFolder('replace'), 'a.conf')
  writeFileSync(file, 'old')
  chmodSync(file, 0o644)
  const seen: unknown[] = []
  spy(t, 'writeFile', (_file: string, _text: string, { flush, flag }: Record<string, unknown>) =>
    seen.push({ flush, flag }),
  )
  spy(t, 'chmod', (fresh: string) => {
    const mode = (statSync(fresh).mode & 0o777).toString(8)
    seen.push([mode, readFileSync(fresh, 'utf8'), readFileSync(file, 'utf8')])
  })
  await replaceFile(file, 'new')
  // `wx` fails where another file or a link has the name.
  assert.deepEqual(seen, [{ flush: true, flag: 'wx' }, ['600', 'new', 'old']])
  assert.equal(readFileSync(file, 'utf8'), 'new')
})
