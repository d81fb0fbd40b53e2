/** An incomplete line counts as one after this time without more of it, ms. */
const incompleteAfterMs = 200

export type OnLine = (label: string, line: string, group: string) => void

/** Splits the output of several processes into lines, each with the label of its process. */
export class LabelledLines {
  readonly #onLine: OnLine
  readonly #incomplete = new Map<string, { text: string; timer: NodeJS.Timeout }>()

  constructor(onLine: OnLine) {
    this.#onLine = onLine
  }

  /**
   * @param label of the process
   * @param group processes of one group belong together, e.g. an instance and its successor
   */
  write(label: string, text: string, stream = 'stdout', group = label): void {
    const key = `${label} ${stream}`
    const before = this.#incomplete.get(key)
    clearTimeout(before?.timer)
    this.#incomplete.delete(key)
    const lines = `${before?.text ?? ''}${text}`.split(/\r?\n/)
    const rest = lines.pop() as string
    for (const line of lines) this.#onLine(label, line, group)
    if (rest === '') return
    const timer = setTimeout(() => {
      this.#incomplete.delete(key)
      this.#onLine(label, rest, group)
    }, incompleteAfterMs)
    this.#incomplete.set(key, { text: rest, timer: timer.unref() })
  }
}
