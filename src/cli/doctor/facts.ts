import type { RuleCode } from './rules.ts'

/** Location of a fact, shown as `file:line`. */
export interface Place {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** The object, where the line does not tell: `aws_lb.this` in the output of Terraform, which is one line. */
  readonly address?: string
}

export interface Fact<T> extends Place {
  readonly value: T
}

/** A variable of an instance's environment. `undefined`: it is set, but its value is not in the files. */
export type Variable = Fact<string | undefined>

/** The kind of file that describes an instance. */
export type InstanceSource = 'environment' | 'app' | 'compose' | 'pm2' | 'systemd' | 'kubernetes' | 'ecs' | 'image'

/** What a file declares about instances: environment, command, probes and kill timeout. */
export interface InstanceFacts extends Place {
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
export interface FrontFacts extends Place {
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

/** A mistake in one place, whatever the other files say. */
export interface Violation extends Place {
  readonly role: 'violation'
  readonly code: RuleCode
  /** Completes the message. */
  readonly detail?: string
}

export type Reading = InstanceFacts | FrontFacts | Violation

/** A file to examine. */
export interface Source {
  readonly file: string
  readonly text: string
}

/** @param variables values for `${NAME}` in templates and compose files */
export type Reader = (
  sources: readonly Source[],
  variables: ReadonlyMap<string, Variable>,
) => readonly Reading[] | Promise<readonly Reading[]>

export const factAt = <T>(value: T, { file, line, address }: Place): Fact<T> => ({ value, file, line, address })

export const violation = (code: RuleCode, { file, line, address }: Place, detail?: string): Violation => ({
  role: 'violation',
  code,
  file,
  line,
  address,
  detail,
})

/** Whether a container with this environment is an instance; a migration has `DATABASE_URL` too. */
export const isInstance = (env: ReadonlyMap<string, Variable>): boolean =>
  ['REDIS_URL', 'REDIS_HOST', 'SESSION_SECRET', 'JWT_SECRET', 'FLEET_NAME']
    .concat('SHUTDOWN_TIMEOUT', 'DRAIN_DELAY', 'TRUST_PROXY')
    .some((name) => env.has(name) || env.has(`${name}_FILE`))

/** The probe path in a health check's command, e.g. of `curl -f http://127.0.0.1:3000/ready`. */
export const probedPath = (command: string): string | undefined =>
  // Without origins, so that a path begins where a word does, unlike a part of a file name.
  /(?<![\w.])\/(?:health\/detailed|healthz?|live|alive|livez|readyz?|ping|status)(?=["'\s?),]|$)/.exec(
    command.replace(/https?:\/\/[^\s/'"]+|[\w.-]+:\d+(?=\/)/g, ' '),
  )?.[0]

/** Line of the character at `index`, from 1. */
export function lineAt(text: string, index: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at !== -1 && at < index; at = text.indexOf('\n', at + 1)) line++
  return line
}

/** Escapes the text for a regular expression. */
export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
