/**
 * The known word that a mistyped one most likely stands for: the nearest by insertions, deletions, substitutions and swaps of
 * neighbours (optimal string alignment distance). One that differs in more than a third of its letters is no suggestion.
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const close = known
    .map((candidate) => ({ candidate, distance: distanceBetween(word.slice(0, 64), candidate) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.floor(candidate.length / 3)))
  return close.sort((a, b) => a.distance - b.distance)[0]?.candidate
}

/** ` (did you mean …?)` for the end of a message, or nothing. */
export function suggestion(word: string, known: readonly string[]): string {
  const found = nearest(word, known)
  return found === undefined ? '' : ` (did you mean ${found}?)`
}

function distanceBetween(a: string, b: string): number {
  // Rows of the table of distances between the beginnings of both words.
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const changed = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row[j] = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, changed)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) row[j] = Math.min(row[j] ?? 0, (beforeLast[j - 2] ?? 0) + 1)
    }
    beforeLast = last
    last = row
  }
  return last[b.length] ?? 0
}
