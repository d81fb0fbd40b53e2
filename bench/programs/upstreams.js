// Servers on free ports, one for each argument: `5`, milliseconds until an answer, or `5/1`, and how many at once. Each
// says in its answers which one it is. As with an instance of a fleet, `/ready` is answered at once.
import { createServer } from 'node:http'

const body = JSON.stringify({ hello: 'world' })

const ports = await Promise.all(
  process.argv.slice(2).map(async (work, i) => {
    const [delay, most = Number.POSITIVE_INFINITY] = work.split('/').map(Number)
    const headers = ['content-type', 'application/json; charset=utf-8', 'content-length', body.length, 'x-upstream', i]
    const waiting = []
    let running = 0
    const next = () => {
      while (running < most && waiting.length > 0) {
        const response = waiting.shift()
        running++
        setTimeout(() => {
          response.writeHead(200, headers).end(body)
          running--
          next()
        }, delay)
      }
    }
    const server = createServer({ keepAliveTimeout: 600_000 }, ({ url }, response) => {
      if (delay === 0 || url === '/ready') return void response.writeHead(200, headers).end(body)
      waiting.push(response)
      next()
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    return server.address().port
  }),
)
process.stdout.write(`listening ${JSON.stringify(ports)}\n`)
