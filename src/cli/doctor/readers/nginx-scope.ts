import type { Directive } from './nginx-syntax.ts'
import type { Root } from './nginx-tree.ts'

/** What is known of an inherited setting. */
export interface Inherited {
  readonly directives: readonly Directive[]
  /** The level that sets it. */
  readonly level?: Scope
  /** An `include` that is not among the files, and would decide. */
  readonly missing?: Directive
  /** What was assumed, when nothing that is seen sets it. */
  readonly assumed?: string
}

/** Includes whose names say that they do not configure a proxy. */
const harmless =
  /mime\.types|\.map$|modules|fastcgi|uwsgi_|scgi_|php|ssl|tls|letsencrypt|certbot|acme|gzip|brotli|compress|geoip|cloudflare|real_?ip|cors|security|robots|error|log|cache-|auth_?basic|allow|deny|block/i

/** A block, with the levels around it. Directives in it override those of the levels above. */
export class Scope {
  readonly directive: Directive | undefined
  readonly own: readonly Directive[]
  readonly parent: Scope | undefined
  readonly #root: Root
  #blocks: Scope[] | undefined
  #levels: Scope[] | undefined
  #byName: Map<string, Directive[]> | undefined

  constructor(root: Root, own: readonly Directive[], directive?: Directive, parent?: Scope) {
    this.#root = root
    this.own = own
    this.directive = directive
    this.parent = parent
  }

  get name(): string {
    return this.directive?.name ?? ''
  }

  /** The scopes of the blocks in it. */
  get blocks(): readonly Scope[] {
    this.#blocks ??= this.own.flatMap((one) => (one.block ? [new Scope(this.#root, one.block, one, this)] : []))
    return this.#blocks
  }

  /** The directives of a name at this level. */
  all(name: string): readonly Directive[] {
    this.#byName ??= Map.groupBy(this.own, (one) => one.name)
    return this.#byName.get(name) ?? []
  }

  /** This level and those around it, the nearest first. */
  get levels(): readonly Scope[] {
    this.#levels ??= [this, ...(this.parent?.levels ?? [])]
    return this.#levels
  }

  /** The nearest level of a block: `server`, `location`. */
  within(name: string): Scope | undefined {
    return this.levels.find((level) => level.name === name)
  }

  /**
   * The directives in effect. The nearest level that has any replaces those of all levels above it: single values as well as
   * lists, such as `proxy_set_header`.
   *
   * @param decides whether a directive settles the question, so that a missing include beside it does not matter
   */
  inherited(name: string, decides: (one: Directive) => boolean = () => true): Inherited {
    let assumed: string | undefined
    for (const level of this.levels) {
      const directives = level.all(name)
      if (directives.some(decides)) return { directives, level }
      const missing = level.all('include').find(({ args }) => !harmless.test(args[0] ?? ''))
      if (missing && !/[*?[]/.test(missing.args[0] ?? '')) return { directives, level, missing }
      if (missing) assumed = `${missing.args[0]}, which is not among the files, has no ${name}`
      if (directives.length > 0) return { directives, level, assumed }
    }
    if (!this.#root.isMain) assumed ??= `the main file, which is not among the files, has no ${name}`
    return { directives: [], assumed }
  }
}

/** The contexts of a file: the scopes of `http`, or of what a fragment has of it, and of everything else. */
export function scopesOf(root: Root): { http: readonly Scope[]; other: readonly Scope[] } {
  const top = new Scope(root, root.tree)
  if (root.isMain) {
    const http = top.blocks.filter(({ name }) => name === 'http')
    return { http, other: top.blocks.filter(({ name }) => name !== 'http') }
  }
  const others = new Set(['stream', 'mail', 'events'])
  const blocks = root.tree.filter(({ name }) => others.has(name))
  const rest = root.tree.filter(({ name }) => !others.has(name))
  const isStream = rest.some(({ name, block }) => name === 'server' && block?.some(isStreamPass))
  const outside = new Scope(root, rest)
  const other = new Scope(root, blocks).blocks
  return isStream ? { http: [], other: [...other, outside] } : { http: [outside], other }
}

/** In `stream`, a server itself passes on, to a name without `http://`. */
const isStreamPass = ({ name, args }: Directive): boolean =>
  name === 'proxy_pass' && !/^https?:|^\$/.test(args[0] ?? '')

/** Every scope below, depth first. */
export const walk = (scope: Scope): Scope[] => scope.blocks.flatMap((block) => [block, ...walk(block)])
