/** Whether a condition holds; `undefined`: only the program knows. */
type Truth = boolean | undefined

interface Level {
  /** Whether lines of this branch are read. */
  reads: boolean
  /** Whether a branch above was certainly taken. */
  taken: boolean
}

/** The predicates that do not depend on the program itself. */
const predicates: Readonly<Record<string, (a: string, b: string, environment: ReadonlyMap<string, unknown>) => Truth>> =
  {
    defined: (name, _, environment) => (environment.get(name) !== undefined ? true : undefined),
    streq: (a, b) => compared(a, b, a === b),
    strneq: (a, b) => compared(a, b, a !== b),
    strstr: (a, b) => compared(a, b, a.includes(b)),
  }

/** A variable without a value stays as it is. */
const compared = (a: string, b: string, result: boolean): Truth => (/\$\{?\w/.test(a + b) ? undefined : result)

/** Follows `.if`, `.elif`, `.else` and `.endif`. */
export class Conditions {
  readonly #levels: Level[] = []

  get holds(): boolean {
    return this.#levels.every(({ reads }) => reads)
  }

  /** @returns why the next lines are not read, if this line begins a branch that is skipped */
  meet(word: string, line: string, environment: ReadonlyMap<string, string | undefined>): string | undefined {
    const outer = this.#levels.at(-1)
    const begin = (level: Level, truth: Truth): string | undefined => {
      level.reads = !level.taken && truth !== false
      level.taken ||= truth === true
      return level.reads || !this.#levels.every((one) => one === level || one.reads)
        ? undefined
        : `${line.trim()} does not hold`
    }
    const condition = (): Truth => truthOf(expanded(line.trim().replace(/^\.\w+\s*/, ''), environment), environment)
    if (word === '.if') {
      const level = { reads: false, taken: false }
      this.#levels.push(level)
      return begin(level, condition())
    }
    if (word === '.elif' && outer) return begin(outer, condition())
    if (word === '.else' && outer) return begin(outer, true)
    if (word === '.endif') this.#levels.pop()
    return undefined
  }
}

const expanded = (text: string, environment: ReadonlyMap<string, string | undefined>): string =>
  text.replaceAll(/\$\{?(\w+)(?:-([^}"]{0,1024}))?\}?/g, (whole, name: string, byDefault?: string) =>
    (environment.get(name) ?? byDefault ?? whole).slice(0, 1024),
  )

/** `||` binds weaker than `&&`; conditions in parentheses are not known. */
function truthOf(text: string, environment: ReadonlyMap<string, unknown>): Truth {
  const any = (truths: readonly Truth[], decisive: boolean): Truth =>
    truths.includes(decisive) ? decisive : truths.includes(undefined) ? undefined : !decisive
  return any(
    text.split('||').map((part) =>
      any(
        part.split('&&').map((one) => single(one.trim(), environment)),
        false,
      ),
    ),
    true,
  )
}

function single(text: string, environment: ReadonlyMap<string, unknown>): Truth {
  if (text.startsWith('!')) {
    const truth = single(text.slice(1).trim(), environment)
    return truth === undefined ? undefined : !truth
  }
  if (/^\d+$/.test(text)) return Number(text) !== 0
  if (text === '') return false
  const [, name = '', list = ''] = /^(\w+)\(([^()]{0,8192})\)$/.exec(text) ?? []
  const [a = '', b = ''] = list.split(',').map((one) => one.trim().replaceAll(/^(["'])(.*)\1$/gs, '$2'))
  return Object.hasOwn(predicates, name) ? predicates[name]?.(a, b, environment) : undefined
}
