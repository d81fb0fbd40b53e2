import { createServer } from 'node:http'
import { hello, listening, port } from './hello.js'

const server = createServer((_request, response) => {
  const body = JSON.stringify(hello)
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': body.length })
  response.end(body)
})
server.keepAliveTimeout = 72_000
server.listen(port, '127.0.0.1', listening)
