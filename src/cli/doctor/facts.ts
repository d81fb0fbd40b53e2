/** Where something was read, to be shown as `file:line`. */
export interface Place {
  readonly file: string
  /** From 1. */
  readonly line: number
}

export interface Fact<T> extends Place {
  readonly value: T
}

/** One variable of an instance's environment; `undefined`: it is set, but its value is kept elsewhere. */
export type Variable = Fact<string | undefined>

/** Where instances are described. */
export type InstanceSource = 'environment' | 'app' | 'compose' | 'pm2' | 'systemd' | 'kubernetes' | 'ecs' | 'image'

/** What a file says of the instances: their environment, and who starts, asks and ends them. */
export interface Instance extends Place {
  readonly role: 'instance'
  readonly source: InstanceSource
  readonly name: string
  readonly env: ReadonlyMap<string, Variable>
  /** Which variables may come from elsewhere, so that one that is not here may be set all the same. */
  readonly unseen: 'none' | 'secrets' | 'any'
  /** From SIGTERM to SIGKILL, ms, as it is written or by the default of who sends it. */
  readonly graceMs?: Fact<number>
  /** Part of the grace that passes before SIGTERM: Kubernetes' preStop. */
  readonly preStopMs?: Fact<number>
  /** Copies with this same environment. */
  readonly copies?: Fact<number>
  /** What is started, when it is not the image's own command. */
  readonly command?: Fact<string>
  /** How long an idle connection is kept by the instance, ms. */
  readonly keepAliveMs?: Fact<number>
  /** Paths that are asked, by what for. */
  readonly readiness?: Fact<string>
  readonly liveness?: Fact<string>
}

export type FrontSource = 'nginx' | 'haproxy' | 'alb' | 'ingress' | 'cloudflare'

/** What passes requests on to instances, and how it learns of their state. */
export interface Front extends Place {
  readonly role: 'front'
  readonly source: FrontSource
  readonly name: string
  /** How long it keeps an idle connection to an instance, ms. */
  readonly idleMs?: Fact<number>
  /** How long its checks, or its news of who is there, take to notice a drain, ms. */
  readonly noticeMs?: Fact<number>
  /** How long it leaves an instance alone that refused, ms: open-source nginx, which asks nobody. */
  readonly avoidMs?: Fact<number>
  /** How long a target that is taken off the list may finish its requests, ms. */
  readonly deregisterMs?: Fact<number>
  readonly readiness?: Fact<string>
}

/** A mistake that is one wherever it stands: `what` is a key of the table of traps. */
export interface Sighting<T extends string = string> extends Place {
  readonly role: 'sighting'
  readonly what: T
  /** Completes the message. */
  readonly detail?: string
}

export type Reading = Instance | Front | Sighting

/** A file that is to be read, and what is known of its neighbours. */
export interface Source {
  readonly file: string
  readonly text: string
}

/** What readers share: values for `${NAME}` in templates and compose files. */
export interface Context {
  readonly variables: ReadonlyMap<string, Variable>
}

export type Reader = (sources: readonly Source[], context: Context) => readonly Reading[] | Promise<readonly Reading[]>

/** Line of the character at `index`, from 1. */
export function lineAt(text: string, index: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at !== -1 && at < index; at = text.indexOf('\n', at + 1)) line++
  return line
}

/** Line of the first match, or of the start. */
export function lineOf(text: string, pattern: RegExp): number {
  const match = pattern.exec(text)
  return match ? lineAt(text, match.index) : 1
}

/** The text as a part of a pattern that matches just it. */
export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
