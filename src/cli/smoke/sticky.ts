import { plural } from '../output.ts'
import { repeat } from '../target.ts'
import { type CheckContext, instancesIn } from './context.ts'
import type { CheckResults } from './report.ts'

const requests = 20

/** Reports whether the front is sticky by address, connection or cookie, without a verdict. */
export async function sticky({ front, path, sample }: CheckContext, results: CheckResults): Promise<void> {
  if (instancesIn(sample).size < 2) return results.skip('stickiness needs at least two responding instances')
  results.info('not by address: separate connections of one client reach several instances')

  const connection = front.connect()
  const kept = await repeat(requests, 1, () => connection.request(path))
  await connection.close()
  results.info(
    instancesIn(kept).size === 1
      ? 'by connection: a kept-alive connection stays with one instance (a front on layer 4 does)'
      : `not by connection: ${requests} requests over one reached ${plural(instancesIn(kept).size, 'instance')}`,
  )

  const cookies = sample[0]?.cookies ?? []
  if (cookies.length === 0) return results.info(`not by cookie: none is set on ${path}`)
  const names = cookies.map((cookie) => cookie.split('=', 1)[0]).join(', ')
  const back = await repeat(requests, 4, () => front.request(path, { headers: { cookie: cookies.join('; ') } }))
  results.info(
    instancesIn(back).size === 1
      ? `by cookie (${names}): a client that sends it back stays with one instance`
      : `not by cookie: with ${names} sent back, ${plural(instancesIn(back).size, 'instance')} respond`,
  )
}
