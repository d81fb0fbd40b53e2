import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { now, type PageInMemory, quiet } from './page-in-memory.ts'

describe('a chart', () => {
  const chart = (page: PageInMemory, ...updates: object[]): Promise<{ paths: string[]; texts: string[] }> =>
    page.value(`(() => {
      const paths = []
      const texts = []
      const original = createSvg
      createSvg = (tag, attributes) => {
        if (attributes?.class?.startsWith('line ')) paths.push(attributes.d)
        return original(tag, attributes)
      }
      setText = (_, text) => texts.push(text)
      const series = [{ name: 'n', value: ({ n }) => n }]
      const { update } = createChart({ title: 'n', series, write: String })
      for (const data of ${JSON.stringify(updates)}) {
        texts.length = 0
        update(data)
      }
      return { paths, texts }
    })()`)
  const data = (at: number, n: number, events: object[] = []) => ({
    ...{ points: [{ at, n }], events, from: now - 60_000, to: now, stepMs: 10_000 },
  })

  test('is drawn again when a point is newer', async () => {
    const { paths } = await chart(quiet({}, 600), data(now - 20_000, 1), data(now - 10_000, 1), data(now - 10_000, 1))
    assert.equal(new Set(paths.filter((path) => path !== '')).size, 2)
    assert.equal(paths.filter((path) => path !== '').length, 2)
  })

  test('names the events of the step that it reads out', async () => {
    const page = quiet({}, 600)
    await page.value('cursor = 0, 0')
    const events = [
      { at: now - 19_000, text: 'near' },
      { at: now - 45_000, text: 'far' },
    ]
    await page.value(`cursor = ${now - 20_000}, 0`)
    const { texts } = await chart(page, data(now - 20_000, 7, events))
    assert.ok(texts.includes('7'), String(texts))
    assert.equal(texts.filter((text) => text.endsWith(' · near')).length, 1, String(texts))
    assert.ok(!texts.some((text) => text.includes('far')), String(texts))
  })
})

test('a line of a chart has a gap where more than one step is missing', async () => {
  const page = quiet()
  const lines = (...times: number[]): Promise<string[][]> =>
    page.value(
      `stretches(${JSON.stringify(times.map((at) => ({ at })))}, ({ at }) => at === 70 ? NaN : 1, String, String, 10)`.replaceAll(
        'String',
        'Number',
      ),
    )
  assert.deepEqual((await lines(0, 10, 20)).length, 1)
  assert.deepEqual((await lines(0, 10, 25)).length, 1, 'a step that is late')
  assert.deepEqual((await lines(0, 10, 26)).length, 2)
  assert.deepEqual(
    (await lines(50, 60, 70, 80)).map(({ length }) => length),
    [2, 1],
    'without a value',
  )
})

describe('a table', () => {
  /** Ids of the rows that are rendered, in their order. */
  const rendered = (page: PageInMemory, rows: object[], order: object, more = ''): Promise<string[]> =>
    page.value(`(() => {
      const ids = []
      const value = ({ rps }) => rps
      const columns = [{ key: 'rps', title: 'rps', width: 1, value, text: ({ id }) => { ids.push(id); return id } }]
      const isLast = ({ reason }) => reason !== undefined
      const table = createTable({ label: '', columns, keyOf: ({ id }) => id, isLast, order: ${JSON.stringify(order)} })
      ${more}
      table.update(${JSON.stringify(rows)})
      return ids
    })()`)

  test('sorts by its column, with unknown values and departed instances last in both directions', async () => {
    const page = quiet()
    const rows = [
      { id: 'gone', rps: 9, reason: 'lost' },
      { id: 'unknown' },
      { id: 'low', rps: 1 },
      { id: 'none', rps: null },
      { id: 'high', rps: 10 },
    ]
    const sorted = (descending: boolean) => rendered(page, rows, { key: 'rps', descending })
    assert.deepEqual(await sorted(false), ['low', 'high', 'unknown', 'none', 'gone'])
    assert.deepEqual(await sorted(true), ['high', 'low', 'unknown', 'none', 'gone'])
    assert.deepEqual(
      await rendered(page, rows, { key: '', descending: false }),
      rows.map(({ id }) => id),
    )
  })

  test('renders the rows in sight, and eight before and after them', async () => {
    const page = quiet()
    const rows = Array.from({ length: 1_000 }, (_, i) => ({ id: i, rps: i }))
    const at = (top: number) =>
      rendered(
        page,
        rows,
        { key: 'rps', descending: false },
        `Object.assign(table.element, { scrollTop: ${top}, clientHeight: 340 })`,
      )
    assert.deepEqual(
      await at(0),
      Array.from({ length: 18 }, (_, i) => i),
    )
    assert.deepEqual(
      await at(3_400),
      Array.from({ length: 26 }, (_, i) => 92 + i),
    )
  })
})

test('a list keeps the elements whose keys stay, and removes the others', async () => {
  const page = quiet()
  const found = await page.value<{ made: string[]; removed: string[] }>(`(() => {
    const [made, removed] = [[], []]
    const parent = { byKey: undefined, insertBefore() {} }
    const make = (key) => { made.push(key); return { remove: () => removed.push(key) } }
    reconcile(parent, ['a', 'b', 'c'], make)
    reconcile(parent, ['c', 'd', 'a'], make)
    return { made, removed }
  })()`)
  assert.deepEqual(found, { made: ['a', 'b', 'c', 'd'], removed: ['b'] })
})
