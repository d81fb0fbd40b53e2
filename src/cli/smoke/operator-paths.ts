import type { TargetResponse } from '../target.ts'
import { type CheckContext, succeeded } from './context.ts'
import { type Finding, Findings } from './report.ts'

/** Paths for operators; none of these requests changes anything, should a door be open. */
const paths = [
  '/health/detailed',
  '/metrics',
  '/api/v1/load-balancer/health',
  '/api/v1/load-balancer/instances',
  '/api/v1/load-balancer/metrics',
  '/api/v1/load-balancer/config',
  '/fleet',
]
/** The same to whoever decodes them, but not to a front that compares letters. */
const disguised = ['/%6Detrics', '/%66leet', '/health/%64etailed', '/api/v1/load%2Dbalancer/instances', '/x/../metrics']

interface Try {
  readonly how: string
  readonly paths: readonly string[]
  readonly headers?: Record<string, string>
}
/** What a stranger may try: nothing, the claim to be the machine itself, another spelling. */
const tries: readonly Try[] = [
  { how: 'as they are', paths },
  {
    how: 'with a forged X-Forwarded-For',
    paths,
    headers: { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1' },
  },
  { how: 'in another spelling', paths: disguised },
]

/** Are operators' paths closed to whoever comes through the front? */
export async function operatorPaths({ front }: CheckContext): Promise<readonly Finding[]> {
  const findings = new Findings('operators')
  for (const { how, paths, headers } of tries) {
    const responses = await Promise.all(
      paths.map(async (path) => ({ path, response: await front.request(path, { headers }) })),
    )
    const open = responses.filter(({ response }) => isOpen(response))
    const telling = responses.filter(({ response }) => response.status !== 404 && !isOpen(response))
    if (open.length > 0) {
      findings.fail(
        `open to everyone, asked ${how}: ${list(open)}`,
        'let the front refuse these paths, and add X-Forwarded-For; or this URL is an instance and no front',
      )
    } else if (telling.length === 0) findings.pass(`${paths.length} paths response 404, asked ${how}`)
    else findings.pass(`${paths.length} paths are closed, asked ${how}, though 404 would tell less: ${list(telling)}`)
  }
  return findings.list
}

/** An instance that is ill answers 503, and tells all the same. */
const isOpen = (response: TargetResponse): boolean =>
  succeeded(response) || (response.status === 503 && response.json !== undefined)

const list = (of: readonly { path: string; response: TargetResponse }[]): string =>
  of.map(({ path, response }) => `${path} (${response.error ?? response.status})`).join(', ')
