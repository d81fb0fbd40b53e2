/** What each side does while hosts cannot reach each other. docs/guarantees.md shows it, and a proof checks each cell. */

export const rows = [
  'nginx sends requests to',
  'HAProxy sends requests to',
  'the built-in proxy sends requests to',
  '`/ready` on host 3',
  'peers that host 1 lists',
  'peers that host 3 lists',
  'the leader, on host 3',
  'a lock held on host 3',
  'a late write of its holder',
  'a session, through each front',
  'a session, on host 3',
  'a broadcast from host 1 reaches',
  'the database, on host 3',
] as const
export type Row = (typeof rows)[number]

/** The row about the traffic that flows all the time. */
export const clientRow = 'an unsafe request of a client'
const allRows = [...rows, clientRow] as const

const groups = [
  {
    head: 'Host 3',
    faults: ['dies', 'is cut off', 'receives nothing', 'sends nothing', 'is slow', 'loses packets'],
  },
  {
    head: 'No connection between',
    faults: [
      'Redis and host 3',
      'Redis and all hosts',
      'PostgreSQL and host 3',
      'Redis, PostgreSQL and all hosts',
      'front 1 and host 3',
      'front 1 and Redis',
    ],
  },
] as const
export type Fault = (typeof groups)[number]['faults'][number]
export const faultNames: readonly Fault[] = groups.flatMap(({ faults }) => [...faults])

type Cells = Readonly<Partial<Record<Row | typeof clientRow, string>>>

/** Without a fault. The other tables have only what differs. */
export const healthy = {
  'nginx sends requests to': 'all hosts',
  'HAProxy sends requests to': 'all hosts',
  'the built-in proxy sends requests to': 'all hosts',
  '`/ready` on host 3': '200',
  'peers that host 1 lists': 'all hosts',
  'peers that host 3 lists': 'all hosts',
  'the leader, on host 3': 'stays',
  'a lock held on host 3': 'is kept',
  'a late write of its holder': '–',
  'a session, through each front': 'works',
  'a session, on host 3': 'works',
  'a broadcast from host 1 reaches': 'all hosts',
  'the database, on host 3': 'works',
  [clientRow]: 'works',
} as const satisfies Record<Row | typeof clientRow, string>

const without3 = 'hosts 1 and 2'
const frontsWithout3 = {
  'nginx sends requests to': without3,
  'HAProxy sends requests to': without3,
  'the built-in proxy sends requests to': without3,
  'peers that host 1 lists': without3,
  'the leader, on host 3': 'moves',
  'a broadcast from host 1 reaches': without3,
  [clientRow]: 'in flight: may be lost',
} as const
const cutOff = {
  ...frontsWithout3,
  '`/ready` on host 3': '503',
  'a lock held on host 3': 'is lost',
  'a late write of its holder': '503',
  'a session, on host 3': '503',
  'the database, on host 3': '503',
} as const

const noRedis = {
  'the leader, on host 3': 'none',
  'a lock held on host 3': 'is lost',
  'a late write of its holder': 'accepted, no later holder',
  'a session, through each front': '503 on all hosts',
  'a session, on host 3': '503',
  'a broadcast from host 1 reaches': '503',
} as const

const cells: Readonly<Record<Fault, Cells>> = {
  dies: {
    ...frontsWithout3,
    '`/ready` on host 3': '–',
    'peers that host 3 lists': '–',
    'a lock held on host 3': '–',
    'a session, on host 3': '–',
    'the database, on host 3': '–',
  },
  'is cut off': cutOff,
  'receives nothing': cutOff,
  'sends nothing': cutOff,
  'is slow': {},
  'loses packets': {},
  'Redis and host 3': {
    'peers that host 1 lists': without3,
    'the built-in proxy sends requests to': without3,
    'the leader, on host 3': 'moves',
    'a lock held on host 3': 'is lost',
    'a late write of its holder': 'rejected',
    'a session, through each front': '503 on host 3',
    'a session, on host 3': '503',
    'a broadcast from host 1 reaches': without3,
  },
  'Redis and all hosts': noRedis,
  'PostgreSQL and host 3': {
    'nginx sends requests to': 'all hosts',
    'HAProxy sends requests to': without3,
    'the built-in proxy sends requests to': without3,
    '`/ready` on host 3': '503',
    'the database, on host 3': '503',
  },
  'Redis, PostgreSQL and all hosts': {
    ...noRedis,
    '`/ready` on host 3': '503',
    'a late write of its holder': '503',
    'the database, on host 3': '503',
  },
  'front 1 and host 3': {
    'nginx sends requests to': without3,
    'the built-in proxy sends requests to': without3,
    [clientRow]: 'in flight: may be lost',
  },
  'front 1 and Redis': {},
}

export const cell = (fault: Fault, row: Row | typeof clientRow): string => cells[fault][row] ?? healthy[row]

const begin = '<!-- Written from test/prove/hosts/table.ts. -->'
const end = '<!-- end of several hosts -->'

/** docs/guarantees.md with the tables as they are here. */
export function withHosts(page: string): string {
  const line = (first: string, rest: readonly string[]): string => `| ${[first, ...rest].join(' | ')} |`
  const tables = groups.map(({ head, faults }) =>
    [
      line(head, faults),
      line(
        '---',
        faults.map(() => '---'),
      ),
      ...allRows.map((row) =>
        line(
          row,
          faults.map((fault) => cell(fault, row)),
        ),
      ),
    ].join('\n'),
  )
  const [head, rest] = page.split(begin)
  return `${head}${begin}\n\n${tables.join('\n\n')}\n\n${end}${rest?.split(end)[1]}`
}
