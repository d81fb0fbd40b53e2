import type { Limits } from './compare.ts'

/** A program with its arguments, without a shell. */
export interface Run {
  readonly do: 'run'
  readonly argv: readonly string[]
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** Replaces a file atomically. */
export interface Write {
  readonly do: 'write'
  readonly file: string
  readonly content: string
}

/** A command of HAProxy's runtime API; an empty response means success. */
export interface Runtime {
  readonly do: 'runtime'
  readonly socket: string
  readonly command: string
  /** A response that is not an error either. */
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

/** Waits until the instance at `url` is ready and reports this version and color. */
export interface Ready {
  readonly do: 'ready'
  readonly url: string
  readonly version?: string
  readonly color?: string
  readonly timeoutMs: number
}

/** Checks that Docker reports `count` new, healthy containers. */
export interface Healthy {
  readonly do: 'healthy'
  /** Command that runs compose. */
  readonly command: readonly string[]
  readonly service: string
  /** Ids of the old containers. */
  readonly besides: readonly string[]
  readonly count: number
}

/** The instances must stay ready for `forMs`. */
export interface Steady {
  readonly do: 'steady'
  readonly urls: readonly string[]
  readonly version: string
  readonly forMs: number
}

/** Compares the canary with the stable side; fails when it is worse. */
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

/** Steps with those that undo them. */
export interface Stage {
  readonly title: string
  readonly steps: readonly Step[]
  /** Executed when this stage or a later one fails, in reverse order of stages. */
  readonly undo: readonly Step[]
}

export type DeployPlan = readonly Stage[]

const seconds = (ms: number): string => `${ms / 1000} s`
const quoted = (word: string): string => (/^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A step as one line of text. */
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
      const expected = [step.version && `version ${step.version}`, step.color].filter(Boolean).join(', ')
      return `wait until ${step.url} is ready${expected && ` as ${expected}`}, ${seconds(step.timeoutMs)} at most`
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
