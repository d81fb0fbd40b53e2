import type { TargetResponse } from '../target.ts'
import { type CheckContext, succeeded } from './context.ts'
import type { CheckResults } from './report.ts'

/** Operators' paths. These requests change nothing, even if a path is open. */
const paths = [
  '/health/detailed',
  '/metrics',
  '/api/v1/load-balancer/health',
  '/api/v1/load-balancer/instances',
  '/api/v1/load-balancer/metrics',
  '/api/v1/load-balancer/config',
  '/fleet',
]
/** The same paths in encodings that a front must decode before it compares them. */
const disguised = ['/%6Detrics', '/%66leet', '/health/%64etailed', '/api/v1/load%2Dbalancer/instances', '/x/../metrics']

interface Attempt {
  readonly how: string
  readonly paths: readonly string[]
  readonly headers?: Record<string, string>
}
/** Attempts of an unauthorised client: plain, with a forged local address, with encoded paths. */
const attempts: readonly Attempt[] = [
  { how: 'plainly', paths },
  {
    how: 'with a forged X-Forwarded-For',
    paths,
    headers: { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1' },
  },
  { how: 'with encoded paths', paths: disguised },
]

/** Checks that the front does not expose operators' paths. */
export async function operatorPaths({ front }: CheckContext, results: CheckResults): Promise<void> {
  for (const { how, paths, headers } of attempts) {
    const responses = await Promise.all(
      paths.map(async (path) => ({ path, response: await front.request(path, { headers }) })),
    )
    const open = responses.filter(({ response }) => isOpen(response))
    const disclosing = responses.filter(({ response }) => response.status !== 404 && !isOpen(response))
    if (open.length > 0) {
      results.fail(
        `open to every client, requested ${how}: ${list(open)}`,
        'reject these paths in the front, and set X-Forwarded-For there; or this URL is an instance, not a front',
      )
    } else if (disclosing.length === 0) results.pass(`${paths.length} paths respond 404, requested ${how}`)
    else
      results.pass(
        `${paths.length} paths are closed, requested ${how}, but 404 would disclose less: ${list(disclosing)}`,
      )
  }
}

/** An unhealthy instance responds 503 with the same details. */
const isOpen = (response: TargetResponse): boolean =>
  succeeded(response) || (response.status === 503 && response.json !== undefined)

const list = (of: readonly { path: string; response: TargetResponse }[]): string =>
  of.map(({ path, response }) => `${path} (${response.error ?? response.status})`).join(', ')
