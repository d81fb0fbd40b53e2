import type { RuleCode } from './rules.ts'

/** Location of a fact, shown as `file:line`. */
export interface Place {
  readonly file: string
  /** From 1. */
  readonly line: number
  /** The object, where the line does not tell: `aws_lb.this` in the output of Terraform, which is one line. */
  readonly address?: string
}

/**
 * How much a finding can be relied on. `certain`: the files say so, or the program that a file configures has that default. `assumed`: it
 * depends on something that no file shows, which the finding names. `unknown`: a value is missing, so the rule is not applied.
 * Only certain findings fail.
 */
export type Confidence = 'certain' | 'assumed' | 'unknown'

export interface Fact<T> extends Place {
  readonly value: T
  /** Whose default the value is, e.g. `Docker’s default`, when the file does not set it. Findings show it. */
  readonly default?: string
  /** What was assumed, when no file shows it: findings that depend on it are warnings. */
  readonly assumed?: string
  /** The text of the value on its line, and how the file writes another one: the fix of a timeout. */
  readonly write?: (ms: number) => Replacement
}

/** A change within one line: `from`, which occurs there once, becomes `to`. `to` may contain newlines. */
export interface Replacement {
  readonly from: string
  readonly to: string
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
  /** Why it is only likely that this is an instance of a fleet, e.g. `REDIS_URL may belong to another program`. */
  readonly assumed?: string
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
  /** What was assumed: the finding is a warning. */
  readonly assumed?: string
  /** True of instances of a fleet only: without one among the files, the finding is a warning. */
  readonly ofFleet?: boolean
  /** The fix, when it is a change of this line. */
  readonly edit?: Replacement
}

/** A rule of one place that was applied, and holds. */
export interface Passed extends Place {
  readonly role: 'passed'
  readonly code: RuleCode
}

/** Something that could not be judged, and why: a template, a missing include, a value that is not in the files. */
export interface Unjudged extends Place {
  readonly role: 'unjudged'
  /** The rules that could not be applied. Absent: all that need this part of the file. */
  readonly codes?: readonly string[]
  readonly why: string
}

/** The number of facts read from a file, for readers whose facts are not those of an {@link InstanceFacts} or {@link FrontFacts}. */
export interface FactCount extends Place {
  readonly role: 'count'
  readonly facts: number
  /** The file that includes this one, and without which it says nothing. */
  readonly partOf?: string
  /** Whether it consists of other files, as the output of `nginx -T`, which are reported in its place. */
  readonly isSplit?: boolean
}

export type Reading = InstanceFacts | FrontFacts | Violation | Passed | Unjudged | FactCount

export type Kind =
  | 'nginx'
  | 'haproxy'
  | 'compose'
  | 'kubernetes'
  | 'pm2'
  | 'systemd'
  | 'terraform'
  | 'environment'
  | 'image'
  | 'app'

/** Some editors put it at the start of a file. No reader gets it. */
export const byteOrderMark = '\uFEFF'

/** A file to examine. */
export interface Source {
  readonly file: string
  readonly text: string
  /** Whether the user named this file, not a folder above it. */
  readonly named?: boolean
  /** What the program of this file printed, instead of what its text says: see the folder `programs`. */
  readonly evaluated?: unknown
  /** Whether only another file refers to it. */
  readonly isReference?: boolean
  /** What it is, where its name does not tell. */
  readonly kind?: Kind
}

export type FileAt = (path: string) => Source | undefined

/**
 * A reader gets all files of its kind, because they refer to each other, and returns what it read. Besides facts and violations it
 * tells which rules hold (`passed`) and what it could not judge and why (`unjudged`): a report of a file lists both. A recognised file
 * without any reading is reported as a warning, so silence never looks like approval. It throws an Error with the `line` of a syntax error.
 *
 * @param variables values for `${NAME}` in templates
 * @param fileAt the file at a path, of any kind, if it was collected
 */
export type Reader = (
  sources: readonly Source[],
  variables: ReadonlyMap<string, Variable>,
  fileAt: FileAt,
) => readonly Reading[] | Promise<readonly Reading[]>

export const factAt = <T>(value: T, { file, line, address }: Place): Fact<T> => ({ value, file, line, address })

export const violation = (
  code: RuleCode,
  { file, line, address }: Place,
  detail?: string,
  more: Pick<Violation, 'assumed' | 'edit' | 'ofFleet'> = {},
): Violation => ({ role: 'violation', code, file, line, address, detail, ...more })

export const passed = (code: RuleCode, { file, line, address }: Place): Passed => ({
  role: 'passed',
  code,
  file,
  line,
  address,
})

export const unjudged = ({ file, line, address }: Place, why: string, codes?: readonly string[]): Unjudged => ({
  role: 'unjudged',
  file,
  line,
  address,
  why,
  codes,
})

/** The confidence of a conclusion from these facts; `undefined` is a value that is not in the files. */
export const confidenceOf = (facts: readonly (Fact<unknown> | undefined)[]): Confidence => {
  if (facts.some((fact) => fact?.value === undefined)) return 'unknown'
  return facts.some((fact) => fact?.assumed !== undefined) ? 'assumed' : 'certain'
}

/** Whether a container with this environment is an instance; a migration has `DATABASE_URL` too. */
export const isInstance = (env: ReadonlyMap<string, Variable>): boolean =>
  ['REDIS_URL', 'REDIS_HOST', 'SESSION_SECRET', 'JWT_SECRET', 'FLEET_NAME']
    .concat('SHUTDOWN_TIMEOUT', 'DRAIN_DELAY', 'TRUST_PROXY')
    .some((name) => env.has(name) || env.has(`${name}_FILE`))

/**
 * Why it is only likely that this environment belongs to an instance of a fleet, for {@link InstanceFacts.assumed}; `undefined` when it
 * has a variable that only instances have.
 */
export const doubtOf = (env: ReadonlyMap<string, Variable>): string | undefined => {
  const names = [...env.keys()]
  if (names.some((name) => /^(?:FLEET_\w+|SHUTDOWN_TIMEOUT|DRAIN_DELAY)$/.test(name))) return undefined
  return `${names.find((name) => isInstance(new Map([[name, { value: '', file: '', line: 1 }]]))) ?? 'this'} belongs to an instance of a fleet`
}

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

/** Whether the name of a file says that nobody deploys it: `compose.dev.yml`, `.env.test`. */
export const isForDevelopment = (file: string): boolean =>
  /(?:^|[._-])(?:dev|development|tests?|testing|ci|local|debug|e2e)(?=[._-]|$)/i.test(
    file.slice(file.lastIndexOf('/') + 1),
  )

/** Escapes the text for a regular expression. */
export const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
