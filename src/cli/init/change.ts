// Changes of files as edits at positions, and their unified diff, which `git apply` and `patch` understand.

export interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** A new file, or edits of an existing one. */
export interface Change {
  /** Path in the project. */
  readonly file: string
  /** `undefined` for a new file. */
  readonly before: string | undefined
  readonly edits: readonly Edit[]
  readonly executable?: boolean
}

export const newFile = (file: string, text: string): Change => ({
  file,
  before: undefined,
  edits: [{ start: 0, end: 0, text }],
})

/** The text with its edits, which must not overlap. Several at one position are applied in their order. */
export function applied({ before = '', edits }: Pick<Change, 'before' | 'edits'>): string {
  let text = ''
  let done = 0
  for (const { start, end, text: inserted } of ordered(edits)) {
    text += before.slice(done, start) + inserted
    done = end
  }
  return text + before.slice(done)
}

const ordered = (edits: readonly Edit[]): readonly Edit[] => edits.toSorted((a, b) => a.start - b.start)

/** Lines that are replaced: `[from, to)` of the old text. */
interface Region {
  from: number
  to: number
  removed: readonly string[]
  added: readonly string[]
}

const contextLines = 3

export function unifiedDiff(change: Change): string {
  const { file, before } = change
  const old = linesOf(before ?? '')
  const groups: Region[][] = []
  for (const region of regionsOf(change, old)) {
    const group = groups.at(-1)
    if (group && region.from - (group.at(-1)?.to ?? 0) <= 2 * contextLines) group.push(region)
    else groups.push([region])
  }
  if (groups.length === 0) return ''
  const head =
    before === undefined
      ? [`new file mode ${change.executable ? '100755' : '100644'}\n`, '--- /dev/null\n']
      : [`--- a/${file}\n`]
  let shift = 0
  const hunks = groups.map((group) => {
    const from = Math.max(0, (group[0]?.from ?? 0) - contextLines)
    const to = Math.min(old.length, (group.at(-1)?.to ?? 0) + contextLines)
    const lines: string[] = []
    let next = from
    for (const region of group) {
      lines.push(...old.slice(next, region.from).map((line) => ` ${line}`))
      lines.push(...region.removed.map((line) => `-${line}`), ...region.added.map((line) => `+${line}`))
      next = region.to
    }
    lines.push(...old.slice(next, to).map((line) => ` ${line}`))
    const count = lines.filter((line) => !line.startsWith('-')).length
    const header = `@@ -${range(from, to - from)} +${range(from + shift, count)} @@\n`
    shift += count - (to - from)
    return (
      header + lines.map((line) => (line.endsWith('\n') ? line : `${line}\n\\ No newline at end of file\n`)).join('')
    )
  })
  return [`diff --git a/${file} b/${file}\n`, ...head, `+++ b/${file}\n`, ...hunks].join('')
}

const range = (from: number, count: number): string => (count === 0 ? `${from},0` : `${from + 1},${count}`)

const linesOf = (text: string): string[] => text.split(/(?<=\n)/).filter((line) => line !== '')

function regionsOf({ before = '', edits }: Change, old: readonly string[]): Region[] {
  const starts = [0]
  for (const line of old) starts.push((starts.at(-1) ?? 0) + line.length)
  const lineAt = (position: number): number => starts.findLastIndex((start) => start <= position)
  const regions: { from: number; to: number; edits: Edit[] }[] = []
  for (const edit of ordered(edits)) {
    const { start, end, text } = edit
    const isWhole = start === end && starts.includes(start) && (text.endsWith('\n') || start === before.length)
    const atEnd = before.endsWith('\n') || before === '' ? old.length : old.length - 1
    const from = start === before.length ? atEnd : lineAt(start)
    const to = isWhole && from === lineAt(start) ? from : Math.min(old.length, lineAt(Math.max(start, end - 1)) + 1)
    const last = regions.at(-1)
    if (last && from <= last.to) {
      last.to = Math.max(last.to, to)
      last.edits.push(edit)
    } else regions.push({ from, to: Math.max(from, to), edits: [edit] })
  }
  return regions.map(({ from, to, edits }) => {
    const [first = 0, last = 0] = [starts[from], starts[to]]
    const moved = edits.map(({ start, end, text }) => ({ start: start - first, end: end - first, text }))
    return trimmed(from, old.slice(from, to), linesOf(applied({ before: before.slice(first, last), edits: moved })))
  })
}

/** Without the lines that are the same at both ends. */
function trimmed(from: number, removed: readonly string[], added: readonly string[]): Region {
  const shorter = Math.min(removed.length, added.length)
  let head = 0
  while (head < shorter && removed[head] === added[head]) head++
  let tail = 0
  while (tail < shorter - head && removed.at(-1 - tail) === added.at(-1 - tail)) tail++
  const to = from + removed.length - tail
  return {
    from: from + head,
    to,
    removed: removed.slice(head, removed.length - tail),
    added: added.slice(head, added.length - tail),
  }
}
