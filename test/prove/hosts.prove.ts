import assert from 'node:assert/strict'
import { after } from 'node:test'
import { until } from '../helpers/until.ts'
import { causes } from './hosts/faults.ts'
import { Looks, overlaps } from './hosts/looks.ts'
import { whyNot } from './hosts/network.ts'
import { type Account, frontNames, Site } from './hosts/site.ts'
import { cell, clientRow, type Fault, faultNames, healthy, type Row, rows } from './hosts/table.ts'
import { type Proof, prove } from './prove.ts'

const reason = whyNot()

function report(proof: Proof, accounts: Readonly<Record<string, Account>>): void {
  for (const [front, { counts, methods }] of Object.entries(accounts)) {
    proof.count(counts)
    if (methods.length > 0) proof.note(`${front}: ${counts.inFlight} ${methods.sort().join(', ')} lost in flight`)
  }
}

prove('a host of three dies under load', 'several-hosts', async (proof) => {
  if (reason) proof.skip(reason)
  const own = await Site.start({ fronts: ['nginx', 'haproxy'], database: false })
  try {
    await own.startClients(4)
    await own.more(200)
    const from = Date.now()
    await own.die('host-3')
    const looks = new Looks(own)
    for (const row of ['nginx sends requests to', 'HAProxy sends requests to'] as const)
      await until(async () => (await looks.rows[row]()) === 'hosts 1 and 2', { what: `${row} hosts 1 and 2` })
    await own.more(proof.pick(300, 10_000))
    const accounts = await own.stopClients({ from, to: Date.now() })
    for (const [front, { by }] of Object.entries(accounts))
      assert.equal(Object.keys(by).length, 6, `every instance has served ${front}`)
    report(proof, accounts)
  } finally {
    await own.stop()
  }
})

/** Looks until each row is as expected, or will not be. */
async function table(looks: Looks, expected: (row: Row) => string | undefined): Promise<Partial<Record<Row, string>>> {
  const seen: Partial<Record<Row, string>> = {}
  for (const row of rows) {
    const wanted = expected(row)
    if (wanted === undefined) continue
    const look = async (): Promise<boolean> => {
      seen[row] = await looks.rows[row]()
      return seen[row] === wanted
    }
    await until(look, { timeoutMs: 30_000 }).catch(() => {})
  }
  return seen
}

const column = (expected: (row: Row) => string | undefined): Partial<Record<Row, string>> =>
  Object.fromEntries(rows.flatMap((row) => (expected(row) === undefined ? [] : [[row, expected(row)]])))

/** After a fault. A leader and a lost lock stay where they are. */
function afterwards(fault: Fault, row: Row): string | undefined {
  if (row === 'the leader, on host 3' || row === 'a lock held on host 3') return undefined
  if (row !== 'a late write of its holder') return healthy[row]
  return cell(fault, 'a lock held on host 3') === 'is lost' ? 'rejected' : undefined
}

let site: Promise<Site> | undefined
after(async () => (await site?.catch(() => undefined))?.stop())
/** One site for all faults, because its start takes longer than a fault. */
async function sharedSite(): Promise<Site> {
  site ??= Site.start({ fronts: frontNames, database: true })
  try {
    return await site
  } catch (error) {
    site = undefined
    throw error
  }
}

for (const fault of faultNames)
  prove(
    `several hosts: ${fault}`,
    'several-hosts',
    async (proof) => {
      if (reason) proof.skip(reason)
      const site = await sharedSite()
      const looks = new Looks(site)
      const assertTable = async (expected: (row: Row) => string | undefined): Promise<void> =>
        assert.deepEqual(await table(looks, expected), column(expected))
      await looks.prepare()
      await assertTable((row) => healthy[row])
      await site.startClients(3)
      try {
        await site.more(100)
        const from = Date.now()
        const note = await causes[fault](site)
        if (note) proof.note(note)
        if (fault === 'dies') looks.dead()
        await assertTable((row) => cell(fault, row))
        await site.more(1000)
        // They stay so.
        await assertTable((row) => cell(fault, row))
        site.network.heal()
        const to = Date.now()
        if (fault === 'dies') await site.startInstances('host-3')
        looks.alive()
        await assertTable((row) => afterwards(fault, row))
        await site.more(100)
        const mayLose = cell(fault, clientRow) !== healthy[clientRow]
        report(proof, await site.stopClients(mayLose ? { from, to } : undefined))
      } finally {
        site.network.heal()
        await site.haltClients()
      }
      assert.deepEqual(overlaps(site.leaders, site.diedAt), [], 'two leaders at a time')
      proof.count({ cells: rows.length + 1 })
    },
    { fullOnly: true, timeoutMs: 600_000 },
  )
