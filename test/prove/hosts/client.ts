/** Clients on the host of a front. The prover speaks to them over a Unix domain socket, whatever the network does. */

import { createServer } from 'node:http'
import { Agent, request } from 'undici'
import { type Kill, Traffic } from '../../helpers/traffic.ts'
import type { Account } from './site.ts'

const { CONTROL, ORDERS = '' } = process.env
const running: Traffic[] = []
const oneRequest = new Agent({ pipelining: 0 })

createServer(async (incoming, response) => {
  const { searchParams: query, pathname } = new URL(incoming.url ?? '', 'http://client')
  const port = Number(query.get('port'))
  try {
    if (pathname === '/start') {
      const repeats = query.get('repeats') === 'yes' ? (['PUT', 'DELETE'] as const) : []
      running[port] = new Traffic(port, Number(query.get('clients')), 'mixed', { pauseMs: 20, repeats })
      response.end('{}')
    } else if (pathname === '/more') {
      await running[port]?.more(Number(query.get('count')))
      response.end('{}')
    } else if (pathname === '/stop') {
      const traffic = running[port]
      if (!traffic) throw new Error('no client runs')
      delete running[port]
      const [from, to] = [Number(query.get('from')), Number(query.get('to'))]
      // Moments so close together that a request in flight meets one. None of them meets two requests of a client.
      const moments: Kill[] = []
      for (let at = from; at <= to; at += 50) moments.push({ from: at, to: at })
      const counts = await traffic.stop(ORDERS, moments)
      const methods = [...new Set(traffic.failed.map(({ method }) => method))]
      response.end(JSON.stringify({ counts, methods, by: Object.fromEntries(traffic.byInstance) } satisfies Account))
    } else {
      // One request on a connection of its own, forwarded as it is.
      const { statusCode, headers, body } = await request(`http://127.0.0.1:${port}${query.get('path')}`, {
        method: query.get('method') as 'GET',
        dispatcher: oneRequest,
        headers: { cookie: incoming.headers.cookie ?? '' },
      })
      response.writeHead(statusCode, headers as Record<string, string>).end(await body.text())
    }
  } catch (error) {
    response.writeHead(599).end(String(error))
  }
}).listen(CONTROL)
