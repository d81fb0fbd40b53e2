import { Agent, createServer } from 'node:http'
import { createProxyServer } from 'http-proxy-3'
import { listening, port } from './hello.js'

const upstreams = process.argv.slice(2)
// Without an agent of one's own it opens a connection per request.
const proxy = createProxyServer({ agent: new Agent({ keepAlive: true }), xfwd: true })
let turn = 0
const server = createServer((request, response) => {
  proxy.web(request, response, { target: upstreams[turn++ % upstreams.length] })
})
server.keepAliveTimeout = 72_000
server.listen(port, '127.0.0.1', listening)
