import type { Machine } from './machine.ts'

/** Figures of one round by metric, e.g. `{ cpu: 28.4, rps: 31200 }`. */
export type Figures = Readonly<Record<string, number>>

/** Something that is up and can be measured again and again. */
export interface Open {
  /** One measurement of about `seconds` seconds; it is called once per round, in rotation with the other subjects. */
  round(seconds: number): Promise<Figures>
  close(): Promise<void>
}

export interface Subject {
  /** As it stands in the table, e.g. `@fastify/session, README settings`. */
  readonly name: string
  /** Starts it and warms it up. What it throws becomes the reason in the table why there are no figures. */
  open(machine: Machine): Promise<Open>
}

export interface Metric {
  /** Heading of the column, with the unit. */
  readonly title: string
  /** Digits after the point. @default 1 */
  readonly digits?: number
}

/** A promise that a run keeps or breaks. */
export interface Bar {
  /** In words, e.g. `the umbrella plugin over bare Fastify`. */
  readonly what: string
  readonly subject: string
  readonly metric: string
  /** The other side of a ratio; without it the figure itself is judged. */
  readonly over?: string
  /** The other side's metric where it is not the same. */
  readonly overMetric?: string
  /** The ratio or figure that is still good. */
  readonly limit: number
  /** @default 'at most' */
  readonly is?: 'at most' | 'at least' | 'exactly'
  /** Of a bar that is known to be missed: why, and which file of `profiles/` shows it. Printed when it is missed. */
  readonly missed?: Missed
}

export interface Missed {
  readonly why: string
  /** A file of `profiles/`, e.g. `hello.md`. */
  readonly profile: string
}

/** One table of the results: what is compared, by which figures, and what must come out. */
export interface Scenario {
  /** The word for the command line; the file has the same name. */
  readonly name: string
  readonly title: string
  /** What is measured and how, for the reader of the table. */
  readonly about: string
  readonly metrics: Readonly<Record<string, Metric>>
  /** Measured in this order, again and again. */
  readonly subjects: readonly Subject[]
  /**
   * So many times more rounds, each of them so much shorter: what else a shared machine does comes and goes within seconds,
   * and two subjects that are measured a second apart have more of it in common. @default 1
   */
  readonly slices?: number
  readonly bars: readonly Bar[]
  /**
   * A page that has the table too, between the comments `bench:NAME` and `bench:end`: the least of the rounds, and the
   * ratios to those of one subject.
   */
  readonly page?: { readonly file: string; readonly over: string }
}

/** The columns of a scenario that puts load on a server. */
export const serverMetrics: Readonly<Record<'cpu' | 'rps' | 'p50' | 'p99' | 'rss' | 'failed', Metric>> = {
  cpu: { title: 'CPU µs/request' },
  rps: { title: 'requests/s', digits: 0 },
  p50: { title: 'p50 ms', digits: 2 },
  p99: { title: 'p99 ms', digits: 2 },
  rss: { title: 'memory MiB', digits: 0 },
  failed: { title: 'failed', digits: 0 },
}
