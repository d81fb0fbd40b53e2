// CLIENT is `undici` or `http`.
import { createServer } from 'node:http'
import fastProxy from 'fast-proxy'
import { listening, port } from './hello.js'

const undici = process.env.CLIENT === 'undici'
const proxies = process.argv.slice(2).map((base) => fastProxy({ base, undici: undici && { connections: 256 } }))
let turn = 0
const server = createServer((request, response) => {
  proxies[turn++ % proxies.length].proxy(request, response, request.url, {})
})
server.keepAliveTimeout = 72_000
server.listen(port, '127.0.0.1', listening)
