// Sends steady GETs and POSTs and accounts for each until SIGTERM, then prints one line of JSON. For
// scripts/test-compose.
//
//   node test/fleet/steady-load.ts URL SKU-PREFIX
//
// A POST that creates a product is checked twice: its number is unique, so a second execution is rejected and counts as
// a failure; and the rows in the database are compared with the responses.
import { type LoadOptions, startLoad } from '../helpers/load.ts'
import { until } from '../helpers/until.ts'

const [url = '', prefix = ''] = process.argv.slice(2)

const login = await fetch(new URL('/api/v1/auth/login', url), {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ email: 'test@example.com', password: 'password' }),
})
const { accessToken } = (await login.json()) as { accessToken?: string }
if (accessToken === undefined) throw new Error(`no login: ${login.status}`)

let posts = 0
let products = 0
const requests: LoadOptions['requests'] = [
  { method: 'GET', path: '/work?ms=20' },
  {
    method: 'POST',
    path: '/echo',
    get body() {
      return { post: ++posts }
    },
  },
  { method: 'GET', path: '/api/v1/me' },
  {
    method: 'POST',
    path: '/api/v1/products',
    get body() {
      posts++
      return { sku: `${prefix}-${++products}`, name: 'Load', priceCents: 1 }
    },
  },
  { method: 'GET', path: '/static/' },
]
const headers = { authorization: `Bearer ${accessToken}` }
// With one such load for each of three fronts, two cores still have time for instances that start.
const load = startLoad(url, { clients: 3, requests, headers, pauseMs: 40 })
await until(() => load.passed > 20, { what: 'a steady load', timeoutMs: 120_000 })
process.stdout.write('steady\n')
await new Promise((resolve) => process.once('SIGTERM', resolve))
await load.stop()

const failed = (start: string): number => load.failures.filter((failure) => failure.startsWith(start)).length
const failedPosts = failed('POST')
const failedGets = load.failures.length - failedPosts
/** Counts by outcome: method, path, status or error, and the error code of the response. */
const kinds: Record<string, number> = {}
for (const failure of load.failures) {
  const [what = failure] = /^\S+ \S+ [^{]*/.exec(failure) ?? []
  const kind = [what.trim(), /"(?:code|error)":"([\w ]+)"/.exec(failure)?.[1]].filter(Boolean).join(' ')
  kinds[kind] = (kinds[kind] ?? 0) + 1
}
process.stdout.write(
  `${JSON.stringify({
    gets: load.passed + load.failures.length - posts,
    posts,
    failedGets,
    failedPosts,
    products: products - failed('POST /api/v1/products'),
    instances: load.byInstance.size,
    lastFailedBegan: Math.max(0, ...load.failedBegan),
    failures: Object.entries(kinds)
      .sort(([, a], [, b]) => b - a)
      .map(([kind, count]) => `${count} × ${kind}`)
      .join('; '),
  })}\n`,
)
