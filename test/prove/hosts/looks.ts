import { readFileSync } from 'node:fs'
import { until } from '../../helpers/until.ts'
import { type FrontName, type InstanceHost, instanceHosts, type Reply, type Site } from './site.ts'
import type { Row } from './table.ts'

/** The words of the cells for a set of hosts. */
export function named(found: Iterable<string>): string {
  const numbers = [...new Set(Array.from(found, (id) => Number(/^host-(\d)/.exec(id)?.[1] ?? 0)))].sort()
  if (numbers.length === 3) return 'all hosts'
  return numbers.length === 0 ? 'none' : `${numbers.length === 1 ? 'host' : 'hosts'} ${numbers.join(' and ')}`
}

const byOf = ({ headers }: Reply): string => String(headers['x-instance-id'])
let messages = 0

/** Looks at the site: each returns the present outcome in the words of the table, or any other text. */
export class Looks {
  readonly #site: Site
  /** Session cookie of a client whose session was stored before the fault. */
  #cookie = ''
  /** Whether host 3 runs. */
  #alive = true

  constructor(site: Site) {
    this.#site = site
  }

  /** The state of a healthy site that the looks need. */
  async prepare(): Promise<void> {
    this.#alive = true
    const site = this.#site
    const begun = await site.ask('host-1-a', 'POST', '/session?user=ann')
    this.#cookie = String(begun.headers['set-cookie']).split(';')[0] ?? ''
    await site.ask('host-1-a', 'DELETE', '/lock')
    await site.ask('host-3-a', 'DELETE', '/lock')
    await site.ask('host-3-a', 'POST', '/lock')
    // host-3 leads, so that its fault is that of the leader.
    const all = instanceHosts.flatMap((host) => site.instances(host))
    await Promise.all(all.map((id) => site.ask(id, 'DELETE', '/leader')))
    await site.ask('host-3-a', 'POST', '/leader')
    await until(async () => (await site.ask('host-3-a', 'GET', '/leader')).json.leading, { what: 'a leader on host-3' })
    await Promise.all(all.map((id) => site.ask(id, 'POST', '/leader')))
  }

  /** From now on host 3 does not run. */
  dead(): void {
    this.#alive = false
  }

  /** From now on it runs again. */
  alive(): void {
    this.#alive = true
  }

