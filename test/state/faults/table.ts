import { readFileSync } from 'node:fs'

export const faults = ['slow', 'silent', 'gone', 'read-only', 'full', 'failing over'] as const
export type Fault = (typeof faults)[number]
export type Cells = Readonly<Record<Fault, string>>

/** The cells of each row of docs/faults.md, by `plugin: row`. */
export function promises(): Map<string, Cells> {
  const found = new Map<string, Cells>()
  let plugin = ''
  for (const line of readFileSync('docs/faults.md', 'utf8').split('\n')) {
    if (line.startsWith('## ')) plugin = line.slice(3)
    const [what, ...cells] = line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim())
    if (plugin === '' || cells.length === 0 || what?.startsWith('---')) continue
    if (what === 'operation') {
      if (cells.join() !== faults.join()) throw new Error(`docs/faults.md: ${plugin} has other columns`)
      continue
    }
    if (cells.length !== faults.length) throw new Error(`docs/faults.md: ${what} has ${cells.length} cells`)
    found.set(`${plugin}: ${what}`, Object.fromEntries(faults.map((fault, i) => [fault, cells[i]])) as Cells)
  }
  return found
}
