/** Location of a fact, shown as `file:line`. */
export interface Place {
  readonly file: string
  /** From 1. */
  readonly line: number
}

export interface Fact<T> extends Place {
  readonly value: T
}

/** A variable of an instance's environment. `undefined`: it is set, but its value is not in the files. */
export type Variable = Fact<string | undefined>

/** The kind of file that describes an instance. */
export type InstanceSource = 'environment' | 'app' | 'compose' | 'pm2' | 'systemd' | 'kubernetes' | 'ecs' | 'image'

/** What a file declares about instances: environment, command, probes and kill timeout. */
export interface Instance extends Place {
  readonly role: 'instance'
  readonly source: InstanceSource
  readonly name: string
  readonly env: ReadonlyMap<string, Variable>
  /** Which absent variables may be set elsewhere. */
  readonly unseen: 'none' | 'secrets' | 'any'
  /** From SIGTERM to SIGKILL, ms: the setting, or the default of the process manager. */
  readonly graceMs?: Fact<number>
  /** Kubernetes' preStop: the part of the grace period before SIGTERM. */
  readonly preStopMs?: Fact<number>
  /** Number of copies with this environment. */
  readonly copies?: Fact<number>
  /** The command, unless the image defines it. */
  readonly command?: Fact<string>
  /** Keep-alive timeout of the instance, ms. */
  readonly keepAliveMs?: Fact<number>
  /** Paths of the health checks. */
  readonly readiness?: Fact<string>
  readonly liveness?: Fact<string>
}

export type FrontSource = 'nginx' | 'haproxy' | 'alb' | 'ingress' | 'cloudflare'

/** A load balancer in front of instances, and how it learns of their state. */
export interface Front extends Place {
  readonly role: 'front'
  readonly source: FrontSource
  readonly name: string
  /** Idle timeout of its connections to instances, ms. */
  readonly idleMs?: Fact<number>
  /** Time until its health checks or its discovery notice a drain, ms. */
  readonly noticeMs?: Fact<number>
  /** How long it avoids an instance after a failure, ms: open-source nginx has no active health checks. */
  readonly avoidMs?: Fact<number>
  /** How long a deregistered target may finish its requests, ms. */
  readonly deregisterMs?: Fact<number>
  readonly readiness?: Fact<string>
}

/** A mistake in one place, whatever the other files say: `rule` is a key of `fileRules`. */
export interface Violation<T extends string = string> extends Place {
  readonly role: 'violation'
  readonly rule: T
  /** Completes the message. */
  readonly detail?: string
}

export type Reading = Instance | Front | Violation

/** A file to examine. */
export interface Source {
  readonly file: string
  readonly text: string
}

/** Values for `${NAME}` in templates and compose files. */
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

/** Line of the first match, else 1. */
export function lineOf(text: string, pattern: RegExp): number {
  const match = pattern.exec(text)
  return match ? lineAt(text, match.index) : 1
}

/** Escapes the text for a regular expression. */
export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