  readonly rows: { readonly [R in Row]: () => Promise<string> } = {
    'nginx sends requests to': () => this.#front('nginx'),
    'HAProxy sends requests to': () => this.#front('haproxy'),
    'the built-in proxy sends requests to': () => this.#front('balancer'),
    '`/ready` on host 3': () =>
      this.#on3(async () => String((await this.#site.ask('host-3-a', 'GET', '/ready')).status)),
    'peers that host 1 lists': () => this.#peers('host-1'),
    'peers that host 3 lists': () => this.#on3(() => this.#peers('host-3')),
    'the leader, on host 3': async () => {
      const leaders = (await Promise.all(this.#hosts().map((host) => this.#site.askInstances(host, '/leader'))))
        .flat()
        .filter(({ json }) => json.leading)
      if (leaders.length > 1) return 'several leaders'
      const [leader] = leaders
      return leader ? (byOf(leader).startsWith('host-3') ? 'stays' : 'moves') : 'none'
    },
    'a lock held on host 3': () =>
      this.#on3(async () => ((await this.#site.ask('host-3-a', 'GET', '/lock')).json.lost ? 'is lost' : 'is kept')),
    'a late write of its holder': () => this.#on3(() => this.#lateWrite()),
    'a session, through each front': async () => {
      const failed = new Map<number, string[]>()
      for (const front of this.#site.fronts)
        for (let i = 0; i < 12; i++) {
          const reply = await this.#site.askFront(front, 'GET', '/session', this.#cookie)
          const { status, json } = reply
          if (json.user !== 'ann') failed.set(status, [...(failed.get(status) ?? []), byOf(reply)])
        }
      return [...failed].map(([status, by]) => `${status} on ${named(by)}`).join(', ') || 'works'
    },
    'a session, on host 3': () => this.#on3(() => this.#session('host-3-a')),
    'a broadcast from host 1 reaches': async () => {
      const message = `message ${++messages}`
      const { status } = await this.#site.ask('host-1-a', 'POST', `/news?message=${encodeURIComponent(message)}`)
      if (status !== 200) return String(status)
      const asked = this.#hosts().flatMap((host) => this.#site.instances(host))
      const deadline = Date.now() + 1000
      for (;;) {
        const lists = await Promise.all(asked.map((id) => this.#site.ask(id, 'GET', '/news')))
        const reached = asked.filter((_, i) => Object.values(lists[i]?.json ?? {}).includes(message))
        if (reached.length === asked.length || Date.now() > deadline) return named(reached)
      }
    },
    'the database, on host 3': () =>
      this.#on3(async () => {
        const { status } = await this.#site.ask('host-3-a', 'GET', '/report')
        return status === 200 ? 'works' : String(status)
      }),
  }

  #hosts(): readonly InstanceHost[] {
    return instanceHosts.filter((host) => host !== 'host-3' || this.#alive)
  }

  async #on3(look: () => Promise<string>): Promise<string> {
    return this.#alive ? look() : '–'
  }

  async #front(front: FrontName): Promise<string> {
    const replies = await Promise.all(Array.from({ length: 24 }, () => this.#site.askFront(front, 'GET', '/')))
    const failed = replies.filter(({ status }) => status !== 200)
    return failed.length > 0 ? `${failed.length} failures: ${failed[0]?.status}` : named(replies.map(byOf))
  }

  async #peers(host: InstanceHost): Promise<string> {
    return named((await this.#site.ask(`${host}-a`, 'GET', '/peers')).json as unknown as string[])
  }

  async #session(instance: string): Promise<string> {
    const { status, json } = await this.#site.ask(instance, 'GET', '/session', this.#cookie)
    return status === 200 ? (json.user === 'ann' ? 'works' : `lost: ${json.user}`) : String(status)
  }

  /** The next holder writes first, if there is one. */
  async #lateWrite(): Promise<string> {
    const site = this.#site
    const mine = await site.ask('host-3-a', 'GET', '/lock')
    if (!mine.json.lost) return '–'
    const next = await site.ask('host-1-a', 'POST', '/lock')
    if (typeof next.json.token === 'number') await site.ask('host-1-a', 'POST', '/report')
    const { status, json } = await site.ask('host-3-a', 'POST', '/report')
    if (status !== 200) return String(status)
    return json.rows === 0 ? 'rejected' : typeof next.json.token === 'number' ? 'accepted' : 'accepted, no later holder'
  }
}

/** Times at which two instances led. `ends`: monotonic time at which an instance that was killed led no more, ns. */
export function overlaps(file: string, killed: ReadonlyMap<string, bigint>): string[] {
  const found: string[] = []
  const spans: { id: string; from: bigint; to: bigint | undefined }[] = []
  for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    const [time = '0', id = '', what] = line.split(' ')
    if (what === 'begins') spans.push({ id, from: BigInt(time), to: undefined })
    else {
      const open = spans.findLast((span) => span.id === id && span.to === undefined)
      if (open) open.to = BigInt(time)
    }
  }
  spans.sort((a, b) => Number(a.from - b.from))
  for (const [i, span] of spans.entries()) {
    const end = span.to ?? killed.get(span.id.slice(0, 6))
    for (const later of spans.slice(i + 1))
      if (later.id !== span.id && (end === undefined || later.from < end))
        found.push(
          `${later.id} began to lead ${end === undefined ? 'while' : `${(end - later.from) / 1_000_000n} ms before`} ${span.id} ${end === undefined ? 'led' : 'stopped'}`,
        )
  }
  return found
}
