import type { Limits } from './compare.ts'

/** A program, as words: no shell reads them. */
export interface Run {
  readonly do: 'run'
  readonly argv: readonly string[]
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** A whole file, put in place at once: a reader sees the old one or this one. */
export interface Write {
  readonly do: 'write'
  readonly file: string
  readonly content: string
}

/** A command of HAProxy's runtime API. It answers nothing when it is content. */
export interface Runtime {
  readonly do: 'runtime'
  readonly socket: string
  readonly command: string
  /** An response that is no failure either. */
  readonly tolerate?: string
}

/** Waits until HAProxy sends requests to a server. */
export interface ServerUp {
  readonly do: 'server-up'
  readonly socket: string
  readonly backend: string
  readonly server: string
  readonly timeoutMs: number
}

/** Waits until the instance at `url` is ready, and is the one that was meant. */
export interface Ready {
  readonly do: 'ready'
  readonly url: string
  readonly version?: string
  readonly color?: string
  readonly timeoutMs: number
}

/** So many new containers must be there, and healthy, as Docker sees them now. */
export interface Healthy {
  readonly do: 'healthy'
  /** How compose is called. */
  readonly command: readonly string[]
  readonly service: string
  /** Ids of the old ones. */
  readonly besides: readonly string[]
  readonly count: number
}

/** The instances must stay ready for so long. */
export interface Steady {
  readonly do: 'steady'
  readonly urls: readonly string[]
  readonly version: string
  readonly forMs: number
}

/** Compares the canary with the stable side, and fails when it is worse. */
export interface Compare {
  readonly do: 'compare'
  readonly canary: readonly string[]
  readonly stable: readonly string[]
  readonly windowMs: number
  readonly limits: Limits
}

export interface Pause {
  readonly do: 'pause'
  readonly ms: number
  readonly why: string
}

export type Step = Run | Write | Runtime | ServerUp | Ready | Healthy | Steady | Compare | Pause

/** Steps that belong together, and those that take them back. */
export interface Stage {
  readonly title: string
  readonly steps: readonly Step[]
  /** Taken when this stage or a later one fails, the last stage's first. */
  readonly undo: readonly Step[]
}

export type Plan = readonly Stage[]

const seconds = (ms: number): string => `${ms / 1000} s`
const quoted = (word: string): string => (/^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A step in one line, as a person would do it. */
export function describe(step: Step): string {
  switch (step.do) {
    case 'run': {
      const env = Object.entries(step.env ?? {}).map(([name, value]) => `${name}=${quoted(value)}`)
      return `$ ${[...env, ...step.argv.map(quoted)].join(' ')}`
    }
    case 'write':
      return `write ${step.file}: ${step.content.match(/\bserver\s[^;]*/g)?.join('; ') ?? ''}`
    case 'runtime':
      return `haproxy> ${step.command}`
    case 'server-up':
      return `wait until HAProxy has ${step.backend}/${step.server} up, ${seconds(step.timeoutMs)} at most`
    case 'ready': {
      const who = [step.version && `version ${step.version}`, step.color].filter(Boolean).join(', ')
      return `wait until ${step.url}/ready says so${who && ` of ${who}`}, ${seconds(step.timeoutMs)} at most`
    }
    case 'healthy':
      return `check that ${step.count} new × ${step.service} are healthy`
    case 'steady':
      return `watch for ${seconds(step.forMs)} that ${step.urls.join(', ')} stay ready`
    case 'compare':
      return `compare ${step.canary.join(', ')} with ${step.stable.join(', ')} for ${seconds(step.windowMs)}`
    case 'pause':
      return `wait ${seconds(step.ms)}: ${step.why}`
  }
}
