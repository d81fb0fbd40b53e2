// Servers on free ports, one for each argument: milliseconds until an answer. Each counts in its answers who it is.
import { createServer } from 'node:http'

const body = JSON.stringify({ hello: 'world' })
const ports = await Promise.all(
  process.argv.slice(2).map(async (delay, i) => {
    const headers = ['content-type', 'application/json; charset=utf-8', 'content-length', body.length, 'x-upstream', i]
    const server = createServer({ keepAliveTimeout: 600_000 }, (_, response) => {
      const answer = () => response.writeHead(200, headers).end(body)
      if (delay === '0') answer()
      else setTimeout(answer, Number(delay))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    return server.address().port
  }),
)
process.stdout.write(`listening ${JSON.stringify(ports)}\n`)
