import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { after, describe, it } from 'node:test'
import { parseAllDocuments } from 'yaml'
import type { Finding } from '../../../src/cli/doctor/evaluate.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { examine } from '../../../src/cli/doctor/run.ts'
import { project } from './project.ts'

/** See corpus/README.md. */
interface Case {
  readonly what: string
  readonly files: Readonly<Record<string, string>>
  readonly names?: readonly string[]
  readonly certain: readonly string[]
  readonly assumed?: readonly string[]
}

const folder = join(import.meta.dirname, 'corpus')

const cases = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.yml'))
  .sort()
  .flatMap((file) =>
    parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((document) => ({
      from: file,
      ...(document.toJS() as Case),
    })),
  )

interface Outcome {
  readonly right: readonly string[]
  readonly wrong: readonly string[]
  readonly missed: readonly string[]
}

/** A label without a place matches the code anywhere in the case. */
const matches = (label: string, finding: string): boolean => finding === label || finding.startsWith(`${label} `)

async function judge({ files, names = Object.keys(files), certain, assumed = [] }: Case): Promise<Outcome> {
  const own = project()
  for (const [file, text] of Object.entries(files)) own.write(file, text)
  const { findings } = await examine(collect(names.map((name) => own.path(name))), {
    longestMs: 10_000,
    connect: false,
  })
  const show = ({ confidence, code, file, line }: Finding): string =>
    `${confidence} ${code} ${relative(own.folder, file)}:${line}`
  const found = findings.map(show)
  const labels = [...certain.map((label) => `certain ${label}`), ...assumed.map((label) => `assumed ${label}`)]
  return {
    right: labels.filter((label) => found.some((one) => matches(label, one))),
    missed: labels.filter((label) => !found.some((one) => matches(label, one))),
    wrong: found.filter((one) => !labels.some((label) => matches(label, one))),
  }
}

describe('the corpus', () => {
  const total = { right: 0, wrong: 0, missed: 0 }
  const ratio = (part: number, whole: number): number => (whole === 0 ? 1 : part / whole)
  const precision = (): number => ratio(total.right, total.right + total.wrong)
  const recall = (): number => ratio(total.right, total.right + total.missed)

  it('is judged without a wrong finding, and none is missed', async () => {
    const deviations: string[] = []
    for (const one of cases) {
      const { right, wrong, missed } = await judge(one)
      total.right += right.length
      total.wrong += wrong.length
      total.missed += missed.length
      deviations.push(...wrong.map((finding) => `${one.from}: ${one.what}: wrong: ${finding}`))
      deviations.push(...missed.map((label) => `${one.from}: ${one.what}: missed: ${label}`))
    }
    assert.deepEqual(deviations, [])
  })

  after(() => {
    const files = cases.reduce((sum, one) => sum + Object.keys(one.files).length, 0)
    const clean = cases.filter(({ certain, assumed = [] }) => certain.length + assumed.length === 0).length
    console.log(
      `${cases.length} cases, ${clean} of them clean, ${files} files: precision ${precision().toFixed(3)}, recall ${recall().toFixed(3)}`,
    )
  })
})
