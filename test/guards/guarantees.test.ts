import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { expectedPage, proofs } from '../prove/page.ts'
import { type PromiseLine, promises } from '../prove/promises.ts'
import { titledCalls } from '../prove/titles.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const lines: [string, PromiseLine][] = Object.entries(promises)
const proved = new Set([...proofs().values()].flat().flatMap(({ second }) => second))

/** Text on one line, without marks for bold. */
const plain = (text: string): string => text.replaceAll('**', '').replace(/\s+/g, ' ')

describe('docs/guarantees.md', () => {
  it('is what `npm run prove -- --save` writes', () => {
    const { text, expected } = expectedPage()
    assert.equal(text, expected)
  })

  it('has the words that stand on the named page, once', () => {
    const pages = new Map<string, string>()
    const text = (page: string): string => pages.get(page) ?? pages.set(page, plain(read(page))).get(page) ?? ''
    const seen = new Set<string>()
    for (const [id, { wording, page }] of lines) {
      assert.ok(text(page).includes(wording), `${id}: ${page} does not say: ${wording}`)
      assert.ok(!seen.has(`${page} ${wording}`), `${id}: is there twice`)
      seen.add(`${page} ${wording}`)
    }
  })

  it('names a proof or a test that exists for each promise', () => {
    const titles = new Map<string, string[]>()
    const titlesIn = (file: string): string[] => {
      const known = titles.get(file) ?? titledCalls(read(file), /^(test|it|describe)$/).map(({ title }) => title)
      titles.set(file, known)
      return known
    }
    for (const [id, { tests = [] }] of lines) {
      assert.ok(proved.has(id) || tests.length > 0, `${id}: has neither a proof nor a test`)
      for (const test of tests) {
        const [file = '', title] = test.split(' › ')
        assert.ok(existsSync(join(root, file)), `${id}: ${file} does not exist`)
        assert.doesNotMatch(
          file,
          /\.prove\.ts$/,
          `${id}: npm test does not run ${file}; let the proof name the promise`,
        )
        if (title !== undefined) assert.ok(titlesIn(file).includes(title), `${id}: ${file} has no test: ${title}`)
      }
    }
  })

  it('has each promise that a proof names, and each proof names one', () => {
    for (const [file, calls] of proofs())
      for (const { title, second } of calls) {
        assert.ok(second.length > 0, `${file}: ${title} does not name its promise as text`)
        for (const id of second) assert.ok(id in promises, `${file}: ${title}: there is no promise ${id}`)
      }
  })
})
