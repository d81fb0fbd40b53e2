import '../../helpers/cleanup.ts'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryFolder } from '../../../src/cli/up/child.ts'

/** A program that records its environment and obeys the file `obey`: `exit N`, `hang`, or a status for /ready. */
const source = `
const { createServer } = require('node:http')
const { appendFileSync, existsSync, readFileSync } = require('node:fs')
const { FOLDER, PORT, HOST } = process.env
appendFileSync(FOLDER + '/starts', JSON.stringify(process.env) + '\\n')
const obey = () => (existsSync(FOLDER + '/obey') ? readFileSync(FOLDER + '/obey', 'utf8') : '200')
if (obey().startsWith('exit')) { console.error('one\\ntwo'); process.exit(Number(obey().slice(5))) }
process.on('SIGTERM', () => {
  appendFileSync(FOLDER + '/stops', '.')
  if (obey() !== 'hang') process.exit(Number(process.env.CODE ?? 0))
})
createServer(({ url }, response) => {
  response.writeHead(url === '/ready' ? Number(obey()) || 200 : 200, { connection: 'close' }).end()
  if (url === '/crash') process.exit(3)
}).listen(Number(PORT), HOST)
`

export function program(t: TestContext): {
  folder: string
  file: string
  obey(what: string): void
  /** The environment of each start. */
  starts(): Record<string, string>[]
  /** Whether a process was asked to stop. */
  isStopping(): boolean
} {
  const folder = temporaryFolder('instance')
  const file = join(folder, 'app.cjs')
  writeFileSync(file, source)
  t.after(() => writeFileSync(join(folder, 'obey'), '200'))
  const starts = (): Record<string, string>[] =>
    existsSync(join(folder, 'starts'))
      ? readFileSync(join(folder, 'starts'), 'utf8')
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
      : []
  return {
    folder,
    file,
    obey: (what) => writeFileSync(join(folder, 'obey'), what),
    starts,
    isStopping: () => existsSync(join(folder, 'stops')),
  }
}
