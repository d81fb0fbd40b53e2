import { plural } from '../output.ts'
import { member, type Target, type TargetResponse } from '../target.ts'
import { byName, type CheckContext, instancesIn, outcomes, rounds, succeeded, wanted } from './context.ts'
import type { CheckResults } from './report.ts'

/**
 * Checks the sessions of an application without a login: a route that counts the visits of a session must count on over every
 * instance, and count anew for another client.
 *
 * @param path a route that returns the count as a number, or as the member `visits` or `count`, or the only whole number, of JSON
 */
export async function visits(context: CheckContext, path: string, results: CheckResults): Promise<void> {
  const { front } = context
  const first = await front.request(path)
  const start = countOf(first)
  if (!succeeded(first)) return results.fail(`${path}: ${outcomes([first])}`, 'pass the route that counts visits')
  if (start === undefined) {
    return results.fail(`${path} returns no count`, 'return a number, or JSON with the member `visits`')
  }
  const other = countOf(await front.request(path))
  if (other !== start) {
    const text = `${path} counts ${start} and then ${other ?? 'nothing'} without a cookie`
    return results.fail(text, 'count in the session, e.g. request.session.visits')
  }
  results.pass(`${path} starts at ${start} for every client without a cookie`)
  if (first.cookies.length === 0) {
    return results.fail(
      `${path} sets no cookie`,
      'save something in the session; a secure cookie needs https; the log tells if `session.anonymous` limits new sessions',
    )
  }
  const found = await findCookie(context, path, first, start)
  if (!found) {
    const names = first.cookies.map((cookie) => cookie.split('=', 1)[0]).join(', ')
    return results.fail(`no cookie continues the count: ${names}`, sameState)
  }
  await countOn(context, path, found, results)
}

const sameState = 'set the same secrets and REDIS_URL on each instance'

/**
 * Finds the cookie that continues the count, because a front may add one for stickiness. Several attempts are needed when only
 * one instance knows the session.
 */
async function findCookie(
  context: CheckContext,
  path: string,
  { cookies }: TargetResponse,
  start: number,
): Promise<{ cookie: string; count: number } | undefined> {
  for (let i = 0; i < rounds(wanted(context)); i++) {
    for (const cookie of cookies) {
      const count = countOf(await context.front.request(path, { headers: { cookie } }))
      if (count !== undefined && count > start) return { cookie, count }
    }
  }
  return undefined
}

async function countOn(
  context: CheckContext,
  path: string,
  { cookie, count }: { cookie: string; count: number },
  results: CheckResults,
): Promise<void> {
  const needed = wanted(context)
  const responses: TargetResponse[] = []
  const lost: string[] = []
  let last = count
  const visit = async (target: Target): Promise<void> => {
    const response = await target.request(path, { headers: { cookie } })
    const now = countOf(response)
    responses.push(response)
    if (now === last + 1) last = now
    else lost.push(`${response.instanceId ?? 'the front'} counted ${now ?? outcomes([response])} after ${last}`)
  }
  for (let i = 0; i < rounds(needed) && instancesIn(responses).size < needed; i++) await visit(context.front)
  for (const target of context.direct) await visit(target)

  const ids = [...instancesIn(responses).keys()].sort(byName)
  if (lost.length > 0) {
    results.fail(
      `the session was lost in ${lost.length} of ${plural(responses.length, 'visit')}: ${lost[0]}`,
      sameState,
    )
  } else if (ids.length < needed) {
    const reached = `the session reached ${ids.length} of ${needed} instances in ${plural(responses.length, 'visit')}`
    results.skip(reached, 'the front is sticky: pass the address of each instance (--instance)')
  } else results.pass(`the session counted to ${last} on ${plural(ids.length, 'instance')}: ${ids.join(', ')}`)
}

function countOf({ status, text, json }: TargetResponse): number | undefined {
  if (status < 200 || status > 299) return undefined
  const named = [json, member(json, 'visits'), member(json, 'count')].find(Number.isInteger)
  if (named !== undefined) return named as number
  if (/^\s*\d{1,15}\s*$/.test(text)) return Number(text)
  const numbers = typeof json === 'object' && json !== null ? Object.values(json).filter(Number.isInteger) : []
  return numbers.length === 1 ? (numbers[0] as number) : undefined
}
