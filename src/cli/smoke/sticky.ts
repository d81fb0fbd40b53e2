import { repeat, type TargetResponse } from '../target.ts'
import { type CheckContext, instancesIn, plural } from './context.ts'
import { type Finding, Findings } from './report.ts'

const requests = 20

/** Reports whether the front is sticky by address, connection or cookie, without a verdict. */
export async function sticky({ front, path, sample }: CheckContext): Promise<readonly Finding[]> {
  const findings = new Findings('sticky')
  if (instancesIn(sample).size < 2) {
    findings.skip('stickiness needs at least two responding instances')
    return findings.list
  }
  findings.info('not by address: separate connections of one client reach several instances')

  const connection = front.connect()
  const kept = await repeat(requests, 1, () => connection.request(path))
  await connection.close()
  findings.info(
    instancesIn(kept).size === 1
      ? 'by connection: a kept-alive connection stays with one instance (a front on layer 4 does)'
      : `not by connection: ${requests} requests over one reached ${plural(instancesIn(kept).size, 'instance')}`,
  )

  const cookies = cookiesOf(sample[0])
  if (cookies.length === 0) {
    findings.info(`not by cookie: none is set on ${path}`)
    return findings.list
  }
  const names = cookies.map((cookie) => cookie.split('=', 1)[0]).join(', ')
  const back = await repeat(requests, 4, () => front.request(path, { headers: { cookie: cookies.join('; ') } }))
  findings.info(
    instancesIn(back).size === 1
      ? `by cookie (${names}): a client that sends it back stays with one instance`
      : `not by cookie: with ${names} sent back, ${plural(instancesIn(back).size, 'instance')} respond`,
  )
  return findings.list
}

const cookiesOf = (response: TargetResponse | undefined): readonly string[] => response?.cookies ?? []
